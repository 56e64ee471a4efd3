"""Read the preprocessing that others publish beside their networks.

Three forms are understood: the ``preprocessor_config.json`` of transformers' image processors,
OpenCLIP's ``open_clip_config.json``, and timm's ``config.json`` with its ``pretrained_cfg``. What
they say is followed to the pixel, or is
refused with the field that stands in the way; nothing is approximated. A processor of transformers
whose name is unknown is refused, too, since some do more than their fields say.

The pixels are those of the processors that resize with Pillow, which transformers had first, and of
OpenCLIP's and timm's evaluation. The processors that resize torch tensors ("fast" ones) round
differently, by a grey level or two (docs/published.md).

References
----------
transformers 5.24: image_processing_backends.py, models/*/image_processing_pil_*.py; timm 1.0.31:
data/config.py (`resolve_data_config`), data/transforms_factory.py (`transforms_imagenet_eval`);
open_clip 3.3: factory.py (`create_model`), transform.py (`image_transform`).
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

from probe.core.regular import read_regular
from probe.errors import UsageError
from probe.preprocess.spec import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    MAX_TEXT,
    Channels,
    CropRounding,
    Interpolation,
    PreprocessSpec,
    Resize,
    decode_json,
)

PROCESSOR_FILE = "preprocessor_config.json"
NESTED_FILE = "processor_config.json"  # newer: that of texts and images together
OPEN_CLIP_FILE = "open_clip_config.json"
CONFIG_FILE = "config.json"
MAX_BYTES = 1 << 24  # a config.json may list the names of 21,000 classes
SHOWN = 80  # characters of a value that a message repeats
OWN = "choose a preprocessing yourself with --preprocess NAME|FILE.json"

# what a bare number as size means is not in the file: a square, or the length of the shorter side
_SQUARE = ("ViT", "DeiT", "Beit", "Pvt", "Blip", "DINOv3ViT", "Segformer", "EfficientNet")
_SHORTER = (
    "CLIP", "ChineseCLIP", "Bit", "Siglip", "MobileNetV1", "MobileNetV2", "MobileViT", "ConvNext",
    "PoolFormer", "Levit",
)  # fmt: skip
_CROPPING = {"DeiT", *_SHORTER} - {"Siglip", "ConvNext"}  # without being told to
_MODELS = {  # model_type of config.json, which decides where no processor is named
    "Beit": "beit data2vec-vision",
    "Bit": "bit dinov2 focalnet hiera pixio",
    "Blip": "blip blip-2 instructblip",
    "ChineseCLIP": "chinese_clip",
    "CLIP": "aimv2 aimv2_vision_model altclip clip florence2 git groupvit kosmos-2 metaclip_2 mlcd "
    "vipllava xclip",
    "ConvNext": "convnext convnextv2 cvt regnet resnet",
    "DeiT": "deit",
    "DINOv3ViT": "dinov3_vit",
    "EfficientNet": "align efficientnet",
    "Levit": "levit",
    "MobileNetV1": "mobilenet_v1",
    "MobileNetV2": "mobilenet_v2",
    "MobileViT": "mobilevit mobilevitv2",
    "PoolFormer": "poolformer",
    "Pvt": "pvt pvt_v2",
    "Segformer": "segformer upernet",
    "Siglip": "colpali gemma3n paligemma siglip",
    "ViT": "clipseg dinat ijepa mgp-str swiftformer swin swinv2 trocr vit vit_mae vit_msn",
}
_RESAMPLE: dict[int, Interpolation] = {0: "nearest", 2: "bilinear", 3: "bicubic"}
_OTHER_RESAMPLE = {1: "lanczos", 4: "box", 5: "hamming"}
_READ = {
    "do_resize", "size", "resample", "do_center_crop", "crop_size", "crop_pct", "do_rescale",
    "rescale_factor", "do_normalize", "image_mean", "image_std", "image_processor_type",
    "feature_extractor_type",
}  # fmt: skip
_TRUE_IF_MISSING = {
    "do_resize", "do_rescale", "rescale_factor", "do_normalize", "do_flip_channel_order",
    "include_top",
}  # fmt: skip
_WITHOUT_EFFECT = {  # on an RGB image of which no labels are asked for, on a CPU
    "do_convert_rgb", "do_reduce_labels", "reduce_labels", "processor_class", "data_format",
    "input_data_format", "return_tensors", "device", "disable_grouping", "default_to_square",
    "_valid_processor_keys", "pad_size", "model_input_names",
}  # fmt: skip
_OF_ONE = {
    "EfficientNet": {"rescale_offset", "include_top"},
    "MobileViT": {"do_flip_channel_order"},
}
_OPEN_CLIP = {  # fields of preprocess_cfg and what they are where missing or null
    "size": 224, "mode": "RGB", "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711], "interpolation": "bicubic",
    "resize_mode": "shortest", "fill_color": 0,
}  # fmt: skip
_USUAL_STEMS = ("model", "pytorch_model", "tf_model", "open_clip_model", "open_clip_pytorch_model")
_NETWORKS = (".safetensors", ".bin", ".pth", ".pt", ".ckpt", ".onnx", ".h5", ".keras", ".params")
_LEAST_SHARE = 0.01  # a smaller crop_pct is a mistake


def read_published(path: Path) -> PreprocessSpec:
    """Return the preprocessing that a published file describes.

    Parameters
    ----------
    path : Path
        A ``preprocessor_config.json`` of transformers, an ``open_clip_config.json``, or JSON of
        timm: its ``config.json``, or the ``pretrained_cfg`` alone.

    Raises
    ------
    UsageError
        The file is neither, or it asks for what a `PreprocessSpec` cannot say; the message names
        the field and its value.
    """
    spec = decode_published(read_json(path), path)
    if spec is None:
        raise UsageError(
            f"{path}: neither a preprocessor_config.json of transformers, an open_clip_config.json "
            f"nor a config of timm with pretrained_cfg; {OWN}"
        )
    return spec


def published_in(folder: Path) -> PreprocessSpec | None:
    """Return the preprocessing that a published folder states, or None if it states none.

    Raises
    ------
    UsageError
        Its files contradict each other, or one asks for what a `PreprocessSpec` cannot say.
    """
    found = published_files(folder)
    specs = [read_published(path) for path in found]
    for path, spec in zip(found[1:], specs[1:], strict=True):
        # they round the same crop differently, which is how their programs are and no contradiction
        alike = replace(spec, crop_rounding=specs[0].crop_rounding)
        if alike.identity() != specs[0].identity():
            raise UsageError(
                f"{folder}: {found[0].name} says {specs[0].describe()}, and {path.name} says "
                f"{spec.describe()}; choose one with --preprocess FILE"
            )
    return specs[0] if specs else None


def published_files(folder: Path) -> list[Path]:
    """Return the files of a folder that state a preprocessing, the most telling first."""
    found = [path] if (path := folder / PROCESSOR_FILE).is_file() else []
    telling = (
        (NESTED_FILE, "image_processor"), (OPEN_CLIP_FILE, "model_cfg"),
        (CONFIG_FILE, "pretrained_cfg"),
    )  # fmt: skip
    for name, field in telling:
        path = folder / name
        if path.is_file() and field in _fields(path):
            found.append(path)
    return found


def published_beside(model: Path) -> tuple[Path, PreprocessSpec] | None:
    """Return which file beside a network's file states its preprocessing, and what it states.

    Of a file ``onnx/model.onnx`` the folder above is meant, too. Where a folder has several
    networks, what it states is that of the one with a usual name (``model.safetensors``,
    ``pytorch_model.bin``).

    Raises
    ------
    UsageError
        As `published_in`.
    """
    folder = model.parent
    if folder.name == "onnx" and not published_files(folder):
        folder = folder.parent
    found = published_files(folder)
    if not found or not _is_the_published_one(model):
        return None
    spec = published_in(folder)
    return (found[0], spec) if spec else None


def stated_by(file: Path) -> str:
    """Return in words that a file beside a network's states its preprocessing."""
    return f"{'an' if file.name == OPEN_CLIP_FILE else 'a'} {file.name} beside the file"


