"""Heads that are trained together are the heads that each would be alone."""

from __future__ import annotations

import numpy as np
import pytest

from probe.errors import HeadError
from probe.heads import DenseHead
from tests.heads.data import make_features


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_each_head_has_the_weights_it_gets_alone(optimizer: str, n_classes: int) -> None:
    X, y = make_features(n_classes=n_classes)
    head = DenseHead(epochs=8, batch_size=64, optimizer=optimizer, random_state=3)
    rates, decays = [1e-3, 1e-2, 0.1], [0.0, 0.1]
    asked = [{"lr": lr, "wd": wd} for lr in rates for wd in decays]
    together = head.fit_candidates(X, y, asked)
    assert [one and {"lr": one.lr, "wd": one.wd} for one in together] == asked
    for one in together:
        assert one is not None
        alone = DenseHead(**one.get_params()).fit(X, y)
        difference = np.linalg.norm(one.coef_ - alone.coef_)
        assert difference < 1e-4 * np.linalg.norm(alone.coef_)
        np.testing.assert_allclose(one.intercept_, alone.intercept_, atol=1e-4)
        np.testing.assert_array_equal(one.predict(X), alone.predict(X))
    assert not hasattr(head, "coef_")


def test_a_rate_that_overflows_is_named() -> None:
    head = DenseHead(epochs=3, optimizer="sgd", normalize="none", random_state=0)
    with pytest.raises(HeadError, match=r"lr=1e\+38"):
        head.fit_grid(*make_features(), [0.1, 1e38])
