"""Load the datasets of MXNet's: lists of image files (.lst), and files of records (.rec)."""

from __future__ import annotations

import logging
import os
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.memo import Stamp
from probe.core.short_repr import short_repr
from probe.datasets.classes import UNLABELED
from probe.datasets.forms.loading import Loading, ids_of
from probe.datasets.forms.lst import LST, images_root, read_lst
from probe.datasets.forms.number_labels import (
    Classes,
    Names,
    chosen_labels,
    classes_of,
    names_in,
    names_of_folders,
)
from probe.datasets.forms.recordio import INDEX, RECORDS, image_of, read_index, read_records
from probe.datasets.forms.shards import files_by_split, name_of
from probe.datasets.images.encoded import EncodedFile
from probe.datasets.images.packed import PackedImages, file_stamp
from probe.datasets.spec import SPLITS, BadImage, Dataset, Split
from probe.datasets.split_names import EXACT, split_words, tells_apart
from probe.datasets.tables.name_patterns import chosen
from probe.errors import DataError
from probe.evaluation.task import task_of

log = logging.getLogger(__name__)

Where = Callable[[int], str]  # row -> the words for it


def load_lst(file: Path, loading: Loading) -> Dataset:
    """Read a list of MXNet's; no image is opened.

    Images keep the order of the lines; their ids are the paths as written; all are train.
    `classes_of` says which labels are classes; they are called as a ``classes.txt`` or
    ``synset.txt`` beside the list says, or by the folders of the images, or else by their numbers.

    Raises
    ------
    DataError
        The list is something else, names an image twice, or has labels that are no classes; the
        message has the line.
    """
    listed, options = read_lst(file), loading.options
    root = images_root(file, listed, loading.root, is_there=loading.is_there)
    _check_split_folders(file, listed.paths)
    first: dict[str, int] = {}
    for path, line in zip(listed.paths, listed.lines, strict=True):
        before = first.setdefault(path, line)
        if before != line:
            raise DataError(
                f"{file}: line {line} names {path!r} again, after line {before}; keep one"
            )
    rows = [
        row
        for row, path in enumerate(listed.paths)
        if chosen(path, options.include, options.exclude)
    ]
    if not rows:
        raise DataError(f"{file}: no image is left of {len(listed.paths):,}; give other patterns")
    paths = [listed.paths[row] for row in rows]

    def where(row: int) -> str:
        return f"{file}: line {listed.lines[rows[row]]}"

    def named(labels: Sequence[bytes]) -> Names | None:
        return names_in(root) or names_of_folders(labels, paths, "the folders of the images")

    classes = _classes(file, [listed.labels[row] for row in rows], loading, where, named)
    base = os.path.abspath(root)
    images = loading.images(base, loading.files(base, paths))
    split = Split(ids=ids_of(paths), labels=classes.labels, images=images)
    return Dataset(name=file.stem, classes=classes.names, splits={"train": split}, root=Path(base))


@dataclass(frozen=True, kw_only=True)
class RecordsFile(EncodedFile):
    """A file of records."""

    @property
    def kind(self) -> str:
        return "rec"

    def unpacked(self, place: int, data: bytes) -> bytes:
        """Return the image file of a record."""
        try:
            return image_of(data)
        except ValueError as error:
            raise DataError(
                f"{self.path}: {self.names[place]}: {error}; the file was changed or is damaged"
            ) from error


@dataclass(frozen=True, kw_only=True, eq=False)
class _Listing:
    """What one file says of its images; records without one are left out.

    Parameters
    ----------
    stamp : Stamp
        Of the file, from before it was read.
    places : intp, (n_images,)
        In the file.
    numbers : list of int
        Ids of the records.
    ids : list of str
        The file's name and the number; the place instead where numbers repeat.
    labels : list of bytes
    empty : list of str
        Ids of the records without an image.
    """

    __repr__ = short_repr

    file: RecordsFile
    stamp: Stamp
    places: NDArray[np.intp]
    numbers: list[int]
    ids: list[str]
    labels: list[bytes]
    empty: list[str]


class _RecordNames(Sequence[str]):
    """What messages call the records of a file, made when they are asked for."""

    def __init__(self, numbers: Sequence[int], starts: NDArray[np.int64]) -> None:
        self._numbers, self._starts = numbers, starts

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, place: Any) -> Any:
        return f"record {self._numbers[place]} at byte {self._starts[place]:,}"


