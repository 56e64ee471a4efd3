"""Run a frozen network through ONNX Runtime: one graph from uint8 pixels to float32 rows."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from probe.backbones.network import GAIN, INPUT, SHIFT, NetworkGraph
from probe.core.machine import computing_threads
from probe.engines.base import Parameters, filled
from probe.engines.onnx.devices import open_session, run_session
from probe.engines.onnx.graph import SMALL, onnx_model, onnx_nodes
from probe.preprocess.spec import PreprocessSpec

Ticket = tuple[int, list[Future[list[NDArray[np.float32]]]]]  # images added; the parts' outputs

LEAST = 8  # images of a part of a batch: fewer read all weights for little work
LIGHT, HEAVY = 32, 64  # images of a part of a large batch
FITS = (
    2**24
)  # bytes of weights that a CPU's cache holds, so that few images can share their reading


class OnnxEngine:
    """A backbone cut at some layers, with its weights, on one device.

    On a CPU a batch is split into parts that run side by side, on a thread each where there are
    enough images. Threads of one run wait for each other at every operation, and for whichever of
    them shares its core with a thread that decodes. A large batch has more parts than threads: they
    need less memory, at its end no thread waits long for another, and the maps of fewer images stay
    in the CPU's cache.

    Parameters
    ----------
    network : NetworkGraph
        From pixels on, see `probe.backbones.cut`.
    parameters : mapping of canonical name to float32 array
        All that the network uses; more is ignored.
    preprocess : PreprocessSpec
    batch_size : int
    device : str, default="cpu"
        One device, see `probe.engines.onnx.devices.choose_devices`.
    optimize : bool, default=True
        Fuse and fold operations; without, each runs as it is written.
    ahead : bool, default=False
        Return while ONNX Runtime still prepares the network, so that images can be decoded
        meanwhile; `collect` raises what is raised here otherwise.

    Raises
    ------
    EngineError
        ONNX Runtime cannot run the network there.

    References
    ----------
    Batch norms and activations are folded into convolutions: onnxruntime.ai, "Graph Optimizations".
    """

    def __init__(
        self, network: NetworkGraph, parameters: Parameters, preprocess: PreprocessSpec, *,
        batch_size: int, device: str = "cpu", optimize: bool = True, ahead: bool = False,
    ) -> None:  # fmt: skip
        self.batch_size, self.device, self.devices = batch_size, device, 1
        parts = min(computing_threads(), batch_size // LEAST) if device == "cpu" else 1
        self._parts = max(parts, 1)
        # elsewhere kernels are chosen for one size of a batch, which takes seconds for another
        self._size = None if device == "cpu" else batch_size
        if network.terms is not None and network.terms.batch is not None:
            self._size = network.terms.batch  # a file may fix how many images its network takes
        gain, shift = preprocess.arithmetic()
        nodes, values = onnx_nodes(network, {**parameters, GAIN: gain, SHIFT: shift})
        # the session reads the arrays where they lie, so they must outlive it
        self._arrays = {name: np.asarray(value, order="C") for name, value in values.items()}
        weights = sum(value.nbytes for value in self._arrays.values())
        self._images = LIGHT if weights <= FITS else HEAVY
        self._model: bytes = onnx_model(
            "network",
            nodes,
            {INPUT: [self._size or "images", preprocess.size, preprocess.size, 3]},
            dict.fromkeys(network.outputs),
            [_initializer(name, value) for name, value in self._arrays.items()],
            terms=network.terms,
        ).SerializeToString()
        self._optimize, self._outputs = optimize, list(network.outputs)
        self._left = list[Any]()
        self._start()
        if not ahead:
            self._session.result()

    def _start(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = -(-computing_threads() // self._parts)
        # a thread that waits gives its core to those that decode
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if not self._optimize:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        large = [name for name, value in self._arrays.items() if value.nbytes > SMALL]
        options.add_external_initializers(
            large, [onnxruntime.OrtValue.ortvalue_from_numpy(self._arrays[name]) for name in large]
        )
        # batches compute while others are decoded
        self._pool, self._process = ThreadPoolExecutor(self._parts, "onnx"), os.getpid()
        self._session = self._pool.submit(open_session, self._model, options, self.device)

    def submit(self, batch: NDArray[np.uint8]) -> Ticket:
        """Start a forward pass; see `Engine.submit`."""
        if os.getpid() != self._process:
            # a fork copies a session without its threads: it can neither run nor be closed here
            self._left += [self._session, self._pool]
            self._start()
        parts = self._split(batch)
        return sum(map(len, parts)) - len(batch), [
            self._pool.submit(self._run, part) for part in parts
        ]

    def _run(self, part: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        # opening was submitted first, so that no part can keep it from a thread
        return run_session(self._session.result(), self._outputs, {INPUT: part})

    def _split(self, batch: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        if self._size is None:
            parts = max(self._parts, len(batch) // self._images)
            return np.array_split(batch, min(parts, len(batch)))
        runs = -(-len(batch) // self._size)
        return np.split(filled(batch, runs * self._size), runs)

    def collect(self, ticket: Ticket) -> list[NDArray[np.float32]]:
        """Wait for a batch; see `Engine.collect`."""
        spare, futures = ticket
        parts = [future.result() for future in futures]
        joined = [np.concatenate(rows) for rows in zip(*parts, strict=True)]
        return [rows[: len(rows) - spare] for rows in joined]  # a batch may have been filled up


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
