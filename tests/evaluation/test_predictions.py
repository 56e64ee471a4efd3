"""What a run keeps of each row it was not trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.core.columns import Column
from probe.errors import DataError
from probe.evaluation.predictions import FILE_NAME, Predictions, load_predictions, save_predictions


def some(n_rows: int) -> Predictions:
    rng = np.random.default_rng(n_rows)
    return Predictions(
        ids=np.array([f"cat/é {i}.jpg" for i in range(n_rows)]),
        labels=rng.integers(0, 3, n_rows),
        probabilities=rng.dirichlet(np.ones(3), n_rows).astype(np.float32),
    )


def test_they_read_back_exactly(tmp_path: Path) -> None:
    splits = {"val": some(7), "test": some(3)}
    save_predictions(tmp_path, splits)
    found = load_predictions(tmp_path)
    assert sorted(found) == ["test", "val"]
    for name, one in splits.items():
        assert found[name].ids.tolist() == one.ids.tolist()
        assert np.array_equal(found[name].labels, one.labels)
        assert np.array_equal(found[name].probabilities, one.probabilities)


@pytest.mark.parametrize("logits", [False, True])
def test_columns_of_the_table_read_back_and_follow_repeats(tmp_path: Path, logits: bool) -> None:
    cells = {"site": ["zoë", "", 'a "b"\n'] * 4, "age": [str(row) for row in range(12)]}
    columns = {name: Column.of(own) for name, own in cells.items()}
    one = replace(some(12), columns=columns, repeats=3 if logits else 1)
    if logits:
        one = replace(one, logits=np.log(one.probabilities.astype(np.float64)))
    save_predictions(tmp_path, {"oof": one, "test": some(3)})
    found = load_predictions(tmp_path)
    assert found["oof"].columns == cells
    assert found["test"].columns == {}
    assert found["oof"].first().columns == {
        name: own[: 4 if logits else 12] for name, own in cells.items()
    }


@pytest.mark.parametrize(
    "arrays",
    [
        {"val_columns": np.zeros((1, 6), np.uint32)},
        {"val_columns": np.ones((1, 7), np.uint32)},
        {"val_columns": np.zeros((1, 7), np.int64)},
        {"val_column_values": np.frombuffer(b"[]", np.uint8)},
        {"val_column_values": np.array("x")},
    ],
)
def test_columns_of_something_else_are_refused(tmp_path: Path, arrays: dict[str, Any]) -> None:
    save_predictions(tmp_path, {"val": replace(some(7), columns={"site": Column.of(["x"] * 7)})})
    with np.load(tmp_path / FILE_NAME) as file:
        changed = {**file, **arrays}
    np.savez(tmp_path / FILE_NAME, **changed)
    with pytest.raises(DataError, match=r"predictions\.npz: damaged") as caught:
        load_predictions(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_run_without_them_has_none(tmp_path: Path) -> None:
    assert load_predictions(tmp_path) == {}


@pytest.mark.parametrize("keep", [0, 10, 200])
def test_a_cut_file_is_refused(tmp_path: Path, keep: int) -> None:
    save_predictions(tmp_path, {"val": some(7)})
    path = tmp_path / FILE_NAME
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"predictions\.npz: damaged"):
        load_predictions(tmp_path)


def test_arrays_of_different_lengths_are_refused(tmp_path: Path) -> None:
    one = some(7)
    save_predictions(
        tmp_path,
        {"val": Predictions(ids=one.ids[:5], labels=one.labels, probabilities=one.probabilities)},
    )
    with pytest.raises(DataError, match="different lengths"):
        load_predictions(tmp_path)


@pytest.mark.parametrize("labels", [[0, 1], [[0, 1], [1, 0]]], ids=["one label", "several"])
def test_probabilities_that_float32_rounded_have_finite_scores(labels: list[object]) -> None:
    older = Predictions(
        ids=np.array(["a", "b"]), labels=np.array(labels),
        probabilities=np.array([[1, 0], [0, 1]], np.float32),
    )  # fmt: skip
    assert np.isfinite(older.scores).all()
