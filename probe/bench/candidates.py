"""Parse the candidates of a bench from the command line.

A candidate is ``BACKBONE[/LAYER[+LAYER...][:POOL]][@SIZE[:RESIZE]][=WEIGHTS]``:

    vgg16                           its own layer, size and weights at hand
    vgg16@64                        64 pixels
    vgg16@64:pad                    resized by another policy: crop, squash or pad
    vgg16/pool4+pool5@64            two layers, filled by one pass
    vgg16/conv5_3:flatten@32        a map as it is
    resnet18@32=random:0            weights: a file, a name of the catalog or random:SEED
    nets/vit.onnx/LAYER:cls         the network of an ONNX file, or of a folder with one

The name of an entry, or its beginning, stands for the features that lie in it: those of
`probe cache import` have no backbone; see `probe.bench.given`.

What a candidate leaves open comes from `--size`, `--resize`, `--layer`, `--weights`,
`--preprocess` and `--mean`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from probe.backbones.catalog import BACKBONES
from probe.backbones.foreign import ENDING
from probe.backbones.spec import BackboneSpec
from probe.core.urls import is_url, name_of, public, text_of
from probe.datasets import DATASETS
from probe.datasets.forms import shards
from probe.datasets.forms.formats import is_dataset_file
from probe.datasets.tables.table import is_table
from probe.errors import UsageError
from probe.preprocess.spec import check_resize
from probe.weights import check_not_weights, is_network, network_name

SPEC = re.compile(
    r"(?P<backbone>\w+)(/(?P<layers>\w+(\+\w+)*)(:(?P<pool>\w+))?)?(@(?P<size>\d+)(:(?P<resize>[a-z]+|[0-9]+))?)?"
    r"(=(?P<weights>.+))?"
)
# the network of a file: layers there are named as its author liked
FOREIGN = re.compile(
    r"(?P<backbone>[\w.-]+\.onnx)(/(?P<layers>[^@]+?)(:(?P<pool>avg|max|cls|flatten|none))?)?"
    r"(@(?P<size>\d+)(:(?P<resize>[a-z]+|[0-9]+))?(=(?P<weights>.+))?)?"
)
GRAMMAR = "BACKBONE[/LAYER[+LAYER][:POOL]][@SIZE[:RESIZE]][=WEIGHTS]"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One forward pass to compare; what is None or empty is the weights' own.

    Parameters
    ----------
    size : int, optional
        Side of the network's input in pixels.
    resize : {"crop", "squash", "pad"} or pixels as text, optional
    weights : str, optional
        None means ``auto``.
    entry : str, optional
        The entry whose features are compared as they are; the rest says what it records.
    place : str, optional
        The file or folder of a network from outside the catalog.
    network : BackboneSpec, optional
        The backbone, where Python's caller gave it as an object.
    """

    backbone: str
    layers: tuple[str, ...] = ()
    pool: str | None = None
    size: int | None = None
    resize: str | None = None
    weights: str | None = None
    preprocess: str | None = None
    mean: str | None = None
    entry: str | None = None
    place: str | None = None
    network: BackboneSpec | None = None

    @property
    def text(self) -> str:
        """The name of the candidate until its layer and size are known, without a weight file."""
        if self.entry is not None:
            return self.entry
        layers = f"/{'+'.join(self.layers)}" if self.layers else ""
        pool = f":{self.pool}" if self.pool else ""
        size = f"@{self.size}" if self.size else ""
        size += f":{self.resize}" if self.resize else ""
        drawn = (self.weights or "").startswith("random:")
        return self.backbone + layers + pool + size + (f"={self.weights}" if drawn else "")


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """Defaults for what candidates leave open.

    Parameters
    ----------
    sizes : tuple of int
        Each candidate without a size of its own is taken at each.
    layers : tuple of str
        Each backbone takes those of its own; one that has none of them keeps its default.
    weights, preprocess, mean : mapping of backbone to str
    """

    sizes: tuple[int, ...] = ()
    resize: str | None = None
    layers: tuple[str, ...] = ()
    weights: Mapping[str, str]
    preprocess: Mapping[str, str]
    mean: Mapping[str, str] = field(default_factory=dict)


