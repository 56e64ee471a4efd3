"""Multinomial logistic regression for a whole grid of penalties at the price of a few fits.

Three things pay: heads with different C share every product (see `products`); the knots of the grid
are solved along the path, each wave from the one before, and the values between from their
neighbours; and L-BFGS runs in coordinates in which the Hessian is near the identity.

Those coordinates: with p the probabilities at the start, S the covariance of the features and A the
mean over rows of ``diag(p) - p p.T``, the Hessian of the mean cross-entropy is close to the
Kronecker product of A and S: exactly it where p is alike in all rows. One eigendecomposition of S
serves every penalty. L-BFGS is a state that asks for a point and is told its value: many problems
ask, one product answers them all.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.core.short_repr import short_repr
from probe.core.text import shown
from probe.errors import HeadError
from probe.evaluation.many import MANY
from probe.evaluation.task import SINGLE_LABEL
from probe.heads.base import LinearHead, OnEpoch, RowsLike, Validation, constant_score
from probe.heads.catalog import L_BFGS, L_BFGS_PAIRS, PENALTY, STREAMING_BYTES, Path
from probe.heads.checks import above_zero, require, whole
from probe.heads.normalize import Normalization, Normalizer, Rows32
from probe.heads.polish import Polish, polish_for, warn_of_gaps
from probe.heads.products import (
    Array64,
    Matrix,
    Rows,
    column_means,
    covariance,
    matmul,
    minus,
    one_thread_a_product,
    parts,
    squares,
)

log = logging.getLogger(__name__)

DEFAULT_GRID: tuple[float, ...] = PENALTY.grid_values()
TOLERANCE = 4e-7
LOOSEST = 25  # times the tolerance, where the data outweigh the penalty
MAX_ITER = 1000
ROUND = 100  # gradients until coordinates are chosen anew
KNOT_STEP = 4  # every fourth value of the grid is a knot
WAVE = 4  # knots solved at once
FEWEST_PAIRS = 5
HELD_BYTES = 1 << 30  # of L-BFGS's vectors, for all heads solved at once
APART = 1e-4  # nats a row: training rows are told apart, and what is left is the weights' length
MOST_EXACT = 1 << 22  # numbers of all rows, and times the classes, that are taken in float64
MOST_EXACT_PRODUCTS = 20_000_000
NEIGHBOUR = 10.0  # times the next lower C, up to which that one is near


# Of a step with many classes: seconds of a core for a row and a class, and for a feature of them,
# as seen on 16,284 rows of 8,142 classes; steps that a value of C usually takes.
SCORE_SECONDS, FEATURE_SECONDS, STEPS = 1.1e-8, 8e-11, 30
TELLING_MINUTES = 3


class PathHead(Path, LinearHead):
    """Multinomial logistic regression by covariance-preconditioned L-BFGS.

    Where a row may have several labels: one binary regression a class, as in LogisticHead.

    The same model as LogisticHead, sooner; `fit_grid` gives a head for every C of a grid in the
    time of a few. There is no chance in it, hence no seed.

    Parameters
    ----------
    C : float, default=0.01
        Inverse of the penalty, as in LogisticHead.
    tol : float, default=4e-7
        How far, by estimate, the objective may stay above its minimum, relatively.
    max_iter : int, default=1000
        Gradients. Ending there without having converged is logged as a warning.
    normalize : {"standard", "l2", "none"}, default="standard"

    Attributes
    ----------
    classes_, coef_, intercept_, normalizer_, history_ :
        See LinearHead; `coef_` and `intercept_` are float64, `history_` is empty.
    n_iter_ : int
    objective_ : float
        Mean cross-entropy plus penalty, on the training rows; of several labels a row their sum.
    """

    n_iter_: int
    objective_: float
    _polish: Polish | None = None

    def __init__(
        self,
        *,
        C: float = 0.01,
        tol: float = TOLERANCE,
        max_iter: int = MAX_ITER,
        normalize: Normalization = "standard",
    ) -> None:
        self.C = C
        self.tol = tol
        self.max_iter = max_iter
        self.normalize = normalize

    def check_params(self) -> None:
        super().check_params()
        above_zero("C", self.C)
        require(isinstance(self.tol, Real) and 0 < self.tol < 1, "tol", self.tol, "from 0 to 1")
        whole("max_iter", self.max_iter)

    def fit(
        self,
        X: RowsLike,
        y: ArrayLike,
        *,
        validation: Validation | None = None,
        on_epoch: OnEpoch | None = None,  # noqa: ARG002  # the heads' common signature
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Fit until converged; `validation` is checked, but with no epochs nothing is measured.

        A row's cross-entropy counts its `sample_weight`, (n_rows,), as in scikit-learn.
        """
        rows, labels, weights = self._ready(X, y, validation, sample_weight)
        fitted = self._solve(rows, labels, [self.C], polish=self._polish, weights=weights)[0]
        self.__dict__.update(fitted.__dict__)
        return self

    def fit_grid(
        self,
        X: RowsLike,
        y: ArrayLike,
        C: Sequence[float] = DEFAULT_GRID,
        *,
        sample_weight: ArrayLike | None = None,
    ) -> list[PathHead]:
        """Return a fitted head for each C; all else is as in this head, which stays unfitted."""
        for value in C:
            above_zero("C", value)
        one = PathHead(C=self.C, tol=self.tol, max_iter=self.max_iter, normalize=self.normalize)
        rows, labels, weights = one._ready(X, y, None, sample_weight)
        return one._solve(rows, labels, C, polish=one._polish, weights=weights)

    def _ready(
        self,
        X: RowsLike,
        y: ArrayLike,
        validation: Validation | None,
        sample_weight: ArrayLike | None,
    ) -> tuple[Rows32, NDArray[np.intp], NDArray[np.float64] | None]:
        rows, labels, weights = self._prepare(X, y, validation, sample_weight)
        self._polish = polish_for(rows, self.normalizer_, "path", len(self.classes_))
        return self.normalizer_.transform(rows), labels, weights

    def _solve(
        self,
        rows: Rows32,
        labels: NDArray[np.intp],
        C: Sequence[float],
        *,
        space: PathSpace | None = None,
        polish: Polish | None = None,
        weights: NDArray[np.float64] | None = None,
    ) -> list[PathHead]:
        if not self.task_.exclusive:
            return self._solve_each(rows, labels, C, polish, weights)
        n_classes = len(self.classes_)
        _say_how_long(len(C), n_classes, *rows.shape)
        # scikit-learn gives two classes one row a; as rows -a/2 and a/2 it is penalised by half.
        shares = [value / 2 for value in C] if n_classes == 2 else C
        solution = fit_path(
            rows, labels, n_classes, shares,
            tol=self.tol, max_iter=int(self.max_iter), space=space, weights=weights,
        )  # fmt: skip
        # One that stopped earlier is at its minimum as far as float32 products can tell.
        cut = ~solution.converged & (solution.n_iter >= self.max_iter)
        if polish is not None:
            solution = _polished(solution, polish, labels, weights)
        elif cut.any():
            first = min(c for c, one in zip(C, cut, strict=True) if one)
            log.warning(
                "path: not converged after max_iter=%d from C=%g on: short of the minimum there",
                self.max_iter, first,
            )  # fmt: skip
        else:
            solution = _exact_where_apart(solution, rows, labels, weights)
        heads = []
        for index, value in enumerate(C):
            head = PathHead()
            own = {
                "C": value,
                "coef_": solution.coef[index],
                "intercept_": solution.intercept[index],
                "n_iter_": int(solution.n_iter[index]),
                "objective_": float(solution.objective[index]),
                "history_": [],
            }
            head.__dict__.update({**self.__dict__, **own, "_polish": None})
            heads.append(head)
        return heads

    def _solve_each(
        self,
        rows: Rows32,
        labels: NDArray[np.intp],
        C: Sequence[float],
        polish: Polish | None,
        weights: NDArray[np.float64] | None,
    ) -> list[PathHead]:
        """Solve a binary problem for each column of labels, (n_rows, n_classes)."""
        one = PathHead(tol=self.tol, max_iter=self.max_iter)
        one.task_, one.classes_ = SINGLE_LABEL, np.arange(2)
        n_classes, width = len(self.classes_), rows.shape[1]
        coef = np.zeros((len(C), n_classes, width))
        intercept, objective = np.zeros((len(C), n_classes)), np.zeros(len(C))
        steps = np.zeros(len(C), np.intp)
        space = PathSpace.of(rows)
        for number, own in enumerate(labels.T):
            counted = own if weights is None else own[weights > 0]
            yes = int(counted.sum())
            if not 0 < yes < len(counted):
                intercept[:, number] = constant_score(yes, len(counted))
                continue
            for index, fitted in enumerate(
                one._solve(rows, own, C, space=space, polish=polish, weights=weights)
            ):
                coef[index, number] = fitted.coef_[1] - fitted.coef_[0]
                intercept[index, number] = fitted.intercept_[1] - fitted.intercept_[0]
                steps[index] = max(steps[index], fitted.n_iter_)
                objective[index] += fitted.objective_
        heads = [PathHead() for _ in C]
        for index, head in enumerate(heads):
            own_values = {
                "C": C[index], "coef_": coef[index], "intercept_": intercept[index],
                "n_iter_": int(steps[index]), "objective_": float(objective[index]),
                "history_": [],
            }  # fmt: skip
            head.__dict__.update({**self.__dict__, **own_values, "_polish": None})
        return heads


