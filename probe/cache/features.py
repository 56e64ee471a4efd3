"""Read an entry: its arrays are checked against their checksums before they are used."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.cache.checksum import (
    SplitTable,
    checksum_columns,
    checksum_seal,
    checksum_tables,
)
from probe.cache.damage import BadBlock, bad_tables
from probe.cache.file import Header, OpenFile, open_file
from probe.cache.key import FeatureKey, digest_rows
from probe.cache.rows import MappedRows, PackedRows
from probe.core.columns import Column, decode_columns
from probe.core.html import Html
from probe.core.indexing import is_one_row, row_number, row_numbers
from probe.errors import (
    CacheError,
    CacheMismatchError,
    CorruptEntryError,
    UnknownNameError,
    UsageError,
)
from probe.evaluation.task import task_of
from probe.preprocess.views import view_count

SHOWN = {"weights": "", "size": " pixels"}  # of the provenance; imported features have neither
SHOWN_CLASSES = 8
RowIndex = slice | NDArray[np.integer[Any]] | NDArray[np.bool_] | Sequence[int]
ENDING = ".h5"
DIGEST_CHARACTERS = 12
MOST_CHARACTERS, MOST_BYTES = 40, 48  # of each word of a name
_NAMED = re.compile(rf"-([0-9a-f]{{{DIGEST_CHARACTERS}}})$")


class FeatureSplit:
    """One split of an entry. Blocks of rows are checked the first time they are touched.

    It is also a dataset for PyTorch's and Gluon's ``DataLoader``: ``split[i]`` is (row, label), and
    a worker process that it is sent to opens the file again.

    Attributes
    ----------
    labels : int32, (n,), or uint8, (n, n_classes), where images may have several
    content : uint8, (n, 16)
        Hash of each image.
    """

    def __init__(self, opened: OpenFile, name: str, sums: NDArray[np.uint64]) -> None:
        self._header, self._name, self._table = opened.header, name, opened.table(name)
        self.labels, self.content = self._table.labels, self._table.content
        kind = PackedRows if opened.header.packed else MappedRows
        self._rows: MappedRows | PackedRows = kind(opened, name, sums)

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        shape = self._header.features[self._name].shape
        return f"<{self._name} of {self._header.path.stem}: {shape}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_split, (self._header.path, self._header.digest, self._name)

    @property
    def engine(self) -> str:
        """The engine that made the rows."""
        return self._header.engine

    @cached_property
    def ids(self) -> list[str]:
        """The images' ids."""
        return [one.decode() for one in self._table.ids.tolist()]

    @cached_property
    def columns(self) -> dict[str, Column]:
        """What a table said of each image beside its label and split; empty where there is none.

        Raises
        ------
        CacheError
            They are not what this probe writes.
        """
        try:
            return decode_columns(self._table.columns, self._table.column_values)
        except ValueError as error:
            raise CacheError(
                f"{self._header.path}: columns of {self._name} cannot be read ({error}); remove "
                "the entry and extract again"
            ) from error

    @property
    def table(self) -> SplitTable:
        """Labels, ids, content hashes and columns as stored."""
        return self._table

    @property
    def features(self) -> NDArray[Any]:
        """All rows, (n, ...), read-only: memory-mapped, or decompressed where the entry is packed.

        Every block is checked first; a CorruptEntryError names the first bad row.
        """
        return self._rows.all()

    def rows(self, index: RowIndex) -> NDArray[Any]:
        """Return a copy of some rows, (n, ...); only their blocks are checked.

        Parameters
        ----------
        index : slice, whole numbers, or a mask of a bool for each row
            As in NumPy: negative numbers count from the end.

        Raises
        ------
        CorruptEntryError
        RowIndexError
            There is no such row, or the index is invalid.
        """
        return self._rows.take(row_numbers(index, len(self)))

    def blocks(self) -> Iterator[NDArray[Any]]:
        """Yield all rows in order, a block of about 1 MiB at a time, each checked once."""
        return self._rows.blocks()

    def release(self) -> None:
        """Release the memory of mapped rows; they are read again when they are used."""
        self._rows.release()

    def as_xy(self, *, view: int | None = None) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return features and labels for scikit-learn's estimators.

        Parameters
        ----------
        view : int, optional
            Only this view of each image; 0 is the plain one. Default: all, as adjacent rows.

        Returns
        -------
        X : float32 or float16, (n * views, d), read-only
            Not a copy where the layout allows it. The mean of scores over each image's
            views is ``scores.reshape(n, views, ...).mean(axis=1)``.
        y : int32, (n * views,), or uint8, (n * views, n_classes)
        """
        views = view_count(self._header.key.views)
        if view is not None and not 0 <= view < views:
            raise UsageError(f"view {view} of an entry with {views}; give 0 to {views - 1}")
        features = self.features.reshape(len(self), views, -1)
        if view is not None:
            return features[:, view], self.labels
        labels = self.labels if views == 1 else np.repeat(self.labels, views, axis=0)
        return features.reshape(len(self) * views, -1), labels

    def __getitem__(self, index: int | RowIndex) -> tuple[NDArray[Any], Any]:
        """Return (row, label) of one row, or (rows, labels) of several, a copy."""
        if not is_one_row(index):
            numbers = row_numbers(index, len(self))
            return self._rows.take(numbers), self.labels[numbers]
        (one,) = self.__getitems__([row_number(index, len(self))])
        return one

    def __getitems__(self, rows: Sequence[int]) -> list[tuple[NDArray[Any], Any]]:
        """Return several (row, label) at once, as PyTorch's loader fetches a batch."""
        index = row_numbers(rows, len(self))
        own = self.labels[index]
        labels = own.tolist() if task_of(own).exclusive else list(own)
        return list(zip(self.rows(index), labels, strict=True))

    def verify(self) -> None:
        """Read and check every row.

        Raises
        ------
        CorruptEntryError
            Names the first bad row, and counts the other bad blocks.
        """
        _raise_for(self._header.path, self.damage())

    def damage(self) -> list[BadBlock]:
        """Check every row, and return the damaged blocks."""
        return self._rows.damaged(range(self._header.block_count(self._name)))


