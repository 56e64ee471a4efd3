"""Multinomial logistic regression for a whole grid of penalties at the price of a few fits.

Three things pay: heads with different C share every product (see `products`); the knots of the grid
are solved along the path, each wave from the one before, and the values between from their
neighbours; and L-BFGS runs in coordinates in which the Hessian is near the identity.

With p the probabilities at the start, S the covariance of the features and A the mean over rows of
``diag(p) - p p.T``, the Hessian of the mean cross-entropy is close to the Kronecker product of A
and S: exactly it where p is alike in all rows. One eigendecomposition of S serves every C.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.errors import HeadError
from probe.heads.lbfgs import Lbfgs
from probe.heads.normalize import Rows32
from probe.heads.products import (
    ROWS,
    Array64,
    Matrix,
    Rows,
    column_means,
    covariance,
    matmul,
    minus,
    one_thread_a_product,
    squares,
)

DEFAULT_GRID: tuple[float, ...] = tuple(np.logspace(-6, 5, 45).tolist())
TOLERANCE = 4e-7
LOOSEST = 25  # times the tolerance, where the data outweigh the penalty
MAX_ITER = 300
KNOT_STEP = 4  # every fourth value of the grid is a knot
WAVE = 4  # knots solved at once
WIDEST = 8192  # features: beyond, the eigenvectors are too large, and variances have to do


@dataclass(frozen=True, kw_only=True, eq=False)
class PathSolution:
    """Logistic regression at each value of C, in the order they were given.

    Parameters
    ----------
    C : float64, (P,)
    coef : float64, (P, K, D); intercept : float64, (P, K)
        Each sums to zero over the classes.
    objective : float64, (P,)
        Mean cross-entropy plus ``|coef|^2 / (2 C n_rows)``: scikit-learn's, a row.
    n_iter : int, (P,)
    converged : bool, (P,)
    """

    C: Array64
    coef: Array64
    intercept: Array64
    objective: Array64
    n_iter: NDArray[np.intp]
    converged: NDArray[np.bool_]


def fit_path(
    X: Rows32,
    y: NDArray[np.intp],
    n_classes: int,
    C: Sequence[float] = DEFAULT_GRID,
    *,
    tol: float = TOLERANCE,
    max_iter: int = MAX_ITER,
) -> PathSolution:
    """Minimise ``sum of cross-entropies + |coef|^2 / (2 C)`` for every C; biases go free.

    Parameters
    ----------
    X : float32, (n_rows, n_features), C order
        Finite; an array, or rows that are read and normalised a block at a time. Products are
        float32, sums over blocks of rows float64.
    y : int, (n_rows,)
        0 to n_classes - 1.
    C : sequence of float
        Above 0, in any order.
    tol : float
        Of half the squared gradient norm over the objective, in whitened coordinates: an estimate
        of how far, relatively, the objective is above its minimum. Up to LOOSEST times as much
        where the penalty is weak.
    max_iter : int
        Gradients a value of C.

    Raises
    ------
    HeadError
        A value of C is not a number above 0.

    References
    ----------
    Böhning, "Multinomial logistic regression algorithm", Ann. Inst. Statist. Math. 44, 1992: the
    covariance bounds the Hessian. Martens, Grosse, "Optimizing neural networks with
    Kronecker-factored approximate curvature", arXiv:1503.05671: the product form. Friedman,
    Hastie, Tibshirani, "Regularization paths for generalized linear models via coordinate
    descent", J. Stat. Soft. 33, 2010: warm starts along the path.
    """
    values = np.asarray(C, np.float64)
    if values.ndim != 1 or not len(values) or not ((values > 0) & (values < np.inf)).all():
        raise HeadError(f"C must be one or more numbers above 0, not {C!r}")
    mean = column_means(X)
    centred = X if np.abs(mean).max() < 1e-5 else minus(X, mean)
    mean = mean if centred is not X else np.zeros_like(mean)
    axes = None
    if isinstance(centred, np.ndarray) and len(centred) < centred.shape[1]:
        centred, axes = _row_space(centred)
    rows = Rows(X=centred, y=y, n_classes=n_classes)
    path = _Path(rows, values, tol=tol, max_iter=max_iter, turned=axes is not None)
    with one_thread_a_product():
        for wave in waves(values):
            path.solve(wave)
    return path.solution(mean, axes)


def waves(C: Array64) -> list[list[int]]:
    """Return what is solved together: knots in ascending groups, then all between them."""
    order = np.argsort(C, kind="stable").tolist()
    knots = order[::KNOT_STEP]
    if order[-1] not in knots:
        knots.append(order[-1])
    groups = [knots[i : i + WAVE] for i in range(0, len(knots), WAVE)]
    between = [index for index in order if index not in knots]
    return [*groups, between] if between else groups


class _Path:
    """The grid while it is being solved: what is known at which C."""

    def __init__(self, rows: Rows, C: Array64, *, tol: float, max_iter: int, turned: bool) -> None:
        n_features = rows.X.shape[1]
        self.rows, self.C, self.tol, self.max_iter = rows, C, tol, max_iter
        self.penalty = 1 / (C * len(rows))
        self.basis, self.spectrum = (_variances if turned else _principal_axes)(rows.X)
        shape = (len(C), rows.n_classes, n_features + 1)  # the bias is the last place
        self.heads = np.zeros(shape)
        self.objective = np.full(len(C), np.nan)
        self.n_iter = np.zeros(len(C), np.intp)
        self.converged = np.zeros(len(C), bool)

    def solve(self, wave: list[int]) -> None:
        """Solve some of the grid at once, starting from what is solved already."""
        starts = np.stack([self._start(index) for index in wave])
        space = _Whitened(self, starts, self.penalty[wave])
        runs = [
            Lbfgs(start, tolerance=self._tolerance(index), max_iter=self.max_iter)
            for index, start in zip(wave, space.enter(starts).reshape(len(wave), -1), strict=True)
        ]
        while active := [number for number, run in enumerate(runs) if not run.done]:
            values, gradients = space.evaluate(np.stack([runs[i].trial for i in active]), active)
            for number, value, gradient in zip(active, values, gradients, strict=True):
                runs[number].tell(float(value), gradient)
        self.heads[wave] = space.leave(np.stack([run.point for run in runs]), range(len(wave)))
        self.objective[wave] = [run.value for run in runs]
        self.n_iter[wave] = [run.n_iter for run in runs]
        self.converged[wave] = [run.converged for run in runs]

    def _tolerance(self, index: int) -> float:
        """Return the tolerance at one C: the weaker the penalty, the looser.

        Where the penalty rules, a relative 1e-6 costs a step or two; where the data rule, the
        valley is so flat that it would cost hundreds and move no prediction. scikit-learn's stop
        leaves some 1e-5 in the one case and 1e-3 in the other.
        """
        data = self.spectrum.mean() / self.rows.n_classes
        return self.tol * float(np.clip(np.sqrt(data / self.penalty[index]), 1, LOOSEST))

    def _start(self, index: int) -> Array64:
        """Interpolate in log C between the solved neighbours; one neighbour gives its own head."""
        known = np.flatnonzero(~np.isnan(self.objective))
        below = known[self.C[known] <= self.C[index]]
        above = known[self.C[known] > self.C[index]]
        if not len(below):
            return np.zeros_like(self.heads[0])
        low = below[np.argmax(self.C[below])]
        nearest: Array64 = self.heads[low]
        if not len(above):
            return nearest
        high = above[np.argmin(self.C[above])]
        part = np.log(self.C[index] / self.C[low]) / np.log(self.C[high] / self.C[low])
        between: Array64 = (1 - part) * self.heads[low] + part * self.heads[high]
        return between

    def solution(self, mean: Array64, axes: Array64 | None) -> PathSolution:
        """Return what was found, for features not turned to `axes` and with their `mean`."""
        coef = self.heads[..., :-1] - self.heads[..., :-1].mean(axis=1, keepdims=True)
        if axes is not None:
            coef = coef @ axes
        intercept = self.heads[..., -1] - coef @ mean
        return PathSolution(
            C=self.C,
            coef=coef,
            intercept=intercept - intercept.mean(axis=1, keepdims=True),
            objective=self.objective,
            n_iter=self.n_iter,
            converged=self.converged,
        )


class _Whitened:
    """Coordinates V of heads W: ``W = U (scale * V) Q.T``, where the Hessian is near I.

    U diagonalises A, a head's own, and Q the covariance; scale is ``(a s + penalty)^-1/2``.
    """

    def __init__(self, path: _Path, starts: Array64, penalty: Array64) -> None:
        self._rows, self._penalty, self._basis = path.rows, penalty, path.basis
        curvature = _class_curvature(path.rows, starts)
        classes, self._axes = np.linalg.eigh(curvature)
        # Adding the same head to every class moves nothing: the first eigenvalue is rounding.
        classes = np.maximum(classes, 0.5 * classes[:, 1:2])
        self._scale = np.empty(starts.shape)
        self._scale[..., :-1] = classes[:, :, None] * path.spectrum + penalty[:, None, None]
        self._scale[..., -1] = classes
        np.divide(1, np.sqrt(self._scale), out=self._scale)

    def enter(self, heads: Array64) -> Array64:
        """Return the coordinates of heads, (P, K, D + 1)."""
        turned = np.swapaxes(self._axes, 1, 2) @ self._turn(heads, self._basis)
        entered: Array64 = turned / self._scale
        return entered

    def leave(self, points: Array64, which: Sequence[int]) -> Array64:
        """Return the heads, (P, K, D + 1), at flat coordinates of some of the problems."""
        scale, axes = self._scale[which], self._axes[which]
        scaled: Array64 = points.reshape(scale.shape) * scale
        return self._turn(axes @ scaled, self._basis.T)

    def evaluate(self, points: Array64, which: list[int]) -> tuple[Array64, Array64]:
        """Return objective, (P,), and gradient, (P, n), at flat coordinates."""
        heads = self.leave(points, which)
        penalty, scale, axes = self._penalty[which], self._scale[which], self._axes[which]
        loss, gradient = self._rows.loss_and_gradient(heads[..., :-1], heads[..., -1])
        loss += 0.5 * penalty * np.einsum("pkd,pkd->p", heads[..., :-1], heads[..., :-1])
        gradient[..., :-1] += penalty[:, None, None] * heads[..., :-1]
        turned = np.swapaxes(axes, 1, 2) @ self._turn(gradient, self._basis)
        turned *= scale
        return loss, turned.reshape(len(which), -1)

    @staticmethod
    def _turn(heads: Array64, basis: Matrix) -> Array64:
        """Multiply the coefficients, not the bias, by a rotation, in float32."""
        turned = heads.copy()
        if basis.size:
            flat = heads[..., :-1].astype(np.float32).reshape(-1, len(basis))
            turned[..., :-1] = matmul(flat, basis).reshape(heads[..., :-1].shape)
        return turned


def _principal_axes(X: Rows32) -> tuple[Matrix, Array64]:
    """Return eigenvectors, (D, D), and eigenvalues, (D,), of the covariance of centred rows."""
    if X.shape[1] > WIDEST:
        return _variances(X)
    from scipy.linalg import eigh

    spectrum, basis = eigh(covariance(X), driver="evd", overwrite_a=True, check_finite=False)
    floor = 1e-7 * max(float(spectrum[-1]), 1e-30)  # what float32 still tells from zero
    return np.ascontiguousarray(basis, np.float32), np.maximum(spectrum, floor)


def _variances(X: Rows32) -> tuple[Matrix, Array64]:
    """Return no turn, and each feature's own variance: for rows along their principal axes."""
    return np.empty((0, 0), np.float32), squares(X) / len(X)


