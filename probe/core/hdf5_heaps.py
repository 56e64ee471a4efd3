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
from typing import BinaryIO, Protocol

from probe.errors import UnsafeFileError

SIGNATURE = b"GCOL\x01\0\0\0"  # with version 1, the only one
HEADER = 16
OBJECT = struct.Struct("<HH4xQ")  # index, references, size; index 0 is the free space at the end
BLOCK = 1 << 24
MAX_HEAP = 1 << 24


class Visible(Protocol):
    """A file of which a part is hidden and reads as zeros."""

    def visible(self) -> Iterator[tuple[int, int]]:
        """Yield the ranges that are not hidden."""

    def seek(self, offset: int, /) -> int:
        """Go to a place."""

    def read(self, count: int, /) -> bytes | None:
        """Return the bytes from there on."""


class Beginning:
    """The first bytes of a plain file, as something `Visible`."""

    def __init__(self, raw: BinaryIO, size: int) -> None:
        self.seek, self.read, self._size = raw.seek, raw.read, size

    def visible(self) -> Iterator[tuple[int, int]]:
        yield 0, self._size


def check_heaps(path: Path, file: Visible) -> int:
    """Return the bytes of the largest global heap; raise where objects do not fill one exactly.

    Parameters
    ----------
    path : Path
        For messages.
    file : Visible
        What the library will see. The tensors should be hidden in it: they are most of a file, and
        looking through them takes longer than reading it.

    Raises
    ------
    UnsafeFileError
        A heap claims more than it holds.
    """
    largest = 0
    for start, stop in file.visible():
        for at in _signatures(file, start, stop):
            (size,) = struct.unpack("<Q", _read(file, at + 8, 8).ljust(8, b"\xff"))
            if not HEADER <= size <= MAX_HEAP:
                raise UnsafeFileError(
                    f"{path}: a heap of {size} bytes that are not there; it is damaged"
                )
            heap = _read(file, at + HEADER, size - HEADER)
            if len(heap) != size - HEADER or not _adds_up(heap):
                raise UnsafeFileError(
                    f"{path}: a heap whose parts are larger than itself; it is damaged"
                )
            largest = max(largest, size)
    return largest


def _read(file: Visible, at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(count) or b""


def _signatures(file: Visible, start: int, stop: int) -> Iterator[int]:
    overlap = len(SIGNATURE) - 1  # into what is hidden, too: its zeros can end a signature
    while start < stop:
        block = _read(file, start, min(BLOCK, stop - start) + overlap)
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
