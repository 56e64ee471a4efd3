"""Two classes in their own words, against scikit-learn, and the threshold for a stated recall."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm
from sklearn import metrics as sk

from probe.cli.head_figures import show
from probe.errors import UsageError
from probe.evaluation.metrics import area_under_roc
from probe.evaluation.scored import Scored, measure_logits
from probe.evaluation.statistics import apply_temperature, auc_interval
from probe.evaluation.two_classes import (
    answered,
    answers_of,
    baseline_of,
    choose_threshold,
    describe_two,
    figures_of_two,
    intervals_of_two,
    odds_of,
    rows_needed,
)
from probe.runs.fit import HeadRequest, fit_head, keep_run, plan_head
from probe.runs.results import read_run
from tests import fakes

CLASSES = ("fine", "broken")


def scored(odds: Any, own: Any, *, positive: int = 1, **more: Any) -> Scored:
    """Return rows whose log odds of the positive class are given."""
    signed = np.asarray(odds, float) * (1 if positive else -1)
    logits = -np.logaddexp(0, np.stack([signed, -signed], axis=1))
    labels = np.where(np.asarray(own, bool), positive, 1 - positive)
    return measure_logits(logits, labels, **more)


@pytest.mark.parametrize("seed", range(60))
def test_figures_are_those_of_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    n, positive = int(random.integers(4, 60)), seed % 2
    own = random.random(n) < random.uniform(0.1, 0.9)
    own[:2] = True, False
    odds = np.round(random.normal(own * 2.0 - 1, 2.0), seed % 3)  # with ties
    found = figures_of_two(scored(odds, own, positive=positive), positive)
    said = odds >= 0 if positive == 0 else odds > 0  # the first of equals is the answer
    expected = {
        "positives": own.sum(),
        "top1": sk.accuracy_score(own, said),
        "recall": sk.recall_score(own, said),
        "specificity": sk.recall_score(~own, ~said),
        "f1": sk.f1_score(own, said),
        "auc": sk.roc_auc_score(own, odds),
        "average_precision": sk.average_precision_score(own, odds),
    }
    if said.any():
        expected["precision"] = sk.precision_score(own, said)
    assert found == pytest.approx(expected, abs=1e-12)


def test_what_cannot_be_measured_is_absent() -> None:
    none = figures_of_two(scored([-1.0, -2.0, -3.0], [False] * 3), 1)
    assert none == {"positives": 0, "top1": 1.0, "specificity": 1.0}
    assert set(intervals_of_two(scored([-1.0, -2.0], [False] * 2), 1)) == {"top1", "specificity"}


def test_repeats_are_averaged_and_an_interval_takes_them_for_one_row() -> None:
    own = np.array([True, True, False, False] * 10)
    right, wrong = np.where(own, 1.0, -1.0), np.where(own, -1.0, 1.0)
    odds, both = np.concatenate([right, wrong]), np.tile(own, 2)
    found = figures_of_two(scored(odds, both, repeats=2), 1)
    assert (found["positives"], found["recall"], found["auc"]) == (20, 0.5, 0.5)
    twice = scored(np.tile(right, 2), both, repeats=2)
    once = intervals_of_two(scored(right, own), 1)
    assert intervals_of_two(twice, 1)["recall"] == pytest.approx(once["recall"])
    assert intervals_of_two(twice, 1)["auc"] == pytest.approx(once["auc"])


def test_the_interval_of_an_area_holds_it_as_often_as_it_says_and_has_a_width_at_1() -> None:
    random = np.random.default_rng(0)
    low, high = auc_interval(1.0, 10, 10).low, auc_interval(1.0, 10, 10).high
    assert 0.7 < low < 0.9
    assert high == 1
    for shift, true in ((1.0, 0.76025), (2.5, 0.96145)):  # of normal scores
        held = 0
        for _ in range(200):
            scores = np.concatenate([random.normal(shift, 1, 15), random.normal(0, 1, 40)])
            area = area_under_roc(scores, np.arange(55) < 15)
            interval = auc_interval(area, 15, 40)
            held += interval.low <= true <= interval.high
        assert held >= 0.92 * 200


def test_the_largest_class_alone_is_a_baseline() -> None:
    labels = {"val": np.array([0, 0, 1, 2]), "test": np.array([1, 1])}
    found = baseline_of(np.array([2, 0, 0, 1]), labels, ("a", "b", "c"))
    assert found == {
        "class": "a",
        "figures": {
            "val": {"top1": 0.5, "mean_recall": pytest.approx(1 / 3)},
            "test": {"top1": 0.0, "mean_recall": 0.0},
        },
    }


def test_a_threshold_finds_the_stated_share_of_new_rows_in_95_of_100_draws() -> None:
    """The true recall of a threshold is known where scores are normal."""
    random = np.random.default_rng(0)
    enough, draws = 0, 300
    for _ in range(draws):
        own = np.arange(160) < 80
        chosen = choose_threshold(
            scored(random.normal(own * 1.5, 1), own), CLASSES, 1, recall=0.9, split="val"
        )
        enough += norm.sf(chosen.log_odds, 1.5, 1) >= 0.9
        assert chosen.bound >= 0.9
    assert enough >= 0.93 * draws


def test_a_threshold_lies_between_scores_and_is_refused_where_rows_cannot_tell() -> None:
    own = np.arange(100) < 60
    odds = np.where(own, np.arange(100) / 10.0, -5.0)
    one = scored(odds, own)
    chosen = choose_threshold(one, CLASSES, 1, recall=0.95, split="val")
    assert (chosen.positives, chosen.split, chosen.positive) == (60, "val", "broken")
    assert chosen.bound == pytest.approx(0.05 ** (1 / 60))  # the lowest of 60
    assert odds[~own].max() < chosen.log_odds < odds[own].min()
    assert rows_needed(0.95) == 59
    with pytest.raises(UsageError, match=r"at least 299 held-out images of broken.*has 60"):
        choose_threshold(one, CLASSES, 1, recall=0.99, split="val")
    grouped = scored(odds, own, units=np.arange(100) // 2)
    with pytest.raises(UsageError, match="has 30"):
        choose_threshold(grouped, CLASSES, 1, recall=0.95, split="val")
    impossible = scored(np.where(np.arange(100) < 10, -np.inf, 1.0), own)
    with pytest.raises(UsageError, match="probability of 0"):
        choose_threshold(impossible, CLASSES, 1, recall=0.95, split="val")


def test_figures_at_a_threshold_are_those_of_its_answers() -> None:
    random = np.random.default_rng(3)
    own = random.random(400) < 0.3
    one = scored(random.normal(own * 1.5 - 1, 1), own)
    chosen = choose_threshold(one, CLASSES, 1, recall=0.9, split="val")
    found = describe_two({"val": one, "test": one}, CLASSES, 1, chosen)
    assert found is not None
    said = odds_of(one, 1) >= chosen.log_odds
    at = found["at_threshold"]["figures"]["test"]
    assert at["recall"] == pytest.approx(sk.recall_score(own, said))
    assert at["precision"] == pytest.approx(sk.precision_score(own, said))
    assert at["recall"] >= 0.9
    assert set(found["at_threshold"]["intervals"]) == {"test"}


def data(n: int = 600) -> Any:
    def split(seed: int) -> Any:
        random = np.random.default_rng(seed)
        y = (random.random(n) < 0.4).astype(np.int32)
        return random.normal(y[:, None] * 0.8, 1, (n, 6)).astype(np.float32), y

    return fakes.joined({"train": split(0), "test": split(1)}, CLASSES)


def test_a_run_keeps_and_tells_what_two_classes_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    joined = data()
    asked = HeadRequest(solver="path", positive="fine", recall=0.9)
    run = fit_head(joined, asked, plan_head(joined, asked))
    folder = tmp_path / "run"
    folder.mkdir()
    keep_run(folder, run, CLASSES)
    two = read_run(folder).two_classes
    assert two is not None
    assert two["positive"] == "fine"
    assert two["threshold"]["split"] == "val"
    test = run.predictions["test"]
    own, said = test.labels == 0, test.probabilities[:, 0] >= 0.5
    assert two["figures"]["test"]["precision"] == pytest.approx(sk.precision_score(own, said))
    show(
        SimpleNamespace(result=run.result, curve=None),  # type: ignore[arg-type]
        folder, CLASSES, cache_dir=folder,
    )  # fmt: skip
    told = capsys.readouterr().out
    for words in ("positive: fine", "specificity", "at the threshold", "the largest class"):
        assert words in told


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"positive": "odd"}, "the classes are fine and broken"),
        ({"recall": 1.5}, "between 0 and 1"),
        ({"recall": 0.999}, "takes at least"),
        ({"recall": 0.9, "val_size": 0.0}, "held out"),
        ({"recall": 0.9, "folds": 3, "ensemble": "vote"}, "shares of votes"),
    ],
)
def test_what_makes_no_sense_is_refused_before_a_fit(more: Any, words: str) -> None:
    joined, asked = data(), HeadRequest(solver="path", **more)
    with pytest.raises(UsageError, match=words):
        fit_head(joined, asked, plan_head(joined, asked))


def test_a_bundle_answers_by_the_threshold_after_its_temperature() -> None:
    random = np.random.default_rng(5)
    own = random.random(300) < 0.4
    one = scored(random.normal(own * 2.0 - 1, 1.5), own)
    chosen = choose_threshold(one, CLASSES, 1, recall=0.9, split="val")
    calibrated = apply_temperature(one.logits, 1.7)
    found = answers_of(calibrated, CLASSES, chosen.cooled(1.7))
    np.testing.assert_array_equal(found, answered(one, 1, chosen).astype(int))
    assert not np.array_equal(found, calibrated.argmax(axis=1))
