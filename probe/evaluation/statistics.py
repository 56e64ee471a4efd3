"""Confidence intervals over rows, spread over seeds, and temperature scaling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from probe.errors import NoTemperatureError, UsageError
from probe.evaluation.logits import softmax

DRAWS = 2000
LEVEL = 0.95
BLOCK = 1 << 20  # drawn row numbers at a time: 8 MB, and as much again of figures
# of temperatures tried first; a head that a penalty holds back strongly needs a very cold one
COLDEST, HOTTEST = np.log(1e-6), np.log(100.0)
AT_END = 0.01  # of the range of temperatures, in logarithms

Array64 = NDArray[np.float64]
Labels = NDArray[np.integer[Any]]
Units = NDArray[np.integer[Any]] | None  # (n_rows,): rows of one number are related


@dataclass(frozen=True, kw_only=True)
class Interval:
    """From `low` to `high`; of intervals made like it, a share of `LEVEL` holds the true figure."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Mean and standard deviation over repetitions, not an interval over rows."""

    mean: float
    deviation: float
    count: int


def share_interval(right: NDArray[np.bool_], *, units: Units = None) -> Interval:
    """Return the exact interval of a share of rows, as accuracy is: Clopper and Pearson's.

    It holds the true share at least as often as the level says, with few rows and near 0 and 1 too,
    where a bootstrap does not: without a wrong row all its draws are alike. Where rows are related
    the rows are counted as so many independent ones, see `effective_rows`.

    Parameters
    ----------
    right : bool, (n_rows,)
    units : int, (n_rows,), optional
        Rows of one number are related: of one patient, or the same image. Default: none are.

    Raises
    ------
    UsageError
        There are no rows.

    References
    ----------
    Clopper, Pearson, "The use of confidence or fiducial limits", Biometrika 26, 1934. Korn,
    Graubard, "Confidence intervals for proportions with small expected number of positive counts
    estimated from survey data", Survey Methodology 24, 1998: with an effective number of rows.
    """
    if not len(right):
        raise UsageError("no rows: nothing to draw from")
    share, n = float(np.mean(right)), float(len(right))
    if are_related(units):
        n = effective_rows(right, units)
    return exact_interval(share, n)


def exact_interval(share: float, n: float) -> Interval:
    """Return Clopper and Pearson's interval of a share of `n` independent rows."""
    from scipy.special import betaincinv

    hits, tail = share * n, (1 - LEVEL) / 2
    low = float(betaincinv(hits, n - hits + 1, tail)) if hits > 0 else 0.0
    high = float(betaincinv(hits + 1, n - hits, 1 - tail)) if hits < n else 1.0
    return Interval(low=low, high=high)


def auc_interval(area: float, n_own: float, n_rest: float) -> Interval:
    """Return the interval of the area under a ROC curve, from the numbers of rows of both sides.

    All areas whose standard error, at that area, the one found lies within. So it has a width where
    the area is 1, too.

    References
    ----------
    Newcombe, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic.
    Part 2", Stat. Med. 25, 2006: method 5. Hanley, McNeil, Radiology 143, 1982: the variance.
    """
    from scipy.special import ndtri

    half = (n_own + n_rest) / 2 - 1
    z = float(ndtri((1 + LEVEL) / 2))

    def outside(true: float) -> bool:
        spread = 1 + half * ((1 - true) / (2 - true) + true / (1 + true))
        variance = true * (1 - true) * spread / (n_own * n_rest)
        return (area - true) ** 2 > z**2 * variance

    return Interval(low=_end(outside, 0.0, area), high=_end(outside, 1.0, area))


def _end(outside: Callable[[float], bool], far: float, near: float) -> float:
    """Return where an interval ends between a value outside and one inside, by halving."""
    for _ in range(60):
        middle = (far + near) / 2
        far, near = (middle, near) if outside(middle) else (far, middle)
    return near


def are_related(units: Units) -> TypeGuard[NDArray[np.integer[Any]]]:
    """Return whether some rows are related, that is, share a unit."""
    return units is not None and len(np.unique(units)) < len(units)


