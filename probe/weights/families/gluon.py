"""Gluon's own names: structural ones, and those with the blocks' prefixes."""

from __future__ import annotations

import re

from probe.backbones.spec import BackboneSpec
from probe.weights.naming import GLUON_FORMATS, Naming, Shapes, plain

OWN = ("caffenet", "efficientnet_lite0", "inception_v3_keras", "resnet_v1b")  # not in the zoo
PREFIX = "<net>"  # stands for the counted name of the network in the file, resnetv10_ or alike


def namings(backbone: BackboneSpec, shapes: Shapes) -> list[Naming]:
    """Return the structural naming and, for the zoo's networks, the prefixed one."""
    structural = Naming(
        name="gluon", formats=GLUON_FORMATS,
        sources={canonical: plain(canonical, shape) for canonical, shape in shapes.items()},
    )  # fmt: skip
    if backbone.family in OWN:
        return [structural]
    prefixed = Naming(
        name="gluon prefixed", formats=GLUON_FORMATS, key=without_prefix,
        sources={
            canonical: plain(PREFIX + relative, shapes[canonical])
            for canonical, relative in _relative_names(backbone).items()
        },
    )  # fmt: skip
    return [structural, prefixed]


def without_prefix(name: str) -> str:
    """Return a prefixed name with its first part, which counts the networks built, replaced."""
    return re.sub(r"^[A-Za-z][A-Za-z0-9]*_", PREFIX, name, count=1)


def _relative_names(backbone: BackboneSpec) -> dict[str, str]:
    """Return canonical name -> the zoo's: layers are counted by kind, apart in each named block."""
    counts: dict[tuple[str, str], int] = {}
    found = {}
    for node in backbone.network().nodes:
        if not node.tensors:
            continue
        scope, kind = _scope(backbone.family, node.name), _KINDS[node.op]
        number = counts.setdefault((scope, kind), 0)
        counts[scope, kind] += 1
        layer = "pred" if scope == "output_" else f"{kind}{number}"
        for name in node.tensors:
            found[name] = f"{scope}{layer}_{name.rpartition('.')[2]}"
    return found


_KINDS = {"conv": "conv", "dense": "dense", "norm": "batchnorm"}


def _scope(family: str, path: str) -> str:
    """Return the prefix of the named block in which a layer of the zoo's network is."""
    part, *inner = path.split(".")
    if part == "output" or not inner:
        return "output_" if family == "mobilenet_v2" else ""
    block = int(inner[0])
    if family == "mobilenet_v2":
        return f"features_linearbottleneck{block - 3}_" if "out" in inner else "features_"
    if family in ("resnet_v1", "resnet_v2"):
        first = 4 if family == "resnet_v1" else 5
        return f"stage{block - first + 1}_" if first <= block < first + 4 else ""
    if family == "densenet":
        return f"stage{block // 2 - 1}_" if block in (4, 6, 8, 10) else ""
    if family == "inception_v3":
        return f"{_MIXED[block - 7]}_" if 7 <= block < 18 else ""
    return ""


_MIXED = ("A1", "A2", "A3", "B", "C1", "C2", "C3", "C4", "D", "E1", "E2")
