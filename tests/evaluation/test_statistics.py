"""Intervals that cover, and temperatures that calibrate."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from probe.errors import UsageError
from probe.evaluation.metrics import calibration_error
from probe.evaluation.scored import measure, temperature_of
from probe.evaluation.statistics import (
    apply_temperature,
    bootstrap,
    bootstrap_mean,
    effective_rows,
    fit_temperature,
    share_interval,
    spread,
)


def test_nineteen_of_twenty_intervals_hold_the_truth() -> None:
    random = np.random.default_rng(0)
    held = 0
    for seed in range(300):
        found = bootstrap_mean(random.random(200) < 0.7, seed=seed)
        held += found.low <= 0.7 <= found.high
    assert 0.91 <= held / 300 <= 0.98


def test_the_short_way_for_right_and_wrong_is_the_long_one() -> None:
    right = np.random.default_rng(0).random(400) < 0.6
    short = bootstrap_mean(right)
    long = bootstrap(lambda rows: right[rows].mean(axis=1), len(right))
    assert short.low == pytest.approx(long.low, abs=0.01)
    assert short.high == pytest.approx(long.high, abs=0.01)


def test_any_figure_a_row_has_an_interval_and_the_seed_decides() -> None:
    losses = np.random.default_rng(0).exponential(size=500)
    found, again = bootstrap_mean(losses), bootstrap_mean(losses)
    assert found == again
    error = losses.std() / np.sqrt(len(losses))
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_rows_that_are_all_alike_have_no_width() -> None:
    found = bootstrap_mean(np.ones(10))
    assert (found.low, found.high) == (1.0, 1.0)


def test_spread_is_over_repetitions() -> None:
    found = spread([0.5, 0.6, 0.7])
    assert (found.mean, found.deviation, found.count) == (
        pytest.approx(0.6), pytest.approx(0.1), 3,
    )  # fmt: skip
    with pytest.raises(UsageError, match="no spread"):
        spread([0.5])


def test_no_rows_are_refused() -> None:
    with pytest.raises(UsageError, match="no rows"):
        bootstrap_mean(np.zeros(0))


@pytest.mark.parametrize("temperature", [1e-4, 0.5, 1.0, 3.0])  # the first: hardly any weights
def test_the_temperature_that_spoilt_calibration_is_found(temperature: float) -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(20_000, 5)) * 2
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (p.cumsum(axis=1) > random.random((len(p), 1))).argmax(axis=1)
    spoilt = np.log(p) * temperature
    found = fit_temperature(spoilt, labels)
    assert found == pytest.approx(temperature, rel=0.05)
    mended = apply_temperature(spoilt, found)
    assert calibration_error(mended, labels) < 0.015
    assert (mended.argmax(axis=1) == p.argmax(axis=1)).all()


def test_rows_of_a_class_that_the_head_does_not_know_leave_the_temperature_alone() -> None:
    random = np.random.default_rng(0)
    p = np.zeros((300, 4))
    p[:, :3] = random.dirichlet([0.5] * 3, 300)
    labels = random.integers(0, 3, 300)
    with np.errstate(divide="ignore"):
        logits = np.log(p)
    labels[np.arange(300) % 3 > 0] = p.argmax(axis=1)[np.arange(300) % 3 > 0]
    found = fit_temperature(logits, labels)
    labels[::50] = 3
    known = labels != 3
    assert fit_temperature(logits, labels) == pytest.approx(
        fit_temperature(logits[known], labels[known])
    )
    assert fit_temperature(logits, labels) == pytest.approx(found, rel=0.2)
    scored = {"val": measure(p, np.full(300, 3))}  # none of them known: none fits
    assert temperature_of(scored) is None


@pytest.mark.parametrize("n_rows", [1, 10, 65])
def test_a_share_of_none_or_all_is_not_certain(n_rows: int) -> None:
    """At the far end of the interval such a share is as rare as the level says."""
    none, every = share_interval(np.zeros(n_rows, bool)), share_interval(np.ones(n_rows, bool))
    assert (none.low, every.high) == (0.0, 1.0)
    assert (1 - none.high) ** n_rows == pytest.approx(0.025)
    assert every.low**n_rows == pytest.approx(0.025)


@pytest.mark.parametrize("n_rows", [5, 30, 200])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.97])
def test_a_share_lies_in_its_interval_as_often_as_it_says(n_rows: int, share: float) -> None:
    """By the exact chance of every count; bounds are those of scipy.stats.binomtest."""
    held = 0.0
    for hits in range(n_rows + 1):
        found = share_interval(np.arange(n_rows) < hits)
        held += stats.binom.pmf(hits, n_rows, share) * (found.low <= share <= found.high)
        own = stats.binomtest(hits, n_rows).proportion_ci(method="exact")
        assert (found.low, found.high) == pytest.approx((own.low, own.high), abs=1e-9)
    assert held >= 0.95


def test_related_rows_count_as_their_units() -> None:
    """Sixty patients with five rows each that are right or wrong together are sixty rows."""
    random, held, short = np.random.default_rng(0), 0, 0
    units = np.repeat(np.arange(60), 5)
    for _ in range(300):
        right = np.repeat(random.random(60) < 0.6, 5)
        found, alone = share_interval(right, units=units), share_interval(right)
        held += found.low <= 0.6 <= found.high
        short += alone.low <= 0.6 <= alone.high
    assert held >= 0.93 * 300 > 0.75 * 300 > short
    assert effective_rows(right, units) == pytest.approx(60, rel=0.05)
    assert share_interval(right, units=np.arange(300)) == share_interval(right)
    every = share_interval(np.ones(300, bool), units=units)
    assert every == share_interval(np.ones(60, bool))


def test_related_losses_are_drawn_together() -> None:
    random = np.random.default_rng(0)
    losses, units = random.exponential(size=100), np.repeat(np.arange(100), 4)
    alone, copied = bootstrap_mean(losses), bootstrap_mean(np.repeat(losses, 4), units=units)
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high), abs=1e-12)
    believed = bootstrap_mean(np.repeat(losses, 4))
    assert believed.high - believed.low < 0.6 * (copied.high - copied.low)
