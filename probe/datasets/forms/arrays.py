"""Images in arrays of NumPy's files and of HDF5: pixels, with labels and columns beside them.

Arrays are told apart by their shapes and types, and by the words of their names: ``x_train`` and
``y_train``, ``train_images`` and ``train_labels``, ``images`` and ``labels``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.hdf5 import ForeignFile
from probe.core.records import NpzFile, check_regular, in_one_line, read_npy
from probe.datasets.forms.loading import Loading
from probe.datasets.forms.packed_table import dataset_of_packed, images_in
from probe.datasets.forms.shards import name_of
from probe.datasets.images.decode import MAX_PIXELS
from probe.datasets.images.packed import PackedFile, Records, Rows
from probe.datasets.spec import Dataset
from probe.datasets.split_names import name_words, split_words
from probe.datasets.tables.cells import BAR, Cells, Lines
from probe.datasets.tables.table import LABEL, LABELS
from probe.errors import DataError, ProbeError, UnsafeFileError

log = logging.getLogger(__name__)

NPZ, NPY, HDF5 = ".npz", ".npy", (".h5", ".hdf5")
ENDINGS = (NPZ, NPY, *HDF5)
IMAGES = frozenset(
    ("x", "image", "images", "img", "imgs", "data", "pixels", "pictures", "features", "input")
)
TARGETS = frozenset(
    ("y", "label", "labels", "target", "targets", "class", "classes", "category", "fine", "gt")
)
_NAMES = frozenset(("classnames", "labelnames", "targetnames", "categories", "names"))
_MOST_UNPACKED = 2**32  # bytes of pixels that are decompressed into memory
_MOST_CLASSES = 100_000
_SMALL, _MOST_UNFOLDED = 2**20, 1200  # bytes; deflate reaches 1,032 to 1
_CACHE = 2**26  # bytes of an HDF5 dataset's chunks in memory


@dataclass(frozen=True, kw_only=True)
class Stored:
    """An array in a file.

    Parameters
    ----------
    place : Path
    name : str
        Of the array in the file.
    start : int or None
        Where its values lie in the file; None where they do not lie there as they are in memory.
    read : callable
        Reads all of it.
    """

    place: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    start: int | None
    read: Callable[[], NDArray[Any]]

    @property
    def has_pixels(self) -> bool:
        """Whether it may be images: bytes in three dimensions, or in four with 1 or 3 channels."""
        shape, sides = self.shape, self.shape[1:3]
        if self.dtype != np.uint8 or len(shape) not in (3, 4):
            return False
        if len(shape) == 4 and shape[3] not in (1, 3):
            if shape[1] not in (1, 3):
                return False
            sides = shape[2:]
        return all(side > 1 for side in sides) and int(np.prod(sides)) <= MAX_PIXELS


@dataclass(frozen=True, kw_only=True)
class ArrayFile(PackedFile):
    """An array of images: (n, height, width), (n, height, width, channels) or channels first."""

    member: str
    stored: Stored = field(compare=False, repr=False)

    @property
    def kind(self) -> str:
        return f"array-{self.member}"

    def open(self) -> Rows:
        """Open the pixels."""
        shape = self.stored.shape
        size = int(np.prod(shape[1:]))
        if self.stored.start is not None:
            records = Records(self.path, offset=self.stored.start, size=size)

            def read(start: int, stop: int) -> NDArray[np.uint8]:
                return _rgb(records.read(start, stop).reshape(-1, *shape[1:]))

        elif self.path.name.lower().endswith(HDF5):
            rows = _Hdf5Rows(self.path, self.member)

            def read(start: int, stop: int) -> NDArray[np.uint8]:
                return _rgb(rows.read(start, stop))

        else:
            if shape[0] * size > _MOST_UNPACKED:
                raise DataError(
                    f"{self.path}: {self.member} has {shape[0] * size / 2**30:,.1f} GiB of "
                    "compressed pixels, which have to be in memory; `np.savez` or `np.save` "
                    "writes a file that is read as needed"
                )
            pixels = np.ascontiguousarray(self.stored.read())

            def read(start: int, stop: int) -> NDArray[np.uint8]:
                return _rgb(pixels[start:stop])

        return Rows(count=shape[0], read=read)


def load_arrays(place: Path, loading: Loading) -> Dataset:
    """Read the arrays beside the images.

    Parameters
    ----------
    place : Path
        An .npz, .npy or HDF5 file, or a folder of .npy files.

    Raises
    ------
    DataError
        No array, or more than one of a split, may be the images; arrays differ in length.
    """
    arrays = _arrays(place)
    names = _class_names(arrays)
    used: dict[str | None, tuple[Stored, dict[str, Stored]]] = {}
    for split, those in _by_split(arrays).items():
        pixels = _pixels(place, split, those)
        if pixels is not None:
            used[split] = (pixels, _beside(pixels, those))
    if not used:
        raise _no_images(place, arrays)
    if None in used and len(used) > 1:
        raise DataError(
            f"{place}: {used[None][0].name} is images, and no name says of which split; rename it"
        )
    columns = list(dict.fromkeys(name for _, beside in used.values() for name in beside))
    rows: list[list[str]] = []
    places, ids, splits = [], [], []
    images = images_in(
        [ArrayFile(path=one.place, member=one.name, stored=one) for one, _ in used.values()],
        loading,
    )
    for number, (split, (pixels, beside)) in enumerate(used.items()):
        count = pixels.shape[0]
        if missing := [name for name in columns if name not in beside]:
            raise DataError(f"{place}: {split} has no {missing[0]}, which other splits have")
        texts = [_texts(beside[name], names if name == LABEL else ()) for name in columns]
        rows += [list(row) for row in zip(*texts, strict=True)] if columns else [[]] * count
        places += [(number, row) for row in range(count)]
        ids += [f"{split or 'train'}/{row:05d}" for row in range(count)]
        splits += [split] * count
    if LABEL in columns and any(
        not row[columns.index(LABEL)] or BAR in row[columns.index(LABEL)] for row in rows
    ):
        columns[columns.index(LABEL)] = LABELS
    lines = Lines(place=str(place), numbers=range(len(rows)), unit="image")
    return dataset_of_packed(
        Cells(names=columns, rows=rows, lines=lines, header=f"{place}:"),
        ids,
        places,
        images,
        loading,
        name=name_of(place),
        root=place,
        splits=splits,
    )


def _arrays(place: Path) -> list[Stored]:
    """Return the arrays of a file or of a folder of .npy files."""
    if place.is_dir():
        files = sorted(one for one in place.iterdir() if one.name.lower().endswith(NPY))
        return [array for file in files for array in _arrays(file)]
    name = place.name.lower()
    if name.endswith(NPZ):
        npz = NpzFile(place)
        return [
            Stored(
                place=place, name=each, shape=shape, dtype=dtype, start=start,
                read=partial(npz.read, each),
            )
            for each in npz.names
            for shape, dtype, start in [npz.header(each)]
        ]  # fmt: skip
    if name.endswith(NPY):
        array = read_npy(place)
        start = getattr(array, "offset", None) if array.flags.c_contiguous else None
        return [
            Stored(
                place=place, name=place.stem, shape=array.shape, dtype=array.dtype, start=start,
                read=partial(read_npy, place),
            )
        ]  # fmt: skip
    return _hdf5_arrays(place)


def _hdf5_arrays(place: Path) -> list[Stored]:
    check_regular(place)
    found = []
    try:
        with ForeignFile(place) as file:
            for parts, one in file.datasets():
                if one.dtype.hasobject or one.dtype.kind not in "biufS" or one.shape is None:
                    continue
                claimed, stored = one.size * one.dtype.itemsize, one.id.get_storage_size()
                if claimed > max(_SMALL, _MOST_UNFOLDED * stored):
                    raise UnsafeFileError(
                        f"{place}: {'/'.join(parts)!r} claims {claimed:,} bytes and {stored:,} are "
                        "stored; most of it would be made up"
                    )
                name, contiguous = "/".join(parts), one.chunks is None and one.id.get_offset()
                found.append(
                    Stored(
                        place=place, name=name, shape=one.shape, dtype=one.dtype,
                        start=contiguous if isinstance(contiguous, int) and contiguous else None,
                        read=partial(_hdf5_whole, place, name),
                    )
                )  # fmt: skip
    except ProbeError:
        raise
    except Exception as error:
        raise DataError(f"{place}: not a readable HDF5 file ({in_one_line(error)})") from error
    return found


def _hdf5_whole(place: Path, name: str) -> NDArray[Any]:
    rows = _Hdf5Rows(place, name)
    return rows.read(0, None)


class _Hdf5Rows:
    """Rows of an HDF5 dataset, which threads may read in turn."""

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name, self._lock = path, name, threading.Lock()
        self._dataset: Any = None

    def read(self, start: int, stop: int | None) -> NDArray[Any]:
        """Return some rows."""
        with self._lock:
            try:
                if self._dataset is None:
                    file = ForeignFile(self._path, rdcc_nbytes=_CACHE)
                    self._dataset = file.dataset(self._name)
                found: NDArray[Any] = self._dataset[start:stop]
                return found
            except ProbeError:
                raise
            except Exception as error:
                raise DataError(
                    f"{self._path}: {self._name} cannot be read ({in_one_line(error)})"
                ) from error


def _by_split(arrays: Sequence[Stored]) -> dict[str | None, list[Stored]]:
    found: dict[str | None, list[Stored]] = {}
    for one in arrays:
        told = split_words([one.name], whole=False) or {}
        found.setdefault(told.get(one.name), []).append(one)
    return {split: found[split] for split in ("train", "val", "test", None) if split in found}


def _words(one: Stored) -> set[str]:
    return {*name_words(one.name.replace("/", " "))}


def _pixels(place: Path, split: str | None, arrays: Sequence[Stored]) -> Stored | None:
    there = [one for one in arrays if one.has_pixels]
    called = [one for one in there if _words(one) & IMAGES]
    if len(there) > 1 and len(called) != 1:
        where = f"{split}: " if split else ""
        raise DataError(
            f"{place}: {where}{', '.join(one.name for one in there)} may all be the images; name "
            "one of them `images`"
        )
    return next(iter(called or there), None)


def _beside(pixels: Stored, arrays: Sequence[Stored]) -> dict[str, Stored]:
    """Return the arrays with a value, or 0s and 1s, for each image, by the name of their column."""
    found = {}
    targets = []
    for one in arrays:
        if one is pixels or not one.shape or one.shape[0] != pixels.shape[0]:
            continue
        flat = len(one.shape) == 1 or (len(one.shape) == 2 and one.shape[1] == 1)
        flags = len(one.shape) == 2 and one.shape[1] > 1 and one.dtype.kind in "biuf"
        if _words(one) & TARGETS and (flat or flags):
            targets.append(one)
        elif flat:
            found[_column(one)] = one
    if len(targets) == 1:
        found[LABEL] = targets[0]
    else:
        found |= {_column(one): one for one in targets}
    return found


def _column(one: Stored) -> str:
    """Return what a column is called: an array's name without the word of its split."""
    words = [word for word in one.name.replace("/", "_").split("_") if word]
    kept = [word for word in words if split_words([word], whole=True) is None]
    return "_".join(kept) or one.name


