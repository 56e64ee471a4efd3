"""Nearest neighbours by cosine: what is kept of tiles of cosines, and the search in memory.

The search among rows that may stay in a file is `probe.heads.products.closest_rows`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array32 = NDArray[np.float32]
RowNumbers = NDArray[np.intp]


class Closest:
    """The k highest cosines of each query so far, whatever tiles they come in.

    Parameters
    ----------
    n_queries, k : int

    Attributes
    ----------
    cosines : float32, (n_queries, k)
        Highest first; of equal ones those of earlier tiles first. Minus infinity where there were
        fewer than k.
    numbers : intp, (n_queries, k)
        Row numbers of the reference.
    """

    def __init__(self, n_queries: int, k: int) -> None:
        self.cosines = np.full((n_queries, k), -np.inf, np.float32)
        self.numbers = np.zeros((n_queries, k), np.intp)

    def take(self, first: int, start: int, cosines: Array32) -> None:
        """Keep what a tile has: its queries from `first` on, and reference rows from `start` on."""
        part, k = slice(first, first + len(cosines)), self.cosines.shape[1]
        if k == 1:
            near = cosines.argmax(axis=1)[:, None]
        elif cosines.shape[1] > k:
            near = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
        else:
            near = np.broadcast_to(np.arange(cosines.shape[1]), cosines.shape)
        found = np.take_along_axis(cosines, near, axis=1)
        both = np.concatenate([self.cosines[part], found], axis=1)
        numbers = np.concatenate([self.numbers[part], near + start], axis=1)
        kept = np.argsort(-both, axis=1, kind="stable")[:, :k]
        self.cosines[part] = np.take_along_axis(both, kept, axis=1)
        self.numbers[part] = np.take_along_axis(numbers, kept, axis=1)


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
    best = Closest(len(queries), k)
    for first in range(0, len(queries), step):
        part = slice(first, min(first + step, len(queries)))
        block = queries[part] @ reference.T
        if leave_out is not None:
            leave_out(part, block)
        best.take(first, 0, block)
    return best.cosines, best.numbers


def leave_out_itself(part: slice, cosines: Array32) -> None:
    """Set each row's cosine with itself to minus infinity, where queries are the reference."""
    own = np.arange(len(cosines))
    cosines[own, own + part.start] = -np.inf
