"""Open networks from outside the catalog: an ONNX file, a published folder, a Python function.

Nothing enters without proof. On first use two photographs are forwarded, alone and together: a
network that gives another row for the same image, or lets the images of a batch move each other's
rows, is refused or run one image at a time. What was found is remembered until the file changes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones.catalog import BACKBONES
from probe.backbones.cut import with_pixels
from probe.backbones.foreign import (
    ENDING,
    CallableBackbone,
    Function,
    OnnxBackbone,
    function_network,
    joined_parts,
    layer_of_value,
    usual_value,
)
from probe.backbones.network import Shape
from probe.backbones.onnx_model import OWN, OnnxModel
from probe.backbones.spec import BackboneSpec, Layer
from probe.core.memo import Memo, stamp_of
from probe.core.records import loads_json
from probe.core.regular import read_regular
from probe.engines import plain_engine, relative_differences, values_of
from probe.errors import EngineError, UsageError, WeightsError, WeightsNotFoundError
from probe.preprocess.photographs import photographs
from probe.preprocess.published import published_beside, stated_by
from probe.preprocess.spec import MAX_TEXT, TORCHVISION, PreprocessSpec, decode_preprocess
from probe.weights.catalog import check_not_weights
from probe.weights.digest import remembered
from probe.weights.tensors import PREPROCESS_KEY

log = logging.getLogger(__name__)

VERSION = 3  # increase it when the same file can be described otherwise
SAME_ROW, SAME_HALF_ROW = 1e-3, 2e-2  # of a row's norm: rounding, in float32 and in float16
UNCHANGED = 1e-6
USUAL_SIDE = 224  # pixels, where neither the file nor its publisher says
HUB = re.compile(r"models--.+?--(?P<name>.+)")  # a folder of Hugging Face's download cache
MODEL = re.compile(
    r"(?P<part>vision_)?model(?P<variant>[._-].*)?"
)  # what such files are called there
Values = Mapping[str, NDArray[Any]]


def backbone_called(name: str, memo: Memo) -> BackboneSpec:
    """Return a backbone of the catalog, or the network of an ONNX file or of a folder with one.

    Raises
    ------
    UnknownNameError
        It is neither.
    UsageError
        It is the name of weights.
    WeightsError
        The file is no network that can be used; says why.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    check_not_weights(name, "--backbone")
    if not is_place(name):
        return BACKBONES[name]
    return open_network(Path(name).expanduser(), memo)


def is_place(name: str) -> bool:
    """Whether a backbone's name is a path: it ends in .onnx, has a slash, or is a folder here."""
    named = name.endswith(ENDING) or "/" in name
    return named or (name != "" and Path(name).expanduser().is_dir())


def is_network(place: str) -> bool:
    """Whether a text is the path of an ONNX file, or of a folder with one."""
    path = Path(place).expanduser()
    if path.is_dir():
        return any([*path.glob(f"*{ENDING}"), *(path / "onnx").glob(f"*{ENDING}")])
    return place.endswith(ENDING) and ("/" in place or path.is_file())


def network_name(place: str) -> str:
    """Return what the network of a file or folder is called in cache keys and tables."""
    path = Path(place).expanduser()
    return _name_of(_file_of(path) if path.is_dir() else path)


def open_network(place: Path, memo: Memo) -> OnnxBackbone:
    """Return the network of an ONNX file, or of a folder as Hugging Face publishes it.

    Of a file in the memo nothing is read until something has to be computed.

    Raises
    ------
    WeightsNotFoundError
        There is no such file, or there are several in the folder.
    WeightsError
        It is no network that can be used; says why.
    """
    path = _file_of(place)
    try:
        beside, refused = published_beside(path), ""
    except UsageError as error:  # another preprocessing can be asked for
        beside, refused = None, str(error)
    published = None if beside is None else beside[1]
    side = published.size if published is not None else None
    kind = f"network:{VERSION}:{side}"
    about = loads_json(remembered(path, kind, memo, lambda: json.dumps(_look(path, published))))
    if any(_stamp(path.parent / name) != stamp for name, stamp in about["beside"].items()):
        about = _look(path, published)  # arrays in files beside it were changed
    inside = about["preprocess"]
    if beside is None and inside is not None:
        published = decode_preprocess(inside, "inside.json")
    batch, model = about["batch"], OnnxModel(path, channels_last=about["channels_last"])
    return OnnxBackbone(
        name=_name_of(path),
        family="onnx",
        describe=lambda _size, _classes: model.network(batch),
        parameters=about["parameters"],
        input_size=about["side"],
        layers=tuple(Layer(**one) for one in about["layers"]),
        paper="",
        path=path,
        published=published,
        published_by=stated_by(beside[0]) if beside else "inside the file",
        refused=refused,
        model=model,
        measure=partial(_shapes, path, model, batch, memo),
        stamps=json.dumps(about["beside"]),
        usual_layer=about["usual"],
        batch=batch,
        classes=_classes_in(_published_folder(path)),
    )