def effective_rows(values: NDArray[Any], units: Units) -> float:
    """Return how many independent rows would tell a mean as surely as these related ones.

    The number of rows over the design effect: the variance of the mean between units, in units of
    what it would be were the rows independent. It is at most the number of rows. It is corrected
    for the few units that the variance was estimated from. Where the values do not vary it is
    the number of units.

    Parameters
    ----------
    values : float or bool, (n_rows,)
        One figure a row: right or wrong, or its loss.
    units : int, (n_rows,)
        Rows of one number are related.

    References
    ----------
    Kish, "Survey Sampling", 1965. Korn, Graubard, Survey Methodology 24, 1998: the correction by
    the quantiles of Student's t.
    """
    from scipy.special import stdtrit

    rows, n = np.asarray(values, np.float64), len(values)
    if not are_related(units):
        return float(n)
    numbers = np.unique(units, return_inverse=True)[1]
    off = np.bincount(numbers, weights=rows - rows.mean())
    count = len(off)
    if count < 2:
        return 1.0  # one unit says nothing of others
    independent = float(rows.var()) / n
    if independent == 0:
        return float(count)
    between = count / (count - 1) * float((off**2).sum()) / n**2
    effect = max(1.0, between / independent)
    tail = (1 + LEVEL) / 2
    few = (float(stdtrit(n - 1, tail)) / float(stdtrit(count - 1, tail))) ** 2
    return max(1.0, n / effect * few)


def bootstrap_mean(
    values: NDArray[Any],
    *,
    units: Units = None,
    seed: int = 0,
) -> Interval:
    """Return the bootstrap interval of a mean over rows, as log loss is.

    It says how much the figure would move with other test rows of the same kind, the head staying
    as it is. It says nothing of other training rows or seeds. Related rows are drawn together.

    Parameters
    ----------
    values : float, (n_rows,)
        One figure a row, as its loss.
    units : int, (n_rows,), optional
        Rows of one number are related. Default: none are.

    Raises
    ------
    UsageError
        There are no rows.

    References
    ----------
    Efron, Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13: the percentile
    interval. Field, Welsh, "Bootstrapping clustered data", J. R. Stat. Soc. B 69, 2007.
    """
    rows = np.asarray(values, np.float64)
    if are_related(units):
        numbers = np.unique(units, return_inverse=True)[1]
        sums, sizes = np.bincount(numbers, weights=rows), np.bincount(numbers)
        return bootstrap(
            lambda drawn: sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1),
            len(sums), seed,
        )  # fmt: skip
    kinds, counts = np.unique(rows, return_counts=True)
    if len(kinds) <= 2 and len(rows):  # two values: how many are the larger is binomial, no rows
        random = np.random.default_rng(seed)  # need to be drawn
        part = random.binomial(len(rows), counts[-1] / len(rows), DRAWS) / len(rows)
        return _percentiles(kinds[0] + (kinds[-1] - kinds[0]) * part)
    return bootstrap(lambda drawn: rows[drawn].mean(axis=1), len(rows), seed)


