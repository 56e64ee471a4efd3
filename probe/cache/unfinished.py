"""Unfinished and damaged entries: list them, remove them, and find their usable rows.

Unfinished entries are never listed as entries. The command that made one resumes it; other commands
of the same recipe copy its finished rows, as they copy those of complete entries.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.cache import locks
from probe.cache.features import FeatureSet
from probe.cache.file import Header, OpenFile, open_file, read_header
from probe.cache.key import FeatureKey, digest_rows
from probe.cache.pending import read_records
from probe.cache.rows import MappedRows, PackedRows
from probe.cache.store import Store, removing
from probe.core.regular import read_regular
from probe.errors import CacheError, CorruptEntryError

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Unfinished:
    """An entry that a process is writing, or was writing when it was killed.

    Parameters
    ----------
    path : Path
        The file of rows, whose journal lies beside it, or the temporary file of `pack`.
    done, rows : int
        Rows in finished blocks, and rows in total; 0 where that is unknown.
    size : int
        Bytes on the disk, with the journal.
    modified : float
        When a block was last finished, in seconds since 1970.
    writing : bool
        A living process works on it.
    """

    path: Path
    done: int
    rows: int
    size: int
    modified: float
    writing: bool

    @property
    def name(self) -> str:
        """The name that the entry will have."""
        return self.path.name.removeprefix(".").removesuffix(".partial").partition(".h5.")[0]


def list_unfinished(store: Store) -> list[Unfinished]:
    """Return the unfinished entries of a store, including journals without a file of rows."""
    stems = {path.stem for path in (*store.partials(), *store.folder.glob(".*.journal"))}
    places = [store.folder / f"{stem}.partial" for stem in sorted(stems)] + store.temporaries()
    found = (_describe(store, place) for place in places)
    return [one for one in found if one is not None]


def _describe(store: Store, partial: Path) -> Unfinished | None:
    both = [path for path in (partial, partial.with_suffix(".journal")) if path.exists()]
    try:
        states = [path.stat() for path in both]
    except FileNotFoundError:  # finished or removed a moment ago
        return None
    if not states:
        return None
    done, rows = progress(partial)
    return Unfinished(
        path=partial,
        done=done,
        rows=rows,
        size=sum(min(one.st_size, one.st_blocks * 512) for one in states),
        modified=max(one.st_mtime for one in states),
        # by the name, since a process that just started has not written the key yet
        writing=any(map(locks.is_held, store.locks_of(partial))),
    )


def discard_unfinished(store: Store, partial: Path) -> bool:
    """Remove an unfinished entry; return False and remove nothing where a process writes it.

    Raises
    ------
    CacheError
        The folder cannot be written.
    """
    with removing(partial), ExitStack() as stack:
        held = [stack.enter_context(locks.hold_if_free(one)) for one in store.locks_of(partial)]
        if not all(held):
            return False
        partial.with_suffix(".journal").unlink(missing_ok=True)  # before the file that it describes
        partial.unlink(missing_ok=True)
    return True


def progress(partial: Path) -> tuple[int, int]:
    """Return how many rows of an unfinished entry are in finished blocks, and how many in total.

    (0, 0) where its file is missing or has no header yet.
    """
    try:
        header = read_header(partial)
    except CacheError:
        return 0, 0
    places = [header.block_slice(split, block) for split, block in _finished(header)]
    total = sum(region.shape[0] for region in header.features.values())
    return sum(place.stop - place.start for place in places), total


def _finished(header: Header) -> dict[tuple[str, int], int]:
    """Return the journal of an unfinished entry: (split, block) -> checksum."""
    try:
        text = read_regular(header.path.with_suffix(".journal"))
    except OSError:
        return {}
    splits = list(header.features)
    return {
        (splits[number], block): checksum
        for number, block, checksum in read_records(text)
        if number < len(splits) and block < header.block_count(splits[number])
    }


class FinishedRows:
    """The rows of a split that lie in finished blocks of an unfinished or damaged file.

    Attributes
    ----------
    content : uint8, (n, 16)
        Hash of each such row's image.
    engine : str
        The engine that made them.
    """

    def __init__(self, opened: OpenFile, split: str, blocks: Mapping[int, int]) -> None:
        header, table = opened.header, opened.table(split)
        self.engine = header.engine
        sums = np.zeros(header.block_count(split), np.uint64)
        sums[list(blocks)] = list(blocks.values())
        places = [header.block_slice(split, block) for block in sorted(blocks)]
        self._index = np.concatenate([np.arange(one.start, one.stop) for one in places])
        self._rows = (PackedRows if header.packed else MappedRows)(opened, split, sums)
        self.content: NDArray[np.uint8] = table.content[self._index]

    def rows(self, index: NDArray[np.intp]) -> NDArray[Any]:
        """Return a copy of some rows, checked against their blocks' checksums.

        Raises
        ------
        CorruptEntryError
            A block does not match its checksum.
        """
        return self._rows.take(self._index[index])


def finished_rows(
    store: Store, key: FeatureKey, *, own: bool = True, others: bool = True
) -> list[FinishedRows]:
    """Return the finished rows of a recipe's unfinished entries, readable even after removal.

    Parameters
    ----------
    own, others : bool, default=True
        Include the unfinished entry of `key` itself, and all others.
    """
    found = []
    for partial in store.partials():
        try:
            header = read_header(partial)
            wanted = own if header.key == key else others
            if wanted and header.key.recipe == key.recipe:
                opened = open_file(partial)
                found += _proven(opened, _finished(opened.header))
        except CacheError as error:
            log.debug("not reused: %s", error)
    return found


def _proven(opened: OpenFile, finished: Mapping[tuple[str, int], int]) -> list[FinishedRows]:
    """Return the rows of the blocks that have a checksum, for content hashes that the key proves.

    The tables of such a file have no valid checksum; the key's digest proves each row's image.
    """
    header, made = opened.header, []
    if header.key.digest != header.digest:
        return []
    for split, digest in header.key.rows:
        blocks = {block: sum_ for (name, block), sum_ in finished.items() if name == split}
        if blocks and digest_rows(opened.array(header.content[split])) == digest:
            made.append(FinishedRows(opened, split, blocks))
    return made


def rows_of_damaged(store: Store, key: FeatureKey) -> list[FinishedRows]:
    """Return the usable rows of a recipe's damaged entries.

    A flipped bit in a label or an id makes an entry unusable. But its features are proven by their
    blocks' checksums and its content hashes by the key, and the dataset has the labels.
    """
    found = []
    for path in store.files():
        try:
            if read_header(path).key.recipe != key.recipe:
                continue
            FeatureSet.open(path)
        except CorruptEntryError:
            found += proven_rows(path)
        except CacheError as error:
            log.debug("not reused: %s", error)
    return found


def proven_rows(path: Path) -> list[FinishedRows]:
    """Return the proven rows of a complete entry whose tables may be damaged.

    Raises
    ------
    CacheError
        Its structure or its key is damaged.
    """
    opened = open_file(path)
    header = opened.header
    sums = {
        (split, block): checksum
        for split in header.features
        for block, checksum in enumerate(opened.array(header.blocks[split]).tolist())
    }
    return _proven(opened, sums)
