"""Read Caffe's `.caffemodel` files, with V1 messages (`layers`) or V2 (`layer`), and mean images.

Tensors are called ``layer/0``, ``layer/1`` in the order of the layer's blobs. A trained model also
holds the type, the settings, the inputs (bottoms) and the outputs (tops) of each layer, which are
read as the file's graph, so no prototxt is needed. Nothing in the file is executed.

References
----------
BVLC/caffe, src/caffe/proto/caffe.proto: NetParameter, LayerParameter, V1LayerParameter, BlobProto
and the layers' own messages, whose defaults apply where a file has no value;
src/caffe/layers/pooling_layer.cpp.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones.network import Node
from probe.core.regular import open_regular
from probe.errors import UnsafeFileError, WeightsError
from probe.weights.architecture import MAX_NODES, Graph
from probe.weights.tensors import Float32, LazyTensor, Shape, TensorFile, check_shape, raw_tensor
from probe.weights.wire import BYTES, FIXED32, FIXED64, VARINT, Field, Wire

NET_NAME, NET_V1, NET_V2 = 1, 2, 100  # of NetParameter
OLD_SIDES, DATA, SHAPE, DOUBLE_DATA = (1, 2, 3, 4), 5, 7, 8  # of BlobProto
MAX_SHAPE = 256
MAX_SPLIT = 1 << 20  # numbers of a blob that is not packed; large blobs always are
MAX_LIST = 1024  # bytes of a setting that is a list

_V1_KINDS = {
    1: "Accuracy", 2: "BNLL", 3: "Concat", 4: "Convolution", 5: "Data", 6: "Dropout",
    7: "EuclideanLoss", 8: "Flatten", 12: "ImageData", 14: "InnerProduct", 15: "LRN",
    17: "Pooling", 18: "ReLU", 19: "Sigmoid", 20: "Softmax", 21: "SoftmaxWithLoss", 22: "Split",
    23: "TanH", 25: "Eltwise", 26: "Power", 31: "Threshold", 33: "Slice", 34: "MVN", 35: "AbsVal",
    36: "Silence", 38: "Exp", 39: "Deconvolution",
}  # fmt: skip
_V1 = {
    "name": 4, "blobs": 6, "kind": 5, "bottom": 2, "top": 3, "Convolution": 10, "Pooling": 19,
    "LRN": 18, "ReLU": 30, "InnerProduct": 17, "Concat": 9, "Eltwise": 24, "Power": 21,
}  # fmt: skip
_V2 = {
    "name": 1, "blobs": 7, "kind": 2, "bottom": 3, "top": 4, "Convolution": 106, "Pooling": 121,
    "LRN": 118, "ReLU": 123,
    "InnerProduct": 117, "Concat": 104, "Eltwise": 110, "Power": 122, "BatchNorm": 139,
    "Scale": 142, "Flatten": 135,
}  # fmt: skip
_SAME = ("Dropout", "Split")
MOST_MEAN = 1 << 28  # bytes
Settings = dict[str, Any]
Numbers = Mapping[int, list[float]]


def looks_like_caffe(path: Path) -> bool:
    """Return whether a file begins like a NetParameter message with layers."""
    try:
        with open_regular(path) as file:
            wire = Wire(path, file)
            for seen, field in enumerate(wire.fields(wire.whole())):
                if field.kind == BYTES and field.number in (NET_V1, NET_V2):
                    fields = _V1 if field.number == NET_V1 else _V2
                    return any(one.number == fields["name"] for one in wire.fields(field))
                if seen > 16:
                    break
    except UnsafeFileError:
        pass
    return False


def read_caffe(path: Path) -> TensorFile:
    """Return what a `.caffemodel` holds.

    Raises
    ------
    UnsafeFileError
        A field is longer than the file, or two layers have one name.
    WeightsError
        The file holds no weights.
    """
    tensors: dict[str, LazyTensor] = {}
    layers: list[CaffeLayer] = []
    with open_regular(path) as file:
        wire = Wire(path, file)
        for message in wire.fields(wire.whole()):
            if message.number not in (NET_V1, NET_V2) or message.kind != BYTES:
                continue
            layer, blobs = _layer(wire, message, _V1 if message.number == NET_V1 else _V2)
            shapes = []
            for number, blob in enumerate(blobs):
                name = f"{layer.name}/{number}"
                if name in tensors:
                    raise UnsafeFileError(f"{path}: two tensors are called {name!r}")
                tensors[name] = _tensor(wire, name, blob)
                shapes.append(tensors[name].shape)
            layers.append(replace(layer, blobs=tuple(shapes)))
    if not tensors:
        raise WeightsError(f"{path}: a Caffe network without weights")
    order = {"caffe.layers": " ".join(layer.name for layer in layers)}
    return TensorFile(path, "caffe", tensors, order, graph=caffe_graph(layers))


def read_mean(path: Path) -> Float32:
    """Return the mean image of a `.binaryproto`, float32, (channels, height, width), BGR.

    Raises
    ------
    WeightsError, UnsafeFileError
        The file cannot be read, or is not a blob with three channels.
    """
    try:
        with open_regular(path, MOST_MEAN) as file:
            wire = Wire(path, file)
            mean = _tensor(wire, "the mean", wire.whole())
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from None
    shape = mean.shape[1:] if len(mean.shape) == 4 and mean.shape[0] == 1 else mean.shape
    if len(shape) != 3 or shape[0] != 3 or 0 in shape:
        raise WeightsError(
            f"{path}: a mean image has three channels; this one has the shape {mean.shape}"
        )
    return mean.read().reshape(shape)


def mean_of_channels(path: Path) -> tuple[float, float, float]:
    """Return the means of a mean image's channels: blue, green and red, from 0 to 255.

    Raises
    ------
    WeightsError, UnsafeFileError
        As `read_mean`; or a mean is not from 0 to 255.
    """
    blue, green, red = (float(value) for value in read_mean(path).mean(axis=(1, 2)))
    if not all(0 <= value <= 255 for value in (blue, green, red)):  # also true for NaN
        raise WeightsError(
            f"{path}: the means {blue:g}, {green:g}, {red:g} are not of pixels from 0 to 255"
        )
    return blue, green, red


def _tensor(wire: Wire, name: str, blob: Field) -> LazyTensor:
    sides: dict[int, int] = {}
    shape: list[int] | None = None
    runs: list[Field] = []
    for field in wire.fields(blob):
        if field.number in OLD_SIDES:
            sides[field.number] = field.value
        elif field.number == SHAPE:
            shape = [
                side
                for part in wire.fields(field)
                if part.number == 1
                for side in wire.numbers(part, MAX_SHAPE)
            ]
        elif field.number in (DATA, DOUBLE_DATA):
            runs.append(field)
    if shape is None:
        shape = _without_ones([sides.get(number, 1) for number in OLD_SIDES]) if sides else [0]
    checked = check_shape(wire.path, name, shape)
    if len(runs) == 1 and runs[0].kind == BYTES:
        dtype = "float32" if runs[0].number == DATA else "float64"
        if runs[0].length != math.prod(checked) * (4 if dtype == "float32" else 8):
            raise wire.damaged(f"has a blob {name!r} of shape {checked} in {runs[0].length} bytes")
        return raw_tensor(
            wire.path, name, dtype, checked, offset=runs[0].start, available=runs[0].length
        )
    return _one_by_one(wire, name, checked, runs)


def _without_ones(sides: list[int]) -> list[int]:
    """Drop the leading ones of an old blob's four sides: (1, 1, 1, n) is a vector."""
    if sides[:3] == [1, 1, 1]:
        return sides[3:]
    return sides[2:] if sides[:2] == [1, 1] else sides


