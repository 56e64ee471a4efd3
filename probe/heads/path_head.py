"""The path head: logistic regression by our own solver, for one penalty or for a grid of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from numbers import Real
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.evaluation.many import MANY
from probe.heads.base import OnEpoch, RowsLike, Validation
from probe.heads.catalog import Path
from probe.heads.checks import above_zero, require, whole
from probe.heads.linear import LinearHead, constant_score
from probe.heads.normalize import Normalization, Normalizer, Rows32
from probe.heads.path import (
    DEFAULT_GRID,
    MAX_ITER,
    TOLERANCE,
    PathSolution,
    PathSpace,
    fit_path,
)
from probe.heads.polish import Polish, polish_for, warn_of_gaps

APART = 1e-4  # nats a row: training rows are told apart, and what is left is the weights' length
MOST_EXACT = 1 << 22  # numbers of all rows, and times the classes, that are taken in float64
MOST_EXACT_PRODUCTS = 20_000_000
NEIGHBOUR = 10.0  # times the next lower C, up to which that one is near

log = logging.getLogger(__name__)

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
        """Raise HeadError where a parameter makes no sense; see `BaseHead.check_params`."""
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
        """Return a fitted head for each C; all else is as in this head, which stays unfitted.

        Raises
        ------
        HeadError
            As `fit`.
        """
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
        if self.multilabel_:
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
        one.multilabel_, one.classes_ = False, np.arange(2)
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
