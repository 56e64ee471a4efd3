"""Seven photographs of several shapes, cut from scikit-learn's two."""

from __future__ import annotations

from functools import cache

import numpy as np
from sklearn.datasets import load_sample_image


@cache
def photographs() -> dict[str, np.ndarray]:
    """Return uint8 RGB images by name, (height, width, 3)."""
    china, flower = (np.asarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg"))
    both = np.concatenate([china, flower], axis=1)
    return {
        "china": china,
        "flower": flower,
        "375 x 500": flower[:375, :500],
        "500 x 375": np.rot90(china[:375, :500]).copy(),
        "64 x 64": china[100:164, 300:364],
        "300 x 1000": both[50:350, 140:1140],
        "333 x 450": flower[50:383, 100:550],  # crops of it begin at half a pixel
    }
