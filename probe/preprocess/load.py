"""What `--preprocess` accepts: a name of ours or torchvision's, a file, or a published folder."""

from __future__ import annotations

from pathlib import Path

from probe.errors import UsageError
from probe.preprocess.published import decode_published, published_in, read_json
from probe.preprocess.spec import PRESETS, PreprocessSpec
from probe.preprocess.torchvision_weights import ENUM, weights_transforms


def load_preprocess(text: str) -> PreprocessSpec:
    """Return the preprocessing that a text names.

    Parameters
    ----------
    text : str
        The name of a preset; a member of torchvision's weight enums, such as
        ``ResNet50_Weights.IMAGENET1K_V2``; a JSON file with the fields of a `PreprocessSpec`, of
        transformers (``preprocessor_config.json``), OpenCLIP or timm; or a folder with such a file.

    Raises
    ------
    UsageError
        It is none of these, or the file does not hold a valid preprocessing: a field is missing,
        unknown, given twice, out of range or without effect, or contradicts another.
    """
    if text in PRESETS:
        return PRESETS[text]
    path = Path(text)
    if path.is_dir():
        found = published_in(path)
        if found is None:
            raise UsageError(
                f"--preprocess {text}: this folder has no preprocessor_config.json, no "
                "open_clip_config.json, and no config.json of timm"
            )
        return found
    if not path.is_file():
        if ENUM in text:
            return weights_transforms(text)
        if "resize=" in text or "crop=" in text:
            raise UsageError(
                f"--preprocess {text}: give the name alone, and beside it the shorter side and the "
                "middle of it as --resize 256 --size 227"
            )
        raise UsageError(
            f"--preprocess {text}: neither a file, a folder nor one of {', '.join(PRESETS)}"
        )
    data = read_json(path)
    published = decode_published(data, path)
    if published is not None:
        return published
    spec = PreprocessSpec.from_json(data, text)
    if problem := _contradiction(spec):
        raise UsageError(f"{path}: {problem}")
    return spec


def _contradiction(spec: PreprocessSpec) -> str | None:
    """Return a message about fields of a user's file that contradict each other, or None."""
    if spec.crop_fraction < 1 and spec.short_side == spec.size:
        return (
            f"field crop_fraction is {spec.crop_fraction!r} and has no effect: of {spec.size} "
            "pixels it cuts nothing off; leave it out"
        )
    top = 255 * spec.scale  # the largest value of a pixel that mean and std are taken of
    for field, values in (("mean", spec.mean), ("std", tuple(s for s in spec.std if s != 1))):
        if any(not -1e-6 * top <= value <= (1 + 1e-6) * top for value in values):
            return (
                f"field {field} is {getattr(spec, field)}, and scale {spec.scale:.6g} brings "
                f"pixels to 0 to {top:.6g}: no image has such a {field}; give scale, mean and std "
                "in one unit"
            )
    if spec.scale == 1 and all(0 < value < 1 for value in (*spec.mean, *spec.std)):
        return (
            f"field mean is {spec.mean}, of pixels from 0 to 1, and scale leaves them from 0 to "
            f"255; add scale {1 / 255!r}, or give mean and std of 0 to 255"
        )
    return None
