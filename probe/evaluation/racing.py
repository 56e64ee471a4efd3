"""Which heads of a race can no longer win, from what they did on a sample of the images.

Heads are compared on samples that grow. At each size every head is compared with the leader on the
same held-out rows, by the paired test that also compares finished benches. Two things have to hold
before a head is dropped:

1. The test says that it is behind, on one side and at `level_of_race`. That the best head is
   dropped although it is at least as good takes one of its comparisons, one with each other head at
   each size, to be wrong. Their levels add up to the risk, so the risk is that of the whole race
   (Bonferroni's bound, which needs no independence).
2. The gap remains, with the same certainty, after what it may still close. That is the assumption:
   with each further doubling of the images a gap closes by no more than with the last one, so that
   it is left with `gap - doublings * closing`. Learning curves that fall as a power of the number
   of images behave so, and gaps that grow are taken as they are.

The first speaks of heads that were fitted on samples of that size. Only the second, which the test
does not prove, leads from there to all images; `benchmarks/racing.py` measures how often both hold.

References
----------
Maron, Moore, "Hoeffding races", NIPS 1993, and Mnih, Szepesvari, Audibert, "Empirical Bernstein
stopping", ICML 2008: races whose risk is shared out over comparisons. Mohr, van Rijn, "Fast and
informative model selection using learning curve cross-validation", IEEE TPAMI 2023,
arXiv:2111.13914: from the last step of a convex learning curve to the most that is left to gain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.evaluation.pairs import Evidence, compare_all
from probe.evaluation.statistics import LEVEL
from probe.evaluation.units import Units


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a head stands at one size of the sample.

    Parameters
    ----------
    value : float
        What it is ranked by, on the held-out rows; more is better, but of a loss that is told.
    gap, low, high : float
        What it is behind the leader by, and the 95 % interval; 0 for the leader.
    p : float
        Two-sided, of no difference; 1 for the leader.
    closing : float
        What the gap lost by the last doubling of the images, at least 0.
    dropped : bool
    """

    name: str
    value: float
    gap: float = 0.0
    low: float = 0.0
    high: float = 0.0
    p: float = 1.0
    closing: float = 0.0
    dropped: bool = False


def level_of_race(risk: float, heads: int, sizes: int) -> float:
    """Return the one-sided level of each comparison, so that all of a head's add up to the risk."""
    return risk / (max(1, heads - 1) * max(1, sizes))


def judge(
    now: Mapping[str, Evidence],
    before: Mapping[str, Evidence],
    *,
    doublings: float,
    level: float,
    seed: int = 0,
) -> list[Standing]:
    """Compare heads with the one that leads, the best first.

    Parameters
    ----------
    now, before : mapping of name to Evidence
        Of heads fitted on the sample, and on half of it, both on the same held-out rows.
    doublings : float
        How often the sample would double until it is all images.
    level : float
        One-sided, of each comparison; see `level_of_race`.
    """
    from scipy.special import ndtri

    order = sorted(now, key=lambda name: -now[name].value)
    leader = order[0]
    found = [Standing(name=leader, value=now[leader].value)]
    reach = float(ndtri(1 - level) / ndtri((1 + LEVEL) / 2))  # in halves of the 95 % interval
    for name in order[1:]:
        (pair,) = compare_all({leader: now[leader], name: now[name]}, seed=seed)
        gap = pair.difference
        closing = max(0.0, before[leader].value - before[name].value - gap)
        left = gap - doublings * closing - reach * (gap - pair.low)
        found.append(
            Standing(
                name=name, value=now[name].value, gap=gap, low=pair.low, high=pair.high, p=pair.p,
                closing=closing, dropped=pair.p / 2 <= level and left > 0,
            )
        )  # fmt: skip
    return found


def nested_order(
    strata: NDArray[np.integer[Any]], seed: int, units: Units | None = None
) -> list[NDArray[np.intp]]:
    """Return all rows in an order whose every beginning has about its share of each stratum.

    Each unit of a stratum gets a place between 0 and 1, evenly apart and in random order; the
    order is that of the places. So samples of two sizes are one inside the other.

    Parameters
    ----------
    strata : int, (n_rows,)
        A unit counts for that of its first row.
    units : int, (n_rows,), optional
        Rows of one unit stay together.

    Returns
    -------
    list of intp arrays
        Rows of each unit.
    """
    rows = np.arange(len(strata))
    numbers = rows if units is None else np.unique(units, return_inverse=True)[1]
    _, first, sizes = np.unique(numbers, return_index=True, return_counts=True)
    members = np.split(np.argsort(numbers, kind="stable"), np.cumsum(sizes)[:-1])
    random, place = np.random.default_rng(seed), np.empty(len(first))
    for stratum in np.unique(strata[first]):
        own = np.flatnonzero(strata[first] == stratum)
        place[random.permutation(own)] = (np.arange(len(own)) + random.random()) / len(own)
    return [members[unit] for unit in np.argsort(place, kind="stable")]


def beginning(order: Sequence[NDArray[np.intp]], count: int) -> NDArray[np.intp]:
    """Return the rows of the first units, ascending: so many that there are `count` or more."""
    ends = np.cumsum([len(unit) for unit in order])
    units = int(np.searchsorted(ends, count)) + 1
    return np.sort(np.concatenate(order[:units]))
