"""The network that a `.caffemodel` describes: what each of its layers computes, and on what.

Caffe writes every layer's type, settings, bottoms and tops beside its blobs. A file whose layers
name no bottoms says nothing of its network.

References
----------
BVLC/caffe, src/caffe/proto/caffe.proto: LayerParameter, V1LayerParameter and the layers' own
messages, whose defaults count where a file says nothing; src/caffe/layers/pooling_layer.cpp.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from probe.weights.architecture import MAX_NODES, Graph, Node
from probe.weights.wire import BYTES, FIXED32, VARINT, Field, Wire

MAX_LIST = 1024  # bytes of a setting that is a list

_V1_KINDS = {
    1: "Accuracy", 2: "BNLL", 3: "Concat", 4: "Convolution", 5: "Data", 6: "Dropout",
    7: "EuclideanLoss", 8: "Flatten", 12: "ImageData", 14: "InnerProduct", 15: "LRN",
    17: "Pooling", 18: "ReLU", 19: "Sigmoid", 20: "Softmax", 21: "SoftmaxWithLoss", 22: "Split",
    23: "TanH", 25: "Eltwise", 26: "Power", 31: "Threshold", 33: "Slice", 34: "MVN", 35: "AbsVal",
    36: "Silence", 38: "Exp", 39: "Deconvolution",
}  # fmt: skip
_V1 = {
    "kind": 5, "bottom": 2, "top": 3, "Convolution": 10, "Pooling": 19, "LRN": 18, "ReLU": 30,
    "InnerProduct": 17, "Concat": 9, "Eltwise": 24, "Power": 21,
}  # fmt: skip
_V2 = {
    "kind": 2, "bottom": 3, "top": 4, "Convolution": 106, "Pooling": 121, "LRN": 118, "ReLU": 123,
    "InnerProduct": 117, "Concat": 104, "Eltwise": 110, "Power": 122, "BatchNorm": 139,
    "Scale": 142, "Flatten": 135,
}  # fmt: skip
_SAME = ("Dropout", "Split")
Settings = dict[str, Any]
Numbers = Mapping[int, list[float]]


@dataclass(frozen=True)
class CaffeLayer:
    """A layer as its file has it.

    Parameters
    ----------
    name, kind : str
    bottoms, tops : tuple of str
        Blobs that it takes and gives; a blob may be given anew by several layers, in turn.
    settings : mapping of int to list of float
        Of the message for its kind: the field's number -> its values.
    blobs : tuple of shapes
        Of its parameters.
    """

    name: str
    kind: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    settings: Numbers
    blobs: tuple[tuple[int, ...], ...]


def read_layer(wire: Wire, layer: Field, *, name: str, new: bool) -> CaffeLayer:
    """Return what a layer's message says, but for its blobs.

    Parameters
    ----------
    new : bool
        Whether it is a LayerParameter; else a V1LayerParameter.

    Raises
    ------
    UnsafeFileError
        It claims more than there is.
    """
    places = _V2 if new else _V1
    kind = ""
    bottoms: list[str] = []
    tops: list[str] = []
    messages: dict[int, Field] = {}
    for field in wire.fields(layer):
        if field.number == places["kind"]:
            numbered = field.kind == VARINT
            kind = _V1_KINDS.get(field.value, f"type {field.value}") if numbered else (
                wire.text(field)
            )  # fmt: skip
        elif field.number in (places["bottom"], places["top"]) and field.kind == BYTES:
            (bottoms if field.number == places["bottom"] else tops).append(wire.text(field))
        elif field.kind == BYTES:
            messages[field.number] = field
    own = messages.get(places.get(kind, -1))
    settings = _numbers(wire, own) if own is not None else {}
    return CaffeLayer(name, kind, tuple(bottoms), tuple(tops), settings, ())


def _numbers(wire: Wire, message: Field) -> dict[int, list[float]]:
    """Every number of a message; those of messages in it, which fill parameters, are left out."""
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
    """Return the network that layers in their order make up; None if they are not wired."""
    if len(layers) > MAX_NODES or not any(one.bottoms for one in layers if one.blobs):
        return None
    now: dict[str, str] = {}  # a blob -> the value that it holds after the layers so far
    norms: dict[str, Node] = {}  # those whose factor and summand are still to come
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
            # Caffe's norm is two layers, whose numbers belong together
            completed.add(before.output)
            op, inputs = "norm", before.inputs
            settings, tensors = {**before.settings, **settings}, tensors[:2] + before.tensors
        kept = {"conv": 1, "dense": 1}.get(op, len(tensors))  # the bias belongs to it
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
    """The last value of a field, which counts."""
    return given[number][-1] if given.get(number) else default


def _unusual(given: Numbers, usual: Mapping[str, tuple[int, int]]) -> Settings:
    """What differs from what every backbone has."""
    found = {name: int(_one(given, number, value)) for name, (number, value) in usual.items()}
    return {name: value for name, value in found.items() if value != usual[name][1]}


def _sides(given: Numbers, both: int, height: int, width: int, default: int) -> tuple[int, int]:
    """A setting of two axes: once for both, once for each, or each under its own name."""
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
    """(shift + scale * x) ** power."""
    power, scale, shift = _one(given, 1, 1.0), _one(given, 2, 1.0), _one(given, 3, 0.0)
    if (power, scale, shift) == (1, 1, 0):
        return "same", {}
    if (power, shift) == (1, 0):
        return "scale", {"by": scale}
    if (power, scale) == (1, 1):
        return "shift", {"by": shift}
    return "power", {"power": power, "scale": scale, "shift": shift}
