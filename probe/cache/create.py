"""Create the HDF5 file of an entry: its structure, and space for the rows that come later.

The structure is written once, flushed, and never touched again: rows go straight to the file
offset of `features`, so that a kill can lose rows but never the file. The space is reserved first,
since HDF5 crashes where a write fails. How much space compressed rows need is not known
beforehand; `new_file` writes them through a file object that hides a full disk from HDF5.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from probe.cache.checksum import FOLDED, SplitTable, encode_strings
from probe.cache.file import MAGIC
from probe.cache.key import FORMAT, FeatureKey, canonical_json
from probe.core.files import reason_of, share
from probe.core.records import escape_surrogates
from probe.errors import CacheError

BLOCK_BYTES = 1 << 20
MIN_BLOCK_ROWS, MAX_BLOCK_ROWS = 16, 1024
ALIGNMENT = 4096  # arrays of a page or more start at a page
FILE_OPTIONS: dict[str, Any] = {
    # object headers that carry checksums; the older ones, still h5py's default, do not
    "libver": ("v108", "v108"),
    "alignment_threshold": ALIGNMENT,
    "alignment_interval": ALIGNMENT,
}


def rows_per_block(row_bytes: int) -> int:
    """Return the rows of a block: the power of two that makes about 1 MiB, within limits."""
    rows = max(BLOCK_BYTES // max(row_bytes, 1), 1)
    return min(max(1 << (rows.bit_length() - 1), MIN_BLOCK_ROWS), MAX_BLOCK_ROWS)


def create(
    path: Path, key: FeatureKey, tables: Mapping[str, SplitTable], *,
    row_shape: tuple[int, ...], classes: tuple[str, ...], provenance: Mapping[str, Any],
) -> None:  # fmt: skip
    """Write the structure of an entry and reserve the disk space of its rows.

    Raises
    ------
    CacheError
        The disk is full, or the folder cannot be written.
    """
    dtype = np.dtype(key.dtype)
    block_rows = rows_per_block(int(np.prod(row_shape, dtype=np.int64)) * dtype.itemsize)
    try:
        _check_room(path, tables, row_shape, dtype)
        with h5py.File(path, "w", **FILE_OPTIONS) as file:
            write_structure(
                file, key, tables,
                block_rows=block_rows, classes=classes, provenance=provenance,
            )  # fmt: skip
            for split, table in tables.items():
                allocate(file[split], "features", (len(table.labels), *row_shape), dtype)
        with path.open("r+b") as raw:
            _reserve(raw.fileno(), path.stat().st_size)
            os.fsync(raw.fileno())
        share(path)  # another user may resume it
    except (OSError, RuntimeError) as error:  # h5py raises either when it cannot flush
        path.unlink(missing_ok=True)
        raise unwritable(path, error) from error


def unwritable(path: Path, error: BaseException) -> CacheError:
    """Return the CacheError for a write that the disk refused."""
    return CacheError(
        f"{path}: cannot be written ({reason_of(error)}); finished rows are kept, make room or "
        "name another folder with --cache-dir, and run the same command again"
    )


def _check_room(
    path: Path, tables: Mapping[str, SplitTable], row_shape: tuple[int, ...], dtype: np.dtype[Any]
) -> None:
    """Reserve all of the space first, since HDF5 does not recover from a full disk."""
    row = int(np.prod(row_shape, dtype=np.int64)) * dtype.itemsize + 48
    size = sum(
        len(one) * row + one.ids.nbytes + one.content.nbytes
        + one.columns.nbytes + one.column_values.nbytes
        for one in tables.values()
    )  # fmt: skip
    with path.open("wb") as raw:
        _reserve(raw.fileno(), size + ALIGNMENT)


def _reserve(descriptor: int, size: int) -> None:
    if not hasattr(os, "posix_fallocate"):  # macOS, where a full disk shows when rows are written
        return
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # not every file system can
            raise


def write_structure(
    file: Any, key: FeatureKey, tables: Mapping[str, SplitTable], *,
    block_rows: int, classes: tuple[str, ...], provenance: Mapping[str, Any],
) -> None:  # fmt: skip
    """Write all of an entry but its features; checksums and seal are allocated, not filled."""
    _write_text(file, "format", MAGIC)
    file.attrs["version"] = FORMAT
    _write_text(file, "digest", key.digest)
    file.attrs["block_rows"] = block_rows
    _write_text(file, "key", canonical_json(key.to_json()))
    _write_text(file, "provenance", escape_surrogates(canonical_json(dict(provenance))))
    _write_strings(file, "classes", encode_strings(classes))
    allocate(file, "checksum", (2,), np.dtype(np.uint64))
    allocate(file, "fold_checksum", (2,), np.dtype(np.uint64))
    allocate(file, "seal", (2,), np.dtype(np.float64))
    allocate(file, "seal_checksum", (2,), np.dtype(np.uint64))
    for split, table in tables.items():
        group, count = file.create_group(split), len(table.labels)
        group.create_dataset("labels", data=table.labels)
        _write_strings(group, "ids", table.ids)
        group.create_dataset("content", data=table.content)
        allocate(group, "blocks", (-(-count // block_rows),), np.dtype(np.uint64))
        allocate(group, "folds", (count, len(FOLDED)), np.dtype(np.uint32))
        if table.column_values.size:
            group.create_dataset("columns", data=table.columns)
            group.create_dataset("column_values", data=table.column_values)
    if any(table.column_values.size for table in tables.values()):
        allocate(file, "column_checksum", (2,), np.dtype(np.uint64))


def _write_text(file: Any, name: str, text: str) -> None:
    # of fixed length: other strings lie in a heap without a checksum, and a damaged heap can make
    # HDF5 loop for ever
    data = text.encode()
    file.attrs.create(name, np.bytes_(data), dtype=h5py.string_dtype("utf-8", len(data)))


def _write_strings(group: Any, name: str, values: NDArray[np.bytes_]) -> None:
    # HDF5 does not convert between character sets, so the array's type must be UTF-8
    group.create_dataset(
        name, data=values.astype(h5py.string_dtype("utf-8", values.dtype.itemsize))
    )


def allocate(group: Any, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Create a contiguous dataset: its place in the file is fixed, its bytes are unwritten."""
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.CONTIGUOUS)
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    plist.set_obj_track_times(False)  # equal entries are equal files
    kind = h5py.h5t.py_create(dtype, logical=True)
    h5py.h5d.create(group.id, name.encode(), kind, h5py.h5s.create_simple(shape), dcpl=plist)


