"""Parameters for networks whose real weights are not at hand."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from probe.backbones.cut import parameter_shapes
from probe.backbones.spec import BackboneSpec, Layer


def draw_parameters(spec: BackboneSpec, layer: Layer) -> dict[str, NDArray[np.float32]]:
    """Return parameters drawn by name; activations stay in a sane range through all layers."""
    drawn = {}
    for name, shape in parameter_shapes(spec).items():
        if not spec.uses(layer, name):
            continue
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        if name.endswith(("gamma", "running_var")):
            value = rng.uniform(0.5, 1.5, shape)
        elif name.endswith("weight"):
            value = rng.random(shape, np.float32)  # of 100 million numbers normal ones take long
            value -= np.float32(0.5)
            value *= np.float32(2 * np.sqrt(6 / np.prod(shape[1:])))
        else:
            value = rng.standard_normal(shape) * 0.1
        drawn[name] = value.astype(np.float32, copy=False)
    return drawn
