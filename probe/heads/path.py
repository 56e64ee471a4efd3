"""Multinomial logistic regression for a whole grid of penalties at the price of a few fits.

Three things pay: heads with different C share every product (see `products`); the knots of the grid
are solved along the path, each wave from the one before, and the values between from their
neighbours; and L-BFGS runs in coordinates in which the Hessian is near the identity (`whitened`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.errors import HeadError
from probe.evaluation.many import MANY
from probe.heads.lbfgs import Lbfgs
from probe.heads.limits import L_BFGS, L_BFGS_PAIRS, STREAMING_BYTES
from probe.heads.normalize import Rows32
from probe.heads.products import (
    Array64,
    Matrix,
    Rows,
    column_means,
    minus,
    one_thread_a_product,
)
from probe.heads.whitened import Whitened, principal_axes, row_space, variances

DEFAULT_GRID: tuple[float, ...] = tuple(np.logspace(-6, 5, 45).tolist())
TOLERANCE = 4e-7
LOOSEST = 25  # times the tolerance, where the data outweigh the penalty
MAX_ITER = 1000
ROUND = 100  # gradients until coordinates are chosen anew
KNOT_STEP = 4  # every fourth value of the grid is a knot
WAVE = 4  # knots solved at once
FEWEST_PAIRS = 5
HELD_BYTES = 1 << 30  # of L-BFGS's vectors, for all heads solved at once


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


@dataclass(frozen=True, kw_only=True, eq=False)
class PathSpace:
    """What a fit needs of the features alone; fits of other labels on the same rows share it.

    Parameters
    ----------
    X : float32, (n_rows, width)
        Centred; turned to `axes` where those span fewer dimensions than the features.
    mean : float64, (n_features,)
        What was taken off.
    axes : float64, (width, n_features), optional
    basis : float32, (width, width); spectrum : float64, (width,)
        See `whitened.Whitened`.
    """

    X: Rows32
    mean: Array64
    axes: Array64 | None
    basis: Matrix
    spectrum: Array64

    @classmethod
    def of(cls, X: Rows32) -> PathSpace:
        """Return the space of some rows; see `fit_path` for X."""
        mean = column_means(X)
        centred = X if np.abs(mean).max() < 1e-5 else minus(X, mean)
        mean = mean if centred is not X else np.zeros_like(mean)
        axes = None
        if isinstance(centred, np.ndarray) and len(centred) < centred.shape[1]:
            centred, axes = row_space(centred)
        basis, spectrum = (principal_axes if axes is None else variances)(centred)
        return cls(X=centred, mean=mean, axes=axes, basis=basis, spectrum=spectrum)


def fit_path(
    X: Rows32,
    y: NDArray[np.intp],
    n_classes: int,
    C: Sequence[float] = DEFAULT_GRID,
    *,
    tol: float = TOLERANCE,
    max_iter: int = MAX_ITER,
    space: PathSpace | None = None,
    weights: Array64 | None = None,
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
        of how far, relatively, the objective is above its minimum. And of what descending once
        more, in coordinates of where it ended, may gain. Up to LOOSEST times as much where the
        penalty is weak.
    max_iter : int
        Gradients a value of C.
    space : PathSpace, optional
        That of X, where it is at hand.
    weights : float64, (n_rows,), optional
        What each row's cross-entropy counts; default: 1.

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
    space = PathSpace.of(X) if space is None else space
    counts = None if weights is None else weights.astype(np.float32)
    rows = Rows(X=space.X, y=y, n_classes=n_classes, weights=counts)
    path = _Path(rows, values, space, tol=tol, max_iter=max_iter)
    with one_thread_a_product():
        for wave in waves(values, heads_at_once(rows)):
            path.solve(wave)
    return path.solution(space.mean, space.axes)


def heads_at_once(rows: Rows) -> int:
    """Return how many heads may be solved together: L-BFGS remembers steps of each."""
    held = HELD_BYTES if isinstance(rows.X, np.ndarray) else STREAMING_BYTES
    return max(1, held // (8 * L_BFGS * rows.n_classes * (rows.X.shape[1] + 1)))


def pairs_held(rows: Rows) -> int:
    """Return how many pairs L-BFGS remembers: of many classes no more than HELD_BYTES hold."""
    if rows.n_classes <= MANY:
        return L_BFGS_PAIRS
    vectors = HELD_BYTES // (8 * rows.n_classes * (rows.X.shape[1] + 1))
    return max(FEWEST_PAIRS, min(L_BFGS_PAIRS, (vectors - (L_BFGS - 2 * L_BFGS_PAIRS)) // 2))


def waves(C: Array64, most: int = 1 << 30) -> list[list[int]]:
    """Return what is solved together, `most` at a time: knots, ascending, then all between them."""
    order = np.argsort(C, kind="stable").tolist()
    knots = order[::KNOT_STEP]
    if order[-1] not in knots:
        knots.append(order[-1])
    between = [index for index in order if index not in knots]
    wave = min(WAVE, most)
    groups = [knots[i : i + wave] for i in range(0, len(knots), wave)]
    return groups + [between[i : i + most] for i in range(0, len(between), most)]


class _Path:
    """The grid while it is being solved: what is known at which C."""

    def __init__(
        self, rows: Rows, C: Array64, space: PathSpace, *, tol: float, max_iter: int
    ) -> None:
        n_features = rows.X.shape[1]
        self.pairs = pairs_held(rows)
        self.rows, self.C, self.tol, self.max_iter = rows, C, tol, max_iter
        self.penalty = 1 / (C * len(rows))
        self.basis, self.spectrum = space.basis, space.spectrum
        shape = (len(C), rows.n_classes, n_features + 1)  # the bias is the last place
        self.heads = np.zeros(shape)
        self.objective = np.full(len(C), np.nan)
        self.n_iter = np.zeros(len(C), np.intp)
        self.converged = np.zeros(len(C), bool)

    def solve(self, wave: list[int]) -> None:
        """Solve some of the grid at once, starting from what is solved already.

        Coordinates are chosen at the start, and where rows are told apart the Hessian falls by
        orders on the way: there a small gradient means little. So each head is looked at again in
        the coordinates of where it came to, until a round gains less than the tolerance.
        """
        self.heads[wave] = np.stack([self._start(index) for index in wave])
        while wave:
            wave = self._descend(wave)

    def _descend(self, wave: list[int]) -> list[int]:
        """Go down in coordinates of these heads; return those that it still moved."""
        heads = self.heads[wave]
        space = Whitened(self.rows, self.basis, self.spectrum, heads, self.penalty[wave])
        tolerance = np.array([self._tolerance(index) for index in wave])
        runs = [
            Lbfgs(
                start, tolerance=least, max_iter=min(ROUND, self.max_iter - used), pairs=self.pairs
            )
            for start, least, used in zip(
                space.enter(heads).reshape(len(wave), -1),
                tolerance, self.n_iter[wave].tolist(), strict=True,
            )
        ]  # fmt: skip
        before: Array64 | None = None
        while active := [number for number, run in enumerate(runs) if not run.done]:
            values, gradients = space.evaluate(np.stack([runs[i].trial for i in active]), active)
            before = values if before is None else before
            for number, value, gradient in zip(active, values, gradients, strict=True):
                runs[number].tell(float(value), gradient)
        assert before is not None
        self._keep(wave, runs, space)
        settled = [run.converged or run.n_iter > 1 for run in runs]
        gained = before - self.objective[wave]
        self.converged[wave] = settled & (gained <= tolerance * self.objective[wave])
        return [i for i in wave if not self.converged[i] and self.n_iter[i] < self.max_iter]

    def _keep(self, wave: list[int], runs: list[Lbfgs], space: Whitened) -> None:
        moved = [number for number, run in enumerate(runs) if run.n_iter > 1]
        if moved:
            points = np.stack([runs[number].point for number in moved])
            self.heads[[wave[number] for number in moved]] = space.leave(points, moved)
        self.objective[wave] = [run.value for run in runs]
        self.n_iter[wave] += [run.n_iter for run in runs]

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
