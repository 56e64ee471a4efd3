"""The ridge head: least squares on one-hot targets, in closed form, for every penalty at once."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.errors import HeadError
from probe.heads.linear import LinearHead, OnEpoch, Validation, one_of, require
from probe.heads.normalize import (
    NORMALIZATIONS,
    Features,
    Normalization,
    Normalizer,
    blocks,
    fit_normalizer,
)

Array64 = NDArray[np.float64]


class RidgeHead(LinearHead):
    """Ridge regression on one-hot targets; the class with the highest score is predicted.

    Minimises ``|Y - X W - b|^2 + alpha n_rows |W|^2``; biases are not penalised. The scores are
    estimates of probabilities that may leave [0, 1]; the softmax over them is far too even.

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

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        validation: Validation | None = None,
        on_epoch: OnEpoch | None = None,  # noqa: ARG002  # the heads' common signature
    ) -> Self:
        """Solve; `validation` is checked, but with no epochs nothing is measured."""
        require(
            isinstance(self.alpha, Real) and 0 < self.alpha < np.inf,
            "alpha", self.alpha, "a number above 0",
        )  # fmt: skip
        fitted = self._solve(X, y, [self.alpha])[0]
        self.__dict__.update(fitted.__dict__)
        if validation is not None:
            self._validation_rows(validation)
        return self

    def fit_grid(self, X: ArrayLike, y: ArrayLike, alpha: Sequence[float]) -> list[RidgeHead]:
        """Return a fitted head for each alpha; this head stays unfitted.

        Raises
        ------
        HeadError
            As `fit`.
        """
        return RidgeHead(normalize=self.normalize)._solve(X, y, alpha)

    def _solve(self, X: ArrayLike, y: ArrayLike, alphas: Sequence[float]) -> list[RidgeHead]:
        one_of("normalize", self.normalize, NORMALIZATIONS)
        rows, labels = self._training_rows(X, y)
        normalizer = fit_normalizer(self.normalize, rows)
        coef, intercept = ridge_path(rows, np.eye(len(self.classes_))[labels], alphas, normalizer)
        shared = {**self.__dict__, "normalizer_": normalizer, "history_": []}
        heads = []
        for index, alpha in enumerate(alphas):
            head = RidgeHead(alpha=alpha, normalize=self.normalize)
            own = {"alpha": alpha, "coef_": coef[index], "intercept_": intercept[index]}
            head.__dict__.update({**shared, **own})
            heads.append(head)
        return heads


def ridge_path(
    X: Features, Y: Array64, alphas: Sequence[float], normalizer: Normalizer
) -> tuple[Array64, Array64]:
    """Solve ridge regression for every alpha from one eigendecomposition.

    With X centred and ``X.T X / n = Q S Q.T`` the solution is ``Q (S + alpha)^-1 Q.T X.T Y / n``.
    With fewer rows than features the n x n Gram matrix does the same: ``X.T (X X.T / n + alpha)^-1
    Y / n``.

    Parameters
    ----------
    X : float, (n_rows, n_features)
    Y : float64, (n_rows, n_targets)
    alphas : sequence of float
        Above 0, a row.
    normalizer : Normalizer
        Applied to each block of X; no normalised copy of X is made unless rows are fewer than
        features.

    Returns
    -------
    coef : float64, (n_alphas, n_targets, n_features); intercept : float64, (n_alphas, n_targets)

    References
    ----------
    Hastie, Tibshirani, Friedman, "The Elements of Statistical Learning", 3.4.1 and 12.3.7.
    """
    from scipy.linalg import eigh

    if not all(0 < alpha < np.inf for alpha in alphas):
        raise HeadError(f"alpha must be numbers above 0, not {list(alphas)!r}")
    target_mean, shifts = Y.mean(axis=0), np.asarray(alphas)[:, None]
    if len(X) < X.shape[1]:
        rows = np.concatenate([normalizer.apply(block) for _, block in blocks(X)])
        mean = rows.mean(axis=0)
        rows -= mean
        spectrum, basis = eigh(rows @ rows.T / len(X), check_finite=False)
        answer, back = basis.T @ (Y - target_mean) / len(X), rows.T @ basis
    else:
        mean, gram, cross = _moments(X, Y, normalizer)
        spectrum, back = eigh(gram, check_finite=False)
        answer = back.T @ cross
    shrunk = answer / (np.maximum(spectrum, 0) + shifts)[:, :, None]  # (A, axes, targets)
    coef = np.swapaxes(back @ shrunk, 1, 2)
    return np.ascontiguousarray(coef), target_mean - coef @ mean


def _moments(X: Features, Y: Array64, normalizer: Normalizer) -> tuple[Array64, Array64, Array64]:
    """Return mean, covariance and covariance with Y of normalised rows, in one pass.

    Sums are taken around the first block's mean: the features may lie far from zero.
    """
    from scipy.linalg.blas import dgemm

    n_features = X.shape[1]
    total, gram = np.zeros(n_features), np.zeros((n_features, n_features))
    cross, offset = np.zeros((n_features, Y.shape[1])), np.zeros(n_features)
    centred = Y - Y.mean(axis=0)
    for start, block in blocks(X):
        rows = normalizer.apply(block)
        if start == 0:
            offset = rows.mean(axis=0)
        rows -= offset
        total += rows.sum(axis=0)
        gram += dgemm(1.0, rows.T, rows.T, trans_b=1)
        cross += rows.T @ centred[start : start + len(rows)]
    shift = total / len(X)
    return offset + shift, gram / len(X) - np.outer(shift, shift), cross / len(X)
