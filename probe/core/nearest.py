"""Nearest neighbours by cosine, some queries at a time: the one search behind all that has one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array32 = NDArray[np.float32]
RowNumbers = NDArray[np.intp]


def highest(values: NDArray[Any], k: int) -> tuple[NDArray[Any], RowNumbers]:
    """Return the k highest values of each row, (n, k), highest first, and their columns."""
    best = np.argpartition(-values, k - 1, axis=1)[:, :k]
    found = np.take_along_axis(values, best, axis=1)
    order = np.argsort(-found, axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1), np.take_along_axis(best, order, axis=1)


def nearest(
    reference: Array32,
    queries: Array32,
    k: int,
    *,
    step: int = 1024,
    leave_out: Callable[[slice, Array32], None] | None = None,
) -> tuple[Array32, RowNumbers]:
    """Return cosine and row number of the k reference rows closest to each query, closest first.

    Parameters
    ----------
    reference : float32, (n_rows, d)
        Rows of length 1.
    queries : float32, (n, d)
        Rows of length 1.
    k : int
        At most n_rows.
    step : int
        Queries at a time.
    leave_out : callable, optional
        Takes a slice of queries and their cosines, (step, n_rows), and sets those to minus infinity
        that do not count.

    Returns
    -------
    cosines : float32, (n, k); numbers : intp, (n, k)
    """
    cosines, numbers = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.intp)
    for start in range(0, len(queries), step):
        part = slice(start, min(start + step, len(queries)))
        block = queries[part] @ reference.T
        if leave_out is not None:
            leave_out(part, block)
        cosines[part], numbers[part] = highest(block, k)
    return cosines, numbers


def leave_out_itself(part: slice, cosines: Array32) -> None:
    """Set each row's cosine with itself to minus infinity, where queries are the reference."""
    own = np.arange(len(cosines))
    cosines[own, own + part.start] = -np.inf