def load_records(place: Path, loading: Loading) -> Dataset:
    """Read files of records; no image is read.

    In a folder each file is the split that its name says (``train.rec``, ``pets_0_val.rec``), or
    train where none says one. Images keep the order of the records. Labels are read as those of a
    list, see `load_lst`; names also come from the folders in a list of the same name beside a file.

    Parameters
    ----------
    place : Path
        A file, several as ``data-{000..099}.rec``, or a folder of such files.

    Raises
    ------
    DataError
        A file is damaged, or an index beside it names records that are not there; labels are no
        classes; a class is in another split but not in train.
    """
    files = files_by_split(place, (RECORDS,))
    found = {
        split or "train": [_list(file, loading) for file in files[split]]
        for split in (None, *SPLITS)
        if split in files
    }
    listings = [one for own in found.values() for one in own]
    ends = np.cumsum([len(one.labels) for one in listings])

    def where(row: int) -> str:
        number = int(np.searchsorted(ends, row, side="right"))
        one, from_its_end = listings[number], row - ends[number]
        return f"{one.file.path}: {one.file.names[one.places[from_its_end]]}"

    def named(labels: Sequence[bytes]) -> Names | None:
        return _names_of_lists(listings, labels)

    labels = [label for one in listings for label in one.labels]
    classes = _classes(place, labels, loading, where, named)
    splits, start = {}, 0
    for split, own in found.items():
        count = sum(len(one.labels) for one in own)
        splits[split] = _split(own, classes.labels[start : start + count], loading)
        start += count
    _check_trained(splits, classes.names, where)
    skipped = [
        BadImage(id=id_, reason="the record holds no image")
        for one in listings
        for id_ in one.empty
    ]
    root = place if place.is_dir() else place.parent
    return Dataset(
        name=place.stem if place.is_file() else name_of(place), classes=classes.names,
        splits=splits, root=Path(os.path.abspath(root)), skipped=tuple(skipped),
    )  # fmt: skip


def _list(path: Path, loading: Loading) -> _Listing:
    """List the records of a file."""
    numbers, labels, known = list[int](), list[bytes](), dict[bytes, bytes]()
    starts, stops, sizes, stamp = array("q"), array("q"), array("q"), file_stamp(path)
    for record in read_records(path):
        starts.append(record.offset)
        stops.append(record.stop)
        sizes.append(record.size)
        numbers.append(record.id)
        labels.append(known.setdefault(record.labels, record.labels))
    if not numbers:
        raise DataError(f"{path}: holds no records; get it or pack it again")
    offsets = np.array(starts, np.int64)
    _check_index(path, offsets)
    file = RecordsFile(
        path=path, starts=offsets, sizes=np.array(stops, np.int64) - offsets,
        names=_RecordNames(numbers, offsets),
    )  # fmt: skip
    called: Sequence[int] = numbers
    if len(set(numbers)) < len(numbers):
        twice = Counter(numbers).most_common(1)[0][0]
        log.warning("%s: several records have the id %d; ids are places in the file", path, twice)
        called = range(len(numbers))
    ids = [f"{path.name}/{one}" for one in called]
    empty = np.flatnonzero(np.array(sizes) == 0)
    places = np.flatnonzero(np.array(sizes))
    if len(empty) and not (loading.skip_bad and len(places)):
        raise DataError(
            f"{path}: {file.names[empty[0]]} holds no image ({len(empty):,} such of "
            f"{len(numbers):,}; --skip-bad leaves them out where others do)"
        )
    return _Listing(
        file=file,
        stamp=stamp,
        places=places,
        numbers=[numbers[place] for place in places.tolist()],
        ids=[ids[place] for place in places.tolist()],
        labels=[labels[place] for place in places.tolist()],
        empty=[ids[place] for place in empty.tolist()],
    )


def _check_index(path: Path, offsets: NDArray[np.int64]) -> None:
    """Compare a file with the index beside it, which shows whether records are missing."""
    index = path.with_suffix(INDEX)
    if not index.is_file():
        return
    there = {*offsets.tolist()}
    listed = set()
    for key, offset in read_index(index):
        if offset not in there:
            raise DataError(
                f"{index}: names a record {key} at byte {offset:,} of {path.name}, where none "
                "begins; the records are cut short or the index is another file's: get or pack "
                "both again, or remove the index"
            )
        listed.add(offset)
    if len(listed) < len(there):
        log.warning(
            "%s: names %s of the %s records of %s; all are read",
            index, f"{len(listed):,}", f"{len(there):,}", path.name,
        )  # fmt: skip