def _file_of(place: Path) -> Path:
    if place.is_file():
        return place
    if not place.is_dir():
        raise WeightsNotFoundError(
            f"--backbone {place}: no such file, and no name of `probe backbones list`"
        )
    for folder in (place, place / "onnx"):
        if (folder / "model.onnx").is_file():
            return folder / "model.onnx"
    found = [*place.glob(f"*{ENDING}"), *(place / "onnx").glob(f"*{ENDING}")]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(str(one.relative_to(place)) for one in sorted(found)[:8])
    raise WeightsNotFoundError(
        f"--backbone {place}: "
        + (f"several networks, {listed}; name the file" if found else "no model.onnx in the folder")
    )


def _published_folder(path: Path) -> Path:
    return path.parent.parent if path.absolute().parent.name == "onnx" else path.parent


def _name_of(path: Path) -> str:
    """Return what a file's network is called: as the file, or as its folder if it says ``model``.

    It has the ending .onnx, so that it is no name of the catalog.
    """
    stem, folder = path.stem, _published_folder(path.absolute())
    if found := MODEL.fullmatch(stem):
        hub = HUB.fullmatch(folder.parent.parent.name)
        part = "-vision" if found["part"] else ""
        stem = (hub["name"] if hub else folder.name) + part + (found["variant"] or "")
    return (re.sub(r"[^\w.-]+", "-", stem).strip("-.") or "network")[:80] + ENDING


def _classes_in(folder: Path) -> tuple[str, ...]:
    """Return the classes that Hugging Face's config.json names, in the order of their numbers."""
    place = folder / "config.json"
    try:
        named = loads_json(read_regular(place, 64 * MAX_TEXT)).get("id2label", {})
        return tuple(str(named[key]) for key in sorted(named, key=int))
    except (OSError, ValueError, AttributeError, TypeError):
        return ()


def _stamp(path: Path) -> list[int]:
    try:
        return list(stamp_of(path))
    except OSError:
        return []


def _look(path: Path, published: PreprocessSpec | None) -> dict[str, Any]:
    """Run a file's network on the photographs and describe it, as plain JSON values."""
    model = OnnxModel(path)
    orders = [model.images.channels_last]
    if orders == [None]:
        orders = [False, True]
    for number, order in enumerate(orders):
        model = OnnxModel(path, channels_last=order)
        try:
            return _describe(model, path, published)
        except EngineError as error:
            if number + 1 == len(orders):
                raise WeightsError(f"{path}: cannot be run: {_reason(error)}") from error
    raise AssertionError