def config_file_of(model: Path) -> Path:
    """Return where the ``config.json`` that speaks of a network's file is or would be."""
    path = model.parent / CONFIG_FILE
    above = model.parent.parent / CONFIG_FILE
    return above if model.parent.name == "onnx" and not path.is_file() else path


def config_beside(model: Path) -> dict[str, Any]:
    """Return the fields of the ``config.json`` that speaks of a network's file, or none."""
    path = config_file_of(model)
    return _fields(path) if path.is_file() and _is_the_published_one(model) else {}


def architecture_beside(model: Path) -> str:
    """Return which network of timm's a file holds by the ``config.json`` beside it, or nothing."""
    fields = config_beside(model)
    return str(fields.get("architecture", "")) if "pretrained_cfg" in fields else ""


def _is_the_published_one(model: Path) -> bool:
    """Whether a folder speaks of this file: its name is a usual one, or it is the only one."""
    exported = model.suffix == ".onnx" and model.stem.startswith("model_")  # model_fp16.onnx
    if model.stem in _USUAL_STEMS or exported:
        return True
    networks = [one.name for one in model.parent.iterdir() if one.suffix in _NETWORKS]
    return set(networks) <= {model.name}


def decode_published(data: object, path: Path) -> PreprocessSpec | None:
    """Return the preprocessing that the decoded JSON of a file describes, or None if it is no such.

    Raises
    ------
    UsageError
        It asks for what a `PreprocessSpec` cannot say.
    """
    if not isinstance(data, dict):
        return None
    where = str(path)
    try:
        if isinstance(nested := data.get("image_processor"), dict):
            return _transformers(nested, path)
        if "model_cfg" in data:
            return _open_clip(data, where)
        if "pretrained_cfg" in data or isinstance(data.get("input_size"), list):
            return _timm(data.get("pretrained_cfg", data), data.get("architecture"), where)
        if {"image_processor_type", "feature_extractor_type", "do_resize"} & set(data):
            return _transformers(data, path)
    except UsageError as error:
        text = str(error)
        raise UsageError(text if text.startswith(where) else f"{where}: {text}") from None
    return None


