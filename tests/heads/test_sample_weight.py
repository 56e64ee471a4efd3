"""What each row counts: as in scikit-learn, and as rows that are there so often."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, Ridge

from probe.errors import HeadError
from probe.heads import HEADS, DenseHead, KNNHead, LogisticHead, PathHead, RidgeHead
from probe.heads.prototype import PrototypeHead

RANDOM = np.random.default_rng(0)
WEIGHTED = [name for name in HEADS if HEADS[name].load().takes_weights]


def rows(n: int, width: int, n_classes: int = 3) -> tuple[Any, Any, Any]:
    random = np.random.default_rng([n, width])
    y = np.arange(n) % n_classes
    X = random.normal(0, 1, (n, width)).astype(np.float32)
    X[:, 0] += y
    return X, y, random.choice([0.0, 0.5, 1.0, 3.0], n)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("kind", [PathHead, LogisticHead])
def test_logistic_regression_is_that_of_scikit_learn(kind: Any, n_classes: int) -> None:
    X, y, weights = rows(120, 5, n_classes)
    head = kind(C=0.5, normalize="none").fit(X, y, sample_weight=weights)
    expected = LogisticRegression(C=0.5, tol=1e-10, max_iter=5000)
    expected.fit(X.astype(np.float64), y, weights)
    found, wanted = head.predict_proba(X), expected.predict_proba(X)
    np.testing.assert_allclose(found, wanted, atol=2e-3)
    plain = kind(C=0.5, normalize="none").fit(X, y).predict_proba(X)
    assert np.abs(plain - wanted).max() > 0.02


@pytest.mark.parametrize(("n", "width"), [(90, 6), (30, 50)])
def test_ridge_is_that_of_scikit_learn(n: int, width: int) -> None:
    X, y, weights = rows(n, width)
    head = RidgeHead(alpha=0.1, normalize="none").fit(X, y, sample_weight=weights)
    expected = Ridge(alpha=0.1 * weights.sum()).fit(
        X.astype(np.float64), np.eye(3)[y], sample_weight=weights
    )
    np.testing.assert_allclose(head.coef_, expected.coef_, atol=1e-8)
    np.testing.assert_allclose(head.intercept_, expected.intercept_, atol=1e-8)


@pytest.mark.parametrize("normalize", ["none", "standard"])
@pytest.mark.parametrize("name", WEIGHTED)
def test_a_whole_weight_is_as_many_rows_and_0_is_none(name: str, normalize: Any) -> None:
    """With a normaliser, too: it counts rows as the solver does."""
    X, y, _ = rows(60, 4)
    counts = np.arange(60) // 3 % 4
    times = np.repeat(np.arange(60), counts)
    kind = HEADS[name].load()
    one = kind(normalize=normalize).fit(X, y, sample_weight=counts)
    other = kind(normalize=normalize).fit(X[times], y[times])
    np.testing.assert_allclose(one.predict_proba(X), other.predict_proba(X), atol=1e-3)


@pytest.mark.parametrize("distance", ["lda", "mean"])
def test_prototypes_are_those_of_weighted_means(distance: Any) -> None:
    X, y, weights = rows(90, 4)
    head = PrototypeHead(distance=distance, shrinkage=0, normalize="none")
    head.fit(X, y, sample_weight=weights)
    times = np.repeat(np.arange(90), (2 * weights).astype(int))
    if distance == "lda":
        expected = LinearDiscriminantAnalysis(solver="lsqr").fit(X[times], y[times])
        np.testing.assert_allclose(head.predict_proba(X), expected.predict_proba(X), atol=1e-3)
    means = np.stack([np.average(X[y == c], axis=0, weights=weights[y == c]) for c in range(3)])
    if distance == "mean":
        nearest = ((X[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
        np.testing.assert_array_equal(head.predict(X), nearest)


def test_grids_and_several_labels_take_them_too() -> None:
    X, y, weights = rows(80, 5)
    for kind, name in ((PathHead, "C"), (RidgeHead, "alpha"), (LogisticHead, "C")):
        one = kind(**{name: 0.1}).fit(X, y, sample_weight=weights)
        (grid,) = kind().fit_candidates(X, y, [{name: 0.1}], sample_weight=weights)
        np.testing.assert_allclose(grid.predict_proba(X), one.predict_proba(X), atol=1e-4)
    labels = np.stack([y == 0, y == 1, np.ones(80)], axis=1).astype(int)
    expected = LogisticRegression(C=0.5, tol=1e-10, max_iter=5000)
    expected.fit(X.astype(np.float64), labels[:, 1], weights)
    for several in (PathHead, LogisticHead):
        head = several(C=0.5, normalize="none").fit(X, labels, sample_weight=weights)
        found = head.predict_proba(X)[:, 1]
        np.testing.assert_allclose(found, expected.predict_proba(X)[:, 1], atol=2e-3)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (np.ones(3), "weights of shape"),
        (np.full(60, np.nan), "finite numbers from 0"),
        (np.full(60, -1.0), "finite numbers from 0"),
        (np.where(np.arange(60) % 3 == 1, 0, 1), "class 1 have a weight of zero"),
        (["a"] * 60, "could not convert"),
    ],
)
def test_weights_that_make_no_sense_are_refused(weights: Any, words: str) -> None:
    X, y, _ = rows(60, 4)
    for name in WEIGHTED:
        with pytest.raises(HeadError, match=words):
            HEADS[name].load()().fit(X, y, sample_weight=weights)


def test_heads_that_count_rows_alike_refuse_them_by_name() -> None:
    X, y, weights = rows(60, 4)
    assert set(WEIGHTED) == {"path", "logistic", "ridge", "prototype"}
    for head in (KNNHead(), DenseHead(epochs=1)):
        with pytest.raises(HeadError, match=f"{type(head).__name__} counts all rows alike"):
            head.fit_candidates(X, y, [{}], sample_weight=weights)
