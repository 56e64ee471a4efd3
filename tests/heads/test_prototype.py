"""The prototype head against scikit-learn's discriminant analysis and nearest centroid."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import NearestCentroid

from probe.errors import HeadError
from probe.heads import PrototypeHead
from tests.heads.data import make_features


@pytest.mark.parametrize("shrinkage", [0.0, 0.3])
def test_lda_is_scikit_learns(shrinkage: float) -> None:
    X, y = make_features()
    keep = np.flatnonzero((y != 2) | (np.arange(len(y)) % 3 == 0))  # classes of unequal size
    X, y = X[keep].astype(float), y[keep]
    peer = LinearDiscriminantAnalysis(solver="lsqr").fit(X, y)
    head = PrototypeHead(shrinkage=shrinkage, normalize="none").fit(X, y)
    if shrinkage:
        # Theirs averages the classes' shrunk covariances; ours shrinks their average.
        level = np.trace(peer.covariance_) / X.shape[1]
        within = (1 - shrinkage) * peer.covariance_ + shrinkage * level * np.eye(X.shape[1])
        peer.coef_ = np.linalg.solve(within, peer.means_.T).T
        prior = np.log(peer.priors_)
        peer.intercept_ = prior - 0.5 * np.einsum("kd,kd->k", peer.coef_, peer.means_)
    np.testing.assert_allclose(head.predict_proba(X), peer.predict_proba(X), atol=1e-9)


def test_mean_is_the_nearest_centroid() -> None:
    X, y = make_features()
    peer = NearestCentroid().fit(X, y)
    head = PrototypeHead(distance="mean", normalize="none").fit(X, y)
    assert (head.predict(X) == peer.predict(X)).all()


def test_more_features_than_rows_is_no_trouble() -> None:
    X, y = make_features(n_rows=40, width=200)
    assert PrototypeHead().fit(X, y).score(*make_features(400, 200, seed=1)) > 0.9


@pytest.mark.parametrize("params", [{"distance": "cosine"}, {"shrinkage": 1.5}])
def test_a_parameter_out_of_range_is_named(params: dict[str, object]) -> None:
    with pytest.raises(HeadError, match=next(iter(params))):
        PrototypeHead(**params).fit(*make_features())  # type: ignore[arg-type]