def read_json(path: Path) -> object:
    """Return the decoded JSON of a file.

    Raises
    ------
    UsageError
        The file cannot be read, is too large, is no JSON, or gives a field twice.
    """
    try:
        most = MAX_BYTES if path.name == CONFIG_FILE else MAX_TEXT
        text = read_regular(path, most).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a JSON file ({error})") from None
    return decode_json(text, str(path))


def _fields(path: Path) -> dict[str, Any]:
    """Return the fields of a file that may well be another program's; none if it is no JSON."""
    try:
        data = read_json(path)
    except UsageError:
        return {}
    return data if isinstance(data, dict) else {}


def _processor_of_model(path: Path) -> str | None:
    """Return the processor that transformers takes by ``model_type`` in config.json, or None."""
    if path.name not in (PROCESSOR_FILE, NESTED_FILE):
        return None
    config = _fields(path.with_name(CONFIG_FILE))
    if "image_processor_type" in config or "auto_map" in config:  # they may name another
        return None
    model = config.get("model_type")
    found = (family for family, models in _MODELS.items() if model in models.split())
    return next((f"{family}ImageProcessor" for family in found), None)


def _transformers(data: dict[str, Any], path: Path) -> PreprocessSpec:
    """Return the preprocessing of one of transformers' image processors."""
    where = str(path)
    nulls = [field for field, value in data.items() if value is None]
    data = {field: value for field, value in data.items() if value is not None}
    kind = data.get("image_processor_type", data.get("feature_extractor_type"))
    if kind is None:
        kind = _processor_of_model(path)
    if not isinstance(kind, str):
        raise UsageError(
            f"{where}: field image_processor_type is missing, and no config.json beside it has a "
            f"model_type that tells whose preprocessing this is; {OWN}"
        )
    family = kind.removesuffix("Fast").removesuffix("Pil")
    family = family.removesuffix("ImageProcessor").removesuffix("FeatureExtractor")
    if family not in _SQUARE + _SHORTER:
        raise _refusal(where, "image_processor_type", kind, "a processor that probe does not know")
    usual = _TRUE_IF_MISSING - ({"do_normalize"} if family == "MobileViT" else set())
    if unclear := sorted(usual & set(nulls)):
        raise UsageError(
            f"{where}: field {unclear[0]} is null, and versions of transformers differ in what "
            f"that means; {OWN}"
        )
    for field in sorted(set(data) - _READ - _WITHOUT_EFFECT - _OF_ONE.get(family, set())):
        if data[field] is not False:
            raise _refusal(where, field, data[field], f"which probe does not know of {kind}")
    if data.get("do_resize", True) is not True:
        raise _refusal(where, "do_resize", data["do_resize"], "and images differ in size")
    code = data.get("resample")
    if type(code) is not int or code not in _RESAMPLE:
        known = f"{_OTHER_RESAMPLE[code]}, " if code in (1, 4, 5) else ""
        raise _refusal(
            where, "resample", code,
            f"{known}and probe resizes by 0 (nearest), 2 (bilinear) or 3 (bicubic)",
        )  # fmt: skip
    if family == "DINOv3ViT" and code != 2:
        raise _refusal(where, "resample", code, "and probe does DINOv3ViT's with 2 (bilinear) only")
    resize, short, size = _geometry(data, family, where)
    odd = resize == "crop" or (short - size) % 2 == 1  # else there is nothing to round
    rounding: CropRounding = "down" if odd else "even"
    scale, mean, std = _arithmetic(data, family, where)
    flipped = family == "MobileViT" and _switch(data, "do_flip_channel_order", where, usual=True)
    channels: Channels = "BGR" if flipped else "RGB"
    return PreprocessSpec(
        name=kind, size=size, resize=resize, crop_fraction=size / short,
        interpolation=_RESAMPLE[code], antialias=code != 0, crop_rounding=rounding,
        channels=channels, scale=scale, mean=mean, std=std,
    )  # fmt: skip