@dataclass(frozen=True, kw_only=True, repr=False)
class FeatureSet:
    """A complete cache entry, opened for reading.

    Index it by split name: ``FeatureSet.open(path)["train"].features``.
    """

    opened: OpenFile
    splits: Mapping[str, FeatureSplit]
    seal: tuple[float, int]

    @classmethod
    def open(cls, path: Path | str) -> FeatureSet:
        """Open an entry and check its key, labels, ids and checksums; rows are checked when read.

        Raises
        ------
        CacheError
            There is no such file, or it is not an entry.
        CacheMismatchError, CorruptEntryError
            It is damaged, or has the name of another entry.
        """
        opened = open_file(Path(path))
        header = opened.header
        if header.key.digest != header.digest:
            raise CacheMismatchError(header.path, "digest", header.key.digest, header.digest)
        tables = {split: opened.table(split) for split in header.features}
        sums = {split: opened.array(header.blocks[split]) for split in header.features}
        found = checksum_tables(header.texts, tables, sums)
        if tuple(opened.array(header.checksum).tolist()) != found:
            raise CorruptEntryError(header.path, bad_tables(opened))
        _check_columns(opened, tables)
        seal = _checked_seal(opened)
        for split, digest in header.key.rows:
            if digest_rows(tables[split].content) != digest:
                raise CorruptEntryError(header.path, f"the content of {split}")
        check_name(opened)
        return cls(
            opened=opened,
            splits={split: FeatureSplit(opened, split, sums[split]) for split in tables},
            seal=seal,
        )

    def __getitem__(self, split: str) -> FeatureSplit:
        if split not in self.splits:
            raise UnknownNameError(
                f"{self.path.name} has no split {split!r}; it has {', '.join(self.splits)}"
            )
        return self.splits[split]

    def __contains__(self, split: object) -> bool:
        return split in self.splits

    def __iter__(self) -> Iterator[str]:
        return iter(self.splits)

    def __len__(self) -> int:
        return len(self.splits)

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} {len(split):,}" for name, split in self.splits.items())
        return f"<features {self.name}: {counts} x {self.row_shape}>"

    def _repr_html_(self) -> str:
        page = Html().title(f"features {self.name}")
        key, about = self.key, self.provenance
        page.note(
            f"{key.backbone}, layer {key.layer}"
            + (f" ({key.pool})" if key.pool != "none" else "")
            + "".join(f", {about[name]}{word}" for name, word in SHOWN.items() if about.get(name))
            + f", {key.dtype}; "
            f"{len(self.classes):,} classes: {', '.join(self.classes[:SHOWN_CLASSES])}"
            + " ..."
            * (len(self.classes) > SHOWN_CLASSES)
        )
        shape = " x ".join(map(str, self.row_shape))
        rows = [[name, f"{len(split):,}", shape] for name, split in self.splits.items()]
        return page.table(["split", "images", "features"], rows).text()

    @property
    def header(self) -> Header:
        return self.opened.header

    @property
    def packed(self) -> bool:
        return self.header.packed

    @property
    def path(self) -> Path:
        return self.header.path

    @property
    def name(self) -> str:
        """The file's name without its ending: what the command line calls the entry."""
        return self.path.stem

    @property
    def key(self) -> FeatureKey:
        return self.header.key

    @property
    def classes(self) -> tuple[str, ...]:
        return self.header.classes

    @property
    def provenance(self) -> Mapping[str, Any]:
        return self.header.provenance

    @property
    def dataset(self) -> str:
        return str(self.provenance.get("dataset", ""))

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one image's features, views first where there are any."""
        return next(iter(self.header.features.values())).shape[1:]

    @property
    def width(self) -> int:
        """The number of features of one view of an image, as a head takes them."""
        return int(np.prod(self.row_shape, dtype=np.int64)) // view_count(self.key.views)

    @property
    def seconds(self) -> float:
        """Seconds of the forward pass; rows copied from other entries count 0."""
        return self.seal[0]

    def verify(self) -> None:
        """Read and check every row.

        Raises
        ------
        CorruptEntryError
            Names the first bad row, and counts the other bad blocks.
        """
        _raise_for(self.path, self.damage())
        if self.opened.folds_damaged:
            raise CorruptEntryError(
                self.path, "the folds (they only place damage; all else is good)"
            )

    def damage(self) -> list[BadBlock]:
        """Check every row, and return the damaged blocks."""
        return [bad for split in self.splits.values() for bad in split.damage()]


