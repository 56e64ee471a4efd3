"""Resize any RGB image to the network's square input, bit for bit as Pillow does."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from probe.preprocess.spec import CropRounding, Interpolation, PreprocessSpec, UInt8Image

STRIP = 64  # times the crop's area: of a larger resized image only the crop is computed
PART = 2**24  # bytes of an image that are handed to Pillow at once
PRECISION = 22  # fractional bits of Pillow's weights
STRIDE = 2**16  # positions that are summed at once
ONE_ORDER = int(PIL.__version__.partition(".")[0]) <= 13  # later releases may choose another
WIDE = 16  # times the crop's width: of a wider image the columns in use are selected first

Taps = tuple[NDArray[np.intp], NDArray[np.float32]]  # source pixels and weights, (taps, target)
FixedTaps = tuple[NDArray[np.int64], NDArray[np.int64]]


def resize_image(image: UInt8Image, spec: PreprocessSpec) -> UInt8Image:
    """Resize an image to the network's input; one of the right size is not resampled.

    Parameters
    ----------
    image : uint8, (height, width, 3), RGB

    Returns
    -------
    uint8, (spec.size, spec.size, 3), RGB
        Rounded to the nearest integer, half away from zero. Under ``pad`` the image is centred, one
        pixel nearer to the top or left where the margin is odd.

    Notes
    -----
    With `antialias` the pixels are those of Pillow 13 and so of torchvision on Pillow's images, bit
    for bit, which are rounded after the pass over each axis. Without, they are rounded once, after
    both; TensorFlow and Keras feed the unrounded values, half a grey level away at most. On the
    features' cosine that is 1e-5 for photographs that shrink, and up to 0.006 where an image is
    enlarged seven times, for the steps between its few grey levels are lost.
    """
    size = spec.size
    height, width = image.shape[:2]
    if (height, width) == (size, size) and spec.crop_fraction == 1:
        return image
    inside = _resample(image, Grid.of(spec, height, width), size, spec)
    tall, wide = inside.shape[:2]
    if (tall, wide) == (size, size):
        return inside
    square = np.empty((size, size, 3), np.uint8)
    square[:] = spec.fill
    top, left = (size - tall) // 2, (size - wide) // 2
    square[top : top + tall, left : left + wide] = inside
    return square


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Sides of the whole resized image, of which the central square is computed.

    A side that is shorter than the square's is computed as a whole, and borders fill the rest.
    """

    height: int
    width: int
    crop_rounding: CropRounding

    @classmethod
    def of(cls, spec: PreprocessSpec, height: int, width: int) -> Grid:
        """Return the sides that an image of `height` x `width` pixels is resized to."""
        tall = wide = short = spec.short_side
        match spec.resize:
            case "squash":
                pass
            case "pad":
                scale = spec.size / max(height, width)
                tall, wide = max(round(height * scale), 1), max(round(width * scale), 1)
            case "crop":  # torchvision truncates the longer side
                if height <= width:
                    wide = int(short * width / height)
                else:
                    tall = int(short * height / width)
        return cls(height=tall, width=wide, crop_rounding=spec.crop_rounding)

    def offset(self, size: int) -> tuple[int, int]:
        """Return (top, left) of the central square."""
        return self._margin(self.height, size), self._margin(self.width, size)

    def _margin(self, side: int, size: int) -> int:
        half = (side - size) / 2
        return max(round(half) if self.crop_rounding == "even" else math.floor(half), 0)


@dataclass(frozen=True, kw_only=True)
class Window:
    """The part of an image that the network's input shows, in the image's pixels.

    With borders it is more than the whole image, and begins at negative coordinates.
    """

    top: float
    left: float
    height: float
    width: float

    @classmethod
    def of(cls, spec: PreprocessSpec, image: UInt8Image) -> Window:
        """Return the part of an image that `resize_image` shows."""
        height, width = image.shape[:2]
        grid = Grid.of(spec, height, width)
        high, wide = height * spec.size / grid.height, width * spec.size / grid.width
        return cls(top=(height - high) / 2, left=(width - wide) / 2, height=high, width=wide)