def _say_how_long(values: int, n_classes: int, n_rows: int, width: int) -> None:
    """Warn of a fit of many classes that takes minutes."""
    if n_classes <= MANY:
        return
    minutes = values * STEPS * n_rows * n_classes * (SCORE_SECONDS + width * FEATURE_SECONDS) / 60
    if minutes > TELLING_MINUTES:
        log.warning(
            "path: %s on %s rows of %s classes may take some %s minutes of a core; prototype and "
            "ridge take a small part of that, and --C 0.01 is one value",
            "1 value of C" if values == 1 else f"{values} values of C", f"{n_rows:,}",
            f"{n_classes:,}", f"{minutes:,.0f}",
        )  # fmt: skip


def _exact_where_apart(
    solution: PathSolution,
    rows: Rows32,
    labels: NDArray[np.intp],
    weights: NDArray[np.float64] | None,
) -> PathSolution:
    """Return the solution with its minimum where training rows are told apart, if that is cheap.

    There a weak penalty leaves a loss so small that a fit from nothing stops above it (seen: 17 to
    19 % on 421 rows of 1,280 features at C of 56,000 and 100,000; scikit-learn's default stop 700
    times above). In a grid each value starts from its neighbour and ends near enough.
    """
    n_classes = solution.coef.shape[1]
    if rows.size > MOST_EXACT or rows.size * n_classes > MOST_EXACT_PRODUCTS:
        return solution
    length = np.einsum("pkd,pkd->p", solution.coef, solution.coef)
    loss = solution.objective - length / (2 * solution.C * len(labels))
    ordered = np.sort(solution.C)
    below = np.concatenate([[0.0], ordered])[np.searchsorted(ordered, solution.C)]
    apart = np.flatnonzero((loss < APART) & (NEIGHBOUR * below < solution.C))
    if not len(apart):
        return solution
    width = rows.shape[1]
    plain = Normalizer(kind="none", mean=np.zeros(width), scale=np.ones(width))
    polish = Polish(rows[slice(0, len(rows))], plain)
    return _polished(solution, polish, labels, weights, apart)


