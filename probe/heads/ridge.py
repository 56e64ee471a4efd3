"""The ridge head: least squares on one-hot targets, in closed form, for every penalty at once.

One pass over the features keeps the sums over rows from which all solutions follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.core.short_repr import short_repr
from probe.core.text import shown
from probe.errors import HeadError
from probe.evaluation.parts import Part
from probe.heads.base import LinearHead, OnEpoch, RowsLike, Validation
from probe.heads.catalog import Ridge
from probe.heads.checks import above_zero, one_hot
from probe.heads.normalize import (
    Features,
    Normalization,
    Normalizer,
    blocks,
    fit_normalizer,
)
from probe.heads.products import one_thread_a_product

Array64 = NDArray[np.float64]


class RidgeHead(Ridge, LinearHead):
    """Ridge regression on one-hot targets; the class with the highest score is predicted.

    Minimises ``|Y - X W - b|^2 + alpha n_rows |W|^2``; biases are not penalised. The scores are
    estimates of probabilities that may leave [0, 1]; the softmax over them is far too even.

    Where a row may have several labels the targets are 2 and -2: a score is then ``4 (p - 1/2)`` of
    the least-squares estimate p, whose sigmoid has p's value and slope at one half.

    Parameters
    ----------
    alpha : float, default=0.1
        The penalty a training row: the same value suits any number of rows.
    normalize : {"standard", "l2", "none"}, default="standard"

    Attributes
    ----------
    classes_, coef_, intercept_, normalizer_, history_ :
        See LinearHead; `coef_` and `intercept_` are float64, `history_` is empty.

    References
    ----------
    Hoerl, Kennard, "Ridge regression", Technometrics 12, 1970. Rifkin, Yeo, Poggio, "Regularized
    least-squares classification", 2003: as a classifier.
    """

    def __init__(self, *, alpha: float = 0.1, normalize: Normalization = "standard") -> None:
        self.alpha = alpha
        self.normalize = normalize

    def check_params(self) -> None:
        super().check_params()
        above_zero("alpha", self.alpha)

    def fit(
        self,
        X: RowsLike,
        y: ArrayLike,
        *,
        validation: Validation | None = None,
        on_epoch: OnEpoch | None = None,  # noqa: ARG002  # the heads' common signature
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Solve; `validation` is checked, but with no epochs nothing is measured.

        A row's squared error counts its `sample_weight`, (n_rows,), and the penalty is alpha times
        their sum.
        """
        fitted = self._solve(X, y, [self.alpha], sample_weight)[0]
        self.__dict__.update(fitted.__dict__)
        if validation is not None:
            self._validation_rows(validation)
        return self

    def fit_grid(
        self,
        X: RowsLike,
        y: ArrayLike,
        alpha: Sequence[float],
        *,
        sample_weight: ArrayLike | None = None,
    ) -> list[Self]:
        """Return a fitted head for each alpha; this head stays unfitted."""
        return type(self)(normalize=self.normalize)._solve(X, y, alpha, sample_weight)

    def fit_folds(
        self,
        train: Part,
        folds: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]],
        candidates: Sequence[Mapping[str, Any]],
    ) -> list[list[Self | None]] | None:
        """Fit every alpha without each fold: its moments are taken off those of all rows.

        Two passes over the rows serve all folds, and each fold's normalisation is learnt from its
        own moments. None where there are fewer rows than features, a fold lacks a class, or rows
        do not count alike.
        """
        X, y = train.xy()
        whole = not train.task.exclusive or all(
            len(np.unique(train.y[rows])) == len(np.unique(y)) for rows, _ in folds
        )
        fewest = min(len(rows) for rows, _ in folds) * train.views
        if (
            train.weights is not None
            or not whole
            or fewest < X.shape[1]
            or any(set(one) != {"alpha"} for one in candidates)
        ):
            return None
        _, labels = self._check(X, y)
        # rows of length 1 are so in any fold; means and scales are each fold's own
        rowwise = fit_normalizer("l2" if self.normalize == "l2" else "none", X)
        targets = self._targets(labels)
        total = moments_of(X, targets, rowwise)
        fitted: list[list[Self | None]] = []
        for _, held_out in folds:
            out = train.take(held_out).xy()
            own = self._targets(train.task.encode(out[1], self.classes_))
            rest = total - moments_of(out[0], own, rowwise, total.offset)
            self.normalizer_ = normalizer_from(self.normalize, rest, total.variances())
            fitted.append(list(self._from_moments(rest, [one["alpha"] for one in candidates])))
        return fitted

    def _from_moments(self, moments: Moments, alphas: Sequence[float]) -> list[Self]:
        """Return a head an alpha, for moments of rows that the normaliser has not seen yet."""
        mean, covariance, cross, target = moments.centred()
        scale = self.normalizer_.scale
        covariance /= np.outer(scale, scale)
        cross /= scale[:, None]
        flat = np.diagonal(covariance) <= 0  # a constant feature, and rounding
        covariance[flat], covariance[:, flat], cross[flat] = 0, 0, 0
        mean = (mean - self.normalizer_.mean) / scale
        with one_thread_a_product():
            coef, intercept = _solutions(covariance, cross, mean, target, alphas)
        return self._heads(coef, intercept, alphas)

    def _check(self, X: RowsLike, y: ArrayLike) -> tuple[Features, NDArray[np.intp]]:
        self.check_params()
        self.history_ = []
        return self._training_rows(X, y)

    def _solve(
        self,
        X: RowsLike,
        y: ArrayLike,
        alphas: Sequence[float],
        sample_weight: ArrayLike | None = None,
    ) -> list[Self]:
        rows, labels, weights = self._prepare(X, y, sample_weight=sample_weight)
        targets = self._targets(labels)
        with one_thread_a_product():
            coef, intercept = ridge_path(rows, targets, alphas, self.normalizer_, weights)
        return self._heads(coef, intercept, alphas)

    def _targets(self, labels: NDArray[Any]) -> Any:
        """Return what is fitted, (n_rows, n_classes); see `one_hot`."""
        if self.task_.exclusive:
            return one_hot(labels, len(self.classes_))
        return 4.0 * labels - 2.0

    def _heads(self, coef: Array64, intercept: Array64, alphas: Sequence[float]) -> list[Self]:
        heads = []
        for index, alpha in enumerate(alphas):
            head = type(self)()
            own = {"alpha": alpha, "coef_": coef[index], "intercept_": intercept[index]}
            head.__dict__.update({**self.__dict__, **own})
            heads.append(head)
        return heads


