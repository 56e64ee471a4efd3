"""Read the input's size, mean and scale from a Caffe `.prototxt` beside a model.

Protobuf's text format is parsed into names and values, of which a few fields are used; nothing is
executed. A `deploy.prototxt` has the size of the input; a `train_val.prototxt` also has the mean,
the scale and the crop.

References
----------
BVLC/caffe, src/caffe/proto/caffe.proto: NetParameter, TransformationParameter, ImageDataParameter;
Protocol Buffers documentation, Text Format Language Specification.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from probe.core.regular import read_regular
from probe.errors import WeightsError

MAX_BYTES, MAX_DEPTH, MAX_FILES = 4 << 20, 32, 64
SUFFIX = ".prototxt"
_TOKEN = re.compile(
    r"""\s+|\#[^\n]*|(?P<word>[A-Za-z_][\w.]*)|(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
    r"""|(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?f?)|(?P<mark>[{}<>:;,\[\]])"""
)

Message = list[tuple[str, "str | Message"]]


@dataclass(frozen=True, kw_only=True)
class CaffeInput:
    """The input of a network as its description states it; None or empty where it does not.

    Parameters
    ----------
    path : Path
        The description.
    size : int or None
        Side of the square input, in pixels.
    short_side : int or None
        Size in pixels to which images are resized before the crop.
    scale : float
        Factor by which pixels are multiplied after the mean was subtracted.
    mean : tuple of float
        Means of BGR, 0 to 255: three, one for all channels, or none.
    mean_file : str
        Name of a mean image, without its folder.
    """

    path: Path
    size: int | None
    short_side: int | None
    scale: float
    mean: tuple[float, ...]
    mean_file: str


def prototxt_beside(model: Path) -> CaffeInput | None:
    """Return the input that the descriptions in a model's folder state.

    Descriptions with the model's name come first, and other files are skipped. None is returned if
    they contradict each other in the size or the mean.
    """
    try:
        names = sorted(one for one in model.parent.iterdir() if one.suffix == SUFFIX)
    except OSError:
        return None
    stem = model.stem.lower()
    alike = [one for one in names if stem.startswith(one.stem.lower())]
    deploy = [one for one in names if re.search("deploy|train|val", one.stem.lower())]
    found = []
    for path in (alike or deploy or names)[:MAX_FILES]:
        try:
            one = read_prototxt(path)
        except WeightsError:
            continue
        if one.size is not None or one.mean or one.mean_file:
            found.append(one)
    if not found:
        return None
    if len({one.size for one in found if one.size is not None}) > 1:
        return None
    telling = [one for one in found if one.mean or one.mean_file]
    if len({(one.mean, one.mean_file, one.scale) for one in telling}) > 1:
        return None
    best = telling[0] if telling else found[0]
    size = next((one.size for one in found if one.size is not None), None)
    return CaffeInput(
        path=best.path, size=size, short_side=best.short_side, scale=best.scale, mean=best.mean,
        mean_file=best.mean_file,
    )  # fmt: skip


def read_prototxt(path: Path) -> CaffeInput:
    """Return the input that one description states.

    Raises
    ------
    WeightsError
        The file cannot be read, or is not text of this format.
    """
    try:
        text = read_regular(path, MAX_BYTES).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path}: cannot be read ({error})") from None
    net = _message(path, _tokens(path, text), 0)
    dims = [_int(value) for name, value in net if name == "input_dim"]
    shapes = [value for name, value in net if name == "input_shape"]
    layers = [value for name, value in net if name in ("layer", "layers")]
    inputs = [one for layer in layers for one in _every(layer, "input_param")]
    shapes += [shape for one in inputs for shape in _every(one, "shape")]
    for shape in shapes:
        dims = dims or [_int(value) for value in _every(shape, "dim")]
    data = [one for layer in layers for one in _every(layer, "transform_param")]
    data += [one for layer in layers for key in ("data_param", "image_data_param")
             for one in _every(layer, key)]  # fmt: skip
    squashed = [_int(value) for one in data for value in _every(one, "new_height")]
    squashed += [_int(value) for one in data for value in _every(one, "new_width")]
    crops = {_int(value) for one in data for value in _every(one, "crop_size")}
    size = dims[-1] if len(dims) == 4 and dims[2] == dims[3] else None
    if size is None and len(crops) == 1:
        size = crops.pop()
    means = [_floats(_every(one, "mean_value")) for one in data]
    files = [value for one in data for value in _every(one, "mean_file") if isinstance(value, str)]
    scales = [value for one in data for value in _floats(_every(one, "scale"))]
    return CaffeInput(
        path=path,
        size=size,
        short_side=squashed[0] if len(set(squashed)) == 1 and squashed[0] else None,
        scale=scales[0] if len(set(scales)) == 1 else 1.0,
        mean=next((one for one in means if len(one) in (1, 3)), ()),
        mean_file=files[0].replace("\\", "/").rpartition("/")[2] if files else "",
    )


def _every(message: object, name: str) -> list[str | Message]:
    if not isinstance(message, list):
        return []
    return [value for key, value in message if key == name]


def _int(value: object) -> int:
    return int(value) if isinstance(value, str) and re.fullmatch(r"\d{1,6}", value) else 0


def _floats(values: list[str | Message]) -> tuple[float, ...]:
    return tuple(float(one) for one in values if isinstance(one, str) and _is_number(one))


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,2})?", text) is not None


def _tokens(path: Path, text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise WeightsError(f"{path}: not the description of a Caffe network")
        at = found.end()
        if found["text"] is not None:
            yield '"' + found["text"][1:-1]
        elif found.lastgroup is not None:
            yield found[0]


def _message(path: Path, tokens: Iterator[str], depth: int) -> Message:
    """Return the fields up to the closing bracket or the end."""
    fields: Message = []
    name, listed = "", False
    if depth > MAX_DEPTH:
        raise WeightsError(f"{path}: nested too deeply for a network")
    for part in tokens:
        if part in ("{", "<"):
            fields.append((name, _message(path, tokens, depth + 1)))
        elif part in ("}", ">"):
            return fields
        elif part in (":", ";", ","):
            continue
        elif part in ("[", "]"):
            listed = part == "["
        elif not name:
            name = part
            continue
        else:
            number = part.removesuffix("f")
            fields.append((name, number if _is_number(number) else part.removeprefix('"')))
        if not listed:
            name = ""
    return fields
