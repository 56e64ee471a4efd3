"""Choose the threshold of two classes by the cost of mistakes: `probe head --cost 1:5`.

A false positive is a negative image that is answered positive, a false negative a positive one that
is answered negative. The threshold is the one whose answers cost least on held-out rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from probe.errors import UsageError
from probe.evaluation.scored import Scored
from probe.evaluation.splitting import Labels
from probe.evaluation.two_classes import Threshold, cost_interval, cost_of, count_positives, odds_of
from probe.evaluation.units import Units

MOST = 1e9  # that a mistake may cost
PARTS = 10  # of the held-out rows, for the expected cost
SURE = 700.0  # log odds beyond which probabilities underflow: no threshold divides such rows

Array64 = NDArray[np.float64]
Bools = NDArray[np.bool_]


def read_costs(text: str) -> tuple[float, float]:
    """Return the costs of a false positive and of a false negative from ``FP:FN``, as ``1:5``.

    Raises
    ------
    UsageError
        They are not two numbers above 0.
    """
    try:
        first, second = (float(word) for word in text.split(":"))
    except ValueError:
        first = second = math.nan
    check_costs((first, second), text)
    return first, second


def check_costs(costs: tuple[float, float], text: str | None = None) -> None:
    """Refuse costs that are no numbers above 0, or beyond what is added up exactly.

    Raises
    ------
    UsageError
    """
    if not all(1 / MOST <= one <= MOST for one in costs):
        raise UsageError(
            f"--cost {text or ':'.join(f'{one:g}' for one in costs)}: give what a false positive "
            "costs and what a false negative costs, two numbers above 0 with a colon between, as "
            f"1:5; each from {1 / MOST:g} to {MOST:g}"
        )


def check_both_sides(labels: Labels, classes: Sequence[str], where: str) -> None:
    """Refuse held-out rows of one class: nothing tells what mistakes with the other cost.

    Raises
    ------
    UsageError
    """
    found = np.unique(labels)
    if len(found) == 1:
        raise UsageError(
            f"--cost takes held-out images of both classes, and all {len(labels):,} of {where} are "
            f"{classes[int(found[0])]}; hold out more"
        )


def choose_by_cost(
    one: Scored,
    classes: Sequence[str],
    positive: int,
    costs: tuple[float, float],
    split: str,
    *,
    seed: int = 0,
) -> Threshold:
    """Return the threshold whose answers cost least on held-out rows.

    Among thresholds that cost the same there the one nearest to log(false_positive/false_negative)
    is taken, which costs least where probabilities are right, and within a gap between two scores
    that value itself or else the middle of the gap.

    The rows that choose a threshold flatter it. So the expected cost is that of thresholds chosen
    alike on PARTS - 1 parts of the rows, each on the part that it did not see; rows that belong
    together are in one part.

    Parameters
    ----------
    one : Scored
        Of held-out rows and two classes.
    costs : (float, float)
        Of a false positive and of a false negative, above 0.
    split : str
        What the rows are called.
    seed : int
        Of the parts.

    Raises
    ------
    UsageError
        The rows are all of one class.

    References
    ----------
    Elkan, "The foundations of cost-sensitive learning", IJCAI 2001.
    """
    own = one.labels == positive
    check_both_sides(one.labels, classes, split)
    odds = np.clip(odds_of(one, positive), -SURE, SURE)
    chosen = _cheapest(odds, own, costs)
    said = odds >= chosen
    found = Threshold(
        positive=classes[positive], log_odds=chosen, split=split,
        positives=count_positives(one.labels, positive, one.units),
        false_positive=costs[0], false_negative=costs[1],
        always=classes[positive if said.all() else 1 - positive] if len(set(said)) == 1 else None,
    )  # fmt: skip
    return _with_expected(found, odds, own, one.units, seed)


def _with_expected(
    found: Threshold, odds: Array64, own: Bools, units: Units | None, seed: int
) -> Threshold:
    costs = found.costs
    assert costs is not None
    numbers = np.arange(len(own)) if units is None else np.unique(units, return_inverse=True)[1]
    count = int(numbers.max()) + 1
    parts = min(PARTS, count)
    if parts < 2:
        return found
    part = np.random.default_rng(seed).permutation(count)[numbers] % parts
    said = np.zeros(len(own), bool)
    for number in range(parts):
        held = part == number
        said[held] = odds[held] >= _cheapest(odds[~held], own[~held], costs)
    interval = cost_interval(own, said, costs, units)
    return replace(found, expected=cost_of(own, said, costs), low=interval.low, high=interval.high)


def _cheapest(odds: Array64, own: Bools, costs: tuple[float, float]) -> float:
    """Return the log odds from which on to answer positive.

    Parameters
    ----------
    odds : float64, (n_rows,)
        From -SURE to SURE.
    own : bool, (n_rows,)
        Which rows are positive.
    """
    right = math.log(costs[0] / costs[1])
    order = np.argsort(odds, kind="stable")
    values, first = np.unique(odds[order], return_index=True)
    ends = np.append(first, len(odds))  # of threshold k the rows from ends[k] on are positive
    missed = np.concatenate([[0], np.cumsum(own[order])])[ends]
    rest = ~own[order]
    alarms = int(rest.sum()) - np.concatenate([[0], np.cumsum(rest)])[ends]
    total = costs[0] * alarms + costs[1] * missed
    low, high = np.append(-np.inf, values), np.append(values, np.inf)  # threshold in (low, high]
    can = (high > -SURE) & (low < SURE)
    total = np.where(can, total, np.inf)
    tied = np.flatnonzero(total <= total.min() * (1 + 1e-12))
    away = np.maximum(0, np.maximum(low[tied] - right, right - high[tied]))
    best = int(tied[np.argmin(away)])
    below, above = float(low[best]), float(high[best])
    if below < right <= above:
        return right
    if math.isinf(below):
        return above - 1
    middle = below + 1 if math.isinf(above) else (below + above) / 2
    return middle if middle > below else above  # of neighbouring floats the middle is rounded
