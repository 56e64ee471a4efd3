"""Read ONNX models: the weights of convolutions, dense layers and norms, and the graph.

Exporters of trained networks fold a norm into the convolution before it and give the result a
numbered name, but the node still has the layer's name. So tensors are named by the layer:

- torch: ``module.weight``, ``module.bias`` and the norms' four, as in a state dict;
- Gluon: its prefixed names, ``net0_conv0_weight``;
- Keras, by tf2onnx: ``layer/weight``, ``layer/bias``, with convolutions as (out, in, H, W); a norm
  that was not folded is a multiplication and an addition, ``layer/scale`` and ``layer/shift``.

References
----------
onnx/onnx.proto: ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones.network import Node
from probe.core.regular import open_regular
from probe.core.short_repr import short_repr
from probe.errors import UnsafeFileError, WeightsError
from probe.weights.architecture import MAX_NODES, Graph
from probe.weights.tensors import (
    AS_BITS,
    FLOATING,
    ITEM_BYTES,
    LazyTensor,
    Shape,
    TensorFile,
    check_shape,
    raw_tensor,
)
from probe.weights.wire import BYTES, Field, Wire

GRAPH = 7  # of ModelProto
NODE, INITIALIZER = 1, 5  # of GraphProto
NODE_INPUT, NODE_OUTPUT, NODE_NAME, NODE_TYPE, NODE_ATTRIBUTE, NODE_DOMAIN = 1, 2, 3, 4, 5, 7
ATTRIBUTE_NAME, ATTRIBUTE_FLOAT, ATTRIBUTE_INT, ATTRIBUTE_TEXT, ATTRIBUTE_TENSOR = 1, 2, 3, 4, 5
ATTRIBUTE_FLOATS, ATTRIBUTE_INTS = 7, 8
INT32, INT64 = 5, 7  # of TensorProto
DIMS, TYPE, NAME, RAW, EXTERNAL, LOCATION = 1, 2, 8, 9, 13, 14  # of TensorProto
PACKED = {"float32": 4, "float64": 10}  # the field of TensorProto that holds such numbers packed
FLOAT8 = (18, 20)  # of TensorProto.DataType: those without a negative zero
MAX_DIMS = 256
MAX_ATTRIBUTE = 2048  # bytes of a node's numbers or text; settings of networks here are shorter
FEW = 64  # size of a tensor that can be a setting: pads, axes, a shape, the bounds of a clip
_TYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64",
    9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16",
    17: "float8_e4m3fn", 19: "float8_e5m2",
}  # fmt: skip


@dataclass(frozen=True)
class _Node:
    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    constant: Field | None = None


@dataclass
class _Stored:
    """The stored tensors of a graph, and the numbers of the small ones."""

    __repr__ = short_repr

    tensors: dict[str, LazyTensor] = field(default_factory=dict)
    numbers: dict[str, tuple[float, ...]] = field(default_factory=dict)


def read_onnx(path: Path) -> TensorFile:
    """Return the weights and the graph of an ONNX model.

    Raises
    ------
    UnsafeFileError
        Its data are in another file, or a field is longer than the file.
    WeightsError
        The file holds no weights.
    """
    stored = _Stored()
    nodes: list[_Node] = []
    with open_regular(path) as file:
        wire = Wire(path, file)
        for graph in wire.fields(wire.whole()):
            if graph.number != GRAPH or graph.kind != BYTES:
                continue
            for part in wire.fields(graph):
                if part.number == NODE:
                    nodes.append(_node(wire, part))
                    if len(nodes) > MAX_NODES:
                        raise wire.damaged(f"has more than {MAX_NODES} nodes")
                elif part.number == INITIALIZER:
                    _store(wire, stored, part)
        for node in nodes:
            if node.outputs:
                _store_constant(wire, stored, node)
    tensors: dict[str, LazyTensor] = {}
    sources: dict[str, str] = {}
    held = stored.tensors
    for node in nodes:
        for name, source in _used(node, held):
            tensors.setdefault(name, _as_used(node, source, held[source]))
            if (
                sources.setdefault(name, source) != source
                and held[source] is not held[sources[name]]
            ):
                raise UnsafeFileError(f"{path}: two layers are called {name!r}")
    if not tensors:
        raise WeightsError(f"{path}: an ONNX model without weights")
    return TensorFile(path, "onnx", tensors, graph=_graph(nodes, stored))


def _store_constant(wire: Wire, stored: _Stored, node: _Node) -> None:
    """Store the output of a node that is a constant or a copy of a stored tensor."""
    if node.kind == "Constant" and node.constant is not None:
        _store(wire, stored, node.constant, node.outputs[0])
    elif node.kind == "Constant":
        stored.numbers[node.outputs[0]] = _plain_numbers(node)
    elif node.kind == "Identity" and node.inputs and node.inputs[0] in stored.tensors:
        # exporters store one of several equal tensors and add Identity nodes for the others
        stored.tensors[node.outputs[0]] = stored.tensors[node.inputs[0]]


def _store(wire: Wire, stored: _Stored, part: Field, called: str | None = None) -> None:
    name, tensor, numbers = _tensor(wire, part)
    name = called if called is not None else name
    if name in stored.tensors:
        raise UnsafeFileError(f"{wire.path}: two initializers are called {name!r}")
    stored.tensors[name] = tensor
    if numbers is not None:
        stored.numbers[name] = numbers


def _plain_numbers(node: _Node) -> tuple[float, ...]:
    for name in ("value_ints", "value_floats", "value_int", "value_float"):
        if name in node.attributes:
            value = node.attributes[name]
            return value if isinstance(value, tuple) else (value,)
    return ()


def _as_used(node: _Node, source: str, tensor: LazyTensor) -> LazyTensor:
    """Return a dense kernel as its naming expects it: (out, in), but of Keras (in, out)."""
    if node.kind not in ("Gemm", "MatMul") or len(tensor.shape) != 2:
        return tensor
    out_in = bool(node.attributes.get("transB", 0))  # how it is stored
    if out_in == (re.search(_KERAS, f"/{source}") is None):
        return tensor

    def fetch(start: int, stop: int) -> NDArray[Any]:
        return tensor.fetch(0, tensor.shape[0]).T[start:stop]

    return LazyTensor(tensor.shape[::-1], tensor.dtype, fetch, in_blocks=False)


def _used(node: _Node, stored: Mapping[str, LazyTensor]) -> Iterator[tuple[str, str]]:
    """Yield the tensor's name here and its initializer's name, for each weight of a node."""
    held = [one for one in node.inputs if one in stored]
    if node.kind == "BatchNormalization":
        yield from ((one, one) for one in held)
    elif node.kind in ("Conv", "Gemm", "MatMul"):
        for one, role in zip(held, ("weight", "bias"), strict=False):
            yield _layer(node, held[0]) + role, one
    elif node.kind in ("Add", "Sub", "Mul", "Div"):
        for one in held:
            norm = re.search(_KERAS_NORM, f"/{node.name}")
            if node.kind == "Add" and re.search(_KERAS_DENSE, f"/{one}"):
                yield _layer(node, one) + "bias", one  # of the MatMul before
            elif norm is not None and node.kind in ("Add", "Mul"):
                yield f"{norm[1]}/{'scale' if node.kind == 'Mul' else 'shift'}", one
            elif math.prod(stored[one].shape) > 1 and stored[one].dtype in FLOATING:
                yield one, one  # part of a norm that is not supported; it must not be ignored


def _layer(node: _Node, weight: str) -> str:
    """Return the layer with its separator, from the weight's or, if numbered, the node's name."""
    for suffix in (".weight", "_weight"):
        if weight.endswith(suffix):
            return weight.removesuffix("weight")
    if weight.startswith("onnx::"):
        return _scope(node.name) + "."
    known = re.search(_KERAS, f"/{weight}")
    return (known[1] if known else weight) + "/"


# for example vgg16_1/block1_conv1_1/convolution/ReadVariableOp:0, with numbers by the exporter
_KERAS = r"/([^/]+?)(?:_\d+)?/(?:convolution|Cast|MatMul|BiasAdd)(?:/|:)"
_KERAS_DENSE = r"/(?:fc[12]|predictions)(?:_\d+)?/"
_KERAS_NORM = r"/([^/]+?)(?:_\d+)?/batchnorm/(?:mul|add)_1$"


def _scope(name: str) -> str:
    """Return the module path of a node: layer1.0.conv1 for /layer1/layer1.0/conv1/Conv."""
    path: list[str] = []
    for part in name.strip("/").split("/")[:-1]:
        if path and part.startswith(path[-1] + "."):
            path.pop()
        path.append(part)
    return ".".join(path)


def _graph(nodes: list[_Node], stored: _Stored) -> Graph:
    """Return the nodes as operations of `probe.weights.architecture`."""
    producers = {output: node for node in nodes for output in node.outputs}
    keras = any(re.search(_KERAS, f"/{name}") for name in stored.tensors)
    made = []
    for number, node in enumerate(nodes):
        if node.kind == "Constant" or not node.outputs:
            continue
        tensors = tuple(dict.fromkeys(name for name, _ in _used(node, stored.tensors)))
        given = tuple(
            one for one in node.inputs
            if one and one not in stored.tensors and one not in stored.numbers
        )  # fmt: skip
        try:
            op, settings = _translated(node, stored, producers)
        except (LookupError, TypeError, ValueError):
            op, settings = node.kind, {"attributes": "that cannot be read"}
        if op in ("conv", "dense"):
            tensors = tensors[:1]
        if op in ("same", "flatten", "pad", "mean", "clip", "channel"):
            given = given[:1]
        made.append(
            Node(
                op=op, inputs=given, output=node.outputs[0], settings=settings, tensors=tensors,
                name=node.name or f"{node.kind} number {number}",
            )
        )  # fmt: skip
    return Graph(nodes=tuple(made), flatten="hwc" if keras else "chw")


_FLOATS = (1, 10, 11, 16, "FLOAT", "FLOAT16", "DOUBLE")  # TensorProto.DataType, in opset 1 as text


def _translated(  # noqa: PLR0911, PLR0912 - a case an operation
    node: _Node, stored: _Stored, producers: Mapping[str, _Node]
) -> tuple[str, dict[str, Any]]:
    given, numbers = node.attributes, stored.numbers
    extra = [numbers.get(one) if one else None for one in node.inputs[1:]]
    match node.kind:
        case "Conv":
            kernel = stored.tensors[node.inputs[1]].shape[2:]
            return "conv", {
                **_window(node, tuple(given.get("kernel_shape", kernel))),
                "groups": given.get("group", 1),
            }
        case "BatchNormalization":
            trained = {"training_mode": 1} if given.get("training_mode") else {}
            if node.inputs[0] in stored.tensors or len(node.inputs) != 5:
                return node.kind, {}
            return "norm", {"epsilon": given.get("epsilon", 1e-5), **trained}
        case "Relu":
            return "clip", {"low": 0, "high": math.inf}
        case "Clip" | "Max" | "Min":
            return _clip(node, extra)
        case "MaxPool" | "AveragePool":
            ceil = bool(given.get("ceil_mode", 0))
            kind = "max" if node.kind == "MaxPool" else "avg"
            counted = bool(given.get("count_include_pad", 0)) or kind == "max"
            window = _window(node, given["kernel_shape"])
            if window.pop("dilation") != (1, 1):
                return f"dilated {kind} pool", {}
            return "pool", {**window, "kind": kind, "ceil": ceil, "include_pad": counted}
        case "GlobalAveragePool":
            return "mean", {"axes": (2, 3)}
        case "ReduceMean":
            axes = given.get("axes") or extra[0] or ()
            return "mean", {"axes": tuple(sorted(int(axis) % 4 for axis in axes))}
        case "Gemm" | "MatMul":
            if len(node.inputs) < 2 or node.inputs[1] not in stored.tensors:
                return node.kind, {}
            usual = {"alpha": 1.0, "beta": 1.0, "transA": 0}
            return "dense", {
                name: given[name] for name, one in usual.items() if given.get(name, one) != one
            }
        case "Concat":
            return "concat", {"axis": given["axis"] % 4}
        case "Transpose":
            return "permute", {"order": given["perm"]}
        case "LRN":
            return "lrn", {
                "size": given["size"], "alpha": round(given.get("alpha", 1e-4), 9),
                "beta": round(given.get("beta", 0.75), 6),
                "bias": round(given.get("bias", 1.0), 6),
            }  # fmt: skip
        case "Pad":
            return _pad(given, extra)
        case "Gather" if len(extra[0] or ()) == 1 and given.get("axis", 0) == 1:
            return "channel", {"index": int((extra[0] or (0,))[0])}
    return (
        _reshaped(node, extra, producers) or _arithmetic(node, stored) or (node.kind, _text(given))
    )


def _text(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: str(value) for name, value in attributes.items()}


def _reshaped(  # noqa: PLR0911 - a case an operation
    node: _Node, extra: list[tuple[float, ...] | None], producers: Mapping[str, _Node]
) -> tuple[str, dict[str, Any]] | None:
    """Return the operation of a node that changes nothing or flattens each image; else None."""
    if node.kind == "Identity" or (node.kind == "Cast" and node.attributes.get("to") in _FLOATS):
        return "same", {}
    if node.kind == "Dropout":
        trained = len(extra) > 1 and extra[1] != (0,) and bool(node.inputs[2])
        return ("Dropout in training mode", {}) if trained else ("same", {})
    if node.kind == "Flatten" and node.attributes.get("axis", 1) in (1, -3):
        return "flatten", {}
    axes = node.attributes.get("axes") or (extra[0] if extra else None)
    if node.kind == "Squeeze" and axes and {int(axis) % 4 for axis in axes} <= {2, 3}:
        return "flatten", {}
    if node.kind == "Squeeze" and axes and {int(axis) % 4 for axis in axes} <= {1, 2}:
        return "flatten", {}  # of channels last
    if node.kind == "Unsqueeze" and axes and {int(axis) % 4 for axis in axes} <= {1, 2, 3}:
        return "same", {}
    if node.kind != "Reshape" or not extra:
        return None
    shape = extra[0]
    if shape is None:  # computed from the input's shape, a part for each dimension
        producer = producers.get(node.inputs[1])
        parts = len(producer.inputs) if producer is not None and producer.kind == "Concat" else 0
        return ("flatten", {}) if parts == 2 else None
    if len(shape) == 2 or (len(shape) == 4 and tuple(shape[2:]) == (1, 1)):
        return "flatten", {}
    return None


def _arithmetic(node: _Node, stored: _Stored) -> tuple[str, dict[str, Any]] | None:
    """Return the operation of an addition or multiplication, of which one side may be stored."""
    if node.kind not in ("Add", "Mul", "Sub", "Div", "Sum"):
        return None
    held = [one for one in node.inputs if one in stored.tensors or one in stored.numbers]
    if not held:
        return ("add", {}) if node.kind in ("Add", "Sum") else None
    numbers = stored.numbers.get(held[0], ())
    tensors = [name for name, _ in _used(node, stored.tensors)]
    if tensors and node.kind in ("Add", "Mul"):
        return ("plus" if node.kind == "Add" else "times"), {}
    if len(held) == 1 and len(numbers) == 1 and node.kind in ("Add", "Mul"):
        if numbers[0] == (0 if node.kind == "Add" else 1):
            return "same", {}
        return ("shift" if node.kind == "Add" else "scale"), {"by": float(numbers[0])}
    return node.kind, {"by": ", ".join(f"{one:g}" for one in numbers[:8])}


def _clip(node: _Node, extra: list[tuple[float, ...] | None]) -> tuple[str, dict[str, Any]]:
    low, high = -math.inf, math.inf
    bounds = [None if one is None else one[0] for one in extra]
    if node.kind == "Clip":
        low = node.attributes.get("min", low)
        high = node.attributes.get("max", high)
        for place, name in enumerate(node.inputs[1:3]):
            if name and bounds[place] is None:
                return node.kind, {"bounds": "that are computed"}
        if len(bounds) > 0 and bounds[0] is not None:
            low = bounds[0]
        if len(bounds) > 1 and bounds[1] is not None:
            high = bounds[1]
    elif len(bounds) == 1 and bounds[0] is not None:
        low, high = (bounds[0], high) if node.kind == "Max" else (low, bounds[0])
    else:
        return node.kind, {}
    return "clip", {"low": low if abs(low) < 1e30 else -math.inf,
                    "high": high if abs(high) < 1e30 else math.inf}  # fmt: skip


def _pad(
    given: Mapping[str, Any], extra: list[tuple[float, ...] | None]
) -> tuple[str, dict[str, Any]]:
    pads = given.get("pads") or given.get("paddings") or (extra[0] if extra else None)
    value = given.get("value", 0)
    if len(extra) > 1 and extra[1]:
        value = extra[1][0]
    plain = given.get("mode", "constant") == "constant" and value == 0
    if not plain or pads is None or len(pads) != 8 or any(pads[i] for i in (0, 1, 4, 5)):
        return "Pad", {"pads": str(pads), "value": value, "mode": given.get("mode", "constant")}
    return "pad", {"pads": tuple(int(pads[i]) for i in (2, 3, 6, 7))}


def _window(node: _Node, kernel: tuple[int, ...]) -> dict[str, Any]:
    given = node.attributes
    kind = given.get("auto_pad", "NOTSET")
    pads: Any = given.get("pads", (0, 0, 0, 0))
    if kind in ("SAME_UPPER", "SAME_LOWER"):
        pads = kind.lower()
    elif kind == "VALID":
        pads = (0, 0, 0, 0)
    if len(kernel) != 2 or len(pads) not in (4, 10) or len(given.get("strides", (1, 1))) != 2:
        raise ValueError("no window of two sides")
    stride, dilation = given.get("strides", (1, 1)), given.get("dilations", (1, 1))
    if min(*kernel, *stride, *dilation) < 1:
        raise ValueError("a window without extent")
    return {"kernel": kernel, "stride": stride, "dilation": dilation, "pads": pads}


def _node(wire: Wire, one: Field) -> _Node:
    inputs, outputs, texts = [], [], {NODE_NAME: "", NODE_TYPE: "", NODE_DOMAIN: ""}
    attributes: dict[str, Any] = {}
    constant: Field | None = None
    for part in wire.fields(one):
        if part.number == NODE_INPUT:
            inputs.append(wire.text(part))
        elif part.number == NODE_OUTPUT:
            outputs.append(wire.text(part))
        elif part.number in texts:
            texts[part.number] = wire.text(part)
        elif part.number == NODE_ATTRIBUTE and part.kind == BYTES:
            name, value = _attribute(wire, part)
            if isinstance(value, Field):
                constant = value if name == "value" else constant
            else:
                attributes[name] = value
    kind = texts[NODE_TYPE]
    if texts[NODE_DOMAIN] not in ("", "ai.onnx"):
        kind = f"{texts[NODE_DOMAIN]}.{kind}"
    return _Node(kind, texts[NODE_NAME], tuple(inputs), tuple(outputs), attributes, constant)


def _attribute(wire: Wire, one: Field) -> tuple[str, Any]:
    """Return an attribute's name and its value: a number, numbers, text or a tensor's field."""
    name = ""
    value: Any = None
    many: list[float] = []
    for part in wire.fields(one):
        if part.number == ATTRIBUTE_NAME:
            name = wire.text(part)
        elif part.number == ATTRIBUTE_FLOAT:
            value = wire.real(part)
        elif part.number == ATTRIBUTE_INT:
            value = wire.numbers(part, MAX_ATTRIBUTE)[0]
        elif part.number == ATTRIBUTE_TEXT:
            value = wire.text(part) if part.length <= MAX_ATTRIBUTE else ""
        elif part.number == ATTRIBUTE_TENSOR:
            value = part
        elif part.number == ATTRIBUTE_INTS:
            many += wire.numbers(part, MAX_ATTRIBUTE)
        elif part.number == ATTRIBUTE_FLOATS and part.kind == BYTES:
            data = wire.data(part, MAX_ATTRIBUTE)
            many += struct.unpack(f"<{len(data) // 4}f", data[: len(data) // 4 * 4])
        elif part.number == ATTRIBUTE_FLOATS:
            many.append(wire.real(part))
    return name, tuple(many) if many else value


def _tensor(  # noqa: PLR0912 - a case a field
    wire: Wire, one: Field
) -> tuple[str, LazyTensor, tuple[float, ...] | None]:
    """Return a tensor's name, the tensor, and its numbers if it is small."""
    name, dims, kind = "", [], 0
    blobs: dict[int, Field] = {}
    spread: list[int] = []
    for part in wire.fields(one):
        if part.number == DIMS:
            dims += wire.numbers(part, MAX_DIMS)
        elif part.number == TYPE:
            kind = part.value
        elif part.number == NAME:
            name = wire.text(part)
        elif part.number == EXTERNAL or (part.number == LOCATION and part.value):
            raise UnsafeFileError(
                f"{wire.path}: its data are in another file; export it with the data inside"
            )
        elif part.kind == BYTES:
            blobs[part.number] = part
        elif part.number in (INT32, INT64) and len(spread) < FEW:
            spread += wire.numbers(part, MAX_DIMS)
    shape = check_shape(wire.path, name, dims)
    if kind in FLOAT8:
        raise WeightsError(
            f"{wire.path}: initializer {name!r} is stored as a float8 that is not supported; "
            "export the network in float32 or float16"
        )
    dtype, count = _TYPES.get(kind, ""), math.prod(shape)
    half = blobs.get(INT32) if dtype in ("float16", "bfloat16") and RAW not in blobs else None
    if half is not None:
        return name, _halves(wire, name, dtype, shape, half), None
    blob = blobs.get(RAW) or blobs.get(PACKED.get(dtype, 0))
    numbers: tuple[float, ...] | None = tuple(spread) if spread else None
    whole = blobs.get(INT64) or blobs.get(INT32)
    if count <= FEW and whole is not None and not dtype.startswith("float"):
        numbers = tuple(wire.numbers(whole, 10 * FEW))
    if blob is None and dtype.startswith("float") and count:
        # numbers that are not packed are not supported
        raise wire.damaged(f"has an initializer {name!r} without packed data")
    if blob is None:  # whole numbers, which are never weights
        return name, LazyTensor(shape, dtype or "int64", _never), numbers
    if not dtype or blob.length != count * ITEM_BYTES[dtype]:
        raise wire.damaged(f"has an initializer {name!r} of shape {shape} in {blob.length} bytes")
    tensor = raw_tensor(wire.path, name, dtype, shape, offset=blob.start, available=blob.length)
    if 0 < count <= FEW and dtype not in AS_BITS:
        stored = np.frombuffer(wire.data(blob, 8 * FEW), np.dtype(dtype).newbyteorder("<"))
        with np.errstate(invalid="ignore"):  # a signalling NaN, in a damaged file
            numbers = tuple(stored.astype(np.float64).tolist())
    return name, tensor, numbers


