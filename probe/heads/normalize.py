"""What a head does to features first: learnt from training rows alone and kept with the head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from probe.core.short_repr import short_repr
from probe.errors import HeadError
from probe.evaluation.streaming import StreamedRows

Normalization = Literal["standard", "l2", "none"]
NORMALIZATIONS: tuple[Normalization, ...] = get_args(Normalization)

# float16, float32 or float64, (n_rows, n_features); what is read of it is slices of rows
Features = NDArray[Any] | StreamedRows

BLOCK_BYTES = 4 << 20  # of float64: a block and its temporaries stay in a core's cache
LARGEST = 1e15  # whose squares still add up in float32, over 100 million numbers


@dataclass(frozen=True, kw_only=True, eq=False)
class Normalizer:
    """A map of feature rows: ``(x - mean) / scale``, ``x / |x|`` or nothing.

    Parameters
    ----------
    kind : {"standard", "l2", "none"}
    mean, scale : float64, (n_features,)
        Zeros and ones unless `kind` is ``standard``.
    """

    __repr__ = short_repr

    kind: Normalization
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    def apply(self, block: NDArray[np.float64]) -> NDArray[np.float64]:
        """Normalise rows in place, float64, (n_rows, n_features), and return them."""
        if self.kind == "standard":
            block -= self.mean
            block /= self.scale
        elif self.kind == "l2":
            to_length_one(block)
        return block

    def transform(self, X: Features) -> Rows32:
        """Return the rows as the solver takes them: float32, C order, (n_rows, n_features).

        Where nothing has to be done to `X` it is returned as it is, not copied. Rows that stay in
        their file are normalised when they are read.
        """
        if isinstance(X, StreamedRows):
            return NormalizedRows(rows=X, normalizer=self)
        if self.kind == "none" and X.dtype == np.float32 and X.flags.c_contiguous:
            check_finite(X)
            return X
        rows = np.empty(X.shape, np.float32)
        for start, block in blocks(X):
            rows[start : start + len(block)] = self.apply(block)
        return rows


@dataclass(frozen=True, kw_only=True, eq=False)
class NormalizedRows:
    """Streamed rows as the solver takes them; slices and row numbers read float32, C order.

    Parameters
    ----------
    shift : float32, (n_features,), optional
        Taken from each row at the end.
    unit : bool
        Give each row the length 1 at the end.
    """

    __repr__ = short_repr

    rows: StreamedRows
    normalizer: Normalizer
    shift: NDArray[np.float32] | None = None
    unit: bool = False
    dtype = np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and features."""
        return self.rows.shape

    @property
    def size(self) -> int:
        """Numbers in all."""
        return self.rows.size

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: slice | NDArray[np.intp]) -> NDArray[np.float32]:
        block = self.rows[rows].astype(np.float32, copy=False)  # it is a copy already
        _check_block(block, rows.start or 0 if isinstance(rows, slice) else 0)
        one = self.normalizer
        if one.kind == "standard":  # float64 means and scales, but no float64 copy of the rows
            block -= one.mean.astype(np.float32)
            block /= one.scale.astype(np.float32)
        elif one.kind == "l2":
            to_length_one(block)
        if self.shift is not None:
            block -= self.shift
        return to_length_one(block) if self.unit else block


Rows32 = NDArray[np.float32] | NormalizedRows


def fit_normalizer(
    kind: Normalization,
    X: Features,
    weights: NDArray[np.float64] | None = None,
    more: Sequence[Features] = (),
) -> Normalizer:
    """Learn mean and scale from training rows, in one pass over blocks.

    A row counts its weight, (n_rows,), or 1: a weight of 2 is a row that is there twice. Rows of
    `more` count like those of `X`, without weights.

    A feature that never changes gets the scale 1: it becomes zero instead of infinite. What counts
    as "never" follows scikit-learn's StandardScaler, which allows for rounding.

    Raises
    ------
    HeadError
        Unknown `kind`, or a value is NaN or infinite (names the row).

    References
    ----------
    Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample
    variances", 1982: the merge of two blocks' sums, stable where E[x^2] - E[x]^2 is not.
    """
    if kind not in NORMALIZATIONS:
        raise HeadError(f"normalize={kind!r}; there are {', '.join(NORMALIZATIONS)}")
    n_features = X.shape[1]
    mean, scale = np.zeros(n_features), np.ones(n_features)
    if kind != "standard":
        return Normalizer(kind=kind, mean=mean, scale=scale)
    squares, seen = np.zeros(n_features), 0.0  # sum of (x - mean)^2 over the rows seen so far
    for start, block in chain(blocks(X), *map(blocks, more)):
        own = None if weights is None else weights[start : start + len(block)]
        count = len(block) if own is None else float(own.sum())
        if not count:
            continue
        total = seen + count
        block_mean = block.mean(axis=0) if own is None else own @ block / count
        np.subtract(block, block_mean, out=block)
        delta = block_mean - mean
        if own is not None:
            np.multiply(block, np.sqrt(own)[:, None], out=block)
        squares += np.einsum("nd,nd->d", block, block) + delta**2 * (seen * count / total)
        mean += delta * (count / total)
        seen = total
    variance = squares / seen
    epsilon = np.finfo(np.float64).eps
    constant = variance <= seen * epsilon * variance + (seen * mean * epsilon) ** 2
    scale[~constant] = np.sqrt(variance[~constant])
    return Normalizer(kind=kind, mean=mean, scale=scale)


def blocks(X: Features) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yield (first row, float64 copy of some rows) until all rows have been seen.

    Raises
    ------
    HeadError
        See `check_finite`.
    """
    step = max(1, BLOCK_BYTES // (8 * max(1, X.shape[1])))
    for start in range(0, len(X), step):
        block = X[start : start + step].astype(np.float64)
        _check_block(block, start)
        yield start, block


def to_length_one(rows: NDArray[Any]) -> NDArray[Any]:
    """Divide rows by their lengths in place; a row of zeros has no direction and stays."""
    norms = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    rows /= np.where(norms == 0, 1, norms)[:, None]
    return rows


def check_finite(X: Features) -> None:
    """Raise HeadError where a value is NaN, infinite, or its square overflows; it has the row."""
    step = max(1, BLOCK_BYTES // (8 * max(1, X.shape[1])))
    for start in range(0, len(X), step):
        _check_block(X[start : start + step], start)


def _check_block(block: NDArray[Any], start: int) -> None:
    if not block.size or (block.min() >= -LARGEST and block.max() <= LARGEST):  # false of NaN
        return
    row, column = np.argwhere(~(np.abs(block) <= LARGEST))[0]
    value = float(block[row, column])
    where = f"row {start + row}, feature {column}"
    if np.isfinite(value):
        raise HeadError(
            f"X contains {value:.3g}: {where}; above {LARGEST:g} squares of features overflow: "
            "divide all features by a constant"
        )
    name = "NaN" if np.isnan(value) else "infinity (inf)"
    raise HeadError(f"X contains {name}: {where}; features must be finite")