def _geometry(data: dict[str, Any], family: str, where: str) -> tuple[Resize, int, int]:
    """Return the way of resizing, the length of the shorter side, and the side of the crop."""
    length, square = _size(data, family, where)
    if family == "ConvNext":
        if square:
            raise _refusal(where, "size", data["size"], "where this processor needs shortest_edge")
        if data.get("do_center_crop", False) is not False:
            raise _refusal(where, "do_center_crop", True, "a second crop")
        if length >= 384:
            return "squash", length, length
        return "crop", _larger(length, data, where), length
    resize: Resize = "squash" if square else "crop"
    if family == "PoolFormer":
        resize, length = "crop", _larger(length, data, where)
    if family == "Levit" and not square:
        length = int(256 / 224 * length)
    crop = _crop(data, family, where)
    if crop is None and resize == "crop":
        raise _refusal(where, "size", data["size"], "and no do_center_crop makes the images square")
    if crop is not None and crop > length:
        raise _refusal(
            where, "crop_size", data["crop_size"],
            f"more than the {length} pixels of the resized image, which gets a black border",
        )  # fmt: skip
    return resize, length, length if crop is None else crop


def _size(data: dict[str, Any], family: str, where: str) -> tuple[int, bool]:
    """Return a length in pixels, and whether it is that of both sides or of the shorter one."""
    size = data.get("size")
    if type(size) is int:
        square = family in _SQUARE
        if data.get("default_to_square", square) is not square:
            raise _refusal(where, "size", size, "and default_to_square is not as usual")
        size = {"height": size, "width": size} if square else {"shortest_edge": size}
    if not isinstance(size, dict) or not all(type(one) is int for one in size.values()):
        raise _refusal(where, "size", size, "expected whole numbers of pixels")
    square = set(size) == {"height", "width"} and len(set(size.values())) == 1
    if not (square or set(size) == {"shortest_edge"}):
        raise _refusal(
            where, "size", size, "neither a square nor the length of the shorter side alone"
        )
    length = max(size.values())
    if length < 1:
        raise _refusal(where, "size", size, "expected at least one pixel")
    return length, square


