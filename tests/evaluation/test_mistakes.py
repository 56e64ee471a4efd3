"""A threshold for stated costs, against every threshold there is, and the curves of two classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from probe.errors import UsageError
from probe.evaluation.mistakes import choose_by_cost, read_costs
from probe.evaluation.ranking_curves import curves_of, curves_of_two
from probe.evaluation.two_classes import (
    Threshold,
    answered,
    answers_of,
    cost_interval,
    describe_two,
    figures_of_two,
    odds_of,
)
from probe.runs.fit import TWO_CURVES, HeadRequest, fit_head, keep_run, plan_head
from probe.runs.results import read_run
from tests.evaluation.test_two_classes import CLASSES, data, scored


def cost_by_hand(own: Any, said: Any, costs: tuple[float, float]) -> float:
    """Return the mean over rows of what each costs."""
    each = [costs[0] if s and not o else costs[1] if o and not s else 0.0
            for o, s in zip(own, said, strict=True)]  # fmt: skip
    return float(np.mean(each))


@pytest.mark.parametrize("seed", range(40))
def test_no_threshold_costs_less_on_the_rows_it_was_chosen_on(seed: int) -> None:
    random = np.random.default_rng(seed)
    n, positive = int(random.integers(3, 40)), seed % 2
    own = random.random(n) < random.uniform(0.1, 0.9)
    own[:2] = True, False
    odds = np.round(random.normal(own * 2.0 - 1, 2.0), seed % 3)  # with ties
    if seed % 5 == 0:
        odds[2:3] = np.inf
    costs = (float(random.integers(1, 9)), float(random.integers(1, 9)))
    one = scored(odds, own, positive=positive)
    chosen = choose_by_cost(one, CLASSES, positive, costs, "val")
    cuts = [-1e9, *np.unique(odds[np.isfinite(odds)]).tolist(), 699.0]
    found = cost_by_hand(own, answered(one, positive, chosen), costs)
    assert found == pytest.approx(min(cost_by_hand(own, odds >= cut, costs) for cut in cuts))
    figures = figures_of_two(one, positive, chosen)
    assert figures["cost"] == pytest.approx(found)
    assert figures["cost_always_positive"] == pytest.approx(costs[0] * (~own).mean())
    assert figures["cost_always_negative"] == pytest.approx(costs[1] * own.mean())


def test_where_thresholds_cost_the_same_the_one_of_right_probabilities_is_taken() -> None:
    one = scored([-3.0, -2.0, 2.0, 3.0], [False, False, True, True])
    assert choose_by_cost(one, CLASSES, 1, (1, 3), "val").log_odds == pytest.approx(-np.log(3))
    assert choose_by_cost(one, CLASSES, 1, (1, 1e6), "val").log_odds == 0  # -13.8 lies outside
    equal = choose_by_cost(scored([0.5] * 6, [True] + [False] * 5), CLASSES, 1, (1, 1), "val")
    assert equal.always == "fine"
    assert "no threshold costs less there than always answering fine" in equal.words()


def test_the_expected_cost_is_that_of_rows_that_chose_nothing() -> None:
    """Scores that know nothing: the least of many thresholds is low by luck alone."""
    random = np.random.default_rng(0)
    lucky, expected = [], []
    for seed in range(60):
        own = np.arange(40) < 20
        one = scored(random.normal(size=40), own)
        chosen = choose_by_cost(one, CLASSES, 1, (1, 1), "val", seed=seed)
        lucky.append(figures_of_two(one, 1, chosen)["cost"])
        assert chosen.expected is not None
        expected.append(chosen.expected)
    assert np.mean(lucky) < 0.42
    assert 0.48 < np.mean(expected) < 0.6  # the true one is 0.5


def test_its_interval_holds_the_true_cost_and_has_a_width_without_a_mistake() -> None:
    random, held, costs = np.random.default_rng(0), 0, (1.0, 5.0)
    for _ in range(300):
        kind = random.choice(3, 60, p=[0.9, 0.06, 0.04])  # right, false positive, false negative
        own = np.where(kind == 2, True, np.where(kind == 1, False, np.arange(60) < 20))
        said = own ^ (kind > 0)
        interval = cost_interval(own, said, costs)
        held += interval.low <= 0.06 + 5 * 0.04 <= interval.high
    assert held >= 0.95 * 300
    none = cost_interval(np.array([True, False] * 5), np.array([True, False] * 5), costs)
    assert none.low == 0
    assert none.high > 1
    related = cost_interval(own, said, costs, np.arange(60) // 6)
    assert related.high - related.low > interval.high - interval.low


@pytest.mark.parametrize(
    "text", ["", "5", "1:2:3", "a:b", "0:1", "-1:2", "nan:1", "1:inf", "1:1e30"]
)
def test_costs_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="two numbers above 0"):
        read_costs(text)
    assert read_costs(" 1:2.5") == (1, 2.5)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"cost": (1, 5), "recall": 0.9}, "give one of them"),
        ({"cost": (1, 5), "val_size": 0.0}, "--cost goes by rows that are held out"),
        ({"cost": (1, 5), "folds": 3, "ensemble": "vote"}, "--cost needs probabilities"),
        ({"cost": (0, 5)}, "two numbers above 0"),
    ],
)
def test_what_makes_no_sense_is_refused_before_a_fit(more: Any, words: str) -> None:
    joined, asked = data(), HeadRequest(solver="path", **more)
    with pytest.raises(UsageError, match=words):
        fit_head(joined, asked, plan_head(joined, asked))


def test_held_out_rows_of_one_class_cannot_choose() -> None:
    with pytest.raises(UsageError, match="all 3 of val are broken"):
        choose_by_cost(scored([1.0, 2, 3], [True] * 3), CLASSES, 1, (1, 5), "val")


def test_a_run_keeps_costs_and_draws_its_curves(tmp_path: Path) -> None:
    joined, asked = data(), HeadRequest(solver="path", cost=(1, 5))
    run = fit_head(joined, asked, plan_head(joined, asked))
    keep_run(tmp_path, run, CLASSES)
    two = read_run(tmp_path).two_classes
    assert two is not None
    threshold = Threshold(**two["threshold"])
    assert threshold.costs == (1, 5)
    test = run.predictions["test"]
    said = answers_of(test.probabilities, CLASSES, threshold) == 1
    at = two["at_threshold"]
    assert at["figures"]["test"]["cost"] == cost_by_hand(test.labels == 1, said, (1, 5))
    low, high = at["intervals"]["test"]["cost"]
    assert low < at["figures"]["test"]["cost"] < high
    assert "val" not in at["intervals"]  # these rows chose it
    assert (tmp_path / TWO_CURVES).read_bytes()[:4] == b"\x89PNG"
    assert run.two is not None
    assert list(run.two.points)[1].endswith("where mistakes cost 1 : 5")


@pytest.mark.parametrize("seed", range(10))
def test_curves_are_those_of_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    own = random.random(50) < 0.3
    own[:2] = True, False
    odds = np.round(random.normal(own * 1.0, 1.0), seed % 3)
    one = scored(odds, own)
    (curve,) = curves_of(one, 1)
    x, y, _ = sk.roc_curve(own, odds, drop_intermediate=False)
    np.testing.assert_allclose(curve.false_positives, x)
    np.testing.assert_allclose(curve.recall, y)
    precision, recall, _ = sk.precision_recall_curve(own, odds)
    np.testing.assert_allclose(curve.precision, precision[::-1])
    np.testing.assert_allclose(curve.recall, recall[::-1])
    steps_x, steps_y = curve.steps()
    area = float((np.diff(steps_x) * steps_y[1:]).sum())
    assert area == pytest.approx(sk.average_precision_score(own, odds))
    found = curves_of_two(one, 1, None)
    assert found is not None
    (point,) = found.points.values()
    assert point.recall == pytest.approx(sk.recall_score(own, odds > 0))


def test_a_split_of_one_class_has_no_curve_and_no_cost_of_the_other() -> None:
    one = scored([1.0, -1.0], [False, False])
    assert curves_of_two(one, 1, None) is None
    assert curves_of_two(scored([1.0, -1.0], [True, False]), None, None) is None
    threshold = Threshold(positive="broken", log_odds=0.0, split="val", positives=1,
                          false_positive=1, false_negative=5)  # fmt: skip
    two = describe_two({"test": one}, CLASSES, 1, threshold)
    assert two is not None
    assert two["at_threshold"]["figures"]["test"]["cost"] == 0.5
    assert odds_of(one, 1).tolist() == pytest.approx([1, -1])
