"""The ridge head against the direct solution and scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier

from probe.errors import HeadError
from probe.evaluation.parts import Part
from probe.evaluation.splitting import fold_split
from probe.heads import RidgeHead, normalize
from probe.heads.normalize import fit_normalizer
from probe.heads.ridge import ridge_path
from tests.heads.data import make_features


@pytest.mark.parametrize(("n_rows", "width"), [(300, 12), (40, 70), (50, 50)])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_every_alpha_is_the_direct_solution(n_rows: int, width: int, offset: float) -> None:
    X, y = make_features(n_rows, width)
    X, Y = X.astype(float) + offset, np.eye(4)[y]
    alphas = [1e-4, 0.1, 10.0]
    coef, intercept = ridge_path(X, Y, alphas, fit_normalizer("none", X))
    Z = X - X.mean(axis=0)
    for index, alpha in enumerate(alphas):
        penalised = Z.T @ Z / n_rows + alpha * np.eye(width)
        direct = np.linalg.solve(penalised, Z.T @ (Y - Y.mean(axis=0)) / n_rows).T
        np.testing.assert_allclose(coef[index], direct, rtol=1e-6, atol=1e-9)
        fitted = X @ coef[index].T + intercept[index]
        np.testing.assert_allclose(fitted.mean(axis=0), Y.mean(axis=0), atol=1e-7)


def test_blocks_give_the_solution_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = make_features()
    whole = RidgeHead().fit(X, y).coef_
    monkeypatch.setattr(normalize, "BLOCK_BYTES", 8 * 12 * 7)
    np.testing.assert_allclose(RidgeHead().fit(X, y).coef_, whole, rtol=1e-9)


def test_it_predicts_what_scikit_learns_classifier_does() -> None:
    X, y = make_features(n_classes=3)
    Z = (X - X.mean(axis=0, dtype=float)) / X.std(axis=0, dtype=float)
    peer = RidgeClassifier(alpha=0.5 * len(X)).fit(Z, y)
    head = RidgeHead(alpha=0.5).fit(X, y)
    assert (head.predict(X) == peer.predict(Z)).mean() > 0.995
    np.testing.assert_allclose(2 * head.coef_, peer.coef_, atol=1e-5)  # their targets are -1 and 1


def test_a_grid_is_the_heads_one_would_fit_alone() -> None:
    X, y = make_features()
    for head in RidgeHead().fit_grid(X, y, [0.01, 1.0]):
        alone = RidgeHead(alpha=head.alpha).fit(X, y)
        np.testing.assert_allclose(head.coef_, alone.coef_, rtol=1e-12)


def test_alpha_must_be_positive() -> None:
    with pytest.raises(HeadError, match="alpha must be"):
        RidgeHead(alpha=0).fit(*make_features())
    with pytest.raises(HeadError, match="alpha must be"):
        RidgeHead().fit_grid(*make_features(), [1.0, 0.0])


@pytest.mark.parametrize("normalize", ["standard", "l2", "none"])
@pytest.mark.parametrize("views", [1, 2])
def test_folds_by_subtraction_are_those_fitted_alone(normalize: str, views: int) -> None:
    X, y = make_features(240)
    X = np.column_stack([X, np.full(len(X), 3.3), np.where(np.arange(len(X)) == 5, 1e3, 0)])
    X = X.astype(np.float32) + 50  # far from zero; the last feature varies in one row alone
    rows = np.repeat(X, views, axis=0)
    train = Part(X=rows, y=y, ids=[str(i) for i in range(240)], views=views)
    folds = fold_split(y, 3, seed=0)
    candidates = [{"alpha": alpha} for alpha in (1e-3, 0.1, 10.0)]
    fitted = RidgeHead(normalize=normalize).fit_folds(train, folds, candidates)
    assert fitted is not None
    for heads, (inside, held_out) in zip(fitted, folds, strict=True):
        for head, candidate in zip(heads, candidates, strict=True):
            alone = RidgeHead(normalize=normalize, **candidate).fit(*train.take(inside).xy())
            assert head is not None
            assert head.get_params() == alone.get_params()
            clean = held_out[held_out != 5]
            np.testing.assert_allclose(
                head.predict_proba(X[clean]), alone.predict_proba(X[clean]), atol=1e-7
            )


def test_folds_with_fewer_rows_than_features_are_fitted_one_by_one() -> None:
    X, y = make_features(30, width=40)
    train = Part(X=X, y=y, ids=[str(i) for i in range(30)])
    folds = fold_split(y, 3, seed=0)
    assert RidgeHead().fit_folds(train, folds, [{"alpha": 0.1}]) is None
