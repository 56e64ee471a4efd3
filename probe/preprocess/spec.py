"""The preprocessing that a set of weights expects: size, resizing, channel order, mean and std.

It has two halves. `probe.preprocess.resize` makes a square uint8 image on the CPU: a quarter of the
bytes of float32, and what pipelines that resize with Pillow or OpenCV (torchvision, timm, Gluon,
Caffe) normalise. Keras and TensorFlow do not round after resizing, so under their presets pixels
differ by up to half a grey level (see `resize_image`). The arithmetic half (channel order, scale,
mean, std) is the network's first layer. A `PreprocessSpec` belongs to a set of weights, never to an
architecture.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from probe.errors import UsageError

# a new policy is a case in `_steps` here and in `Grid.of` of probe.preprocess.resize
Resize = Literal["crop", "squash", "pad"]
Interpolation = Literal["bilinear", "bicubic", "nearest"]
Channels = Literal["RGB", "BGR"]
CropRounding = Literal["even", "down"]
UInt8Image = NDArray[np.uint8]

RESIZES: tuple[Resize, ...] = get_args(Resize)

MAX_SIZE = 4096  # a side longer than this is a typing mistake, not a network input
MAX_SIDE = 16 * MAX_SIZE  # the longest side before the crop
MAX_TEXT = 1 << 16  # bytes of a file with a dozen fields
LONGEST_NAME = 200
SHOWN = 80  # characters of a wrong value that a message repeats


@dataclass(frozen=True, kw_only=True)
class PreprocessSpec:
    """The preprocessing of one set of weights.

    The network's input is ``(image[channels] * scale - mean) / std`` with `image` in 0..255.

    Parameters
    ----------
    name : str
        For example ``torchvision``; not part of a cache key.
    size : int
        Side of the square network input, in pixels.
    resize : {"crop", "squash", "pad"}
        ``squash`` stretches the whole image to a square of ``size / crop_fraction``, as Caffe's
        data preparation does (256, of which 227 are used); ``crop`` brings the shorter side to
        that length. Of both the central square of `size` is cut out. ``pad`` brings the longer
        side to `size` and fills the rest with `fill`: nothing is cut off and nothing is stretched.
    crop_fraction : float, in (0, 1]
        Rounded down to whole pixels, ``size / crop_fraction`` is at most `MAX_SIDE`.
    interpolation : {"bilinear", "bicubic", "nearest"}
        With half-pixel centres. Bicubic is Keys' kernel with a = -0.5; nearest takes the one pixel
        that a centre falls into.
    antialias : bool
        Widen the kernel when shrinking, as Pillow does and TensorFlow by default does not. False
        where `interpolation` is nearest, which has no kernel.
    crop_rounding : {"even", "down"}
        Where the crop begins if the margin is an odd number of pixels: ``even`` rounds the half
        pixel to the even one, as torchvision and timm do, and ``down`` rounds it down, as
        transformers does. It moves one image in four by a pixel.
    channels : {"RGB", "BGR"}
    scale : float
        Factor on 0..255 pixel values, applied before mean and std.
    mean, std : tuple of 3 floats
        In the order of `channels`, after `scale`.

    References
    ----------
    Keys, Cubic convolution interpolation for digital image processing, IEEE TASSP 29 (1981).
    """

    name: str
    size: int
    resize: Resize
    crop_fraction: float = 1.0
    interpolation: Interpolation = "bilinear"
    antialias: bool = True
    crop_rounding: CropRounding = "even"
    channels: Channels = "RGB"
    scale: float = 1.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        for field, right, expected in self._conditions():
            if not right:
                shown = repr(getattr(self, field))
                shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."
                raise UsageError(f"preprocessing field {field} is {shown}, expected {expected}")
        for field in ("crop_fraction", "scale"):  # 1 and 1.0 are one preprocessing, and one key
            object.__setattr__(self, field, float(getattr(self, field)))
        for field in ("mean", "std"):
            object.__setattr__(self, field, tuple(map(float, getattr(self, field))))

    def _conditions(self) -> Iterator[tuple[str, bool, str]]:
        """Yield (field, whether it is right, what is expected); later ones rely on earlier ones."""
        one_line = isinstance(self.name, str) and self.name.isprintable()
        expected = f"a text of one line and at most {LONGEST_NAME} characters"
        yield "name", one_line and 0 < len(self.name) <= LONGEST_NAME, expected
        right = type(self.size) is int and 1 <= self.size <= MAX_SIZE
        yield "size", right, f"an integer from 1 to {MAX_SIZE}"
        yield "resize", self.resize in RESIZES, " or ".join(RESIZES)
        right = _finite(self.crop_fraction) and 0 < self.crop_fraction <= 1
        yield "crop_fraction", right, "above 0 and at most 1"
        right = self.crop_fraction * MAX_SIDE >= self.size
        expected = f"so much that the sides to crop are at most {MAX_SIDE} pixels"
        yield "crop_fraction", right, expected
        right = self.resize != "pad" or self.crop_fraction == 1
        yield "crop_fraction", right, "1 where resize is pad, which cuts nothing off"
        right = self.interpolation in get_args(Interpolation)
        yield "interpolation", right, "bilinear, bicubic or nearest"
        yield "antialias", isinstance(self.antialias, bool), "true or false"
        right = self.interpolation != "nearest" or not self.antialias
        yield "antialias", right, "false where interpolation is nearest, which averages no pixels"
        yield "crop_rounding", self.crop_rounding in get_args(CropRounding), "even or down"
        yield "channels", self.channels in get_args(Channels), "RGB or BGR"
        yield "scale", _finite(self.scale) and self.scale > 0, "a positive number"
        for field in ("mean", "std"):
            value = getattr(self, field)
            right = isinstance(value, tuple) and len(value) == 3 and all(map(_finite, value))
            yield field, right, "three numbers"
        yield "std", all(s > 0 for s in self.std), "three positive numbers"
        most, least = float(np.finfo(np.float32).max), float(np.finfo(np.float32).tiny)
        for spread in self.std:
            right = least <= self.scale / spread <= most / 255
            yield (
                "scale" if spread == 1 else "std",
                right,
                "a factor scale / std of which 255 fit into a float32",
            )
        right = all(abs(m) / s <= most for m, s in zip(self.mean, self.std, strict=True))
        yield "mean", right, "numbers that fit into a float32"

    def arithmetic(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return gain and shift of ``image[channels] * gain - shift``, (1, 3, 1, 1) both."""
        std = np.array(self.std, np.float64)
        gain, shift = self.scale / std, np.array(self.mean, np.float64) / std
        return (
            gain.astype(np.float32).reshape(1, 3, 1, 1),
            shift.astype(np.float32).reshape(1, 3, 1, 1),
        )

    @property
    def fill(self) -> tuple[int, int, int]:
        """The colour that ``pad`` adds, RGB in 0..255: the mean, which the network sees as 0."""
        mean = [min(max(round(value / self.scale), 0), 255) for value in self.mean]
        red, green, blue = mean if self.channels == "RGB" else reversed(mean)
        return red, green, blue

    def with_size(self, size: int | None, resize: str | None = None) -> PreprocessSpec:
        """Return the spec for another input size, another resize policy, or both.

        With either the crop fraction becomes 1, so that an image which already has the requested
        size is fed as it is. The weights' own size without a policy changes nothing. A number of
        pixels as the policy brings the shorter side to them, and the central square of the size is
        cut out, as ``Resize(256), CenterCrop(227)``.

        Raises
        ------
        UsageError
            The size is out of range, there is no such policy, or the shorter side would be less
            than the size.
        """
        check_resize("--resize", resize)
        if resize is not None and resize.isdecimal():
            return self._cropped(self.size if size is None else size, int(resize))
        if resize is None and size in (None, self.size):
            return self
        return replace(
            self,
            size=self.size if size is None else size,
            resize=self.resize if resize is None else cast("Resize", resize),
            crop_fraction=1.0,
        )

    def _cropped(self, size: int, side: int) -> PreprocessSpec:
        if not size <= side <= MAX_SIDE:
            raise UsageError(
                f"--resize {side}: the shorter side of which {size} pixels are cut out has {size} "
                f"to {MAX_SIDE}"
            )
        if ("crop", size, side) == (self.resize, self.size, self.short_side):
            return self  # the same pixels have one key, however the fraction was rounded
        return replace(self, size=size, resize="crop", crop_fraction=size / side)

    def to_json(self) -> dict[str, Any]:
        """Return the spec as plain JSON values, `name` included.

        The usual rounding of crops is left out: files and keys were written before there was a
        choice.
        """
        fields: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        if self.crop_rounding == "even":
            del fields["crop_rounding"]
        return fields

    def identity(self) -> dict[str, Any]:
        """Return the fields that determine the pixels, for a cache key: all but the name."""
        fields = self.to_json()
        del fields["name"]
        if self.resize == "squash" and self.crop_fraction == 1:  # keys never had it in this case
            del fields["crop_fraction"]
        return fields

    @classmethod
    def from_json(cls, data: object, where: str) -> PreprocessSpec:
        """Build a spec from decoded JSON.

        Raises
        ------
        UsageError
            A field is missing, unknown or out of range; `where` names the source.
        """
        if not isinstance(data, dict):
            raise UsageError(f"{where}: expected a JSON object with the fields of a preprocessing")
        known = set(cls.__dataclass_fields__)
        if unknown := sorted(set(data) - known):
            raise UsageError(
                f"{where}: unknown field {unknown[0]!r}; the fields are {', '.join(sorted(known))}"
            )
        if missing := [field for field in ("size", "resize") if field not in data]:
            raise UsageError(f"{where}: field {missing[0]!r} is missing")
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        try:
            return cls(**{"name": Path(where).stem, **values})  # type: ignore[arg-type]
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from None

    def describe(self) -> str:
        """Return one line for people, for example in `probe weights list`."""
        numbers = "{}, x{:.6g}, mean {}, std {}".format(
            self.channels,
            self.scale,
            *(",".join(f"{v:g}" for v in t) for t in (self.mean, self.std)),
        )
        return f"{self.name}: {self.describe_resizing()}, {numbers}"

    def describe_resizing(self) -> str:
        """Return the part of `describe` about resizing."""
        kernel = f"{'antialiased ' if self.antialias else ''}{self.interpolation}"
        return f"{self._steps()}, {kernel}"

    def _steps(self) -> str:
        """Return the steps of the resize policy in words."""
        rounded = ", rounded down" * (self.crop_rounding == "down")
        cropped = f" then centre crop {self.size}{rounded}"
        match self.resize:
            case "squash":
                return f"squash to {self.short_side}{cropped * (self.short_side != self.size)}"
            case "pad":
                return f"longer side to {self.size} then pad to a square"
            case "crop":
                return f"shorter side to {self.short_side}{cropped}"

    @property
    def short_side(self) -> int:
        """Length in pixels of the shorter side before the crop; of both sides under ``squash``."""
        return math.floor(self.size / self.crop_fraction + 1e-9)


