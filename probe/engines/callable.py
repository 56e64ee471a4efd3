"""Run a function of Python as a frozen network."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones.network import NetworkGraph
from probe.engines.base import Parameters
from probe.errors import EngineError, UsageError
from probe.preprocess.spec import PreprocessSpec

PYTHON = "python"  # the function decides where it runs
_one_at_a_time = threading.Lock()  # nobody knows whether the function may run in several threads


class CallableEngine:
    """A function of Python, ready for a dataset; it runs where it likes.

    Parameters
    ----------
    network : NetworkGraph
        From pixels on, of `probe.backbones.foreign.function_network`.
    parameters : mapping
        The function has its own.
    preprocess : PreprocessSpec
    batch_size : int

    Raises
    ------
    EngineError
        On `collect`: the function failed, or does not return one row of numbers an image.
    """

    def __init__(
        self, network: NetworkGraph, parameters: Parameters, preprocess: PreprocessSpec, *,  # noqa: ARG002
        batch_size: int, device: str = PYTHON,
    ) -> None:  # fmt: skip
        self.batch_size, self.device, self.devices = batch_size, device, 1
        settings = next(node.settings for node in network.nodes if node.op == "callable")
        self._function, self._pixels = settings["function"], settings["pixels"]
        self._gain, self._shift = preprocess.arithmetic()
        self._reverse = preprocess.channels == "BGR"
        self._thread = ThreadPoolExecutor(1, "function")

    def submit(self, batch: NDArray[np.uint8]) -> Future[list[NDArray[np.float32]]]:
        """Start a call; see `Engine.submit`."""
        return self._thread.submit(self._rows, batch)

    def _rows(self, batch: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        given: NDArray[Any] = batch
        if not self._pixels:
            channels = batch[..., ::-1] if self._reverse else batch
            moved = np.ascontiguousarray(channels.transpose(0, 3, 1, 2), np.float32)
            given = moved * self._gain - self._shift
        with _one_at_a_time:
            return [rows_of(self._function(given), len(batch))]

    def collect(self, ticket: Future[list[NDArray[np.float32]]]) -> list[NDArray[np.float32]]:
        """Wait for a call; see `Engine.collect`."""
        try:
            return ticket.result()
        except EngineError:
            raise
        except Exception as error:  # the function may raise anything
            reason = (str(error).strip().splitlines() or [""])[0]
            raise EngineError(
                f"the function failed on a batch: {type(error).__name__} {reason}".rstrip()
            ) from error


def choose_devices(name: str) -> list[str]:
    """Return the place where a function runs.

    Raises
    ------
    UsageError
        Another one is asked for.
    """
    if name not in ("auto", "cpu"):
        raise UsageError(f"--device {name}: a function of Python runs where it likes; leave it out")
    return [PYTHON]


def rows_of(found: Any, count: int) -> NDArray[np.float32]:
    """Return what a function returned as float32 (count, D); torch's tensors on any device, too.

    Raises
    ------
    EngineError
        It is something else.
    """
    for name in ("detach", "cpu"):
        found = getattr(found, name)() if hasattr(found, name) else found
    rows = np.asarray(found)
    if rows.ndim != 2 or len(rows) != count or rows.dtype.kind not in "fiu":
        raise EngineError(
            f"the function returned {rows.dtype} {rows.shape} for {count} images, expected one row "
            f"of numbers each, ({count}, D)"
        )
    return rows.astype(np.float32)
