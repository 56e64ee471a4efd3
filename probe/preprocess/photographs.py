"""The two photographs that networks are checked on: they come with scikit-learn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probe.preprocess.resize import resize_image
from probe.preprocess.spec import PreprocessSpec

PHOTOGRAPHS = ("china.jpg", "flower.jpg")


def photographs(preprocess: PreprocessSpec) -> NDArray[np.uint8]:
    """Return scikit-learn's two sample photographs, resized for a preprocessing, (2, S, S, 3)."""
    from sklearn.datasets import load_sample_image

    return np.stack([resize_image(load_sample_image(one), preprocess) for one in PHOTOGRAPHS])
