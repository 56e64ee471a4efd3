"""Random augmentation of training images, and how it is written on the command line.

    flip               mirrored left to right, half of the time
    crop=P             padded by P of the side by reflection, then cut out again (default 0.125)
    resized-crop=A     a piece of at least A of the area, resized (default 0.35)
    jitter=S           brightness, contrast and saturation, each by up to S (default 0.3)
    hue=H              hue turned by up to H of the circle (default 0.05)
    lighting=S         noise along ImageNet's principal colours, of deviation S (default 0.1)
    rand=NxM           N random operations of strength M of 10 (default 2x6)
    erase=P            a rectangle of noise, in P of the images (default 0.25)

``auto`` is flip if the frozen probe is as accurate on mirrored images (`probe.finetune.mirror`),
else none. Other presets: ``none``; ``light`` is flip, crop; ``medium`` adds jitter; ``strong`` is
flip, rand, crop, erase.

All random numbers come from the generator that is passed in. Geometric changes come first and work
on uint8 with Pillow; colours are changed in float32 and rounded once. Validation and test images
are never augmented.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from probe.errors import UsageError
from probe.preprocess.resize import resize_image
from probe.preprocess.spec import PreprocessSpec, UInt8Image

AUTO = "auto"  # decided on held-out images before the first step
PRESETS = {
    "none": "",
    "light": "flip,crop",
    "medium": "flip,crop,jitter",
    "strong": "flip,crop,rand,erase",
}


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Which random changes a training image may undergo; by default none.

    Parameters
    ----------
    crop : float
        Padding as a fraction of the side, 0 to 0.5.
    resized_crop : float
        Smallest share of the area that a resized crop shows, 0 (no such crop) to 1.
    jitter : float
        0 to 1.
    hue : float
        0 to 0.5.
    rand_count : int
        Operations of a RandAugment policy, 0 to 8.
    rand_magnitude : float
        0 to 10.
    erase : float
        Probability, 0 to 1.
    """

    flip: bool = False
    crop: float = 0.0
    resized_crop: float = 0.0
    jitter: float = 0.0
    hue: float = 0.0
    lighting: float = 0.0
    rand_count: int = 0
    rand_magnitude: float = 0.0
    erase: float = 0.0

    @property
    def changes_nothing(self) -> bool:
        """Whether training images stay as they are."""
        return self == Augment()


_DEFAULTS = {
    "crop": 0.125, "resized-crop": 0.35, "jitter": 0.3, "hue": 0.05, "lighting": 0.1, "erase": 0.25,
}  # fmt: skip
_LARGEST = {"crop": 0.5, "resized-crop": 1, "jitter": 1, "hue": 0.5, "lighting": 1, "erase": 1}
NAMES = ("flip", "crop", "resized-crop", "jitter", "hue", "lighting", "rand", "erase")


def parse_augment(text: str) -> Augment:
    """Read presets and changes that are separated by commas; see the module's docstring.

    ``auto`` cannot be combined; it is read as flip until it is decided.

    Raises
    ------
    UsageError
        A name is unknown, or a number out of range.
    """
    text = "flip" if text.strip() == AUTO else text
    words = [
        word
        for part in text.split(",")
        for word in PRESETS.get(part.strip(), part.strip()).split(",")
        if word
    ]
    found: dict[str, float | int | bool] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name == "flip" and not value:
            found["flip"] = True
        elif name == "rand":
            found["rand_count"], found["rand_magnitude"] = _rand(word, value or "2x6")
        elif name in _DEFAULTS:
            found[name.replace("-", "_")] = _number(word, name, value)
        else:
            raise UsageError(
                f"--augment {word}: expected {AUTO}, {', '.join(PRESETS)}, or some of "
                f"{', '.join(NAMES)}"
            )
    if found.get("crop") and found.get("resized_crop"):
        raise UsageError("--augment: crop and resized-crop both cut the image; take one of them")
    return Augment(**found)  # type: ignore[arg-type]  # names and types are those of the fields


def _number(word: str, name: str, value: str) -> float:
    if not value:
        return _DEFAULTS[name]
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number <= _LARGEST[name]:
        raise UsageError(f"--augment {word}: expected a number from 0 to {_LARGEST[name]:g}")
    return number


def _rand(word: str, value: str) -> tuple[int, float]:
    match = re.fullmatch(r"(\d+)x(\d+(?:\.\d+)?)", value)
    if match is None or int(match[1]) > 8 or float(match[2]) > 10:
        raise UsageError(f"--augment {word}: expected rand=NxM, up to 8 operations of strength 10")
    return int(match[1]), float(match[2])


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
    """Return a training image at the network's size with random changes.

    Parameters
    ----------
    image : uint8, (height, width, 3), RGB
        Of any size.
    spec : PreprocessSpec
        Size, resizing and interpolation. Without changes the result is that of validation images.

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
    """Resize a random crop of `least` to 1 of the area, of aspect 3:4 to 4:3, to a square.

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
    """Shift an image by up to `pad` pixels each way, filling in by reflection at the border."""
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
    """Return the RGB matrix that rotates the hue by an angle in YIQ; grey stays grey."""
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
    """Apply `count` operations, drawn with replacement, of the same strength, 0 to 10."""
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
