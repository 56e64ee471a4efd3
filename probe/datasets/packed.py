"""Datasets with many images in one file: what CIFAR, IDX and the digits have in common.

Content hashes are kept in the memo under the file's stamp, so that an unchanged dataset needs no
decoding. Labels are read each time; where that is slow they are kept with a hash of the whole file,
since no other check would notice a wrong label. Pixels are hashed again when they are read, as
files are. At most `OPEN_FILES` opened files are in memory.
"""

from __future__ import annotations

import os
import threading
import weakref
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from probe.core.indexing import row_number, row_numbers
from probe.core.memo import Memo, Stamp, stamp_of
from probe.datasets.image_inputs import pixel_content
from probe.datasets.spec import CONTENT_BYTES, Split
from probe.errors import DataError

OPEN_FILES = 2  # reading on from one file into the next needs both
HASHED_AT_ONCE = 1000


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The images in an opened file.

    Parameters
    ----------
    read : callable
        (start, stop) to uint8, (stop - start, height, width, 3), C-contiguous RGB.
    """

    count: int
    read: Callable[[int, int], NDArray[np.uint8]]


@dataclass(frozen=True, kw_only=True)
class PackedFile(ABC):
    """A file of images in one format. Can be pickled.

    Attributes
    ----------
    path, labels_path : Path
        The files with the pixels and with the labels; usually the same.
    kind : str
        The format, for the memo.
    labels_kind : str or None
        The format and its kind of labels, for the memo; None where labels are read quickly.
    """

    path: Path

    @property
    def labels_path(self) -> Path:
        return self.path

    @property
    @abstractmethod
    def kind(self) -> str: ...

    @property
    def labels_kind(self) -> str | None:
        return None

    @abstractmethod
    def read_labels(self) -> NDArray[np.int32]:
        """Read and check the labels, (n_images,)."""

    @abstractmethod
    def open(self) -> Rows:
        """Open the pixels and check that they are all there."""


def packed_split(
    name: str, files: Sequence[PackedFile], classes: Sequence[str], memo: Memo
) -> Split:
    """Return the images of some files, one after the other, with ids like ``train/00000``."""
    stamps = {path: _stamp(path) for file in files for path in (file.labels_path, file.path)}
    labels = [_labels(file, memo) for file in files]
    for file, values in zip(files, labels, strict=True):
        _check_labels(file.labels_path, values, len(classes))
    sizes = [len(values) for values in labels]
    rows = np.stack(
        [
            np.repeat(np.arange(len(files)), sizes),
            np.concatenate([np.arange(size) for size in sizes]),
        ]
    )
    images = PackedImages(tuple(files), rows, memo, OpenFiles(), stamps)
    ids = [f"{name}/{row:05d}" for row in range(rows.shape[1])]
    return Split(ids=ids, labels=np.concatenate(labels), images=images)


class PackedImages:
    """Images by (file, row in that file); see `probe.datasets.spec.Images`.

    Parameters
    ----------
    rows : intp, (2, n_images)
        Number of the file, and row in it.
    stamps : mapping of Path to Stamp
        Of all files of pixels and labels, taken before the labels were read.
    """

    def __init__(
        self,
        files: tuple[PackedFile, ...],
        rows: NDArray[np.intp],
        memo: Memo,
        opened: OpenFiles,
        stamps: Mapping[Path, Stamp],
    ) -> None:
        self._files, self._rows, self._memo, self._opened = files, rows, memo, opened
        self._stamps = stamps
        self._content: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return self._rows.shape[1]

    def content(self) -> NDArray[np.uint8]:
        """Return the hash of each image's shape and pixels, (n_images, 16), as first asked for.

        Raises
        ------
        DataError
            A file was changed since its labels were read.
        """
        if self._content is None:
            tables = [self._hashed(file) for file in self._files]
            starts = np.cumsum([0, *(len(table) for table in tables)])
            table: NDArray[np.uint8] = np.concatenate(tables)
            self._content = table[starts[self._rows[0]] + self._rows[1]]
            for path, stamp in self._stamps.items():
                if _stamp(path) != stamp:
                    raise _changed(path, "this file")
        return self._content

    def _hashed(self, file: PackedFile) -> NDArray[np.uint8]:
        """Return the hashes of a file's images, (n, 16), from the memo where it is unchanged."""
        kind, place, stamp = f"content-1/{file.kind}", _place(file.path), self._stamps[file.path]
        value = self._memo.get_many(kind, {place: stamp}).get(place)
        if value is None:
            value = _hash_rows(self._opened.get(file))
            self._memo.put_many(kind, [(place, stamp, value)])
        return np.frombuffer(value, np.uint8).reshape(-1, CONTENT_BYTES)

    def image(self, row: int) -> NDArray[np.uint8]:
        """Return one image as RGB, (height, width, 3).

        Raises
        ------
        DataError
            It was changed since `content` hashed it: its features would get a wrong key.
        """
        row = row_number(row, len(self))
        number, place = self._rows[:, row].tolist()
        file = self._files[number]
        image: NDArray[np.uint8] = self._opened.get(file).read(place, place + 1)[0]
        if self._content is not None and pixel_content(image) != self._content[row].tobytes():
            self._memo.forget_if_possible(_place(file.path))
            raise _changed(file.path, f"image {place}")
        return image

    def take(self, rows: NDArray[np.intp]) -> PackedImages:
        """Return the images of those rows, in that order."""
        rows = row_numbers(rows, len(self))
        taken = PackedImages(
            self._files, self._rows[:, rows], self._memo, self._opened, self._stamps
        )
        taken._content = None if self._content is None else self._content[rows]
        return taken