def _raise_for(path: Path, damage: list[BadBlock]) -> None:
    if damage:
        more = f" and {len(damage) - 1} more blocks" if damage[1:] else ""
        raise CorruptEntryError(path, f"{damage[0]}{more}")


def _check_columns(opened: OpenFile, tables: Mapping[str, SplitTable]) -> None:
    stored = opened.header.column_checksum
    if stored is not None and tuple(opened.array(stored).tolist()) != checksum_columns(tables):
        raise CorruptEntryError(opened.header.path, "a column beside labels and ids")


def _checked_seal(opened: OpenFile) -> tuple[float, int]:
    """Return the seconds of the pass and the number of rows that it forwarded."""
    header = opened.header
    seal = opened.array(header.seal)
    words = None if header.seal_checksum is None else opened.array(header.seal_checksum).tolist()
    good = words is None or tuple(words) == checksum_seal(header.digest, header.block_rows, seal)
    if not good or not (np.isfinite(seal) & (seal >= 0)).all():
        raise CorruptEntryError(header.path, "how long the pass took, and of how many rows,")
    seconds, forwarded = seal.tolist()
    return seconds, int(forwarded)


def _open_split(path: Path, digest: str, split: str) -> FeatureSplit:
    entry = FeatureSet.open(path)
    if entry.key.digest != digest:
        raise CacheMismatchError(path, "digest", digest, entry.key.digest)
    return entry[split]


def entry_name(key: FeatureKey, dataset: str) -> str:
    """Return the name of a dataset's entry: readable words and the beginning of its digest."""
    words = [_word(one) for one in (dataset, key.backbone, key.layer, key.pool)]
    if words[-1] == "none":
        words.pop()
    return "-".join([*words, key.digest[:DIGEST_CHARACTERS]])


def _word(text: str) -> str:
    """Return a word of a file's name: letters of all scripts, and no sign that a shell acts on.

    It has at most 40 characters and 48 bytes, for a name of a file may have 255.
    """
    kept = "".join(
        c if c.isalnum() or c in "_." or (c.isprintable() and not c.isascii()) else " "
        for c in unicodedata.normalize("NFC", text)
    )
    cut = re.sub(" +", "_", kept)[:MOST_CHARACTERS].encode()[:MOST_BYTES]
    return cut.decode(errors="ignore")


def check_name(opened: OpenFile) -> None:
    """Refuse a file that has another entry's name, as after two files were swapped.

    A name without a digest is free. An entry whose dataset folder was renamed keeps its name, so
    another dataset's name alone is allowed; it is refused where the file with the right name also
    exists and has a wrong name too, or is a copy of this one.

    Raises
    ------
    CacheMismatchError
        Names both.
    """
    header = opened.header
    path, own = header.path, _own_name(header)
    found = _NAMED.search(path.stem)
    if found is None or path.stem == own:
        return
    other = path.with_name(own + ENDING)
    if found[1] != header.key.digest[:DIGEST_CHARACTERS] or _stands_for(other, opened):
        raise CacheMismatchError(path, "name", own, path.stem)


def _stands_for(other: Path, opened: OpenFile) -> bool:
    """Whether a file with the name that this entry should have shows that files were swapped."""
    if not other.exists():
        return False
    try:
        there = open_file(other)
    except CacheError:
        return False
    if _own_name(there.header) != other.stem:
        return True
    mine, its = (one.array(one.header.checksum) for one in (opened, there))
    return np.array_equal(mine, its)


def _own_name(header: Header) -> str:
    return entry_name(header.key, str(header.provenance.get("dataset", "")))
