"""Paired tests against SciPy, against brute force, and against a published table."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import optimize, stats

from probe.errors import UsageError
from probe.evaluation.paired import (
    average_ranks,
    compact_letters,
    compare_pair,
    difference_interval,
    flip_test,
    friedman,
    holm,
    mcnemar,
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


def test_with_many_rows_the_interval_is_that_of_drawn_rows() -> None:
    random = np.random.default_rng(0)
    a, b = random.random(800) < 0.8, random.random(800) < 0.75
    pair = compare_pair(a, b)
    rows = np.random.default_rng(1).integers(0, 800, (4000, 800))
    drawn = a[rows].mean(axis=1) - b[rows].mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert pair.interval.low == pytest.approx(low, abs=0.004)
    assert pair.interval.high == pytest.approx(high, abs=0.004)


def test_without_a_discordant_row_the_difference_is_not_certain() -> None:
    pair = compare_pair(np.ones(50, bool), np.ones(50, bool))
    assert (pair.difference, pair.p) == (0, 1)
    assert pair.interval.high == -pair.interval.low
    assert 0.05 < pair.interval.high < 0.1


def test_five_rows_that_one_head_alone_got_right_do_not_settle_it() -> None:
    pair = compare_pair(np.ones(5, bool), np.zeros(5, bool))
    assert pair.p == pytest.approx(0.0625)
    assert (pair.interval.low, pair.interval.high) == (0.0, pytest.approx(1.0))


@pytest.mark.parametrize(("b", "c", "n"), [(12, 1, 44), (7, 0, 30), (0, 0, 20), (40, 60, 500)])
def test_the_ends_are_where_tangos_score_test_just_rejects(b: int, c: int, n: int) -> None:
    """The likeliest shares for a given difference are searched for here, not solved for."""

    def score(difference: float) -> float:
        def unlikely(q: float) -> float:
            rest = 1 - 2 * q - difference
            return -(b * np.log(q + difference) + c * np.log(q) + (n - b - c) * np.log(rest))

        least, most = max(0.0, -difference), (1 - difference) / 2
        edge = 1e-12 * (most - least)
        q = optimize.minimize_scalar(
            unlikely, bounds=(least + edge, most - edge), method="bounded", options={"xatol": 1e-12}
        ).x
        gap = b - c - n * difference
        gap -= np.sign(gap) * min(abs(gap), 0.5)
        return float(gap / np.sqrt(n * (2 * q + difference * (1 - difference))))

    found = difference_interval(b, c, n, p=0.0)
    assert score(found.low) == pytest.approx(1.959964, abs=1e-4)
    assert score(found.high) == pytest.approx(-1.959964, abs=1e-4)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 300))
def test_interval_and_test_agree(only_a: int, only_b: int, neither: int) -> None:
    n = only_a + only_b + neither
    if not n:
        return
    p = mcnemar(only_a, only_b)
    found = difference_interval(only_a, only_b, n, p=p)
    assert (found.low <= 0 <= found.high) == (p > 0.05)
    assert -1 <= found.low <= (only_a - only_b) / n <= found.high <= 1
    back = difference_interval(only_b, only_a, n, p=p)
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low))


@pytest.mark.parametrize(
    ("n", "only_a", "only_b"),
    [(5, 0.9, 0), (10, 0.9, 0), (30, 0.05, 0), (30, 0.3, 0), (50, 0.03, 0), (60, 0.1, 0.05)],
)
def test_the_interval_holds_the_truth_as_often_as_it_says(
    n: int, only_a: float, only_b: float
) -> None:
    """By the exact chance of every pair of counts."""
    held = 0.0
    for a in range(n + 1):
        for b in range(n - a + 1):
            shares = [only_a, only_b, 1 - only_a - only_b]
            chance = stats.multinomial.pmf([a, b, n - a - b], n, shares)
            if chance > 1e-8:
                found = difference_interval(a, b, n, p=mcnemar(a, b))
                held += chance * (found.low - 1e-9 <= only_a - only_b <= found.high + 1e-9)
    assert held >= 0.95 - 1e-6


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9))
def test_flipped_units_are_those_of_all_sign_changes(gains: list[int]) -> None:
    own = np.array(gains)
    every = ((np.arange(2 ** len(own))[:, None] >> np.arange(len(own))) & 1) * 2 - 1
    wanted = (np.abs(every @ own) >= abs(own.sum())).mean()
    assert flip_test(own) == pytest.approx(wanted, abs=1e-9)


@given(st.integers(0, 200), st.integers(0, 200))
def test_flipped_single_rows_are_mcnemars_test(only_a: int, only_b: int) -> None:
    gains = np.repeat([1, -1, 0], [only_a, only_b, 3])
    assert flip_test(gains) == pytest.approx(mcnemar(only_a, only_b), abs=2e-12)


def test_copies_of_a_row_are_no_more_evidence_than_the_row() -> None:
    random = np.random.default_rng(0)
    a, b = random.random(60) < 0.8, random.random(60) < 0.6
    alone, units = compare_pair(a, b), np.repeat(np.arange(60), 5)
    copied = compare_pair(np.repeat(a, 5), np.repeat(b, 5), units=units)
    believed = compare_pair(np.repeat(a, 5), np.repeat(b, 5))
    assert copied.difference == pytest.approx(alone.difference)
    assert copied.effective == pytest.approx(60, rel=0.05)
    assert copied.p >= 0.9 * alone.p > 10 * believed.p
    width, honest = (one.interval.high - one.interval.low for one in (copied, alone))
    assert width == pytest.approx(honest, rel=0.1)


def test_related_rows_seldom_give_a_difference_that_is_none() -> None:
    """Two coins a patient: rows alone would say that heads differ in a third of the cases."""
    random, units = np.random.default_rng(0), np.repeat(np.arange(30), 8)
    told = believed = held = 0
    for _ in range(300):
        a, b = (np.repeat(random.random(30) < 0.7, 8) for _ in range(2))
        pair = compare_pair(a, b, units=units)
        told += pair.p <= 0.05
        held += pair.interval.low <= 0 <= pair.interval.high
        believed += compare_pair(a, b).p <= 0.05
    assert told <= 0.07 * 300 < believed
    assert held >= 0.93 * 300


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
    assert p == pytest.approx(iman_davenport(DEMSAR), rel=1e-9)
    published = stats.f.sf(3.69, 3, 39)  # without the correction for ties, which makes it less
    assert published / 2 < p < published
    assert difference == pytest.approx(1.25, abs=0.005)


def iman_davenport(values: NDArray[np.float64]) -> float:
    """Return the p of their F, from SciPy's chi-squared, which is corrected for ties."""
    k, n = values.shape
    chi2 = float(stats.friedmanchisquare(*values).statistic)
    return float(stats.f.sf((n - 1) * chi2 / (n * (k - 1) - chi2), k - 1, (k - 1) * (n - 1)))


def test_tied_figures_are_corrected_for() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        values = random.integers(0, 3, (random.integers(3, 6), random.integers(5, 12))) / 3
        found = friedman(values)
        assert found is not None
        assert found[0] == pytest.approx(iman_davenport(values), rel=1e-9)
    assert friedman(np.full((3, 6), 0.5)) == (1.0, pytest.approx(1.353, abs=0.001))


def test_two_datasets_are_too_few_for_friedman() -> None:
    assert friedman(DEMSAR[:, :2]) is None