class OpenFiles:
    """The most recently opened files; a copy in another process starts empty."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: OrderedDict[PackedFile, Rows] = OrderedDict()

    def __reduce__(self) -> tuple[type[OpenFiles], tuple[()]]:
        return OpenFiles, ()

    def get(self, file: PackedFile) -> Rows:
        """Return an opened file, closing the least recently used one."""
        with self._lock:
            if file not in self._rows:
                while len(self._rows) >= OPEN_FILES:
                    self._rows.popitem(last=False)
                self._rows[file] = file.open()
            self._rows.move_to_end(file)
            return self._rows[file]


class Records:
    """Records of one size in a file, which threads may read at once.

    Not a memory map: mapped pages count as this process's memory, and truncating a mapped file
    kills the process.
    """

    def __init__(self, path: Path, *, offset: int, size: int) -> None:
        self._path, self._offset, self._size = path, offset, size
        self._seeking = threading.Lock()
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        weakref.finalize(self, os.close, self._descriptor)

    def read(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return records as uint8, (stop - start, size)."""
        wanted = (stop - start) * self._size
        offset = self._offset + start * self._size
        if hasattr(os, "pread"):
            data = os.pread(self._descriptor, wanted, offset)
        else:  # Windows
            with self._seeking:
                os.lseek(self._descriptor, offset, os.SEEK_SET)
                data = os.read(self._descriptor, wanted)
        if len(data) != wanted:
            raise DataError(f"{self._path}: ends within image {stop - 1}; get the file again")
        return np.frombuffer(data, np.uint8).reshape(stop - start, self._size)


def grey_to_rgb(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (n, height, width) as (n, height, width, 3)."""
    return np.repeat(grey[..., None], 3, axis=-1)


def _labels(file: PackedFile, memo: Memo) -> NDArray[np.int32]:
    """Return the labels of a file, from the memo where its bytes have the same hash."""
    if file.labels_kind is None:
        return file.read_labels()
    place, stamp = _place(file.labels_path), _stamp(file.labels_path)
    proof = _digest(file.labels_path)
    value = memo.get_many(file.labels_kind, {place: stamp}).get(place, b"")
    if value[: len(proof)] == proof:
        return np.frombuffer(value[len(proof) :], "<i4").astype(np.int32)
    labels = file.read_labels()
    memo.put_many(file.labels_kind, [(place, stamp, proof + labels.astype("<i4").tobytes())])
    return labels


def _digest(path: Path) -> bytes:
    """Return the xxh3-128 of a file; 30 MB of a CIFAR batch take some hundredths of a second."""
    hasher = xxhash.xxh3_128()
    try:
        with path.open("rb", buffering=0) as file:
            while block := file.read(1 << 20):
                hasher.update(block)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    return hasher.digest()


def _place(path: Path) -> str:
    return os.path.abspath(path)


def _stamp(path: Path) -> Stamp:
    try:
        return stamp_of(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be opened: {error.strerror or error}") from error


def _changed(path: Path, what: str) -> DataError:
    return DataError(
        f"{path}: {what} was changed since this command looked at it; run the same command again"
    )


def _hash_rows(rows: Rows) -> bytes:
    digests = bytearray()
    for start in range(0, rows.count, HASHED_AT_ONCE):
        for image in rows.read(start, min(start + HASHED_AT_ONCE, rows.count)):
            digests += pixel_content(image)
    return bytes(digests)


def _check_labels(path: Path, labels: NDArray[np.int32], n_classes: int) -> None:
    if len(labels) == 0:
        raise DataError(f"{path}: holds no images; get the file again")
    wrong = np.flatnonzero((labels < 0) | (labels >= n_classes))
    if len(wrong):
        raise DataError(
            f"{path}: the label of image {wrong[0]} is {labels[wrong[0]]}, out of range 0 to "
            f"{n_classes - 1}; the file is damaged or of another dataset, get it again"
        )
