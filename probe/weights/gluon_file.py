"""MXNet's NDArray lists: Gluon's `.params`, and the parameters of an exported symbol.

The whole file is little-endian: u64 0x112, u64 0, u64 count, the arrays, u64 count, the names.
An array is u32 magic, [i32 storage type], u32 sides, i64 each side, i32 + i32 context, i32 type,
data; before the magic existed it began with the number of sides, and those were 32 bits wide.

References
----------
apache/mxnet 1.9.1, src/ndarray/ndarray.cc: NDArray::Save, NDArray::Load, NDArray::LegacyLoad.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import BinaryIO

from probe.errors import UnsafeFileError, WeightsError
from probe.weights.tensors import (
    ITEM_BYTES,
    MAX_DIMENSIONS,
    LazyTensor,
    Shape,
    TensorFile,
    raw_tensor,
)

LIST_MAGIC = 0x112
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
MAX_NAME = 4096
PREPROCESS = "probe.preprocess"  # a uint8 array that holds JSON: the format has no metadata

_TYPES = {
    0: "float32", 1: "float64", 2: "float16", 3: "uint8", 4: "int32", 5: "int8", 6: "int64",
    7: "bool", 8: "int16", 9: "uint16", 10: "uint32", 11: "uint64", 12: "bfloat16",
}  # fmt: skip


def read_gluon(path: Path) -> TensorFile:
    """Return what an NDArray list holds; ``arg:`` and ``aux:`` before names are left out.

    Raises
    ------
    UnsafeFileError
        It claims more bytes than there are.
    WeightsError
        It holds sparse arrays, or arrays without names.
    """
    with path.open("rb") as file:
        cursor = _Cursor(path, file)
        if cursor.take("<QQ")[0] != LIST_MAGIC:
            raise WeightsError(f"{path}: not an NDArray list")
        arrays = [_array(cursor) for _ in cursor.counted(minimum=4)]
        names = [cursor.text() for _ in cursor.counted(minimum=8)]
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
    note = tensors.pop(PREPROCESS, None)
    metadata = {} if note is None else {PREPROCESS: _text(path, note)}
    return TensorFile(path, "gluon", tensors, metadata)


class _Cursor:
    """Walks through the file and never beyond its end."""

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
        """The range of a count that stands here, of things of at least `minimum` bytes."""
        (count,) = self.take("<Q")
        if count * minimum > self.left:
            raise UnsafeFileError(
                f"{self.path}: claims {count} arrays or names in {self.left} bytes"
            )
        return range(count)

    def skip(self, count: int) -> int:
        """Step over `count` bytes and return where they began."""
        start = self._file.tell()
        if count > self.left:
            raise UnsafeFileError(
                f"{self.path}: an array claims {count} bytes where there are {self.left}"
            )
        self._file.seek(count, 1)
        return start

    def text(self) -> str:
        (length,) = self.take("<Q")
        if length > min(MAX_NAME, self.left):
            raise UnsafeFileError(f"{self.path}: a name claims {length} bytes")
        return self._file.read(length).decode("utf-8", errors="replace")


def _array(cursor: _Cursor) -> tuple[str, Shape, int, int] | None:
    """Type, shape, offset and length of the array that begins here; None for an empty one."""
    (magic,) = cursor.take("<I")
    if magic in (V2, V3) and cursor.take("<i")[0] != 0:
        raise WeightsError(f"{cursor.path}: holds a sparse array, which no network here uses")
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


def _text(path: Path, note: LazyTensor) -> str:
    if note.dtype != "uint8" or len(note.shape) != 1 or note.nbytes > MAX_NAME:
        raise UnsafeFileError(f"{path}: {PREPROCESS} is not a short text")
    return note.fetch(0, note.shape[0]).tobytes().decode("utf-8", errors="replace")
