"""Heads compared on the same rows, pair by pair, whatever labels the rows have.

Where a row has one label that is McNemar's test of what was right (`probe.paired`). Where it may
have several, nothing is right or wrong as a whole: the mean average precision is compared, with
rows redrawn for both heads at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from math import erfc, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.errors import DataError, UsageError
from probe.multilabel import average_precisions, drawn_maps, mean_of
from probe.outcome import Pair
from probe.paired import Right, compare_pair, holm
from probe.statistics import LEVEL, Interval


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
    """

    n: int
    value: float
    right: Right | None = None
    drawn: NDArray[np.float64] | None = None


def metric_of(labels: NDArray[np.integer[Any]]) -> str:
    """Return what heads on such rows are ranked by: ``top1``, or ``map`` of several labels."""
    return "top1" if labels.ndim == 1 else "map"


def figure(
    probabilities: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]
) -> float | None:
    """Return that figure; None where no row has any of several labels."""
    if labels.ndim == 1:
        return float((probabilities.argmax(axis=1) == labels).mean())
    return mean_of(average_precisions(probabilities, labels))


def evidence(
    probabilities: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]], *, seed: int = 0
) -> Evidence:
    """Return what comparing a head with others on the same rows, in the same order, needs.

    Parameters
    ----------
    probabilities : float, (n, n_classes)
    labels : int, (n,), or 0 and 1, (n, n_classes)
    seed : int
        Of the draws; the same for all that are compared.

    Raises
    ------
    DataError
        No row has a label, so there is no average precision.
    """
    value = figure(probabilities, labels)
    if value is None:
        raise DataError("none of the rows to compare on has a label; hold out others")
    if labels.ndim == 1:
        right = probabilities.argmax(axis=1) == labels
        return Evidence(n=len(labels), value=value, right=right)
    drawn = drawn_maps(probabilities, labels, seed=seed)
    return Evidence(n=len(labels), value=value, drawn=drawn)


def compare_all(
    found: Mapping[str, Evidence], *, seed: int = 0, level: float = LEVEL
) -> list[Pair]:
    """Test every pair and correct for all of them; the first of a pair comes first in `found`.

    Raises
    ------
    UsageError
        Two have other rows, or other kinds of labels.
    """
    pairs = [
        _pair((a, found[a]), (b, found[b]), seed=seed, level=level)
        for a, b in combinations(found, 2)
    ]
    adjusted = holm([pair.p for pair in pairs])
    return [
        replace(pair, p_adjusted=p, different=p <= 1 - level)
        for pair, p in zip(pairs, adjusted, strict=True)
    ]


def _pair(
    first: tuple[str, Evidence], second: tuple[str, Evidence], *, seed: int, level: float
) -> Pair:
    """Return the test of one pair, not corrected yet."""
    (a, left), (b, right) = first, second
    if left.right is not None and right.right is not None:
        test = compare_pair(left.right, right.right, seed=seed, level=level)
        return Pair(
            a=a, b=b, n=test.n, only_a=test.only_a, only_b=test.only_b, difference=test.difference,
            low=test.interval.low, high=test.interval.high, p=test.p, p_adjusted=test.p,
            different=False,
        )  # fmt: skip
    interval, p = compare_drawn(left, right, level=level)
    return Pair(
        a=a, b=b, n=left.n, difference=left.value - right.value, low=interval.low,
        high=interval.high, p=p, p_adjusted=p, different=False,
    )  # fmt: skip


def compare_drawn(a: Evidence, b: Evidence, *, level: float = LEVEL) -> tuple[Interval, float]:
    """Return how sure the difference in mean average precision of two heads is.

    Returns
    -------
    interval : Interval
        The percentile interval of the difference over the redrawn rows.
    p : float
        Two-sided: of the difference in units of its standard deviation over the draws, by the
        normal distribution. A share of a few hundred draws could not pass Holm's correction for
        many pairs, however large the difference.

    Raises
    ------
    UsageError
        The rows, or the draws, are not the same.

    References
    ----------
    Efron, Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 6 and 13.
    """
    if a.n != b.n or a.drawn is None or b.drawn is None or len(a.drawn) != len(b.drawn):
        raise UsageError(f"{a.n} and {b.n} rows, or rows of other kinds, cannot be paired")
    drawn = a.drawn - b.drawn
    drawn = drawn[~np.isnan(drawn)]
    difference, error = a.value - b.value, float(drawn.std())
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    p = erfc(abs(difference) / error / sqrt(2)) if error > 0 else float(difference == 0)
    return Interval(low=float(low), high=float(high), level=level), p
