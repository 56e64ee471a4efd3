"""The HDF5 file of one entry: its layout, and the two ways to touch it.

    /                 attributes: format, version, digest, block_rows; key and provenance as JSON
    /classes          fixed-length UTF-8 (n_classes,)
    /seal             float64 (2,): forward seconds, forwarded rows; then the checksum below
    /checksum         uint64 (2,): xxh3-128 of all but features and seal, low word first
    /<split>/features float32 or float16, (n, ...), contiguous
    /<split>/labels   int32 (n,)
    /<split>/ids      fixed-length UTF-8 (n,)
    /<split>/content  uint8 (n, 16), hash of each image
    /<split>/blocks   uint64 (ceil(n / block_rows),): xxh3-64 of each block of feature rows

The structure is written once, flushed, and never touched again: rows go straight to the file
offset of `features`, so that a kill can cost rows but never the file. A journal beside the
unfinished file names the blocks that are whole, each with its checksum; `seal` moves those
checksums into the file and only then gives it its name.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xxhash
from numpy.typing import NDArray

from probe.cache.key import FORMAT, FeatureKey, canonical_json
from probe.errors import CacheError
from probe.files import sync

MAGIC = "probe-features"
BLOCK_BYTES = 1 << 20
MIN_BLOCK_ROWS, MAX_BLOCK_ROWS = 16, 1024
_RECORD = struct.Struct("<IIQI")  # split number, block number, xxh3-64 of its rows, check of this


@dataclass(frozen=True, kw_only=True)
class SplitTable:
    """What is known of a split before any feature is."""

    labels: NDArray[np.int32]
    ids: NDArray[np.bytes_]  # UTF-8
    content: NDArray[np.uint8]  # (n, 16)


@dataclass(frozen=True, kw_only=True)
class Region:
    """Where an array lies in the file."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize


@dataclass(frozen=True, kw_only=True)
class Header:
    """All of an entry but its rows."""

    path: Path
    key: FeatureKey
    digest: str
    classes: tuple[str, ...]
    provenance: Mapping[str, Any]
    block_rows: int
    features: Mapping[str, Region]
    blocks: Mapping[str, Region]
    checksum: Region
    seal: Region

    def block_count(self, split: str) -> int:
        return self.blocks[split].shape[0]

    def block_slice(self, split: str, block: int) -> slice:
        start = block * self.block_rows
        return slice(start, min(start + self.block_rows, self.features[split].shape[0]))


