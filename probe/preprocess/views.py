"""Make augmented copies of an image ("views"), whose features become one more axis.

The first view is always the plain image, so that a head may be fitted on it alone.

    flip    plain; mirrored left to right
    crops5  plain; the four corners (top left, top right, bottom left, bottom right) of the image
            resized as before, but with a margin: to input size / min(crop fraction, 0.875)
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from probe.preprocess.resize import resize_image
from probe.preprocess.spec import PreprocessSpec, UInt8Image

MARGIN = 0.875  # the largest share of the side that a corner crop keeps


VIEWS = {"none": 1, "flip": 2, "crops5": 5}  # how many views each choice gives


def view_count(views: str) -> int:
    """Return the number of views of each image, and so of its feature rows."""
    return VIEWS.get(views, 1)


def image_views(image: UInt8Image, spec: PreprocessSpec, views: str) -> list[UInt8Image]:
    """Return the views of an image at the network's input size.

    Parameters
    ----------
    image : uint8, (height, width, 3), RGB
    views : {"none", "flip", "crops5"}

    Returns
    -------
    list of uint8, (spec.size, spec.size, 3), RGB
        The plain one first.
    """
    plain = resize_image(image, spec)
    if views == "none":
        return [plain]
    if views == "flip":
        return [plain, np.ascontiguousarray(plain[:, ::-1])]
    if views != "crops5":
        raise ValueError(f"no views are called {views!r}")
    keep = min(spec.crop_fraction, MARGIN)
    side = int(spec.size / keep + 1e-9)
    # the central square: corners of a long image would show what no other view does
    large = resize_image(image, replace(spec, size=side, crop_fraction=1.0))
    size, low = spec.size, side - spec.size
    corners = [large[top : top + size, left : left + size] for top in (0, low) for left in (0, low)]
    return [plain, *map(np.ascontiguousarray, corners)]
