"""Describe the damaged rows of a block or table, located by the folds of the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.cache.checksum import FOLDED, fold_rows
from probe.cache.file import OpenFile
from probe.core.records import shown
from probe.core.short_repr import short_repr
from probe.errors import CorruptEntryError

_WORDS = {"labels": "the label", "ids": "the id", "content": "the content hash"}


@dataclass(frozen=True, kw_only=True)
class BadBlock:
    """A block of feature rows that does not match its checksum.

    Parameters
    ----------
    start, stop : int
        Row numbers, `stop` excluded.
    rows : tuple of int
        The bad ones among them; empty where they are unknown: in files of an older version, which
        have no folds, and where damage cancels in the fold of its row.
    first : str
        Id of the first bad row, or else of the block's first.
    """

    __repr__ = short_repr

    split: str
    start: int
    stop: int
    rows: tuple[int, ...]
    first: str

    def __str__(self) -> str:
        if not self.rows:
            return (
                f"something in {self.split} rows {self.start} to {self.stop - 1} "
                f"(the first is {self.first})"
            )
        if not self.rows[1:]:
            return f"{self.split} row {self.rows[0]} ({self.first})"
        return (
            f"{self.split} row {self.rows[0]} ({self.first}), the first of {len(self.rows)} "
            f"between {self.start} and {self.stop - 1},"
        )


def bad_block(opened: OpenFile, split: str, block: int, found: NDArray[Any] | None) -> BadBlock:
    """Describe a block that does not match its checksum.

    Parameters
    ----------
    found : (n, ...) or None
        Its rows as read; None where they cannot be unpacked.
    """
    header = opened.header
    where = header.block_slice(split, block)
    rows: list[int] = []
    if found is None:
        rows = list(range(where.start, where.stop))
    elif opened.folds is not None:
        wrong = fold_rows(found) != opened.folds[split][where, 0]
        rows = (where.start + np.flatnonzero(wrong)).tolist()
    first = rows[0] if rows else where.start
    return BadBlock(
        split=split, start=where.start, stop=where.stop, rows=tuple(rows),
        first=_id(opened, split, first),
    )  # fmt: skip


def corrupt(
    opened: OpenFile, split: str, block: int, found: NDArray[Any] | None
) -> CorruptEntryError:
    """Return the CorruptEntryError that names the first bad row of a block."""
    return CorruptEntryError(opened.header.path, str(bad_block(opened, split, block, found)))


def bad_tables(opened: OpenFile) -> str:
    """Describe the damage of an entry's tables, whose checksum does not match.

    Returns
    -------
    str
        The first row whose label, id or content hash changed, or else the other candidates.
    """
    for split in opened.header.features:
        table = opened.table(split)
        for column, name in enumerate(FOLDED[1:], start=1):
            if opened.folds is None:
                break
            wrong = fold_rows(getattr(table, name)) != opened.folds[split][:, column]
            rows = np.flatnonzero(wrong).tolist()
            if rows:
                more = f", the first of {len(rows)}," if rows[1:] else ""
                return (
                    f"{_WORDS[name]} of {split} row {rows[0]} ({_id(opened, split, rows[0])}){more}"
                )
    if opened.folds is None:
        return "key, provenance, class names, labels, ids, content or a block's checksum"
    return "key, provenance, class names or a block's checksum"


def _id(opened: OpenFile, split: str, row: int) -> str:
    name: bytes = opened.table(split).ids[row]
    return shown(name.decode("utf-8", "backslashreplace"))