def _resample(image: UInt8Image, grid: Grid, size: int, spec: PreprocessSpec) -> UInt8Image:
    """Return the central square of the image resized to `grid`; the rest is never computed."""
    height, width = image.shape[:2]
    top, left = grid.offset(size)
    if (grid.height, grid.width) == (height, width):
        return np.ascontiguousarray(image[top : top + size, left : left + size])
    if spec.antialias:
        return _pillow(image, grid, size, Image.Resampling[spec.interpolation.upper()])
    tall, wide = min(size, grid.height), min(size, grid.width)
    if spec.interpolation == "nearest":
        down = _nearest(height, grid.height, top, tall)
        taken: UInt8Image = image[down[:, None], _nearest(width, grid.width, left, wide)]
        return taken
    rows = _taps(height, grid.height, top, tall, spec.interpolation)
    columns = _taps(width, grid.width, left, wide, spec.interpolation)
    return _separable(image, rows, columns)


def _pillow(image: UInt8Image, grid: Grid, size: int, method: Image.Resampling) -> UInt8Image:
    """Return the crop that Pillow 13 gives, whichever Pillow is installed.

    Pillow rounds to 8 bits between its pass over the rows and its pass over the columns, so their
    order moves pixels by a grey level. Releases differ in which goes first; each pass alone is the
    same in all of them, so they are asked for one by one, in the order of Pillow 13, but where all
    releases up to it change the width first.
    """
    top, left = grid.offset(size)
    if grid.height * grid.width > STRIP * size * size:
        return _strip(image, grid, size, method)
    if ONE_ORDER and image.size <= PART and not _height_first(image, grid):
        whole = Image.fromarray(image).resize((grid.width, grid.height), method)
    elif _height_first(image, grid):
        whole = _parts(image, 1, lambda part: part.resize((part.width, grid.height), method))
    elif image.shape[1] != grid.width:
        whole = _parts(image, 0, lambda part: part.resize((grid.width, part.height), method))
    else:
        whole = Image.fromarray(image)
    if whole.size != (grid.width, grid.height):
        whole = whole.resize((grid.width, grid.height), method)
    return np.ascontiguousarray(np.asarray(whole)[top : top + size, left : left + size])


