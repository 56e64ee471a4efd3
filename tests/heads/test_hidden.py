"""The dense head beyond one layer: hidden layers, schedules, weights, early stopping."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.errors import HeadError
from probe.heads import DenseHead, load_head, save_head
from probe.heads.schedule import class_weights, epoch_order, step_sizes
from tests.heads.data import make_features


def rings(n_rows: int = 400, seed: int = 0) -> tuple[Any, Any]:
    """Return two classes that no plane divides."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(n_rows, 4)).astype(np.float32)
    return X, (np.linalg.norm(X, axis=1) > 1.8).astype(int)


def test_hidden_layers_learn_what_a_plane_cannot(tmp_path: Path) -> None:
    validation = rings(seed=1)
    linear = DenseHead(epochs=40, lr=0.01, random_state=0).fit(*rings())
    head = DenseHead(epochs=40, lr=0.01, hidden="32,16", random_state=0).fit(*rings())
    assert linear.score(*validation) < 0.7
    assert head.score(*validation) > 0.85
    assert [w.shape for w, _ in head.layers()] == [(32, 4), (16, 32), (2, 16)]
    save_head(head, tmp_path / "head.safetensors")
    loaded = load_head(tmp_path / "head.safetensors")
    assert (
        loaded.predict_proba(validation[0]).tobytes() == head.predict_proba(validation[0]).tobytes()
    )
    assert loaded.get_params() == head.get_params()


def test_hidden_layers_predict_as_they_were_watched_and_the_seed_decides() -> None:
    X, y = rings()
    params = {"epochs": 3, "hidden": "16", "dropout": 0.3, "label_smoothing": 0.1}
    heads = [
        DenseHead(random_state=seed, **params).fit(X, y, validation=(X, y)) for seed in (0, 0, 1)
    ]
    assert heads[0].history_ == heads[1].history_
    assert heads[0].history_ != heads[2].history_
    assert heads[0].coef_.tobytes() == heads[1].coef_.tobytes()
    p = heads[0].predict_proba(X)[np.arange(len(y)), y]
    assert heads[0].history_[-1].val_loss == pytest.approx(-np.log(p).mean(), rel=1e-4)
    assert heads[0].history_[-1].train_loss == pytest.approx(-np.log(p).mean(), rel=1e-4)