def _one_by_one(wire: Wire, name: str, shape: Shape, runs: list[Field]) -> LazyTensor:
    """Return a blob whose numbers are not packed, or stored in several parts."""
    if len(runs) > MAX_SPLIT or math.prod(shape) > MAX_SPLIT:
        raise wire.damaged(f"has a blob {name!r} that is not packed")
    kinds = {FIXED32: "<f4", FIXED64: "<f8"}
    parts: list[NDArray[Any]] = []
    for run in runs:
        kind = np.dtype(kinds.get(run.kind, "<f4" if run.number == DATA else "<f8"))
        data = wire.data(run, 8 * MAX_SPLIT)
        if len(data) % kind.itemsize:
            raise wire.damaged(f"has {len(data)} bytes of numbers of {kind.itemsize} in {name!r}")
        parts.append(np.frombuffer(data, kind))
    whole = np.concatenate(parts) if parts else np.empty(0, np.float32)
    if whole.size != math.prod(shape):
        raise wire.damaged(f"has a blob {name!r} of shape {shape} in {whole.size} numbers")
    array = whole.astype(np.float32).reshape(shape or (1,))
    return LazyTensor(shape, "float32", lambda start, stop: array[start:stop])


@dataclass(frozen=True)
class CaffeLayer:
    """One layer of the file.

    Parameters
    ----------
    bottoms, tops : tuple of str
        The blobs that it reads and writes. Layers may overwrite a blob one after another.
    settings : mapping of int to list of float
        Field number -> values, of the message for its kind.
    blobs : tuple of shapes
        Of its parameters.
    """

    name: str
    kind: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    settings: Numbers
    blobs: tuple[Shape, ...] = ()


