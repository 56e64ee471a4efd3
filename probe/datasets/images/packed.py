"""Datasets with many images in one file: what CIFAR, IDX, archives and records have in common.

Content hashes are kept in the memo under the file's stamp, so that an unchanged dataset needs no
decoding; where a part of a file's images is wanted, that part alone is hashed. Labels are read
each time; where that is slow they are kept with a hash of the whole file, since no other check
would notice a wrong label. Images are hashed again when they are read, as files are. At most
`OPEN_FILES` opened files are in memory.
"""

from __future__ import annotations

import errno
import os
import threading
import weakref
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import xxhash
from numpy.typing import NDArray

from probe.core.indexing import row_number, row_numbers
from probe.core.memo import Memo, Stamp, stamp_of
from probe.core.regular import open_regular, patiently
from probe.datasets.images.decode import decode
from probe.datasets.images.files import decodes_kind
from probe.datasets.images.image_inputs import pixel_content
from probe.datasets.images.notes import Notes
from probe.datasets.spec import CONTENT_BYTES, Split
from probe.errors import DataError, ImageError

T = TypeVar("T")

OPEN_FILES = 2  # reading on from one file into the next needs both
HASHED_AT_ONCE = 200  # images, by one thread


class Opened(Protocol):
    """The images in an opened file, read one by one. Safe to call from several threads."""

    @property
    def count(self) -> int: ...

    def content(self, place: int) -> bytes:
        """Return what identifies an image, 16 bytes."""
        ...

    def image(self, place: int, content: bytes | None, notes: Notes) -> NDArray[np.uint8] | None:
        """Return an image as RGB, (height, width, 3); None where `content` is not its own."""
        ...

    def encoded(self, place: int) -> bytes | None:
        """Return the bytes of an image's file; None where its pixels alone are stored."""
        ...


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The pixels in an opened file; see `Opened`.

    Parameters
    ----------
    read : callable
        (start, stop) to uint8, (stop - start, height, width, 3), C-contiguous RGB.
    """

    count: int
    read: Callable[[int, int], NDArray[np.uint8]]

    def content(self, place: int) -> bytes:
        """Return the hash of an image's shape and pixels."""
        return pixel_content(self.read(place, place + 1)[0])

    def image(self, place: int, content: bytes | None, notes: Notes) -> NDArray[np.uint8] | None:  # noqa: ARG002
        """Return an image; None where its pixels have another hash."""
        image: NDArray[np.uint8] = self.read(place, place + 1)[0]
        return image if content is None or pixel_content(image) == content else None

    def encoded(self, place: int) -> None:
        """Return None: the pixels alone are stored."""


@dataclass(frozen=True, kw_only=True)
class PackedFile(ABC):
    """A file of images in one format. Can be pickled.

    Attributes
    ----------
    path : Path
    kind : str
        The format, for the memo.
    """

    path: Path

    @property
    @abstractmethod
    def kind(self) -> str: ...

    @abstractmethod
    def open(self) -> Opened:
        """Open the images and check that they are all there."""

    def sent(self, places: NDArray[np.intp]) -> tuple[PackedFile, NDArray[np.intp]]:
        """Return what another process, in another folder, reads some images by; and their places.

        Parameters
        ----------
        places : intp, (n,)
            Of the images in the file.
        """
        return replace(self, path=Path(os.path.abspath(self.path))), places


@dataclass(frozen=True, kw_only=True)
class LabelledFile(PackedFile):
    """A file of images that has their labels, or another file beside it has.

    Attributes
    ----------
    labels_path : Path
        The file with the labels; usually the same.
    labels_kind : str or None
        The format and its kind of labels, for the memo; None where labels are read quickly.
    """

    @property
    def labels_path(self) -> Path:
        return self.path

    @property
    def labels_kind(self) -> str | None:
        return None

    @abstractmethod
    def read_labels(self) -> NDArray[np.int32]:
        """Read and check the labels, (n_images,)."""


def packed_split(
    name: str, files: Sequence[LabelledFile], classes: Sequence[str], memo: Memo
) -> Split:
    """Return the images of some files, one after the other, with ids like ``train/00000``."""
    stamps = {path: file_stamp(path) for file in files for path in (file.labels_path, file.path)}
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
    images = PackedImages(tuple(files), rows, memo, stamps=stamps)
    ids = [f"{name}/{row:05d}" for row in range(rows.shape[1])]
    return Split(ids=ids, labels=np.concatenate(labels), images=images)


