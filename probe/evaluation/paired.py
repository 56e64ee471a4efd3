"""Paired tests on the same rows, corrections for many comparisons, and which heads tie.

All of it takes what was right and what was wrong, row by row, for two or more heads. It says how
much a difference would move with other rows of the same kind. It says nothing of other training
rows or seeds (Dietterich, "Approximate statistical tests for comparing supervised classification
learning algorithms", Neural Comput. 10, 1998).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import erfc, sqrt
from string import ascii_lowercase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.errors import UsageError
from probe.evaluation.statistics import LEVEL, Interval, Units, are_related, effective_rows

Right = NDArray[np.bool_]
CONTINUITY = 0.5  # rows: without it Tango's interval held the truth in 91.9 % (n = 5) at worst
MCNEMAR, FLIPS = "McNemar's exact test", "sign-flip test of the units of related rows"
NEMENYI_LEAST = 5  # datasets below which average ranks say little


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """Two heads on the same rows.

    Interval and test agree: the interval holds 0 exactly where p is above 1 - LEVEL.

    Parameters
    ----------
    n, only_a, only_b : int
        Rows; those that only the first, or only the second, got right.
    difference : float
        Accuracy of the first less that of the second.
    interval : Interval
        Of the difference, see `difference_interval`.
    p : float
        Two-sided: of McNemar's exact test, or of `flip_test` where rows are related.
    effective : float
        Independent rows that would be as sure; `n` where none are related.
    test : str
        What the test is called.
    """

    n: int
    only_a: int
    only_b: int
    difference: float
    interval: Interval
    p: float
    effective: float
    test: str


def compare_pair(a: Right, b: Right, *, units: Units = None) -> PairedTest:
    """Compare what two heads got right on the same rows.

    Parameters
    ----------
    a, b : bool, (n_rows,)
        Whether each row was right, in the same order.
    units : int, (n_rows,), optional
        Rows of one number are related: of one patient, or the same image. Default: none are.

    Raises
    ------
    UsageError
        There are no rows, or not the same number.
    """
    if len(a) != len(b) or not len(a):
        raise UsageError(f"{len(a)} and {len(b)} rows cannot be paired")
    only_a, only_b, n = int(np.sum(a & ~b)), int(np.sum(b & ~a)), len(a)
    effective = float(n)
    if are_related(units):
        gained = a.astype(np.int64) - b
        effective = effective_rows(gained, units)
        part = effective / n
        score = score_p(only_a * part, only_b * part)
        # both tests have to reject, so that p and interval agree
        p = max(flip_test(np.bincount(np.unique(units, return_inverse=True)[1], gained)), score)
    else:
        p = mcnemar(only_a, only_b)
    return PairedTest(
        n=n,
        only_a=only_a,
        only_b=only_b,
        difference=(only_a - only_b) / n,
        interval=difference_interval(only_a, only_b, n, p=p, effective=effective),
        p=p,
        effective=effective,
        test=FLIPS if are_related(units) else MCNEMAR,
    )


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the two-sided p-value of McNemar's exact test on rows that one head alone got right.

    It is exact at any count, so no approximation by chi-squared is needed for many rows.

    References
    ----------
    McNemar, Psychometrika 12, 1947; Edwards, Psychometrika 13, 1948: its exact binomial form.
    """
    from scipy.special import bdtr

    least, both = min(only_a, only_b), only_a + only_b
    return min(1.0, 2 * float(bdtr(least, both, 0.5))) if both else 1.0


def score_p(only_a: float, only_b: float) -> float:
    """Return the two-sided p-value of the score test that `difference_interval` inverts."""
    both, gap = only_a + only_b, max(abs(only_a - only_b) - CONTINUITY, 0.0)
    return erfc(gap / sqrt(2 * both)) if both > 0 else 1.0


def flip_test(gains: NDArray[Any]) -> float:
    """Return the two-sided p-value of a sign-flip test of the units' gains.

    If two heads are alike, which one is called the first is a toss-up in each unit of related rows.
    So the signs of the units' gains are flipped in every possible way. The distribution of their
    sum is exact: it comes from its characteristic function, the product of cos(gain t). With one
    row a unit this is McNemar's exact test.

    Parameters
    ----------
    gains : float with whole values, (n_units,)
        Of each unit, the rows that only the first head got right less those of the second.

    Returns
    -------
    float
        At least 1e-12, below which the sum over the characteristic function is rounding.

    References
    ----------
    Fisher, "The Design of Experiments", 1935, 21. Good, "Permutation, Parametric, and Bootstrap
    Tests of Hypotheses", 2005. Durkalski, Palesch, Lipsitz, Rust, "Analysis of clustered
    matched-pair data", Stat. Med. 22, 2003: gains of units in place of rows.
    """
    sizes, counts = np.unique(np.abs(np.rint(gains)).astype(np.int64), return_counts=True)
    total, most = abs(int(np.rint(gains).sum())), int((sizes * counts).sum())
    if not most:
        return 1.0
    points = 2 * most + 1
    angles = 2 * np.pi / points * np.arange(points)
    wave = np.ones(points)
    for size, count in zip(sizes, counts, strict=True):
        wave *= np.cos(angles * size) ** count
    chance = np.fft.fft(wave).real / points  # of each sum, -most to most, negative ones at the end
    sums = np.arange(points)
    sums[sums > most] -= points
    return float(np.clip(chance[np.abs(sums) >= total].sum(), 1e-12, 1))