def _layer(wire: Wire, message: Field, fields: Mapping[str, int]) -> tuple[CaffeLayer, list[Field]]:
    """Return a layer without the shapes of its blobs, and the messages of its blobs.

    Parameters
    ----------
    fields : mapping of str to int
        The field fields of its message: `_V1` or `_V2`.
    """
    name = kind = ""
    bottoms: list[str] = []
    tops: list[str] = []
    blobs: list[Field] = []
    messages: dict[int, Field] = {}
    for field in wire.fields(message):
        if field.number == fields["kind"]:
            if field.kind == VARINT:
                kind = _V1_KINDS.get(field.value, f"type {field.value}")
            else:
                kind = wire.text(field)
        elif field.kind != BYTES:
            continue
        elif field.number == fields["name"]:
            name = wire.text(field)
        elif field.number == fields["blobs"]:
            blobs.append(field)
        elif field.number == fields["bottom"]:
            bottoms.append(wire.text(field))
        elif field.number == fields["top"]:
            tops.append(wire.text(field))
        else:
            messages[field.number] = field
    own = messages.get(fields.get(kind, -1))
    settings = _numbers(wire, own) if own is not None else {}
    return CaffeLayer(name, kind, tuple(bottoms), tuple(tops), settings), blobs


def _numbers(wire: Wire, message: Field) -> dict[int, list[float]]:
    """Return the numbers of a message, without those of messages inside it."""
    found: dict[int, list[float]] = {}
    for field in wire.fields(message):
        if field.kind == VARINT:
            found.setdefault(field.number, []).append(field.value)
        elif field.kind == FIXED32:
            found.setdefault(field.number, []).append(wire.real(field))
        elif field.kind == BYTES and field.number in _LISTS and field.length <= MAX_LIST:
            found.setdefault(field.number, []).extend(wire.numbers(field, MAX_LIST))
    return found


_PAD, _KERNEL, _STRIDE, _DILATION = 3, 4, 6, 18  # of ConvolutionParameter
_LISTS = (_PAD, _KERNEL, _STRIDE, _DILATION)


def caffe_graph(layers: Sequence[CaffeLayer]) -> Graph | None:
    """Return the network that the layers make up; None if they do not name their inputs."""
    if len(layers) > MAX_NODES or not any(one.bottoms for one in layers if one.blobs):
        return None
    now: dict[str, str] = {}  # blob -> the value that it holds after the layers so far
    norms: dict[str, Node] = {}  # BatchNorm layers, whose gamma and beta are in a later Scale layer
    completed: set[str] = set()
    nodes: list[Node] = []
    for number, one in enumerate(layers):
        if not one.bottoms and not one.blobs:
            continue  # images or labels
        inputs = tuple(now.get(blob, blob) for blob in one.bottoms)
        op, settings = _translated(one)
        tensors = tuple(f"{one.name}/{place}" for place in range(len(one.blobs)))
        output = f"{number}:{one.tops[0] if one.tops else one.name}"
        before = norms.get(inputs[0]) if len(inputs) == 1 else None
        if op == "times" and before is not None:
            # Caffe's batch norm is two layers, BatchNorm and Scale; here it is one node
            completed.add(before.output)
            op, inputs = "norm", before.inputs
            settings, tensors = {**before.settings, **settings}, tensors[:2] + before.tensors
        kept = {"conv": 1, "dense": 1}.get(op, len(tensors))  # the bias is not compared
        node = Node(
            op=op, inputs=inputs, output=output, name=one.name, settings=settings,
            tensors=tensors[: 2 if one.kind == "BatchNorm" else kept],
        )  # fmt: skip
        nodes.append(node)
        if one.kind == "BatchNorm":
            norms[output] = node
        for place, top in enumerate(one.tops):
            now[top] = f"{number}:{top}"
            if place and op == "same":
                nodes.append(replace(node, output=now[top]))
            elif place:
                part = {"part": place, **settings}
                nodes.append(replace(node, output=now[top], settings=part, tensors=()))
    used = {value for node in nodes for value in node.inputs}
    halves = completed - used
    return Graph(nodes=tuple(one for one in nodes if one.output not in halves), rounding=False)


