"""Measures for several labels an image, against scikit-learn's, and the splits of such rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as reference

from probe.errors import DataError, UsageError
from probe.evaluation.multilabel import (
    average_precisions,
    best_thresholds,
    binary_calibration_error,
    bootstrap_map,
    label_aucs,
    score_labels,
)
from probe.evaluation.scored import measure, thresholds_of
from probe.evaluation.splitting import fold_split, validation_split
from probe.evaluation.statistics import apply_binary_temperature, fit_binary_temperature
from probe.evaluation.stratify import stratified_parts
from probe.evaluation.task import MULTI_LABEL

RATES = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02)


def make(n_rows: int = 400, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Return probabilities with many ties, and labels of which each class has some."""
    random = np.random.default_rng(seed)
    labels = (random.random((n_rows, len(RATES))) < RATES).astype(np.uint8)
    labels[0] = 1
    p = np.clip(0.3 * labels + 0.7 * random.random(labels.shape), 0, 1)
    return np.round(p, 2), labels


@pytest.mark.parametrize("seed", range(3))
def test_figures_are_scikit_learns(seed: int) -> None:
    p, labels = make(seed=seed)
    found = score_labels(p, labels)
    given = p >= 0.5
    expected = {
        "map": reference.average_precision_score(labels, p),
        "micro_f1": reference.f1_score(labels, given, average="micro"),
        "macro_f1": reference.f1_score(labels, given, average="macro"),
        "subset_accuracy": reference.accuracy_score(labels, given),
        "hamming_loss": reference.hamming_loss(labels, given),
        "macro_auc": reference.roc_auc_score(labels, p),
        "log_loss": np.mean([
            reference.log_loss(own, q, labels=[0, 1]) for own, q in zip(labels.T, p.T, strict=True)
        ]),
    }  # fmt: skip
    summary = found.summary()
    for name, value in expected.items():
        assert summary[name] == pytest.approx(value, rel=1e-12), name
    each = reference.average_precision_score(labels, p, average=None)
    np.testing.assert_allclose(found.labels.average_precision, each, rtol=1e-12)
    precision, recall, f1, support = reference.precision_recall_fscore_support(
        labels, given, zero_division=np.nan
    )
    np.testing.assert_allclose(found.labels.precision, precision)
    np.testing.assert_allclose(found.labels.recall, recall)
    np.testing.assert_allclose(found.labels.f1, f1)
    assert found.labels.positives.tolist() == support.tolist()


def test_a_class_without_positives_is_left_out_of_means() -> None:
    p, labels = make()
    without = labels.copy()
    without[:, 2] = 0
    found = score_labels(p, without)
    others = [0, 1, 3, 4, 5]
    assert np.isnan(found.labels.average_precision[2])
    assert found.map == pytest.approx(average_precisions(p, labels)[others].mean())
    assert found.macro_auc == pytest.approx(label_aucs(p, labels)[others].mean())
    assert found.macro_f1 == pytest.approx(score_labels(p, labels).labels.f1[others].mean())
    nothing = score_labels(p, np.zeros_like(labels))
    assert nothing.map is None
    assert "map" not in nothing.summary()
    assert bootstrap_map(p, np.zeros_like(labels)) is None


def test_equal_scores_are_one_threshold() -> None:
    labels = np.array([[1], [0], [1], [0]])
    assert average_precisions(np.full((4, 1), 0.7), labels).tolist() == [0.5]


