"""The dense head without MXNet: NumPy takes the steps that Gluon takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from probe.heads import DenseHead
from tests.heads.data import make_features
from tests.needs import needs_mxnet

OPTIONS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "decay": {"wd": 0.05},
    "cosine": {"schedule": "cosine", "lr": 0.02},
    "sgd": {"optimizer": "sgd", "lr": 0.05, "wd": 0.01},
    "no momentum": {"optimizer": "sgd", "momentum": 0.0, "lr": 0.05},
    "smoothing": {"label_smoothing": 0.2},
    "dropout of features": {"dropout": 0.3},
    "weights": {"class_weight": {0: 5.0}, "label_smoothing": 0.1},
    "balanced draws": {"sampling": "balanced"},
    "hidden": {"hidden": "32,16", "wd": 0.01},
    "all of it": {"hidden": "32", "dropout": 0.4, "class_weight": {1: 5.0}, "patience": 3},
}


def both(
    monkeypatch: pytest.MonkeyPatch, params: dict[str, Any], X: Any, y: Any
) -> list[DenseHead]:
    """Return the head as Gluon and as NumPy fit it."""
    heads = []
    for installed in (True, False):
        monkeypatch.setattr(
            "probe.heads.dense.engine_is_installed", lambda name, found=installed: found
        )
        head = DenseHead(**{"epochs": 8, "batch_size": 64, "random_state": 0, **params})
        heads.append(head.fit(X, y, validation=(X, y)))
    return heads


def assert_agree(gluon: DenseHead, plain: DenseHead) -> None:
    for (weight, bias), (own_weight, own_bias) in zip(gluon.layers(), plain.layers(), strict=True):
        assert own_weight.dtype == weight.dtype == np.float32
        largest = np.abs(weight).max()
        assert np.abs(own_weight - weight).max() < 1e-5 * largest
        assert np.abs(own_bias - bias).max() < 1e-5 * largest
    assert len(plain.history_) == len(gluon.history_)
    for one, other in zip(gluon.history_, plain.history_, strict=True):
        assert other.train_loss == pytest.approx(one.train_loss, rel=1e-4)
        assert other.val_loss == pytest.approx(one.val_loss, rel=1e-4)
        assert other.val_top1 == one.val_top1


@needs_mxnet
@pytest.mark.parametrize("params", OPTIONS.values(), ids=OPTIONS)
def test_numpy_takes_the_steps_that_gluon_takes(
    params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = make_features()
    # where classes weigh alike the first gradient of a bias is rounding, which Adam magnifies
    kept = (y > 0) | (np.arange(len(y)) % 3 == 0)
    assert_agree(*both(monkeypatch, params, X[kept], y[kept]))


@needs_mxnet
@pytest.mark.parametrize(
    "params",
    [{}, {"hidden": "16", "dropout": 0.2}, {"class_weight": "balanced", "label_smoothing": 0.1}],
)
def test_and_with_several_labels_a_row(
    params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = make_features()
    several = np.stack([y == 0, y != 1, X[:, 0] > 1], axis=1).astype(int)
    assert_agree(*both(monkeypatch, params, X, several))
