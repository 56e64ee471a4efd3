"""The interface of an engine: a frozen network that turns uint8 images into float32 features."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from probe.errors import EngineError, UsageError

Parameters = Mapping[str, NDArray[np.float32]]  # by canonical name
ENGINES = ("onnx", "openvino", "mxnet")
TOLERANCE = 1e-4  # of a row's norm: what engines, and devices, may differ by
BUILDS = {  # the packages that bring an engine, that for CPUs first; GPUs' have their own names
    "onnx": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml"),
    "openvino": ("openvino",),
    "mxnet": ("mxnet", *(f"mxnet-cu{cuda}" for cuda in (101, 102, 110, 112, 113, 116, 117))),
}

MXNET_NEEDS = (
    "MXNet 1.9.1 runs on Python 3.11 and 3.12, on Linux and Macs with Intel, with NumPy 1.26"
)


class Engine(Protocol):
    """A frozen network that is ready to run.

    Attributes
    ----------
    batch_size : int
        The most images that a batch may have.
    device : str
        For people: ``cpu``, ``gpu:0`` or ``cuda:0,1``.
    devices : int
        How many devices batches go to in turn: so many have to be submitted at once to use them.
    """

    batch_size: int
    device: str
    devices: int

    def submit(self, batch: NDArray[np.uint8]) -> Any:
        """Start a forward pass over (n, S, S, 3) RGB and return a ticket for `collect`."""
        ...

    def collect(self, ticket: Any) -> list[NDArray[np.float32]]:
        """Wait for a batch and return one (n, ...) array a cut."""
        ...


def filled(batch: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Repeat the last image of a batch to a size, for a network that is compiled for one."""
    if not 0 < len(batch) <= size:
        raise ValueError(f"a batch of {len(batch)}, expected 1 to {size}")
    if len(batch) == size:
        return batch
    return np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])


def check_device_name(name: str) -> None:
    """Raise UsageError unless it is a device's name, whether there is such a device or not."""
    if not re.fullmatch(r"auto|cpu|coreml|(gpu|cuda|dml)(:[0-9]+(,[0-9]+)*)?", name):
        raise UsageError(
            f"--device {name}: expected auto, cpu, gpu, gpu:0, cuda:0, cuda:0,1, dml or coreml"
        )
    _, numbers = split_device(name)
    if len(set(numbers)) < len(numbers):
        raise UsageError(f"--device {name}: names a device twice")


def split_device(name: str) -> tuple[str, tuple[int, ...]]:
    """Return a device's kind and its numbers: cuda and (0, 1) of ``cuda:0,1``, (0,) of ``cuda``."""
    kind, _, numbers = name.partition(":")
    return kind, tuple(int(number) for number in numbers.split(",")) if numbers else (0,)


def default_batch_size(size: int, *, gpu: bool = False) -> int:
    """Return how many images of a size fill a batch: on a CPU about 32 of 224 x 224, 8 to 256.

    On a GPU it is four times as many: more fill its cores, and these fit its memory. 128 images of
    224 x 224 need 3.3 GB for VGG16's two largest maps, and at most 1.3 GB for the maps that are
    alive at once in other families, so that 8 GB hold them, the weights and cuDNN's workspace.
    """
    images = max(32 * 224 * 224 // (size * size), 1)
    fitting = min(max(1 << (images.bit_length() - 1), 8), 256)
    return fitting * 4 if gpu else fitting


def batch_of(batch_size: int | None, size: int, *, views: int = 1, gpu: bool = False) -> int:
    """Return how many views stand in a batch: all views of an image in the same one."""
    wanted = batch_size or default_batch_size(size, gpu=gpu)
    return max(wanted // views, 1) * views


def relative_differences(found: NDArray[Any], expected: NDArray[Any]) -> NDArray[np.float64]:
    """Return the norm of each row's difference, as a part of the expected row's norm, (n,)."""
    rows, others = (one.reshape(len(one), -1).astype(np.float64) for one in (found, expected))
    norms = np.maximum(np.linalg.norm(others, axis=1), np.finfo(np.float32).tiny)
    return np.asarray(np.linalg.norm(rows - others, axis=1) / norms)


def stopped(runtime: str, reason: str) -> EngineError:
    """Return the error to raise where a runtime could not start or run a network, and why."""
    short = any(word in reason.lower() for word in ("memory", "alloc"))
    hint = "a smaller --batch-size needs less memory" if short else "see `probe doctor`"
    return EngineError(f"{runtime} stopped: {reason}; {hint}")
