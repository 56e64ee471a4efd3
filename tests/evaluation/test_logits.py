"""Logits from head to figure: temperatures, ranks and ties against independent computations."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_expit, log_softmax, logsumexp
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from probe.errors import NoTemperatureError
from probe.evaluation.metrics import score, top_k_accuracy
from probe.evaluation.multilabel import score_labels
from probe.evaluation.parts import Part
from probe.evaluation.predictions import Predictions, load_predictions, save_predictions
from probe.evaluation.scored import measure_logits, temperature_of, usable_temperature
from probe.evaluation.statistics import (
    apply_binary_temperature,
    apply_temperature,
    fit_binary_temperature,
    fit_temperature,
)
from probe.evaluation.task import MULTI_LABEL, SINGLE_LABEL, TASKS
from probe.heads import LayeredHead, PrototypeHead
from probe.heads.ensemble import EnsembleHead
from tests.heads.data import make_features


def problem(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return scores of few rows and classes, with ties, duplicates, absent classes, any scale."""
    random = np.random.default_rng(seed)
    n, classes = int(random.integers(2, 40)), int(random.integers(2, 9))
    scores = random.normal(size=(n, classes)) * 10.0 ** random.integers(-3, 4)
    if seed % 3 == 0:  # ties, small whole numbers
        scores = random.integers(-2, 3, size=(n, classes)).astype(float)
    if seed % 5 == 0:  # duplicated rows
        scores[: n // 2] = scores[n - n // 2 :]
    labels = random.integers(0, max(1, classes - seed % 2), n)
    easy = random.random(n) < random.random()
    labels[easy] = scores.argmax(axis=1)[easy]
    return scores, labels


def area(scores: np.ndarray, own: np.ndarray) -> float:
    """Return the share of pairs in the right order, a tie counting half, pair by pair."""
    wins = np.sign(scores[own][:, None] - scores[~own][None])
    return float((wins + 1).mean() / 2)


def one_against_rest(scores: np.ndarray, label: int) -> np.ndarray:
    """Return log odds in extended precision, rounded to what float64 scores can tell."""
    wide = scores.astype(np.longdouble)
    rest = np.delete(wide, label, axis=1)
    top = rest.max(axis=1, keepdims=True)
    odds = wide[:, label] - top[:, 0] - np.log(np.exp(rest - top).sum(axis=1))
    unit = np.maximum(1, np.abs(odds)) * 1e-8
    return np.asarray(np.rint(odds / unit) * unit, np.float64)


def check_ranks(seed: int) -> None:
    scores, labels = problem(seed)
    n_classes = scores.shape[1]
    logits = SINGLE_LABEL.logits(scores.copy())
    np.testing.assert_allclose(logits, log_softmax(scores, axis=1), rtol=1e-12, atol=1e-12)
    found = score(SINGLE_LABEL.probabilities_of(logits), labels, n_classes, logits)
    classes = [c for c in range(n_classes) if 0 < (labels == c).sum() < len(labels)]
    areas = [area(one_against_rest(scores, c), labels == c) for c in classes]
    if areas:
        assert found.macro_auc == pytest.approx(np.mean(areas), abs=1e-9)
    else:
        assert found.macro_auc is None
    random, hits = np.random.default_rng(0), 0
    if n_classes > 5 and seed % 10 == 0:
        for _ in range(400):  # ties in every order
            key = random.random(scores.shape)
            order = np.lexsort((key, -scores), axis=1)[:, :5]
            hits += int((order == labels[:, None]).sum())
        assert found.top5 == pytest.approx(hits / 400 / len(labels), abs=0.06)
    assert found.log_loss == pytest.approx(
        log_loss(labels, SINGLE_LABEL.probabilities_of(logits), labels=range(n_classes)), abs=1e-9
    )


def check_temperature(seed: int) -> None:
    scores, labels = problem(seed)

    def loss(log_t: float) -> float:
        scaled = scores * np.exp(-log_t)
        return float((logsumexp(scaled, axis=1) - scaled[np.arange(len(scaled)), labels]).sum())

    try:
        found = fit_temperature(SINGLE_LABEL.logits(scores.copy()), labels)
    except NoTemperatureError:
        ends = loss(np.log(1e-6)), loss(np.log(100.0))
        inside = min(loss(t) for t in np.linspace(np.log(1e-5), np.log(50), 200))
        assert min(ends) <= inside + 1e-6
        return
    best = min(
        minimize_scalar(loss, bounds=(low, low + 3), method="bounded", options={"xatol": 1e-7}).fun
        for low in np.arange(np.log(1e-6), np.log(100), 2)
    )
    assert loss(np.log(found)) <= best + 1e-6 * max(1, abs(best))


def check_labels(seed: int) -> None:
    scores, _ = problem(seed)
    labels = (np.random.default_rng(seed).random(scores.shape) < 0.4).astype(int)
    ranks = MULTI_LABEL.ranked(scores)
    found = score_labels(MULTI_LABEL.probabilities_of(scores.copy()), labels, ranks)
    for column in range(scores.shape[1]):
        own = labels[:, column]
        if own.any():
            expected = average_precision_score(own, ranks[:, column])
            assert found.labels.average_precision[column] == pytest.approx(expected)
        if 0 < own.sum() < len(own):
            expected = roc_auc_score(own, ranks[:, column])
            assert found.labels.auc[column] == pytest.approx(expected)

    def loss(log_t: float) -> float:
        scaled = scores * np.exp(-log_t)
        return float(-(labels * log_expit(scaled) + (1 - labels) * log_expit(-scaled)).mean())

    try:
        best = fit_binary_temperature(scores, labels)
    except NoTemperatureError:
        return
    grid = np.linspace(np.log(1e-6), np.log(100), 400)
    assert loss(np.log(best)) <= min(map(loss, grid)) + 1e-9


@pytest.mark.parametrize("block", range(4))
def test_figures_and_temperatures_are_those_of_independent_computations(block: int) -> None:
    for seed in range(20 * block, 20 * block + 20):
        check_ranks(seed)
        check_temperature(seed)
        check_labels(seed)


@pytest.mark.parametrize("confidence", [0.4, 0.8, 1.0 - 1e-9])
def test_no_temperature_is_fitted_where_every_row_is_right(
    confidence: float, caplog: pytest.LogCaptureFixture
) -> None:
    """The likelihood grows for ever: the colder, the better, to the end of float64."""
    labels = np.arange(30) % 3
    p = np.full((30, 3), (1 - confidence) / 2)
    p[np.arange(30), labels] = confidence
    with caplog.at_level(logging.WARNING):
        assert usable_temperature(np.log(p), labels) is None
    said = (
        "no temperature is fitted to the probabilities, which stay as they are: all 30 held-out "
        "rows are right; look at the log loss before you use them"
    )
    assert caplog.messages == [said]
    with pytest.raises(NoTemperatureError, match="no better than guessing"):
        fit_temperature(-np.log(p), (labels + 1) % 3 * 0 + labels)
    with pytest.raises(NoTemperatureError, match="decisions are right"):
        fit_binary_temperature(np.array([[3.0, -2.0], [1.0, -1.0]]), np.array([[1, 0], [1, 0]]))
    with pytest.raises(NoTemperatureError, match="right"):
        fit_temperature(np.zeros((5, 3)), np.arange(5) % 3)  # all alike: any would do


def test_a_temperature_divides_scores_whose_probabilities_have_underflowed() -> None:
    """Far rows of a nearest-mean head: p is 0 in float64, and their scores are not alike."""
    scores = np.array([[0.0, -900.0, -1800.0], [-1000.0, 0.0, -3000.0]])
    assert SINGLE_LABEL.probabilities_of(SINGLE_LABEL.logits(scores.copy()))[0, 1] == 0
    expected = np.exp(log_softmax(scores / 500, axis=1))
    found = apply_temperature(SINGLE_LABEL.logits(scores.copy()), 500)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    odds = np.array([[800.0, 900.0, -800.0]])
    np.testing.assert_allclose(apply_binary_temperature(odds, 500), np.exp(log_expit(odds / 500)))


def certain() -> tuple[np.ndarray, np.ndarray]:
    """Return rows of three classes far apart, some of them labelled wrong."""
    random = np.random.default_rng(0)
    y = np.arange(90) % 3
    X = random.normal(size=(90, 4)) * 0.01 + np.eye(4)[y]
    y[::9] = (y[::9] + 1) % 3
    return X.astype(np.float32), y


@pytest.mark.parametrize("distance", ["lda", "mean"])
def test_certain_and_wrong_rows_take_part_in_the_temperature(distance: Any) -> None:
    X, y = certain()
    head = PrototypeHead(distance=distance, normalize="none", shrinkage=0.0).fit(
        X, np.arange(90) % 3
    )
    part = Part(X=X, y=y, ids=[str(i) for i in range(90)])
    p = part.predict_proba(head, 4)
    wrong = np.flatnonzero(p.argmax(axis=1) != y)
    assert len(wrong) == 10
    assert (p[wrong, y[wrong]] == 0).any() or distance == "mean"
    logits = part.predict_logits(head, 4)
    assert np.isfinite(logits[:, :3]).all()
    assert (logits[:, 3] == -np.inf).all()  # a class that the head does not know
    temperature = fit_temperature(logits, y)
    scores = head.decision_function(X)
    rows = np.arange(90)
    fit = minimize_scalar(
        lambda t: -log_softmax(scores / np.exp(t), axis=1)[rows, y].sum(),
        bounds=(-5, 12), method="bounded",
    )  # fmt: skip
    assert np.log(temperature) == pytest.approx(fit.x, abs=1e-3)


def test_log_probabilities_by_scikit_learns_name() -> None:
    X, y = make_features()
    head = PrototypeHead(distance="mean").fit(X, y)
    np.testing.assert_allclose(np.exp(head.predict_log_proba(X)), head.predict_proba(X))
    both = EnsembleHead.of([head, PrototypeHead().fit(X, y)])
    np.testing.assert_allclose(np.exp(both.predict_log_proba(X)), both.predict_proba(X), rtol=1e-9)
    alone = LayeredHead(classes_=head.classes_, normalizer_=head.normalizer_, stack=head.layers())
    assert (alone.predict_logits(X) == head.predict_logits(X)).all()


def test_logits_of_means_are_those_of_the_mean_probability() -> None:
    random = np.random.default_rng(0)
    scores = random.normal(size=(3, 20, 4)) * 3
    for task in TASKS:
        logits = task.logits(scores.copy())
        mean = np.mean([task.probabilities_of(one.copy()) for one in logits], axis=0)
        found = task.probabilities_of(task.mean_logits(logits))
        np.testing.assert_allclose(found, mean, rtol=1e-12)


def test_saturated_probabilities_are_ranked_by_their_scores() -> None:
    """All probabilities of the first class round to 1; the order of the scores is exact."""
    gap = np.array([60.0, 50.0, 45.0, 40.0])
    scores = np.column_stack([gap, np.zeros(4), np.zeros(4)])
    labels = np.array([0, 0, 1, 0])
    logits = SINGLE_LABEL.logits(scores)
    assert (SINGLE_LABEL.probabilities_of(logits)[:, 0] == 1).all()
    found = score(SINGLE_LABEL.probabilities_of(logits), labels, 3, logits)
    assert found.macro_auc == pytest.approx((2 / 3 + 2 / 3) / 2)  # of class 0 and of class 1


def test_equal_scores_are_in_no_order() -> None:
    flat = np.zeros((40, 10))
    for labels in (np.zeros(40, int), np.full(40, 9), np.arange(40) % 10):
        assert top_k_accuracy(flat, labels, 5) == pytest.approx(0.5)
    random = np.random.default_rng(0)
    scores, labels = random.integers(0, 3, (200, 8)).astype(float), random.integers(0, 8, 200)
    turned = random.permutation(8)
    assert top_k_accuracy(scores[:, turned], np.argsort(turned)[labels], 5) == pytest.approx(
        top_k_accuracy(scores, labels, 5)
    )


def test_a_file_keeps_the_order_that_the_figures_go_by(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    scores = random.normal(size=(300, 6)) * 1e-9 + 20  # float32 would make them one
    labels = (random.random((300, 6)) < 0.3).astype(int)
    labels[:, 0] = scores[:, 0] > 20
    kept = Predictions.of([str(i) for i in range(300)], labels, scores)
    save_predictions(tmp_path, {"val": kept})
    found = load_predictions(tmp_path)["val"]
    assert (found.scores == scores).all()
    again = measure_logits(found.scores, found.labels).metrics
    assert again.summary() == measure_logits(scores, labels).metrics.summary()
    assert score_labels(found.probabilities, found.labels, found.compared).map == again.map  # type: ignore[union-attr]


def test_a_file_of_an_older_version_is_read(tmp_path: Path) -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(3), 5).astype(np.float32)
    p[:, 2], p[0, 0] = 0, 0
    np.savez_compressed(
        tmp_path / "predictions.npz", val_ids=np.array(list("abcde")), val_labels=np.zeros(5, int),
        val_probabilities=p,
    )  # fmt: skip
    found = load_predictions(tmp_path)["val"]
    assert (found.probabilities == p).all()
    assert (found.scores[:, 2] == -np.inf).all()  # no row has it: a class without training rows
    assert np.isfinite(found.scores[:, :2]).all()


def test_repeats_are_scored_one_by_one_and_then_averaged() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 60)
    every = [SINGLE_LABEL.logits(random.normal(size=(60, 3))) for _ in range(5)]
    found = measure_logits(np.concatenate(every), np.tile(labels, 5), repeats=5)
    alone = [measure_logits(one, labels).metrics.summary() for one in every]
    for name, value in found.metrics.summary().items():
        assert value == pytest.approx(np.mean([one[name] for one in alone]))
    pooled = fit_or_none(np.concatenate(every), np.tile(labels, 5))
    assert temperature_of({"oof": found}) == pooled


def fit_or_none(logits: np.ndarray, labels: np.ndarray) -> float | None:
    try:
        return fit_temperature(logits, labels)
    except NoTemperatureError:
        return None
