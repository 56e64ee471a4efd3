"""Run a frozen network through OpenVINO, which compiles its ONNX model for the CPU."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones.network import GAIN, INPUT, SHIFT, NetworkGraph
from probe.core.machine import computing_threads
from probe.core.text import counted
from probe.engines.base import Parameters, check_device_name, filled, stopped
from probe.engines.onnx.graph import SMALL, onnx_model, onnx_nodes
from probe.engines.openvino.silent import op, openvino
from probe.errors import EngineError
from probe.preprocess.spec import PreprocessSpec

Ticket = tuple[int, list[tuple[Any, NDArray[np.uint8]]]]  # images; requests and what they read

PIXELS = 2 * 224 * 224  # of a part of a batch: few, so that its maps stay in the CPU's cache
MOST = 64  # images of a part


def choose_devices(name: str) -> list[str]:
    """Return the devices that a name means: the CPU.

    Raises
    ------
    UsageError
        The name is none.
    EngineError
        It is another device's.
    """
    check_device_name(name)
    if name not in ("auto", "cpu"):
        raise EngineError(f"--device {name}: OpenVINO runs on the CPU here; leave --device out")
    return ["cpu"]


class OpenvinoEngine:
    """A backbone cut at some layers, with its weights, on the CPU.

    A batch is split into small parts of one size, for which the network is compiled; the last part
    is filled up. Each part is a request; OpenVINO's streams, one a core, take one after another. No
    stream waits for the rest, or is bound to a core that a thread may need to decode.

    Parameters
    ----------
    network : NetworkGraph
        From pixels on, see `probe.backbones.cut`.
    parameters : mapping of canonical name to float32 array
        All that the network uses; more is ignored.
    preprocess : PreprocessSpec
    batch_size : int
    device : str, default="cpu"
        There is no other.

    Raises
    ------
    EngineError
        OpenVINO cannot run the network.

    References
    ----------
    docs.openvino.ai, "Advanced Throughput Options: Streams and Batching"; of float32 throughout,
    which a CPU that has bfloat16 would leave: "Precision Control".
    """

    def __init__(
        self, network: NetworkGraph, parameters: Parameters, preprocess: PreprocessSpec, *,
        batch_size: int, device: str = "cpu",
    ) -> None:  # fmt: skip
        self.batch_size, self.device, self.devices = batch_size, device, 1
        size = preprocess.size
        # a power of two, as batches are, whose last part is then full
        self._part = min(1 << max(PIXELS // size**2, 1).bit_length() - 1, MOST, batch_size)
        gain, shift = preprocess.arithmetic()
        nodes, values = onnx_nodes(network, {**parameters, GAIN: gain, SHIFT: shift})
        # the network reads the arrays where they lie, so they must outlive it
        self._arrays = {name: np.asarray(value, order="C") for name, value in values.items()}
        self._model = _model(network, nodes, self._arrays, [self._part, size, size, 3])
        self._outputs, self._left = list(network.outputs), list[Any]()
        self._start()

    def _start(self) -> None:
        threads = computing_threads()
        parts = -(-self.batch_size // self._part)
        settings = {
            "NUM_STREAMS": min(threads, parts), "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False, "INFERENCE_PRECISION_HINT": "f32",
            "EXECUTION_MODE_HINT": "ACCURACY",
        }  # fmt: skip
        try:
            core = openvino.Core()
            model = core.read_model(self._model)
            for given in model.get_parameters():
                if (name := given.friendly_name) in self._arrays:
                    array = op.Constant(self._arrays[name], shared_memory=True)
                    given.output(0).replace(array.output(0))
                    model.remove_parameter(given)
            self._compiled = core.compile_model(model, "CPU", settings)
        except RuntimeError as error:
            raise _explained(error) from error
        self._free, self._process = list[Any](), os.getpid()

    def submit(self, batch: NDArray[np.uint8]) -> Ticket:
        """Start a forward pass; see `Engine.submit`."""
        if os.getpid() != self._process:  # a fork copies a network without its threads
            self._left.append((self._compiled, self._free))
            self._start()
        count = -(-len(batch) // self._part)
        parts = np.split(filled(batch, count * self._part), count)
        started = []
        for part in parts:
            try:
                request = self._free.pop()
            except IndexError:
                request = self._compiled.create_infer_request()
            request.start_async({INPUT: part}, share_inputs=True)
            started.append((request, part))
        return len(batch), started

    def collect(self, ticket: Ticket) -> list[NDArray[np.float32]]:
        """Wait for a batch; see `Engine.collect`."""
        count, started = ticket
        requests = [request for request, _ in started]
        try:
            for request in requests:
                request.wait()
        except RuntimeError as error:
            raise _explained(error) from error
        outputs = [
            np.concatenate([request.get_tensor(name).data for request in requests])[:count]
            for name in self._outputs
        ]
        self._free += requests
        return outputs


def _model(network: NetworkGraph, nodes: Any, arrays: Any, shape: list[int]) -> bytes:
    from onnx import helper, numpy_helper

    made = onnx_model(
        "network",
        nodes,
        {INPUT: shape},
        dict.fromkeys(network.outputs),
        [numpy_helper.from_array(one, name) for name, one in arrays.items() if one.nbytes <= SMALL],
    )
    # large ones are inputs until the model is read: within it each would be copied a few times
    made.graph.input.extend(
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(one.dtype), one.shape)
        for name, one in arrays.items()
        if one.nbytes > SMALL
    )
    serialized: bytes = made.SerializeToString()
    return serialized


def _explained(error: Exception) -> EngineError:
    """Return the error with the line of OpenVINO's message that says why; others say where."""
    told = str(error).partition("\nSummary")[0].strip().splitlines()
    return stopped("OpenVINO", told[-1].strip())


def facts() -> dict[str, str]:
    """Return what `probe doctor` says of OpenVINO: its build and its threads."""
    threads = counted(computing_threads(), "thread")
    return {
        "openvino": f"OpenVINO {openvino.__version__.partition('-')[0]}, {threads} on the CPU; "
        "long passes time it beside ONNX Runtime"
    }
