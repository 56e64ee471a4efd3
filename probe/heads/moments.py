"""Sums over rows from which least squares follow: what one pass over the features has to keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.heads.normalize import Features, Normalization, Normalizer, blocks

RESIDUE = 1e-10  # of a feature's variance over all rows: what is left of it by rounding

Array64 = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """Sums over rows x, (D,), with their targets y, (K,), around an offset.

    Moments around the same offset can be subtracted: those of all rows less those of a fold are
    those of the rest.

    Parameters
    ----------
    count : float
        Of rows, or the sum of what they count.
    offset : float64, (D,)
        The sums are of ``x - offset``: features may lie far from zero.
    total : float64, (D,); gram : float64, (D, D)
        Sums of x and of ``x x.T``.
    targets : float64, (K,); cross : float64, (D, K)
        Sums of y and of ``x y.T``.
    """

    count: float
    offset: Array64
    total: Array64
    gram: Array64
    targets: Array64
    cross: Array64

    def __sub__(self, part: Moments) -> Moments:
        return Moments(
            count=self.count - part.count,
            offset=self.offset,
            total=self.total - part.total,
            gram=self.gram - part.gram,
            targets=self.targets - part.targets,
            cross=self.cross - part.cross,
        )

    def centred(self) -> tuple[Array64, Array64, Array64, Array64]:
        """Return mean, (D,), covariance, (D, D), covariance with y, (D, K), and mean of y, (K,)."""
        mean, target = self.total / self.count, self.targets / self.count
        covariance = self.gram / self.count - np.outer(mean, mean)
        cross = self.cross / self.count - np.outer(mean, target)
        return self.offset + mean, covariance, cross, target

    def variances(self) -> Array64:
        """Return the variance of each feature, (D,)."""
        mean = self.total / self.count
        return np.asarray(np.diagonal(self.gram) / self.count - mean**2, np.float64)


def moments_of(
    X: Features,
    Y: Any,
    normalizer: Normalizer,
    offset: Array64 | None = None,
    weights: Array64 | None = None,
) -> Moments:
    """Take the moments of normalised rows in one pass; X (n, D), Y (n, K), dense or sparse.

    Without an `offset` it is the mean of the first block. A row counts its weight, (n,), or 1.
    """
    from scipy.linalg.blas import dsyrk

    width = X.shape[1]
    total, gram, cross = np.zeros(width), np.zeros((width, width)), np.zeros((width, Y.shape[1]))
    for start, block in blocks(X):
        rows = normalizer.apply(block)
        if offset is None:
            offset = rows.mean(axis=0)
        rows -= offset
        own = Y[start : start + len(rows)]
        if weights is not None:  # sums of w x, w x x.T and w x y.T, by the root of w
            root = np.sqrt(weights[start : start + len(rows)])
            rows *= root[:, None]
            total += root @ rows
            own = own * root[:, None] if isinstance(own, np.ndarray) else own.multiply(
                root[:, None]
            ).tocsr()  # fmt: skip
        else:
            total += rows.sum(axis=0)
        gram += dsyrk(1.0, rows.T)  # the upper triangle
        cross += rows.T @ own
    assert offset is not None
    gram = np.triu(gram) + np.triu(gram, 1).T
    return Moments(
        count=len(X) if weights is None else float(weights.sum()),
        offset=offset,
        total=total,
        gram=gram,
        targets=Y.sum(axis=0) if weights is None else Y.T @ weights,
        cross=cross,
    )


def normalizer_from(kind: Normalization, moments: Moments, overall: Array64) -> Normalizer:
    """Return what `fit_normalizer` would learn from the rows of these moments.

    Parameters
    ----------
    moments : Moments
        Of rows as they are, or of length 1 where `kind` is ``l2``.
    overall : float64, (D,)
        Variances over all rows: a feature that varied only in what was taken off is constant.
    """
    width = len(moments.offset)
    if kind != "standard":
        return Normalizer(kind=kind, mean=np.zeros(width), scale=np.ones(width))
    variance = moments.variances()
    constant = variance <= RESIDUE * overall
    scale = np.where(constant, 1.0, np.sqrt(np.where(constant, 1.0, variance)))
    mean = moments.offset + moments.total / moments.count
    return Normalizer(kind=kind, mean=mean, scale=scale)