def ridge_path(
    X: Features,
    Y: Any,
    alphas: Sequence[float],
    normalizer: Normalizer,
    weights: Array64 | None = None,
) -> tuple[Array64, Array64]:
    """Solve ridge regression for every alpha from one eigendecomposition.

    With X centred and ``X.T X / n = Q S Q.T`` the solution is ``Q (S + alpha)^-1 Q.T X.T Y / n``.
    With fewer rows than features the n x n Gram matrix does the same: ``X.T (X X.T / n + alpha)^-1
    Y / n``.

    Parameters
    ----------
    X : float, (n_rows, n_features)
    Y : float64, (n_rows, n_targets)
        An array, or a sparse one of SciPy's.
    alphas : sequence of float
        Above 0, a row.
    normalizer : Normalizer
        Applied to each block of X; no normalised copy of X is made unless rows are fewer than
        features.
    weights : float64, (n_rows,), optional
        What each row counts; n is their sum then.

    Returns
    -------
    coef : float64, (n_alphas, n_targets, n_features); intercept : float64, (n_alphas, n_targets)

    References
    ----------
    Hastie, Tibshirani, Friedman, "The Elements of Statistical Learning", 3.4.1 and 12.3.7.
    """
    if len(X) >= X.shape[1]:
        moments = moments_of(X, Y, normalizer, weights=weights)
        mean, covariance, cross, target = moments.centred()
        return _solutions(covariance, cross, mean, target, alphas)
    rows = np.concatenate([normalizer.apply(block) for _, block in blocks(X)])
    if weights is not None:
        return _few_weighted(rows, Y, alphas, weights / weights.sum())
    mean, target = rows.mean(axis=0), Y.mean(axis=0)
    rows -= mean
    spectrum, basis = _eigen(rows @ rows.T / len(X))
    if isinstance(Y, np.ndarray):
        answer = basis.T @ (Y - target)
    else:
        answer = basis.T @ Y - np.outer(basis.sum(axis=0), target)
    shrunk = _shrunk(answer / len(X), spectrum, alphas)
    coef = np.swapaxes(rows.T @ basis @ shrunk, 1, 2)
    return np.ascontiguousarray(coef), target - coef @ mean


def _few_weighted(
    rows: Array64, Y: Any, alphas: Sequence[float], shares: Array64
) -> tuple[Array64, Array64]:
    """Solve for fewer rows than features, (n, D), that count these shares, (n,), of 1."""
    targets = Y if isinstance(Y, np.ndarray) else Y.toarray()
    mean, target = shares @ rows, shares @ targets
    root = np.sqrt(shares)[:, None]
    rows = (rows - mean) * root
    spectrum, basis = _eigen(rows @ rows.T)
    shrunk = _shrunk(basis.T @ ((targets - target) * root), spectrum, alphas)
    coef = np.swapaxes(rows.T @ basis @ shrunk, 1, 2)
    return np.ascontiguousarray(coef), target - coef @ mean


def _solutions(
    covariance: Array64, cross: Array64, mean: Array64, target: Array64, alphas: Sequence[float]
) -> tuple[Array64, Array64]:
    """Solve for every alpha; covariance (D, D), cross (D, K), mean (D,), target (K,)."""
    spectrum, basis = _eigen(covariance)
    coef = np.swapaxes(basis @ _shrunk(basis.T @ cross, spectrum, alphas), 1, 2)
    return np.ascontiguousarray(coef), target - coef @ mean


def _shrunk(answer: Array64, spectrum: Array64, alphas: Sequence[float]) -> Array64:
    """Return ``answer / (spectrum + alpha)``, (n_alphas, axes, K)."""
    if not all(0 < alpha < np.inf for alpha in alphas):
        raise HeadError(f"alpha must be numbers above 0, not {shown(np.asarray(alphas))}")
    shrunk: Array64 = answer / (np.maximum(spectrum, 0) + np.asarray(alphas)[:, None])[:, :, None]
    return shrunk


def _eigen(symmetric: Array64) -> tuple[Array64, Array64]:
    from scipy.linalg import eigh

    values, vectors = eigh(symmetric, driver="evd", check_finite=False)
    return values, vectors


RESIDUE = 1e-10  # of a feature's variance over all rows: what is left of it by rounding


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

    __repr__ = short_repr

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
