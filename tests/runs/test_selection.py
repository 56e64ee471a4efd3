from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from probe.errors import UsageError
from probe.evaluation.parts import HeadData, Part, plan_splits
from probe.evaluation.splitting import fold_split, validation_split
from probe.heads import HEADS
from probe.heads.catalog import default_grid
from probe.heads.grid import Search
from probe.runs.results import FeatureSource, RunResult
from probe.runs.selection import run_head
from tests.heads.data import make_features

SOURCE = FeatureSource(
    entry="0123", dataset="d", backbone="vgg16", weights="w", layer="pool5", pool="avg"
)


@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=8), st.floats(0.01, 0.99), st.integers(0, 9)
)
def test_a_split_is_exact_stratified_and_leaves_no_class_out(
    counts: list[int], fraction: float, seed: int
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    np.random.default_rng(0).shuffle(labels)
    wanted = max(1, round(fraction * len(labels)))
    assume(0 < sum(count > 1 for count in counts) <= wanted <= sum(counts) - len(counts))
    train, val = validation_split(labels, fraction, seed)
    assert len(val) == wanted
    assert sorted([*train, *val]) == list(range(len(labels)))
    for label, count in enumerate(counts):
        held_out = int((labels[val] == label).sum())
        assert held_out == 0 if count == 1 else 1 <= held_out < count
        balanced = wanted == round(fraction * len(labels)) and min(counts) * fraction >= 1
        if balanced and min(counts) * (1 - fraction) >= 1:
            assert abs(held_out - count * wanted / len(labels)) < 1


def test_the_seed_alone_decides() -> None:
    labels = np.arange(200) % 10
    first, again, other = (validation_split(labels, 0.3, seed)[1] for seed in (1, 1, 2))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


def test_a_count_of_rows_is_a_size_too() -> None:
    assert len(validation_split(np.arange(200) % 10, 50, 0)[1]) == 50


def test_zero_trains_on_everything() -> None:
    train, val = validation_split(np.arange(20) % 2, 0, 0)
    assert len(train) == 20
    assert len(val) == 0


@pytest.mark.parametrize("val_size", [-0.1, 1.5, 3, 191, 200, 0.99, float("nan")])
def test_a_size_that_cannot_be_had_is_refused(val_size: float) -> None:
    with pytest.raises(UsageError, match="--val-size"):
        validation_split(np.arange(200) % 10, val_size, 0)


def test_many_classes_of_few_rows_give_one_row_each() -> None:
    labels = np.repeat(np.arange(300), 3)
    train, val = validation_split(labels, 0.3, 0)
    assert np.bincount(labels[val]).tolist() == [1] * 300
    assert np.bincount(labels[train]).tolist() == [2] * 300
    assert "more than 0.3 of them" in plan_splits({"train": labels}, val_size=0.3, seed=0).why
    with pytest.raises(UsageError, match="--val-size 270"):
        validation_split(labels, 270, 0)


def test_classes_of_one_row_cannot_be_held_out() -> None:
    with pytest.raises(UsageError, match="--val-size"):
        validation_split(np.arange(10), 0.3, 0)


@pytest.mark.parametrize(
    ("splits", "val_size", "roles", "why"),
    [
        (("train", "test"), 0.25, ("train", "train", "test"), "25 of the 100 .* scored once"),
        (("train", "val", "test"), 0.3, ("train", "val", "test"), "own val split"),
        (("train", "val"), 0, ("train", "val", None), "own val split.*no test split"),
        (("train",), 0, ("train", None, None), "all 100 training rows"),
    ],
)
def test_the_plan_uses_the_datasets_own_splits_first(
    splits: tuple[str, ...], val_size: float, roles: tuple[str | None, ...], why: str
) -> None:
    labels = {split: np.arange(100) % 5 for split in splits}
    plan = plan_splits(labels, val_size=val_size, seed=0)
    found = [rows and rows.split for rows in (plan.train, plan.val, plan.test)]
    assert tuple(found) == roles
    assert re.search(why, plan.why)


def test_a_head_needs_training_rows() -> None:
    with pytest.raises(UsageError, match="--split train"):
        plan_splits({"test": np.arange(10)}, val_size=0.3, seed=0)


def part(seed: int, name: str, n_classes: int = 6) -> Part:
    X, y = make_features(n_classes=n_classes, seed=seed)
    return Part(X=X, y=y, ids=[f"{name}/{row:05d}" for row in range(len(y))])


def test_applying_a_plan_keeps_rows_labels_and_ids_together() -> None:
    splits = {"train": part(0, "train"), "test": part(1, "test")}
    plan = plan_splits({k: v.y for k, v in splits.items()}, val_size=0.3, seed=42)
    data = plan.apply(splits, "abcdef")
    assert data.val is not None
    assert data.test is splits["test"]
    assert not set(data.train.ids) & set(data.val.ids)
    for one in (data.train, data.val):
        rows = [int(name.split("/")[1]) for name in one.ids]
        assert (splits["train"].X[rows] == one.X).all()
        assert (splits["train"].y[rows] == one.y).all()


def run(name: str, data: HeadData, **params: Any) -> Any:
    head = HEADS[name].load()(**params)
    return run_head(data, head, name=name, source=SOURCE, command="probe head", seed=0)


@pytest.mark.parametrize("name", HEADS)
def test_a_run_scores_each_split_and_its_result_is_json(name: str) -> None:
    data = HeadData(
        train=part(0, "train"), val=part(1, "val"), test=part(2, "test"), classes=tuple("abcdef")
    )
    done = run(name, data)
    assert done.result.n_train == done.result.n_val == done.result.n_test == 300
    by_heart = ["train"] if name != "knn" else []  # its own rows are their nearest neighbours
    assert list(done.result.metrics) == [*by_heart, "val", "test"]
    for split, one in (("train", data.train), ("val", data.val), ("test", data.test)):
        if split not in done.result.metrics:
            continue
        assert one is not None
        figures = done.result.metrics[split]
        measured = {"top1", "top5", "mean_recall", "macro_f1", "macro_auc", "log_loss"}
        scaled = {"calibration_error_scaled"} if split == "test" else set()
        assert set(figures) == measured | {"calibration_error"} | scaled
        assert figures["top1"] == pytest.approx(done.head.score(one.X, one.y))
    assert done.result.per_class.split == "test"
    assert set(done.result.per_class.recall) == set("abcdef")
    assert RunResult.from_dict(json.loads(json.dumps(done.result.to_dict()))) == done.result


def test_splits_that_there_are_not_are_absent_from_the_result() -> None:
    done = run(
        "logistic", HeadData(train=part(0, "train"), val=None, test=None, classes=tuple("abcdef"))
    )
    assert list(done.result.metrics) == ["train"]
    assert (done.result.n_val, done.result.n_test) == (0, 0)
    assert done.result.per_class.split == "train"


def test_test_rows_do_not_move_the_head() -> None:
    train, val = part(0, "train"), part(1, "val")
    with_test = HeadData(train=train, val=val, test=part(2, "test"), classes=tuple("abcdef"))
    without = HeadData(train=train, val=val, test=None, classes=tuple("abcdef"))
    heads = [run("dense", data, epochs=3, random_state=0).head for data in (with_test, without)]
    assert heads[0].coef_.tobytes() == heads[1].coef_.tobytes()


@pytest.mark.parametrize(("name", "penalty"), [("path", "C"), ("ridge", "alpha")])
def test_a_search_chooses_on_validation_refits_and_keeps_the_train_only_head(
    name: str, penalty: str
) -> None:
    candidates = [{penalty: value} for value in default_grid(name)[penalty]]
    data = HeadData(
        train=part(0, "train"), val=part(1, "val"), test=part(2, "test"), classes=tuple("abcdef")
    )
    head, looks = HEADS[name].load()(), []
    done = run_head(
        data, head, name=name, source=SOURCE, command="", seed=0, refit=True,
        search=Search(candidates=candidates), before_test=lambda: looks.append(1) or 7,
    )  # fmt: skip
    assert data.val is not None
    assert data.test is not None
    chosen = done.result.selection
    assert chosen is not None
    assert chosen["chosen"] == done.result.params[penalty]
    own = chosen["top1"][chosen["values"].index(chosen["chosen"])]
    assert own == pytest.approx(done.result.metrics["val"]["top1"], abs=1e-12)
    # within a standard error of the best the log loss decides; unpaired, that is below this
    assert own >= max(chosen["top1"]) - (0.5 / len(data.val)) ** 0.5
    assert done.train_head is not done.head
    both = np.concatenate([data.train.X, data.val.X]), np.concatenate([data.train.y, data.val.y])
    alone = HEADS[name].load()(**{penalty: chosen["chosen"]}).fit(*both)
    assert alone.coef_.tobytes() == done.head.coef_.tobytes()
    assert done.result.metrics["test"]["top1"] == pytest.approx(
        alone.score(data.test.X, data.test.y)
    )
    assert (looks, done.result.test_looks) == ([1], 7)
    assert RunResult.from_dict(json.loads(json.dumps(done.result.to_dict()))) == done.result


def test_a_search_by_folds_needs_no_validation_rows() -> None:
    data = HeadData(train=part(0, "train"), val=None, test=None, classes=tuple("abcdef"))
    folds = fold_split(data.train.y, 3, seed=0)
    done = run_head(
        data, HEADS["path"].load()(), name="path", source=SOURCE, command="", seed=0,
        search=Search(candidates=[{"C": 1e-3}, {"C": 1.0}], folds=folds),
    )  # fmt: skip
    assert done.choice is not None
    assert len(done.choice.heads) == 3
    assert done.result.selection is not None
    assert done.result.selection["by"] == "folds"
    with pytest.raises(UsageError, match="--val-size"):
        run_head(
            data, HEADS["path"].load()(), name="path", source=SOURCE, command="", seed=0,
            search=Search(candidates=[{"C": 1e-3}, {"C": 1.0}]),
        )  # fmt: skip


def test_a_class_without_training_rows_is_scored_as_wrong() -> None:
    whole = part(0, "train")
    train = whole.take(np.flatnonzero(whole.y != 2))
    done = run("logistic", HeadData(train=train, val=None, test=whole, classes=tuple("abcdef")))
    assert done.result.per_class.recall["c"] == 0
    assert (
        "c"
        not in run(
            "logistic", HeadData(train=train, val=None, test=train, classes=tuple("abcdef"))
        ).result.per_class.recall
    )
