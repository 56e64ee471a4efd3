"""Stream rows of features from their file, a block at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from probe.core.indexing import is_one_row, row_number, row_numbers
from probe.core.short_repr import short_repr

READ_BYTES = 4 << 20  # of float32 rows that a solver asks for at a time


def rows_at_once(X: Any, most: int) -> int:
    """Return how many rows to take at a time: fewer than `most` of wide ones not in memory."""
    if isinstance(X, np.ndarray):  # a slice of it is no copy
        return most
    at_once: int = READ_BYTES // (4 * max(1, X.shape[1]))
    return max(1, min(most, at_once))


class RowSource(Protocol):
    """Where rows come from: a split of a cache entry."""

    def __len__(self) -> int: ...

    def rows(self, index: NDArray[np.intp]) -> NDArray[Any]:
        """Return a copy of some images' features, (len(index), ...)."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamedRows:
    """A feature matrix that is not in memory.

    It has the shape of an array, and slicing or indexing it with row numbers reads those rows.

    Parameters
    ----------
    images : intp, (n_images,)
        Which of the source's images, in this order.
    views : int
        Rows an image has, neighbours in the matrix.
    width : int
        Features a row.
    dtype : dtype
    """

    __repr__ = short_repr

    source: RowSource
    images: NDArray[np.intp]
    views: int
    width: int
    dtype: np.dtype[Any]
    ndim: int = 2

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, all views counted, and features."""
        return len(self.images) * self.views, self.width

    @property
    def size(self) -> int:
        """Numbers in all."""
        return self.shape[0] * self.width

    @property
    def nbytes(self) -> int:
        """Bytes it would take in memory."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | NDArray[np.intp]) -> NDArray[Any]:
        """Read some rows, (n, width), or of one row's number that row, (width,).

        Raises
        ------
        RowIndexError
            There is no such row, or it is no such index.
        """
        if is_one_row(rows):
            (one,) = self[np.array([row_number(rows, len(self))])]
            found: NDArray[Any] = one
            return found
        wanted = row_numbers(rows, len(self))
        if self.views == 1:
            return self.source.rows(self.images[wanted]).reshape(len(wanted), self.width)
        images, view = np.divmod(wanted, self.views)
        unique, place = np.unique(images, return_inverse=True)
        read = self.source.rows(self.images[unique]).reshape(len(unique), self.views, self.width)
        taken: NDArray[Any] = read[place, view]
        return taken

    def take(self, images: NDArray[np.intp]) -> StreamedRows:
        """Return some images' rows, still unread."""
        return StreamedRows(
            source=self.source, images=self.images[row_numbers(images, len(self.images))],
            views=self.views,
            width=self.width, dtype=self.dtype,
        )  # fmt: skip

    def joined(self, other: StreamedRows) -> StreamedRows:
        """Return these rows and then the other's, still unread."""
        if other.source is self.source:
            source, images = self.source, np.concatenate([self.images, other.images])
        else:
            source = _Chained(self.source, other.source)
            images = np.concatenate([self.images, other.images + len(self.source)])
        return StreamedRows(
            source=source, images=images, views=self.views, width=self.width, dtype=self.dtype
        )


@dataclass(frozen=True, eq=False)
class _Chained:
    """Two sources as one: the second's rows have the numbers after the first's."""

    first: RowSource
    second: RowSource

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def rows(self, index: NDArray[np.intp]) -> NDArray[Any]:
        """Read from both and put the rows where they belong."""
        index = row_numbers(index, len(self))
        later = index >= len(self.first)
        ahead = self.first.rows(index[~later])
        behind = self.second.rows(index[later] - len(self.first))
        found = np.empty((len(index), *ahead.shape[1:]), ahead.dtype)
        found[~later], found[later] = ahead, behind
        return found
