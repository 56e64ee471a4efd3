"""The nearest-neighbours head: the vote of the protocol, in bounded memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from probe.errors import HeadError
from probe.evaluation.metrics import top_k_accuracy
from probe.evaluation.statistics import fit_temperature
from probe.heads import KNNHead, knn, load_head, products, save_head
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
    monkeypatch.setattr(products, "QUERY_ROWS", 5)
    monkeypatch.setattr(products, "REFERENCE_ROWS", 23)
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
    assert 0.1 < fit_temperature(np.log(p), truth) < 10


def shuffled(X: np.ndarray, y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows in another order and with other class numbers, and the old number of each."""
    random = np.random.default_rng(seed)
    order, names = random.permutation(len(X)), random.permutation(y.max() + 1)
    return X[order], np.argsort(names)[y[order]], names


@pytest.mark.parametrize("kind", ["copies", "constant", "grid", "noise"])
@pytest.mark.parametrize("k", [1, 2, 5, 20])
def test_votes_know_no_order_of_rows_or_classes(kind: str, k: int) -> None:
    random = np.random.default_rng(0)
    y = random.integers(0, 6, 60)
    X = random.normal(size=(60, 4))
    if kind == "copies":
        X = np.repeat(X[:6], 10, axis=0)
    elif kind == "constant":
        X = np.ones((60, 4))
    elif kind == "grid":
        X = random.integers(-1, 2, (60, 4)).astype(float)
    X = X.astype(np.float32)
    Q = np.concatenate([X[:20], random.normal(size=(20, 4)).astype(np.float32)])
    p = KNNHead(k=k).fit(X, y).predict_proba(Q)
    for seed in range(3):
        moved, renamed, names = shuffled(X, y, seed)
        again = KNNHead(k=k).fit(moved, renamed).predict_proba(Q)
        assert (again[:, np.argsort(names)] == p).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-11)
    if kind == "constant":  # all sixty are the k nearest: shares are those of all rows
        shares = np.bincount(y, minlength=6) / 60
        np.testing.assert_allclose(p[0], (k * shares + 1 / 6) / (k + 1), atol=1e-11)


def test_identical_queries_get_identical_answers_in_any_batch() -> None:
    random = np.random.default_rng(0)
    X, y = random.normal(size=(300, 70)).astype(np.float32), random.integers(0, 5, 300)
    one = random.normal(size=70).astype(np.float32)
    Q = random.normal(size=(700, 70)).astype(np.float32)
    Q[::7] = one
    head = KNNHead(k=7).fit(X, y)
    p = head.predict_proba(Q)
    assert (p[::7] == head.predict_proba(one[None])).all()
    assert (
        p == np.concatenate([head.predict_proba(Q[i : i + 13]) for i in range(0, 700, 13)])
    ).all()


def test_of_equal_shares_the_class_with_the_closest_neighbour_is_the_answer() -> None:
    angles = np.array([0.1, 0.2, 0.2, 0.3])  # from the query: B is closest, then A and A, then B
    X = np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    head = KNNHead(k=4, temperature=1e6).fit(X, np.array([1, 0, 0, 1]))  # votes all but alike
    head.temperature = 1e30  # alike
    assert head.predict(np.array([[1.0, 0.0]], np.float32)).tolist() == [1]
    turned = KNNHead(k=4, temperature=1e30).fit(X, np.array([0, 1, 1, 0]))
    assert turned.predict(np.array([[1.0, 0.0]], np.float32)).tolist() == [0]


def test_few_neighbours_have_a_top_five_of_chance_on_noise() -> None:
    """It was .878 or .241, by the classes' numbers."""
    random = np.random.default_rng(0)
    X, y = random.normal(size=(400, 8)).astype(np.float32), np.arange(400) % 10
    Q, truth = random.normal(size=(2000, 8)).astype(np.float32), random.integers(0, 10, 2000)
    p = KNNHead(k=1).fit(X, y).predict_proba(Q)
    found = top_k_accuracy(p, truth, 5)
    assert found == pytest.approx(0.5, abs=0.02)
    turned = random.permutation(10)
    assert top_k_accuracy(p[:, turned], np.argsort(turned)[truth], 5) == pytest.approx(found)


def test_equal_votes_are_equal_numbers() -> None:
    """Sums in another order are no other shares, so that an area under a curve ranks no noise."""
    X, y = make_features()
    p = KNNHead(k=5, temperature=1.0).fit(X, y).predict_proba(make_features(200, seed=1)[0])
    sure = p[p > 5 / 6]
    assert len(sure) > 20
    assert len(np.unique(sure)) == len(np.unique(sure.round(9)))


def test_a_head_that_was_saved_before_ties_had_a_rule_answers_as_it_did(tmp_path: Path) -> None:
    X, y = np.repeat(make_features()[0][:30], 4, axis=0), np.arange(120) % 4
    head = KNNHead(k=6).fit(X, y)
    head.ties_ = False
    save_head(head, tmp_path / "old.safetensors")
    old = load_head(tmp_path / "old.safetensors")
    assert not old.ties_
    before = expected(X, y, X[:50:4], 6, 0.07)
    assert old.predict_proba(X[:50:4]).max() == pytest.approx(before.max(), abs=0.2)
    head.ties_ = True
    save_head(head, tmp_path / "new.safetensors")
    new = load_head(tmp_path / "new.safetensors")
    assert new.ties_
    assert (new.predict_proba(X) == head.predict_proba(X)).all()
