"""Each score against the same figure found by another way."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.covariance import ledoit_wolf

from probe.bench.transferability import h_score, knn_score, leep, logme, nce
from probe.errors import UsageError
from tests.heads.data import make_features


def best_evidence(X: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    """Maximise the density of the marginal Gaussian itself, with a general optimiser."""
    n = len(X)

    def loss(logs: NDArray[np.float64]) -> float:
        alpha, beta = np.exp(np.clip(logs, -12, 12))
        covariance = np.eye(n) / beta + X @ X.T / alpha
        return -float(multivariate_normal(np.zeros(n), covariance).logpdf(target)) / n

    starts = [(-2.0, 2.0), (2.0, 2.0), (5.0, 0.0)]
    return max(-minimize(loss, start, method="Nelder-Mead",
                         options={"xatol": 1e-7, "fatol": 1e-11, "maxiter": 4000}).fun
               for start in starts)  # fmt: skip


@pytest.mark.parametrize("width", [6, 60])  # fewer and more features than rows
def test_logme_is_the_maximum_of_the_marginal_likelihood(width: int) -> None:
    X, y = make_features(40, width=width, n_classes=3)
    wide = X.astype(np.float64)
    wanted = np.mean([best_evidence(wide, (y == label).astype(np.float64)) for label in range(3)])
    assert logme(X, y) == pytest.approx(wanted, abs=1e-5)


def test_h_score_is_the_sum_of_squared_canonical_correlations() -> None:
    X, y = make_features(300, width=12)
    centred = X.astype(np.float64) - X.mean(axis=0)
    targets = np.eye(4)[y] - np.eye(4)[y].mean(axis=0)
    left, _ = np.linalg.qr(centred)
    right = np.linalg.svd(targets, full_matrices=False)[0][:, :3]
    correlations = np.linalg.svd(left.T @ right, compute_uv=False)
    assert h_score(X, y) == pytest.approx(float(np.sum(correlations**2)), rel=1e-6)


def test_the_shrunk_h_score_shrinks_as_scikit_learn_does() -> None:
    X, y = make_features(60, width=30)
    covariance, amount = ledoit_wolf(X.astype(np.float64))
    between = sum(
        (y == c).mean() * np.outer(X[y == c].mean(0) - X.mean(0), X[y == c].mean(0) - X.mean(0))
        for c in range(4)
    )
    wanted = (1 - amount) * np.trace(np.linalg.inv(covariance) @ between)
    assert h_score(X, y, shrink=True) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("rows", [30, 60])  # as many as features, too
def test_of_few_rows_the_h_score_has_the_pseudoinverse(rows: int) -> None:
    X, y = make_features(rows, width=60)
    X[1] = X[0]  # one direction less
    wide = X.astype(np.float64)
    targets = np.eye(4)[y]
    means = targets @ np.linalg.solve(targets.T @ targets, targets.T @ wide)  # each row's class's
    inverse = np.linalg.pinv(np.cov(wide.T, bias=True), rcond=1e-12, hermitian=True)
    wanted = np.trace(inverse @ np.cov(means.T, bias=True))
    assert h_score(X, y) == pytest.approx(wanted, rel=1e-6)


def test_with_fewer_rows_than_features_only_the_shrunk_h_score_tells_signal_from_noise() -> None:
    X, y = make_features(40, width=100)
    noise = np.random.default_rng(0).normal(size=X.shape).astype(np.float32)
    assert h_score(X, y) == pytest.approx(h_score(noise, y), abs=1e-3)  # both as high as can be
    assert h_score(X, y, shrink=True) > 2 * h_score(noise, y, shrink=True)


def test_nce_by_hand() -> None:
    """Source 0 leaves the labels open (two of each), source 1 settles them."""
    y, source = np.array([0, 1, 0, 1, 1, 1, 1, 1]), np.array([0, 0, 0, 0, 1, 1, 1, 1])
    assert nce(source, y) == pytest.approx(-0.5 * np.log(2))


def test_leep_by_hand() -> None:
    """P(y|z) from the columns' sums: z0 holds 1.2 of y0 and .2 of y1, z1 .8 and .8."""
    p, y = np.array([[0.9, 0.1], [0.3, 0.7], [0.2, 0.8]]), np.array([0, 0, 1])
    given = np.array([[1.2 / 1.4, 0.8 / 1.6], [0.2 / 1.4, 0.8 / 1.6]])
    own = [0.9 * given[0, 0] + 0.1 * given[0, 1], 0.3 * given[0, 0] + 0.7 * given[0, 1],
           0.2 * given[1, 0] + 0.8 * given[1, 1]]  # fmt: skip
    assert leep(p, y) == pytest.approx(float(np.mean(np.log(own))))


