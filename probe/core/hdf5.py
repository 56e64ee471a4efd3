"""Check HDF5 files from elsewhere before the library reads them.

HDF5 can keep a dataset's bytes in any file that it names (external storage), take parts of it from
other files (virtual datasets), and link to objects of other files. All of that is refused before
anything is read, since what is read becomes features or weights that the user may pass on.

Text of variable length, such as Keras 3's layer names, lies in global heaps. The library trusts the
sizes in them (1.14 does), and a wrong one can make it loop for ever, which no time-out in Python
can stop; so the sizes are added up here first.

References
----------
HDF5 File Format Specification 3.0: III.E, Disk Format: Global Heap; IV.A.2.h, Data Storage -
External Data Files; VII.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol, Self

from probe.core.regular import refuse
from probe.errors import UnsafeFileError

MAX_DEPTH = 12
MAX_OBJECTS = 100_000
SIGNATURE = b"GCOL\x01\0\0\0"  # with version 1, the only one
HEADER = 16
OBJECT = struct.Struct("<HH4xQ")  # index, references, size; index 0 is the free space at the end
BLOCK = 1 << 24
MAX_HEAP = 1 << 24


class Part(io.RawIOBase):
    """A range of a file as a file: HDF5 sees nothing else, so no link reaches another file.

    Ranges within it can be hidden and then read as zeros.
    """

    def __init__(self, file: Any, base: int, length: int) -> None:
        super().__init__()
        self._file, self._base, self._length, self._at = file, base, length, 0
        self._hidden: list[tuple[int, int]] = []

    def hide(self, start: int | None, length: int) -> None:
        """Hide a contiguous range; a tensor in chunks has no `start`."""
        if start is not None and length > 0:
            self._hidden.append((start, min(start + length, self._length)))

    def visible(self) -> Iterator[tuple[int, int]]:
        """Yield the ranges that are not hidden."""
        at = 0
        for start, stop in sorted(self._hidden):
            if start > at:
                yield at, start
            at = max(at, stop)
        if at < self._length:
            yield at, self._length

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self._length - self._at))
        self._file.seek(self._base + self._at)
        data = self._file.read(count)
        buffer[: len(data)] = data
        for start, stop in self._hidden:
            low, high = max(start - self._at, 0), min(stop - self._at, len(data))
            if low < high:
                buffer[low:high] = bytes(high - low)
        self._at += len(data)
        return len(data)


class ForeignFile:
    """An HDF5 file from elsewhere, open for reading: of its datasets only its own data are read.

    Parameters
    ----------
    path : Path
        For messages, and what is opened where there is no `source`.
    source : file-like object, optional
        What the library reads instead.
    options
        Of `h5py.File`.

    Attributes
    ----------
    file : h5py.File
        For attributes, which lie in the file.

    Raises
    ------
    OSError
        It is no HDF5 file, or no regular file.
    """

    def __init__(self, path: Path, source: Any = None, **options: Any) -> None:
        import h5py

        if source is None:
            refuse(path, path.stat())
        self.path = path
        self.file = h5py.File(path if source is None else source, "r", **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def datasets(self, passed_over: Collection[str] = ()) -> Iterator[tuple[list[str], Any]]:
        """Yield every dataset with the names that lead to it.

        Parameters
        ----------
        passed_over : collection of str
            Names of groups to skip.

        Raises
        ------
        UnsafeFileError
            There is a link to another object, groups are nested too deeply, or a dataset keeps its
            data in another file.
        """
        import h5py

        waiting: list[tuple[list[str], Any]] = [([], self.file)]
        seen = 0
        while waiting:
            parts, group = waiting.pop()
            for key in group:
                seen += 1
                if seen > MAX_OBJECTS or len(parts) > MAX_DEPTH:  # hard links can form a circle
                    raise UnsafeFileError(f"{self.path}: groups nested without end")
                self._check_link(group, key, "/".join([*parts, key]))
                one = group[key]
                if isinstance(one, h5py.Group):
                    if key not in passed_over:
                        waiting.append(([*parts, key], one))
                elif isinstance(one, h5py.Dataset):
                    yield [*parts, key], self._own(one)

    def dataset(self, place: Any) -> Any:
        """Return one dataset, by its name or by a reference to it.

        Raises
        ------
        UnsafeFileError
            As `datasets`.
        KeyError
            There is none.
        """
        group = self.file
        if isinstance(place, str):
            *above, place = place.split("/")
            for done, key in enumerate(above):
                self._check_link(group, key, "/".join(above[: done + 1]))
                group = group[key]
            self._check_link(group, place, "/".join([*above, place]))
        return self._own(group[place])

    def _check_link(self, group: Any, key: str, name: str) -> None:
        import h5py

        if not isinstance(group.get(key, getlink=True), h5py.HardLink):
            raise UnsafeFileError(f"{self.path}: {name!r} is a link to somewhere else")

    def _own(self, dataset: Any) -> Any:
        """Return a dataset; raise UnsafeFileError where its bytes lie in other files."""
        import h5py

        if isinstance(dataset, h5py.Dataset):
            about = dataset.id.get_create_plist()
            if about.get_external_count() or about.get_layout() == h5py.h5d.VIRTUAL:
                raise UnsafeFileError(
                    f"{self.path}: {dataset.name!r} keeps its data in another file; nothing was "
                    "read"
                )
        return dataset


class Visible(Protocol):
    """A file with hidden ranges, which read as zeros."""

    def visible(self) -> Iterator[tuple[int, int]]:
        """Yield the ranges that are not hidden."""

    def seek(self, offset: int, /) -> int:
        """Move to an offset."""

    def read(self, count: int, /) -> bytes | None:
        """Return bytes from the current offset."""


class Beginning:
    """The first bytes of a plain file, none of them hidden."""

    def __init__(self, raw: BinaryIO, size: int) -> None:
        self.seek, self.read, self._size = raw.seek, raw.read, size

    def visible(self) -> Iterator[tuple[int, int]]:
        yield 0, self._size


def check_heaps(path: Path, file: Visible) -> int:
    """Check that objects fill each global heap exactly; return the largest heap's size in bytes.

    Parameters
    ----------
    path : Path
        For messages.
    file : Visible
        What the library will see. Tensors should be hidden: they are most of a file and take long
        to search.

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
