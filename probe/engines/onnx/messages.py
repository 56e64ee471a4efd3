"""Write ONNX's protobuf messages without the package `onnx`.

Each process that runs a network needs a model, and importing that package takes as long as
importing NumPy. A message is the bytes of its fields, one after another.

References
----------
onnx/onnx.proto of github.com/onnx/onnx: the fields and their numbers.
Protocol Buffers documentation, Encoding: tags, varints, length-delimited fields.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from numpy.typing import NDArray

FLOAT, UINT8, FLOAT16 = 1, 2, 10  # of TensorProto.DataType
TYPES = {
    "float32": FLOAT, "uint8": UINT8, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7,
    "bool": 9, "float16": FLOAT16, "float64": 11, "uint32": 12, "uint64": 13,
}  # fmt: skip
_VARINT, _BYTES, _FIXED32 = 0, 2, 5
_EXTERNAL = 1  # of TensorProto.DataLocation
_OF_FLOAT, _OF_INT, _OF_TEXT, _OF_INTS = 1, 2, 3, 7  # of AttributeProto.AttributeType


def node(op: str, inputs: Sequence[str], output: str, attributes: Mapping[str, Any]) -> bytes:
    """Return a NodeProto with one output, which it is named after.

    Parameters
    ----------
    attributes : mapping of name to int, float, str or sequence of int
    """
    made = [_text(1, one) for one in inputs]
    made += [_text(2, output), _text(3, output), _text(4, op)]
    made += [_field(5, _attribute(name, value)) for name, value in sorted(attributes.items())]
    return b"".join(made)


def tensor(name: str, array: NDArray[Any]) -> bytes:
    """Return a TensorProto that holds an array."""
    if array.dtype.name not in TYPES:  # of an ONNX file, such as bfloat16 or text
        from onnx import numpy_helper

        held: bytes = numpy_helper.from_array(array, name).SerializeToString()
        return held
    data = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False).tobytes()
    return _head_of_tensor(name, array) + _field(9, data)


def outside_tensor(name: str, array: NDArray[Any]) -> bytes:
    """Return a TensorProto whose numbers the runtime is given beside the model."""
    place = _text(1, "location") + _text(2, "memory")
    return _head_of_tensor(name, array) + _field(13, place) + _number(14, _EXTERNAL)


def value(name: str, kind: int, shape: Sequence[int | str | None] | None) -> bytes:
    """Return a ValueInfoProto.

    Parameters
    ----------
    kind : int
        Of TensorProto.DataType.
    shape : sequence of int, str or None, or None
        A side that is text is free, and so is None; without a shape the runtime works out the type.
    """
    if shape is None:
        return _text(1, name)
    sides = b"".join(_field(1, _side(one)) for one in shape)
    return _text(1, name) + _field(2, _field(1, _number(1, kind) + _field(2, sides)))


def model(
    name: str, nodes: Sequence[bytes], initializers: Sequence[bytes], inputs: Sequence[bytes],
    outputs: Sequence[bytes], *, opsets: Mapping[str, int], functions: Sequence[bytes],
    ir_version: int,
) -> bytes:  # fmt: skip
    """Return a ModelProto of a graph that is called `name`."""
    graph = [_field(1, one) for one in nodes]
    graph.append(_text(2, name))
    graph += [_field(5, one) for one in initializers]
    graph += [_field(11, one) for one in inputs]
    graph += [_field(12, one) for one in outputs]
    made = [_number(1, ir_version), _text(2, "probe"), _field(7, b"".join(graph))]
    made += [_field(8, _text(1, one) + _number(2, version)) for one, version in opsets.items()]
    made += [_field(25, one) for one in functions]
    return b"".join(made)


def _attribute(name: str, value: Any) -> bytes:
    head = _text(1, name)
    if isinstance(value, str):
        return head + _text(4, value) + _number(20, _OF_TEXT)
    if isinstance(value, Integral):
        return head + _number(3, int(value)) + _number(20, _OF_INT)
    if isinstance(value, Real):
        return head + _tag(2, _FIXED32) + struct.pack("<f", float(value)) + _number(20, _OF_FLOAT)
    return head + b"".join(_number(8, one) for one in value) + _number(20, _OF_INTS)


def _head_of_tensor(name: str, array: NDArray[Any]) -> bytes:
    sides = b"".join(_number(1, side) for side in array.shape)
    return sides + _number(2, TYPES[array.dtype.name]) + _text(8, name)


def _side(side: int | str | None) -> bytes:
    if side is None:
        return b""
    return _text(2, side) if isinstance(side, str) else _number(1, side)


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode())


def _field(number: int, data: bytes) -> bytes:
    return _tag(number, _BYTES) + _varint(len(data)) + data


def _number(number: int, value: int) -> bytes:
    return _tag(number, _VARINT) + _varint(int(value) & (2**64 - 1))  # two's complement


def _tag(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)