def _class_names(arrays: Sequence[Stored]) -> Sequence[str]:
    for one in arrays:
        plain = "".join(_w for _w in name_words(one.name))
        if plain in _NAMES and one.dtype.kind in "US" and len(one.shape) == 1:
            if one.shape[0] > _MOST_CLASSES:
                continue
            return [_text(value) for value in one.read().tolist()]
    return ()


def _texts(one: Stored, names: Sequence[str]) -> list[str]:
    """Return the values of an array as the cells of a column."""
    values = one.read()
    if values.ndim == 2 and values.shape[1] > 1:
        return _flags(one, values, names)
    return [_named(_text(value), names) for value in values.reshape(-1).tolist()]


def _flags(one: Stored, values: NDArray[Any], names: Sequence[str]) -> list[str]:
    if not np.isin(values, (0, 1)).all():
        raise DataError(
            f"{one.place}: {one.name} has the shape {values.shape} and other values than 0 and 1; "
            "give a label an image, or a column of 0s and 1s a class"
        )
    columns = [_named(str(number), names) for number in range(values.shape[1])]
    if (values.sum(axis=1) == 1).all():
        return [columns[k] for k in values.argmax(axis=1)]
    return [BAR.join(columns[k] for k in np.flatnonzero(row)) for row in values]


