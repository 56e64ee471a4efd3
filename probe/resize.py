"""The half of preprocessing that runs beside the network: any RGB image to the network's square."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from probe.preprocess import Interpolation, PreprocessSpec, UInt8Image

STRIP = 64  # resized, an image may be so many times the crop; beyond, the crop alone is computed
WIDE = 16  # times the crop: of a wider image the columns that count are taken out first

Taps = tuple[NDArray[np.intp], NDArray[np.float32]]  # source pixels and weights, (taps, target)


def resize_image(image: UInt8Image, spec: PreprocessSpec) -> UInt8Image:
    """Resize, and crop where the spec says so; an image of the right size is not resampled.

    Parameters
    ----------
    image : uint8, (height, width, 3), RGB

    Returns
    -------
    uint8, (spec.size, spec.size, 3), RGB
        Rounded to the nearest integer, half away from zero.
    """
    size = spec.size
    height, width = image.shape[:2]
    if (height, width) == (size, size) and spec.crop_fraction == 1:
        return image
    short = spec.short_side
    if spec.resize == "squash":
        return _resample(image, Grid(height=short, width=short), size, spec)
    # torchvision truncates the longer side; its crop offset is rounded half to even
    grid = (
        Grid(height=short, width=int(short * width / height))
        if height <= width
        else Grid(height=int(short * height / width), width=short)
    )
    return _resample(image, grid, size, spec)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Sides of the whole resized image, of which the central square is computed."""

    height: int
    width: int

    def offset(self, size: int) -> tuple[int, int]:
        """Return (top, left) of the central square."""
        return round((self.height - size) / 2), round((self.width - size) / 2)


def _resample(image: UInt8Image, grid: Grid, size: int, spec: PreprocessSpec) -> UInt8Image:
    """Return the central square of the image resized to `grid`; the rest is never computed."""
    height, width = image.shape[:2]
    top, left = grid.offset(size)
    if (grid.height, grid.width) == (height, width):
        return np.ascontiguousarray(image[top : top + size, left : left + size])
    if spec.antialias:
        return _pillow(image, grid, size, Image.Resampling[spec.interpolation.upper()])
    rows = _taps(height, grid.height, top, size, spec.interpolation)
    columns = _taps(width, grid.width, left, size, spec.interpolation)
    return _separable(image, rows, columns)


def _pillow(image: UInt8Image, grid: Grid, size: int, method: Image.Resampling) -> UInt8Image:
    top, left = grid.offset(size)
    whole = Image.fromarray(image)
    most = STRIP * size * size
    if grid.height * grid.width <= most:
        if whole.height * grid.width > max(most, whole.height * whole.width):
            # narrow and very tall, squashed: Pillow would widen all rows first, to gigabytes
            whole = whole.resize((whole.width, grid.height), method)
        resized = np.asarray(whole.resize((grid.width, grid.height), method))
        return np.ascontiguousarray(resized[top : top + size, left : left + size])
    # a strip: Pillow can compute the crop alone, but its box is single precision, so that a few
    # pixels round otherwise than in the published pipelines
    rows, columns = image.shape[0] / grid.height, image.shape[1] / grid.width
    right, bottom = (left + size) * columns, (top + size) * rows
    box = (left * columns, top * rows, min(right, image.shape[1]), min(bottom, image.shape[0]))
    return np.asarray(whole.resize((size, size), method, box=box))


def _separable(image: UInt8Image, rows: Taps, columns: Taps) -> UInt8Image:
    if image.shape[1] > WIDE * columns[0].shape[1]:
        image, rows, columns = _touched(image, rows, columns)
    # sums over the taps: (H, W, 3) -> (H', W, 3) -> (H', W', 3)
    tall: Any = sum(image[i] * w[:, None, None] for i, w in zip(*rows, strict=True))
    out: Any = sum(tall[:, i] * w[:, None] for i, w in zip(*columns, strict=True))
    rounded: UInt8Image = np.clip(out + 0.5, 0, 255).astype(np.uint8)  # truncation after + 0.5
    return rounded


def _touched(image: UInt8Image, rows: Taps, columns: Taps) -> tuple[UInt8Image, Taps, Taps]:
    """Leave out the rows and columns that no tap reads: the same sums, at a bounded size."""
    (down, row_weight), (across, column_weight) = rows, columns
    tops, lefts = np.unique(down), np.unique(across)
    small = image[tops[:, None], lefts]
    rows = np.searchsorted(tops, down), row_weight
    return small, rows, (np.searchsorted(lefts, across), column_weight)


@lru_cache(maxsize=256)
def _taps(source: int, target: int, first: int, count: int, interpolation: Interpolation) -> Taps:
    """Return for `count` target pixels the source pixels and weights, (taps, count) each.

    Target centre j lies at source coordinate (j + 0.5) * source / target - 0.5. Neighbours
    beyond the border repeat the edge pixel.
    """
    centre = (np.arange(first, first + count) + 0.5) * source / target - 0.5
    below = np.floor(centre).astype(np.intp)
    t = centre - below
    if interpolation == "bilinear":
        offsets, weights = range(2), np.stack([1 - t, t])
    else:
        offsets = range(-1, 3)
        weights = np.stack([_keys(t + 1), _keys(t), _keys(1 - t), _keys(2 - t)])
    index = np.stack([np.clip(below + o, 0, source - 1) for o in offsets])
    return index, weights.astype(np.float32)


def _keys(x: NDArray[np.float64], a: float = -0.5) -> NDArray[np.float64]:
    near = ((a + 2) * x - (a + 3)) * x * x + 1  # |x| <= 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a  # 1 < |x| < 2
    return np.where(x <= 1, near, far)
