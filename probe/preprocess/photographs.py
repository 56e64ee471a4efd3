"""The two photographs that networks are checked on: they come with scikit-learn."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from probe.preprocess.resize import resize_image
from probe.preprocess.spec import PreprocessSpec

PHOTOGRAPHS = ("china.jpg", "flower.jpg")


def photographs(preprocess: PreprocessSpec) -> NDArray[np.uint8]:
    """Return scikit-learn's two sample photographs, resized for a preprocessing, (2, S, S, 3)."""
    found = find_spec("sklearn")  # to import it takes a second
    if found is None or found.origin is None:
        raise ModuleNotFoundError("No module named 'sklearn'")
    folder = Path(found.origin).parent / "datasets" / "images"
    images = [np.asarray(Image.open(folder / one)) for one in PHOTOGRAPHS]
    return np.stack([resize_image(image, preprocess) for image in images])