def _larger(length: int, data: dict[str, Any], where: str) -> int:
    """Return the length before a crop that keeps ``crop_pct`` of it, as all three round it."""
    share = _number(data, "crop_pct", where, None)
    if not _LEAST_SHARE <= share <= 1:
        more = " (more adds a black border)" * (share > 1)
        raise _refusal(where, "crop_pct", share, f"expected {_LEAST_SHARE} to 1{more}")
    return math.floor(length / share)


def _crop(data: dict[str, Any], family: str, where: str) -> int | None:
    """Return the side of the central square, or None if nothing is cut off."""
    if "do_center_crop" not in data and ("crop_size" in data or family in _CROPPING):
        raise _refusal(where, "do_center_crop", None, "and versions of transformers differ in that")
    if not _switch(data, "do_center_crop", where, usual=False):
        return None
    crop = data.get("crop_size")
    side = crop
    if isinstance(crop, dict) and set(crop) == {"height", "width"}:
        side = crop["height"] if crop["height"] == crop["width"] else None
    if type(side) is not int or side < 1:
        raise _refusal(where, "crop_size", crop, "expected the side of a square in pixels")
    return side


Triple = tuple[float, float, float]


def _arithmetic(data: dict[str, Any], family: str, where: str) -> tuple[float, Triple, Triple]:
    """Return scale, mean and deviation, in the terms of `PreprocessSpec`."""
    rescaled = _switch(data, "do_rescale", where, usual=True)
    scale = _number(data, "rescale_factor", where, 1 / 255) if rescaled else 1.0
    normalized = _switch(data, "do_normalize", where, usual=family != "MobileViT")
    if family == "MobileViT" and normalized:
        raise _refusal(where, "do_normalize", True, "which this processor leaves undone")
    again = family == "EfficientNet" and _switch(data, "include_top", where, usual=True)
    offset = (
        family == "EfficientNet"
        and rescaled
        and _switch(data, "rescale_offset", where, usual=False)
    )
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if normalized:
        mean, std = _triple(data, "image_mean", where), _triple(data, "image_std", where)
    if again:  # EfficientNet's classifier was trained with the deviation taken twice
        other = _triple(data, "image_std", where)
        std = (std[0] * other[0], std[1] * other[1], std[2] * other[2])
    if offset:  # to -1 .. 1
        mean = (mean[0] + 1, mean[1] + 1, mean[2] + 1)
    return scale, mean, std


