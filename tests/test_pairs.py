"""Heads on rows that may have several labels, compared pair by pair."""

from __future__ import annotations

from math import erfc, sqrt

import numpy as np
import pytest
from numpy.typing import NDArray

from probe.errors import DataError, UsageError
from probe.multilabel import average_precisions
from probe.pairs import compare_all, compare_drawn, evidence

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
    assert pair.p == pytest.approx(erfc(abs(pair.difference) / np.std(values) / sqrt(2)))
    back = compare_all({"b": found[1], "a": found[0]})[0]
    assert (back.difference, back.p) == pytest.approx((-pair.difference, pair.p))


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
