"""Writers of the two formats that are protobuf: Caffe's models and ONNX's. NumPy alone is needed.

They follow the published schemas; OpenCV reads what they write (`benchmarks/goldens`).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
Buffer = bytes | NDArray[Any]


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def framed(field: int, parts: Sequence[Buffer]) -> list[Buffer]:
    """A text, a message or packed numbers, in parts: those of a network may have 500 MB."""
    length = sum(memoryview(part).nbytes for part in parts)
    return [varint(field << 3 | 2) + varint(length), *parts]


def block(field: int, *parts: bytes) -> bytes:
    """The same, joined."""
    return b"".join(framed(field, parts))


def caffe_blob(array: NDArray[Any], *, old: bool = False, packed: bool = True) -> list[Buffer]:
    """Old blobs have four sides: a vector is (1, 1, 1, n), a matrix (1, 1, out, in)."""
    data = np.ascontiguousarray(array, "<f4")
    if packed:
        body = framed(5, [data])
    else:
        body = [varint(5 << 3 | 5) + struct.pack("<f", v) for v in data.reshape(-1)]
    if old:
        sides = (1,) * (4 - array.ndim) + array.shape
        return [*(number(i, side) for i, side in enumerate(sides, start=1)), *body]
    return [*body, block(7, block(1, *map(varint, array.shape)))]


def write_caffe(
    path: Path, arrays: Arrays, *, old: bool = False, packed: bool = True, order: Sequence[str] = ()
) -> Path:
    """Layer/0 and layer/1 as Caffe's own `ToProto` writes them.

    Parameters
    ----------
    old : bool
        V1 messages, as the published models have, instead of V2's.
    order : sequence of str
        Layers without blobs among the others, all in the network's order.
    """
    layers: dict[str, list[NDArray[Any]]] = {}
    for name, array in arrays.items():
        layers.setdefault(name.rpartition("/")[0], []).append(array)
    out: list[Buffer] = [block(1, b"net")]
    for layer in order or layers:
        kind = 4 if layer.startswith("conv") else 14  # CONVOLUTION, INNER_PRODUCT
        if old:
            body = [block(4, layer.encode()), number(5, kind)]
        else:
            body = [block(1, layer.encode()), block(2, b"Layer")]
        for array in layers.get(layer, []):
            body += framed(6 if old else 7, caffe_blob(array, old=old, packed=packed))
        out += framed(2 if old else 100, body)
    return write_parts(path, out)


def write_parts(path: Path, parts: Sequence[Buffer]) -> Path:
    with path.open("wb") as file:
        for part in parts:
            file.write(part)
    return path


def write_mean(path: Path, mean: NDArray[Any], *, packed: bool = True) -> Path:
    return write_parts(path, caffe_blob(mean[None], old=True, packed=packed))


ONNX_TYPES = {
    "float32": 1, "int8": 3, "int64": 7, "bool": 9, "float16": 10, "float64": 11, "uint16": 16,
}  # fmt: skip


def tensor_parts(name: str, array: NDArray[Any], *, raw: bool = True) -> list[Buffer]:
    sides = b"".join(number(1, side) for side in array.shape)
    head = sides + number(2, ONNX_TYPES[array.dtype.name]) + block(8, name.encode())
    return [head, *framed(9 if raw else 4, [np.ascontiguousarray(array)])]


def onnx_tensor(name: str, array: NDArray[Any], *, raw: bool = True, extra: bytes = b"") -> bytes:
    return b"".join([*tensor_parts(name, array, raw=raw), extra])


def onnx_node(kind: str, name: str, inputs: Sequence[str], *, transposed: bool = False) -> bytes:
    body = b"".join(block(1, one.encode()) for one in inputs)
    body += block(2, f"{name}_out".encode()) + block(3, name.encode()) + block(4, kind.encode())
    if transposed:
        body += block(5, block(1, b"transB"), number(3, 1), number(20, 2))
    return body


def write_onnx(
    path: Path, arrays: Arrays, *, nodes: Sequence[bytes] = (), raw: bool = True,
    producer: str = "pytorch",
) -> Path:  # fmt: skip
    graph = [*(block(1, one) for one in nodes), block(2, b"main_graph")]
    for name, array in arrays.items():
        graph += framed(5, tensor_parts(name, array, raw=raw))
    head, tail = number(1, 8) + block(2, producer.encode()), block(8, number(2, 17))
    return write_parts(path, [head, *framed(7, graph), tail])
