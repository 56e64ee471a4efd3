"""Mean and scale in blocks, and what happens to odd features."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from probe.errors import HeadError
from probe.heads import normalize


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normalize, "BLOCK_BYTES", 8 * 5 * 7)  # seven rows of five features


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_blocks_give_the_mean_and_deviation_of_the_whole(offset: float) -> None:
    X = np.random.default_rng(0).normal(size=(100, 5)) + offset
    fitted = normalize.fit_normalizer("standard", X)
    np.testing.assert_allclose(fitted.mean, X.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(fitted.scale, X.std(axis=0), rtol=1e-9)
    Z = fitted.transform(X)
    assert Z.dtype == np.float32
    np.testing.assert_allclose(Z.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(Z.std(axis=0), 1, atol=1e-5)


def test_half_precision_is_summed_in_double() -> None:
    X = np.full((70_000, 1), 60_000, np.float16)  # the sum overflows float16 and strains float32
    X[::2] = 50_000
    fitted = normalize.fit_normalizer("standard", X)
    assert fitted.mean[0] == X.astype(float).mean()


@pytest.mark.parametrize("value", [0.0, 0.1, 1e8, -3e-12])
def test_a_constant_feature_becomes_zero(value: float) -> None:
    X = np.full((100, 1), value)
    fitted = normalize.fit_normalizer("standard", X)
    assert fitted.scale[0] == 1
    np.testing.assert_allclose(fitted.transform(X), 0, atol=1e-6)


def test_float32_that_needs_nothing_is_not_copied() -> None:
    X = np.ones((10, 5), np.float32)
    assert normalize.fit_normalizer("none", X).transform(X) is X


def test_l2_leaves_a_row_of_zeros_alone() -> None:
    X = np.array([[3.0, 4.0], [0.0, 0.0]])
    rows = normalize.fit_normalizer("l2", X).transform(X)
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0]])


@pytest.mark.parametrize("kind", ["standard", "l2", "none"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_first_value_that_is_not_finite_is_named(kind: Any, dtype: type) -> None:
    X = np.ones((40, 5), dtype)
    X[23, 4] = X[30, 0] = np.nan
    with pytest.raises(HeadError, match="row 23, feature 4"):
        normalize.fit_normalizer(kind, X).transform(X)


def test_a_number_too_large_for_float32_is_named() -> None:
    X = np.ones((40, 5))
    X[11, 2] = 1e300
    with pytest.raises(HeadError, match="row 11, feature 2"):
        normalize.fit_normalizer("none", X).transform(X)
