"""Rows that stay in their file: every head learns from them what it learns from an array."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.errors import HeadError
from probe.evaluation.parts import Part
from probe.evaluation.streaming import StreamedRows
from probe.heads import HEADS, HeadSpec, load_head, products, save_head
from tests.heads.data import make_features


class Source:
    """Rows in an array, which counts how many it gave at most."""

    def __init__(self, features: Any) -> None:
        self.features, self.most = features, 0

    def __len__(self) -> int:
        return len(self.features)

    def rows(self, index: Any) -> Any:
        self.most = max(self.most, len(index))
        return self.features[index]


def streamed(features: Any, views: int = 1) -> StreamedRows:
    width = features.size // len(features) // views
    images = np.arange(len(features))
    return StreamedRows(
        source=Source(features), images=images, views=views, width=width, dtype=features.dtype
    )


STREAMING = [spec for spec in HEADS.values() if spec.streams]
PARAMS: dict[str, dict[str, Any]] = {
    "dense": {"epochs": 3, "random_state": 0},
    "path": {"tol": 1e-9},
}


@pytest.mark.parametrize("spec", STREAMING, ids=[spec.name for spec in STREAMING])
@pytest.mark.parametrize("normalize", ["standard", "l2", "none"])
def test_a_head_learns_the_same_from_rows_that_stay_in_their_file(
    spec: HeadSpec, normalize: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "ROWS", 64)
    X, y = make_features()
    Q, labels = make_features(100, seed=1)
    params = {"normalize": normalize, **PARAMS.get(spec.name, {})}
    whole = spec.load()(**params).fit(X, y)
    head = spec.load()(**params).fit(streamed(X), y, validation=(streamed(Q), labels))
    np.testing.assert_allclose(head.predict_proba(Q), whole.predict_proba(Q), atol=2e-4)
    np.testing.assert_allclose(head.predict_proba(streamed(Q)), head.predict_proba(Q), atol=1e-12)
    save_head(head, tmp_path / "head.safetensors")
    loaded = load_head(tmp_path / "head.safetensors")
    np.testing.assert_allclose(loaded.predict_proba(Q), head.predict_proba(Q), atol=1e-6)


@pytest.mark.parametrize("spec", STREAMING, ids=[spec.name for spec in STREAMING])
def test_bad_rows_in_the_file_are_named(spec: HeadSpec) -> None:
    X, y = make_features()
    X[7, 3] = np.nan
    with pytest.raises(HeadError, match="NaN"):
        spec.load()(**PARAMS.get(spec.name, {})).fit(streamed(X), y)
    with pytest.raises(HeadError, match="labels of shape"):
        spec.load()().fit(streamed(X), y[:3])


def test_scikit_learns_solver_says_that_it_cannot() -> None:
    X, y = make_features()
    with pytest.raises(HeadError, match="path is the same"):
        HEADS["logistic"].load()().fit(streamed(X), y)


def test_rows_are_read_by_slice_number_view_and_part() -> None:
    features = np.arange(7 * 2 * 3, dtype=np.float32).reshape(7, 2, 3)
    rows = streamed(features, views=2)
    flat = features.reshape(14, 3)
    assert rows.shape == (14, 3)
    assert (rows[3:9] == flat[3:9]).all()
    assert (rows[::2] == features[:, 0]).all()
    assert (rows[np.array([13, 0, 0])] == flat[[13, 0, 0]]).all()
    part = Part(X=rows, y=np.arange(7), ids=list("abcdefg"), views=2)
    some, others = part.take(np.array([5, 1])), part.take(np.array([0]))
    assert (some.X[:] == features[[5, 1]].reshape(4, 3)).all()
    assert (some.joined(others).X[:] == features[[5, 1, 0]].reshape(6, 3)).all()
    elsewhere = Part(X=streamed(features + 100, 2), y=np.arange(7), ids=list("abcdefg"), views=2)
    both = some.joined(elsewhere)
    assert (both.X[:] == np.concatenate([features[[5, 1]], features + 100]).reshape(-1, 3)).all()
    assert both.ids == ["f", "b", *"abcdefg"]
