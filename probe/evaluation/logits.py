"""Logits: log-probabilities of one label a row, or log odds where a row may have several.

They are computed from scores and carried from the head to its temperature, to `predictions.npz` and
to every figure. Probabilities follow from them and are not turned back: near 0 and 1 they have
underflowed or been rounded, and their logarithms are other numbers. Which of the two a row has says
its task, see `probe.evaluation.task`.
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


def sigmoid(scores: NDArray[Any]) -> NDArray[Any]:
    """Return the probability of each score, one by one."""
    small = np.exp(-np.abs(scores))  # never overflows, and keeps small probabilities apart
    p: NDArray[Any] = np.where(scores >= 0, 1, small) / (1 + small)
    return p


def log_softmax(scores: NDArray[Any]) -> Array64:
    """Return log-probabilities for scores, (n_rows, n_classes), which never underflow.

    References
    ----------
    Blanchard, Higham, Higham, "Accurately computing the log-sum-exp and softmax functions", IMA J.
    Numer. Anal. 41, 2021.
    """
    logits: Array64 = scores.astype(np.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return logits


def mean_log_probabilities(logits: Array64) -> Array64:
    """Return the logarithms of mean probabilities, over the first axis of log-probabilities."""
    found: Array64 = np.logaddexp.reduce(logits, axis=0)
    found -= np.log(len(logits))
    return found


def mean_log_odds(logits: Array64) -> Array64:
    """Return the log odds of mean probabilities, over the first axis of log odds."""
    yes = np.logaddexp.reduce(-np.logaddexp(0, -logits), axis=0)
    no = np.logaddexp.reduce(-np.logaddexp(0, logits), axis=0)
    odds: Array64 = yes - no
    return odds


def log_probabilities(probabilities: NDArray[Any]) -> Array64:
    """Return the logarithms of probabilities; minus infinity for a probability of 0.

    For probabilities that are no softmax, as a vote's, or where nothing else was kept. Scores that
    are at hand are the better source: their probabilities may have underflowed.
    """
    with np.errstate(divide="ignore"):
        logits: Array64 = np.log(probabilities.astype(np.float64))
        return logits


def log_odds(probabilities: NDArray[Any]) -> Array64:
    """Return the log odds of probabilities, where `log_probabilities` gives logarithms."""
    with np.errstate(divide="ignore"):
        others: Array64 = np.log1p(-probabilities.astype(np.float64))
    odds: Array64 = log_probabilities(probabilities) - others
    return odds


def finite_logs(probabilities: Array64) -> Array64:
    """Return the logarithms of probabilities, of which 0 counts as the smallest normal number."""
    logs: Array64 = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
    return logs


def ranked_against_rest(logits: NDArray[Any]) -> Array64:
    """Return by what a class's rows are ranked, (n_rows, n_classes), from log-probabilities.

    Each class's log odds against all others, without their rounding noise: probabilities near 1
    differ by less than float64 tells, and their order would be that of rounding errors.
    """
    found = np.empty(logits.shape)
    step = max(1, BLOCK // logits.shape[1])
    for start in range(0, len(logits), step):
        odds = logits[start : start + step].astype(np.float64)
        found[start : start + step] = _without_noise(odds - _of_the_others(odds))
    return found


def ranked_odds(logits: NDArray[Any]) -> Array64:
    """Return by what a label's rows are ranked, (n_rows, n_classes): log odds, without noise.

    Differences below 2^-34 (6e-11), or that part of larger log odds, are rounding errors and become
    ties. Figures that rank take ties to be in no order; see `probe.evaluation.metrics`.
    """
    found = np.empty(logits.shape)
    step = max(1, BLOCK // logits.shape[1])
    for start in range(0, len(logits), step):
        found[start : start + step] = _without_noise(
            logits[start : start + step].astype(np.float64)
        )
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
