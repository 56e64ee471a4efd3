"""A run on images that may have several labels, from the rows to what it leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from probe.cli.head_figures import show
from probe.errors import HeadError, UsageError
from probe.evaluation.multilabel import best_thresholds
from probe.evaluation.predictions import load_predictions
from probe.heads import load_head
from probe.heads.history import load_history
from probe.runs.fit import HEAD, HeadRequest, fit_head, keep_run, plan_head
from probe.runs.results import read_run
from tests import fakes
from tests.heads.test_several_labels import make

CLASSES = tuple("abcde")


def joined(*splits: str, n_rows: int = 160) -> Any:
    made = {name: make(n_rows, seed=seed) for seed, name in enumerate(splits)}
    return fakes.joined(made, CLASSES)


def run(asked: HeadRequest, data: Any, folder: Path) -> Any:
    (folder / "runs" / "one").mkdir(parents=True)
    done = fit_head(data, asked, plan_head(data, asked), ledger=folder / "ledger")
    keep_run(folder / "runs" / "one", done, CLASSES)
    return done


def test_a_run_leaves_what_it_measured(tmp_path: Path) -> None:
    data = joined("train", "test")
    request = HeadRequest(solver="dense", params={"epochs": 3}, grids={"lr": (1e-2, 1e-1)})
    done = run(request, data, tmp_path)
    folder = tmp_path / "runs" / "one"
    result, head = read_run(folder), load_head(folder / HEAD)
    assert result == done.result
    test, kept = data.splits["test"], load_predictions(folder)
    assert kept["test"].labels.dtype == np.uint8
    np.testing.assert_array_equal(kept["test"].labels, test.labels)
    p = head.predict_proba(test.features)
    np.testing.assert_allclose(kept["test"].probabilities, p, atol=1e-6)
    figures = result.metrics["test"]
    assert "top1" not in figures
    assert figures["map"] == pytest.approx(average_precision_score(test.labels, p))
    assert result.intervals is not None
    low, high = result.intervals["test"]["map"]
    assert low < figures["map"] < high
    assert result.test_looks == 1
    assert result.selection is not None
    assert result.selection["map"][1] > 0.5
    assert "top1" not in result.selection
    assert not {path.name for path in folder.iterdir()} & {"confusion.png"}
    assert (folder / "average_precision.png").stat().st_size > 5000
    assert (folder / "curves.png").stat().st_size > 5000
    assert [epoch.train_top1 for epoch in load_history(folder)] == [None] * 3


def test_thresholds_come_from_validation_rows(tmp_path: Path) -> None:
    data = joined("train", "val", "test")
    result = run(HeadRequest(solver="ridge"), data, tmp_path).result
    kept = load_predictions(tmp_path / "runs" / "one")
    chosen = best_thresholds(kept["val"].probabilities.astype(float), kept["val"].labels)
    of_class = result.multilabel["classes"]
    assert [of_class[name]["threshold"] for name in CLASSES] == pytest.approx(chosen, abs=1e-6)
    given = kept["test"].probabilities >= chosen
    recall = [given[kept["test"].labels[:, i] == 1, i].mean() for i in range(5)]
    assert [result.per_class.recall[name] for name in CLASSES] == pytest.approx(recall)
    assert [of_class[name]["recall"] for name in CLASSES] == pytest.approx(recall)
    assert result.per_class.split == "test"
    assert {"micro_f1_chosen", "macro_f1_chosen"} <= set(result.metrics["test"])


def test_folds_measure_each_row_out_of_fold(tmp_path: Path) -> None:
    data = joined("train")
    request = HeadRequest(solver="ridge", folds=4, grid=True, ensemble="average")
    result = run(request, data, tmp_path).result
    kept = load_predictions(tmp_path / "runs" / "one")["oof"]
    expected = average_precision_score(data.splits["train"].labels, kept.probabilities)
    assert result.metrics["oof"]["map"] == pytest.approx(expected, abs=1e-6)
    assert result.selection["map_error"][0] > 0  # over folds there is a spread


def test_a_class_that_a_split_lacks_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = joined("train", "test")
    data.splits["test"].labels[:, 3] = 0
    done = run(HeadRequest(solver="ridge"), data, tmp_path)
    several = done.result.multilabel
    assert several["without_positives"] == {"test": ["d"]}
    assert several["classes"]["d"]["positives"] == 0
    assert "average_precision" not in several["classes"]["d"]
    show(done, tmp_path / "runs" / "one", CLASSES, cache_dir=tmp_path)
    printed = capsys.readouterr().out
    assert "not in test" in printed
    assert "d: left out of means over labels there" in " ".join(printed.split())
    assert "top-1" not in printed
    assert max(map(len, printed.splitlines()[:20])) <= 80


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    data = joined("train", "test")
    with pytest.raises(UsageError, match="--learning-curve counts images of one label each"):
        fit_head(data, HeadRequest(per_class=(5,)), plan_head(data, HeadRequest()))
    data.splits["train"].labels[:] = 1
    with pytest.raises(HeadError, match="have the same labels"):
        fit_head(data, HeadRequest(), plan_head(data, HeadRequest()))


def test_the_json_reads_back(tmp_path: Path) -> None:
    result = run(HeadRequest(solver="knn"), joined("train", "test"), tmp_path).result
    plain = json.loads(json.dumps(result.to_dict()))
    assert next(iter(plain["metrics"]["test"])) == "map"
    assert type(result).from_dict(plain) == result
