"""Check an HDF5 file's global heaps before the library walks them.

Text of variable length, such as Keras 3's layer names, lies in global heaps. The library trusts the
sizes in them (1.14 does) and a wrong one can make it walk for ever, which no time-out in Python can
stop; so the sizes are added up here first.

References
----------
HDF5 File Format Specification 3.0, III.E, Disk Format: Global Heap.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from probe.errors import UnsafeFileError

SIGNATURE = (
    b"GCOL\x01\0\0\0"  # with version 1, the only one; tensors hold these bytes by chance never
)
HEADER = 16
OBJECT = struct.Struct("<HH4xQ")  # index, references, size; index 0 is the free space at the end
BLOCK = 1 << 24
MAX_HEAP = 1 << 24


def check_heaps(path: Path, base: int, length: int) -> None:
    """Raise where a global heap's objects do not fill it exactly.

    Parameters
    ----------
    base, length : int
        Range of the file that is the HDF5 file, in bytes.

    Raises
    ------
    UnsafeFileError
        A heap claims more than it holds.
    """
    with path.open("rb") as file:
        for start in _signatures(file, base, base + length):
            file.seek(start + 8)
            (size,) = struct.unpack("<Q", file.read(8).ljust(8, b"\xff"))
            if not HEADER <= size <= min(MAX_HEAP, base + length - start):
                raise UnsafeFileError(
                    f"{path}: a heap of {size} bytes that are not there; it is damaged"
                )
            if not _adds_up(file.read(size - HEADER)):
                raise UnsafeFileError(
                    f"{path}: a heap whose parts are larger than itself; it is damaged"
                )


def _signatures(file: BinaryIO, start: int, end: int) -> Iterator[int]:
    overlap = len(SIGNATURE) - 1
    while start < end:
        file.seek(start)
        block = file.read(min(BLOCK + overlap, end - start))
        at = block.find(SIGNATURE)
        while at >= 0:
            yield start + at
            at = block.find(SIGNATURE, at + 1)
        start += BLOCK


def _adds_up(heap: bytes) -> bool:
    at = 0
    while len(heap) - at >= OBJECT.size:
        index, _, size = OBJECT.unpack_from(heap, at)
        if index == 0:  # its size counts its own header
            return bool(size == len(heap) - at)
        at += OBJECT.size + size + -size % 8
    return at <= len(heap)