def parse_candidate(text: str) -> Candidate:
    """Read one candidate.

    Raises
    ------
    UsageError
        The text does not follow the grammar.
    UnknownNameError
        There is no such backbone or layer; the message lists those that there are.
    """
    place, rest = _place_in(text.strip())
    found = read_name(rest)
    if found is None:
        check_not_weights(text.strip().partition("@")[0], "--backbones")
        raise UsageError(
            f"--backbones {text!r}: expected {GRAMMAR}, as vgg16/pool5@64, an ONNX file, or the "
            "beginning of an entry's name (`probe cache list`)"
        )
    backbone, layers = found["backbone"], tuple((found["layers"] or "").split("+"))
    check_resize(f"--backbones {text}: to resize by", found["resize"])
    if not backbone.endswith(ENDING):
        backbone = BACKBONES[backbone].name
        for layer in filter(None, layers):
            BACKBONES[backbone].layer(layer)
    return Candidate(
        backbone=backbone,
        place=place,
        layers=tuple(filter(None, layers)),
        pool=found["pool"],
        size=int(found["size"]) if found["size"] else None,
        resize=found["resize"],
        weights=found["weights"] or None,
    )


def read_name(text: str) -> re.Match[str] | None:
    """Return the parts of a candidate's text without a path, or of a name of features."""
    return SPEC.fullmatch(text) or FOREIGN.fullmatch(text)


def _place_in(text: str) -> tuple[str | None, str]:
    """Return the path that a text begins with, if any, and the text with the network's name."""
    parts = re.sub(r"@\d+(:[a-z0-9]+)?$", "", text).split("/")
    for count in range(len(parts), 0, -1):
        place = "/".join(parts[:count])
        if place and is_network(place):
            return place, network_name(place) + text[len(place) :]
    return None, text


def candidates(texts: Sequence[str], defaults: Defaults) -> list[Candidate]:
    """Return the distinct candidates, in the order they were given.

    Raises
    ------
    UsageError
        Nothing was named, or an option speaks of a backbone or a layer that no candidate has.
    """
    named = [parse_candidate(text) for text in texts if text.strip()]
    if not named:
        raise UsageError("--backbones: name at least one; `probe backbones list` has them all")
    for one in named:
        if one.backbone not in BACKBONES and one.place is None:
            raise UsageError(f"--backbones {one.text}: there is no file {one.backbone}")
    _check_defaults(named, defaults)
    found: dict[Candidate, None] = {}
    for one in named:
        filled = replace(
            one,
            layers=one.layers or tuple(layer for layer in defaults.layers if _has(one, layer)),
            resize=one.resize or defaults.resize,
            weights=one.weights or defaults.weights.get(one.backbone),
            preprocess=defaults.preprocess.get(one.backbone),
            mean=defaults.mean.get(one.backbone),
        )
        for size in (one.size,) if one.size or not defaults.sizes else defaults.sizes:
            found[replace(filled, size=size)] = None
    return list(found)


def _check_defaults(named: Sequence[Candidate], defaults: Defaults) -> None:
    backbones = {one.backbone for one in named}
    for option, given in (
        ("--weights", defaults.weights), ("--preprocess", defaults.preprocess),
        ("--mean", defaults.mean),
    ):  # fmt: skip
        for name in given.keys() - backbones:
            raise UsageError(f"{option} {name}=...: {name} is not among --backbones")
    for option, value, said in (
        ("--size", defaults.sizes, [one.size for one in named]),
        ("--resize", defaults.resize, [one.resize for one in named]),
        ("--layer", defaults.layers, [one.layers for one in named]),
    ):
        if value and named and all(said):
            raise UsageError(f"{option}: every backbone has its own; leave one of them out")
    for name in defaults.weights:
        if all(one.weights for one in named if one.backbone == name):
            raise UsageError(
                f"--weights {name}=...: every {name} has its own; leave one of them out"
            )
    for layer in defaults.layers:
        if not any(_has(one, layer) for one in named):
            raise UsageError(f"--layer {layer}: none of {', '.join(sorted(backbones))} has it")


