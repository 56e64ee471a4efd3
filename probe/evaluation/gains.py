"""Express figures of heads as means over rows, so that two heads can be compared row by row.

Balanced accuracy and log loss are such means. Macro F1 and the area under the ROC curve are not;
each row has its part in them to first order, the rest is of the order of 1/n.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.evaluation.logits import ranked_against_rest
from probe.evaluation.metrics import confused_pairs, macro_auc, per_class_of_pairs
from probe.evaluation.metrics import log_loss as mean_log_loss
from probe.evaluation.predictions import Predictions
from probe.evaluation.statistics import LEVEL, Interval, Units

METRICS = ("mean_recall", "macro_f1", "macro_auc", "log_loss")
TEST = "paired t-test and sign flips"
FEW = 6  # units with a difference that are no evidence of one: 2 ** -5 is above 0.025
FLIPPED = 200  # units with a difference: for more the t-test is sure enough
FLIPS, EVERY = 9_999, 12  # at random; of so many units in every way

Array64 = NDArray[np.float64]


def gains_of(said: Predictions, metric: str) -> tuple[float, Array64] | None:
    """Return a figure of predictions, more being better, and each row's part in it.

    Parameters
    ----------
    said : Predictions
        Of one label a row. Repeats are measured alone, and their figures averaged.
    metric : str
        One of `METRICS`; log losses have a minus.

    Returns
    -------
    (float, float64 (n_rows,)) or None
        The mean of the parts is the figure. None where it cannot be measured: an area of one class,
        or of more classes than are kept.

    References
    ----------
    DeLong, DeLong, Clarke-Pearson, "Comparing the areas under two or more correlated receiver
    operating characteristic curves", Biometrics 44, 1988: a row's part in an area.
    """
    rows = len(said) // said.repeats
    every = []
    for start in range(0, len(said), rows):
        found = _once(said, slice(start, start + rows), metric)
        if found is None:
            return None
        every.append(found)
    return float(np.mean([value for value, _ in every])), np.concatenate([one for _, one in every])


def _once(said: Predictions, rows: slice, metric: str) -> tuple[float, Array64] | None:
    labels, answers = said.labels[rows].astype(np.intp), said.answers[rows].astype(np.intp)
    n_classes = said.n_classes or said.probabilities.shape[1]
    if metric == "log_loss":
        columns = said.label_columns[rows]
        p = said.probabilities[rows].astype(np.float64)
        losses = -np.log(np.maximum(p[np.arange(len(p)), columns], np.finfo(np.float64).eps))
        return -mean_log_loss(p, columns), _centred(-losses, -mean_log_loss(p, columns))
    if metric == "macro_auc":
        if said.classes is not None:
            return None
        scores = ranked_against_rest(said.scores[rows])
        value = macro_auc(scores, labels)
        return None if value is None else (value, _area_parts(scores, labels, value))
    _, recall, f1 = per_class_of_pairs(confused_pairs(answers, labels, n_classes))
    true = np.bincount(labels, minlength=n_classes)
    hit = (answers == labels).astype(np.float64)
    if metric == "mean_recall":
        present = int((true > 0).sum())
        return recall, len(labels) / present * hit / true[labels]
    met = true + np.bincount(answers, minlength=n_classes)
    own = 2 * np.bincount(labels, hit, minlength=n_classes) / np.maximum(met, 1)
    present = int((met > 0).sum())
    parts = 2 * hit / met[labels] - own[labels] / met[labels] - own[answers] / met[answers]
    return f1, f1 + len(labels) / present * parts


def _centred(parts: Array64, value: float) -> Array64:
    centred: Array64 = parts - parts.mean() + value
    return centred


def _area_parts(scores: Array64, labels: NDArray[np.intp], value: float) -> Array64:
    """Return each row's part in the mean area over the classes that have both sides."""
    parts, measured = np.zeros(len(labels)), 0
    for label in np.unique(labels):
        own = labels == label
        if own.all():
            continue
        measured += 1
        placed = _placements(scores[own, label], scores[~own, label])
        parts[own] += (placed - placed.mean()) / own.sum()
        placed = 1 - _placements(scores[~own, label], scores[own, label])
        parts[~own] += (placed - placed.mean()) / (~own).sum()
    return value + len(labels) / max(1, measured) * parts


