"""Filling the rows of an unfinished entry, block by block, and sealing it.

A journal beside the unfinished file (`probe.cache.journal`) names the blocks that are whole, each
with its checksum; `seal` moves those checksums into the file, and only then it gets its name.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from probe.cache.checksum import bytes_of, checksum_tables
from probe.cache.create import unwritable
from probe.cache.file import OpenFile
from probe.cache.journal import RECORD_BYTES, pack_record, read_records
from probe.errors import CacheError
from probe.files import sync


class _Running:
    """The checksum of a block whose rows come in order, so that they need not be read again."""

    def __init__(self, split: str, block: int) -> None:
        self._place, self._rows = (split, block), 0
        self.hasher = xxhash.xxh3_64()

    def add(self, split: str, block: int, within: int, rows: NDArray[Any]) -> bool:
        """Add the next rows of the block; False where they are not the next ones of it."""
        if (split, block) != self._place or within != self._rows:
            return False
        self.hasher.update(bytes_of(rows))
        self._rows += len(rows)
        return True


class Writer:
    """Fills the rows of an unfinished entry and seals it.

    Parameters
    ----------
    opened : OpenFile
        The unfinished file.
    journal : Path
        Appended to; blocks that it names and whose checksum holds are taken as done.

    Attributes
    ----------
    done : dict of split to bool array
        Which blocks are whole.
    """

    def __init__(self, opened: OpenFile, journal: Path) -> None:
        self._opened, self.header = opened, opened.header
        self._buffer = bytearray()
        self._running: _Running | None = None
        self._ready: dict[tuple[str, int], int] = {}  # checksums of blocks whose rows came in order
        self._splits = list(self.header.features)
        counts = {split: self.header.block_count(split) for split in self._splits}
        self._sums = {split: np.zeros(count, np.uint64) for split, count in counts.items()}
        self.done = {split: np.zeros(count, bool) for split, count in counts.items()}
        try:
            self._file = self.header.path.open("r+b", buffering=0)
            self._log = journal.open("a+b", buffering=0)
        except OSError as error:
            raise unwritable(self.header.path, error) from error
        self._data, self._journal = self._file.fileno(), self._log.fileno()
        self._replay()

    def _replay(self) -> None:
        text = os.pread(self._journal, os.fstat(self._journal).st_size, 0)
        for number, block, checksum in read_records(text):
            if number >= len(self._splits) or block >= len(self._sums[self._splits[number]]):
                continue
            split = self._splits[number]
            if self._checksum(split, block) == checksum:
                self._sums[split][block], self.done[split][block] = checksum, True
        # a torn last record would shift those after it
        os.ftruncate(self._journal, len(text) // RECORD_BYTES * RECORD_BYTES)

    def _checksum(self, split: str, block: int) -> int:
        """Return the checksum of a block as the file holds it."""
        where, region = self.header.block_slice(split, block), self.header.features[split]
        size = (where.stop - where.start) * region.row_bytes
        if len(self._buffer) < size:
            self._buffer = bytearray(size)
        # read, not mapped: mapped pages would count as this process's memory
        view = memoryview(self._buffer)[:size]
        os.preadv(self._data, [view], region.start + where.start * region.row_bytes)
        return xxhash.xxh3_64_intdigest(view)

    def write(self, split: str, rows: NDArray[np.intp], features: NDArray[Any]) -> None:
        """Store features of ascending rows; runs of neighbours become one write each.

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
            first = int(rows[start])
            self._pwrite(bytes_of(data[start:stop]), region.start + first * region.row_bytes)
            self._note(split, first, data[start:stop])

    def _note(self, split: str, first: int, data: NDArray[Any]) -> None:
        """Keep the checksum of a block up to date while its rows come in order."""
        size = self.header.block_rows
        while len(data):
            block, within = divmod(first, size)
            piece = data[: size - within]
            self._ready.pop((split, block), None)
            if within == 0:
                self._running = _Running(split, block)
            if self._running is not None and self._running.add(split, block, within, piece):
                where = self.header.block_slice(split, block)
                if within + len(piece) == where.stop - where.start:
                    self._ready[split, block] = self._running.hasher.intdigest()
            else:
                self._running = None
            first, data = first + len(piece), data[len(piece) :]

    def finish_block(self, split: str, block: int) -> None:
        """Note that all rows of a block are written.

        Raises
        ------
        CacheError
            The disk refused.
        """
        checksum = self._ready.pop((split, block), None)
        if checksum is None:
            checksum = self._checksum(split, block)
        number = self._splits.index(split)
        record = pack_record(number, block, checksum)
        try:
            if os.write(self._journal, record) != len(record):
                raise OSError("no space for the journal")
        except OSError as error:
            raise unwritable(self.header.path, error) from error
        self._sums[split][block], self.done[split][block] = checksum, True

    def seal(self, *, seconds: float, forwarded: int) -> None:
        """Move the checksums into the file and flush all of it to disk.

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
        self._pwrite(bytes_of(np.array([seconds, forwarded], np.float64)), header.seal.start)
        try:
            os.fsync(self._data)
        except OSError as error:
            raise unwritable(self.header.path, error) from error

    def close(self) -> None:
        """Release the files; a second call does nothing."""
        self._file.close()
        self._log.close()

    def _pwrite(self, data: memoryview, offset: int) -> None:
        try:
            while data:
                written = os.pwrite(self._data, data, offset)
                data, offset = data[written:], offset + written
        except OSError as error:
            raise unwritable(self.header.path, error) from error


def publish(partial: Path, final: Path) -> None:
    """Give a sealed file its name."""
    partial.replace(final)
    sync(final.parent)
