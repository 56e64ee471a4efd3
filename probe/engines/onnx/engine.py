"""Run a frozen network through ONNX Runtime: one graph from uint8 pixels to float32 rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from probe.backbones.network import GAIN, INPUT, SHIFT, NetworkGraph
from probe.core.machine import computing_threads
from probe.engines.base import Parameters, check_device_name, stopped
from probe.engines.onnx.graph import onnx_model, onnx_nodes
from probe.errors import EngineError
from probe.preprocess.spec import PreprocessSpec

CPU = "CPUExecutionProvider"
# what a word of --device means to ONNX Runtime; ``gpu`` takes the first that is there
PROVIDERS = {
    "cuda": "CUDAExecutionProvider",
    "dml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
}
# TF32 rounds the factors of products to 10 bits: rows would differ by more than 1e-4 between GPUs
EXACT = {"CUDAExecutionProvider": {"use_tf32": 0}}
SMALL = 1024  # bytes; such arrays stay in the model, where shape inference sees them

_SILENT = 4  # ONNX Runtime's level of logging: fatal only; errors come as exceptions


class OnnxEngine:
    """A backbone cut at some layers, with its weights, on one device.

    Parameters
    ----------
    network : NetworkGraph
        From pixels on, see `probe.backbones.cut`.
    parameters : mapping of canonical name to float32 array
        All that the network uses; more is ignored.
    preprocess : PreprocessSpec
    batch_size : int
    device : str, default="auto"
        ``auto`` is the first CUDA device that runs the network, else the CPU.
    optimize : bool, default=True
        Fuse and fold operations; without, each runs as it is written.

    Raises
    ------
    UsageError
        The device's name is none.
    EngineError
        The device is not there, or ONNX Runtime cannot run the network on it.

    References
    ----------
    Batch norms and activations are folded into convolutions: onnxruntime.ai, "Graph Optimizations".
    """

    def __init__(
        self, network: NetworkGraph, parameters: Parameters, preprocess: PreprocessSpec, *,
        batch_size: int, device: str = "auto", optimize: bool = True,
    ) -> None:  # fmt: skip
        self.batch_size = batch_size
        gain, shift = preprocess.arithmetic()
        nodes, values = onnx_nodes(network, {**parameters, GAIN: gain, SHIFT: shift})
        # the session reads the arrays where they lie, so they must outlive it
        self._arrays = {name: np.ascontiguousarray(value) for name, value in values.items()}
        self._model: bytes = onnx_model(
            "network",
            nodes,
            {INPUT: [batch_size, preprocess.size, preprocess.size, 3]},
            dict.fromkeys(network.outputs),
            [_initializer(name, value) for name, value in self._arrays.items()],
        ).SerializeToString()
        self._optimize, self._outputs = optimize, list(network.outputs)
        self._asked, self._left = device, list[Any]()
        self._start()

    def _start(self) -> None:
        self._session, self.device = self._first_that_works(self._asked)
        # one batch computes while others are decoded
        self._thread, self._process = ThreadPoolExecutor(1, "onnx"), os.getpid()

    def _first_that_works(self, device: str) -> tuple[Any, str]:
        *others, last = candidates(device)
        for name, number in others:
            try:
                return self._open(name, number)
            except EngineError:
                continue
        return self._open(*last)

    def _open(self, device: str, number: int) -> tuple[Any, str]:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _SILENT
        options.intra_op_num_threads = computing_threads()
        # a thread that waits gives its core to those that decode
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if not self._optimize:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        large = [name for name, value in self._arrays.items() if value.nbytes > SMALL]
        options.add_external_initializers(
            large, [onnxruntime.OrtValue.ortvalue_from_numpy(self._arrays[name]) for name in large]
        )
        providers: list[Any] = [CPU]
        if device != "cpu":
            named = PROVIDERS[device]
            asked = {"device_id": number} if device != "coreml" else {}
            providers.insert(0, (named, {**asked, **EXACT.get(named, {})}))
        try:
            session = onnxruntime.InferenceSession(self._model, options, providers=providers)
            session.disable_fallback()
        except Exception as error:  # its exceptions share no base class but this one
            raise stopped("ONNX Runtime", _first_line(error)) from error
        if device != "cpu" and session.get_providers()[0] == CPU:
            raise EngineError(
                f"--device {device}: ONNX Runtime could not start {PROVIDERS[device]}, most often "
                "since a library of the driver is missing or of another version; `probe doctor` "
                "says more"
            )
        return session, "cpu" if device == "cpu" else f"{device}:{number}"

    def submit(self, batch: NDArray[np.uint8]) -> Future[list[NDArray[np.float32]]]:
        """Start a forward pass; see `Engine.submit`."""
        if len(batch) != self.batch_size:
            raise ValueError(f"batch of {len(batch)}, expected {self.batch_size}")
        if os.getpid() != self._process:
            # a fork copies a session without its threads: it can neither run nor be closed here
            self._left += [self._session, self._thread]
            self._start()
        return self._thread.submit(self._session.run, self._outputs, {INPUT: batch})

    def collect(self, ticket: Future[list[NDArray[np.float32]]]) -> list[NDArray[np.float32]]:
        """Wait for a batch; see `Engine.collect`."""
        try:
            return ticket.result()
        except Exception as error:  # see above
            raise stopped("ONNX Runtime", _first_line(error)) from error


def candidates(device: str) -> Sequence[tuple[str, int]]:
    """Return the devices that a name may mean, the preferred first, as (kind, number).

    Raises
    ------
    UsageError
        The name is none.
    EngineError
        This build of ONNX Runtime cannot use such a device.
    """
    check_device_name(device)
    kind, _, number = device.partition(":")
    usable = usable_devices()
    if kind == "auto":
        return [("cuda", 0), ("cpu", 0)] if "cuda" in usable else [("cpu", 0)]
    if kind == "gpu" and len(usable) > 1:
        kind = usable[1]
    if kind in usable:
        return [(kind, int(number or 0))]
    raise EngineError(
        f"--device {device}: this build of ONNX Runtime runs on {', '.join(usable)}; "
        "`pip install onnxruntime-gpu` in its place brings CUDA"
    )


def usable_devices() -> list[str]:
    """Return the kinds of devices that this build of ONNX Runtime can use, the CPU first."""
    there = onnxruntime.get_available_providers()
    return ["cpu", *(word for word, provider in PROVIDERS.items() if provider in there)]


def facts() -> dict[str, str]:
    """Return what `probe doctor` says of ONNX Runtime: its version, its threads, its devices."""
    return {
        "onnx runtime": f"{onnxruntime.__version__}, {computing_threads()} threads, runs on "
        f"{', '.join(usable_devices())}"
    }


def _initializer(name: str, value: NDArray[Any]) -> Any:
    """Return an array's entry in a model; a large one stays outside and is never copied into it."""
    from onnx import TensorProto, helper, numpy_helper

    if value.nbytes <= SMALL:
        return numpy_helper.from_array(value, name)
    made = TensorProto(
        name=name, dims=value.shape, data_location=TensorProto.EXTERNAL,
        data_type=helper.np_dtype_to_tensor_dtype(value.dtype),
    )  # fmt: skip
    made.external_data.add(key="location", value="memory")
    return made


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
