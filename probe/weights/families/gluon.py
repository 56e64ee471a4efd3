"""Gluon's own names: structural ones, and those with the blocks' prefixes."""

from __future__ import annotations

import re

from probe.backbones.spec import BackboneSpec
from probe.weights.naming import GLUON_FORMATS, Naming, Shapes, plain

PREFIX = "<net>"  # stands for the counted name of the network in the file, resnetv10_ or alike


def namings(backbone: BackboneSpec, shapes: Shapes) -> list[Naming]:
    """Return the structural naming and, for the zoo's networks, the prefixed one."""
    structural = Naming(
        name="gluon", formats=GLUON_FORMATS,
        sources={canonical: plain(canonical, shape) for canonical, shape in shapes.items()},
    )  # fmt: skip
    if not backbone.builder.startswith("zoo:"):
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
    from probe.engines.mxnet.network import build

    net = build(backbone)
    return {
        canonical: parameter.name.removeprefix(net.prefix)
        for canonical, parameter in net._collect_params_with_prefix().items()
    }