@pytest.mark.parametrize(
    ("p", "labels", "message"),
    [
        (np.full((2, 2), 0.5), np.array([0, 1]), "labels of shape"),
        (np.full((2, 2), 0.5), np.array([[0, 2], [1, 0]]), "0 or 1"),
        (np.full((2, 2), 1.5), np.array([[0, 1], [1, 0]]), "numbers from 0 to 1"),
        (np.full((2, 2), np.nan), np.array([[0, 1], [1, 0]]), "numbers from 0 to 1"),
        (np.zeros((0, 2)), np.zeros((0, 2), int), "labels of shape"),
    ],
)
def test_what_is_no_prediction_is_refused(p: Any, labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        score_labels(p, labels)


def test_thresholds_have_the_best_f1_there_is() -> None:
    p, labels = make(120)
    chosen = best_thresholds(p, labels)
    for own, q, threshold in zip(labels.T, p.T, chosen, strict=True):
        best = max(reference.f1_score(own, q >= cut) for cut in np.unique(q))
        assert reference.f1_score(own, q >= threshold) == pytest.approx(best)
        assert threshold not in q  # between two that occur
    assert best_thresholds(p, np.zeros_like(labels)).tolist() == [0.5] * len(RATES)


def test_the_interval_has_the_error_of_drawn_rows_in_log_odds() -> None:
    p, labels = make(150)
    labels[:, -1] = 0
    labels[7, -1] = 1  # a third of the draws have no image of it
    random = np.random.default_rng(5)
    values = []
    for _ in range(1000):
        rows = random.integers(0, 150, 150)
        values.append(np.nanmean(average_precisions(p[rows], labels[rows])))
    found = bootstrap_map(p, labels, seed=5)
    assert found is not None
    value = np.nanmean(average_precisions(p, labels))
    width = 1.959963985 * np.std(values) / (value * (1 - value))
    odds = value / (1 - value) * np.exp([-width, width])
    assert found == pytest.approx(odds / (1 + odds), abs=1e-9)


def test_temperature_mends_probabilities_that_are_too_sure() -> None:
    random = np.random.default_rng(0)
    scores = random.normal(size=(4000, 3))
    labels = (random.random(scores.shape) < 1 / (1 + np.exp(-scores))).astype(np.uint8)
    sure = 1 / (1 + np.exp(-3 * scores))
    temperature = fit_binary_temperature(3 * scores, labels)
    assert temperature == pytest.approx(3, rel=0.1)
    mended = apply_binary_temperature(3 * scores, temperature)
    before, after = (binary_calibration_error(p, labels) for p in (sure, mended))
    assert before > 0.1
    assert after < 0.03
    np.testing.assert_allclose(apply_binary_temperature(3 * scores, 1.0), sure, rtol=1e-9)


def test_parts_have_their_sizes_and_their_share_of_every_label() -> None:
    _, labels = make(1000)
    pairs, sizes = MULTI_LABEL.pairs(labels), (700, 200, 100)
    parts = stratified_parts(pairs, labels.shape[1], sizes, np.random.default_rng(0))
    assert sorted(np.concatenate(parts).tolist()) == list(range(1000))
    assert [len(part) for part in parts] == [700, 200, 100]
    for part in parts:
        share = len(part) / 1000
        np.testing.assert_allclose(labels[part].sum(axis=0), share * labels.sum(axis=0), atol=1.5)


def test_validation_rows_of_several_labels() -> None:
    _, labels = make(500)
    labels[:, 5] = 0
    labels[[3, 9], 5] = 1  # two rows: one on each side
    train, val = validation_split(labels, 0.1, 7)
    assert len(val) == 50
    assert labels[train, 5].sum() == labels[val, 5].sum() == 1
    again = validation_split(labels, 0.1, 7)
    np.testing.assert_array_equal(val, again[1])
    assert not np.array_equal(val, validation_split(labels, 0.1, 8)[1])
    assert len(validation_split(labels, 0, 7)[1]) == 0
    assert len(validation_split(labels, 12, 7)[1]) == 12
    with pytest.raises(UsageError, match="holds out 500 of 500"):
        validation_split(labels, 500, 7)


def test_folds_of_several_labels() -> None:
    _, labels = make(203)
    folds = fold_split(labels, 5, 1, repeats=2)
    assert len(folds) == 10
    for repeat in (folds[:5], folds[5:]):
        assert sorted(np.concatenate([held for _, held in repeat]).tolist()) == list(range(203))
        counts = np.array([labels[held].sum(axis=0) for _, held in repeat])
        assert np.ptp(counts, axis=0).max() <= 2
        assert np.ptp([len(held) for _, held in repeat]) <= 1
    assert not np.array_equal(folds[0][1], folds[5][1])
    with pytest.raises(UsageError, match="from 2 to 203"):
        fold_split(labels, 204, 1)


def test_groups_stay_whole() -> None:
    _, labels = make(300)
    groups = [f"patient {row // 7}" for row in range(300)]
    held_out = [held for _, held in fold_split(labels, 4, 0, units=groups)]
    owners = [{groups[row] for row in held} for held in held_out]
    assert sum(map(len, owners)) == len(set(groups))
    np.testing.assert_allclose([len(held) for held in held_out], 75, atol=7)
    groups_of = np.array([row // 7 for row in range(300)])

    def uneven(parts: list[NDArray[np.intp]]) -> float:
        return float(np.std([labels[part].mean(axis=0) for part in parts], axis=0).sum())

    random = np.random.default_rng(0)
    by_chance = []
    for _ in range(200):
        part_of = (random.permutation(43) % 4)[groups_of]
        by_chance.append(uneven([np.flatnonzero(part_of == part) for part in range(4)]))
    assert uneven(held_out) < np.quantile(by_chance, 0.05)


def test_labels_whose_threshold_lies_at_an_end_are_named(caplog: pytest.LogCaptureFixture) -> None:
    labels = np.array([[1, 0, 1], [0, 0, 0], [1, 0, 0], [0, 0, 0]], np.uint8)
    p = np.array([[0.1, 0.2, 0.9], [0.7, 0.2, 0.1], [0.2, 0.2, 0.1], [0.05, 0.2, 0.1]])
    p[3, 0] = 0.3  # both images of the first label have the lowest probabilities
    thresholds = thresholds_of({"val": measure(p, labels)}, ("low", "none", "fine"))
    assert thresholds is not None
    assert (p[:, 0] >= thresholds[0]).all()
    assert thresholds[1] == 0.5
    (every, none) = caplog.messages
    assert every.startswith("1 of 3 labels on the held-out images: the best F1")
    assert every.endswith("(low)")
    assert none.endswith("stays at 0.5 (none)")