def _describe(model: OnnxModel, path: Path, published: PreprocessSpec | None) -> dict[str, Any]:
    images, inside = model.images, model.metadata.get(PREPROCESS_KEY)
    side = images.side or (published.size if published is not None else USUAL_SIDE)
    passages = model.passages()
    names = dict.fromkeys([*passages, *(v for p in passages for v in joined_parts(model, p))])
    values, other, batch = _proved(model, list(names), side)
    count = images.batch or 1
    shapes = {name: value.shape[1:] for name, value in values.items() if _is_rows(value, count)}
    layers = list[Layer]()
    for name, later in zip(passages, [*passages[1:], None], strict=True):
        repeated = later and shapes.get(later) == shapes.get(name) and model.before(later) == name
        if name not in model.outputs and (repeated or not model.is_feature(name)):
            continue  # as a convolution before its norm and its ReLU, or the padded pixels
        layer = layer_of_value(model, name, shapes, side=images.side)
        if isinstance(layer, Layer):
            layers.append(replace(layer, after=len(layers)))
    if not layers:
        raise WeightsError(f"{path}: no value of its network is a vector, tokens or a map")
    usual = usual_value(model, shapes)
    ends = [one for one in ([usual] if usual else model.outputs) if one in shapes]
    if ends and all(_same(values[one], other[one], UNCHANGED) for one in ends):
        raise WeightsError(
            f"{path}: {ends[0]} is the same for two different photographs, so nothing can be told "
            "from it; the file is damaged, or not the network that it should be"
        )
    return {
        "preprocess": inside,
        "channels_last": images.channels_last,
        "batch": batch,
        "side": side,
        "layers": [asdict(one) for one in layers],
        "usual": usual if any(usual == one.name for one in layers) else None,
        "parameters": model.parameters(model.nodes),
        "beside": {one.name: _stamp(one) for one in model.external_files},
    }


def _reason(error: EngineError) -> str:
    """Return why ONNX Runtime stopped, without the place in its source."""
    text = str(error).removesuffix("; see `probe doctor`")
    return re.sub(r"\S+\.(cc|h):\d+ .*?\) ", "", text)


def _is_rows(value: Any, images: int) -> bool:
    """Whether a value has floating point numbers for each of so many images."""
    floating = isinstance(value, np.ndarray) and value.dtype.kind == "f"
    return floating and value.ndim > 1 and len(value) == images


def _proved(model: OnnxModel, names: Sequence[str], side: int) -> tuple[Values, Values, int | None]:
    """Return some values of each photograph, and the only batch that gives them, None for any.

    Raises
    ------
    WeightsError
        A row depends on chance, or on other images of its batch; or it is not finite.
    EngineError
        The network cannot be run.
    """
    pictures = photographs(replace(TORCHVISION, size=side))
    count = model.images.batch or 1
    run = _runner(model, names, side, batch_size=count, limit=count)
    first, second, again = (run(np.repeat(pictures[n : n + 1], count, axis=0)) for n in (0, 1, 0))
    tolerance = SAME_HALF_ROW if model.images.half else SAME_ROW
    rows = [name for name in names if _is_rows(first[name], count)]
    for name in rows:
        if not np.isfinite(first[name]).all() or not np.isfinite(second[name]).all():
            raise WeightsError(
                f"{model.where}: {name} is NaN or infinity for a photograph; the file is damaged"
            )
        if not _same(first[name], again[name], tolerance):
            raise WeightsError(
                f"{model.where}: {name} is another one each time for the same image, as with "
                "dropout in training; export the network in evaluation mode"
            )
    try:
        both = _runner(model, names, side, batch_size=2, limit=None)(pictures)
        free = all(both[name].shape == (2, *first[name].shape[1:]) for name in rows)
    except EngineError:  # the file fixes how many images it takes
        free = False
    if free:
        if _independent(rows, both, first, second, tolerance):
            return first, second, None
        mixes = not model.quantizes
    else:
        mixed = pictures[np.arange(count) % 2]
        mixes = count > 1 and not _independent(rows, run(mixed), first, second, tolerance)
    if mixes:
        raise WeightsError(
            f"{model.where}: an image's row depends on the other images of its batch, as with "
            "batch norm in training; export the network in evaluation mode"
        )
    return first, second, count


def _independent(
    rows: Sequence[str], both: Values, first: Values, second: Values, tolerance: float
) -> bool:
    return all(
        len(both[name]) > 1
        and _same(both[name][:1], first[name][:1], tolerance)
        and _same(both[name][1:2], second[name][:1], tolerance)
        for name in rows
    )


def _same(one: NDArray[Any], other: NDArray[Any], tolerance: float) -> bool:
    if one.shape != other.shape:
        return False
    return bool((relative_differences(one, other) <= tolerance).all())


