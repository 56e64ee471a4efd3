"""Rewrite an entry in compressed chunks, or in half precision."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.cache.checksum import (
    SplitTable,
    checksum_columns,
    checksum_folds,
    checksum_rows,
    checksum_seal,
    checksum_tables,
    fold_rows,
    fold_tables,
)
from probe.cache.create import allocate, new_file, rows_per_block, unwritable, write_structure
from probe.cache.features import FeatureSet
from probe.cache.key import FeatureKey, canonical_json
from probe.cache.rows import require_filters
from probe.cache.store import Store
from probe.core.files import replacing
from probe.errors import CacheError, UsageError

CODECS = ("blosc-lz4", "blosc-zstd", "zstd", "none")
DEFAULT_CODEC = "zstd"  # benchmarks/cache_pack.py says why


@dataclass(frozen=True, kw_only=True)
class Packed:
    """The result of packing an entry.

    Parameters
    ----------
    before, after : int
        Bytes of the files.
    largest : float
        Largest absolute difference between a stored feature and the original; 0 if lossless.
    relative : float
        Largest norm of a row's difference, relative to the row's norm.
    """

    entry: FeatureSet
    before: int
    after: int
    largest: float
    relative: float


def pack(
    entry: FeatureSet, store: Store, *, codec: str = DEFAULT_CODEC, dtype: str | None = None
) -> Packed:
    """Rewrite an entry in compressed chunks, one for each block of rows.

    With the same dtype the new file replaces the old one. With another dtype it is another entry,
    the one that ``probe extract --dtype`` would make, and the old one stays.

    Parameters
    ----------
    codec : {"blosc-lz4", "blosc-zstd", "zstd", "none"}
        ``none`` gives contiguous rows again, which are memory-mapped.
    dtype : {"float32", "float16"}, optional
        Stored type. Default: unchanged.

    Raises
    ------
    CacheError
        A feature is beyond float16, the disk refuses, or hdf5plugin is not installed.
    CorruptEntryError
        The entry is damaged.
    """
    if codec not in CODECS:
        raise UsageError(f"--codec {codec}: expected {', '.join(CODECS)}")
    if codec != "none":
        require_filters(entry.header)
    key = replace(entry.key, dtype=dtype or entry.key.dtype)
    target = entry.path if key == entry.key else store.path_of(key, entry.dataset)
    errors = _Errors()
    before = entry.path.stat().st_size
    with store.lock(key):
        for left in store.temporaries():  # of a killed process: the lock excludes others
            if left.name.startswith(f".{target.name}."):
                left.unlink(missing_ok=True)
        try:
            with replacing(target) as temporary:
                _write(temporary, entry, key, codec, errors)
        except CacheError:
            raise
        except (OSError, RuntimeError) as error:  # h5py raises either when it cannot write
            raise unwritable(target, error) from error
    return Packed(
        entry=FeatureSet.open(target),
        before=before,
        after=os.stat(target).st_size,
        largest=errors.largest,
        relative=errors.relative,
    )


class _Errors:
    """The largest rounding errors so far."""

    def __init__(self) -> None:
        self.largest = self.relative = 0.0

    def note(self, exact: NDArray[Any], stored: NDArray[Any]) -> None:
        wide = exact.reshape(len(exact), -1).astype(np.float64)
        difference = stored.reshape(len(stored), -1).astype(np.float64) - wide
        norms = np.maximum(np.linalg.norm(wide, axis=1), np.finfo(np.float32).tiny)
        self.largest = max(self.largest, float(np.abs(difference).max(initial=0)))
        relative = np.linalg.norm(difference, axis=1) / norms
        self.relative = max(self.relative, float(relative.max(initial=0)))


def _write(path: Path, entry: FeatureSet, key: FeatureKey, codec: str, errors: _Errors) -> None:
    dtype = np.dtype(key.dtype)
    block_rows = rows_per_block(int(np.prod(entry.row_shape, dtype=np.int64)) * dtype.itemsize)
    tables: dict[str, SplitTable] = {name: split.table for name, split in entry.splits.items()}
    sums, folds = {}, {}
    with new_file(path) as (file, disk):
        write_structure(
            file, key, tables,
            block_rows=block_rows, classes=entry.classes, provenance=entry.provenance,
        )  # fmt: skip
        for name, table in tables.items():
            rows = _allocate(file[name], (len(table), *entry.row_shape), dtype, block_rows, codec)
            found = np.zeros(file[name]["blocks"].shape, np.uint64)
            folded = np.zeros(len(table), np.uint32)
            for number, block in enumerate(_converted(entry, name, dtype, block_rows, errors)):
                start = number * block_rows
                rows[start : start + len(block)] = block
                disk.check()
                found[number] = checksum_rows(block)
                folded[start : start + len(block)] = fold_rows(block)
            file[name]["blocks"][...] = sums[name] = found
            file[name]["folds"][...] = folds[name] = fold_tables(folded, table)
        classes = canonical_json(list(entry.classes))
        texts = canonical_json(key.to_json()), classes, canonical_json(dict(entry.provenance))
        file["checksum"][...] = np.array(checksum_tables(texts, tables, sums), np.uint64)
        if "column_checksum" in file:
            file["column_checksum"][...] = np.array(checksum_columns(tables), np.uint64)
        file["fold_checksum"][...] = np.array(checksum_folds(folds), np.uint64)
        seal = np.array(entry.seal, np.float64)
        file["seal"][...] = seal
        words = checksum_seal(key.digest, block_rows, seal)
        file["seal_checksum"][...] = np.array(words, np.uint64)


def _allocate(
    group: Any, shape: tuple[int, ...], dtype: np.dtype[Any], block_rows: int, codec: str
) -> Any:
    if codec == "none":
        allocate(group, "features", shape, dtype)
        return group["features"]
    chunks = (min(block_rows, max(shape[0], 1)), *shape[1:])
    compression, shuffle = _filter(codec)
    return group.create_dataset(
        "features", shape, dtype, chunks=chunks, compression=compression, shuffle=shuffle
    )


def _filter(codec: str) -> tuple[Any, bool]:
    """Return the compressor, and whether HDF5 itself shuffles the bytes beforehand."""
    import hdf5plugin

    if codec == "zstd":
        return hdf5plugin.Zstd(clevel=3), True
    shuffle = hdf5plugin.Blosc.SHUFFLE
    return hdf5plugin.Blosc(cname=codec.removeprefix("blosc-"), clevel=3, shuffle=shuffle), False


def _converted(
    entry: FeatureSet, split: str, dtype: np.dtype[Any], block_rows: int, errors: _Errors
) -> Iterator[NDArray[Any]]:
    """Yield blocks of rows in the stored dtype.

    Raises
    ------
    CacheError
        A feature is beyond the dtype's range; the message names the image.
    """
    source = entry[split]
    for start in range(0, len(source), block_rows):
        exact = source.rows(range(start, min(start + block_rows, len(source))))
        with np.errstate(over="ignore"):
            stored = np.ascontiguousarray(exact, dtype)
        bad = ~np.isfinite(stored.reshape(len(stored), -1)).all(axis=1)
        if bad.any():
            row = int(bad.argmax())
            raise CacheError(
                f"{entry.path}: a feature of {source.ids[start + row]} is "
                f"{np.abs(exact[row]).max():.6g}, beyond {dtype}; leave --dtype out"
            )
        errors.note(exact, stored)
        yield stored