def _row_space(X: Matrix) -> tuple[Matrix, Array64]:
    """Return N rows in the space that they span, (N, R), and its axes, (R, D); R at most N < D.

    A head's part across that space moves no score and is penalised, so the minimum has none: the
    problem with R features is the same one. The axes are the principal ones.
    """
    from scipy.linalg import eigh

    wide = X.astype(np.float64)
    spectrum, left = eigh(wide @ wide.T, driver="evd", overwrite_a=True, check_finite=False)
    kept = spectrum > 1e-12 * max(float(spectrum[-1]), 1e-300)
    left, lengths = left[:, kept], np.sqrt(spectrum[kept])
    axes: Array64 = (left.T @ wide) / lengths[:, None]
    return np.ascontiguousarray(left * lengths, np.float32), axes


def _class_curvature(rows: Rows, heads: Array64) -> Array64:
    """Return the mean over rows of ``diag(p) - p p.T`` for each head, float64, (P, K, K)."""
    n_heads, n_classes = heads.shape[:2]
    total, mean = np.zeros((n_heads, n_classes, n_classes)), np.zeros((n_heads, n_classes))
    narrow = heads.astype(np.float32)
    for start in range(0, len(rows), ROWS):
        p = rows.scores(narrow[..., :-1], narrow[..., -1], rows.X[start : start + ROWS])
        p -= p.max(axis=0)
        np.exp(p, out=p)
        p /= p.sum(axis=0)
        by_head = np.ascontiguousarray(np.swapaxes(p, 0, 1), np.float64)  # (P, K, rows)
        mean += by_head.sum(axis=2)
        total += by_head @ np.swapaxes(by_head, 1, 2)
    mean, total = mean / len(rows), total / len(rows)
    return np.eye(n_classes) * mean[:, :, None] - total
