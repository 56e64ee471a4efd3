"""Heads on rows that may have several labels, compared pair by pair."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import rankdata

from probe.errors import DataError, UsageError
from probe.evaluation.multilabel import average_precisions, bootstrap_map, flipped_maps
from probe.evaluation.pairs import compare_all, compare_drawn, evidence
from probe.evaluation.statistics import share_interval

RATES = (0.5, 0.3, 0.2, 0.05)


def rows(n_rows: int = 200, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return labels, and what they leave to be seen of them."""
    random = np.random.default_rng(seed)
    labels = (random.random((n_rows, len(RATES))) < RATES).astype(np.uint8)
    return labels, labels + random.normal(scale=0.6, size=labels.shape)


def head(seen: NDArray[np.float64], noise: float, seed: int) -> NDArray[np.float64]:
    blurred = seen + np.random.default_rng(seed).normal(scale=noise, size=seen.shape)
    return 1 / (1 + np.exp(-blurred))


def test_the_difference_is_that_of_rows_drawn_for_both() -> None:
    labels, seen = rows()
    a, b = head(seen, 0.2, 1), head(seen, 0.5, 2)
    random, values = np.random.default_rng(3), []
    for _ in range(1000):
        drawn = random.integers(0, 200, 200)
        means = [np.nanmean(average_precisions(p[drawn], labels[drawn])) for p in (a, b)]
        values.append(means[0] - means[1])
    found = [evidence(p, labels, seed=3) for p in (a, b)]
    (pair,) = compare_all({"a": found[0], "b": found[1]})
    whole = [np.mean(average_precisions(p, labels)) for p in (a, b)]
    assert (pair.a, pair.b, pair.n, pair.only_a, pair.only_b) == ("a", "b", 200, None, None)
    assert pair.difference == pytest.approx(whole[0] - whole[1], abs=1e-12)
    assert (pair.low, pair.high) == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=1e-12)
    back = compare_all({"b": found[1], "a": found[0]})[0]
    assert (back.difference, back.p) == pytest.approx((-pair.difference, pair.p))


@pytest.mark.parametrize("seed", range(4))
def test_p_is_that_of_every_way_in_which_rows_heads_can_change_places(seed: int) -> None:
    labels, seen = rows(9, seed)
    labels[0, 0], labels[1, 0] = 1, 0
    one, other = (rankdata(head(seen, noise, 7), axis=0) for noise in (0.3, 1.5))
    differences = []
    for number in range(2**9):
        stays = (number >> np.arange(9) & 1)[:, None] == 1
        pair = np.where(stays, one, other), np.where(stays, other, one)
        means = [np.nanmean(average_precisions(p, labels)) for p in pair]
        differences.append(means[0] - means[1])
    found = {name: evidence(p, labels) for name, p in (("a", one), ("b", other))}
    wanted = float((np.abs(differences) >= abs(differences[-1]) - 1e-12).mean())
    interval, p = compare_drawn(found["a"], found["b"])
    assert flipped_maps(one, other, labels).std() == pytest.approx(np.std(differences), rel=0.1)
    assert p >= wanted - 0.04
    assert (interval.low <= 0 <= interval.high) == (p > 0.05)


def test_heads_that_are_alike_are_seldom_told_apart() -> None:
    """Twenty rows with a label of one in ten: the bootstrap's error said so in 12 % of cases."""
    told = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        labels = (random.random((20, 3)) < 0.1).astype(np.uint8)
        labels[0] = 1
        heads = (evidence(head(labels * 1.0, 1.0, 2 * seed + i), labels) for i in range(2))
        told += compare_drawn(*heads, seed=seed)[1] <= 0.05
    assert told <= 0.1 * 60


def test_related_rows_change_places_together() -> None:
    labels, seen = rows(50)
    one, other = head(seen, 0.2, 1), head(seen, 0.6, 2)
    alone = [evidence(p, labels) for p in (one, other)]
    units, copies = np.repeat(np.arange(50), 4), [np.repeat(x, 4, axis=0) for x in (one, other)]
    many = np.repeat(labels, 4, axis=0)
    copied = [evidence(p, many, units=units) for p in copies]
    believed = [evidence(p, many) for p in copies]
    ends, p = compare_drawn(*alone)
    ends_copied, p_copied = compare_drawn(*copied)
    assert (ends_copied.low, ends_copied.high) == pytest.approx((ends.low, ends.high), abs=1e-9)
    assert p_copied == pytest.approx(p, rel=0.3)
    assert compare_drawn(*believed)[1] < p / 5


def test_perfect_rankings_are_not_certain() -> None:
    labels, _ = rows(40)
    low, high = bootstrap_map(labels * 1.0, labels) or (0, 0)
    with_label = int(labels.any(axis=1).sum())
    assert high == 1
    assert low == share_interval(np.ones(with_label, bool)).low
    assert 0.7 < low < 0.95


def test_what_is_better_is_told_from_what_is_alike() -> None:
    labels, seen = rows(400)
    heads = {"best": (0.1, 1), "alike": (0.1, 2), "worse": (1.5, 3)}
    found = {name: evidence(head(seen, *one), labels) for name, one in heads.items()}
    pairs = {(pair.a, pair.b): pair for pair in compare_all(found)}
    assert not pairs["best", "alike"].different
    assert pairs["best", "worse"].different
    assert pairs["best", "worse"].low > 0
    assert all(pair.p_adjusted >= pair.p for pair in pairs.values())
    assert pairs["best", "worse"].p_adjusted < 1e-4  # draws alone could not say so


def test_a_head_does_not_differ_from_itself() -> None:
    labels, seen = rows()
    one = evidence(head(seen, 0.2, 1), labels)
    interval, p = compare_drawn(one, one)
    assert (interval.low, interval.high, p) == (0, 0, 1)


def test_what_cannot_be_paired_is_refused() -> None:
    labels, seen = rows()
    one = evidence(head(seen, 0.2, 1), labels)
    with pytest.raises(UsageError, match="200 and 150 rows"):
        compare_drawn(one, evidence(head(seen, 0.2, 1)[:150], labels[:150]))
    with pytest.raises(UsageError, match="cannot be paired"):
        compare_drawn(one, evidence(head(seen, 0.2, 1), labels.argmax(axis=1)))
    with pytest.raises(DataError, match="none of the rows to compare on has a label"):
        evidence(head(seen, 0.2, 1), np.zeros_like(labels))
