"""ONNX: the weights of a graph's convolutions, dense layers and norms, by their exporter's names.

Exporters of trained networks fold a norm into the convolution before it and give the result a
counted name; the node then still says which layer it was. So tensors are named by the layer:

- torch: ``module.weight``, ``module.bias`` and the norms' four, as in a state dict;
- Gluon: its prefixed names, ``net0_conv0_weight``;
- Keras, by tf2onnx: ``layer/weight``, ``layer/bias``, convolutions as (out, in, H, W) already; a
  norm that was not folded is a multiplication and an addition, ``layer/scale`` and ``layer/shift``.

References
----------
onnx/onnx.proto: ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from probe.errors import UnsafeFileError, WeightsError
from probe.weights.tensors import ITEM_BYTES, LazyTensor, TensorFile, check_shape, raw_tensor
from probe.weights.wire import BYTES, Field, Wire

GRAPH = 7  # of ModelProto
NODE, INITIALIZER = 1, 5  # of GraphProto
NODE_INPUT, NODE_NAME, NODE_TYPE = 1, 3, 4
DIMS, TYPE, NAME, RAW, EXTERNAL, LOCATION = 1, 2, 8, 9, 13, 14  # of TensorProto
PACKED = {"float32": 4, "float64": 10}  # the field of TensorProto that holds such numbers packed
MAX_DIMS = 256
_TYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64",
    9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16",
}  # fmt: skip


@dataclass(frozen=True)
class _Node:
    kind: str
    name: str
    inputs: tuple[str, ...]


def read_onnx(path: Path) -> TensorFile:
    """Return the weights that an ONNX model holds.

    Raises
    ------
    UnsafeFileError
        It keeps data in another file, or claims more than there is.
    WeightsError
        There are no weights in it.
    """
    stored: dict[str, LazyTensor] = {}
    nodes: list[_Node] = []
    with path.open("rb") as file:
        wire = Wire(path, file)
        for graph in wire.fields(wire.whole()):
            if graph.number != GRAPH or graph.kind != BYTES:
                continue
            for part in wire.fields(graph):
                if part.number == NODE:
                    nodes.append(_node(wire, part))
                elif part.number == INITIALIZER:
                    name, tensor = _tensor(wire, part)
                    if name in stored:
                        raise UnsafeFileError(f"{path}: two initializers are called {name!r}")
                    stored[name] = tensor
    tensors: dict[str, LazyTensor] = {}
    for node in nodes:
        for name, source in _used(node, stored):
            if tensors.setdefault(name, stored[source]) is not stored[source]:
                raise UnsafeFileError(f"{path}: two layers are called {name!r}")
    if not tensors:
        raise WeightsError(f"{path}: an ONNX model without weights in it")
    return TensorFile(path, "onnx", tensors)


def _used(node: _Node, stored: dict[str, LazyTensor]) -> Iterator[tuple[str, str]]:
    """The name to give and the initializer's own, for every weight that a node uses."""
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
            elif math.prod(stored[one].shape) > 1:
                yield one, one  # half a norm, which fits nothing here and must not be passed over


def _layer(node: _Node, weight: str) -> str:
    """The layer with its separator, by its weight's name or, where that is a number, the node's."""
    for suffix in (".weight", "_weight"):
        if weight.endswith(suffix):
            return weight.removesuffix("weight")
    if weight.startswith("onnx::"):
        return _scope(node.name) + "."
    known = re.search(_KERAS, f"/{weight}")
    return (known[1] if known else weight) + "/"


# as vgg16_1/block1_conv1_1/convolution/ReadVariableOp:0, where the exporter counted each name
_KERAS = r"/([^/]+?)(?:_\d+)?/(?:convolution|Cast|MatMul|BiasAdd)(?:/|:)"
_KERAS_DENSE = r"/(?:fc[12]|predictions)(?:_\d+)?/"
_KERAS_NORM = r"/([^/]+?)(?:_\d+)?/batchnorm/(?:mul|add)_1$"


def _scope(name: str) -> str:
    """layer1.0.conv1 from /layer1/layer1.0/conv1/Conv: a child repeats the name it is listed in."""
    path: list[str] = []
    for part in name.strip("/").split("/")[:-1]:
        if path and part.startswith(path[-1] + "."):
            path.pop()
        path.append(part)
    return ".".join(path)


def _node(wire: Wire, field: Field) -> _Node:
    inputs, texts = [], {NODE_NAME: "", NODE_TYPE: ""}
    for part in wire.fields(field):
        if part.number == NODE_INPUT:
            inputs.append(wire.text(part))
        elif part.number in texts:
            texts[part.number] = wire.text(part)
    return _Node(texts[NODE_TYPE], texts[NODE_NAME], tuple(inputs))


def _tensor(wire: Wire, field: Field) -> tuple[str, LazyTensor]:
    name, dims, kind = "", [], 0
    blobs: dict[int, Field] = {}
    for part in wire.fields(field):
        if part.number == DIMS:
            dims += wire.numbers(part, MAX_DIMS)
        elif part.number == TYPE:
            kind = part.value
        elif part.number == NAME:
            name = wire.text(part)
        elif part.number == EXTERNAL or (part.number == LOCATION and part.value):
            raise UnsafeFileError(
                f"{wire.path}: keeps its data in another file; export it with the data inside"
            )
        elif part.kind == BYTES:
            blobs[part.number] = part
    shape = check_shape(wire.path, name, dims)
    dtype = _TYPES.get(kind, "")
    blob = blobs.get(RAW) or blobs.get(PACKED.get(dtype, 0))
    if blob is None and dtype.startswith("float") and 0 not in shape:
        raise wire.damaged(f"has an initializer {name!r} without packed data")
    if blob is None:  # whole numbers, of which no weights are made
        return name, LazyTensor(shape, dtype or "int64", _never)
    if not dtype or blob.length != math.prod(shape) * ITEM_BYTES[dtype]:
        raise wire.damaged(f"has an initializer {name!r} of shape {shape} in {blob.length} bytes")
    return name, raw_tensor(wire.path, name, dtype, shape, offset=blob.start, available=blob.length)


def _never(start: int, stop: int) -> NDArray[Any]:  # noqa: ARG001 - as every fetch
    raise WeightsError("a tensor of whole numbers is no weight")