def rows_per_block(row_bytes: int) -> int:
    """Return the power of two that makes a block of about 1 MiB, within limits."""
    rows = max(BLOCK_BYTES // max(row_bytes, 1), 1)
    return min(max(1 << (rows.bit_length() - 1), MIN_BLOCK_ROWS), MAX_BLOCK_ROWS)


def checksum_rows(rows: NDArray[Any]) -> int:
    """Return the xxh3-64 of contiguous rows."""
    return xxhash.xxh3_64_intdigest(_bytes_of(rows))


def _bytes_of(array: NDArray[Any]) -> memoryview:
    return array.view(np.uint8).reshape(-1).data


def encode_strings(values: Iterable[str]) -> NDArray[np.bytes_]:
    """Return ids or class names as fixed-length UTF-8."""
    return np.array([one.encode() for one in values], dtype=np.bytes_)


def checksum_tables(
    header: Header, tables: Mapping[str, SplitTable], blocks: Mapping[str, NDArray[np.uint64]]
) -> tuple[int, int]:
    """Return the xxh3-128 of all that is not a feature, as (low, high) words."""
    hasher = xxhash.xxh3_128()
    for value in (header.key.to_json(), list(header.classes), dict(header.provenance)):
        hasher.update(canonical_json(value).encode())
    for split, table in tables.items():
        hasher.update(split.encode())
        for array in (table.labels, table.ids, table.content, blocks[split]):
            hasher.update(str(array.shape).encode())
            hasher.update(_bytes_of(np.ascontiguousarray(array)))
    digest = hasher.intdigest()
    return digest & (2**64 - 1), digest >> 64


def create(
    path: Path, key: FeatureKey, tables: Mapping[str, SplitTable], *,
    row_shape: tuple[int, ...], classes: tuple[str, ...], provenance: Mapping[str, Any],
) -> Header:  # fmt: skip
    """Write the structure of an entry, with its rows still unwritten, and reserve the disk for it.

    Raises
    ------
    CacheError
        The disk is full, or the folder cannot be written.
    """
    dtype = np.dtype(key.dtype)
    row_bytes = int(np.prod(row_shape, dtype=np.int64)) * dtype.itemsize
    block_rows = rows_per_block(row_bytes)
    try:
        with h5py.File(path, "w", alignment_threshold=4096, alignment_interval=4096) as file:
            file.attrs["format"] = MAGIC
            file.attrs["version"] = FORMAT
            file.attrs["digest"] = key.digest
            file.attrs["block_rows"] = block_rows
            file.attrs["key"] = canonical_json(key.to_json())
            file.attrs["provenance"] = canonical_json(dict(provenance))
            _write_strings(file, "classes", encode_strings(classes))
            _allocate(file, "checksum", (2,), np.dtype(np.uint64))
            _allocate(file, "seal", (2,), np.dtype(np.float64))
            for split, table in tables.items():
                group, count = file.create_group(split), len(table.labels)
                group.create_dataset("labels", data=table.labels)
                _write_strings(group, "ids", table.ids)
                group.create_dataset("content", data=table.content)
                _allocate(group, "blocks", (-(-count // block_rows),), np.dtype(np.uint64))
                _allocate(group, "features", (count, *row_shape), dtype)
        with path.open("r+b") as raw:
            os.posix_fallocate(raw.fileno(), 0, path.stat().st_size)
            os.fsync(raw.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise CacheError(f"{path}: cannot be written ({error.strerror or error})") from error
    return read_header(path)


def _write_strings(group: Any, name: str, values: NDArray[np.bytes_]) -> None:
    # HDF5 does not convert between character sets, so the array has to say UTF-8 already
    group.create_dataset(
        name, data=values.astype(h5py.string_dtype("utf-8", values.dtype.itemsize))
    )


def _allocate(group: Any, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Create a contiguous dataset whose place in the file is fixed at once and not filled."""
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.CONTIGUOUS)
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    plist.set_obj_track_times(False)  # equal entries are equal files
    kind = h5py.h5t.py_create(dtype, logical=True)
    h5py.h5d.create(group.id, name.encode(), kind, h5py.h5s.create_simple(shape), dcpl=plist)


def read_header(path: Path) -> Header:
    """Read everything about an entry but its tables and rows.

    Raises
    ------
    CacheError
        It is not such a file, or its structure is damaged.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            if file.attrs.get("format") != MAGIC:
                raise CacheError(
                    f"{path}: not a feature file of this tool; `probe cache list` names those"
                )
            if file.attrs["version"] != FORMAT:
                raise CacheError(
                    f"{path}: format version {file.attrs['version']}, this probe reads {FORMAT}; "
                    "extract again"
                )
            key = FeatureKey.from_json(json.loads(file.attrs["key"]))
            splits = [name for name, _ in key.rows]
            return Header(
                path=path,
                key=key,
                digest=str(file.attrs["digest"]),
                classes=tuple(name.decode() for name in file["classes"][()]),
                provenance=json.loads(file.attrs["provenance"]),
                block_rows=int(file.attrs["block_rows"]),
                features={split: _region(file[split]["features"]) for split in splits},
                blocks={split: _region(file[split]["blocks"]) for split in splits},
                checksum=_region(file["checksum"]),
                seal=_region(file["seal"]),
            )
    except FileNotFoundError:
        raise CacheError(f"{path}: no such entry; `probe cache list` shows what there is") from None
    except (OSError, KeyError, ValueError, TypeError) as error:
        if isinstance(error, CacheError):
            raise
        raise CacheError(
            f"{path}: not a readable feature file ({error}); remove it and extract again"
        ) from error


def _region(dataset: Any) -> Region:
    offset = dataset.id.get_offset()
    if offset is None:
        raise ValueError(f"{dataset.name} is not stored in one piece")
    return Region(offset=offset, shape=dataset.shape, dtype=dataset.dtype)


def read_table(path: Path, split: str) -> SplitTable:
    """Read a split's labels, ids and content hashes."""
    with h5py.File(path, "r", locking=False) as file:
        group = file[split]
        return SplitTable(
            labels=group["labels"][()],
            ids=group["ids"][()].astype(np.bytes_),
            content=group["content"][()],
        )


def read_array(path: Path, region: Region) -> NDArray[Any]:
    """Read a small array straight from its place in the file."""
    count = int(np.prod(region.shape, dtype=np.int64))
    return np.fromfile(path, dtype=region.dtype, count=count, offset=region.offset).reshape(
        region.shape
    )


def map_array(path: Path, region: Region) -> NDArray[Any]:
    """Return an array of the file as a read-only memory map."""
    return np.memmap(path, dtype=region.dtype, mode="r", offset=region.offset, shape=region.shape)


class Writer:
    """Fills the rows of an unfinished entry and seals it.

    Parameters
    ----------
    header : Header
        Of the unfinished file.
    journal : Path
        Appended to; blocks that it names and whose checksum holds are taken as done.

    Attributes
    ----------
    done : dict of split to bool array
        Which blocks are whole.
    """

    def __init__(self, header: Header, journal: Path) -> None:
        self.header = header
        self._splits = list(header.features)
        self._sums = {
            split: np.zeros(header.block_count(split), np.uint64) for split in self._splits
        }
        self.done = {split: np.zeros(header.block_count(split), bool) for split in self._splits}
        self._file, self._log = (
            header.path.open("r+b", buffering=0),
            journal.open("a+b", buffering=0),
        )
        self._data, self._journal = self._file.fileno(), self._log.fileno()
        self._replay()

    def _replay(self) -> None:
        text = os.pread(self._journal, os.fstat(self._journal).st_size, 0)
        whole = len(text) // _RECORD.size * _RECORD.size
        for number, block, checksum, check in _RECORD.iter_unpack(text[:whole]):
            known = number < len(self._splits) and block < len(self._sums[self._splits[number]])
            if not known or check != _check(number, block, checksum):
                continue
            split = self._splits[number]
            rows = map_array(self.header.path, self.header.features[split])
            if checksum_rows(rows[self.header.block_slice(split, block)]) == checksum:
                self._sums[split][block], self.done[split][block] = checksum, True
        os.ftruncate(self._journal, whole)  # a torn last record would shift those after it

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
        try:
            for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
                where = region.offset + int(rows[start]) * region.row_bytes
                _pwrite(self._data, _bytes_of(data[start:stop]), where)
        except OSError as error:
            raise CacheError(
                f"{self.header.path}: cannot be written ({error.strerror}); the finished rows are "
                "kept, make room and run the same command again"
            ) from error

    def finish_block(self, split: str, block: int) -> None:
        """Note that all rows of a block are written."""
        where, region = self.header.block_slice(split, block), self.header.features[split]
        size = (where.stop - where.start) * region.row_bytes
        checksum = xxhash.xxh3_64_intdigest(
            os.pread(self._data, size, region.offset + where.start * region.row_bytes)
        )
        number = self._splits.index(split)
        os.write(
            self._journal, _RECORD.pack(number, block, checksum, _check(number, block, checksum))
        )
        self._sums[split][block], self.done[split][block] = checksum, True

    def seal(self, *, seconds: float, forwarded: int) -> None:
        """Move the checksums into the file and flush all of it to disk.

        Raises
        ------
        CacheError
            Blocks are missing.
        """
        if missing := sum(int((~done).sum()) for done in self.done.values()):
            raise CacheError(f"{self.header.path}: {missing} blocks are not written yet")
        header = self.header
        for split in self._splits:
            _pwrite(self._data, _bytes_of(self._sums[split]), header.blocks[split].offset)
        tables = {split: read_table(header.path, split) for split in self._splits}
        words = np.array(checksum_tables(header, tables, self._sums), np.uint64)
        _pwrite(self._data, _bytes_of(words), header.checksum.offset)
        _pwrite(
            self._data,
            _bytes_of(np.array([seconds, forwarded], np.float64)),
            header.seal.offset,
        )
        os.fsync(self._data)

    def close(self) -> None:
        """Release the files; a second call does nothing."""
        self._file.close()
        self._log.close()


def _check(number: int, block: int, checksum: int) -> int:
    return xxhash.xxh32_intdigest(struct.pack("<IIQ", number, block, checksum))


def _pwrite(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def publish(partial: Path, final: Path) -> None:
    """Give a sealed file its name."""
    partial.replace(final)
    sync(final.parent)
