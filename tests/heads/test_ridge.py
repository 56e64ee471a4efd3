"""The ridge head against the direct solution and scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier

from probe.errors import HeadError
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
