"""The prototype head: one mean a class, and how far a row is from it."""

from __future__ import annotations

from numbers import Real
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.heads.base import LinearHead, OnEpoch, RowsLike, Validation
from probe.heads.catalog import Prototype
from probe.heads.checks import one_hot, one_of, require
from probe.heads.normalize import Features, Normalization, blocks
from probe.heads.products import matmul, one_thread_a_product

Distance = Literal["lda", "mean"]
DISTANCES: tuple[Distance, ...] = get_args(Distance)
LEAST = 1e-12  # variance taken for rows that do not differ within their class; or, where
# features are smaller than 1, that part of their mean square

Array64 = NDArray[np.float64]


class PrototypeHead(Prototype, LinearHead):
    """Gaussian classes around their means, with one covariance for all: a linear classifier.

    Parameters
    ----------
    distance : {"lda", "mean"}, default="lda"
        ``lda`` measures by the covariance within classes (Mahalanobis) and weighs classes by how
        frequent they are; ``mean`` takes the nearest class mean, Euclidean, classes alike.
    shrinkage : float, default=0.1
        Of lda: that part of the covariance is replaced by the identity at its mean variance, 0 to
        1; constant features do not count. With as many features as rows a class the covariance
        alone is noise.
    normalize : {"standard", "l2", "none"}, default="standard"

    Attributes
    ----------
    classes_, coef_, intercept_, normalizer_, history_ :
        See LinearHead; `coef_` and `intercept_` are float64, `history_` is empty.

    References
    ----------
    Hastie, Tibshirani, Friedman, "The Elements of Statistical Learning", 4.3. Friedman,
    "Regularized discriminant analysis", JASA 84, 1989: the shrinkage. Mensink et al., PAMI 2013:
    nearest class mean on fixed features.
    """

    def __init__(
        self,
        *,
        distance: Distance = "lda",
        shrinkage: float = 0.1,
        normalize: Normalization = "standard",
    ) -> None:
        self.distance = distance
        self.shrinkage = shrinkage
        self.normalize = normalize

    def check_params(self) -> None:
        super().check_params()
        one_of("distance", self.distance, DISTANCES)
        require(
            isinstance(self.shrinkage, Real) and 0 <= self.shrinkage <= 1,
            "shrinkage", self.shrinkage, "a number from 0 to 1",
        )  # fmt: skip

    def fit(
        self,
        X: RowsLike,
        y: ArrayLike,
        *,
        validation: Validation | None = None,
        on_epoch: OnEpoch | None = None,  # noqa: ARG002  # the heads' common signature
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Take the means; `validation` is checked, but with no epochs nothing is measured.

        Means, covariance and how frequent classes are count a row its `sample_weight`, (n_rows,).
        """
        rows, labels, weights = self._prepare(X, y, validation, sample_weight)
        counts = np.bincount(labels, weights)
        means = self._class_means(rows, labels, counts, weights)
        centre = means.mean(axis=0)  # scores are the same around any point, and rounding is least
        around = means - centre
        if self.distance == "lda":
            with one_thread_a_product():
                within = self._within(rows, labels, means, weights)
                self.coef_ = np.linalg.lstsq(within, around.T, rcond=None)[0].T
            prior = np.log(counts / (len(rows) if weights is None else weights.sum()))
        else:
            variance = self._variance(rows, labels, means, weights)
            self.coef_ = around / max(_least(means, variance), variance)
            prior = np.zeros(len(counts))
        self.intercept_ = prior - 0.5 * np.einsum("kd,kd->k", self.coef_, around)
        self.intercept_ -= self.coef_ @ centre
        return self

    def _class_means(
        self,
        X: Features,
        labels: NDArray[np.intp],
        counts: NDArray[np.number[Any]],
        weights: Array64 | None,
    ) -> Array64:
        sums = np.zeros((len(counts), X.shape[1]))
        for start, block in blocks(X):
            own = one_hot(labels[start : start + len(block)], len(counts))
            sums += own.T @ _counted(self.normalizer_.apply(block), weights, start)
        return np.asarray(sums / counts[:, None], np.float64)

    def _within(
        self, X: Features, labels: NDArray[np.intp], means: Array64, weights: Array64 | None
    ) -> Array64:
        """Return the shrunk covariance within classes, (D, D)."""
        total = np.zeros((X.shape[1], X.shape[1]))
        for start, block in blocks(X):
            rows = self.normalizer_.apply(block) - means[labels[start : start + len(block)]]
            total += matmul(rows.T, _counted(rows, weights, start))
        size = len(X) if weights is None else float(weights.sum())
        covariance = (1 - self.shrinkage) * total / size
        least = _least(means, float(np.diagonal(total).mean()) / size)
        varying = np.diagonal(total)[np.diagonal(total) > least * size]
        level = max(least, float(varying.mean()) / size if len(varying) else 0.0)
        covariance[np.diag_indices_from(covariance)] += self.shrinkage * level
        return covariance

    def _variance(
        self, X: Features, labels: NDArray[np.intp], means: Array64, weights: Array64 | None
    ) -> float:
        """Return the mean variance of a feature within classes."""
        total = 0.0
        for start, block in blocks(X):
            rows = self.normalizer_.apply(block) - means[labels[start : start + len(block)]]
            total += float(np.einsum("nd,nd->", rows, _counted(rows, weights, start)))
        return total / (X.size if weights is None else float(weights.sum()) * X.shape[1])


def _counted(rows: Array64, weights: Array64 | None, start: int) -> Array64:
    """Return rows, (n, D), from number `start` on, each times what it counts."""
    return rows if weights is None else rows * weights[start : start + len(rows), None]


def _least(means: Array64, variance: float) -> float:
    """Return the least variance within classes that is no rounding, for class means, (K, D)."""
    size = max(variance, float(np.einsum("kd,kd->", means, means)) / means.size)
    return max(LEAST * min(1.0, size), float(np.finfo(np.float64).tiny))
