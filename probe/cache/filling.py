"""Fill a new entry: copy the rows that other entries have, and store forwarded ones."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from probe.cache.checksum import SplitTable
from probe.cache.features import FeatureSet
from probe.cache.file import engine_of
from probe.cache.key import FeatureKey
from probe.cache.pending import Draft, PendingEntry
from probe.cache.store import Store
from probe.cache.unfinished import finished_rows, rows_of_damaged
from probe.errors import CorruptEntryError

log = logging.getLogger(__name__)


class RowSource(Protocol):
    """Rows that may be copied: those of an undamaged entry, or the proven ones of another file."""

    content: NDArray[np.uint8]  # (n, 16)

    @property
    def engine(self) -> str:
        """The engine that made them."""

    def rows(self, index: NDArray[np.intp]) -> NDArray[Any]:
        """Return a copy of some rows; raises CorruptEntryError where they are damaged."""


def row_sources(store: Store, key: FeatureKey, *, own: bool = True) -> list[RowSource]:
    """Return all available rows of a key's recipe, those of undamaged entries first.

    Parameters
    ----------
    own : bool, default=True
        Include the unfinished entry of the key itself.
    """
    return [
        *splits_of(store.donors(key)),
        *finished_rows(store, key, own=own),
        *rows_of_damaged(store, key),
    ]


def rows_made_by(sources: Sequence[RowSource], engine: str) -> list[RowSource]:
    """Return the sources whose rows come from an engine: an entry's rows all come from one."""
    return [source for source in sources if source.engine == engine]


def rows_by_engine(
    store: Store, keys: Sequence[FeatureKey], tables: Mapping[str, SplitTable]
) -> Counter[str]:
    """Count the rows of a dataset that are at hand for some keys, by the engine that made them."""
    content = np.concatenate([table.content for table in tables.values()])
    found: Counter[str] = Counter()
    for key in keys:
        sources = row_sources(store, key)
        numbers = locate(sources, content)[:, 0]
        found.update(sources[number].engine for number in numbers[numbers >= 0].tolist())
    return found


def splits_of(entries: Iterable[FeatureSet]) -> list[RowSource]:
    """Return the splits of complete entries."""
    return [split for entry in entries for split in entry.splits.values()]


class Filling:
    """An entry that is being written, and which of its rows are still missing.

    Rows are numbered across all splits of the dataset.

    Parameters
    ----------
    fresh : bool, default=False
        Neither resume an interrupted run nor copy a row.

    Attributes
    ----------
    unknown : bool, (n,)
        No other entry has the row's features.
    missing : bool, (n,)
        The row must be forwarded: it is unknown and in no finished block.
    """

    def __init__(self, store: Store, draft: Draft, *, fresh: bool = False) -> None:
        self.key: FeatureKey = draft.key
        self._starts = starts_of(draft.tables)
        content = np.concatenate([table.content for table in draft.tables.values()])
        engine = engine_of(draft.provenance)
        others = [] if fresh else row_sources(store, draft.key, own=False)
        self._sources = rows_made_by(others, engine)
        # opened before the file is removed: after a change of labels it is not resumed, but its
        # rows are copied
        own = [] if fresh else finished_rows(store, draft.key, own=True, others=False)
        self.pending = PendingEntry(store, draft, fresh=fresh)
        if not self.pending.resumed:
            self._sources += rows_made_by(own, engine)
        self._where = locate(self._sources, content)
        self._writer = self.pending.writer
        self.unknown = self._where[:, 0] < 0
        self.missing = self.unknown.copy()
        for split, block, rows in self._blocks():
            if self._writer.done[split][block]:
                self.missing[rows] = False

    def _blocks(self) -> list[tuple[str, int, slice]]:
        header = self._writer.header
        return [
            (split, block, slice(start + where.start, start + where.stop))
            for split, start in self._starts.items()
            for block in range(header.block_count(split))
            for where in [header.block_slice(split, block)]
        ]

    def copy(self) -> None:
        """Copy the known rows from other entries, and finish the blocks that become complete."""
        for split, block, rows in self._blocks():
            if self._writer.done[split][block]:
                continue
            where = self._where[rows]
            for number in np.unique(where[where[:, 0] >= 0, 0]):
                here = np.flatnonzero(where[:, 0] == number)
                try:
                    features = self._sources[number].rows(where[here, 1])
                except CorruptEntryError as error:
                    log.warning(
                        "%s: %s is damaged; its block is forwarded again", error.path, error.what
                    )
                    self.missing[rows.start + here] = True
                    self.unknown[rows.start + here] = True
                    continue
                self._writer.write(split, rows.start - self._starts[split] + here, features)
            if not self.missing[rows].any():
                self._writer.finish_block(split, block)

    def write(self, rows: NDArray[np.intp], features: NDArray[np.float32]) -> None:
        """Store the forwarded rows that are missing, and finish the blocks that become complete."""
        wanted = self.missing[rows]
        rows, features = rows[wanted], features[wanted]
        for split, start in self._starts.items():
            count = self._writer.header.features[split].shape[0]
            here = (rows >= start) & (rows < start + count)
            if not here.any():
                continue
            local = rows[here] - start
            self._writer.write(split, local, features[here])
            self.missing[rows[here]] = False
            for block in np.unique(local // self._writer.header.block_rows):
                where = self._writer.header.block_slice(split, int(block))
                if not self.missing[start + where.start : start + where.stop].any():
                    self._writer.finish_block(split, int(block))


def starts_of(splits: Mapping[str, Sized]) -> dict[str, int]:
    """Return the number of each split's first row, counted across all splits."""
    starts, total = {}, 0
    for name, split in splits.items():
        starts[name], total = total, total + len(split)
    return starts


def differing(
    entry: FeatureSet, tables: Mapping[str, SplitTable], classes: tuple[str, ...]
) -> list[str]:
    """Return which of labels, ids, columns and class names of an entry are not a dataset's."""
    found = {name for split, one in tables.items() for name in entry[split].table.differing(one)}
    if entry.classes != classes:
        found.add("class names")
    return [name for name in ("labels", "ids", "class names", "columns") if name in found]


def locate(sources: Sequence[RowSource], content: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Find rows with the given content hashes.

    Returns
    -------
    int32, (n, 2)
        Number of the source, or -1, and row in it.
    """
    if not sources:
        return np.full((len(content), 2), -1, np.int32)
    known: dict[bytes, tuple[int, int]] = {}
    for number, source in enumerate(sources):
        for row, one in enumerate(as_bytes(source.content)):
            known.setdefault(one, (number, row))
    where = np.array([known.get(one, (-1, -1)) for one in as_bytes(content)], np.int32)
    return where.reshape(-1, 2)


def as_bytes(content: NDArray[np.uint8]) -> list[bytes]:
    """Return content hashes, (n, 16), as n byte strings."""
    data, width = np.ascontiguousarray(content).tobytes(), content.shape[1]
    return [data[i : i + width] for i in range(0, len(data), width)]
