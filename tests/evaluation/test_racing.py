"""Races: what may be dropped, how often the best is by chance, and samples inside one another."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest

from probe.evaluation.pairs import Evidence
from probe.evaluation.racing import beginning, judge, level_of_race, nested_order


def evidence(right: NDArray[np.bool_]) -> Evidence:
    return Evidence(n=len(right), value=float(right.mean()), right=right)


def first(count: int, of: int = 400) -> Evidence:
    """Return a head that is right on the first rows."""
    return evidence(np.arange(of) < count)


def test_the_levels_of_all_comparisons_of_a_head_add_up_to_the_risk() -> None:
    assert level_of_race(0.05, 9, 6) * 8 * 6 == pytest.approx(0.05)


def test_a_head_is_dropped_where_it_is_behind_and_not_where_it_may_be_chance() -> None:
    now = {"behind": first(200), "leads": first(300), "near": first(295)}
    found = judge(now, now, doublings=5, level=0.001)
    assert [(one.name, one.dropped) for one in found] == [
        ("leads", False), ("near", False), ("behind", True),
    ]  # fmt: skip
    leader, _, behind = found
    assert (leader.gap, leader.p) == (0, 1)
    assert behind.gap == pytest.approx(0.25)
    assert behind.low < 0.25 < behind.high


def test_a_gap_that_closes_fast_enough_is_no_reason() -> None:
    now = {"leads": first(300), "behind": first(200)}
    before = {"leads": first(280), "behind": first(140)}  # the gap was 0.35 and is 0.25
    assert judge(now, before, doublings=1, level=0.001)[1].dropped  # 0.15 would be left
    near, far = (judge(now, before, doublings=n, level=0.001)[1] for n in (2, 4))
    assert near.closing == far.closing == pytest.approx(0.1)
    assert not near.dropped  # 0.05 would be, which may be chance
    assert not far.dropped
    before["behind"] = first(230)  # a gap that grows is taken as it is
    found = judge(now, before, doublings=4, level=0.01)[1]
    assert (found.closing, found.dropped) == (0, True)


def dropped_in_a_race(random: np.random.Generator, level: float) -> bool:
    """Race five equal heads over four samples; say whether the first, as good as any, goes."""
    hard = random.random(400)  # what is hard for one is hard for the others
    right = {str(head): random.random(400) < np.clip(1.2 - hard, 0.1, 0.9) for head in range(5)}
    alive = list(right)
    for size, doublings in ((50, 3), (100, 2), (200, 1), (400, 0)):
        now = {name: evidence(right[name][:size]) for name in alive}
        found = judge(now, now, doublings=doublings, level=level)
        alive = [one.name for one in found if not one.dropped]
    return "0" not in alive


def test_chance_drops_one_of_equals_no_more_often_than_the_risk() -> None:
    random, risk, races = np.random.default_rng(0), 0.3, 150
    level = level_of_race(risk, 5, 4)
    often = sum(dropped_in_a_race(random, level) for _ in range(races))
    assert binomtest(often, races, risk, alternative="greater").pvalue > 0.01
    # at the risk itself for every comparison it would be far more often
    careless = sum(dropped_in_a_race(random, risk) for _ in range(races))
    assert binomtest(careless, races, risk, alternative="greater").pvalue < 0.01


def test_samples_lie_inside_one_another_with_their_share_of_each_class() -> None:
    strata = np.repeat([0, 1, 2], [600, 300, 100])
    order = nested_order(strata, seed=3)
    small, large = beginning(order, 100), beginning(order, 200)
    assert (len(small), len(large)) == (100, 200)
    assert set(small) < set(large)
    assert np.abs(np.bincount(strata[small]) - [60, 30, 10]).max() <= 1
    assert np.array_equal(beginning(order, 1000), np.arange(1000))
    assert not np.array_equal(small, beginning(nested_order(strata, seed=4), 100))


def test_rows_that_belong_together_come_together() -> None:
    strata, units = np.repeat([0, 1], 60), np.arange(120) // 4
    order = nested_order(strata, seed=0, units=units)
    assert sorted(np.concatenate(order)) == list(range(120))
    sample = beginning(order, 30)
    assert len(sample) == 32
    assert (np.bincount(units[sample], minlength=30) % 4 == 0).all()
