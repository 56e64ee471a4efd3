"""The logistic head: scikit-learn's LogisticRegression on normalised features."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.errors import HeadError
from probe.evaluation.streaming import StreamedRows
from probe.heads.base import LinearHead, OnEpoch, RowsLike, Validation, constant_score
from probe.heads.catalog import Logistic
from probe.heads.checks import above_zero, whole
from probe.heads.normalize import Normalization
from probe.heads.polish import Polish, polish_for, warn_of_gaps
from probe.heads.products import one_thread_a_product

log = logging.getLogger(__name__)

SCORE_BYTES = 8  # of a row and a class, as seen: scores and their gradient, float32
SMALL = 1 << 23  # numbers: below, BLAS's threads wait for each other longer than they compute


class LogisticHead(Logistic, LinearHead):
    """Multinomial logistic regression, fitted to convergence by L-BFGS.

    Where a row may have several labels: one binary regression a class, against all others.

    Minimises ``sum of cross-entropies + |coef|^2 / (2 C)``; biases are not penalised. There is no
    chance in it, hence no seed.

    Parameters
    ----------
    C : float, default=0.01
        Inverse of the penalty. scikit-learn's 1.0 is meant for tens of features; with hundreds to
        thousands of standardised ones, as backbones give, it overfits and takes minutes: values
        near 0.01 are where validation accuracy peaks.
    max_iter : int, default=1000
        Steps of L-BFGS. Ending there without having converged is logged as a warning.
    normalize : {"standard", "l2", "none"}, default="standard"

    Attributes
    ----------
    classes_, coef_, intercept_, normalizer_, history_ :
        See LinearHead; `coef_` and `intercept_` are float64, `history_` is empty.
    n_iter_ : int
    """

    n_iter_: int

    def __init__(
        self,
        *,
        C: float = 0.01,
        max_iter: int = 1000,
        normalize: Normalization = "standard",
    ) -> None:
        self.C = C
        self.max_iter = max_iter
        self.normalize = normalize

    def check_params(self) -> None:
        super().check_params()
        above_zero("C", self.C)
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
        from sklearn.linear_model import LogisticRegression

        if isinstance(X, StreamedRows):
            raise HeadError(
                f"logistic holds all rows in memory, {X.size * 4 / 1e6:,.0f} MB; path is the same "
                "model and reads them from their file"
            )
        rows, labels, weights = self._prepare(X, y, validation, sample_weight)
        if self.task_.are_many(len(rows), len(self.classes_)):
            log.warning(
                "logistic: it holds all %s scores of %s rows and %s classes at once, some %s GB; "
                "--head path is the same model in a part of that",
                f"{len(rows) * len(self.classes_):,}", f"{len(rows):,}",
                f"{len(self.classes_):,}",
                f"{len(rows) * len(self.classes_) * SCORE_BYTES / 1e9:.1f}",
            )  # fmt: skip
        normalized = self.normalizer_.transform(rows)
        coef, intercept, steps = [], [], [0]
        threads = one_thread_a_product() if rows.size <= SMALL else nullcontext()
        with threads, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for own in [labels] if self.task_.exclusive else labels.T:
                counted = own if weights is None else own[weights > 0]
                if counted.min() == counted.max():
                    coef.append(np.zeros((1, rows.shape[1])))
                    score = constant_score(int(counted.sum()), len(counted))
                    intercept.append(np.array([score]))
                    continue
                solver = LogisticRegression(C=self.C, max_iter=self.max_iter)
                solver.fit(normalized, own, weights)
                coef.append(solver.coef_)
                intercept.append(solver.intercept_)
                steps.append(int(np.max(solver.n_iter_)))
        polish = polish_for(rows, self.normalizer_, "logistic", len(self.classes_))
        if polish is None:
            self._log(caught)
        self.n_iter_ = max(steps)
        self.coef_, self.intercept_ = np.concatenate(coef), np.concatenate(intercept)
        if self.task_.exclusive:
            self.coef_, self.intercept_ = _per_class(self.coef_, self.intercept_)
        if polish is not None:
            self._descend(polish, labels, weights)
        return self

    def _descend(
        self, polish: Polish, labels: NDArray[np.intp], weights: NDArray[np.float64] | None
    ) -> None:
        """Go on to the minimum in float64."""
        binary = not self.task_.exclusive or len(self.classes_) == 2
        C, ends = self.C / 2 if binary else self.C, []  # two rows of opposite sign, see path
        if self.task_.exclusive:
            *found, objective, gap = polish.descend(self.coef_, self.intercept_, labels, C, weights)
            self.coef_, self.intercept_ = found
            ends.append((objective, gap))
        else:
            signs = np.array([-0.5, 0.5])
            for number, own in enumerate(labels.T):
                counted = own if weights is None else own[weights > 0]
                if counted.min() == counted.max():
                    continue
                coef, intercept, objective, gap = polish.descend(
                    signs[:, None] * self.coef_[number], signs * self.intercept_[number], own, C,
                    weights,
                )  # fmt: skip
                self.coef_[number] = coef[1] - coef[0]
                self.intercept_[number] = intercept[1] - intercept[0]
                ends.append((objective, gap))
        objectives, gaps = np.array(ends).T
        warn_of_gaps("logistic", np.full(len(ends), self.C), objectives, gaps)

    def _log(self, caught: Sequence[warnings.WarningMessage]) -> None:
        from sklearn.exceptions import ConvergenceWarning

        for warning in caught:
            if issubclass(warning.category, ConvergenceWarning):
                message = "logistic: not converged after max_iter=%d with C=%g"
                log.warning(message, self.max_iter, self.C)
            else:
                log.warning("logistic: %s", warning.message)

    def fit_grid(
        self,
        X: RowsLike,
        y: ArrayLike,
        C: Sequence[float],
        n_jobs: int | None = None,
        *,
        sample_weight: ArrayLike | None = None,
    ) -> list[LogisticHead]:
        """Return a head for each C, each fitted alone; this head stays unfitted.

        Parameters
        ----------
        n_jobs : int, optional
            Fits at a time, all cores unless given; each is kept to one thread of BLAS, so that
            they do not fight over cores.
        """
        from probe.core.machine import usable_cores

        candidates = [{"C": value} for value in C]
        fitted = self.fit_candidates(
            X, y, candidates, jobs=n_jobs or usable_cores(), sample_weight=sample_weight
        )
        return [head for head in fitted if head is not None]  # it never overflows


def _per_class(
    coef: NDArray[np.float64], intercept: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give two classes a row each; scikit-learn keeps one for the sigmoid of their difference."""
    if len(coef) > 1:
        return coef, intercept
    signs = np.array([-0.5, 0.5])
    return signs[:, None] * coef, signs * intercept
