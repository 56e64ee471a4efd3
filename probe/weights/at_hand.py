"""Which published files there are for a backbone, and where one of them may lie already."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from probe.backbones.spec import BackboneSpec
from probe.weights.catalog import WEIGHTS
from probe.weights.spec import WeightsSpec

_DOWNLOADS = {  # format -> variable, its default, and the folder in it
    "torch": ("TORCH_HOME", "~/.cache/torch", "hub/checkpoints"),
    "keras": ("KERAS_HOME", "~/.keras", "models"),
    "gluon": ("MXNET_HOME", "~/.mxnet", "models"),
}


def locate(spec: WeightsSpec, cache_dir: Path) -> Path | None:
    """Return where a published file is at hand, or None.

    Looked in: the cache folder, the folder where the publisher's framework keeps what it downloads,
    an installed package.
    """
    for folder in (cache_dir / "weights", *_downloads(spec.format)):
        if (folder / spec.file_name).is_file():
            return folder / spec.file_name
    if not spec.package:
        return None
    module, inside = spec.package
    found = importlib.util.find_spec(module)  # a top-level name: nothing of it is imported
    folders = (found.submodule_search_locations if found else None) or []
    return next((path for folder in folders if (path := Path(folder, inside)).is_file()), None)


def published(backbone: BackboneSpec) -> list[WeightsSpec]:
    """Return the catalog's entries for a backbone, the preferred first."""
    return [spec for spec in WEIGHTS.values() if serves(spec, backbone)]


def serves(spec: WeightsSpec, backbone: BackboneSpec) -> bool:
    """Whether a published file is for the backbone.

    Without bottlenecks ResNet v1 and v1b are one network, so those weights go both ways.
    """
    return same_network(spec.backbone, backbone.name)


def same_network(one: str, other: str) -> bool:
    """Whether two backbones are the same network under two names."""
    same = ({"resnet18", "resnet18_v1"}, {"resnet34", "resnet34_v1"})
    return one == other or {one, other} in same


def _downloads(format_: str) -> list[Path]:
    """Where the framework of a format keeps files, as its own settings say."""
    if format_ not in _DOWNLOADS:
        return []
    variable, default, inside = _DOWNLOADS[format_]
    return [Path(os.environ.get(variable) or default).expanduser() / inside]