@pytest.mark.parametrize("params", [{}, {"schedule": "cosine"}, {"label_smoothing": 0.2}])
def test_both_trainers_take_the_same_steps(
    params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = make_features()
    params = {"lr": 0.02, "batch_size": 32, **params}
    fast = DenseHead(epochs=4, random_state=0, **params).fit(X, y)
    monkeypatch.setattr(DenseHead, "_is_plain", lambda self: False)
    general = DenseHead(epochs=4, random_state=0, **params).fit(X, y)
    np.testing.assert_allclose(general.coef_, fast.coef_, rtol=1e-3, atol=1e-5)
    if len(params) > 2:
        alone = DenseHead(epochs=4, random_state=0, lr=0.02, batch_size=32).fit(X, y)
        assert np.abs(alone.coef_ - general.coef_).max() > 1e-3


@pytest.mark.parametrize(
    "params", [{"schedule": "cosine"}, {"schedule": "step"}, {"label_smoothing": 0.2},
               {"sampling": "balanced"}, {"optimizer": "sgd", "schedule": "cosine"}],
)  # fmt: skip
@pytest.mark.parametrize("n_classes", [2, 4])
def test_many_at_once_take_the_steps_of_each_alone(params: dict[str, Any], n_classes: int) -> None:
    X, y = make_features(n_classes=n_classes)
    X, y = X[(y > 0) | (np.arange(len(y)) % 3 == 0)], y[(y > 0) | (np.arange(len(y)) % 3 == 0)]
    candidates = [
        {"lr": lr, "wd": wd, "random_state": seed}
        for lr in (1e-3, 1e-2) for wd in (0.0, 0.01) for seed in (0, 1)
    ]  # fmt: skip
    heads = DenseHead(epochs=3, **params).fit_candidates(X, y, candidates)
    for one, candidate in zip(heads, candidates, strict=True):
        assert one is not None
        alone = DenseHead(epochs=3, **params, **candidate).fit(X, y)
        gap = np.abs(one.coef_ - alone.coef_).max()
        assert gap < 1e-4 * np.abs(alone.coef_).max()
        np.testing.assert_allclose(one.intercept_, alone.intercept_, atol=1e-4)
        assert one.get_params() == alone.get_params()


def test_patience_keeps_the_best_epoch_and_a_refit_trains_that_long() -> None:
    X, y = make_features(80)
    validation = make_features(200, seed=1)
    watched = DenseHead(epochs=60, lr=0.05, hidden="64", patience=4, random_state=0)
    watched.fit(X, y, validation=validation)
    losses = [epoch.val_loss for epoch in watched.history_]
    assert len(losses) < 60
    assert watched.best_epoch_ == 1 + int(np.argmin(losses)) == len(losses) - 4
    p = watched.predict_proba(validation[0])[np.arange(200), validation[1]]
    assert -np.log(p).mean() == pytest.approx(min(losses), rel=1e-3)
    again = watched.for_refit()
    assert (again.epochs, again.patience) == (watched.best_epoch_, None)
    with pytest.raises(HeadError, match="no"):
        DenseHead(patience=2).fit(X, y)


def test_rare_classes_count_more_with_weights_or_draws() -> None:
    X, y = make_features(4000, n_classes=2)
    X = X + np.random.default_rng(0).normal(scale=6, size=X.shape)  # far from easy
    kept = (y == 0) | (np.arange(len(y)) % 100 == 1)
    recalls = []
    for params in ({}, {"class_weight": "balanced"}, {"sampling": "balanced"}):
        head = DenseHead(epochs=5, random_state=0, **params).fit(X[kept], y[kept])
        recalls.append((head.predict(X[y == 1]) == 1).mean())
    assert recalls[0] < 0.3
    assert min(recalls[1:]) > 0.5
    labels, classes = np.array([0, 0, 0, 1]), np.array(["cat", "dog"])
    assert class_weights("balanced", classes, labels).tolist() == pytest.approx([2 / 3, 2])
    assert class_weights({"dog": 5.0}, classes, labels).tolist() == [1, 5]
    for wrong in ("heavy", {"horse": 1.0}, {"dog": -1.0}):
        with pytest.raises(HeadError, match="class_weight"):
            class_weights(wrong, classes, labels)  # type: ignore[arg-type]
    order = epoch_order(np.random.RandomState(0), np.repeat([0, 1], [900, 100]), "balanced")
    assert len(order) == 1000
    assert 440 < (order >= 900).sum() < 560


def test_schedules_fall_as_they_say() -> None:
    cosine, step = step_sizes("cosine", 100), step_sizes("step", 100)
    assert cosine[[0, 50]].tolist() == pytest.approx([1, 0.5])
    assert (np.diff(cosine) < 0).all()
    assert step[[0, 49, 50, 74, 75, 99]].tolist() == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert set(step_sizes("constant", 7)) == {1.0}
    head = DenseHead(epochs=4, schedule="step", lr=0.5).fit(*make_features())
    assert [epoch.lr for epoch in head.history_] == pytest.approx([0.5, 0.5, 0.05, 0.005])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"optimizer": "adam", "momentum": 0.9}, "momentum is of sgd"),
        ({"hidden": "256,x"}, "hidden must be"), ({"hidden": (0,)}, "hidden must be"),
        ({"dropout": 1.0}, "dropout must be"), ({"label_smoothing": -0.1}, "label_smoothing"),
        ({"schedule": "linear"}, "constant, cosine, step"), ({"patience": 0}, "patience must be"),
        ({"class_weight": "balanced", "sampling": "balanced"}, "do so twice"),
        ({"class_weight": "even"}, "class_weight must be"), ({"sampling": "odd"}, "all, balanced"),
    ],
)  # fmt: skip
def test_parameters_that_make_no_sense_are_named(params: dict[str, Any], message: str) -> None:
    with pytest.raises(HeadError, match=message):
        DenseHead(**params).fit(*make_features())
