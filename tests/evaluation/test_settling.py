"""How many images would settle a tie: against enumeration, other distributions and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.special import log_softmax

from probe.evaluation.multilabel import average_precisions
from probe.evaluation.paired import compare_pair, mcnemar
from probe.evaluation.pairs import Evidence, Pair, compare_all, evidence, evidence_of
from probe.evaluation.predictions import Predictions
from probe.evaluation.settling import CARED, POWER, Settling, Tie, settle
from probe.evaluation.units import Units
from tests.evaluation.test_pairs import head, rows


def right(only_a: int, only_b: int, n: int, copies: int = 1) -> dict[str, Evidence]:
    """Return two heads of which each alone gets so many rows right, every row some times."""
    a, b = np.zeros(n, bool), np.zeros(n, bool)
    a[:only_a], b[only_a : only_a + only_b] = True, True
    both = {"a": np.repeat(a, copies), "b": np.repeat(b, copies)}
    units: Units | None = np.repeat(np.arange(n), copies) if copies > 1 else None
    return {
        name: Evidence(n=n * copies, value=float(hits.mean()), right=hits, units=units)
        for name, hits in both.items()
    }


def tied(found: dict[str, Evidence]) -> tuple[Pair, Settling]:
    (pair,) = compare_all(found)
    assert pair.settling is not None
    return pair, pair.settling


def exact_power(n: int, discordant: float, difference: float, level: float) -> float:
    """Return how often McNemar's exact test rejects: every number of discordant rows, and of wins.

    What is rejected at k discordant rows is a tail of their binomial on either side.
    """
    spread = stats.binom(n, discordant)
    counts = np.arange(int(spread.ppf(1e-9)), int(spread.ppf(1 - 1e-9)) + 1)
    least = stats.binom.ppf(level / 2, counts, 0.5) - 1  # the last that is surely rejected
    least += 2 * stats.binom.cdf(least + 1, counts, 0.5) <= level
    wins = (discordant + difference) / (2 * discordant)
    rejected = stats.binom.cdf(least, counts, wins) + stats.binom.sf(
        counts - least - 1, counts, wins
    )
    return float((spread.pmf(counts) * rejected).sum())


@pytest.mark.parametrize("pairs", [1, 10, 45])
@pytest.mark.parametrize(
    ("only_a", "only_b", "n"), [(60, 40, 1000), (33, 20, 500), (12, 4, 400), (160, 140, 1000)]
)
def test_with_so_many_images_the_exact_test_shows_the_difference_in_four_of_five_cases(
    only_a: int, only_b: int, n: int, pairs: int
) -> None:
    discordant, seen, level = (only_a + only_b) / n, (only_a - only_b) / n, 0.05 / pairs
    one = Tie(
        difference=seen, low=-seen, high=2 * seen, images=n, units=n, effective=n,
        discordant=discordant,
    )  # fmt: skip
    found = settle(one, level=level)
    assert found is not None
    assert found.size == seen
    assert 0.79 <= exact_power(found.count, discordant, seen, level) <= 0.85
    assert exact_power(int(0.8 * found.count), discordant, seen, level) < 0.76


def test_the_exact_power_is_that_of_mcnemars_test() -> None:
    random = np.random.default_rng(0)
    drawn = random.multinomial(700, [0.06, 0.03, 0.91], 2000)
    told = np.mean([mcnemar(int(a), int(b)) <= 0.01 for a, b, _ in drawn])
    assert exact_power(700, 0.09, 0.03, 0.01) == pytest.approx(told, abs=0.035)


def test_the_interval_is_what_the_ends_of_the_differences_interval_need() -> None:
    pair, found = tied(right(60, 40, 1000))
    assert pair.low <= 0 < pair.high
    assert found.high is None  # there may be no difference
    assert exact_power(found.low, 0.1, pair.high, 0.05) == pytest.approx(0.81, abs=0.03)
    one = Tie(
        difference=0.025, low=0.01, high=0.04, images=1000, units=1000, effective=1000,
        discordant=0.12,
    )  # fmt: skip
    among_many = settle(one, level=0.05 / 10)  # alone the test would show it
    assert among_many is not None
    assert among_many.high is not None
    assert exact_power(among_many.high, 0.12, 0.01, 0.05 / 10) == pytest.approx(0.81, abs=0.02)
    assert exact_power(among_many.low, 0.12, 0.04, 0.05 / 10) == pytest.approx(0.81, abs=0.02)


def test_of_a_handful_of_rows_it_is_rather_too_many_images() -> None:
    _, found = tied(right(5, 0, 400))
    assert 0.8 <= exact_power(found.count, 5 / 400 + 1e-12, 5 / 400, 0.05) < 0.95


@pytest.mark.parametrize(("only_a", "only_b"), [(60, 40), (12, 5), (5, 0), (50, 49)])
def test_the_chance_is_that_over_all_that_the_counts_leave_open(only_a: int, only_b: int) -> None:
    _, found = tied(right(only_a, only_b, 1000))
    random = np.random.default_rng(1)
    shares = random.dirichlet([only_a + 0.5, only_b + 0.5, 1000 - only_a - only_b], 3000)
    future = [random.multinomial(found.count, one) for one in shares]
    told = np.mean([mcnemar(int(a), int(b)) <= 0.05 for a, b, _ in future])
    assert found.chance == pytest.approx(min(told, POWER), abs=0.06)


def test_copies_of_an_image_need_as_many_copies_more_and_as_many_groups() -> None:
    _, alone = tied(right(30, 20, 600))
    _, copied = tied(right(30, 20, 600, copies=5))
    assert alone.groups is None
    assert copied.groups is not None
    assert copied.n == 3000
    assert copied.count == pytest.approx(5 * alone.count, rel=0.05)
    assert copied.groups == pytest.approx(alone.count, rel=0.05)
    assert copied.chance == pytest.approx(alone.chance, abs=0.02)


def test_an_image_that_was_predicted_several_times_is_one_image() -> None:
    random, labels = np.random.default_rng(0), np.tile(np.arange(300) % 3, 3)
    ids = np.tile([f"train/{i:03d}" for i in range(300)], 3)
    heads = {}
    for name in "ab":
        scores = log_softmax(np.eye(3)[labels] + random.normal(size=(900, 3)), axis=1)
        heads[name] = evidence_of(
            Predictions.of(ids, labels, scores, units=np.tile(np.arange(300), 3), repeats=3)
        )
    (pair,) = compare_all(heads)
    assert pair.n == 900
    assert pair.settling is not None
    assert (pair.settling.n, pair.settling.groups) == (300, None)


def test_of_means_it_is_the_power_of_students_test() -> None:
    for images, error in ((40, 0.004), (400, 0.02)):
        one = Tie(
            difference=0.011, low=-0.1, high=0.1, images=images, units=images, effective=images,
            error=error,
        )  # fmt: skip
        found = settle(one, level=0.01)
        assert found is not None
        away = 0.011 / (error * np.sqrt(images / found.count))
        free = stats.nct(found.count - 1, away)
        assert free.sf(stats.t(found.count - 1).isf(0.005)) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("metric", ["mean_recall", "macro_f1", "log_loss", "macro_auc"])
def test_other_figures_are_told_apart_as_often_as_is_said(metric: str) -> None:
    random = np.random.default_rng(2)

    def two(n: int) -> dict[str, Evidence]:
        labels = np.sort(random.integers(0, 4, n))
        ids = [f"{i:05d}" for i in range(n)]
        seen = np.eye(4)[labels] + random.normal(scale=0.6, size=(n, 4))
        noisy = {"a": seen, "b": seen + random.normal(scale=0.25, size=(n, 4))}
        return {
            name: evidence_of(Predictions.of(ids, labels, log_softmax(3 * one, axis=1)), metric)
            for name, one in noisy.items()
        }

    many = two(20_000)
    error = np.std(many["a"].gains - many["b"].gains) / np.sqrt(20_000)  # type: ignore[operator]
    seen = many["a"].value - many["b"].value
    one = Tie(
        difference=seen, low=seen, high=seen, images=20_000, units=20_000, effective=20_000,
        error=float(error),
    )  # fmt: skip
    found = settle(one, level=0.05)
    assert found is not None
    assert found.size == seen > CARED
    told = [compare_all(two(found.count))[0].p <= 0.05 for _ in range(150)]
    assert np.mean(told) == pytest.approx(0.8, abs=0.1)
    pair = compare_all(two(60))[0]
    assert pair.different or (pair.settling is not None and pair.settling.count > 60)


def test_of_several_labels_it_is_the_error_of_redrawn_rows() -> None:
    labels, seen = rows(400)
    a, b = (head(seen, noise, seed) for noise, seed in ((0.35, 1), (0.4, 2)))
    pair, found = tied({"a": evidence(a, labels), "b": evidence(b, labels)})
    assert abs(pair.difference) > CARED
    random = np.random.default_rng(0)

    def gap() -> float:
        drawn = random.integers(0, 400, 400)
        values = [np.nanmean(average_precisions(p[drawn], labels[drawn])) for p in (a, b)]
        return float(values[0] - values[1])

    error = np.std([gap() for _ in range(200)])
    wanted = 400 * ((1.96 + 0.8416) * error / pair.difference) ** 2
    assert found.count == pytest.approx(wanted, rel=0.2)


def test_the_level_is_holms_once_the_sure_ones_are_told_apart() -> None:
    n = 1000
    hits: dict[str, NDArray[np.bool_]] = {"a": np.arange(n) < 800, "b": np.arange(n) < 797}
    hits["far"] = np.arange(n) < 400
    found = {name: Evidence(n=n, value=float(one.mean()), right=one) for name, one in hits.items()}
    by_names = {(one.a, one.b): one for one in compare_all(found)}
    assert by_names["a", "far"].settling is None
    assert by_names["b", "far"].settling is None
    assert (
        by_names["a", "b"].settling
        == tied({name: one for name, one in found.items() if name != "far"})[1]
    )


def test_what_is_as_good_as_equal_is_not_worth_more_images() -> None:
    pair, found = tied(right(40, 38, 20_000))
    assert max(abs(pair.low), pair.high) < CARED
    assert not found.worth
    assert found.size == CARED
    few = tied(right(5, 5, 100))[1]
    assert not few.worth  # half a point takes more than 20 times as many
    assert few.count > 2000
    assert tied(right(60, 40, 1000))[1].worth


def test_heads_that_answer_alike_have_nothing_to_settle() -> None:
    labels, seen = rows()
    one = evidence(head(seen, 0.2, 1), labels)
    (pair,) = compare_all({"a": one, "b": one})
    assert pair.settling is None
    test = compare_pair(np.ones(50, bool), np.ones(50, bool))
    assert test.interval.high > CARED  # though nothing was seen, 50 images leave much open
    assert tied(right(0, 0, 50))[1].count > 1000
