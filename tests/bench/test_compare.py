"""Who wins, who ties, and what is said about it, from predictions made here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.bench.compare import compare_rows, make_matrix
from probe.bench.record import Comparison, Cost, Protocol, Row, Score
from probe.errors import DataError
from probe.evaluation.predictions import Predictions, load_predictions, save_predictions
from probe.evaluation.settling import POWER

PROTOCOL = Protocol(heads=("path",), split="val", val_size=0.3, folds=0, repeats=1, seed=0)
N = 400


def row(name: str, top1: float, *, dataset: str = "d", macs: int | None = None) -> Row:
    return Row(
        id=name, dataset=dataset, name=name, kind="backbone", head="path", status="done",
        backbone=name, weights="", layer="", pool="", entries=(), run=name, feature_dim=8,
        metrics={"val": {"top1": top1}, "test": {"top1": 1 - top1}}, n_val=N, n_test=N,
        intervals={"val": {"top1": (top1 - 0.01, top1 + 0.01)}}, cost=Cost(multiply_adds=macs),
    )  # fmt: skip


def predict(runs: Path, name: str, right: np.ndarray, *, start: int = 0) -> None:
    """Keep a run that is right where `right` says so on val, and the opposite on test."""
    labels = np.zeros(len(right), np.int64)
    ids = np.array([f"train/{start + i:05d}" for i in range(len(right))])
    splits = {
        split: Predictions(
            ids=ids, labels=labels, probabilities=np.eye(2, dtype=np.float32)[(~hits).astype(int)]
        )
        for split, hits in (("val", right), ("test", ~right))
    }
    save_predictions(runs / name, splits)


def compare(runs: Path, rows: list[Row], **more: object) -> tuple[list[Row], Comparison]:
    return compare_rows(rows, runs, PROTOCOL, n_classes=2, images={"train": N}, **more)  # type: ignore[arg-type]


def hits(count: int) -> np.ndarray:
    return np.arange(N) < count


@pytest.fixture
def three(tmp_path: Path) -> tuple[Path, list[Row]]:
    """Return a clear loser and two that differ in five images."""
    for name, count in (("best", 320), ("near", 315), ("far", 200)):
        predict(tmp_path, name, hits(count))
    rows = [row("far", 0.5, macs=5), row("near", 315 / N, macs=10), row("best", 0.8, macs=99)]
    return tmp_path, rows


def test_the_loser_is_told_apart_and_the_tie_is_called_one(three: tuple[Path, list[Row]]) -> None:
    rows, found = compare(*three)
    assert found.rows == ("best", "near", "far")
    assert found.winner == "best"
    assert found.tied == ("best", "near")
    assert {one.id: (one.rank, one.letters) for one in rows} == {
        "best": (1, "a"), "near": (2, "a"), "far": (3, "b"),
    }  # fmt: skip
    close = next(pair for pair in found.pairs if pair.b == "near")
    assert (close.only_a, close.only_b, close.difference) == (5, 0, 5 / N)
    assert (close.p, close.p_adjusted, close.different) == (2 * 0.5**5, 2 * 0.5**5, False)


def test_the_cheapest_of_the_tied_is_named(three: tuple[Path, list[Row]]) -> None:
    _, found = compare(*three)
    assert found.cheapest == "near"  # `far` is cheaper and loses
    assert found.verdict.startswith("Take best: 80.00 % (79.00 to 81.00) of 400 validation images")
    assert "Not distinguishable from it with these data: near." in found.verdict
    assert "The cheapest of them is near (10 multiply-adds an image" in found.verdict
    assert "best beats far by 30.00 points" in found.verdict


def test_it_is_said_what_would_settle_a_tie(three: tuple[Path, list[Row]]) -> None:
    _, found = compare(*three)
    near, *others = sorted(found.pairs, key=lambda pair: (pair.a, pair.b) != ("best", "near"))
    assert [pair.settling for pair in others] == [None, None]  # told apart
    told = near.settling
    assert told is not None
    assert (told.n, told.size, told.high, told.worth) == (N, 5 / N, None, True)
    shown = -(-told.count // 10) * 10  # two digits that count
    assert 100 <= shown < 1000
    assert (
        f"If best and near really differ by the 1.25 points seen, the test would show it in four "
        f"of five cases with about {shown} held-out images ("
    ) in found.verdict
    assert "no number would do if there is no difference); there are 400." in found.verdict
    assert (f"the chance is nearer {100 * told.chance:.0f} %." in found.verdict) == (
        told.chance < POWER
    )


@pytest.mark.parametrize(
    ("protocol", "images", "labelled", "least"),
    [
        ({"val_size": 0.3}, {"train": 1000}, lambda held: held * 1000 / N, lambda held: 600 + held),
        ({"val_size": 400}, {"train": 1000}, lambda held: 600 + held, None),
        ({"val_size": 0.3}, {"train": 600, "val": N}, lambda held: 600 + held, None),
        ({"split": "oof", "val_size": 0, "folds": 5}, {"train": N}, lambda held: held, None),
    ],
)
def test_what_would_settle_it_is_told_in_labelled_images(
    tmp_path: Path,
    protocol: dict[str, Any],
    images: dict[str, int],
    labelled: Callable[[int], float],
    least: Callable[[int], float] | None,
) -> None:
    split = protocol.get("split", "val")
    rows = []
    for name, count in (("best", 320), ("near", 316)):
        predict(tmp_path, name, hits(count))
        kept = load_predictions(tmp_path / name)
        save_predictions(tmp_path / name, {split: kept["val"]})
        plain = row(name, count / N)
        rows.append(replace(plain, n_train=600, metrics={split: plain.metrics["val"]}))
    wanted = replace(PROTOCOL, **protocol)
    _, found = compare_rows(rows, tmp_path, wanted, n_classes=2, images=images)
    told = found.pairs[0].settling if found.pairs else None
    if told is None:
        pytest.fail("they are told apart")
    assert told.labelled == ceil(labelled(told.count))
    assert told.least_labelled == (least and least(told.count))


def test_another_head_on_the_same_pass_is_not_called_cheaper(tmp_path: Path) -> None:
    predict(tmp_path, "a", hits(320))
    predict(tmp_path, "b", hits(318))
    rows = [row("a", 0.8, macs=10), replace(row("b", 318 / N, macs=10), feature_dim=1)]
    _, found = compare(tmp_path, rows)
    assert found.tied == ("a", "b")
    assert found.cheapest == "b"  # a smaller head, but nobody waits for that
    assert "cheapest" not in found.verdict


def test_a_difference_that_is_real_alone_may_not_be_among_many(tmp_path: Path) -> None:
    """Seven images of difference: p 0.016 alone; with nine more pairs Holm asks for more."""
    predict(tmp_path, "a", hits(307))
    predict(tmp_path, "b", hits(300))
    two = [row("a", 307 / N), row("b", 300 / N)]
    assert compare(tmp_path, two)[1].tied == ("a",)
    for name in "cde":
        predict(tmp_path, name, hits(304))
    many = compare(tmp_path, [*two, *(row(name, 304 / N) for name in "cde")])[1]
    assert len(many.pairs) == 10
    assert many.tied == ("a", "c", "d", "e", "b")


def test_test_rows_choose_nothing(three: tuple[Path, list[Row]]) -> None:
    """On test rows the order is the opposite: `far` would win there."""
    _, found = compare(*three)
    assert found.winner == "best"
    assert "On test images, which chose nothing: 20.00 % of 400 images right" in found.verdict


def test_other_images_are_not_compared(tmp_path: Path) -> None:
    predict(tmp_path, "a", hits(300))
    predict(tmp_path, "b", hits(300), start=1)
    with pytest.raises(DataError, match="different images"):
        compare(tmp_path, [row("a", 0.75), row("b", 0.75)])


def test_a_run_without_predictions_is_not_compared(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="keeps no val predictions"):
        compare(tmp_path, [row("a", 0.75)])


def test_scores_are_judged_by_what_the_heads_reached(three: tuple[Path, list[Row]]) -> None:
    def score(name: str, features: str, value: float) -> Score:
        return Score(name=name, features=features, value=value, seconds=0.0, n_rows=9)

    right = {"best": 3.0, "near": 2.0, "far": 1.0}
    scores = [score("logme", name, value) for name, value in right.items()]
    scores += [score("knn", name, -value) for name, value in right.items()]
    scores += [score("leep", "best", 1.0)]  # of one backbone alone: nothing is ranked
    _, found = compare(*three, scores=scores)
    by_name = {one.score: one for one in found.agreement}
    assert set(by_name) == {"logme", "knn"}
    assert (by_name["logme"].kendall, by_name["logme"].loss) == (1.0, 0.0)
    assert (by_name["knn"].kendall, by_name["knn"].best) == (-1.0, "far")
    assert by_name["knn"].loss == pytest.approx(0.3)


def test_a_matrix_ranks_what_has_a_figure_everywhere() -> None:
    rows = [row("a", 0.9), row("b", 0.8), row("c", 0.7)]
    rows += [row("a", 0.5, dataset="e"), row("b", 0.6, dataset="e")]
    found = make_matrix(rows, PROTOCOL)
    assert found is not None
    assert (found.datasets, found.names) == (("d", "e"), ("a", "b"))
    assert found.values == ((0.9, 0.5), (0.8, 0.6))
    assert found.average_ranks == (1.5, 1.5)
    assert found.friedman_p is None
    assert "say nothing" in found.note
    assert make_matrix(rows[:3], PROTOCOL) is None
