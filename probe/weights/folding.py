"""Norms that an ONNX exporter folded into the convolutions before them."""

from __future__ import annotations

import math
from collections.abc import Callable

from probe.weights.naming import GLUON_EPSILON, ONNX_FORMATS, Naming, Shapes, Source, filled, plain

_LEAF = {"gamma": "weight", "beta": "bias"}
_SIBLING = {"conv": "bn", "bn": "conv"}  # in blocks that name their children


def folded_naming(
    name: str,
    shapes: Shapes,
    layer: Callable[[str], str | None],
    *,
    epsilon: float = GLUON_EPSILON,
) -> Naming:
    """Return the naming of a network whose norms are folded where a convolution stands before them.

    Such a norm becomes the identity with the folded bias as its beta. A norm that comes first in
    its block, as DenseNet's do, is there as it was.

    Parameters
    ----------
    layer : callable
        Canonical path of a layer -> its name with the separator, or None where the file has none.
    epsilon : float
        Of the network's norms.
    """
    identity = {"gamma": math.sqrt(1 + epsilon), "running_mean": 0.0, "running_var": 1.0}
    sources: dict[str, Source] = {}
    for canonical, shape in shapes.items():
        module, _, leaf = canonical.rpartition(".")
        conv = _beside(module, -1)
        folded = f"{conv}.weight" in shapes and f"{module}.gamma" in shapes
        where = layer(conv if folded else module)
        if where is None:
            continue
        if folded and leaf in identity:
            sources[canonical] = filled(identity[leaf], shape)
        elif leaf == "bias" and f"{_beside(module, 1)}.gamma" in shapes:
            sources[canonical] = filled(0, shape)  # it went into the norm's, too
        else:
            sources[canonical] = plain(f"{where}{_LEAF.get(leaf, leaf)}", shape)
    return Naming(name=f"{name} (folded)", formats=ONNX_FORMATS, sources=sources)


def _beside(module: str, step: int) -> str:
    """The module after or before one in its block."""
    parent, _, last = module.rpartition(".")
    return f"{parent}.{int(last) + step}" if last.isdigit() else f"{parent}.{_SIBLING.get(last)}"
