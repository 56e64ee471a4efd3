"""Entries side by side: what they are called together, and which rows are the same image's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.errors import DataError

BESIDE = "+"  # in no entry's name
REDUCED = re.compile(r"-pca(\d+)$")  # an entry's name ends with its digest


def features_name(entries: Sequence[str], pca: int | None = None) -> str:
    """Return what features are called that lie in several entries, or that a PCA reduced."""
    return BESIDE.join(entries) + (f"-pca{pca}" if pca else "")


def parse_features_name(name: str) -> tuple[tuple[str, ...], int | None]:
    """Return the entries, in order, and the width after a PCA; undoes `features_name`."""
    found = REDUCED.search(name)
    whole = name[: found.start()] if found else name
    return tuple(whole.split(BESIDE)), int(found[1]) if found else None


def matching_rows(split: Any, other: Any, *, name: str, split_name: str) -> NDArray[np.intp]:
    """Return which rows of another entry's split are the images of a split, in its order.

    Parameters
    ----------
    split, other : FeatureSplit, or what has its ids and content
        `other` may be None.
    name, split_name : str
        What the other features and the split are called, for the message.

    Raises
    ------
    DataError
        An image is not there, or has other contents.
    """
    place = {} if other is None else {one: row for row, one in enumerate(other.ids)}
    lacking = sum(one not in place for one in split.ids)
    if other is None or lacking:
        raise DataError(f"{name} has no features of {lacking:,} images of {split_name}")
    rows = np.array([place[one] for one in split.ids], np.intp)
    if not np.array_equal(other.content[rows], split.content):
        raise DataError(f"{name}: images of {split_name} have the same ids and other contents")
    return rows