def _polished(
    solution: PathSolution,
    polish: Polish,
    labels: NDArray[np.intp],
    weights: NDArray[np.float64] | None,
    which: NDArray[np.intp] | None = None,
) -> PathSolution:
    """Return the solution brought to its minimum in float64, one value of C after the other.

    `which` of them, by default all.
    """
    coef, intercept = solution.coef.copy(), solution.intercept.copy()
    objective, gaps = solution.objective.copy(), np.zeros(len(solution.C))
    for index in range(len(solution.C)) if which is None else which.tolist():
        coef[index], intercept[index], objective[index], gaps[index] = polish.descend(
            coef[index], intercept[index], labels, float(solution.C[index]), weights
        )
    way_out = "use --normalize standard" if which is None else "a smaller C comes nearer"
    warn_of_gaps("path", solution.C, objective, gaps, way_out)
    return replace(solution, coef=coef, intercept=intercept, objective=objective)


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

    __repr__ = short_repr

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

    __repr__ = short_repr

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
        raise HeadError(f"C must be one or more numbers above 0, not {shown(C)}")
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


ARMIJO = 1e-4  # of the decrease that the slope promises
SHORTEST = 1e-8  # a step below it: the value is flat to rounding

Vector = NDArray[np.float64]


class Lbfgs:
    """One minimisation.

    The caller evaluates `trial`, and tells the value and the gradient there.

    Parameters
    ----------
    start : float64, (n,)
    tolerance : float
        Done when half the squared gradient norm is at most this part of the value. In coordinates
        where the Hessian is near the identity that is how far the value is above the minimum.
    max_iter : int
        Values asked for at most.
    pairs : int
        Of steps and gradient changes that are remembered.

    Attributes
    ----------
    trial, point : float64, (n,)
        Where a value is wanted; the best point so far.
    done, converged : bool
    n_iter : int
        Values told.

    References
    ----------
    Nocedal, Wright, "Numerical Optimization", 2nd edition, algorithms 7.4 and 3.1.
    """

    def __init__(
        self, start: Vector, *, tolerance: float, max_iter: int, pairs: int = L_BFGS_PAIRS
    ) -> None:
        self.trial = self.point = start
        self.value, self.n_iter = np.inf, 0
        self.done = self.converged = False
        self._tolerance, self._max_iter = tolerance, max_iter
        self._pairs: deque[tuple[Vector, Vector, float]] = deque(maxlen=pairs)
        self._gradient = self._direction = np.zeros_like(start)
        self._step, self._slope = 1.0, 0.0

    def tell(self, value: float, gradient: Vector) -> None:
        """Take the value and the gradient at `trial`; move `trial` on, or be done."""
        self.n_iter += 1
        enough = self.value + ARMIJO * self._step * self._slope
        if np.isfinite(value) and (self.n_iter == 1 or value <= enough):
            self._accept(value, gradient)
        else:
            self._shorten(value)
        self.done = self.done or self.n_iter >= self._max_iter

    def _accept(self, value: float, gradient: Vector) -> None:
        step, change = self.trial - self.point, gradient - self._gradient
        curvature = float(step @ change)
        if self.n_iter > 1 and curvature > 1e-12 * float(change @ change):
            self._pairs.append((step, change, curvature))
        self.point, self.value, self._gradient = self.trial, value, gradient
        if 0.5 * float(gradient @ gradient) <= self._tolerance * value:
            self.done = self.converged = True
            return
        self._direction = self._descent(gradient)
        self._slope = float(self._direction @ gradient)
        self._step = 1.0
        self.trial = self.point + self._direction

    def _shorten(self, value: float) -> None:
        """Go back to where the parabola through value, slope and the trial has its minimum."""
        best = 0.1
        if np.isfinite(value):
            bend = value - self.value - self._step * self._slope
            best = -0.5 * self._step * self._slope / bend if bend > 0 else 0.5
        self._step *= min(0.5, max(0.1, best))
        if self._step < SHORTEST:
            self.done = True
        self.trial = self.point + self._step * self._direction

    def _descent(self, gradient: Vector) -> Vector:
        """Return the two-loop recursion's step: minus the inverse Hessian times the gradient."""
        direction, weights = -gradient, []
        for step, change, curvature in reversed(self._pairs):
            weight = float(step @ direction) / curvature
            direction = direction - weight * change
            weights.append(weight)
        if self._pairs:
            _, change, curvature = self._pairs[-1]
            direction = direction * (curvature / float(change @ change))
        for (step, change, curvature), weight in zip(self._pairs, reversed(weights), strict=True):
            direction = direction + (weight - float(change @ direction) / curvature) * step
        return direction