def _runner(
    model: OnnxModel, names: Sequence[str], side: int, *, batch_size: int, limit: int | None
) -> Callable[[NDArray[np.uint8]], Values]:
    """Return a function from a batch to some values; `limit` is what the network takes at a time.

    Raises
    ------
    EngineError
        The network cannot be run.
    """
    spec = replace(TORCHVISION, size=side)
    network = with_pixels(model.network(limit), [OWN + name for name in names])
    engine = plain_engine(network, model.arrays(network.nodes), spec, batch_size=batch_size)
    return lambda batch: dict(zip(names, engine.collect(engine.submit(batch)), strict=True))


def _shapes(  # noqa: PLR0917 - the last two are what a backbone asks for
    path: Path, model: OnnxModel, batch: int | None, memo: Memo, names: Sequence[str], size: int
) -> Mapping[str, Shape]:
    """Return the shapes of values of a batch of one image, by running it; see `OnnxBackbone`."""

    def compute() -> str:
        picture, count = photographs(replace(TORCHVISION, size=size))[:1], batch or 1
        try:
            run = _runner(model, names, size, batch_size=count, limit=batch)
            found = run(np.repeat(picture, count, axis=0))
        except EngineError as error:
            raise UsageError(f"{path} at {size} pixels: {_reason(error)}") from error
        every = {n: v for n, v in found.items() if v.ndim > 1 and v.dtype.kind == "f"}
        return json.dumps({n: (len(v) // count, *v.shape[1:]) for n, v in every.items()})

    asked = hashlib.blake2b(json.dumps(list(names)).encode(), digest_size=16).hexdigest()
    text = remembered(path, f"shapes:{VERSION}:{size}:{asked}", memo, compute)
    return {name: tuple(shape) for name, shape in loads_json(text).items()}


def backbone_of_function(
    function: Function,
    *,
    name: str,
    version: str,
    size: int | None,
    preprocess: PreprocessSpec | None,
) -> CallableBackbone:
    """Return a function of Python as a backbone; see `probe.Backbone.from_callable`.

    Raises
    ------
    UsageError
        Neither or both of size and preprocessing are given, or a name is missing.
    WeightsError
        The function gives other rows for the same image, alone, again or among others.
    EngineError
        The function fails, or does not return a row of numbers an image.
    """
    if not callable(function):
        raise UsageError(f"from_callable: {function!r} is no function")
    if (size is None) == (preprocess is None):
        raise UsageError(
            "from_callable: give size, for a function of uint8 (N, size, size, 3), or preprocess, "
            "for one of normalised float32 (N, 3, S, S)"
        )
    if not re.fullmatch(r"\w[\w.-]*", name) or name in BACKBONES or not version.strip():
        raise UsageError(
            f"from_callable: name={name!r}, version={version!r}: expected a name of letters, "
            "digits, dots and dashes that is none of the catalog's, and the version of its weights "
            "and code"
        )
    spec = preprocess or PreprocessSpec(name=name, size=size or 0, resize="crop")
    network = function_network(function, pixels=preprocess is None)
    pictures = photographs(spec)

    def rows(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        own = batch.copy()  # a function may write into what it is given
        return values_of(with_pixels(network, network.outputs), {}, spec, own)[0]

    both, again = rows(pictures), rows(pictures)
    one, other = rows(pictures[:1]), rows(pictures[1:])
    if not np.isfinite(both).all():
        raise WeightsError(f"{name}: NaN or infinity in the row of a photograph")
    if not _same(both, again, SAME_ROW):
        raise WeightsError(
            f"{name}: other rows each time for the same images, as with dropout in training; call "
            "the network's eval() first"
        )
    if not (_same(both[:1], one, SAME_ROW) and _same(both[1:], other, SAME_ROW)):
        raise WeightsError(
            f"{name}: an image's row depends on the other images of its batch, as with batch norm "
            "in training; call the network's eval() first"
        )
    side, width = spec.size, both.shape[1]
    layer = Layer(name="output", width=width, after=0, kind="vector", min_size=side, max_size=side)
    return CallableBackbone(
        name=name, family="callable", describe=lambda _size, _classes: network, parameters=0,
        input_size=spec.size, layers=(layer,), paper="", version=version, published=spec,
        published_by="given with the function",
    )  # fmt: skip