def bootstrap(
    figure: Callable[[NDArray[np.intp]], Array64],
    n_rows: int,
    seed: int = 0,
) -> Interval:
    """Return the bootstrap interval of any figure of rows.

    Parameters
    ----------
    figure : callable
        Takes row numbers, intp, (some draws, n_rows), and returns a figure a draw.

    Raises
    ------
    UsageError
        There are no rows.
    """
    if n_rows < 1:
        raise UsageError("no rows: nothing to draw from")
    random, found = np.random.default_rng(seed), []
    step = max(1, BLOCK // n_rows)
    for start in range(0, DRAWS, step):
        size = (min(step, DRAWS - start), n_rows)
        found.append(figure(random.integers(0, n_rows, size, dtype=np.intp)))
    return _percentiles(np.concatenate(found))


def _percentiles(found: Array64) -> Interval:
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(low=float(low), high=float(high))


def spread(values: Sequence[float]) -> Spread:
    """Return mean and sample standard deviation of a figure over seeds, folds or draws.

    Raises
    ------
    UsageError
        Fewer than two values: there is no spread.
    """
    if len(values) < 2:
        raise UsageError(f"{len(values)} value has no spread; repeat with other seeds")
    return Spread(
        mean=float(np.mean(values)), deviation=float(np.std(values, ddof=1)), count=len(values)
    )


def fit_temperature(logits: NDArray[Any], labels: Labels) -> float:
    """Return the temperature that makes held-out rows most likely.

    Logits are divided by it. Fit it on validation rows, never on test rows. A label of probability
    0 is one that the head was not trained on: no temperature changes it, so its rows do not count.

    The likelihood is concave in the inverse temperature. It grows for ever where every row is
    right, and falls from the start where the logits say nothing of the labels: then no temperature
    is best.

    Parameters
    ----------
    logits : float, (n_rows, n_classes)
        Log-probabilities, or scores before the softmax; minus infinity for a class that the head
        does not know. Not the logarithms of probabilities that have underflowed.
    labels : int, (n_rows,)

    Returns
    -------
    float
        1e-12 to 1e12; above 1 where the head is too sure of itself.

    Raises
    ------
    NoTemperatureError
        None is best, or the best is out of that range; says which.

    References
    ----------
    Guo et al., "On calibration of modern neural networks", arXiv:1706.04599, 4.2. Albert, Anderson,
    "On the existence of maximum likelihood estimates in logistic regression models", Biometrika
    71, 1984: without a wrong row there is none.
    """
    own = np.take_along_axis(logits, labels[:, None], axis=1)[:, 0].astype(np.float64)
    known = own > -np.inf
    scores, labels, own = logits[known].astype(np.float64), labels[known], own[known]
    rows = np.arange(len(labels))
    if not len(rows):
        raise NoTemperatureError("no held-out row is of a class that the head knows")
    if (own >= scores.max(axis=1)).all():
        raise NoTemperatureError(f"all {len(rows):,} held-out rows are right")
    there = np.isfinite(scores)
    even = np.where(there, scores, 0).sum(axis=1) / there.sum(axis=1)
    if (own - even).sum() <= 0:
        raise NoTemperatureError("they fit the held-out rows no better than guessing")

    def loss(log_temperature: float) -> float:
        scaled = scores * np.exp(-log_temperature)
        top = scaled.max(axis=1)
        sums = np.log(np.exp(scaled - top[:, None]).sum(axis=1))
        return float((sums + top - scaled[rows, labels]).sum())

    return _best_temperature(loss)


def apply_temperature(logits: NDArray[Any], temperature: float) -> Array64:
    """Return the probabilities of logits that are divided by a temperature; the ranking stays."""
    return softmax(logits.astype(np.float64) / temperature)


def fit_binary_temperature(logits: NDArray[Any], labels: Labels) -> float:
    """Return `fit_temperature` for labels that are independent.

    Parameters
    ----------
    logits : float, (n_rows, n_classes)
        Log odds of each label.
    labels : int, (n_rows, n_classes)
        0 or 1.

    Raises
    ------
    NoTemperatureError
        As `fit_temperature`.
    """
    found = np.isfinite(logits)
    scores, yes = logits[found].astype(np.float64), labels[found]
    if (np.where(yes == 1, scores, -scores) >= 0).all():
        raise NoTemperatureError(f"all {scores.size:,} held-out decisions are right")
    if ((yes - 0.5) * scores).sum() <= 0:
        raise NoTemperatureError("they fit the held-out rows no better than guessing")

    def loss(log_temperature: float) -> float:
        scaled = scores * np.exp(-log_temperature)
        return float((np.logaddexp(0, scaled) - yes * scaled).mean())

    return _best_temperature(loss)


def apply_binary_temperature(logits: NDArray[Any], temperature: float) -> Array64:
    """Return the probabilities of a yes for log odds that are divided by a temperature."""
    scaled: Array64 = np.exp(-np.logaddexp(0, -logits.astype(np.float64) / temperature))
    return scaled


def _best_temperature(loss: Callable[[float], float]) -> float:
    for low, high in ((COLDEST, HOTTEST), (2 * COLDEST, -2 * COLDEST)):
        found = _golden_section(loss, low, high)
        if min(found - low, high - found) >= AT_END:
            return float(np.exp(found))
    raise NoTemperatureError(f"the best is not from {np.exp(low):.3g} to {np.exp(high):.3g}")


def _golden_section(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where a function with one valley is least, to 1e-5.

    References
    ----------
    Kiefer, "Sequential minimax search for a maximum", Proc. AMS 4, 1953. The loss is convex in the
    inverse temperature, so it has one valley in its logarithm too.
    """
    ratio = (np.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = function(left), function(right)
    while high - low > 1e-5:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = function(right)
    return (low + high) / 2