def _parts(
    image: UInt8Image, axis: int, one_pass: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    """Run a pass over parts of a large image along the axis that it leaves alone.

    The pixels are those of the whole; Pillow's copy of it, a third larger, is never made.
    """
    count = -(-image.size // PART)
    if count == 1:
        return one_pass(Image.fromarray(image))
    parts = np.array_split(image, min(count, image.shape[axis]), axis=axis)
    done = [np.asarray(one_pass(Image.fromarray(np.ascontiguousarray(part)))) for part in parts]
    return Image.fromarray(np.concatenate(done, axis=axis))


def _height_first(image: UInt8Image, grid: Grid) -> bool:
    """Whether Pillow 13 changes the height first: it shrinks by far more pixels than the width."""
    height, width = image.shape[:2]
    return height > grid.height and height - grid.height > 2 * (width - grid.width)


def _strip(image: UInt8Image, grid: Grid, size: int, method: Image.Resampling) -> UInt8Image:
    """Return the crop of a long strip, whose whole grid would take gigabytes.

    Pillow's own cropping resize keeps its box in single precision: 60,000 pixels from the border
    the error is hundredths of a pixel, and up to 23 grey levels (noise, bicubic).
    """
    top, left = grid.offset(size)
    tall = _filter(image.shape[0], grid.height, top, size, method)
    wide = _filter(image.shape[1], grid.width, left, size, method)
    if _height_first(image, grid):
        return _pass(_pass(image, tall, 0), wide, 1)
    first = int(tall[0][0].min())  # the first row that the taps read
    image = image[first : int(tall[0].max()) + 1]
    return _pass(_pass(image, wide, 1), (tall[0] - first, tall[1]), 0)


def _filter(
    source: int, target: int, first: int, count: int, method: Image.Resampling
) -> FixedTaps:
    """Return the source pixels and fixed-point weights that Pillow uses for `count` target pixels.

    Both are (taps, count). The kernel is as wide as the image shrinks; beyond the border its
    weights are 0, and the rest are scaled to the sum of 1 (`libImaging/Resample.c`).
    """
    scale = source / target
    stretch = max(scale, 1.0)
    reach = (1.0 if method == Image.Resampling.BILINEAR else 2.0) * stretch
    centre = (np.arange(first, first + count) + 0.5) * scale
    low = np.maximum((centre - reach + 0.5).astype(np.int64), 0)
    high = np.minimum((centre + reach + 0.5).astype(np.int64), source)
    index = low + np.arange(int((high - low).max()))[:, None]  # (taps, count)
    x = np.abs((index - centre + 0.5) * (1.0 / stretch))
    if method == Image.Resampling.BILINEAR:
        kernel = np.where(x < 1, 1 - x, 0.0)
    else:
        kernel = np.where(x < 2, _keys(x), 0.0)
    kernel[index >= high] = 0
    weights = kernel * (1 / kernel.sum(axis=0))
    fixed = np.trunc(weights * (1 << PRECISION) + np.copysign(0.5, weights)).astype(np.int64)
    return np.minimum(index, source - 1), fixed


def _pass(image: UInt8Image, taps: FixedTaps, axis: int) -> UInt8Image:
    """Filter the rows (axis 0) or columns (axis 1), in integers and rounded as Pillow does."""
    total: Any = np.int64(1 << (PRECISION - 1))
    for index, weight in zip(*taps, strict=True):
        shape = (-1, 1, 1) if axis == 0 else (1, -1, 1)
        total = total + np.take(image, index, axis=axis) * weight.reshape(shape)
    rounded: UInt8Image = np.clip(total >> PRECISION, 0, 255).astype(np.uint8)
    return rounded


def _separable(image: UInt8Image, rows: Taps, columns: Taps) -> UInt8Image:
    """Filter rows, then columns, in float32, and round once."""
    if image.shape[1] > WIDE * columns[0].shape[1]:
        image, rows, columns = _touched(image, rows, columns)
    # sums over the taps: (H, W, 3) -> (H', W, 3) -> (H', W', 3)
    tall: Any = sum(image[i] * w[:, None, None] for i, w in zip(*rows, strict=True))
    out: Any = sum(tall[:, i] * w[:, None] for i, w in zip(*columns, strict=True))
    rounded: UInt8Image = np.clip(out + 0.5, 0, 255).astype(np.uint8)  # truncation after + 0.5
    return rounded


def _touched(image: UInt8Image, rows: Taps, columns: Taps) -> tuple[UInt8Image, Taps, Taps]:
    """Select the rows and columns that the taps read: the same sums in bounded memory."""
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


@lru_cache(maxsize=256)
def _nearest(source: int, target: int, first: int, count: int) -> NDArray[np.intp]:
    """Return for `count` target pixels the source pixel that Pillow takes, (count,).

    Pillow adds up the step from the first pixel on, and so does this (`ImagingScaleAffine` of
    `libImaging/Geometry.c`): where a centre falls between two pixels, as with 640 pixels brought to
    224, the error of the sum decides.
    """
    step = source / target
    centre = step * 0.5
    for begin in range(0, first, STRIDE):
        centre = _sums(centre, step, min(STRIDE, first - begin))[-1]
    return _sums(centre, step, count - 1).astype(np.intp)


def _sums(start: float, step: float, count: int) -> NDArray[np.float64]:
    """Return `start` with 0 to `count` steps added one after the other."""
    return np.cumsum(np.concatenate([[start], np.full(count, step)]))


def _keys(x: NDArray[np.float64], a: float = -0.5) -> NDArray[np.float64]:
    near = ((a + 2) * x - (a + 3)) * x * x + 1  # |x| <= 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a  # 1 < |x| < 2
    return np.where(x <= 1, near, far)
