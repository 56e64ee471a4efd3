"""The interface of an engine: a frozen network that turns uint8 images into float32 features."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from probe.errors import EngineError, UsageError

Parameters = Mapping[str, NDArray[np.float32]]  # by canonical name
ENGINES = ("onnx", "mxnet")
# the GPU wheels are packages of their own names
MXNET_BUILDS = ("mxnet", *(f"mxnet-cu{cuda}" for cuda in (101, 102, 110, 112, 113, 116, 117)))


class Engine(Protocol):
    """A frozen network that is ready to run.

    Attributes
    ----------
    batch_size : int
        The number of images in every batch; a shorter one is padded by the caller.
    device : str
        For people and provenance: ``cpu`` or ``gpu:0``.
    """

    batch_size: int
    device: str

    def submit(self, batch: NDArray[np.uint8]) -> Any:
        """Start a forward pass over (batch_size, S, S, 3) RGB and return a ticket for `collect`."""
        ...

    def collect(self, ticket: Any) -> list[NDArray[np.float32]]:
        """Wait for a batch and return one (batch_size, ...) array a cut."""
        ...


def check_device_name(name: str) -> None:
    """Raise UsageError unless it is a device's name, whether there is such a device or not."""
    if not re.fullmatch(r"auto|cpu|coreml|(gpu|cuda|dml)(:[0-9]+)?", name):
        raise UsageError(f"--device {name}: expected auto, cpu, gpu, gpu:0, cuda:0, dml or coreml")


def stopped(runtime: str, reason: str) -> EngineError:
    """Return the error to raise where a runtime could not start or run a network, and why."""
    short = any(word in reason.lower() for word in ("memory", "alloc"))
    hint = "a smaller --batch-size needs less memory" if short else "see `probe doctor`"
    return EngineError(f"{runtime} stopped: {reason}; {hint}")
