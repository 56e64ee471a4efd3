"""Read and write MXNet's NDArray lists: Gluon's `.params` and exported symbols' parameters.

The whole file is little-endian: u64 0x112, u64 0, u64 count, the arrays, u64 count, the names.
An array is u32 magic, [i32 storage type], u32 sides, i64 each side, i32 + i32 context, i32 type,
data; before the magic existed it began with the number of sides, and those were 32 bits wide.
The format has no metadata and MXNet stops reading after the names, so `write_gluon` appends them:
16 bytes `METADATA`, u64 length, a JSON object of strings. Gluon's `load_parameters` reads such a
file, but would refuse one with an additional array.

References
----------
apache/mxnet 1.9.1, src/ndarray/ndarray.cc: NDArray::Save, NDArray::Load, NDArray::LegacyLoad.
"""

from __future__ import annotations

import json
import logging
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from probe.core.ndarray_list import LIST_MAGIC, V1, V2, V3, write_list
from probe.core.records import loads_json
from probe.core.regular import open_regular, read_regular
from probe.errors import UnsafeFileError, WeightsError
from probe.weights.architecture import Graph
from probe.weights.symbol_graph import symbol_graph
from probe.weights.tensors import (
    ITEM_BYTES,
    MAX_DIMENSIONS,
    Float32,
    LazyTensor,
    Shape,
    TensorFile,
    raw_tensor,
)

MAX_NAME = 4096
METADATA = b"probe.metadata\0\0"
MAX_METADATA = 1 << 16
MAX_SYMBOL = 16 << 20  # bytes; the largest network here has 1 MB

log = logging.getLogger(__name__)

_TYPES = {
    0: "float32", 1: "float64", 2: "float16", 3: "uint8", 4: "int32", 5: "int8", 6: "int64",
    7: "bool", 8: "int16", 9: "uint16", 10: "uint32", 11: "uint64", 12: "bfloat16",
}  # fmt: skip


def read_gluon(path: Path) -> TensorFile:
    """Return the tensors of an NDArray list, without the ``arg:`` and ``aux:`` before names.

    Raises
    ------
    UnsafeFileError
        The file is shorter than it states.
    WeightsError
        It holds sparse arrays, or arrays without names.
    """
    with open_regular(path) as file:
        cursor = _Cursor(path, file)
        if cursor.take("<QQ")[0] != LIST_MAGIC:
            raise WeightsError(f"{path}: not an NDArray list")
        arrays = [_array(cursor) for _ in cursor.counted(minimum=4)]
        names = [cursor.text(MAX_NAME) for _ in cursor.counted(minimum=8)]
        metadata = _metadata(cursor)
    if len(names) != len(arrays):
        raise WeightsError(
            f"{path}: {len(arrays)} arrays and {len(names)} names; save them as a dict"
        )
    tensors: dict[str, LazyTensor] = {}
    for stored, array in zip(names, arrays, strict=True):
        name = stored.removeprefix("arg:").removeprefix("aux:")
        if name in tensors:
            raise UnsafeFileError(f"{path}: two arrays are called {name!r}")
        if array is not None:
            dtype, shape, offset, length = array
            tensors[name] = raw_tensor(path, name, dtype, shape, offset=offset, available=length)
    graph = graph_beside(path)
    if graph is not None:  # the order of its layers tells CaffeNet from BVLC's AlexNet
        order = [node.name for node in graph.nodes if node.name.isprintable()]
        metadata = {"caffe.layers": " ".join(order), **metadata}
        tensors |= {name: _ones(tensors[name]) for name in graph.ones & tensors.keys()}
    return TensorFile(path, "gluon", tensors, metadata, graph=graph)


def _ones(tensor: LazyTensor) -> LazyTensor:
    """Return ones of a tensor's shape, which MXNet uses for a gamma with ``fix_gamma``."""

    def fetch(start: int, stop: int) -> NDArray[Any]:
        return np.ones((stop - start, *tensor.shape[1:]), np.float32)

    return LazyTensor(tensor.shape, "float32", fetch)


