"""The two kinds of checksum of an entry: one a block of rows, one over all the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class SplitTable:
    """What is known of a split before any feature is.

    Parameters
    ----------
    labels : int32, (n,), or uint8, (n, n_classes)
    ids : fixed-length UTF-8, (n,)
    content : uint8, (n, 16)
    """

    labels: NDArray[np.int32] | NDArray[np.uint8]
    ids: NDArray[np.bytes_]
    content: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.labels)

    def same_rows(self, other: SplitTable) -> bool:
        """Whether labels and ids agree, however wide either stores its ids."""
        return np.array_equal(self.labels, other.labels) and np.array_equal(self.ids, other.ids)


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
    """Return the xxh3-128 of the attributes and numbers that no other checksum covers, low first.

    Parameters
    ----------
    digest, block_rows
        The attributes of these names; format and version are what they are in every file.
    seal : float64, (2,)
    """
    hasher = xxhash.xxh3_128(f"probe-features 1 {digest} {block_rows} ".encode())
    hasher.update(bytes_of(np.ascontiguousarray(seal)))
    value = hasher.intdigest()
    return value & (2**64 - 1), value >> 64


def checksum_tables(
    texts: Iterable[str],
    tables: Mapping[str, SplitTable],
    blocks: Mapping[str, NDArray[np.uint64]],
) -> tuple[int, int]:
    """Return the xxh3-128 of all that is not a feature, as (low, high) words.

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
    digest = hasher.intdigest()
    return digest & (2**64 - 1), digest >> 64
