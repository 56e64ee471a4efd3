"""Which rows of a new entry are at hand already, and where forwarded ones go."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sized

import numpy as np
from numpy.typing import NDArray

from probe.cache.checksum import SplitTable
from probe.cache.features import FeatureSet, FeatureSplit
from probe.cache.key import FeatureKey
from probe.cache.pending import Draft, PendingEntry
from probe.cache.store import Store
from probe.errors import CorruptEntryError

log = logging.getLogger(__name__)


class Filling:
    """One entry on its way: which rows are still unknown, and where rows go.

    Rows are numbered through all splits of the dataset.

    Parameters
    ----------
    donors : list of FeatureSet
        Entries of the same recipe, whose rows may be copied.
    fresh : bool, default=False
        Do not take up an interrupted run.

    Attributes
    ----------
    unknown : bool, (n,)
        No other entry holds the row's features.
    missing : bool, (n,)
        It still has to be forwarded: unknown, and in no finished block.
    """

    def __init__(
        self, store: Store, draft: Draft, donors: list[FeatureSet], *, fresh: bool = False
    ) -> None:
        self.key: FeatureKey = draft.key
        self._starts = starts_of(draft.tables)
        content = np.concatenate([table.content for table in draft.tables.values()])
        self._where, self._sources = locate(donors, content)
        self.pending = PendingEntry(store, draft, fresh=fresh)
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
        """Take known rows from the entries that hold them; finish blocks that need no more."""
        for split, block, rows in self._blocks():
            if self._writer.done[split][block]:
                continue
            where = self._where[rows]
            for number in np.unique(where[where[:, 0] >= 0, 0]):
                here = np.flatnonzero(where[:, 0] == number)
                try:
                    features = self._sources[number].rows(where[here, 1])
                except CorruptEntryError as error:
                    log.warning("not reused: %s", error)
                    self.missing[rows.start + here] = True
                    self.unknown[rows.start + here] = True
                    continue
                self._writer.write(split, rows.start - self._starts[split] + here, features)
            if not self.missing[rows].any():
                self._writer.finish_block(split, block)

    def write(self, rows: NDArray[np.intp], features: NDArray[np.float32]) -> None:
        """Store forwarded rows that were missing, and finish the blocks they complete."""
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
    """Return the number of each split's first row, numbered through all splits."""
    starts, total = {}, 0
    for name, split in splits.items():
        starts[name], total = total, total + len(split)
    return starts


def relabelled(
    entry: FeatureSet, tables: Mapping[str, SplitTable], classes: tuple[str, ...]
) -> bool:
    """Whether an entry of the right rows has other labels, ids or class names than the dataset."""
    return entry.classes != classes or not all(
        entry[split].table.same_rows(table) for split, table in tables.items()
    )


def locate(
    donors: list[FeatureSet], content: NDArray[np.uint8]
) -> tuple[NDArray[np.intp], list[FeatureSplit]]:
    """Find rows with the given content hashes in donor entries.

    Returns
    -------
    where : intp, (n, 2)
        Number of the source, or -1, and row in it.
    sources : list of FeatureSplit
    """
    sources = [donor[split] for donor in donors for split in donor.splits]
    known: dict[bytes, tuple[int, int]] = {}
    for number, source in enumerate(sources):
        for row, one in enumerate(as_bytes(source.content)):
            known.setdefault(one, (number, row))
    where = np.array([known.get(one, (-1, -1)) for one in as_bytes(content)], np.intp)
    return where.reshape(-1, 2), sources


def as_bytes(content: NDArray[np.uint8]) -> list[bytes]:
    """Return content hashes, (n, 16), as n byte strings."""
    data, width = np.ascontiguousarray(content).tobytes(), content.shape[1]
    return [data[i : i + width] for i in range(0, len(data), width)]