def graph_beside(path: Path) -> Graph | None:
    """Return the network that ``PREFIX-symbol.json`` beside ``PREFIX-0001.params`` describes.

    Return None if there is no such file or it is damaged; the parameters are usable without it.
    """
    symbol = symbol_of(path)
    try:
        graph = symbol_graph(read_regular(symbol, MAX_SYMBOL).decode("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        log.warning("%s: not a symbol of MXNet; it is not compared with the backbone", symbol)
        return None
    ups = [one.settings.get("ceil") for one in graph.nodes if one.op == "pool"]
    # a network of Caffe's, which always rounds up; that matters only where a size is rounded
    return replace(graph, rounding=not (ups and all(ups)))


def symbol_of(path: Path) -> Path:
    """Return the path at which MXNet saves the symbol of a file of parameters."""
    return path.with_name(re.sub(r"-\d{4,}$", "", path.stem) + "-symbol.json")


class _Cursor:
    """Reads the file from its start and never beyond its end."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self._file = path, file
        self.size = path.stat().st_size

    @property
    def left(self) -> int:
        return self.size - self._file.tell()

    def take(self, layout: str) -> tuple[int, ...]:
        data = self._file.read(struct.calcsize(layout))
        if len(data) < struct.calcsize(layout):
            raise UnsafeFileError(f"{self.path}: ends within an array's header; it is damaged")
        return struct.unpack(layout, data)

    def counted(self, minimum: int) -> range:
        """Read a count of items of at least `minimum` bytes each, and return its range."""
        (count,) = self.take("<Q")
        if count * minimum > self.left:
            raise UnsafeFileError(
                f"{self.path}: claims {count} arrays or names in {self.left} bytes"
            )
        return range(count)

    def peek(self, count: int) -> bytes:
        """Return the next bytes without moving on."""
        data = self._file.read(count)
        self._file.seek(-len(data), 1)
        return data

    def skip(self, count: int) -> int:
        """Skip `count` bytes and return their position."""
        start = self._file.tell()
        if count > self.left:
            raise UnsafeFileError(
                f"{self.path}: an array claims {count} bytes where there are {self.left}"
            )
        self._file.seek(count, 1)
        return start

    def text(self, limit: int) -> str:
        (length,) = self.take("<Q")
        if length > min(limit, self.left):
            raise UnsafeFileError(f"{self.path}: a name claims {length} bytes")
        return self._file.read(length).decode("utf-8", errors="backslashreplace")


def _array(cursor: _Cursor) -> tuple[str, Shape, int, int] | None:
    """Read an array's header and return its type, shape, offset and length; None if empty."""
    (magic,) = cursor.take("<I")
    if magic in (V2, V3) and cursor.take("<i")[0] != 0:
        raise WeightsError(f"{cursor.path}: holds a sparse array, which is not supported")
    dense = magic in (V1, V2, V3)
    (sides,) = cursor.take("<i") if dense else (magic,)
    if sides == (-1 if magic == V3 else 0):
        return None
    if not 0 <= sides <= MAX_DIMENSIONS:
        raise UnsafeFileError(f"{cursor.path}: an array claims {sides} dimensions")
    shape = cursor.take(f"<{sides}{'q' if dense else 'I'}")
    *_, kind = cursor.take("<iii")
    if kind not in _TYPES or any(side < 0 for side in shape):
        raise UnsafeFileError(f"{cursor.path}: an array has type {kind} and shape {shape}")
    length = math.prod(shape) * ITEM_BYTES[_TYPES[kind]]
    return _TYPES[kind], shape, cursor.skip(length), length


def _metadata(cursor: _Cursor) -> dict[str, str]:
    """Return the metadata that `write_gluon` appends; other data may follow the names instead."""
    if cursor.left < len(METADATA) or cursor.peek(len(METADATA)) != METADATA:
        return {}
    cursor.skip(len(METADATA))
    try:
        found = loads_json(cursor.text(MAX_METADATA))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or any(type(value) is not str for value in found.values()):
        raise UnsafeFileError(f"{cursor.path}: the metadata after its names are damaged")
    return found


def write_gluon(path: Path, parameters: Mapping[str, Float32], metadata: Mapping[str, str]) -> None:
    """Write float32 arrays as MXNet 1.9.1 does, followed by metadata.

    Parameters
    ----------
    parameters : mapping of name to float32 array
        Read one at a time, so that a lazy mapping needs memory for one array.
    """
    with path.open("wb") as file:
        write_list(file, parameters)
        text = json.dumps(dict(metadata)).encode()
        file.write(METADATA + struct.pack("<Q", len(text)) + text)