def _has(one: Candidate, layer: str) -> bool:
    """Whether a layer is one of a candidate's backbone; a file's has what no catalog's has."""
    if one.backbone in BACKBONES:
        return layer in [own.name for own in BACKBONES[one.backbone].layers]
    return all(layer not in [own.name for own in spec.layers] for spec in BACKBONES.values())


def assignments(option: str, texts: Sequence[str], named: Sequence[str]) -> dict[str, str]:
    """Return the mapping of options like ``--weights NAME=FILE``.

    Parameters
    ----------
    named : sequence of str
        Candidates as they were typed; where all are of one backbone, its name may be left out.

    Raises
    ------
    UsageError
        There is no name, or it is given twice.
    """
    found: dict[str, str] = {}
    asked = [parse_candidate(text) for text in named if text.strip()]
    backbones = {one.backbone for one in asked}
    places = {one.place: one.backbone for one in asked if one.place}
    for text in texts:
        place = next((one for one in places if text.startswith(f"{one}=")), None)
        name, equals, value = text.partition("=")
        if place is not None:
            name, value = places[place], text.removeprefix(f"{place}=")
        if name not in BACKBONES and name not in backbones and len(backbones) == 1:
            (name,), equals, value = backbones, "=", text
        if not (name and equals and value):
            raise UsageError(f"{option} {text}: expected NAME=VALUE, as vgg16=FILE")
        if name in found:
            raise UsageError(f"{option} {name}=...: given twice")
        found[name] = value
    return found


def dataset_labels(texts: Sequence[str]) -> list[str]:
    """Return what datasets are called in tables: their names, or those of their folder or file.

    Two of one name keep their paths.
    """
    short = [text if text in DATASETS else _own_name(text) for text in texts]
    return [
        one if short.count(one) == 1 else public(text)
        for one, text in zip(short, texts, strict=True)
    ]


def _own_name(text: str) -> str:
    """Return the name of a dataset's folder, or of its file without the ending."""
    if is_url(text):
        name = name_of(text)
        return Path(name).stem if is_dataset_file(Path(name)) else name
    path = Path(text_of(text)).resolve()
    if shards.is_pattern(path) and not path.exists():
        return path.parent.name if is_table(path) else shards.name_of(path)
    return path.name if path.is_dir() else path.stem


def feature_name(
    backbone: str, layer: str, pool: str, size: int, weights: str, *, resize: str | None = None
) -> str:
    """Return the name of features in every table; `parse_candidate` reads it back.

    An average of a map goes without saying, and so do weights, unless they are random, and the way
    to resize images, unless it is another than the weights have at that size. Exporters of torch
    begin the names of values with a slash, which a backbone finds again.
    """
    reduced = f":{pool}" if pool in ("max", "cls", "flatten") else ""
    return (
        f"{backbone}/{layer.removeprefix('/')}{reduced}@{size}"
        + (f":{resize}" if resize else "")
        + (f"={weights}" if weights.startswith("random:") else "")
    )


def matching(text: str, names: Sequence[str]) -> str:
    """Return the one name of features that a candidate's text means; an entry's means itself.

    Raises
    ------
    UsageError
        None does, or more than one; the message lists them.
    """
    if text in names:
        return text
    wanted = parse_candidate(text)
    found = []
    for name in names:
        if read_name(name) is None:  # an entry's
            continue
        one = parse_candidate(name)
        brought = wanted.place if one.weights else None  # where two networks have one name
        weights = wanted.weights or brought
        layers = [layer.removeprefix("/") for layer in wanted.layers]
        asked = (wanted.pool, wanted.size, wanted.resize, weights, *layers)
        has = (one.pool, one.size, one.resize, one.weights, *one.layers)
        agrees = all(a in (None, h) for a, h in zip(asked, has, strict=False))
        if one.backbone == wanted.backbone and agrees:
            found.append(name)
    if len(found) == 1:
        return found[0]
    listed = ", ".join(found or names)
    raise UsageError(
        f"{text!r} means {'several' if found else 'none'} of the features compared: {listed}"
    )
