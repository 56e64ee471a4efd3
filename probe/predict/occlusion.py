"""Where in an image the answer hangs on: a grey patch hides one place after another.

References
----------
Zeiler, Fergus, "Visualizing and understanding convolutional networks", arXiv:1311.2901.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from probe.bundle import Bundle
from probe.preprocess.resize import resize_image
from probe.preprocess.spec import PreprocessSpec, UInt8Image

GRID = 11  # positions of the patch on a side
PATCH = 0.2  # of the image's side


@dataclass(frozen=True, kw_only=True)
class Window:
    """The part of an image that an input shows, in the image's pixels."""

    top: float
    left: float
    height: float
    width: float

    @classmethod
    def of(cls, spec: PreprocessSpec, image: UInt8Image) -> Window:
        """Return what is left of an image after resizing and cropping."""
        height, width = image.shape[:2]
        keep = spec.size / spec.short_side
        high, wide = height * keep, width * keep
        if spec.resize == "crop":
            high = wide = min(height, width) * keep
        return cls(top=(height - high) / 2, left=(width - wide) / 2, height=high, width=wide)


def widest_input(bundle: Bundle, image: UInt8Image) -> PreprocessSpec:
    """Return the input that shows most of an image; of equals the one with most pixels."""
    windows = {spec: Window.of(spec, image) for spec in bundle.inputs}
    return max(windows, key=lambda spec: (windows[spec].height * windows[spec].width, spec.size))


def occlusion_map(bundle: Bundle, image: UInt8Image, number: int) -> NDArray[np.float64]:
    """Return how much the log-probability of a class falls when a patch hides a place.

    The same place is hidden from all networks.

    Returns
    -------
    float64, (h, w)
        Over the input of `widest_input`.
    """
    widest = widest_input(bundle, image)
    side, window = widest.size, Window.of(widest, image)
    patch = max(round(PATCH * side), 1)
    count = min(GRID, side - patch + 1)
    starts = np.unique(np.linspace(0, side - patch, count).round())
    corners = np.array([(top, left) for top in starts for left in starts])
    first = np.array([window.top, window.left])
    step = np.array([window.height, window.width]) / side  # pixels of the image in one of the input
    boxes = np.stack([first + corners * step, first + (corners + patch) * step], axis=1)
    packed = bundle.pack_views(partial(hidden_views, image, boxes))
    probabilities = bundle.probabilities(bundle.features(packed))[:, number]
    logs = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
    fall: NDArray[np.float64] = (logs[-1] - logs[:-1]).reshape(len(starts), len(starts))
    return fall


def hidden_views(
    image: UInt8Image, boxes: NDArray[np.float64], spec: PreprocessSpec
) -> list[UInt8Image]:
    """Return an input with each box of the image grey, and last as it is, n + 1 of (S, S, 3).

    Parameters
    ----------
    boxes : float64, (n, 2, 2)
        (top, left) and (bottom, right), in the image's pixels.
    """
    seen, window = resize_image(image, spec), Window.of(spec, image)
    grey = seen.reshape(-1, 3).mean(axis=0).astype(np.uint8)
    copies = np.repeat(seen[None], len(boxes) + 1, axis=0)
    first, size = [window.top, window.left], [window.height, window.width]
    cells = ((boxes - first) * spec.size / size).round().clip(0, spec.size).astype(int)
    for copy, ((top, left), (bottom, right)) in zip(copies, cells.tolist(), strict=False):
        copy[top:bottom, left:right] = grey
    return list(copies)
