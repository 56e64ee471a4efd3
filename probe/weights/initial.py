"""Random parameters, for runs that want the architecture alone and for tests."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import numpy as np

from probe.weights.tensors import Float32, Shape

_CONSTANT = {"gamma": 1.0, "beta": 0.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}


def initial_parameters(shapes: Mapping[str, Shape], seed: int) -> dict[str, Float32]:
    """Draw He-normal weights, each from a generator of its own, so that a cut changes none.

    BatchNorms start as the identity and biases at 0.

    Parameters
    ----------
    shapes : mapping of canonical name to shape
    seed : int
        From 0 up.

    References
    ----------
    He et al., Delving deep into rectifiers, arXiv:1502.01852, equation 10.
    """
    return {name: _draw(name, shape, seed) for name, shape in sorted(shapes.items())}


def _draw(name: str, shape: Shape, seed: int) -> Float32:
    leaf = name.rpartition(".")[2]
    if leaf in _CONSTANT:
        return np.full(shape, _CONSTANT[leaf], np.float32)
    entropy = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
    generator = np.random.Generator(np.random.PCG64([seed, entropy]))
    deviation = np.float32(math.sqrt(2 / math.prod(shape[1:])))
    return generator.standard_normal(shape, dtype=np.float32) * deviation
