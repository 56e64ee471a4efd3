"""Read the feature rows of a split; each block is compared with its checksum when it is read."""

from __future__ import annotations

import mmap
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.cache.checksum import checksum_rows
from probe.cache.damage import BadBlock, bad_block, corrupt
from probe.cache.file import Header, OpenFile
from probe.core.machine import usable_cores
from probe.errors import CacheError, CorruptEntryError

KEPT_BLOCKS = 64  # unpacked, about 64 MiB
MANY_BLOCKS, STRIDE, MOST_THREADS = 128, 64, 4


class MappedRows:
    """Uncompressed rows, memory-mapped.

    Parameters
    ----------
    sums : uint64, (n_blocks,)
    """

    def __init__(self, opened: OpenFile, split: str, sums: NDArray[np.uint64]) -> None:
        self._opened, self._header, self._split, self._sums = opened, opened.header, split, sums
        self._map = opened.array(opened.header.features[split])
        self._checked = np.zeros(len(sums), bool)

    def all(self) -> NDArray[Any]:
        """Return all rows, checked, as a read-only map of the file."""
        self.check(range(len(self._sums)))
        return self._map

    def take(self, index: NDArray[np.intp]) -> NDArray[Any]:
        """Return a copy of some rows; their blocks are checked."""
        if not self._checked.all():
            self.check(np.unique(index // self._header.block_rows).tolist())
        return self._map[index]

    def release(self) -> None:
        """Release the memory of mapped pages; rows are read again when they are used."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._opened.data.madvise(mmap.MADV_DONTNEED)

    def blocks(self) -> Iterator[NDArray[Any]]:
        """Yield the blocks, each checked just before, so that it is in the CPU cache."""
        for block in range(len(self._sums)):
            self.check([block])
            yield self._map[self._header.block_slice(self._split, block)]

    def check(self, blocks: Iterable[int]) -> None:
        """Raise for the first damaged one of the blocks that were not checked yet.

        Raises
        ------
        CorruptEntryError
            Names the first bad row.
        """
        for block in self._damaged(blocks):
            raise corrupt(self._opened, self._split, block, self._as_found(block))

    def damaged(self, blocks: Iterable[int]) -> list[BadBlock]:
        """Return those of some blocks that are damaged."""
        return [
            bad_block(self._opened, self._split, block, self._as_found(block))
            for block in self._damaged(blocks)
        ]

    def _as_found(self, block: int) -> NDArray[Any]:
        return self._map[self._header.block_slice(self._split, block)]

    def _damaged(self, blocks: Iterable[int]) -> list[int]:
        """Return the damaged ones of the blocks that were not checked yet.

        Many are read on several threads: hashing releases the interpreter's lock, and disks are
        faster with several requests at once.
        """
        waiting = [block for block in blocks if not self._checked[block]]
        if len(waiting) < MANY_BLOCKS:
            return self._compare(waiting)
        strides = [waiting[i : i + STRIDE] for i in range(0, len(waiting), STRIDE)]
        with ThreadPoolExecutor(min(usable_cores(), MOST_THREADS)) as pool:
            return [block for found in pool.map(self._compare, strides) for block in found]

    def _compare(self, blocks: Iterable[int]) -> list[int]:
        """Compare blocks with their checksums; return those that differ."""
        bad = []
        for block in blocks:
            where = self._header.block_slice(self._split, block)
            self._checked[block] = checksum_rows(self._map[where]) == self._sums[block]
            if not self._checked[block]:
                bad.append(block)
        return bad


class PackedRows:
    """Rows in compressed chunks of one block each.

    Parameters
    ----------
    sums : uint64, (n_blocks,)
        Of the unpacked rows.
    """

    def __init__(self, opened: OpenFile, split: str, sums: NDArray[np.uint64]) -> None:
        require_filters(opened.header)
        self._opened, self._header, self._split, self._sums = opened, opened.header, split, sums
        self._dataset = opened.hdf5[split]["features"]
        self._kept: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()  # data loaders read from several threads

    def all(self) -> NDArray[Any]:
        """Return all rows, checked, unpacked into new memory."""
        rows = np.empty(self._dataset.shape, self._dataset.dtype)
        for block in range(len(self._sums)):
            where = self._header.block_slice(self._split, block)
            self._read(block, rows[where])
        rows.flags.writeable = False
        return rows

    def take(self, index: NDArray[np.intp]) -> NDArray[Any]:
        """Return a copy of some rows; recently used blocks are kept unpacked."""
        rows = np.empty((len(index), *self._dataset.shape[1:]), self._dataset.dtype)
        owner = index // self._header.block_rows
        for block in np.unique(owner).tolist():
            here = owner == block
            rows[here] = self._unpacked(block)[index[here] - block * self._header.block_rows]
        return rows

    def release(self) -> None:
        """Do nothing: the number of unpacked blocks is limited already."""

    def blocks(self) -> Iterator[NDArray[Any]]:
        """Yield the blocks, unpacked and checked."""
        for block in range(len(self._sums)):
            yield self._unpacked(block)

    def damaged(self, blocks: Iterable[int]) -> list[BadBlock]:
        """Return those of some blocks that are damaged or cannot be unpacked."""
        bad = []
        for block in blocks:
            try:
                self._unpacked(block)
            except CorruptEntryError:
                bad.append(bad_block(self._opened, self._split, block, self._as_found(block)))
        return bad

    def _unpacked(self, block: int) -> NDArray[Any]:
        with self._lock:
            return self._kept_or_read(block)

    def _kept_or_read(self, block: int) -> NDArray[Any]:
        if block in self._kept:
            self._kept.move_to_end(block)
            return self._kept[block]
        rows = self._empty(block)
        self._read(block, rows)
        self._kept[block] = rows
        if len(self._kept) > KEPT_BLOCKS:
            self._kept.popitem(last=False)
        return rows

    def _empty(self, block: int) -> NDArray[Any]:
        where = self._header.block_slice(self._split, block)
        return np.empty((where.stop - where.start, *self._dataset.shape[1:]), self._dataset.dtype)

    def _read(self, block: int, into: NDArray[Any]) -> None:
        try:
            self._dataset.read_direct(into, self._header.block_slice(self._split, block))
        except (OSError, RuntimeError) as error:  # the filter cannot unpack the bytes
            raise corrupt(self._opened, self._split, block, None) from error
        if checksum_rows(into) != self._sums[block]:
            raise corrupt(self._opened, self._split, block, into)

    def _as_found(self, block: int) -> NDArray[Any] | None:
        """Return a damaged block as unpacked, or None."""
        rows = self._empty(block)
        try:
            self._dataset.read_direct(rows, self._header.block_slice(self._split, block))
        except (OSError, RuntimeError):
            return None
        return rows


def require_filters(header: Header) -> None:
    """Load the decompressors of packed entries.

    Raises
    ------
    CacheError
        hdf5plugin is not installed.
    """
    try:
        import hdf5plugin  # noqa: F401 - importing it registers the filters
    except ImportError:
        raise CacheError(
            f"{header.path}: packed rows are written and read with hdf5plugin; "
            "install it with `pip install 'frozen-probe[pack]'`"
        ) from None
