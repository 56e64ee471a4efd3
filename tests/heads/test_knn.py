"""The nearest-neighbours head: the vote of the protocol, in bounded memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from probe.errors import HeadError
from probe.heads import KNNHead, knn, load_head, save_head, tiles
from probe.statistics import fit_temperature
from tests.heads.data import make_features


def expected(X: np.ndarray, y: np.ndarray, Q: np.ndarray, k: int, T: float) -> np.ndarray:
    """Return the vote as it is written down, in float64 and one piece, and one more vote."""
    a = Q / np.linalg.norm(Q, axis=1, keepdims=True)
    b = X / np.linalg.norm(X, axis=1, keepdims=True)
    cosine = a.astype(np.float64) @ b.T.astype(np.float64)
    p = np.zeros((len(Q), y.max() + 1))
    for row, near in enumerate(np.argsort(-cosine, axis=1)[:, :k]):
        for one in near:
            p[row, y[one]] += np.exp(cosine[row, one] / T)
    p /= p.sum(axis=1, keepdims=True)
    return (k * p + 1 / p.shape[1]) / (k + 1)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (20, 0.07), (20, 5.0), (1000, 0.5)])
def test_the_vote_is_that_of_the_protocol(k: int, temperature: float) -> None:
    X, y = make_features()
    Q, _ = make_features(120, seed=1)
    head = KNNHead(k=k, temperature=temperature).fit(X, y)
    np.testing.assert_allclose(
        head.predict_proba(Q), expected(X, y, Q, min(k, 300), temperature), atol=2e-5
    )


def test_blocks_of_any_size_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = make_features()
    Q, _ = make_features(100, seed=1)
    whole = KNNHead(k=30).fit(X, y).predict_proba(Q)
    monkeypatch.setattr(knn, "QUERY_BYTES", 4 * 12 * 17)
    monkeypatch.setattr(tiles, "QUERY_ROWS", 5)
    monkeypatch.setattr(tiles, "REFERENCE_ROWS", 23)
    np.testing.assert_allclose(KNNHead(k=30).fit(X, y).predict_proba(Q), whole, atol=1e-6)


def test_an_image_is_its_own_nearest_neighbour_whatever_its_length() -> None:
    X, y = make_features()
    stretched = X * np.linspace(0.1, 10, len(X), dtype=np.float32)[:, None]
    assert KNNHead(k=1).fit(X, y).score(stretched, y) == 1


def test_standardised_rows_are_compared_from_their_mean() -> None:
    X, y = make_features()
    far = X + 1000  # all directions are alike, seen from zero
    validation = make_features(seed=1)[0] + 1000, y
    assert KNNHead(normalize="standard").fit(far, y).score(*validation) > 0.75
    near = KNNHead(normalize="standard").fit(X, y).predict_proba(X)
    np.testing.assert_allclose(
        KNNHead(normalize="standard").fit(far, y).predict_proba(far), near, atol=0.02
    )


@pytest.mark.parametrize(
    ("params", "message"),
    [({"k": 0}, "k must be"), ({"k": 1.5}, "k must be"), ({"temperature": 0}, "temperature")],
)
def test_parameters_that_make_no_sense_are_named(params: dict[str, float], message: str) -> None:
    with pytest.raises(HeadError, match=message):
        KNNHead(**params).fit(*make_features())


def test_a_saved_head_whose_arrays_contradict_each_other_is_refused(tmp_path: Path) -> None:
    head = KNNHead().fit(*make_features())
    head.targets_ = head.targets_ + 7
    save_head(head, tmp_path / "head.safetensors")
    with pytest.raises(HeadError, match="targets"):
        load_head(tmp_path / "head.safetensors")


def test_one_temperature_fits_votes_that_were_all_for_one_class() -> None:
    """A class without a neighbour has a little probability left, so that logits are numbers."""
    X, y = make_features()
    Q, truth = make_features(200, seed=1)
    p = KNNHead(k=3).fit(X, y).predict_proba(Q)
    assert p.min() >= 1 / (4 * p.shape[1]) - 1e-12
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert 0.1 < fit_temperature(p, truth) < 10
