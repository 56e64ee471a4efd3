"""The path solver against scikit-learn, at every C of the grid."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from probe.errors import HeadError
from probe.heads import LogisticHead, PathHead, path
from probe.heads.path import DEFAULT_GRID, fit_path, waves
from tests.heads.data import make_features


def objective(X: Any, y: Any, coef: Any, intercept: Any, C: float) -> float:
    scores = X.astype(float) @ coef.T + intercept
    top = scores.max(axis=1)
    losses = np.log(np.exp(scores - top[:, None]).sum(axis=1)) + top - scores[np.arange(len(y)), y]
    return float(losses.mean()) + (coef**2).sum() / (2 * C * len(y))


@pytest.mark.parametrize(("n_rows", "width", "n_classes"), [(600, 20, 4), (60, 90, 3), (400, 8, 2)])
def test_every_c_of_the_grid_ends_no_higher_than_scikit_learn(
    n_rows: int, width: int, n_classes: int
) -> None:
    X, y = make_features(n_rows, width, n_classes)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    grid = DEFAULT_GRID[::4]
    path = fit_path(X, y, n_classes, grid, tol=1e-10, max_iter=3000)
    for index, C in enumerate(grid):
        peer = LogisticRegression(C=C, max_iter=5000, tol=1e-6).fit(X.astype(float), y)
        coef, intercept = peer.coef_, peer.intercept_
        if n_classes == 2:
            # One row with the penalty C is two opposite rows of half the size.
            coef, intercept = (np.vstack([-0.5 * a, 0.5 * a]) for a in (coef, intercept[:, None]))
            intercept = intercept[:, 0]
        theirs = objective(X, y, coef, intercept, C)
        ours = objective(X, y, path.coef[index], path.intercept[index], C)
        assert ours <= theirs * (1 + 1e-5) + 1e-6
        assert path.objective[index] == pytest.approx(ours, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(("n_rows", "width", "n_classes"), [(400, 100, 5), (200, 300, 4)])
@pytest.mark.parametrize("C", [1e2, 1e4])
def test_a_weak_penalty_is_solved_from_zero_and_in_any_company(
    n_rows: int, width: int, n_classes: int, C: float
) -> None:
    X, y = make_features(n_rows, width, n_classes)
    X = (X - X.mean(axis=0)) / X.std(axis=0) * np.logspace(0, -2, width).astype(np.float32)
    peer = LogisticRegression(C=C, max_iter=50_000, tol=1e-9).fit(X.astype(float), y)
    theirs = objective(X, y, peer.coef_, peer.intercept_, C)
    for grid in ([C], [1e-2, C], [1.0, C, 10 * C]):
        found = fit_path(X, y, n_classes, grid)
        at = grid.index(C)
        assert found.converged[at]
        assert found.objective[at] <= theirs * (1 + 1e-4)
        assert objective(X, y, found.coef[at], found.intercept[at], C) <= theirs * (1 + 1e-4)


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("normalize", ["standard", "l2", "none"])
def test_it_is_the_logistic_head(n_classes: int, normalize: Any) -> None:
    X, y = make_features(n_classes=n_classes)
    peer = LogisticHead(C=0.1, normalize=normalize, max_iter=5000).fit(X, y)
    head = PathHead(C=0.1, normalize=normalize, tol=1e-9, max_iter=2000).fit(X, y)
    np.testing.assert_allclose(head.predict_proba(X), peer.predict_proba(X), atol=2e-3)


def test_a_grid_is_the_heads_one_would_fit_alone() -> None:
    X, y = make_features(600, 20)
    grid = np.logspace(-4, 1, 11).tolist()
    heads = PathHead(tol=1e-9).fit_grid(X, y, grid)
    assert [head.C for head in heads] == grid
    for head in heads:
        alone = PathHead(C=head.C, tol=1e-9).fit(X, y)
        np.testing.assert_allclose(head.predict_proba(X), alone.predict_proba(X), atol=1e-3)


def test_any_order_of_the_grid_gives_the_same_heads() -> None:
    X, y = make_features()
    grid = np.logspace(-4, 1, 11)
    up, down = fit_path(X, y, 4, grid), fit_path(X, y, 4, grid[::-1])
    np.testing.assert_allclose(up.coef, down.coef[::-1], atol=1e-12)


def test_coefficients_and_biases_sum_to_zero_over_the_classes() -> None:
    X, y = make_features()
    path = fit_path(X, y, 4, [1e-3, 1.0])
    np.testing.assert_allclose(path.coef.sum(axis=1), 0, atol=1e-9)
    np.testing.assert_allclose(path.intercept.sum(axis=1), 0, atol=1e-9)


def test_features_far_from_zero_are_centred_on_the_way() -> None:
    X, y = make_features()
    near, far = fit_path(X - X.mean(axis=0), y, 4, [0.1]), fit_path(X + 100, y, 4, [0.1])
    np.testing.assert_allclose(far.coef, near.coef, atol=1e-3)


def test_waves_hold_every_value_once_knots_first() -> None:
    found = waves(np.asarray(DEFAULT_GRID))
    assert sorted(index for wave in found for index in wave) == list(range(45))
    assert found[0] == [0, 4, 8, 12]
    assert waves(np.array([1.0])) == [[0]]


@pytest.mark.parametrize("most", [1, 2, 10])
def test_stopping_early_is_logged(caplog: pytest.LogCaptureFixture, most: int) -> None:
    with caplog.at_level(logging.WARNING):
        PathHead(C=100, max_iter=most).fit(*make_features())
    assert f"not converged after max_iter={most} from C=100" in caplog.text


@pytest.mark.parametrize("C", [[0.0], [1.0, -1.0], [], [float("nan")]])
def test_c_must_be_positive(C: list[float]) -> None:
    with pytest.raises(HeadError, match="C must be"):
        PathHead().fit_grid(*make_features(), C)


def test_few_heads_at_a_time_give_the_same_path(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = np.logspace(-3, 1, 11)
    for most in (1, 3, 5):
        found = waves(grid, most)
        assert sorted(index for wave in found for index in wave) == list(range(11))
        assert max(len(wave) for wave in found) <= most
    X, y = make_features()
    whole = fit_path(X, y, 4, grid, tol=1e-9)
    monkeypatch.setattr(path, "HELD_BYTES", 1)
    alone = fit_path(X, y, 4, grid, tol=1e-9)
    np.testing.assert_allclose(alone.objective, whole.objective, rtol=1e-6)


@pytest.mark.parametrize("C", [1e3, 5.6e4, 1e5])
def test_a_weak_penalty_on_rows_that_are_told_apart_ends_at_the_minimum(C: float) -> None:
    """Fewer rows than features: the loss is some 1e-6 nats a row, and flat."""
    random = np.random.default_rng(0)
    y = random.integers(0, 3, 80)
    X = (random.normal(size=(80, 200)) + 0.3 * random.normal(size=(3, 200))[y]).astype(np.float32)
    rows = X.astype(np.float64)

    def objective(coef: Any, intercept: Any) -> float:
        scores = rows @ (coef - coef.mean(axis=0)).T + intercept
        losses = np.logaddexp.reduce(scores, axis=1) - scores[np.arange(len(y)), y]
        return float(0.5 * ((coef - coef.mean(axis=0)) ** 2).sum() + C * losses.sum())

    head = PathHead(C=C, normalize="none").fit(X, y)
    peer = LogisticRegression(C=C, tol=1e-12, max_iter=20_000).fit(rows, y)
    found, least = (objective(one.coef_.astype(float), one.intercept_) for one in (head, peer))
    assert found < least * 1.001
    (of_grid,) = [one for one in PathHead(normalize="none").fit_grid(X, y, [1.0, C]) if one.C == C]
    assert objective(of_grid.coef_.astype(float), of_grid.intercept_) < least * 1.001
