"""Heads compared on the same rows, pair by pair, whatever labels the rows have.

Where a row has one label that is McNemar's test of what was right (`probe.evaluation.paired`).
Where it may have several, nothing is right or wrong as a whole: the mean average precision is
compared, with rows redrawn for both heads at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from math import erfc, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.short_repr import short_repr
from probe.errors import DataError, UsageError
from probe.evaluation.gains import METRICS, compare_gains, gains_of, mean_error
from probe.evaluation.gains import TEST as T_AND_FLIPS
from probe.evaluation.multilabel import drawn_maps, flipped_maps
from probe.evaluation.paired import Right, compare_pair, holm
from probe.evaluation.predictions import Predictions
from probe.evaluation.settling import Settling, Tie, settle
from probe.evaluation.statistics import LEVEL, Interval, Units
from probe.evaluation.task import task_of
from probe.evaluation.units import count_units

PERMUTATION = "permutation test"
TAIL = 10  # permutations below which their share is too coarse


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """What a head did on some rows, as far as comparing it needs that.

    Parameters
    ----------
    n : int
        Rows.
    value : float
        What it is ranked by: accuracy, or of several labels the mean average precision.
    right : bool, (n,), optional
        Whether each row was right; where a row has one label.
    drawn : float64, (n_draws,), optional
        Mean average precision on redrawn rows; where a row may have several.
    scores, labels : (n, n_classes), optional
        What the heads are compared by; where a row may have several labels.
    gains : float64, (n,), optional
        Each row's part in `value`, where another metric ranks heads (`probe.evaluation.gains`).
    freedom : int, optional
        Degrees of freedom of their mean; default: one less than there are independent rows.
    units : int, (n,), optional
        Rows of one number are related. Default: none are.
    repeats : int
        Rows an image has: how often it was predicted.
    """

    __repr__ = short_repr

    n: int
    value: float
    right: Right | None = None
    drawn: NDArray[np.float64] | None = None
    scores: NDArray[np.floating[Any]] | None = None
    labels: NDArray[np.integer[Any]] | None = None
    gains: NDArray[np.float64] | None = None
    freedom: int | None = None
    units: Units = None
    repeats: int = 1


def evidence(
    probabilities: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    *,
    units: Units = None,
    seed: int = 0,
) -> Evidence:
    """Return what comparing a head with others on the same rows, in the same order, needs.

    Parameters
    ----------
    probabilities : float, (n, n_classes)
    labels : int, (n,), or 0 and 1, (n, n_classes)
    units : int, (n,), optional
        Rows of one number are related. Default: none are.
    seed : int
        Of the draws; the same for all that are compared.

    Raises
    ------
    DataError
        No row has a label, so there is no average precision.
    """
    task = task_of(labels)
    value, right = task.figure(probabilities, labels), task.right(probabilities, labels)
    if value is None:
        raise DataError("none of the rows to compare on has a label; hold out others")
    if right is not None:
        return Evidence(n=len(labels), value=value, right=right, units=units)
    drawn = drawn_maps(probabilities, labels, units=units, seed=seed)
    return Evidence(
        n=len(labels), value=value, drawn=drawn, scores=probabilities, labels=labels, units=units
    )


def evidence_of(
    said: Predictions, metric: str = "top1", *, order: NDArray[np.intp] | None = None, seed: int = 0
) -> Evidence:
    """Return `evidence` of predictions by the metric that ranks them, more being better.

    Parameters
    ----------
    metric : str
        ``top1`` or ``map``, by whether a row has one label, or one of
        `probe.evaluation.gains.METRICS`.
    order : int, (n,), optional
        Of the rows, so that several heads have them alike. Default: as they are.

    Raises
    ------
    DataError
        The figure cannot be measured on these rows.
    """
    rows = np.arange(len(said)) if order is None else order
    units = None if said.units is None else said.units[rows]
    if metric not in METRICS:
        made = evidence(said.compared[rows], said.label_columns[rows], units=units, seed=seed)
        return replace(made, repeats=said.repeats)
    found = gains_of(said, metric)
    if found is None:
        raise DataError(
            f"{metric} cannot be measured on the rows to compare on: they are of one class, or of "
            "so many classes that not all scores are kept; hold out others, or rank by top1"
        )
    sizes = np.bincount(said.labels)
    two = len(sizes) == 2 and metric == "macro_auc"
    return Evidence(
        n=len(rows), value=found[0], gains=found[1][rows], units=units, repeats=said.repeats,
        freedom=max(1, int(sizes.min()) // said.repeats - 1) if two else None,
    )  # fmt: skip


def compare_all(found: Mapping[str, Evidence], *, seed: int = 0) -> list[Pair]:
    """Test every pair and correct for all of them; the first of a pair comes first in `found`.

    Of those that are not told apart it is said what would settle them, at the level that Holm's
    procedure has for them: those that are told apart would be with more images, too.

    Raises
    ------
    UsageError
        Two have other rows, or other kinds of labels.
    """
    pairs = [_pair((a, found[a]), (b, found[b]), seed=seed) for a, b in combinations(found, 2)]
    adjusted = holm([pair.p for pair in pairs])
    tied = sum(p > 1 - LEVEL for p in adjusted)
    tested = []
    for pair, p in zip(pairs, adjusted, strict=True):
        different = p <= 1 - LEVEL
        settling = None if different else settle(_tie(pair, found), level=(1 - LEVEL) / tied)
        tested.append(replace(pair, p_adjusted=p, different=different, settling=settling))
    return tested


def _tie(pair: Pair, found: Mapping[str, Evidence]) -> Tie:
    one = found[pair.a]
    images = pair.n // one.repeats
    units, discordant = min(images, count_units(one.units, pair.n)), None
    if pair.only_a is not None:
        discordant = (pair.only_a + (pair.only_b or 0)) / pair.n
    return Tie(
        difference=pair.difference, low=pair.low, high=pair.high, images=images, units=units,
        effective=float(units) if discordant is None else pair.effective or float(pair.n),
        discordant=discordant, error=pair.error,
    )  # fmt: skip


def _pair(first: tuple[str, Evidence], second: tuple[str, Evidence], *, seed: int) -> Pair:
    """Return the test of one pair, not corrected yet."""
    (a, left), (b, right) = first, second
    if left.right is not None and right.right is not None:
        test = compare_pair(left.right, right.right, units=left.units)
        return Pair(
            a=a, b=b, n=test.n, only_a=test.only_a, only_b=test.only_b, difference=test.difference,
            low=test.interval.low, high=test.interval.high, p=test.p, p_adjusted=test.p,
            different=False, test=test.test,
            effective=None if test.effective == test.n else test.effective,
        )  # fmt: skip
    if left.gains is not None and right.gains is not None:
        interval, p = compare_gains(
            left.gains, right.gains, left.units, freedom=left.freedom, seed=seed
        )
        return Pair(
            a=a, b=b, n=left.n, difference=left.value - right.value, low=interval.low,
            high=interval.high, p=p, p_adjusted=p, different=False, test=T_AND_FLIPS,
            error=mean_error(left.gains - right.gains, left.units),
        )  # fmt: skip
    interval, p = compare_drawn(left, right, seed=seed)
    assert left.drawn is not None
    assert right.drawn is not None
    return Pair(
        a=a, b=b, n=left.n, difference=left.value - right.value, low=interval.low,
        high=interval.high, p=p, p_adjusted=p, different=False, test=PERMUTATION,
        error=float(np.nanstd(left.drawn - right.drawn)),
    )  # fmt: skip


def compare_drawn(a: Evidence, b: Evidence, *, seed: int = 0) -> tuple[Interval, float]:
    """Return how sure the difference in mean average precision of two heads is.

    Interval and test agree: the interval holds 0 where p is above 1 - LEVEL, and only there.

    Returns
    -------
    interval : Interval
        The percentile interval of the difference over the redrawn rows; widened to hold 0 where the
        test does not tell the heads apart.
    p : float
        Two-sided: how often heads that change places in rows by chance differ as much, see
        `flipped_maps`; or the share of redrawn rows that speak against the sign, where that is
        larger. A share of fewer than TAIL permutations is too coarse to pass Holm's correction for
        many pairs: then the normal distribution says how rare that is, but never rarer than the
        exact test on so many rows can be.

    Raises
    ------
    UsageError
        The rows, or the draws, are not the same.

    References
    ----------
    Efron, Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 13 and 15.
    """
    same = a.n == b.n and a.drawn is not None and b.drawn is not None
    if not same or a.labels is None or a.scores is None or b.scores is None:
        raise UsageError(f"{a.n} and {b.n} rows, or rows of other kinds, cannot be paired")
    assert a.drawn is not None
    assert b.drawn is not None
    drawn = a.drawn - b.drawn
    drawn = drawn[~np.isnan(drawn)]
    difference = a.value - b.value
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    against = 2 * min(float((drawn <= 0).mean()), float((drawn >= 0).mean()))
    p = min(1.0, max(_permuted(a, b, difference, seed), against))
    if p > 1 - LEVEL:
        low, high = min(low, 0.0), max(high, 0.0)
    return Interval(low=float(low), high=float(high)), p


def _permuted(a: Evidence, b: Evidence, difference: float, seed: int) -> float:
    """Return the p of the permutation test; 1 where no row's ranks differ."""
    assert a.labels is not None
    assert a.scores is not None
    assert b.scores is not None
    flipped = flipped_maps(a.scores, b.scores, a.labels, units=a.units, seed=seed)
    as_much = int((np.abs(flipped) >= abs(difference) - 1e-12).sum())
    counted = (as_much + 1) / (len(flipped) + 1)
    error = float(flipped.std())
    if as_much >= TAIL or not error:
        return counted if error else float(abs(difference) <= 1e-12)
    movable = np.flatnonzero(a.labels.any(axis=1))
    units = len(movable) if a.units is None else len(np.unique(a.units[movable]))
    return max(min(counted, erfc(abs(difference) / error / sqrt(2))), 2.0 ** (1 - units))


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two rows compared on the same images.

    Parameters
    ----------
    a, b : str
        Row ids, `a` the one that ranks higher.
    n : int
        Images.
    only_a, only_b : int, optional
        Those that only `a`, or only `b`, got right; absent where images may have several labels.
    difference, low, high : float
        The protocol's metric of `a` less that of `b`, of log losses the other way round, so that
        `a` is better where it is positive, and its interval. It is of this pair alone,
        and holds 0 where `p` does not tell the two apart.
    p, p_adjusted : float
        Two-sided, and after Holm's correction for all pairs of the dataset.
    different : bool
        Whether `p_adjusted` is at most 1 - LEVEL.
    test : str, optional
        What the test is called; absent in benches that older versions made.
    effective : float, optional
        Independent images that would be as sure, where some are related; else absent.
    error : float, optional
        Standard error of `difference`, where images are not simply right or wrong.
    settling : Settling, optional
        How many images would tell the two apart; absent where they are told apart, where they
        answer all alike, and in benches that older versions made.
    """

    a: str
    b: str
    n: int
    difference: float
    low: float
    high: float
    p: float
    p_adjusted: float
    different: bool
    only_a: int | None = None
    only_b: int | None = None
    test: str | None = None
    effective: float | None = None
    error: float | None = None
    settling: Settling | None = None