def _halves(wire: Wire, name: str, dtype: str, shape: Shape, blob: Field) -> LazyTensor:
    """Return a tensor of 16-bit floats, each stored as a varint (1 to 3 bytes) of its bits."""
    count = math.prod(shape)
    if not count <= blob.length <= 3 * count:
        raise wire.damaged(f"has an initializer {name!r} of shape {shape} in {blob.length} bytes")

    def fetch(start: int, stop: int) -> NDArray[Any]:
        with open_regular(wire.path) as file:
            file.seek(blob.start)
            data = np.frombuffer(file.read(blob.length), np.uint8)
        last = np.flatnonzero(data < 0x80)
        first = np.concatenate([[0], last[:-1] + 1]) if len(last) else last
        if len(last) != count or last[-1] != len(data) - 1 or int((last - first).max()) > 2:
            raise wire.damaged(f"has {len(last)} numbers in {name!r} of shape {shape}")
        bits = np.zeros(count, np.uint32)
        for place in range(3):
            there = first + place <= last
            part = data[np.minimum(first + place, last)].astype(np.uint32) & 0x7F
            bits |= np.where(there, part << (7 * place), 0).astype(np.uint32)
        if int(bits.max()) > 0xFFFF:
            raise wire.damaged(f"has a number of more than 16 bits in {name!r}")
        halves = bits.astype(np.uint16).reshape(shape)
        return (halves if dtype == "bfloat16" else halves.view(np.float16))[start:stop]

    return LazyTensor(shape, dtype, fetch, in_blocks=False)


def _never(start: int, stop: int) -> NDArray[Any]:  # noqa: ARG001 - the signature of `fetch`
    raise WeightsError("a tensor of whole numbers is not a weight")
