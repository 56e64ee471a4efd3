"""From what was asked for to a run: searches, folds, groups, and the look that is counted."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from probe.errors import UsageError
from probe.heads import load_head
from probe.runs import FOLD_HEAD, HEAD, TRAIN_HEAD, HeadRequest, fit_head, keep_run, plan_head
from tests.heads.data import make_features

CLASSES = tuple("abcd")


def joined(*splits: str) -> Any:
    """Return what `join` gives, of features made here."""

    class Split(SimpleNamespace):
        def __len__(self) -> int:
            return len(self.labels)

    made = {}
    for seed, name in enumerate(splits):
        X, y = make_features(160, seed=seed)
        content = np.random.default_rng(seed).integers(0, 256, (160, 16), dtype=np.uint8)
        ids = [f"{name}/{row:05d}" for row in range(160)]
        made[name] = Split(features=X, labels=y.astype(np.int32), ids=ids, content=content)
    key = SimpleNamespace(backbone="vgg16", layer="pool5", pool="avg")
    entry = SimpleNamespace(name="e", dataset="d", key=key, provenance={}, classes=CLASSES)
    return SimpleNamespace(entry=entry, splits=made)


def run(asked: HeadRequest, data: Any, folder: Path) -> Any:
    done = fit_head(data, asked, plan_head(data, asked), ledger=folder / "ledger")
    keep_run(folder / "run", done, CLASSES)
    return done


def test_a_search_keeps_the_train_only_head_beside_the_refit_one(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    done = run(HeadRequest(solver="path", grid=True), joined("train", "test"), tmp_path)
    final, train_only = (load_head(tmp_path / "run" / name) for name in (HEAD, TRAIN_HEAD))
    assert final.get_params() == train_only.get_params()
    assert final.coef_.tobytes() != train_only.coef_.tobytes()
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["selection"]["refit"] is True
    assert result["selection"]["chosen"] == result["params"]["C"]
    low, high = result["intervals"]["test"]["top1"]
    assert low <= result["metrics"]["test"]["top1"] <= high
    assert done.result.test_looks == result["test_looks"] == 1


def test_each_run_is_a_look_at_the_test_rows_and_without_such_rows_there_is_none(
    tmp_path: Path,
) -> None:
    (tmp_path / "run").mkdir()
    asked = HeadRequest(solver="ridge")
    looks = [run(asked, joined("train", "test"), tmp_path).result.test_looks for _ in range(3)]
    assert looks == [1, 2, 3]
    assert run(asked, joined("train"), tmp_path).result.test_looks is None


def test_folds_train_on_all_rows_and_their_heads_are_kept(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    asked = HeadRequest(solver="ridge", grid=True, folds=3, repeats=2)
    done = run(asked, joined("train"), tmp_path)
    assert (done.result.n_train, done.result.n_val) == (160, 0)
    assert done.result.selection["fits"] == 6
    assert done.result.selection["refit"] is False
    kept = [load_head(tmp_path / "run" / FOLD_HEAD.format(n)) for n in range(1, 7)]
    assert len({head.coef_.tobytes() for head in kept}) == 6


def test_rows_of_one_group_are_held_out_together(tmp_path: Path) -> None:
    data = joined("train")
    train = plan_head(data, HeadRequest(folds=2)).apply(
        {"train": SimpleNamespace(y=data.splits["train"].labels, ids=data.splits["train"].ids)},
        CLASSES,
    ).train  # fmt: skip
    groups = {one: str(row // 8) for row, one in enumerate(train.ids)}
    search = HeadRequest(solver="ridge", grid=True, folds=4, groups=groups).search(train)
    assert search is not None
    for rows, held_out in search.folds or ():
        assert not set(rows // 8) & set(held_out // 8)
    with pytest.raises(UsageError, match="159 rows have no group; first 'train/00001'"):
        HeadRequest(solver="ridge", grid=True, folds=4, groups={train.ids[0]: "a"}).search(train)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (HeadRequest(solver="ridge", folds=3), "--alpha grid"),
        (HeadRequest(solver="ridge", grid=True, groups={}), "add --folds"),
        (HeadRequest(solver="prototype", grid=True), "has no grid"),
        (HeadRequest(solver="ridge", grid=True, folds=100), "--folds 100"),
        (HeadRequest(solver="ridge", grid=True, val_size=0), "--val-size"),
    ],
)
def test_what_makes_no_sense_is_said(asked: HeadRequest, message: str) -> None:
    data = joined("train")
    with pytest.raises(UsageError, match=message):
        fit_head(data, asked, plan_head(data, asked))
