"""Figures as means over rows: the figures of the run, and tests that keep their level."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from probe.bench.compare import compare_rows
from probe.bench.record import Cost, Protocol, Row
from probe.evaluation.gains import METRICS, compare_gains, gains_of, mean_interval
from probe.evaluation.pairs import compare_all, evidence_of
from probe.evaluation.predictions import Predictions, save_predictions
from probe.evaluation.scored import measure_logits


def predictions(seed: int, n: int = 60, n_classes: int = 3, repeats: int = 1) -> Predictions:
    random = np.random.default_rng(seed)
    labels = np.tile(random.permutation(np.arange(n) % n_classes), repeats)
    scores = random.normal(0, 1, (n * repeats, n_classes)) + np.eye(n_classes)[labels]
    logits = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    units = np.tile(np.arange(n), repeats) if repeats > 1 else None
    return Predictions.of([f"{i:03d}" for i in range(n)] * repeats, labels, logits, units, repeats)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("repeats", [1, 3])
def test_the_mean_of_the_parts_is_the_figure_of_the_run(metric: str, repeats: int) -> None:
    for seed, n_classes in ((0, 2), (1, 3), (2, 7)):
        said = predictions(seed, n_classes=n_classes, repeats=repeats)
        assert said.logits is not None
        metrics = measure_logits(said.logits, said.labels, repeats=repeats).metrics
        expected = getattr(metrics, metric) * (-1 if metric == "log_loss" else 1)
        found = gains_of(said, metric)
        assert found is not None
        assert found[0] == pytest.approx(expected)
        assert found[1].mean() == pytest.approx(expected)


@pytest.mark.parametrize("metric", METRICS)
def test_the_spread_of_the_parts_is_that_of_the_figure_over_draws_of_rows(metric: str) -> None:
    figures, told = [], []
    for seed in range(200):
        found = gains_of(predictions(seed, n=90), metric)
        assert found is not None
        figures.append(found[0])
        interval = mean_interval(found[1], None)
        told.append((interval.high - interval.low) / 2 / 1.987)
    assert np.mean(told) == pytest.approx(np.std(figures), rel=0.15)


@pytest.mark.parametrize("metric", METRICS)
def test_equal_heads_are_seldom_told_apart_and_interval_and_p_agree(metric: str) -> None:
    rejected, tries = 0, 200
    for seed in range(tries):
        one = predictions(seed, n=40, n_classes=2)
        random = np.random.default_rng(seed + 5000)
        pair = []
        for _ in range(2):
            assert one.logits is not None
            noisy = one.logits + random.normal(0, 0.7, one.logits.shape)
            noisy -= np.log(np.exp(noisy).sum(axis=1, keepdims=True))
            pair.append(evidence_of(Predictions.of(one.ids.tolist(), one.labels, noisy), metric))
        (found,) = compare_all({"a": pair[0], "b": pair[1]})
        rejected += found.p <= 0.05
        assert (found.p <= 0.05) == (not found.low <= 0 <= found.high)
        assert found.difference == pytest.approx(pair[0].value - pair[1].value)
    assert rejected <= 0.085 * tries


def test_two_that_say_the_same_have_an_interval_with_a_width() -> None:
    found = gains_of(predictions(0), "mean_recall")
    assert found is not None
    interval, p = compare_gains(found[1], found[1], None, freedom=None, seed=0)
    assert p == 1
    assert interval.low < -0.01 < 0.01 < interval.high


def test_rows_that_belong_together_count_as_one() -> None:
    said, other = predictions(0), predictions(1)
    first, second = gains_of(said, "macro_auc"), gains_of(other, "macro_auc")
    assert first is not None
    assert second is not None
    alone = compare_gains(first[1], second[1], None, freedom=None, seed=0)[0]
    copies = [np.concatenate([one] * 3) for one in (first[1], second[1])]
    units = np.tile(np.arange(60), 3)
    related = compare_gains(*copies, units, freedom=None, seed=0)[0]
    assert related.high - related.low == pytest.approx(alone.high - alone.low)


def test_a_bench_ranks_tests_and_tells_by_its_metric(tmp_path: Path) -> None:
    """By log loss the one that is seldom right, and never sure, is the better one."""
    n = 300
    labels = np.arange(n) % 2
    ids = [f"{i:03d}" for i in range(n)]
    rows, hits = [], dict[str, int]()
    for name, right, sure in (("sure", 32, 6.0), ("meek", 28, 1.0)):  # of 40
        odds = np.where(np.arange(n) % 40 < right, sure, -sure) * np.where(labels == 1, 1, -1)
        logits = -np.logaddexp(0, np.stack([odds, -odds], axis=1))
        save_predictions(tmp_path / name, {"val": Predictions.of(ids, labels, logits)})
        hits[name] = int((np.arange(n) % 40 < right).sum())
        metrics = measure_logits(logits, labels).metrics.summary()
        rows.append(Row(
            id=name, dataset="d", name=name, kind="backbone", head="path", status="done",
            backbone=name, weights="", layer="", pool="", entries=(), run=name, feature_dim=8,
            metrics={"val": metrics}, intervals={"val": {}}, cost=Cost(), n_val=n,
        ))  # fmt: skip
    winners = {}
    for metric in ("top1", "log_loss", "macro_f1", "mean_recall", "macro_auc"):
        protocol = Protocol(heads=("path",), split="val", val_size=0.3, folds=0, repeats=1, seed=0,
                            metric=metric)  # fmt: skip
        made, found = compare_rows(rows, tmp_path, protocol, n_classes=2, images={})
        winners[metric] = found.winner
        assert {one.id: one.rank for one in made}[found.winner or ""] == 1
        assert found.pairs[0].difference > 0
        if metric == "log_loss":
            meek = np.log1p(np.exp(-1)) + (labels.size - hits["meek"]) / labels.size
            assert f"Take meek: log loss {meek:.4f} (" in found.verdict
            sure = np.log1p(np.exp(-6)) + 6 * (labels.size - hits["sure"]) / labels.size
            assert f"meek beats sure by {sure - meek:.4f} nats" in found.verdict
            assert " nats (" in found.verdict
    assert winners == {"top1": "sure", "log_loss": "meek", "macro_f1": "sure",
                       "mean_recall": "sure", "macro_auc": "sure"}  # fmt: skip
