"""Random changes to training images, as text on the command line and as data.

    flip               mirrored left to right, half of the time
    crop=P             padded by P of the side by reflection, then cut out again (default 0.125)
    resized-crop=A     a piece of at least A of the area, resized (default 0.35)
    jitter=S           brightness, contrast and saturation, each by up to S (default 0.3)
    hue=H              hue turned by up to H of the circle (default 0.05)
    lighting=S         noise along ImageNet's principal colours, of deviation S (default 0.1)
    rand=NxM           N random operations of strength M of 10 (default 2x6)
    erase=P            a rectangle of noise, in P of the images (default 0.25)

``auto`` is flip where the frozen probe survives a mirror (`probe.finetune.mirror`), else none.
Other presets: ``none``; ``light`` is flip, crop; ``medium`` adds jitter; ``strong`` is flip, rand,
crop, erase. What an image goes through is drawn from the generator it is given and from nothing
else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from probe.errors import UsageError

AUTO = "auto"  # settled on held-out images before the first step
PRESETS = {
    "none": "",
    "light": "flip,crop",
    "medium": "flip,crop,jitter",
    "strong": "flip,crop,rand,erase",
}


@dataclass(frozen=True, kw_only=True)
class Augment:
    """What may happen to a training image; the defaults change nothing.

    Parameters
    ----------
    flip : bool
    crop : float
        Padding as a fraction of the side, 0 to 0.5.
    resized_crop : float
        Least part of the area that a resized crop shows, 0 (no such crop) to 1.
    jitter : float
        0 to 1.
    hue : float
        0 to 0.5.
    lighting : float
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
    """Read a preset, or names with numbers separated by commas; presets may stand among them.

    While it is not settled, ``auto`` is read as flip; it stands alone.

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