def test_leep_of_a_source_that_is_sure_is_nce() -> None:
    random = np.random.default_rng(3)
    source, y = random.integers(0, 5, 200), random.integers(0, 3, 200)
    assert leep(np.eye(5)[source], y) == pytest.approx(nce(source, y))


def test_knn_is_brute_force_leaving_one_out() -> None:
    X, y = make_features(120, width=8)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    right = 0
    for row in range(len(X)):
        near = [i for i in np.argsort(-(unit @ unit[row]), kind="stable") if i != row][:5]
        votes = np.bincount(y[near], minlength=4)
        leaders = np.flatnonzero(votes == votes.max())
        close = [sum(float(unit[i] @ unit[row]) for i in near if y[i] == c) for c in leaders]
        right += leaders[int(np.argmax(close))] == y[row]
    assert knn_score(X, y) == pytest.approx(right / len(X))


def test_knn_leaves_rows_that_belong_together_out_together() -> None:
    X, y = make_features(60, width=8)
    copied, labels = np.repeat(X, 6, axis=0), np.repeat(y, 6)
    units = np.repeat(np.arange(60), 6)
    assert knn_score(copied, labels) == 1  # five copies each
    right = 0
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    for row in range(60):  # the nearest other picture has all five votes
        near = [i for i in np.argsort(-(unit @ unit[row]), kind="stable") if i != row]
        right += y[near[0]] == y[row]
    assert knn_score(copied, labels, units=units) == pytest.approx(right / 60)
    assert knn_score(X, y, units=np.arange(60)) == knn_score(X, y)
    assert knn_score(X, y, units=np.zeros(60, int)) == pytest.approx((y == y.min()).mean())


def test_every_score_prefers_features_that_know_the_classes() -> None:
    X, y = make_features(300, width=12)
    noise = np.random.default_rng(0).permutation(X)
    for score in (logme, h_score, knn_score):
        assert score(X, y) > score(noise, y)


def test_one_class_is_refused() -> None:
    with pytest.raises(UsageError, match="one class alone"):
        logme(np.ones((4, 2)), np.zeros(4, int))


@pytest.mark.filterwarnings("error")
def test_logme_says_where_its_evidence_has_no_maximum() -> None:
    """The label as a column; or fewer rows than features, one of them twice."""
    random = np.random.default_rng(0)
    y = np.arange(30) % 3
    wide = random.normal(size=(30, 64)).astype(np.float32)
    assert np.isfinite(logme(wide, y))  # every label can be had, but all rows are spanned
    wide[3] = wide[0]  # the same image of the same class
    assert logme(wide, y) == np.inf
    narrow = random.normal(size=(30, 4))
    narrow[:, 1] = y == 2
    assert logme(narrow, y) == np.inf
    assert np.isfinite(logme(np.delete(narrow, 1, axis=1), y))


@pytest.mark.filterwarnings("error")
def test_logme_of_features_that_say_nothing_is_the_density_of_the_noise() -> None:
    """0s: each indicator is noise around 0, whose likeliest variance is its mean square."""
    y = np.arange(20) % 2
    assert logme(np.zeros((20, 5)), y) == pytest.approx(-0.5 * (np.log(2 * np.pi * 0.5) + 1))
