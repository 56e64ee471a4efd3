"""Small, seeded features that a linear head gets mostly, but not all, right."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def make_features(
    n_rows: int = 300, width: int = 12, n_classes: int = 4, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Return X, float32, (n_rows, width), on scales that differ, and y."""
    random = np.random.default_rng(seed)
    means = np.random.default_rng(99).normal(size=(n_classes, width))
    y = np.arange(n_rows) % n_classes
    X = (means[y] + random.normal(size=(n_rows, width))) * np.linspace(0.1, 3, width) + 1
    return X.astype(np.float32), y
