"""Whether a difference is real: paired tests on the same rows, corrections, and who ties with whom.

All of it takes what was right and what was wrong, row by row, for two or more heads. It says how
much a difference would move with other rows of the same kind. It says nothing of other training
rows or seeds (Dietterich, "Approximate statistical tests for comparing supervised classification
learning algorithms", Neural Comput. 10, 1998).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_lowercase

import numpy as np
from numpy.typing import NDArray

from probe.errors import UsageError
from probe.statistics import DRAWS, LEVEL, Interval

Right = NDArray[np.bool_]
NEMENYI_LEAST = 5  # datasets below which average ranks say little


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """Two heads on the same rows.

    Parameters
    ----------
    n, only_a, only_b : int
        Rows; those that only the first, or only the second, got right.
    difference : float
        Accuracy of the first less that of the second.
    interval : Interval
        Of the difference, by paired bootstrap.
    p : float
        Of McNemar's exact test, two-sided.
    """

    n: int
    only_a: int
    only_b: int
    difference: float
    interval: Interval
    p: float


def compare_pair(a: Right, b: Right, *, seed: int = 0, level: float = LEVEL) -> PairedTest:
    """Compare what two heads got right on the same rows.

    Parameters
    ----------
    a, b : bool, (n_rows,)
        Whether each row was right, in the same order.

    Raises
    ------
    UsageError
        There are no rows, or not the same number.
    """
    if len(a) != len(b) or not len(a):
        raise UsageError(f"{len(a)} and {len(b)} rows cannot be paired")
    only_a, only_b = int(np.sum(a & ~b)), int(np.sum(b & ~a))
    return PairedTest(
        n=len(a),
        only_a=only_a,
        only_b=only_b,
        difference=(only_a - only_b) / len(a),
        interval=paired_bootstrap(only_a, only_b, len(a), seed=seed, level=level),
        p=mcnemar(only_a, only_b),
    )


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the two-sided p of McNemar's exact test: are rows that one alone got right a toss-up?

    It is exact at any count, so no approximation by chi-squared is needed for many rows.

    References
    ----------
    McNemar, Psychometrika 12, 1947; Edwards, Psychometrika 13, 1948: its exact binomial form.
    """
    from scipy.special import bdtr

    least, both = min(only_a, only_b), only_a + only_b
    return min(1.0, 2 * float(bdtr(least, both, 0.5))) if both else 1.0


def paired_bootstrap(
    only_a: int, only_b: int, n: int, *, seed: int = 0, draws: int = DRAWS, level: float = LEVEL
) -> Interval:
    """Return the percentile interval of a difference in accuracy over redrawn rows.

    A drawn row counts +1, -1 or 0, so how often each comes is multinomial: the counts are drawn
    instead of the rows, which is the same and costs nothing.

    References
    ----------
    Efron, Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    random = np.random.default_rng(seed)
    shares = [only_a / n, only_b / n, max(0.0, 1 - (only_a + only_b) / n)]
    counts = random.multinomial(n, shares, draws)
    found = (counts[:, 0] - counts[:, 1]) / n
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(low=float(low), high=float(high), level=level)


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


def friedman(values: NDArray[np.float64], *, level: float = LEVEL) -> tuple[float, float] | None:
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
    Demsar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7, 2006.
    """
    from scipy.stats import f, studentized_range

    k, n = values.shape
    if k < 3 or n < NEMENYI_LEAST:
        return None
    ranks = average_ranks(values)
    chi2 = 12 * n / (k * (k + 1)) * (float(np.sum(ranks**2)) - k * (k + 1) ** 2 / 4)
    rest = n * (k - 1) - chi2
    p = float(f.sf((n - 1) * chi2 / rest, k - 1, (k - 1) * (n - 1))) if rest > 1e-9 else 0.0
    width = float(studentized_range.ppf(level, k, np.inf)) / np.sqrt(2)
    return p, float(width * np.sqrt(k * (k + 1) / (6 * n)))
