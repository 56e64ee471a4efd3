"""Choose a penalty on validation rows or by folds. Test rows cannot get here: nobody asks for them.

The head with the best top-1 is chosen; among equals the one with the strongest penalty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from probe.errors import UsageError
from probe.heads.linear import LinearHead
from probe.heads.normalize import blocks
from probe.heads.path import DEFAULT_GRID

ALPHA_GRID: tuple[float, ...] = tuple(np.logspace(-5, 3, 33).tolist())
LR_GRID: tuple[float, ...] = tuple(np.logspace(-5, -1, 13).tolist())
Penalty = Literal["C", "alpha", "lr"]
PENALTIES: dict[str, tuple[Penalty, tuple[float, ...]]] = {
    "path": ("C", DEFAULT_GRID),
    "logistic": ("C", DEFAULT_GRID),
    "ridge": ("alpha", ALPHA_GRID),
    "dense": ("lr", LR_GRID),  # not a penalty, but as small a rate, as few steps away from zero
}
UNSEEN_LOSS = float(-np.log(np.finfo(np.float64).eps))  # scikit-learn clips probabilities there

Array64 = NDArray[np.float64]
FoldRows = Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]]


class GridHead(Protocol):
    """A head that fits a whole grid of penalties at once."""

    def fit_grid(self, X: Any, y: Any, grid: Sequence[float], /) -> Sequence[LinearHead]: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Choice:
    """What was tried and what was chosen.

    Parameters
    ----------
    penalty : {"C", "alpha", "lr"}
    values : tuple of float
    top1, log_loss : float64, (n_values,)
        Means over the folds, or on the validation rows.
    error : float64, (n_values,)
        Standard error of `top1`: over folds their spread, else binomial.
    best : int
        Index of the chosen value.
    heads : tuple of LinearHead
        Of the chosen value: the one fitted on the training rows, or one a fold.
    """

    penalty: Penalty
    values: tuple[float, ...]
    top1: Array64
    log_loss: Array64
    error: Array64
    best: int
    heads: tuple[LinearHead, ...]

    @property
    def chosen(self) -> float:
        """The chosen value."""
        return self.values[self.best]


def default_grid(solver: str) -> tuple[Penalty, tuple[float, ...]]:
    """Return the name of a solver's penalty and the values it is chosen from.

    Raises
    ------
    UsageError
        The solver has none.
    """
    if solver not in PENALTIES:
        raise UsageError(f"--solver {solver} has no grid; those with one: {', '.join(PENALTIES)}")
    return PENALTIES[solver]


def choose_on_validation(
    head: GridHead, X: Any, y: Any, validation: tuple[Any, Any], *, penalty: Penalty, grid: Any
) -> Choice:
    """Fit each value on the training rows and take the best on the validation rows.

    Parameters
    ----------
    head : GridHead
        Its other parameters are kept; it stays unfitted.
    X, y : training rows and labels
    validation : pair of such arrays
    grid : sequence of float
    """
    heads = head.fit_grid(X, y, grid)
    top1, loss = score_heads(heads, *validation)
    error = np.sqrt(top1 * (1 - top1) / len(validation[1]))
    best = _best(top1, grid, penalty)
    return Choice(
        penalty=penalty, values=tuple(grid), top1=top1, log_loss=loss, error=error, best=best,
        heads=(heads[best],),
    )  # fmt: skip


def choose_by_folds(
    head: GridHead, X: Any, y: Any, folds: FoldRows, *, penalty: Penalty, grid: Any
) -> Choice:
    """Fit each value without each fold in turn and take the best mean on the rows left out.

    The normalisation is learnt anew in each fold: held-out rows do not reach it either.

    Parameters
    ----------
    folds : sequence of (train_rows, held_out_rows)
        As `fold_split` returns them.
    """
    kept, top1, losses = [], [], []
    for train, held_out in folds:
        heads = head.fit_grid(X[train], y[train], grid)
        right, loss = score_heads(heads, X[held_out], y[held_out])
        kept.append(heads)
        top1.append(right)
        losses.append(loss)
    scores = np.array(top1)
    best = _best(scores.mean(axis=0), grid, penalty)
    return Choice(
        penalty=penalty, values=tuple(grid), top1=scores.mean(axis=0),
        log_loss=np.mean(losses, axis=0), error=scores.std(axis=0, ddof=1) / np.sqrt(len(scores)),
        best=best, heads=tuple(heads[best] for heads in kept),
    )  # fmt: skip


def score_heads(heads: Sequence[LinearHead], X: Any, y: Any) -> tuple[Array64, Array64]:
    """Return top-1 and log loss of heads that share one normaliser, float64, (n_heads,) each.

    One product a block of rows scores them all.
    """
    first = heads[0]
    rows, labels = first._validation_rows((X, y))
    n_classes = len(first.classes_)
    weights = np.concatenate([head.coef_ for head in heads]).T.astype(np.float32)
    biases = np.concatenate([head.intercept_ for head in heads])
    right, loss = np.zeros(len(heads)), np.zeros(len(heads))
    for start, block in blocks(rows):
        own = labels[start : start + len(block)]
        narrow = first.normalizer_.apply(block).astype(np.float32)
        scores = (narrow @ weights + biases).reshape(len(block), len(heads), n_classes)
        right += (scores.argmax(axis=2) == own[:, None]).sum(axis=0)
        top = scores.max(axis=2, keepdims=True)
        sums = np.log(np.exp(scores - top).sum(axis=2)) + top[..., 0]
        losses = sums - np.take_along_axis(scores, own.clip(0)[:, None, None], axis=2)[..., 0]
        loss += np.where(own[:, None] < 0, UNSEEN_LOSS, losses).sum(axis=0)
    return right / len(labels), loss / len(labels)


def _best(top1: Array64, grid: Sequence[float], penalty: Penalty) -> int:
    """Return the index of the best value; among equals the strongest penalty."""
    strength = [-value if penalty == "alpha" else value for value in grid]
    return min(range(len(grid)), key=lambda index: (-top1[index], strength[index]))
