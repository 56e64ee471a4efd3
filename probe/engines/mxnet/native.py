"""Run a frozen network through MXNet's C prediction interface, without its Python package.

That import takes one to three seconds, the library itself a tenth. MXNet fuses the graph as it does
for `MxnetEngine`, to the same numbers.

References
----------
apache/mxnet 1.9.1, include/mxnet/c_predict_api.h.
"""

from __future__ import annotations

import ctypes
import io
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones.network import GAIN, INPUT, SHIFT, NetworkGraph
from probe.core.ndarray_list import write_list
from probe.engines.base import Parameters, reason_of
from probe.engines.mxnet.graph import Symbol, symbol_of
from probe.engines.mxnet.library import load_library
from probe.errors import EngineError
from probe.preprocess.spec import PreprocessSpec

CPU = 1
_UINT = ctypes.c_uint32

Array32 = NDArray[np.float32]


def runs_here(device: str) -> bool:
    """Whether a device, as `choose_device` takes it, is the CPU for certain."""
    if device == "cpu":
        return True
    count = ctypes.c_int()
    return (
        device == "auto"
        and load_library().MXGetGPUCount(ctypes.byref(count)) == 0
        and count.value == 0
    )


class NativeEngine:
    """A frozen network on the CPU; see `Engine`.

    Parameters
    ----------
    network : NetworkGraph
        From pixels on, see `probe.backbones.cut`.
    parameters : mapping of canonical name to float32 array
        All that the network uses; more is ignored.

    Raises
    ------
    EngineError
        MXNet is not there, or cannot run the network with these parameters.
    """

    device = "cpu"

    def __init__(
        self, network: NetworkGraph, parameters: Parameters, preprocess: PreprocessSpec, *,
        batch_size: int,
    ) -> None:  # fmt: skip
        self.batch_size = batch_size
        graph = symbol_of(network, (batch_size, preprocess.size, preprocess.size, 3))
        self._library, self._outputs = load_library(), graph.outputs
        self._handle = self._create(graph, parameters, preprocess.size)
        gain, shift = preprocess.arithmetic()
        given = {**parameters, GAIN: gain, SHIFT: shift}
        for name in graph.arguments:
            self._set(name, given[name])

    def _create(self, graph: Symbol, parameters: Parameters, size: int) -> ctypes.c_void_p:
        """Return a network that has its running statistics and waits for all else."""
        states = io.BytesIO()
        write_list(states, {f"aux:{name}": parameters[name] for name in graph.states})
        handle, data = ctypes.c_void_p(), states.getvalue()
        self._check(
            self._library.MXPredCreate(
                graph.text.encode(), data, len(data), CPU, 0, 1,
                (ctypes.c_char_p * 1)(INPUT.encode()), (_UINT * 2)(0, 4),
                (_UINT * 4)(self.batch_size, size, size, 3), ctypes.byref(handle),
            )
        )  # fmt: skip
        weakref.finalize(self, self._library.MXPredFree, handle).atexit = False
        return handle

    def submit(self, batch: NDArray[np.uint8]) -> list[Array32]:
        """Run a batch; see `Engine.submit`. Other threads go on meanwhile."""
        if len(batch) != self.batch_size:
            raise ValueError(f"batch of {len(batch)}, expected {self.batch_size}")
        self._set(INPUT, batch)
        self._check(self._library.MXPredForward(self._handle))
        return [self._output(number) for number in range(self._outputs)]

    def collect(self, ticket: list[Array32]) -> list[Array32]:
        """Return what `submit` computed."""
        return ticket

    def _set(self, name: str, value: NDArray[Any]) -> None:
        array = np.ascontiguousarray(value, np.float32)  # the interface knows no other
        self._check(
            self._library.MXPredSetInput(
                self._handle, name.encode(), array.ctypes.data_as(ctypes.c_void_p),
                _UINT(array.size),
            )
        )  # fmt: skip

    def _output(self, number: int) -> Array32:
        sides, count = ctypes.POINTER(_UINT)(), _UINT()
        self._check(
            self._library.MXPredGetOutputShape(
                self._handle, _UINT(number), ctypes.byref(sides), ctypes.byref(count)
            )
        )
        found = np.empty([sides[i] for i in range(count.value)], np.float32)
        self._check(
            self._library.MXPredGetOutput(
                self._handle, _UINT(number), found.ctypes.data_as(ctypes.c_void_p),
                _UINT(found.size),
            )
        )  # fmt: skip
        return found

    def _check(self, status: int) -> None:
        if status:
            reason = reason_of(self._library.MXGetLastError().decode(errors="backslashreplace"))
            raise EngineError(f"MXNet stopped: {reason}; see `probe doctor`")