class PackedImages:
    """Images by (file, row in that file); see `probe.datasets.spec.Images`.

    Parameters
    ----------
    rows : intp, (2, n_images)
        Number of the file, and row in it.
    stamps : mapping of Path to Stamp
        Of all files of images and labels, taken before the labels were read.
    workers : int
        Threads that hash and check images.
    """

    def __init__(
        self,
        files: tuple[PackedFile, ...],
        rows: NDArray[np.intp],
        memo: Memo,
        *,
        stamps: Mapping[Path, Stamp],
        workers: int = 1,
    ) -> None:
        self._files, self._rows, self._memo, self._workers = files, rows, memo, workers
        self._stamps, self._opened = stamps, OpenFiles()
        self._content: NDArray[np.uint8] | None = None
        self.notes = Notes()  # unusual properties of the decoded images

    def __len__(self) -> int:
        return self._rows.shape[1]

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs to read these images, and no index of all others."""
        if self._content is None:  # it may hash them, and remember that of whole files
            return self.__dict__
        files: list[PackedFile] = []
        rows = np.empty_like(self._rows)
        for number in np.unique(self._rows[0]).tolist():
            here = self._rows[0] == number
            file, places = self._files[number].sent(self._rows[1, here])
            rows[:, here] = np.stack([np.full(len(places), len(files)), places])
            files.append(file)
        return {**self.__dict__, "_files": tuple(files), "_rows": rows, "_stamps": {}}

    def content(self) -> NDArray[np.uint8]:
        """Return the hash of each image, (n_images, 16), as it was when first asked for.

        Raises
        ------
        DataError
            A file was changed since its labels were read.
        """
        if self._content is None:
            table = np.zeros((len(self), CONTENT_BYTES), np.uint8)
            for number, file in enumerate(self._files):
                here = np.flatnonzero(self._rows[0] == number)
                if len(here):
                    table[here] = self._hashed(file, self._rows[1, here])
            self._content = table
            for path, stamp in self._stamps.items():
                if file_stamp(path) != stamp:
                    raise _changed(path, "this file")
        return self._content

    def _hashed(self, file: PackedFile, places: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Return the hashes of some of a file's images, (n, 16).

        They come from the memo where the file is unchanged, and go there where they are of all.
        """
        kind, path, stamp = f"content-1/{file.kind}", _place(file.path), self._stamps[file.path]
        value = self._memo.get_many(kind, {path: stamp}).get(path)
        if value is not None:
            return np.frombuffer(value, np.uint8).reshape(-1, CONTENT_BYTES)[places]
        rows = self._opened.get(file)
        value = b"".join(self._each(rows.content, places))
        table = np.frombuffer(value, np.uint8).reshape(-1, CONTENT_BYTES)
        if len(places) == rows.count:
            order = np.argsort(places)
            if np.array_equal(places[order], np.arange(rows.count)):
                self._memo.put_many(kind, [(path, stamp, table[order].tobytes())])
        return table

    def _each(self, function: Callable[[int], T], places: NDArray[np.intp]) -> Iterator[T]:
        """Yield a function's values at some places of a file, in order, computed by threads."""
        parts = [
            places[start : start + HASHED_AT_ONCE]
            for start in range(0, len(places), HASHED_AT_ONCE)
        ]
        if self._workers == 1 or len(parts) == 1:
            yield from (function(place) for place in places.tolist())
            return
        with ThreadPoolExecutor(self._workers) as pool:
            for values in pool.map(lambda part: [function(one) for one in part.tolist()], parts):
                yield from values

    def image(self, row: int) -> NDArray[np.uint8]:
        """Return one image as RGB, (height, width, 3).

        Raises
        ------
        ImageError
            It cannot be decoded.
        DataError
            It was changed since `content` hashed it: its features would get a wrong key.
        """
        row = row_number(row, len(self))
        number, place = self._rows[:, row].tolist()
        file = self._files[number]
        expected = None if self._content is None else self._content[row].tobytes()
        image = self._opened.get(file).image(place, expected, self.notes)
        if image is None:
            self._memo.forget_if_possible(_place(file.path))
            raise _changed(file.path, f"image {place}")
        return image

    def encoded(self, row: int) -> bytes | None:
        """Return the bytes of one image's file; None where its pixels alone are stored."""
        number, place = self._rows[:, row_number(row, len(self))].tolist()
        return self._opened.get(self._files[number]).encoded(place)

    def unreadable(self) -> dict[int, str]:
        """Decode every encoded image that no earlier run decoded; return each bad row's error."""
        bad: dict[int, str] = {}
        for number, file in enumerate(self._files):
            rows = np.flatnonzero(self._rows[0] == number)
            if len(rows):
                bad |= self._unreadable_of(file, rows)
        return dict(sorted(bad.items()))

    def _unreadable_of(self, file: PackedFile, rows: NDArray[np.intp]) -> dict[int, str]:
        """Return the error of each bad row of a file; the memo keeps which of all are good."""
        opened, kind = self._opened.get(file), f"{decodes_kind()}/{file.kind}"
        path, stamp, places = _place(file.path), self._stamps[file.path], self._rows[1, rows]
        known = self._memo.get_many(kind, {path: stamp}).get(path)
        good = np.frombuffer(known or bytes(opened.count), np.uint8).copy()
        todo = np.flatnonzero(good[places] == 0)

        def reason(place: int) -> str:
            try:
                data = opened.encoded(place)
                if data is not None:
                    decode(data, "")
            except ImageError as error:
                return error.reason
            except DataError as error:
                return str(error)
            return ""

        reasons = dict(zip(todo.tolist(), self._each(reason, places[todo]), strict=True))
        good[places[todo]] = [not one for one in reasons.values()]
        if len(todo) and len({*places.tolist()}) == opened.count:
            self._memo.put_many(kind, [(path, stamp, good.tobytes())])
        return {int(rows[one]): text for one, text in reasons.items() if text}

    def take(self, rows: NDArray[np.intp]) -> PackedImages:
        """Return the images of those rows, in that order."""
        rows = row_numbers(rows, len(self))
        taken = PackedImages(
            self._files, self._rows[:, rows], self._memo, stamps=self._stamps,
            workers=self._workers,
        )  # fmt: skip
        taken._opened, taken.notes = self._opened, self.notes
        taken._content = None if self._content is None else self._content[rows]
        return taken


