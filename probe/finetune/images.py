"""One training image as the network sees it this time: cut, mirrored, recoloured, erased.

Pure functions of an image and a generator. Geometry comes first and works on uint8 with Pillow;
colours are changed in float32 and rounded once. Validation and test images never pass through
here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from probe.finetune.augment import Augment
from probe.preprocess.resize import resize_image
from probe.preprocess.spec import PreprocessSpec, UInt8Image

Rng = np.random.Generator
Float = NDArray[np.float32]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
# principal components of ImageNet's RGB values and their deviations, from AlexNet's authors
EIGENVALUES = np.array([0.2175, 0.0188, 0.0045], np.float32)
EIGENVECTORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]], np.float32
)
TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
FROM_YIQ = np.linalg.inv(TO_YIQ)
TRIES = 10


def augmented(image: UInt8Image, spec: PreprocessSpec, policy: Augment, rng: Rng) -> UInt8Image:
    """Return a training image at the network's size, changed as the generator says.

    Parameters
    ----------
    image : uint8, (height, width, 3), RGB
        Of any size.
    spec : PreprocessSpec
        Its size, resizing and interpolation; with nothing to change the result is what
        validation images get.

    Returns
    -------
    uint8, (spec.size, spec.size, 3), C order

    References
    ----------
    Cubuk et al., RandAugment, arXiv:1909.13719. Zhong et al., Random erasing, arXiv:1708.04896.
    Krizhevsky et al., AlexNet, NIPS 2012, section 4.1: the lighting noise.
    """
    if policy.resized_crop:
        image = resized_crop(image, spec, policy.resized_crop, rng)
    else:
        image = resize_image(image, spec)
        if policy.crop:
            image = pad_and_crop(image, round(policy.crop * spec.size), rng)
    if policy.flip and rng.random() < 0.5:
        image = image[:, ::-1]
    if policy.rand_count:
        image = rand_augment(image, policy.rand_count, policy.rand_magnitude, rng)
    if policy.jitter or policy.hue or policy.lighting:
        image = recoloured(image, policy, rng)
    if policy.erase and rng.random() < policy.erase:
        image = erased(image, rng)
    return np.ascontiguousarray(image)


def resized_crop(image: UInt8Image, spec: PreprocessSpec, least: float, rng: Rng) -> UInt8Image:
    """Cut out `least` to 1 of the area at an aspect of 3:4 to 4:3 and resize it to a square.

    References
    ----------
    Szegedy et al., Going deeper with convolutions, arXiv:1409.4842, section 6.
    """
    height, width = image.shape[:2]
    method = Image.Resampling[spec.interpolation.upper()]
    for _ in range(TRIES):
        area = rng.uniform(least, 1) * height * width
        aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if w <= width and h <= height:
            left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
            box = (left, top, min(left + w, width), min(top + h, height))
            whole = Image.fromarray(image)
            cut: UInt8Image = np.asarray(whole.resize((spec.size, spec.size), method, box=box))
            return cut
    return resize_image(image, replace(spec, crop_fraction=1.0))


def pad_and_crop(image: UInt8Image, pad: int, rng: Rng) -> UInt8Image:
    """Shift an image by up to `pad` pixels each way; what comes in is mirrored from the border."""
    top, left = rng.integers(0, 2 * pad + 1, 2).tolist()
    height, width = image.shape[:2]
    rows = _mirrored(np.arange(top - pad, top - pad + height), height)
    columns = _mirrored(np.arange(left - pad, left - pad + width), width)
    shifted: UInt8Image = image[rows[:, None], columns]
    return shifted


def _mirrored(index: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    if count == 1:
        return np.zeros_like(index)
    index = np.abs(index) % (2 * count - 2)
    return np.minimum(index, 2 * count - 2 - index)


def recoloured(image: UInt8Image, policy: Augment, rng: Rng) -> UInt8Image:
    """Change brightness, contrast, saturation, hue and lighting, and round once."""
    pixels = image.astype(np.float32)  # (S, S, 3), 0 to 255
    if policy.jitter:
        for which in rng.permutation(3):
            factor = np.float32(1 + rng.uniform(-policy.jitter, policy.jitter))
            pixels = _JITTERS[which](pixels, factor)
    if policy.hue:
        turn = 2 * math.pi * rng.uniform(-policy.hue, policy.hue)
        pixels = pixels @ _hue_matrix(turn).T
    if policy.lighting:
        alpha = rng.normal(0, policy.lighting, 3).astype(np.float32)
        pixels = pixels + 255 * (EIGENVECTORS @ (alpha * EIGENVALUES))
    rounded: UInt8Image = np.clip(pixels + 0.5, 0, 255).astype(np.uint8)
    return rounded


def _brightness(pixels: Float, factor: np.float32) -> Float:
    brighter: Float = pixels * factor
    return brighter


def _contrast(pixels: Float, factor: np.float32) -> Float:
    grey = np.float32((pixels @ LUMA).mean())
    return grey + (pixels - grey) * factor


def _saturation(pixels: Float, factor: np.float32) -> Float:
    grey = (pixels @ LUMA)[..., None]
    return grey + (pixels - grey) * factor


_JITTERS: tuple[Callable[[Float, np.float32], Float], ...] = (_brightness, _contrast, _saturation)


def _hue_matrix(turn: float) -> Float:
    """Return the RGB map that turns the colour plane of YIQ by an angle; grey stays grey."""
    c, s = math.cos(turn), math.sin(turn)
    turned: Float = (FROM_YIQ @ [[1, 0, 0], [0, c, -s], [0, s, c]] @ TO_YIQ).astype(np.float32)
    return turned


def erased(image: UInt8Image, rng: Rng) -> UInt8Image:
    """Replace a rectangle of 2 to 25 % of the area by noise."""
    height, width = image.shape[:2]
    area = rng.uniform(0.02, 0.25) * height * width
    aspect = math.exp(rng.uniform(math.log(0.3), math.log(1 / 0.3)))
    h = min(max(round(math.sqrt(area * aspect)), 1), height)
    w = min(max(round(math.sqrt(area / aspect)), 1), width)
    top, left = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
    image = image.copy()
    image[top : top + h, left : left + w] = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
    return image


def rand_augment(image: UInt8Image, count: int, magnitude: float, rng: Rng) -> UInt8Image:
    """Apply `count` operations drawn with replacement, all of one strength, 0 to 10."""
    picture = Image.fromarray(np.ascontiguousarray(image))
    for which in rng.integers(0, len(OPERATIONS), count):
        sign = 1 if rng.random() < 0.5 else -1
        picture = OPERATIONS[which](picture, magnitude / 10, sign)
    return np.asarray(picture)


def _affine(picture: Any, numbers: tuple[float, ...]) -> Any:
    method = Image.Resampling.BILINEAR
    return picture.transform(
        picture.size, Image.Transform.AFFINE, numbers, method, fillcolor=(128, 128, 128)
    )


def _enhance(kind: Any) -> Callable[[Any, float, int], Any]:
    return lambda picture, m, sign: kind(picture).enhance(1 + 0.9 * m * sign)


def _rotate(picture: Any, m: float, sign: int) -> Any:
    return picture.rotate(30 * m * sign, Image.Resampling.BILINEAR, fillcolor=(128, 128, 128))


def _shear_x(picture: Any, m: float, sign: int) -> Any:
    return _affine(picture, (1, 0.3 * m * sign, 0, 0, 1, 0))


def _shear_y(picture: Any, m: float, sign: int) -> Any:
    return _affine(picture, (1, 0, 0, 0.3 * m * sign, 1, 0))


def _shift_x(picture: Any, m: float, sign: int) -> Any:
    return _affine(picture, (1, 0, 0.45 * m * sign * picture.width, 0, 1, 0))


def _shift_y(picture: Any, m: float, sign: int) -> Any:
    return _affine(picture, (1, 0, 0, 0, 1, 0.45 * m * sign * picture.height))


def _posterize(picture: Any, m: float, _: int) -> Any:
    return ImageOps.posterize(picture, 8 - round(4 * m))


def _solarize(picture: Any, m: float, _: int) -> Any:
    return ImageOps.solarize(picture, round(256 * (1 - m)))


OPERATIONS: tuple[Callable[[Any, float, int], Any], ...] = (
    lambda picture, _m, _sign: picture,
    lambda picture, _m, _sign: ImageOps.autocontrast(picture),
    lambda picture, _m, _sign: ImageOps.equalize(picture),
    _rotate,
    _shear_x,
    _shear_y,
    _shift_x,
    _shift_y,
    _posterize,
    _solarize,
    _enhance(ImageEnhance.Brightness),
    _enhance(ImageEnhance.Contrast),
    _enhance(ImageEnhance.Color),
    _enhance(ImageEnhance.Sharpness),
)
