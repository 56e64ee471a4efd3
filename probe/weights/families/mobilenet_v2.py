"""MobileNet v2: torchvision's and timm's names.

Gluon's first bottleneck expands by 1 with a 1x1 convolution, which the others leave out. It is set
to the identity: a unit kernel, a BatchNorm that undoes its epsilon, and a ReLU6 after a ReLU6.
Gluon's classifier has no bias, so theirs cannot be had.

References
----------
torchvision/models/mobilenetv2.py; timm/models/efficientnet.py: mobilenetv2_100.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from probe.backbones.spec import BackboneSpec
from probe.weights.families.keras_mobilenet import keras_v2
from probe.weights.folding import folded_naming
from probe.weights.naming import (
    BATCH_COUNTERS,
    GLUON_EPSILON,
    TORCH_FORMATS,
    Naming,
    Omission,
    Shapes,
    Source,
    constant,
    filled,
    renamed,
)

FIRST = 3  # index of the first bottleneck in Gluon's `features`
GROUPS = (1, 2, 3, 4, 3, 3, 1)  # blocks a stage, as timm groups them
_IDENTITY = f"features.{FIRST}.out.0", f"features.{FIRST}.out.1"


def _renamer(
    stem: Mapping[str, str], inner: Mapping[int, str], first: Mapping[int, str],
    place: Callable[[int], str],
) -> Callable[[str], str | None]:  # fmt: skip
    """Return what renames modules: those around the blocks, and the steps inside one.

    Parameters
    ----------
    inner, first : mapping of int to str
        Place in a block's `out` -> name there; of the first block, which they build without the
        expansion, in particular.
    place : callable
        Number of a block, from 0 -> its path.
    """

    def rename(module: str) -> str | None:
        if module in stem or module in _IDENTITY:
            return stem.get(module)
        block, step = (int(part) for part in module.split(".")[1::2])
        names = first if block == FIRST else inner
        return f"{place(block - FIRST)}.{names[step]}"

    return rename


def grouped(index: int, groups: tuple[int, ...]) -> str:
    """Return timm's ``blocks.STAGE.BLOCK`` of a block counted through."""
    for stage, count in enumerate(groups):
        if index < count:
            return f"blocks.{stage}.{index}"
        index -= count
    raise ValueError("there are no more blocks")


_torchvision = _renamer(
    {
        "features.0": "features.0.0", "features.1": "features.0.1", "features.20": "features.18.0",
        "features.21": "features.18.1", "output.0": "classifier.1",
    },
    {0: "conv.0.0", 1: "conv.0.1", 3: "conv.1.0", 4: "conv.1.1", 6: "conv.2", 7: "conv.3"},
    {3: "conv.0.0", 4: "conv.0.1", 6: "conv.1", 7: "conv.2"},
    lambda number: f"features.{number + 1}",
)  # fmt: skip
_timm = _renamer(
    {
        "features.0": "conv_stem", "features.1": "bn1", "features.20": "conv_head",
        "features.21": "bn2", "output.0": "classifier",
    },
    {0: "conv_pw", 1: "bn1", 3: "conv_dw", 4: "bn2", 6: "conv_pwl", 7: "bn3"},
    {3: "conv_dw", 4: "bn1", 6: "conv_pw", 7: "bn2"},
    lambda number: grouped(number, GROUPS),
)  # fmt: skip


def namings(backbone: BackboneSpec, shapes: Shapes) -> list[Naming]:  # noqa: ARG001 - one variant
    """Return torchvision's and timm's naming, each also with its norms folded, and Keras's."""
    found = [keras_v2(shapes)]
    for name, rename, top in (
        ("torchvision", _torchvision, "classifier.1"),
        ("timm", _timm, "classifier"),
    ):
        unfolded = Naming(name=name, formats=TORCH_FORMATS, sources=renamed(shapes, rename))
        folded = folded_naming(name, shapes, _with_dot(rename))
        found += [_completed(one, top, shapes) for one in (unfolded, folded)]
    return found


def _with_dot(rename: Callable[[str], str | None]) -> Callable[[str], str | None]:
    return lambda module: (name := rename(module)) and f"{name}."


def _completed(naming: Naming, top: str, shapes: Shapes) -> Naming:
    """Add the identity; leave out the classifier, whose bias has no place in Gluon's network."""
    sources = {**naming.sources, **_identity(shapes)}
    del sources["output.0.weight"]  # without its bias it would be another classifier
    left_out = Omission(
        rf"{top}\.(weight|bias)", "the classifier left out, since Gluon's has no bias"
    )
    return replace(naming, sources=sources, omissions=(BATCH_COUNTERS, left_out))


def _identity(shapes: Shapes) -> dict[str, Source]:
    conv, norm = _IDENTITY
    width = shapes[f"{conv}.weight"][0]
    values = {
        "gamma": math.sqrt(1 + GLUON_EPSILON),
        "beta": 0.0,
        "running_mean": 0.0,
        "running_var": 1.0,
    }
    unit = np.eye(width, dtype=np.float32).reshape(width, width, 1, 1)
    return {f"{conv}.weight": constant(unit)} | {
        f"{norm}.{leaf}": filled(value, (width,)) for leaf, value in values.items()
    }
