"""Write an entry block by block, and resume one whose process was killed.

The unfinished file has a hidden name. A journal beside it names the blocks that are complete. One
of its records has 20 bytes, little-endian: split number (uint32), block number (uint32), xxh3-64 of
the block's rows (uint64), xxh32 of these three (uint32). `Writer.seal` copies the checksums into
the file, which then gets the entry's name.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from probe.cache.checksum import (
    SplitTable,
    bytes_of,
    checksum_columns,
    checksum_folds,
    checksum_rows,
    checksum_seal,
    checksum_tables,
    fold_rows,
    fold_tables,
)
from probe.cache.create import create, unwritable
from probe.cache.features import FeatureSet
from probe.cache.file import OpenFile, engine_of, open_file
from probe.cache.key import FeatureKey
from probe.cache.store import Store
from probe.core.files import share, sync
from probe.core.short_repr import short_repr
from probe.errors import CacheError

log = logging.getLogger(__name__)

_RECORD = struct.Struct("<IIQI")
_BODY = struct.Struct("<IIQ")
RECORD_BYTES = _RECORD.size


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A new entry before its rows are written: key, tables, class names and provenance."""

    __repr__ = short_repr

    key: FeatureKey
    dataset: str
    tables: Mapping[str, SplitTable]
    row_shape: tuple[int, ...]
    classes: tuple[str, ...]
    provenance: Mapping[str, Any]


class PendingEntry:
    """An entry that is being written.

    Call under `Store.lock`. The unfinished file of an interrupted run is resumed where it matches.

    Parameters
    ----------
    fresh : bool, default=False
        Start with an empty file.

    Attributes
    ----------
    resumed : bool
        An interrupted run's file is continued.
    """

    def __init__(self, store: Store, draft: Draft, *, fresh: bool = False) -> None:
        self.final = store.path_of(draft.key, draft.dataset)
        self._partial, self._journal = unfinished_files(self.final)
        opened = None if fresh else self._resumable(draft)
        self.resumed = opened is not None
        if opened is None:
            self._journal.unlink(missing_ok=True)  # before the file that it describes
            self._partial.unlink(missing_ok=True)
            create(
                self._partial, draft.key, draft.tables,
                row_shape=draft.row_shape, classes=draft.classes, provenance=draft.provenance,
            )  # fmt: skip
            opened = open_file(self._partial)
        self.writer = Writer(opened, self._journal)

    def _resumable(self, draft: Draft) -> OpenFile | None:
        if not (self._partial.exists() and self._journal.exists()):
            return None
        try:
            opened = open_file(self._partial)  # raises for a truncated file
        except CacheError as error:
            log.info("an interrupted run cannot be taken up: %s", error)
            return None
        header = opened.header
        same = (
            header.key == draft.key
            and header.engine == engine_of(draft.provenance)
            and header.classes == draft.classes
            and all(region.shape[1:] == draft.row_shape for region in header.features.values())
            and all(_same(opened.table(split), table) for split, table in draft.tables.items())
        )
        return opened if same else None

    def publish(self, *, seconds: float, forwarded: int) -> FeatureSet:
        """Complete the file and give it its final name."""
        self.writer.seal(seconds=seconds, forwarded=forwarded)
        self.writer.close()
        publish(self._partial, self.final)
        self._journal.unlink(missing_ok=True)
        return FeatureSet.open(self.final)

    def close(self) -> None:
        """Close the files; finished blocks stay for the next run."""
        self.writer.close()


def unfinished_files(final: Path) -> tuple[Path, Path]:
    """Return the paths of an unfinished entry and its journal."""
    return (
        final.with_name(f".{final.stem}.partial"),
        final.with_name(f".{final.stem}.journal"),
    )


def _same(found: SplitTable, table: SplitTable) -> bool:
    # content too: otherwise a damaged copy of it would get a valid checksum
    return not found.differing(table) and np.array_equal(found.content, table.content)