def _timm(data: object, architecture: object, where: str) -> PreprocessSpec:
    """Return the preprocessing of timm's evaluation.

    ``test_input_size`` and ``test_crop_pct`` are for a larger input than the network was trained
    with; timm takes them only where asked to, and so they are not used.
    """
    if not isinstance(data, dict):
        raise _refusal(where, "pretrained_cfg", data, "expected an object")
    size = data.get("input_size")
    if not isinstance(size, list) or len(size) != 3 or not all(type(one) is int for one in size):
        raise _refusal(where, "input_size", size, "expected channels, height and width")
    if size[0] != 3 or size[1] != size[2] or size[1] < 1:
        raise _refusal(where, "input_size", size, "and probe makes square images of 3 channels")
    kernel = data.get("interpolation") or "bicubic"
    interpolation = next((one for one in _RESAMPLE.values() if one == kernel), None)
    if interpolation is None:
        known = ", ".join(_RESAMPLE.values())
        raise _refusal(where, "interpolation", kernel, f"and probe resizes by {known}")
    short = _larger(size[1], {"crop_pct": data.get("crop_pct") or 0.875}, where)
    mode = data.get("crop_mode") or "center"
    if mode not in ("center", "squash"):
        raise _refusal(where, "crop_mode", mode, "and probe does as center and squash do")
    names = [one for one in (architecture, data.get("tag")) if isinstance(one, str) and one]
    return PreprocessSpec(
        name=".".join(names) or "timm", size=size[1],
        resize="squash" if mode == "squash" else "crop",
        crop_fraction=size[1] / short, interpolation=interpolation,
        antialias=interpolation != "nearest",
        scale=1 / 255,
        mean=_triple(data, "mean", where) if data.get("mean") else IMAGENET_MEAN,
        std=_triple(data, "std", where) if data.get("std") else IMAGENET_STD,
    )  # fmt: skip


def _open_clip(data: dict[str, Any], where: str) -> PreprocessSpec:
    """Return the preprocessing of OpenCLIP's evaluation.

    The side of the input is the network's, whatever ``preprocess_cfg`` says about it.
    """
    model, stated = data["model_cfg"], data.get("preprocess_cfg", {})
    vision = model.get("vision_cfg") if isinstance(model, dict) else None
    if not isinstance(vision, dict):
        raise _refusal(where, "model_cfg", model, "expected an object with vision_cfg")
    if not isinstance(stated, dict):
        raise _refusal(where, "preprocess_cfg", stated, "expected an object")
    for field in sorted(set(stated) - set(_OPEN_CLIP)):
        raise _refusal(where, field, stated[field], "which probe does not know of OpenCLIP")
    cfg = _OPEN_CLIP | {field: value for field, value in stated.items() if value is not None}
    size = vision.get("image_size", 224)
    side = size[0] if isinstance(size, list) and len(size) == 2 and size[0] == size[1] else size
    if type(side) is not int or side < 1:
        raise _refusal(where, "image_size", size, "expected the side of a square in pixels")
    if cfg["mode"] != "RGB":
        raise _refusal(where, "mode", cfg["mode"], "expected RGB")
    kernel, mode = cfg["interpolation"], cfg["resize_mode"]
    if kernel not in ("bilinear", "bicubic", "random"):
        raise _refusal(where, "interpolation", kernel, "and OpenCLIP has bilinear, bicubic, random")
    if mode not in ("shortest", "squash"):
        known = "and probe does as shortest and squash do"
        raise _refusal(where, "resize_mode", mode, known + " (longest adds a border)")
    return PreprocessSpec(
        name="open_clip", size=side, resize="squash" if mode == "squash" else "crop",
        interpolation="bilinear" if kernel == "bilinear" else "bicubic",  # random: in training
        scale=1 / 255, mean=_triple(cfg, "mean", where), std=_triple(cfg, "std", where),
    )  # fmt: skip


def _triple(data: dict[str, Any], field: str, where: str) -> Triple:
    values = data.get(field)
    if not isinstance(values, list) or len(values) != 3 or not all(map(_is_number, values)):
        raise _refusal(where, field, values, "expected three numbers")
    return float(values[0]), float(values[1]), float(values[2])


def _switch(data: dict[str, Any], field: str, where: str, *, usual: bool) -> bool:
    value = data.get(field, usual)
    if not isinstance(value, bool):
        raise _refusal(where, field, value, "expected true or false")
    return value


def _number(data: dict[str, Any], field: str, where: str, usual: float | None) -> float:
    value = data.get(field, usual)
    if not _is_number(value):
        raise _refusal(where, field, value, "expected a number")
    return float(value)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30


def _refusal(where: str, field: str, value: object, why: str) -> UsageError:
    shown = "missing" if value is None else repr(value)
    shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."
    return UsageError(f"{where}: field {field} is {shown}, {why}; {OWN}")