def resize_text(resize: str | int | None) -> str | None:
    """Return how to resize as an option says it: Python takes the shorter side as a number."""
    return None if resize is None else str(resize)


def check_resize(option: str, resize: str | None) -> None:
    """Raise UsageError unless it is None, one of `RESIZES`, or the shorter side in pixels."""
    if resize is not None and resize not in RESIZES and not re.fullmatch("[0-9]{1,9}", resize):
        raise UsageError(
            f"{option} {resize}: expected {', '.join(RESIZES)}, or the shorter side in pixels"
        )


def _finite(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= float(np.finfo(np.float64).max)  # JSON's whole numbers have no end


IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

TORCHVISION = PreprocessSpec(
    name="torchvision", size=224, resize="crop", crop_fraction=0.875,
    scale=1 / 255, mean=IMAGENET_MEAN, std=IMAGENET_STD,
)  # fmt: skip
GLUON = replace(TORCHVISION, name="gluon")  # the zoo trained with the same numbers
TIMM_BICUBIC = replace(TORCHVISION, name="timm_bicubic", interpolation="bicubic")
CAFFE_BGR = PreprocessSpec(
    name="caffe_bgr", size=224, resize="squash", antialias=False,
    channels="BGR", mean=(103.939, 116.779, 123.68),
)  # fmt: skip
CAFFENET = PreprocessSpec(  # the channel means of the mean image it was trained with
    name="caffenet", size=227, resize="crop", crop_fraction=227 / 256, antialias=False,
    channels="BGR", mean=(104.00699, 116.66877, 122.67891),
)  # fmt: skip
TF_INCEPTION = PreprocessSpec(
    name="tf_inception", size=299, resize="squash", antialias=False,
    scale=1 / 127.5, mean=(1.0, 1.0, 1.0),
)  # fmt: skip
TORCHVISION_INCEPTION = PreprocessSpec(
    # ported from TensorFlow: the module itself undoes the ImageNet normalisation
    name="torchvision_inception", size=299, resize="crop", crop_fraction=299 / 342,
    scale=1 / 255, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5),
)  # fmt: skip
EFFICIENTNET_LITE = PreprocessSpec(
    name="efficientnet_lite", size=224, resize="crop", crop_fraction=0.875, interpolation="bicubic",
    mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0),
)  # fmt: skip

PRESETS = {
    spec.name: spec
    for spec in (
        TORCHVISION, GLUON, TIMM_BICUBIC, CAFFE_BGR, CAFFENET, TF_INCEPTION, TORCHVISION_INCEPTION,
        EFFICIENTNET_LITE,
    )
}  # fmt: skip


def decode_preprocess(text: str, where: str) -> PreprocessSpec:
    """Return the spec that a JSON text holds; `where` names its source in messages.

    Raises
    ------
    UsageError
        It is no JSON, or a field is missing, unknown, given twice or out of range.
    """
    return PreprocessSpec.from_json(decode_json(text, where), where)


def decode_json(text: str, where: str) -> object:
    """Return what a JSON text holds; `where` names its source in messages.

    Raises
    ------
    UsageError
        It is no JSON, or a field is given twice.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise UsageError(f"{where}: field {twice!r} is given twice")
        return fields

    try:
        return json.loads(text, object_pairs_hook=once)
    except UsageError:
        raise
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: not a JSON file ({error})") from None