class _Disk:
    """A file object for h5py that remembers a refused write instead of raising from inside HDF5.

    After the first refusal all writes are discarded; `check` raises it.

    Attributes
    ----------
    refused : OSError or None
        The first error.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self.refused: OSError | None = None
        for name in ("read", "readinto", "seek", "tell"):
            setattr(self, name, getattr(self._file, name))

    def write(self, data: memoryview) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        while left and self.refused is None:
            try:
                left = left[self._file.write(left) or 0 :]
            except OSError as error:
                self.refused = error
        return size

    def truncate(self, size: int) -> int:
        try:
            return self._file.truncate(size)
        except OSError as error:
            self.refused = self.refused or error
            return size

    def flush(self) -> None:
        """Nothing is buffered."""

    def close(self) -> None:
        self._file.close()

    def check(self) -> None:
        if self.refused is not None:
            raise OSError(self.refused.errno, os.strerror(self.refused.errno or 0))


@contextmanager
def new_file(path: Path) -> Iterator[tuple[Any, _Disk]]:
    """Yield a new HDF5 file and the disk object that it writes to.

    Raises
    ------
    OSError
        The disk refused a write; ``disk.check()`` raises it early.
    """
    disk = _Disk(path)
    try:
        with h5py.File(disk, "w", **FILE_OPTIONS) as file:
            yield file, disk
        disk.check()
    finally:
        disk.close()