class _Running:
    """The checksum of a block whose rows arrive in order, so that they are not read again."""

    def __init__(self, split: str, block: int) -> None:
        self._place, self._rows = (split, block), 0
        self.hasher = xxhash.xxh3_64()

    def add(self, split: str, block: int, within: int, rows: NDArray[Any]) -> bool:
        """Add rows; return False where they are not the next ones of the block."""
        if (split, block) != self._place or within != self._rows:
            return False
        self.hasher.update(bytes_of(rows))
        self._rows += len(rows)
        return True


class Writer:
    """Write the rows and the checksums of an unfinished entry.

    Parameters
    ----------
    opened : OpenFile
        The unfinished file.
    journal : Path
        Blocks that it names, and that match their checksums, are done.

    Attributes
    ----------
    done : dict of split to bool array
        Which blocks are complete.
    """

    def __init__(self, opened: OpenFile, journal: Path) -> None:
        self._opened, self.header = opened, opened.header
        self._buffer = bytearray()
        self._running: _Running | None = None
        self._ready: dict[
            tuple[str, int], int
        ] = {}  # checksums of blocks whose rows arrived in order
        self._splits = list(self.header.features)
        counts = {split: self.header.block_count(split) for split in self._splits}
        self._sums = {split: np.zeros(count, np.uint64) for split, count in counts.items()}
        rows = {split: region.shape[0] for split, region in self.header.features.items()}
        self._folds = {split: np.zeros(count, np.uint32) for split, count in rows.items()}
        self.done = {split: np.zeros(count, bool) for split, count in counts.items()}
        try:
            self._file = self.header.path.open("r+b", buffering=0)
            self._log = journal.open("a+b", buffering=0)
            share(journal)
        except OSError as error:
            raise unwritable(self.header.path, error) from error
        self._replay()

    def _replay(self) -> None:
        self._log.seek(0)
        text = self._log.read()
        for number, block, checksum in read_records(text):
            if number >= len(self._splits) or block >= len(self._sums[self._splits[number]]):
                continue
            split = self._splits[number]
            data = self._read(split, block)
            if checksum_rows(data) == checksum:
                self._sums[split][block], self.done[split][block] = checksum, True
                self._folds[split][self.header.block_slice(split, block)] = fold_rows(data)
        # an incomplete last record would shift those after it
        self._log.truncate(len(text) // RECORD_BYTES * RECORD_BYTES)

    def _read(self, split: str, block: int) -> NDArray[np.uint8]:
        """Return the bytes of a block in the file, (n, bytes), valid until the next call."""
        where, region = self.header.block_slice(split, block), self.header.features[split]
        count = where.stop - where.start
        size = count * region.row_bytes
        if len(self._buffer) < size:
            self._buffer = bytearray(size)
        # read, not mapped: mapped pages would count as this process's memory
        view = memoryview(self._buffer)[:size]
        self._file.seek(region.start + where.start * region.row_bytes)
        self._file.readinto(view)
        return np.frombuffer(view, np.uint8).reshape(count, region.row_bytes)

    def write(self, split: str, rows: NDArray[np.intp], features: NDArray[Any]) -> None:
        """Write features of ascending rows; consecutive rows of a block become one write.

        Raises
        ------
        CacheError
            The disk refused.
        """
        region = self.header.features[split]
        data = np.ascontiguousarray(features, region.dtype)
        breaks = np.flatnonzero(np.diff(rows) != 1) + 1
        starts = [0, *breaks.tolist()]
        for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
            self._write_run(split, int(rows[start]), data[start:stop])

    def _write_run(self, split: str, first: int, data: NDArray[Any]) -> None:
        """Write consecutive rows block by block, while they are still in the CPU cache."""
        size, region = self.header.block_rows, self.header.features[split]
        while len(data):
            piece = data[: size - first % size]
            self._note(split, first, piece)
            self._pwrite(bytes_of(piece), region.start + first * region.row_bytes)
            first, data = first + len(piece), data[len(piece) :]

    def _note(self, split: str, first: int, piece: NDArray[Any]) -> None:
        """Fold rows of one block, and update its checksum while they arrive in order."""
        block, within = divmod(first, self.header.block_rows)
        self._folds[split][first : first + len(piece)] = fold_rows(piece)
        self._ready.pop((split, block), None)
        if within == 0:
            self._running = _Running(split, block)
        if self._running is not None and self._running.add(split, block, within, piece):
            where = self.header.block_slice(split, block)
            if within + len(piece) == where.stop - where.start:
                self._ready[split, block] = self._running.hasher.intdigest()
        else:
            self._running = None

    def finish_block(self, split: str, block: int) -> None:
        """Record in the journal that all rows of a block are written.

        Raises
        ------
        CacheError
            The disk refused.
        """
        checksum = self._ready.pop((split, block), None)
        if checksum is None:
            checksum = checksum_rows(self._read(split, block))
        number = self._splits.index(split)
        record = pack_record(number, block, checksum)
        try:
            if self._log.write(record) != len(record):
                raise OSError("no space for the journal")
        except OSError as error:
            raise unwritable(self.header.path, error) from error
        self._sums[split][block], self.done[split][block] = checksum, True

    def seal(self, *, seconds: float, forwarded: int) -> None:
        """Write the checksums into the file and flush it to disk.

        Raises
        ------
        CacheError
            Blocks are missing, or the disk refused.
        """
        if missing := sum(int((~done).sum()) for done in self.done.values()):
            raise CacheError(f"{self.header.path}: {missing} blocks are not written yet")
        header = self.header
        for split in self._splits:
            self._pwrite(bytes_of(self._sums[split]), header.blocks[split].start)
        tables = {split: self._opened.table(split) for split in self._splits}
        words = np.array(checksum_tables(header.texts, tables, self._sums), np.uint64)
        self._pwrite(bytes_of(words), header.checksum.start)
        if header.column_checksum is not None:
            words = np.array(checksum_columns(tables), np.uint64)
            self._pwrite(bytes_of(words), header.column_checksum.start)
        self._seal_folds(tables)
        facts = np.array([seconds, forwarded], np.float64)
        self._pwrite(bytes_of(facts), header.seal.start)
        if header.seal_checksum is not None:  # None where an older version began the file
            words = np.array(checksum_seal(header.digest, header.block_rows, facts), np.uint64)
            self._pwrite(bytes_of(words), header.seal_checksum.start)
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise unwritable(self.header.path, error) from error

    def _seal_folds(self, tables: Mapping[str, SplitTable]) -> None:
        header = self.header
        if header.fold_checksum is None:  # an older version began the file
            return
        folds = {name: fold_tables(self._folds[name], table) for name, table in tables.items()}
        for split, one in folds.items():
            self._pwrite(bytes_of(one), header.folds[split].start)
        words = np.array(checksum_folds(folds), np.uint64)
        self._pwrite(bytes_of(words), header.fold_checksum.start)

    def close(self) -> None:
        """Release the files; a second call does nothing."""
        self._file.close()
        self._log.close()
        with contextlib.suppress(BufferError):  # somebody has an array of it
            self._opened.data.close()  # or Windows would not rename the file

    def _pwrite(self, data: memoryview, offset: int) -> None:
        try:
            self._file.seek(offset)
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise unwritable(self.header.path, error) from error


def publish(partial: Path, final: Path) -> None:
    """Rename a complete file to its final name."""
    partial.replace(final)
    sync(final.parent)


def pack_record(number: int, block: int, checksum: int) -> bytes:
    """Return the journal record of a complete block."""
    return _RECORD.pack(number, block, checksum, _record_checksum(number, block, checksum))


def read_records(text: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (split number, block, checksum) of each undamaged record."""
    whole = len(text) // RECORD_BYTES * RECORD_BYTES
    for number, block, checksum, check in _RECORD.iter_unpack(text[:whole]):
        if check == _record_checksum(number, block, checksum):
            yield number, block, checksum


def _record_checksum(number: int, block: int, checksum: int) -> int:
    return xxhash.xxh32_intdigest(_BODY.pack(number, block, checksum))
