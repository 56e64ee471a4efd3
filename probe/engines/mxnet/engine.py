"""Run a frozen network with MXNet's Python package, compiled for one batch shape."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones.network import GAIN, INPUT, SHIFT, NetworkGraph, Shape
from probe.engines.base import Parameters, check_device_name, filled, split_device, stopped
from probe.engines.mxnet.graph import Symbol, symbol_of
from probe.engines.mxnet.mx import mx, threads
from probe.errors import EngineError
from probe.preprocess.spec import PreprocessSpec

log = logging.getLogger(__name__)


def gpu_count() -> int:
    """Return how many GPUs MXNet can see; 0 where it was built without."""
    try:
        return int(mx.context.num_gpus())
    except mx.MXNetError:
        return 0


def choose_devices(name: str) -> list[str]:
    """Return the devices that a name means, each of which runs networks: ``cpu``, ``gpu:0`` ...

    ``auto`` is the first GPU, or the CPU where it runs none; ``gpu:0,1`` are two.

    Raises
    ------
    UsageError
        The name is none.
    EngineError
        A GPU was asked for and cannot be used; says why.
    """
    check_device_name(name)
    kind, numbers = split_device(name)
    if kind in ("dml", "coreml"):
        raise EngineError(f"--device {name} is for ONNX Runtime, and MXNet is the engine here")
    count = gpu_count()
    if kind == "auto":
        return ["gpu:0"] if count and _works(0) else ["cpu"]
    if kind == "cpu":
        return ["cpu"]
    if not mx.runtime.Features().is_enabled("CUDA"):
        raise EngineError(
            f"--device {name}: this MXNet is the CPU build; docs/gpu.md says how to swap in another"
        )
    if max(numbers) >= count:
        raise EngineError(f"--device {name}: MXNet sees {count} GPU(s); `probe doctor` says more")
    if not all(map(_works, numbers)):
        raise EngineError(
            f"--device {name}: the GPU does not run this MXNet's kernels (they stop at compute "
            "capability 8.6); use --device cpu"
        )
    return [f"gpu:{number}" for number in numbers]


def _works(number: int) -> bool:
    try:
        return bool((mx.nd.ones((2, 2), ctx=mx.gpu(number)) + 1).asnumpy()[0, 0] == 2)
    except mx.MXNetError as error:
        log.warning("gpu:%d is not usable: %s", number, str(error).splitlines()[0])
        return False


class MxnetEngine:
    """A backbone cut at some layers, with its weights, on one device.

    The graph is compiled for one fixed shape; on the CPU MXNet's oneDNN folds batch norms and ReLUs
    into the convolutions.

    Parameters
    ----------
    network : NetworkGraph
        From pixels on, see `probe.backbones.cut`.
    parameters : mapping of canonical name to float32 array
        All that the network uses; more is ignored.
    device : str, default="cpu"
        One device, see `choose_devices`.

    Raises
    ------
    EngineError
        MXNet cannot run the network here.
    """

    def __init__(
        self, network: NetworkGraph, parameters: Parameters, preprocess: PreprocessSpec, *,
        batch_size: int, device: str = "cpu",
    ) -> None:  # fmt: skip
        self.batch_size, self.device, self.devices = batch_size, device, 1
        kind, (number, *_) = split_device(device)
        self._context = mx.cpu() if kind == "cpu" else mx.gpu(number)
        shape = (batch_size, preprocess.size, preprocess.size, 3)
        graph = symbol_of(network, shape)
        gain, shift = preprocess.arithmetic()
        given = {**parameters, GAIN: gain, SHIFT: shift}
        arrays = {
            name: mx.nd.array(given[name], ctx=self._context)
            for name in (*graph.arguments, *graph.states)
        }
        self._compile(graph, arrays, shape)

    def _compile(self, graph: Symbol, arrays: Mapping[str, Any], shape: Shape) -> None:
        symbol = mx.sym.load_json(graph.text)
        if self._context.device_type == "cpu" and mx.runtime.Features().is_enabled("MKLDNN"):
            batch = mx.nd.zeros(shape, dtype="uint8")
            arguments = {INPUT: batch} | {name: arrays[name] for name in graph.arguments}
            states = {name: arrays[name] for name in graph.states}
            symbol = symbol.optimize_for("MKLDNN", arguments, states, self._context)
        names = symbol.list_inputs()
        place = names.index(INPUT)
        others = [number for number in range(len(names)) if number != place]
        self._before = [arrays[name] for name in names[:place]]
        self._after = [arrays[name] for name in names[place + 1 :]]
        self._run = mx.nd.CachedOp(
            symbol,
            [
                ("data_indices", [place]), ("param_indices", others), ("static_alloc", True),
                ("static_shape", True),
            ],
        )  # fmt: skip

    def submit(self, batch: NDArray[np.uint8]) -> tuple[int, Any]:
        """Start a forward pass; see `Engine.submit`."""
        given = filled(batch, self.batch_size)
        try:
            images = mx.nd.array(given, ctx=self._context, dtype="uint8")
            outputs = self._run(*self._before, images, *self._after)
        except mx.MXNetError as error:
            raise _explained(error) from error
        return len(batch), outputs if isinstance(outputs, list | tuple) else [outputs]

    def collect(self, ticket: tuple[int, Any]) -> list[NDArray[np.float32]]:
        """Wait for a batch; see `Engine.collect`."""
        count, outputs = ticket
        try:
            return [output.asnumpy()[:count] for output in outputs]
        except mx.MXNetError as error:
            raise _explained(error) from error


def _explained(error: Exception) -> EngineError:
    """Return the error with the line of MXNet's message that says why; others say where in C++."""
    lines = str(error).strip().splitlines()
    told = (line for line in reversed(lines) if "Error" in line or "memory" in line)
    return stopped("MXNet", next(told, lines[-1]).strip())


def facts() -> dict[str, str]:
    """Return what there is of MXNet here, for people; see `probe.engines.engine_facts`."""

    features: Any = mx.runtime.Features()
    cuda, fused = features.is_enabled("CUDA"), features.is_enabled("MKLDNN")
    if not cuda:
        gpu = "not in this build (docs/gpu.md says how to swap in another)"
    elif not gpu_count():
        gpu = "MXNet sees no GPU; check the driver, CUDA_VISIBLE_DEVICES and cuDNN 8"
    elif choose_devices("auto") == ["cpu"]:
        gpu = "this build's kernels stop at compute capability 8.6, the GPU is newer"
    else:
        gpu = f"runs networks on {gpu_count()} of them"
    return {
        "mxnet": f"MXNet {mx.__version__} ({'CUDA' if cuda else 'CPU'} build), {threads()} threads "
        f"on the CPU, {'fused MKLDNN kernels' if fused else 'no MKLDNN: slow convolutions'}",
        "mxnet on gpu": gpu,
    }