class OpenFiles:
    """The most recently opened files; a copy in another process starts empty."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: OrderedDict[PackedFile, Opened] = OrderedDict()

    def __reduce__(self) -> tuple[type[OpenFiles], tuple[()]]:
        return OpenFiles, ()

    def get(self, file: PackedFile) -> Opened:
        """Return an opened file, closing the least recently used one."""
        with self._lock:
            if file not in self._rows:
                while len(self._rows) >= OPEN_FILES:
                    self._rows.popitem(last=False)
                self._rows[file] = file.open()
            self._rows.move_to_end(file)
            return self._rows[file]


class ByteFile:
    """An opened file, which threads may read at once.

    Not a memory map: mapped pages count as this process's memory, and truncating a mapped file
    kills the process.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._seeking = path, threading.Lock()
        try:
            self._descriptor = patiently(self._open)
        except OSError as error:
            raise _unreadable(path, error) from error

    def _open(self) -> int:
        file = open_regular(self._path, buffering=0)
        weakref.finalize(self, file.close)
        return file.fileno()

    def read(self, start: int, size: int) -> bytes:
        """Return bytes from an offset on, fewer where the file ends within them."""
        try:
            return patiently(lambda: self._read(start, size))
        except OSError as error:
            raise _unreadable(self._path, error) from error

    def _read(self, start: int, size: int) -> bytes:
        if hasattr(os, "pread"):
            try:
                return os.pread(self._descriptor, size, start)
            except OSError as error:
                if error.errno == errno.ESTALE:  # the server forgot the file that was opened
                    self._descriptor = self._open()
                raise
        with self._seeking:  # Windows
            os.lseek(self._descriptor, start, os.SEEK_SET)
            return os.read(self._descriptor, size)


class Records:
    """Records of one size in a file, which threads may read at once."""

    def __init__(self, path: Path, *, offset: int, size: int) -> None:
        self._path, self._offset, self._size, self._file = path, offset, size, ByteFile(path)

    def read(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return records as uint8, (stop - start, size)."""
        wanted = (stop - start) * self._size
        data = self._file.read(self._offset + start * self._size, wanted)
        if len(data) != wanted:
            raise DataError(f"{self._path}: ends within image {stop - 1}; get the file again")
        return np.frombuffer(data, np.uint8).reshape(stop - start, self._size)


def grey_to_rgb(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (n, height, width) as (n, height, width, 3)."""
    return np.repeat(grey[..., None], 3, axis=-1)


def _labels(file: LabelledFile, memo: Memo) -> NDArray[np.int32]:
    """Return the labels of a file, from the memo where its bytes have the same hash."""
    if file.labels_kind is None:
        return file.read_labels()
    place, stamp = _place(file.labels_path), file_stamp(file.labels_path)
    proof = _digest(file.labels_path)
    value = memo.get_many(file.labels_kind, {place: stamp}).get(place, b"")
    if value[: len(proof)] == proof:
        return np.frombuffer(value[len(proof) :], "<i4").astype(np.int32)
    labels = file.read_labels()
    memo.put_many(file.labels_kind, [(place, stamp, proof + labels.astype("<i4").tobytes())])
    return labels


def _digest(path: Path) -> bytes:
    """Return the xxh3-128 of a file; 30 MB of a CIFAR batch take some hundredths of a second."""

    def digest() -> bytes:
        hasher = xxhash.xxh3_128()
        with open_regular(path, buffering=0) as file:
            while block := file.read(1 << 20):
                hasher.update(block)
        return hasher.digest()

    try:
        return patiently(digest)
    except OSError as error:
        raise _unreadable(path, error) from error


def _place(path: Path) -> str:
    return os.path.abspath(path)


def file_stamp(path: Path) -> Stamp:
    """Return a file's stamp; raise DataError where there is none."""
    try:
        return patiently(lambda: stamp_of(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be opened: {error.strerror or error}") from error


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path}: cannot be read: {error.strerror or error}")


def _changed(path: Path, what: str) -> DataError:
    return DataError(
        f"{path}: {what} was changed since this command looked at it; run the same command again"
    )


def _check_labels(path: Path, labels: NDArray[np.int32], n_classes: int) -> None:
    if len(labels) == 0:
        raise DataError(f"{path}: holds no images; get the file again")
    wrong = np.flatnonzero((labels < 0) | (labels >= n_classes))
    if len(wrong):
        raise DataError(
            f"{path}: the label of image {wrong[0]} is {labels[wrong[0]]}, out of range 0 to "
            f"{n_classes - 1}; the file is damaged or of another dataset, get it again"
        )
