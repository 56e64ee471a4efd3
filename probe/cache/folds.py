"""Folds: 32 bits a row that say where damage is, once a checksum has said that there is some.

A fold is the XOR of all 32-bit words of a row. It costs next to nothing and sees any single
flipped bit, but two that are one below the other cancel out. So checksums alone decide whether a
block may be used, and folds only name the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from probe.cache.checksum import SplitTable, bytes_of

FOLDED = ("features", "labels", "ids", "content")  # the columns of the folds


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
    digest = hasher.intdigest()
    return digest & (2**64 - 1), digest >> 64