def _named(text: str, names: Sequence[str]) -> str:
    number = int(text) if text.isdecimal() else -1
    return names[number] if 0 <= number < len(names) else text


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise DataError(f"the text {value[:40]!r} is not UTF-8; save it as such") from None
    return str(int(value)) if isinstance(value, bool) else str(value)


def _rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (n, height, width), with 1 or 3 channels last or first, as RGB."""
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    elif pixels.shape[3] not in (1, 3):
        pixels = pixels.transpose(0, 2, 3, 1)
    if pixels.shape[3] == 1:
        return np.repeat(pixels, 3, axis=-1)
    return np.ascontiguousarray(pixels)


def _no_images(place: Path, arrays: Sequence[Stored]) -> DataError:
    for one in arrays:
        if _words(one) & IMAGES and len(one.shape) in (3, 4) and one.dtype.kind == "f":
            return DataError(
                f"{place}: {one.name} has {one.dtype} pixels; save uint8 from 0 to 255 (nobody "
                "knows whether 0.5 is 127 or 128)"
            )
    there = ", ".join(f"{one.name} {one.dtype} {one.shape}" for one in arrays[:6])
    return DataError(
        f"{place}: has no array of images; expected uint8, (n, height, width, 3) or (n, height, "
        f"width), and there {'are ' + there if there else 'is none'}"
    )
