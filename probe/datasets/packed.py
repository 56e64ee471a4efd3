"""Many images in one file: what CIFAR, IDX and the digits have in common.

Labels and content hashes are remembered under the file's stamp, so that an unchanged dataset
answers without its pixels being read. Pixels are read when asked for; what is held in memory is
at most `OPEN_FILES` opened files, however many images are read.
"""

from __future__ import annotations

import hashlib
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from probe.datasets.spec import CONTENT_BYTES, Split
from probe.errors import DataError
from probe.memo import Memo, stamp_of

OPEN_FILES = 2  # a reader crossing from one file to the next needs both
HASHED_AT_ONCE = 1000


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The images of an opened file.

    Parameters
    ----------
    count : int
    read : callable
        (start, stop) to uint8, (stop - start, height, width, 3), C-contiguous RGB.
    """

    count: int
    read: Callable[[int, int], NDArray[np.uint8]]


class PackedFile(Protocol):
    """A file of images in one format. Can be pickled."""

    @property
    def path(self) -> Path:
        """The file with the pixels."""
        ...

    @property
    def labels_path(self) -> Path:
        """The file with the labels; often the same."""
        ...

    @property
    def kind(self) -> str:
        """The format, as the memo tells formats apart."""
        ...

    @property
    def labels_kind(self) -> str:
        """The format, and which of its labels."""
        ...

    def read_labels(self) -> NDArray[np.int32]:
        """Read and check the labels, (n_images,)."""
        ...

    def open(self) -> Rows:
        """Open the pixels and check that they are all there."""
        ...


def packed_split(
    name: str, files: Sequence[PackedFile], classes: Sequence[str], memo: Memo
) -> Split:
    """Return the images of some files, one after the other, with ids like ``train/00000``."""
    parts = _remembered(
        memo,
        [(file.labels_kind, file.labels_path, _labels_reader(file)) for file in files],
    )
    labels = [np.frombuffer(part, "<i4").astype(np.int32) for part in parts]
    for file, values in zip(files, labels, strict=True):
        _check_labels(file.labels_path, values, len(classes))
    sizes = [len(values) for values in labels]
    rows = np.stack(
        [
            np.repeat(np.arange(len(files)), sizes),
            np.concatenate([np.arange(size) for size in sizes]),
        ]
    )
    images = PackedImages(tuple(files), rows, memo, OpenFiles())
    ids = [f"{name}/{row:05d}" for row in range(rows.shape[1])]
    return Split(ids=ids, labels=np.concatenate(labels), images=images)


class PackedImages:
    """Images by (file, row in that file); see `probe.datasets.spec.Images`."""

    def __init__(
        self, files: tuple[PackedFile, ...], rows: NDArray[np.intp], memo: Memo, opened: OpenFiles
    ) -> None:
        self._files, self._rows, self._memo, self._opened = files, rows, memo, opened  # rows (2, n)

    def __len__(self) -> int:
        return self._rows.shape[1]

    def content(self) -> NDArray[np.uint8]:
        """Return the hash of each image's shape and pixels, (n_images, 16)."""
        whole = _remembered(
            self._memo,
            [(f"content-1/{file.kind}", file.path, self._hasher(file)) for file in self._files],
        )
        tables = [np.frombuffer(part, np.uint8).reshape(-1, CONTENT_BYTES) for part in whole]
        starts = np.cumsum([0, *(len(table) for table in tables)])
        table: NDArray[np.uint8] = np.concatenate(tables)
        chosen: NDArray[np.uint8] = table[starts[self._rows[0]] + self._rows[1]]
        return chosen

    def image(self, row: int) -> NDArray[np.uint8]:
        """Return one image as RGB, (height, width, 3)."""
        file, place = self._rows[:, row]
        rows = self._opened.get(self._files[file])
        image: NDArray[np.uint8] = rows.read(int(place), int(place) + 1)[0]
        return image

    def take(self, rows: NDArray[np.intp]) -> PackedImages:
        """Return the images of those rows, in that order."""
        return PackedImages(self._files, self._rows[:, rows], self._memo, self._opened)

    def _hasher(self, file: PackedFile) -> Callable[[], bytes]:
        return lambda: _hash_rows(self._opened.get(file))


class OpenFiles:
    """The files opened last; a copy in another process starts with none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: OrderedDict[PackedFile, Rows] = OrderedDict()

    def __reduce__(self) -> tuple[type[OpenFiles], tuple[()]]:
        return OpenFiles, ()

    def get(self, file: PackedFile) -> Rows:
        """Return an opened file; the one used longest ago is let go."""
        with self._lock:
            if file not in self._rows:
                while len(self._rows) >= OPEN_FILES:
                    self._rows.popitem(last=False)
                self._rows[file] = file.open()
            self._rows.move_to_end(file)
            return self._rows[file]


class Records:
    """Records of one size in a file, read with `pread`.

    Not a memory map: mapped pages count as this process's memory, and a file that is cut short
    while it is mapped kills the process.
    """

    def __init__(self, path: Path, *, offset: int, size: int) -> None:
        self._path, self._offset, self._size = path, offset, size
        self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)

    def read(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return records as uint8, (stop - start, size)."""
        wanted = (stop - start) * self._size
        data = os.pread(self._descriptor, wanted, self._offset + start * self._size)
        if len(data) != wanted:
            raise DataError(f"{self._path}: ends within image {stop - 1}; get the file again")
        return np.frombuffer(data, np.uint8).reshape(stop - start, self._size)


def grey_to_rgb(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (n, height, width) as (n, height, width, 3)."""
    return np.repeat(grey[..., None], 3, axis=-1)


def _remembered(memo: Memo, wanted: list[tuple[str, Path, Callable[[], bytes]]]) -> list[bytes]:
    """Return for each (kind, file, how to compute it) its bytes, computed once a stamp."""
    values = []
    for kind, path, compute in wanted:
        key = os.path.abspath(path)
        stamp = stamp_of(key)  # before reading: a change meanwhile makes the memo miss, not lie
        value = memo.get_many(kind, {key: stamp}).get(key)
        if value is None:
            value = compute()
            memo.put_many(kind, [(key, stamp, value)])
        values.append(value)
    return values


def _labels_reader(file: PackedFile) -> Callable[[], bytes]:
    return lambda: file.read_labels().astype("<i4").tobytes()


def _hash_rows(rows: Rows) -> bytes:
    digests = bytearray()
    for start in range(0, rows.count, HASHED_AT_ONCE):
        block = rows.read(start, min(start + HASHED_AT_ONCE, rows.count))
        shape = np.array(block.shape[1:], "<u4").tobytes()
        for pixels in block:
            digests += hashlib.blake2b(shape + pixels.tobytes(), digest_size=CONTENT_BYTES).digest()
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
