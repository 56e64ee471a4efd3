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


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def block(field: int, *parts: bytes) -> bytes:
    """A text, a message or packed numbers."""
    data = b"".join(parts)
    return varint(field << 3 | 2) + varint(len(data)) + data


def caffe_blob(array: NDArray[Any], *, old: bool = False, packed: bool = True) -> bytes:
    """Old blobs have four sides: a vector is (1, 1, 1, n), a matrix (1, 1, out, in)."""
    data = np.ascontiguousarray(array, "<f4")
    if packed:
        body = block(5, data.tobytes())
    else:
        body = b"".join(varint(5 << 3 | 5) + struct.pack("<f", v) for v in data.reshape(-1))
    if old:
        sides = (1,) * (4 - array.ndim) + array.shape
        return b"".join(number(i, side) for i, side in enumerate(sides, start=1)) + body
    return body + block(7, block(1, *map(varint, array.shape)))


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
    out = [block(1, b"net")]
    for layer in order or layers:
        blobs = [caffe_blob(a, old=old, packed=packed) for a in layers.get(layer, [])]
        kind = 4 if layer.startswith("conv") else 14  # CONVOLUTION, INNER_PRODUCT
        if old:
            body = [block(4, layer.encode()), number(5, kind), *(block(6, b) for b in blobs)]
        else:
            body = [block(1, layer.encode()), block(2, b"Layer"), *(block(7, b) for b in blobs)]
        out.append(block(2 if old else 100, *body))
    path.write_bytes(b"".join(out))
    return path


def write_mean(path: Path, mean: NDArray[Any], *, packed: bool = True) -> Path:
    path.write_bytes(caffe_blob(mean[None], old=True, packed=packed))
    return path


ONNX_TYPES = {
    "float32": 1, "int8": 3, "int64": 7, "bool": 9, "float16": 10, "float64": 11, "uint16": 16,
}  # fmt: skip


def onnx_tensor(name: str, array: NDArray[Any], *, raw: bool = True, extra: bytes = b"") -> bytes:
    body = b"".join(number(1, side) for side in array.shape)
    body += number(2, ONNX_TYPES[array.dtype.name]) + block(8, name.encode())
    data = np.ascontiguousarray(array).tobytes()
    return body + (block(9, data) if raw else block(4, data)) + extra


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
    graph = b"".join(block(1, one) for one in nodes) + block(2, b"main_graph")
    graph += b"".join(block(5, onnx_tensor(n, a, raw=raw)) for n, a in arrays.items())
    path.write_bytes(
        number(1, 8) + block(2, producer.encode()) + block(7, graph) + block(8, number(2, 17))
    )
    return path
