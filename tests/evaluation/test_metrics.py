from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as peer

from probe.errors import DataError
from probe.evaluation.metrics import (
    calibration_error,
    confused_pairs,
    confusion_matrix,
    macro_auc,
    score,
    top_k_accuracy,
)


def random_case(n_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, n_classes, 500)
    labels[:n_classes] = np.arange(n_classes)
    logits = random.normal(size=(500, n_classes))
    logits[np.arange(500), labels] += 1.5
    exp = np.exp(logits)
    return exp / exp.sum(axis=1, keepdims=True), labels


@pytest.mark.parametrize("n_classes", [2, 5, 6, 40])
def test_the_figures_are_scikit_learns(n_classes: int) -> None:
    probabilities, labels = random_case(n_classes)
    predicted = probabilities.argmax(axis=1)
    found = score(probabilities, labels, n_classes)
    assert found.top1 == pytest.approx(peer.accuracy_score(labels, predicted))
    assert found.mean_recall == pytest.approx(peer.balanced_accuracy_score(labels, predicted))
    assert found.log_loss == pytest.approx(peer.log_loss(labels, probabilities))
    f1 = peer.f1_score(labels, predicted, average="macro")
    assert found.macro_f1 == pytest.approx(f1)
    areas = [peer.roc_auc_score(labels == k, probabilities[:, k]) for k in range(n_classes)]
    assert found.macro_auc == pytest.approx(np.mean(areas))
    np.testing.assert_array_equal(found.confusion, peer.confusion_matrix(labels, predicted))
    if n_classes > 5:
        expected = peer.top_k_accuracy_score(labels, probabilities, k=5, labels=range(n_classes))
        assert found.top5 == pytest.approx(expected)


def test_top5_is_absent_where_it_says_nothing() -> None:
    five, six = score(*random_case(5), 5), score(*random_case(6), 6)
    assert five.top5 is None
    assert "top5" not in five.summary()
    assert list(six.summary()) == [
        "top1", "top5", "mean_recall", "macro_f1", "macro_auc", "log_loss", "calibration_error",
    ]  # fmt: skip


def test_a_head_that_cannot_tell_gets_chance_level() -> None:
    labels = np.arange(100) % 10
    found = score(np.full((100, 10), 0.1), labels, 10)
    assert (found.top1, found.top5, found.mean_recall) == (0.1, 0.5, 0.1)
    assert found.log_loss == pytest.approx(np.log(10))


@given(st.integers(2, 9), st.integers(0, 1000))
def test_top_k_grows_with_k_to_one_and_top_1_is_the_prediction(n_classes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.integers(0, 3, (20, n_classes)).astype(float)  # many ties
    labels = random.integers(0, n_classes, 20)
    rates = [top_k_accuracy(scores, labels, k) for k in range(1, n_classes + 1)]
    assert rates == sorted(rates)
    assert rates[-1] == 1
    assert rates[0] == (scores.argmax(axis=1) == labels).mean()


def test_a_class_without_rows_has_no_recall_and_does_not_count() -> None:
    probabilities, labels = random_case(4)
    found = score(probabilities[labels != 2], labels[labels != 2], 4)
    assert np.isnan(found.per_class_recall[2])
    assert found.mean_recall == pytest.approx(found.per_class_recall[[0, 1, 3]].mean())


def test_a_probability_of_zero_is_costly_but_finite() -> None:
    found = score(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0, 1]), 2)
    assert 15 < found.log_loss < 20


def test_a_confusion_matrix_has_true_classes_as_rows() -> None:
    matrix = confusion_matrix(np.array([1, 1, 0]), np.array([0, 0, 0]), 3)
    assert matrix.tolist() == [[1, 2, 0], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        (np.empty((0, 3)), np.empty(0, int), "nothing to measure"),
        (np.full((2, 4), 0.25), np.array([0, 1]), "shape"),
        (np.full((2, 3), 1 / 3), np.array([0, 3]), "labels go from 0 to 3"),
        (np.full((2, 3), 1 / 3), np.array([-1, 0]), "labels go from -1"),
        (np.full((2, 3), np.nan), np.array([0, 1]), "NaN"),
        (np.full((2, 3), 0.5), np.array([0, 1]), "sum to 1"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    probabilities: np.ndarray, labels: np.ndarray, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        score(probabilities, labels, 3)


def test_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    sure = np.tile([0.9, 0.1], (10, 1))
    assert calibration_error(sure, np.array([0] * 9 + [1])) == pytest.approx(0)
    assert calibration_error(sure, np.array([0] * 5 + [1] * 5)) == pytest.approx(0.4)


def test_equal_scores_count_half_in_the_area() -> None:
    assert macro_auc(np.full((4, 2), 0.5), np.array([0, 0, 1, 1])) == 0.5
    assert macro_auc(np.full((4, 2), 0.5), np.zeros(4, int)) is None


def test_pairs_are_the_cells_of_the_matrix() -> None:
    labels, predicted = np.array([0, 0, 2, 2, 2, 3]), np.array([0, 1, 2, 2, 0, 1])
    pairs = confused_pairs(predicted, labels, 4)
    cells = zip(pairs.true, pairs.predicted, pairs.count, strict=True)
    assert [*map(tuple, cells)] == [(0, 0, 1), (0, 1, 1), (2, 0, 1), (2, 2, 2), (3, 1, 1)]
    np.testing.assert_array_equal(pairs.dense(), confusion_matrix(predicted, labels, 4))
    assert pairs.hits.tolist() == [1, 0, 2, 0]
    assert pairs.of_true.tolist() == [2, 0, 3, 1]
    assert pairs.of_predicted.tolist() == [2, 2, 2, 0]
