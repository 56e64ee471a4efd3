"""The dense head: what an epoch is, and what the options do."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from probe.errors import HeadError
from probe.heads import DenseHead, Epoch
from tests.heads.data import make_features


def fit(**params: Any) -> DenseHead:
    return DenseHead(**{"epochs": 5, "batch_size": 64, "random_state": 0, **params}).fit(
        *make_features()
    )


def reference(X: Any, y: Any, head: DenseHead, n_classes: int) -> Any:
    """Mini-batch SGD with momentum and L2 on weights in float64 NumPy, in the head's row order."""
    order = np.random.RandomState(0)
    Z = ((X - X.mean(axis=0, dtype=float)) / X.std(axis=0, dtype=float)).astype(float)
    weight, bias = np.zeros((n_classes, Z.shape[1])), np.zeros(n_classes)
    weight_step, bias_step = np.zeros_like(weight), np.zeros_like(bias)
    for _ in range(head.epochs):
        rows = order.permutation(len(Z))
        for start in range(0, len(rows), head.batch_size):
            batch = rows[start : start + head.batch_size]
            scores = Z[batch] @ weight.T + bias
            p = np.exp(scores - scores.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            p[np.arange(len(batch)), y[batch]] -= 1
            p /= len(batch)  # the last batch is smaller
            weight_step = 0.9 * weight_step - 0.1 * (p.T @ Z[batch] + head.wd * weight)
            bias_step = 0.9 * bias_step - 0.1 * p.sum(axis=0)  # never decayed
            weight, bias = weight + weight_step, bias + bias_step
    return weight, bias


def test_sgd_is_what_the_textbook_says_down_to_the_short_last_batch() -> None:
    X, y = make_features()
    head = fit(optimizer="sgd", lr=0.1, wd=0.3)
    weight, bias = reference(X, y, head, 4)
    np.testing.assert_allclose(head.coef_, weight, atol=1e-5)
    np.testing.assert_allclose(head.intercept_, bias, atol=1e-5)


def test_enough_epochs_of_adam_reach_the_minimum_of_the_cross_entropy() -> None:
    from sklearn.linear_model import LogisticRegression

    X, y = make_features()
    Z = (X - X.mean(axis=0, dtype=float)) / X.std(axis=0, dtype=float)
    best = LogisticRegression(C=1 / (0.05 * len(X)), tol=1e-10, max_iter=5000).fit(Z, y)
    head = fit(epochs=1000, batch_size=300, lr=0.01, wd=0.05)
    np.testing.assert_allclose(head.coef_, best.coef_, atol=1e-5)


def test_wd_shrinks_weights() -> None:
    small, large = (np.abs(fit(epochs=50, lr=0.01, wd=wd).coef_).sum() for wd in (1.0, 0.0))
    assert small < 0.5 * large


def test_another_seed_gives_another_row_order() -> None:
    assert not np.array_equal(fit(random_state=1).coef_, fit().coef_)


@pytest.mark.parametrize("batch_size", [1, 7, 300, 1000])
def test_any_batch_size_learns(batch_size: int) -> None:
    assert fit(batch_size=batch_size, epochs=20, lr=0.01).score(*make_features(seed=1)) > 0.8


def test_the_history_is_what_the_head_would_score_after_each_epoch() -> None:
    X, y = make_features()
    X_val, y_val = make_features(seed=1)
    seen: list[Epoch] = []
    head = DenseHead(epochs=3, random_state=0).fit(
        X, y, validation=(X_val, y_val), on_epoch=seen.append
    )
    assert head.history_ == seen
    assert [epoch.epoch for epoch in seen] == [1, 2, 3]
    for epoch in seen:
        shorter = DenseHead(epochs=epoch.epoch, random_state=0).fit(X, y)
        probabilities = shorter.predict_proba(X_val)
        loss = -np.log(probabilities[np.arange(len(y_val)), y_val]).mean()
        assert epoch.val_top1 == pytest.approx(shorter.score(X_val, y_val))
        assert epoch.val_loss == pytest.approx(loss, rel=1e-5)
        assert epoch.train_top1 == pytest.approx(shorter.score(X, y))


def test_without_validation_nothing_is_made_up() -> None:
    assert all(e.val_loss is None and e.val_top1 is None for e in fit().history_)


def test_a_validation_class_that_training_lacks_counts_as_wrong() -> None:
    X, y = make_features()
    head = DenseHead(epochs=2, random_state=0)
    head.fit(X[y < 3], y[y < 3], validation=(X[y == 3], y[y == 3]))
    assert head.history_[-1].val_top1 == 0
    assert 30 < (head.history_[-1].val_loss or 0) < 40


@pytest.mark.parametrize(
    "params",
    [
        {"epochs": 0}, {"epochs": 1.5}, {"batch_size": 0}, {"lr": 0.0}, {"lr": float("nan")},
        {"wd": -1.0}, {"momentum": 1.0}, {"optimizer": "rmsprop"},
    ],
)  # fmt: skip
def test_a_parameter_out_of_range_is_named(params: dict[str, Any]) -> None:
    with pytest.raises(HeadError, match=next(iter(params))):
        fit(**params)


def test_a_learning_rate_that_overflows_says_so() -> None:
    with pytest.raises(HeadError, match="lower lr"):
        fit(optimizer="sgd", lr=1e38, normalize="none")
    head = DenseHead(epochs=3, optimizer="sgd", normalize="none", random_state=0)
    with pytest.raises(HeadError, match=r"lr=1e\+38"):
        head.fit_grid(*make_features(), [0.1, 1e38])


def test_a_fit_that_diverged_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert fit(optimizer="sgd", lr=1e4).diverged_
    assert "diverged" in caplog.text
    assert "worse than guessing; lower lr=10000" in caplog.text
    assert not fit().diverged_
    assert not fit(sampling="balanced", lr=0.1).diverged_
    assert not fit(class_weight="balanced", lr=0.1).diverged_
    assert fit(sampling="balanced", lr=1e30).diverged_


def test_fitting_says_nothing_on_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    fit()
    assert capfd.readouterr() == ("", "")
