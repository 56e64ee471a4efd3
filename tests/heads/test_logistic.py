"""The logistic head against scikit-learn's own pipeline."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from probe.errors import HeadError
from probe.heads import LogisticHead
from tests.heads.data import make_features


@pytest.mark.parametrize("n_classes", [2, 4])
def test_it_is_logistic_regression_on_standardised_features(n_classes: int) -> None:
    X, y = make_features(n_classes=n_classes)
    peer = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)).fit(X, y)
    head = LogisticHead(C=0.1).fit(X, y)
    np.testing.assert_allclose(head.predict_proba(X), peer.predict_proba(X), atol=1e-4)


def test_stopping_early_is_logged_not_warned(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        head = LogisticHead(C=100, max_iter=2).fit(*make_features())
    assert "not converged after max_iter=2" in caplog.text
    assert head.n_iter_ == 2


def test_it_has_no_history() -> None:
    assert LogisticHead().fit(*make_features()).history_ == []


def test_c_must_be_positive() -> None:
    with pytest.raises(HeadError, match="C must be a number above 0"):
        LogisticHead(C=0).fit(*make_features())