def _split(own: Sequence[_Listing], labels: Any, loading: Loading) -> Split:
    """Return the images of some files, one after the other."""
    files = [one.file for one in own]
    rows = np.stack(
        [
            np.repeat(np.arange(len(own)), [len(one.places) for one in own]),
            np.concatenate([one.places for one in own]),
        ]
    )
    stamps = {one.file.path: one.stamp for one in own}
    images = PackedImages(tuple(files), rows, loading.memo, stamps=stamps, workers=loading.workers)
    return Split(ids=[id_ for one in own for id_ in one.ids], labels=labels, images=images)


def _names_of_lists(listings: Sequence[_Listing], labels: Sequence[bytes]) -> Names | None:
    """Return what classes are called by the folders in the lists beside record files."""
    paths: list[str] = []
    own: list[bytes] = []
    sources, start = [], 0
    for one in listings:
        file = one.file.path
        list_file = file.with_name(file.stem + LST)
        if not list_file.is_file():
            start += len(one.labels)
            continue
        try:
            listed = read_lst(list_file)
        except DataError as error:
            log.warning("%s; it names no classes", error)
            return None
        by_id = {number: row for row, number in enumerate(one.numbers, start)}
        for index, label, path in zip(listed.indices, listed.labels, listed.paths, strict=True):
            row = by_id.get(index)
            if row is None:
                continue
            if one.labels[row - start] != label:
                log.warning(
                    "%s: gives the image %d another label than its record has, so that it names no "
                    "classes", list_file, index,
                )  # fmt: skip
                return None
            own.append(labels[row])
            paths.append(path)
        sources.append(str(list_file))
        start += len(one.labels)
    found = names_of_folders(own, paths, f"the folders in {', '.join(sources)}") if own else None
    if found is None or not {*labels} <= {*own}:
        return None
    return found


def _classes(
    place: Path,
    labels: Sequence[bytes],
    loading: Loading,
    where: Where,
    named: Callable[[Sequence[bytes]], Names | None],
) -> Classes:
    """Return the classes of some images, and say where their names are from.

    Parameters
    ----------
    named : callable
        Labels -> names that are found where there is no file of names.
    """
    if loading.options.unlabeled:
        return Classes(labels=np.zeros(len(labels), np.int32), names=(UNLABELED,))
    labels = chosen_labels(labels, loading.options.label, where)
    names = names_in(place if place.is_dir() else place.parent) or named(labels)
    classes = classes_of(labels, names, where)
    if names is not None:
        log.warning("%s: its classes take their names from %s", place, names.source)
    if classes.empty:
        count = len(classes.empty)
        log.warning(
            "%s: left out %s without an image: %s",
            place,
            "1 class" if count == 1 else f"{count:,} classes",
            ", ".join(classes.empty[:5]) + (", ..." if count > 5 else ""),
        )
    return classes


def _check_trained(splits: Mapping[str, Split], classes: Sequence[str], where: Where) -> None:
    """Refuse a class that is in another split but not in train, where there is a train."""
    if "train" not in splits:
        return
    task, start = task_of(splits["train"].labels), 0
    trained = task.present(splits["train"].labels)
    for name, split in splits.items():
        strange = np.setdiff1d(task.present(split.labels), trained)
        if len(strange):
            row = start + int(np.flatnonzero(task.has(split.labels, int(strange[0])))[0])
            raise DataError(
                f"{where(row)}: the class {classes[strange[0]]!r} is in {name} but not in train; "
                "add images of it to train, or remove it"
            )
        start += len(split)


def _check_split_folders(file: Path, paths: Sequence[str]) -> None:
    """Refuse a list whose images lie in several split folders: it would be all train."""
    tops = {path.replace("\\", "/").partition("/")[0] for path in paths}
    read = split_words(tops, whole=True) if 1 < len(tops) <= len(EXACT) else None
    if read is not None and tells_apart(read.values()):
        raise DataError(
            f"{file}: its images lie in {', '.join(sorted(tops))}, and a list is one split; "
            "`probe dataset index FOLDER` writes a list for each"
        )