def difference_interval(
    only_a: int,
    only_b: int,
    n: int,
    *,
    p: float,
    effective: float | None = None,
) -> Interval:
    """Return the interval of a difference of two paired shares: Tango's, with half a row taken off.

    It has a width also where no row, or only one head's rows, are discordant. It holds the true
    difference at least as often as the level says, also with few rows, where a bootstrap does not
    (`benchmarks/intervals.py`). Where the test that comes with it does not tell the heads apart the
    interval is widened to hold 0.

    Parameters
    ----------
    only_a, only_b, n : int
        Rows that only the first, or only the second, got right; all rows.
    p : float
        Two-sided, of no difference.
    effective : float, optional
        Independent rows that would be as sure, where rows are related.

    References
    ----------
    Tango, "Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design", Stat. Med. 17, 1998. Rao, Scott, "A simple method for the analysis of
    clustered binary data", Biometrics 48, 1992: counts over the design effect.
    """
    part = 1.0 if effective is None else effective / n
    b, c, rows = only_a * part, only_b * part, n * part
    low, high = _tango(b, c, rows), -_tango(c, b, rows)
    if p > 1 - LEVEL:
        low, high = min(low, 0.0), max(high, 0.0)
    return Interval(low=low, high=high)


def _tango(b: float, c: float, n: float) -> float:
    """Return the lower end: the smallest difference whose score test does not reject, by bisection.

    n, b, c: rows, and those that the first and the second alone got right.
    """
    from scipy.special import ndtri

    bound = float(ndtri((1 + LEVEL) / 2))

    def too_small(difference: float) -> bool:
        # q: the likeliest share of rows that only the second got right, given the difference
        linear = -b - c + (2 * n - b + c) * difference
        constant = -c * difference * (1 - difference)
        q = (sqrt(max(linear**2 - 8 * n * constant, 0.0)) - linear) / (4 * n)
        variance = n * (2 * q + difference * (1 - difference))
        gap = b - c - n * difference
        return gap - CONTINUITY > bound * sqrt(max(variance, 0.0))

    low, high = -1.0, (b - c) / n
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if too_small(middle) else (low, middle)
    return low


def holm(p: Sequence[float]) -> list[float]:
    """Return p adjusted so that the chance of any false alarm among all of them stays bounded.

    References
    ----------
    Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Stat. 6, 1979.
    """
    order = sorted(range(len(p)), key=lambda index: p[index])
    adjusted, highest = [0.0] * len(p), 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - place) * p[index]))
        adjusted[index] = highest
    return adjusted


def compact_letters(count: int, different: Sequence[tuple[int, int]]) -> list[str]:
    """Return letters for things 0 to count - 1, best first: those that share one do not differ.

    Insert and absorb: all start in one group; each significant pair splits every group that holds
    both; groups inside another go. What is left are the largest sets without a significant pair.

    Parameters
    ----------
    different : sequence of (int, int)
        The pairs that differ significantly.

    References
    ----------
    Piepho, "An algorithm for a letter-based representation of all-pairwise comparisons", J. Comput.
    Graph. Stat. 13, 2004.
    """
    groups = [frozenset(range(count))]
    for a, b in different:
        split = [
            part
            for group in groups
            for part in ((group - {a}, group - {b}) if {a, b} <= group else (group,))
        ]
        groups = [one for one in dict.fromkeys(split) if not any(one < other for other in split)]
    groups.sort(key=sorted)
    return [
        "".join(_letter(i) for i, group in enumerate(groups) if one in group)
        for one in range(count)
    ]


def _letter(index: int) -> str:
    """Return a, b ... z, then a1, b1 ..."""
    lap, place = divmod(index, len(ascii_lowercase))
    return ascii_lowercase[place] + (str(lap) if lap else "")


def average_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each row's mean rank over the columns, 1 for the highest value, ties sharing.

    Parameters
    ----------
    values : float64, (n_methods, n_datasets)
    """
    from scipy.stats import rankdata

    ranks: NDArray[np.float64] = rankdata(-values, axis=0).mean(axis=1)
    return ranks


def friedman(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """Test whether methods differ over datasets, and by how much average ranks have to.

    Parameters
    ----------
    values : float64, (n_methods, n_datasets)

    Returns
    -------
    p, critical_difference : float
        Of Iman and Davenport's F and of Nemenyi's test; None with fewer than 3 methods or
        NEMENYI_LEAST datasets, where neither says anything.

    References
    ----------
    Demsar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7, 2006. Conover,
    "Practical Nonparametric Statistics", 1999, 5.8: ties, which Demsar's formula leaves out.
    """
    from scipy.stats import f, rankdata

    k, n = values.shape
    if k < 3 or n < NEMENYI_LEAST:
        return None
    ranks: NDArray[np.float64] = rankdata(-values, axis=0)
    middle = (k + 1) / 2
    spread = float(np.sum((ranks - middle) ** 2))  # less where ranks are tied; 0 where all are
    if not spread:
        return 1.0, _nemenyi(k, n)
    chi2 = (k - 1) * n**2 * float(np.sum((ranks.mean(axis=1) - middle) ** 2)) / spread
    rest = n * (k - 1) - chi2
    p = float(f.sf((n - 1) * chi2 / rest, k - 1, (k - 1) * (n - 1))) if rest > 1e-9 else 0.0
    return p, _nemenyi(k, n)


def _nemenyi(k: int, n: int) -> float:
    """Return by how much average ranks of k methods over n datasets have to differ."""
    from scipy.stats import studentized_range

    width = float(studentized_range.ppf(LEVEL, k, np.inf)) / sqrt(2)
    return width * sqrt(k * (k + 1) / (6 * n))
