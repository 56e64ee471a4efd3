"""MobileNet v2: torchvision's and timm's names.

Gluon's first bottleneck expands by 1 with a 1x1 convolution, which the others leave out. It is set
to the identity: a unit kernel, a BatchNorm that undoes its epsilon, and a ReLU6 after a ReLU6.

References
----------
torchvision/models/mobilenetv2.py; timm/models/efficientnet.py: mobilenetv2_100.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from probe.backbones.spec import BackboneSpec
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
    plain,
    renamed,
)

FIRST = 3  # index of the first bottleneck in Gluon's `features`
GROUPS = (1, 2, 3, 4, 3, 3, 1)  # blocks a stage, as timm groups them
_IDENTITY = f"features.{FIRST}.out.0", f"features.{FIRST}.out.1"


def _torchvision(module: str) -> str | None:
    simple = {
        "features.0": "features.0.0", "features.1": "features.0.1", "features.20": "features.18.0",
        "features.21": "features.18.1", "output.0": "classifier.1",
    }  # fmt: skip
    if module in simple or module in _IDENTITY:
        return simple.get(module)
    block, step = (int(part) for part in module.split(".")[1::2])
    inner = {0: "conv.0.0", 1: "conv.0.1", 3: "conv.1.0", 4: "conv.1.1", 6: "conv.2", 7: "conv.3"}
    if block == FIRST:
        inner = {3: "conv.0.0", 4: "conv.0.1", 6: "conv.1", 7: "conv.2"}
    return f"features.{block - FIRST + 1}.{inner[step]}"


def _timm(module: str) -> str | None:
    simple = {
        "features.0": "conv_stem", "features.1": "bn1", "features.20": "conv_head",
        "features.21": "bn2", "output.0": "classifier",
    }  # fmt: skip
    if module in simple or module in _IDENTITY:
        return simple.get(module)
    block, step = (int(part) for part in module.split(".")[1::2])
    inner = {0: "conv_pw", 1: "bn1", 3: "conv_dw", 4: "bn2", 6: "conv_pwl", 7: "bn3"}
    if block == FIRST:
        inner = {3: "conv_dw", 4: "bn1", 6: "conv_pw", 7: "bn2"}
    return f"{grouped(block - FIRST, GROUPS)}.{inner[step]}"


def grouped(index: int, groups: tuple[int, ...]) -> str:
    """Return timm's ``blocks.STAGE.BLOCK`` of a block counted through."""
    for stage, count in enumerate(groups):
        if index < count:
            return f"blocks.{stage}.{index}"
        index -= count
    raise ValueError("there are no more blocks")


def namings(backbone: BackboneSpec, shapes: Shapes) -> list[Naming]:  # noqa: ARG001 - one variant
    """Return torchvision's and timm's naming, each also with its norms folded."""
    found = []
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
    """Add what Gluon's network has besides: an identity, and a classifier that is a convolution."""
    out, entered = shapes["output.0.weight"][:2]
    classifier = plain(f"{top}.weight", (out, entered, 1, 1), (out, entered))
    sources = {**naming.sources, **_identity(shapes), "output.0.weight": classifier}
    bias = Omission(rf"{top}\.bias", "the classifier's bias left out")
    return replace(naming, sources=sources, omissions=(BATCH_COUNTERS, bias))


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
