"""Paired tests against SciPy, against brute force, and against a published table."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from probe.errors import UsageError
from probe.paired import (
    average_ranks,
    compact_letters,
    compare_pair,
    friedman,
    holm,
    mcnemar,
    paired_bootstrap,
)

# Demsar 2006, table 2: AUC of C4.5 and three variants of it on 14 datasets
DEMSAR = np.array([
    [0.763, 0.599, 0.954, 0.628, 0.882, 0.936, 0.661, 0.583, 0.775, 1.000, 0.940, 0.619, 0.972,
     0.957],
    [0.768, 0.591, 0.971, 0.661, 0.888, 0.931, 0.668, 0.583, 0.838, 1.000, 0.962, 0.666, 0.981,
     0.978],
    [0.771, 0.590, 0.968, 0.654, 0.886, 0.916, 0.609, 0.563, 0.866, 1.000, 0.965, 0.614, 0.9751,
     0.946],
    [0.798, 0.569, 0.967, 0.657, 0.898, 0.931, 0.685, 0.625, 0.875, 1.000, 0.962, 0.669, 0.975,
     0.970],
])  # fmt: skip


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_mcnemar_is_the_exact_binomial_test(only_a: int, only_b: int) -> None:
    both = only_a + only_b
    wanted = stats.binomtest(only_a, both, 0.5).pvalue if both else 1.0
    assert mcnemar(only_a, only_b) == pytest.approx(wanted, rel=1e-9, abs=1e-300)


def test_a_pair_counts_only_rows_that_one_alone_got_right() -> None:
    a = np.array([1, 1, 1, 0, 0, 1, 0, 1], bool)
    b = np.array([1, 0, 0, 1, 0, 1, 0, 0], bool)
    pair = compare_pair(a, b)
    assert (pair.n, pair.only_a, pair.only_b) == (8, 3, 1)
    assert pair.difference == a.mean() - b.mean()
    back = compare_pair(b, a)
    assert (back.difference, back.p) == (-pair.difference, pair.p)


def test_rows_of_another_number_are_refused() -> None:
    with pytest.raises(UsageError, match="3 and 2 rows"):
        compare_pair(np.ones(3, bool), np.ones(2, bool))


def test_drawn_counts_give_the_interval_of_drawn_rows() -> None:
    random = np.random.default_rng(0)
    a, b = random.random(800) < 0.8, random.random(800) < 0.75
    pair = compare_pair(a, b)
    rows = np.random.default_rng(1).integers(0, 800, (4000, 800))
    drawn = a[rows].mean(axis=1) - b[rows].mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert pair.interval.low == pytest.approx(low, abs=0.004)
    assert pair.interval.high == pytest.approx(high, abs=0.004)


def test_without_a_discordant_row_there_is_no_difference() -> None:
    found = paired_bootstrap(0, 0, 50)
    assert (found.low, found.high, mcnemar(0, 0)) == (0, 0, 1)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.5))
def test_holm_rejects_what_its_step_down_procedure_rejects(p: list[float], alpha: float) -> None:
    rejected: set[int] = set()
    for place, index in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        if p[index] * (len(p) - place) > alpha:  # as in holm(), so that both round alike
            break
        rejected.add(index)
    assert {i for i, one in enumerate(holm(p)) if one <= alpha} == rejected


def test_holm_on_an_example_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    count = draw(st.integers(1, 7))
    every = list(combinations(range(count), 2))
    return count, [pair for pair in every if draw(st.booleans())]


@given(graphs())
def test_things_share_a_letter_exactly_where_they_do_not_differ(
    graph: tuple[int, list[tuple[int, int]]],
) -> None:
    count, different = graph
    letters = compact_letters(count, different)
    assert all(letters)
    for a, b in combinations(range(count), 2):
        assert bool(set(letters[a]) & set(letters[b])) == ((a, b) not in different)


def test_letters_begin_with_the_best() -> None:
    assert compact_letters(4, [(0, 2), (0, 3), (1, 3)]) == ["a", "ab", "bc", "c"]


def test_average_ranks_and_friedman_are_those_of_the_published_example() -> None:
    """Demsar 2006, 3.2.2: ranks 3.143, 2.000, 2.893, 1.964; F 3.69; critical difference 1.25."""
    assert average_ranks(DEMSAR) == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    found = friedman(DEMSAR)
    assert found is not None
    p, difference = found
    assert p == pytest.approx(stats.f.sf(3.69, 3, 39), abs=2e-4)
    assert difference == pytest.approx(1.25, abs=0.005)


def test_two_datasets_are_too_few_for_friedman() -> None:
    assert friedman(DEMSAR[:, :2]) is None