LEAST = 0.1  # of the mean variance of a class's probability: a class that is never doubted
WIDEST = 8192  # features: beyond, the eigenvectors are too large, and variances have to do


class Whitened:
    """Coordinates V of heads W: ``W = U (scale * V) Q.T``, where the Hessian is near I.

    U diagonalises A, a head's own, and Q the covariance; scale is ``(a s + penalty)^-1/2``. Of many
    classes U is the identity and a the diagonal of A, for A itself has classes times classes.

    Parameters
    ----------
    rows : Rows
    basis : float32, (D, D); spectrum : float64, (D,)
        Eigenvectors of the covariance, or nothing for features as they are, and its eigenvalues.
    starts : float64, (P, K, D + 1)
        Heads at whose probabilities A is taken, biases in the last place.
    penalty : float64, (P,)
    """

    def __init__(
        self, rows: Rows, basis: Matrix, spectrum: Array64, starts: Array64, penalty: Array64
    ) -> None:
        self._rows, self._penalty, self._basis = rows, penalty, basis
        self._axes: Array64 | None = None
        if rows.n_classes > MANY:
            classes = class_variances(rows, starts)
            classes = np.maximum(classes, LEAST * classes.mean(axis=1, keepdims=True))
        else:
            classes, self._axes = np.linalg.eigh(class_curvature(rows, starts))
            # Adding the same head to every class moves nothing: the first eigenvalue is rounding.
            classes = np.maximum(classes, 0.5 * classes[:, 1:2])
        self._scale = np.empty(starts.shape)
        self._scale[..., :-1] = classes[:, :, None] * spectrum + penalty[:, None, None]
        self._scale[..., -1] = classes
        np.divide(1, np.sqrt(self._scale), out=self._scale)

    def enter(self, heads: Array64) -> Array64:
        """Return the coordinates of heads, (P, K, D + 1)."""
        turned = self._turn(heads, self._basis)
        if self._axes is not None:
            turned = np.swapaxes(self._axes, 1, 2) @ turned
        entered: Array64 = turned / self._scale
        return entered

    def leave(self, points: Array64, which: Sequence[int]) -> Array64:
        """Return the heads, (P, K, D + 1), at flat coordinates of some of the problems."""
        scale = self._scale[which]
        scaled: Array64 = points.reshape(scale.shape) * scale
        if self._axes is not None:
            scaled = self._axes[which] @ scaled
        return self._turn(scaled, self._basis.T)

    def evaluate(self, points: Array64, which: list[int]) -> tuple[Array64, Array64]:
        """Return objective, (P,), and gradient, (P, n), at flat coordinates."""
        heads = self.leave(points, which)
        penalty, scale = self._penalty[which], self._scale[which]
        loss, gradient = self._rows.loss_and_gradient(heads[..., :-1], heads[..., -1])
        loss += 0.5 * penalty * np.einsum("pkd,pkd->p", heads[..., :-1], heads[..., :-1])
        gradient[..., :-1] += penalty[:, None, None] * heads[..., :-1]
        turned = self._turn(gradient, self._basis)
        if self._axes is not None:
            turned = np.swapaxes(self._axes[which], 1, 2) @ turned
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