def _placements(scores: Array64, others: Array64) -> Array64:
    """Return the share of the others that lies below each score, equals counting half."""
    ranked = np.sort(others)
    below = np.searchsorted(ranked, scores, "left") + np.searchsorted(ranked, scores, "right")
    placed: Array64 = below / (2 * len(others))
    return placed


def mean_interval(parts: Array64, units: Units, freedom: int | None = None) -> Interval:
    """Return Student's interval of a mean of rows, of which related ones count as one.

    Parameters
    ----------
    freedom : int, optional
        Degrees of freedom. Default: one less than there are units.

    References
    ----------
    Kish, "Survey Sampling", 1965: the variance of a mean from the sums of its clusters.
    """
    from scipy.special import stdtrit

    mean, error, count = _mean_and_error(parts, units)
    reach = float(stdtrit(max(1, freedom or count - 1), (1 + LEVEL) / 2)) * error
    return Interval(low=mean - reach, high=mean + reach)


def mean_error(parts: Array64, units: Units) -> float:
    """Return the standard error of a mean of rows, of which related ones count as one."""
    return _mean_and_error(parts, units)[1]


def _mean_and_error(parts: Array64, units: Units) -> tuple[float, float, int]:
    sums = _sums(parts - parts.mean(), units)
    count = len(sums)
    error = sqrt(count / max(1, count - 1) * float((sums**2).sum())) / len(parts)
    return float(parts.mean()), error, count


def _sums(parts: Array64, units: Units) -> Array64:
    if units is None:
        return parts
    return np.bincount(np.unique(units, return_inverse=True)[1], weights=parts).astype(np.float64)


def compare_gains(
    a: Array64, b: Array64, units: Units, *, freedom: int | None, seed: int
) -> tuple[Interval, float]:
    """Return how sure a difference of two means over the same rows is.

    Both tests have to reject: Student's of the differences, and where few units differ the one that
    flips their signs. So interval and p agree: the interval is widened to hold 0 where p is above
    1 - LEVEL. Where fewer than FEW units differ, which no test takes for a difference, it reaches
    as far as the share of units that may differ without one being seen.

    Returns
    -------
    interval : Interval
    p : float
        Two-sided.

    References
    ----------
    Good, "Permutation, Parametric, and Bootstrap Tests of Hypotheses", 2005.
    """
    from scipy.special import stdtr

    gained = a - b
    mean, error, count = _mean_and_error(gained, units)
    interval = mean_interval(gained, units, freedom)
    if int((np.abs(_sums(gained, units)) > 1e-12).sum()) < FEW:
        unseen = 1 - ((1 - LEVEL) / 2) ** (1 / count)
        low, high = min(interval.low, mean - unseen), max(interval.high, mean + unseen)
        interval = Interval(low=low, high=high)
    p = 2 * float(stdtr(max(1, freedom or count - 1), -abs(mean) / max(error, 1e-300)))
    p = min(1.0, max(p, _flips(_sums(gained, units), seed)))
    if p > 1 - LEVEL:
        interval = Interval(low=min(interval.low, 0.0), high=max(interval.high, 0.0))
    return interval, p


def _flips(sums: Array64, seed: int) -> float:
    """Return how often sums whose signs are chance are as large; 0 where they are many."""
    there = sums[np.abs(sums) > 1e-12]
    if len(there) > FLIPPED:
        return 0.0
    if not len(there):
        return 1.0
    least = abs(float(there.sum())) * (1 - 1e-9)
    if len(there) <= EVERY:
        every: NDArray[Any] = np.array(np.meshgrid(*[[-1, 1]] * len(there))).reshape(len(there), -1)
        return float((np.abs(there @ every) >= least).mean())
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (FLIPS, len(there)))
    return float(((np.abs(signs @ there) >= least).sum() + 1) / (FLIPS + 1))
