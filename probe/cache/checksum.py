"""Checksums of an entry's blocks and tables, and folds that locate damaged rows.

A fold is the XOR of all 32-bit words of a row. It costs next to nothing and sees any single flipped
bit, but two flips of the same bit of two words cancel. So checksums alone decide whether a block
may be used, and folds only say which of its rows are damaged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from probe.core.short_repr import short_repr

FOLDED = ("features", "labels", "ids", "content")  # the columns of the folds


@dataclass(frozen=True, kw_only=True)
class SplitTable:
    """Labels, ids and content hashes of a split: all of it but the features.

    Parameters
    ----------
    labels : int32, (n,), or uint8, (n, n_classes)
    ids : fixed-length UTF-8, (n,)
    content : uint8, (n, 16)
    columns : uint32, (n_columns, n)
        Of each column of a table, which of its values a row has; see `encode_columns`.
    column_values : uint8, (n_bytes,)
        Their names and values.
    """

    __repr__ = short_repr

    labels: NDArray[np.int32] | NDArray[np.uint8]
    ids: NDArray[np.bytes_]
    content: NDArray[np.uint8]
    columns: NDArray[np.uint32] = field(default_factory=lambda: np.empty((0, 0), np.uint32))
    column_values: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))

    def __len__(self) -> int:
        return len(self.labels)

    def differing(self, other: SplitTable) -> list[str]:
        """Return which of labels, ids and columns are others, whatever the width of stored ids."""
        same = {
            "labels": np.array_equal(self.labels, other.labels),
            "ids": np.array_equal(self.ids, other.ids),
            "columns": np.array_equal(self.column_values, other.column_values)
            and (not self.column_values.size or np.array_equal(self.columns, other.columns)),
        }
        return [name for name, equal in same.items() if not equal]


def _words(hasher: xxhash.xxh3_128) -> tuple[int, int]:
    """Return a 128-bit digest as (low, high) words."""
    digest = hasher.intdigest()
    return digest & (2**64 - 1), digest >> 64


def encode_strings(values: Iterable[str]) -> NDArray[np.bytes_]:
    """Return ids or class names as fixed-length UTF-8."""
    return np.array([one.encode() for one in values], dtype=np.bytes_)


def bytes_of(array: NDArray[Any]) -> memoryview:
    """Return the bytes of a contiguous array without a copy."""
    return array.view(np.uint8).reshape(-1).data


def checksum_rows(rows: NDArray[Any]) -> int:
    """Return the xxh3-64 of contiguous rows."""
    return xxhash.xxh3_64_intdigest(bytes_of(rows))


def checksum_seal(digest: str, block_rows: int, seal: NDArray[np.float64]) -> tuple[int, int]:
    """Return the xxh3-128 of the seal, the digest and the block size, as (low, high) words.

    Parameters
    ----------
    digest, block_rows
        The attributes of these names; format and version are the same in every file.
    seal : float64, (2,)
    """
    hasher = xxhash.xxh3_128(f"probe-features 1 {digest} {block_rows} ".encode())
    hasher.update(bytes_of(np.ascontiguousarray(seal)))
    return _words(hasher)


def checksum_tables(
    texts: Iterable[str],
    tables: Mapping[str, SplitTable],
    blocks: Mapping[str, NDArray[np.uint64]],
) -> tuple[int, int]:
    """Return the xxh3-128 of everything but the features, as (low, high) words.

    Parameters
    ----------
    texts : iterable of str
        Key, class names and provenance, as canonical JSON.
    """
    hasher = xxhash.xxh3_128()
    for text in texts:
        hasher.update(text.encode())
    for split, table in tables.items():
        hasher.update(split.encode())
        for array in (table.labels, table.ids, table.content, blocks[split]):
            hasher.update(str(array.shape).encode())
            hasher.update(bytes_of(np.ascontiguousarray(array)))
    return _words(hasher)


def checksum_columns(tables: Mapping[str, SplitTable]) -> tuple[int, int]:
    """Return the xxh3-128 of the columns of all splits that have some, as (low, high) words."""
    hasher = xxhash.xxh3_128()
    for split, table in tables.items():
        if not table.column_values.size:
            continue
        hasher.update(split.encode())
        for array in (table.columns, table.column_values):
            hasher.update(str(array.shape).encode())
            hasher.update(bytes_of(np.ascontiguousarray(array)))
    return _words(hasher)


def fold_rows(rows: NDArray[Any]) -> NDArray[np.uint32]:
    """Return the XOR of the 32-bit little-endian words of each row.

    Parameters
    ----------
    rows : (n, ...), C order
        The bytes of a row are filled up with zeros to whole words.

    Returns
    -------
    uint32, (n,)
    """
    count = len(rows)
    if not count:
        return np.zeros(0, np.uint32)
    width = rows[:1].nbytes
    data = np.ascontiguousarray(rows).view(np.uint8).reshape(count, width)
    if width % 8:
        padded = np.zeros((count, -(-width // 8) * 8), np.uint8)
        padded[:, :width] = data
        data = padded
    pairs = np.bitwise_xor.reduce(data.view("<u8"), axis=1)  # two words at once
    folds: NDArray[np.uint32] = (pairs ^ pairs >> np.uint64(32)).astype(np.uint32)
    return folds


def fold_tables(features: NDArray[np.uint32], table: SplitTable) -> NDArray[np.uint32]:
    """Return the folds of a split, (n, 4), its columns those of `FOLDED`.

    Parameters
    ----------
    features : uint32, (n,)
        The folds of the feature rows.
    """
    columns = [features, *(fold_rows(getattr(table, name)) for name in FOLDED[1:])]
    return np.stack(columns, axis=1)


def checksum_folds(folds: Mapping[str, NDArray[np.uint32]]) -> tuple[int, int]:
    """Return the xxh3-128 of the folds of all splits, as (low, high) words."""
    hasher = xxhash.xxh3_128()
    for one in folds.values():
        hasher.update(bytes_of(np.ascontiguousarray(one)))
    return _words(hasher)