def principal_axes(X: Rows32) -> tuple[Matrix, Array64]:
    """Return eigenvectors, (D, D), and eigenvalues, (D,), of the covariance of centred rows."""
    if X.shape[1] > WIDEST:
        return variances(X)
    from scipy.linalg import eigh

    spectrum, basis = eigh(covariance(X), driver="evd", overwrite_a=True, check_finite=False)
    floor = 1e-7 * max(float(spectrum[-1]), 1e-30)  # what float32 still tells from zero
    return np.ascontiguousarray(basis, np.float32), np.maximum(spectrum, floor)


def variances(X: Rows32) -> tuple[Matrix, Array64]:
    """Return no turn, and each feature's own variance: for rows along their principal axes."""
    return np.empty((0, 0), np.float32), squares(X) / len(X)


def row_space(X: Matrix) -> tuple[Matrix, Array64]:
    """Return N rows in the space that they span, (N, R), and its axes, (R, D); R at most N < D.

    A head's part across that space moves no score and is penalised, so the minimum has none: the
    problem with R features is the same one. The axes are the principal ones.
    """
    from scipy.linalg import eigh

    wide = X.astype(np.float64)
    spectrum, left = eigh(wide @ wide.T, driver="evd", overwrite_a=True, check_finite=False)
    kept = spectrum > 1e-12 * max(float(spectrum[-1]), 1e-300)
    if not kept.any():  # constant features span nothing: one axis on which all rows are 0
        return np.zeros((len(X), 1), np.float32), np.zeros((1, X.shape[1]))
    left, lengths = left[:, kept], np.sqrt(spectrum[kept])
    axes: Array64 = (left.T @ wide) / lengths[:, None]
    return np.ascontiguousarray(left * lengths, np.float32), axes


def class_curvature(rows: Rows, heads: Array64) -> Array64:
    """Return the mean over rows of ``diag(p) - p p.T`` for each head, float64, (P, K, K)."""
    n_heads, n_classes = heads.shape[:2]
    total, mean = np.zeros((n_heads, n_classes, n_classes)), np.zeros((n_heads, n_classes))
    for p in _probabilities(rows, heads):
        by_head = np.ascontiguousarray(np.swapaxes(p, 0, 1), np.float64)  # (P, K, rows)
        mean += by_head.sum(axis=2)
        total += by_head @ np.swapaxes(by_head, 1, 2)
    mean, total = mean / len(rows), total / len(rows)
    return np.eye(n_classes) * mean[:, :, None] - total


def class_variances(rows: Rows, heads: Array64) -> Array64:
    """Return the diagonal of `class_curvature`, float64, (P, K)."""
    total = np.zeros(heads.shape[:2])
    for p in _probabilities(rows, heads):
        total += (p * (1 - p)).sum(axis=2, dtype=np.float64).T
    return total / len(rows)


def _probabilities(rows: Rows, heads: Array64) -> Iterator[Matrix]:
    """Yield the probabilities of some rows after the other, float32, (K, P, rows)."""
    narrow = heads.astype(np.float32)
    for part in parts(rows.X, rows.most(len(heads))):
        p = rows.scores(narrow[..., :-1], narrow[..., -1], rows.X[part])
        p -= p.max(axis=0)
        np.exp(p, out=p)
        p /= p.sum(axis=0)
        yield p
