"""Logits: log-probabilities of one label a row, or log odds where a row may have several.

They are computed from scores and carried from the head to its temperature, to `predictions.npz` and
to every figure. Probabilities follow from them and are not turned back: near 0 and 1 they have
underflowed or been rounded, and their logarithms are other numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 20  # scores at a time

Array64 = NDArray[np.float64]


def softmax(scores: NDArray[Any]) -> NDArray[Any]:
    """Turn scores into probabilities along the last axis, in place, and return them."""
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores


def from_scores(scores: NDArray[Any], multilabel: bool) -> NDArray[Any]:
    """Return probabilities for scores, (n_rows, n_classes): their softmax, or a sigmoid each."""
    if not multilabel:
        return softmax(scores)
    small = np.exp(-np.abs(scores))  # never overflows, and keeps small probabilities apart
    p: NDArray[Any] = np.where(scores >= 0, 1, small) / (1 + small)
    return p


def logits_from(scores: NDArray[Any], multilabel: bool) -> NDArray[np.float64]:
    """Return log-probabilities for scores, (n_rows, n_classes), which never underflow.

    The logarithm of the softmax; where a row may have several labels the scores themselves, which
    are the log odds of each label.

    References
    ----------
    Blanchard, Higham, Higham, "Accurately computing the log-sum-exp and softmax functions", IMA J.
    Numer. Anal. 41, 2021.
    """
    logits: NDArray[np.float64] = scores.astype(np.float64)
    if multilabel:
        return logits
    logits -= logits.max(axis=-1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return logits


def probabilities_of(logits: NDArray[np.float64], multilabel: bool) -> NDArray[np.float64]:
    """Return the probabilities of what `logits_from` gives."""
    p: NDArray[np.float64] = from_scores(logits, True) if multilabel else np.exp(logits)
    return p


def mean_logits(logits: NDArray[np.float64], multilabel: bool) -> NDArray[np.float64]:
    """Return the logits of the mean of probabilities, over the first axis of their logits.

    Parameters
    ----------
    logits : float64, (n, n_rows, n_classes)
        Log-probabilities, minus infinity for a probability of 0; of several labels log odds.
    """
    found: Array64 = logits[0]
    if len(logits) == 1:
        return found
    if not multilabel:
        found = np.logaddexp.reduce(logits, axis=0)
        found -= np.log(len(logits))
        return found
    yes = np.logaddexp.reduce(-np.logaddexp(0, -logits), axis=0)
    no = np.logaddexp.reduce(-np.logaddexp(0, logits), axis=0)
    odds: NDArray[np.float64] = yes - no
    return odds


def logits_of(probabilities: NDArray[Any], multilabel: bool = False) -> Array64:
    """Return the logarithms of probabilities, or the log odds of several labels.

    For probabilities that are no softmax, as a vote's, or where nothing else was kept; a
    probability of 0 gives minus infinity. Scores that are at hand are the better source: their
    probabilities may have underflowed.
    """
    with np.errstate(divide="ignore"):
        logits: Array64 = np.log(probabilities.astype(np.float64))
        return logits - np.log1p(-probabilities.astype(np.float64)) if multilabel else logits


def scores_of(p: NDArray[np.float64], multilabel: bool) -> NDArray[np.float64]:
    """Return finite scores whose probabilities are `p`; `from_scores` undoes it."""
    least = np.finfo(np.float64).tiny
    scores: NDArray[np.float64] = np.log(np.maximum(p, least))
    return scores - np.log(np.maximum(1 - p, least)) if multilabel else scores


def ranking_scores(logits: NDArray[Any], multilabel: bool) -> Array64:
    """Return by what a class's rows are ranked, (n_rows, n_classes): log odds, without their noise.

    Of one label a row these are each class's log odds against all others: probabilities near 1
    differ by less than float64 tells, and their order would be that of rounding errors. Differences
    below 2^-34 (6e-11), or that part of larger log odds, are such errors too, and become ties.
    Figures that rank take ties to be in no order; see `probe.evaluation.metrics`.

    Parameters
    ----------
    logits : float, (n_rows, n_classes)
        Log-probabilities, or log odds where a row may have several labels.
    """
    found = np.empty(logits.shape)
    step = max(1, BLOCK // logits.shape[1])
    for start in range(0, len(logits), step):
        odds = logits[start : start + step].astype(np.float64)
        if not multilabel:
            odds -= _of_the_others(odds)
        found[start : start + step] = _without_noise(odds)
    return found


def _without_noise(odds: Array64) -> Array64:
    finite = np.isfinite(odds)
    _, exponents = np.frexp(np.where(finite, odds, 0))
    places = 34 - np.maximum(exponents, 0)
    rounded = np.ldexp(np.rint(np.ldexp(np.where(finite, odds, 0), places)), -places)
    return np.where(finite, rounded + 0.0, odds)


def _of_the_others(logits: Array64) -> Array64:
    """Return for each class the logarithm of what all other classes' probabilities add up to."""
    n_rows, n_classes = logits.shape
    found = np.full((n_rows, n_classes), -np.inf)
    running = np.full(n_rows, -np.inf)
    for number in range(n_classes):
        found[:, number] = running
        running = np.logaddexp(running, logits[:, number])
    running = np.full(n_rows, -np.inf)
    for number in reversed(range(n_classes)):
        found[:, number] = np.logaddexp(found[:, number], running)
        running = np.logaddexp(running, logits[:, number])
    return found