def _translated(  # noqa: PLR0911, PLR0912 - a case a layer
    one: CaffeLayer,
) -> tuple[str, Settings]:
    given = one.settings
    match one.kind:
        case "Convolution":
            return "conv", _convolution(one)
        case "InnerProduct":
            return "dense", _unusual(given, {"axis": (5, 1), "transpose": (6, 0)})
        case "ReLU":
            slope = _one(given, 1, 0.0)
            if slope:
                return "leaky ReLU", {"slope": round(slope, 6)}
            return "clip", {"low": 0, "high": math.inf}
        case "Pooling":
            return _pooling(given)
        case "LRN":
            if _one(given, 4, 0):
                return "local response norm within channels", {}
            return "lrn", {
                "size": int(_one(given, 1, 5)), "alpha": round(_one(given, 2, 1.0), 9),
                "beta": round(_one(given, 3, 0.75), 6), "bias": round(_one(given, 5, 1.0), 6),
            }  # fmt: skip
        case "BatchNorm":
            return "norm", {"epsilon": _one(given, 3, 1e-5)}
        case "Scale" if len(one.bottoms) == 1:
            return "times", _unusual(given, {"axis": (1, 1)})
        case "Concat":
            return "concat", {"axis": int(_one(given, 2, _one(given, 1, 1))) % 4}
        case "Eltwise":
            if _one(given, 1, 1) == 1 and all(factor == 1 for factor in given.get(2, ())):
                return "add", {}
        case "Power":
            return _power(given)
        case "Flatten" if _one(given, 1, 1) == 1:
            return "flatten", {}
    if one.kind in _SAME:
        return "same", {}
    return one.kind or "layer of no type", {
        f"setting {number}": tuple(values) for number, values in given.items()
    }


def _one(given: Numbers, number: int, default: float) -> float:
    """Return the value of a field, of several the last."""
    return given[number][-1] if given.get(number) else default


def _unusual(given: Numbers, usual: Mapping[str, tuple[int, int]]) -> Settings:
    """Return the settings that differ from the value that every backbone has."""
    found = {name: int(_one(given, number, value)) for name, (number, value) in usual.items()}
    return {name: value for name, value in found.items() if value != usual[name][1]}


def _sides(given: Numbers, both: int, height: int, width: int, default: int) -> tuple[int, int]:
    """Return a setting of both axes, written as one number, two numbers or two fields."""
    listed = [int(one) for one in given.get(both, ())]
    sides = (listed * 2)[:2] if len(listed) in (1, 2) else [default, default]
    return int(_one(given, height, sides[0])), int(_one(given, width, sides[1]))


def _convolution(one: CaffeLayer) -> Settings:
    given = one.settings
    shape = one.blobs[0] if one.blobs else ()
    kernel = _sides(given, _KERNEL, 11, 12, 0)
    if kernel == (0, 0) and len(shape) == 4:
        kernel = (shape[2], shape[3])
    return {
        "kernel": kernel,
        "stride": _sides(given, _STRIDE, 13, 14, 1),
        "dilation": _sides(given, _DILATION, -1, -1, 1),
        "pads": _sides(given, _PAD, 9, 10, 0) * 2,
        "groups": int(_one(given, 5, 1)),
    }


def _pooling(given: Numbers) -> tuple[str, Settings]:
    kind = {0: "max", 1: "avg"}.get(int(_one(given, 1, 0)), "stochastic")
    if _one(given, 12, 0):
        return ("mean", {"axes": (2, 3)}) if kind == "avg" else (f"global {kind} pool", {})
    return "pool", {
        "kind": kind,
        "kernel": _sides(given, 2, 5, 6, 0),
        "stride": _sides(given, 3, 7, 8, 1),
        "pads": _sides(given, 4, 9, 10, 0) * 2,
        "ceil": _one(given, 13, 0) == 0,
        "include_pad": True,
    }


def _power(given: Numbers) -> tuple[str, Settings]:
    """Return the operation of a Power layer, (shift + scale * x) ** power."""
    power, scale, shift = _one(given, 1, 1.0), _one(given, 2, 1.0), _one(given, 3, 0.0)
    if (power, scale, shift) == (1, 1, 0):
        return "same", {}
    if (power, shift) == (1, 0):
        return "scale", {"by": scale}
    if (power, scale) == (1, 1):
        return "shift", {"by": shift}
    return "power", {"power": power, "scale": scale, "shift": shift}
