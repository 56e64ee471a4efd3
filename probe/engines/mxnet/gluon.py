"""The frozen pass in Gluon: hybridized, no gradient, predict mode, one fixed shape."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones.spec import BackboneSpec, Layer, Pool, classes_of
from probe.engines import check_device_name, reason_of
from probe.engines.mxnet.mx import mx
from probe.engines.mxnet.network import CutNetwork, Parameters, build, last_of, set_parameters
from probe.errors import EngineError
from probe.preprocess.spec import PreprocessSpec

log = logging.getLogger(__name__)


def gpu_count() -> int:
    """Return how many GPUs MXNet can see; 0 where it was built without."""
    try:
        return int(mx.context.num_gpus())
    except mx.MXNetError:
        return 0


def choose_device(name: str) -> Any:
    """Return MXNet's context for ``auto``, ``cpu``, ``gpu`` or ``gpu:1``.

    Raises
    ------
    UsageError
        The word is none of those.
    EngineError
        A GPU was asked for and cannot be used; says why.
    """
    check_device_name(name)
    kind, _, index = name.partition(":")
    if kind == "cpu":
        return mx.cpu()
    count, number = gpu_count(), int(index or 0)
    if kind == "auto":
        return mx.gpu(0) if count and _works(mx.gpu(0)) else mx.cpu()
    if not mx.runtime.Features().is_enabled("CUDA"):
        raise EngineError(
            f"--device {name}: this MXNet is the CPU build; the README says how to swap in another"
        )
    if number >= count:
        raise EngineError(f"--device {name}: MXNet sees {count} GPU(s); `probe doctor` says more")
    if not _works(mx.gpu(number)):
        raise EngineError(
            f"--device {name}: the GPU does not run this MXNet's kernels (they stop at compute "
            "capability 8.6); use --device cpu"
        )
    return mx.gpu(number)


def _works(context: Any) -> bool:
    try:
        return bool((mx.nd.ones((2, 2), ctx=context) + 1).asnumpy()[0, 0] == 2)
    except mx.MXNetError as error:
        log.warning("%s is not usable: %s", context, str(error).splitlines()[0])
        return False


class GluonEngine:
    """A backbone cut at some layers, with its weights, on one device.

    Parameters
    ----------
    spec : BackboneSpec
    parameters : mapping of canonical name to float32 array
        All that the deepest cut uses; more is ignored.
    cuts : sequence of (Layer, Pool)
    preprocess : PreprocessSpec
    batch_size : int
    device : str, default="auto"

    Raises
    ------
    EngineError
        MXNet cannot run the network here.
    """

    def __init__(
        self, spec: BackboneSpec, parameters: Parameters, cuts: Sequence[tuple[Layer, Pool]],
        preprocess: PreprocessSpec, *, batch_size: int, device: str = "auto",
    ) -> None:  # fmt: skip
        self.batch_size = batch_size
        self._context = choose_device(device)
        self.device = (
            str(self._context).replace("(", ":").rstrip(")").removesuffix("cpu:0") or "cpu"
        )
        net = build(spec, preprocess.size, classes_of(cuts))
        self._network = CutNetwork(net, cuts, preprocess)
        set_parameters(net, spec, last_of(cuts), parameters, self._context)
        self._network.gain.initialize(ctx=self._context)
        self._network.shift.initialize(ctx=self._context)
        self._compile(preprocess.size)

    def _compile(self, size: int) -> None:
        if self._context.device_type == "cpu" and mx.runtime.Features().is_enabled("MKLDNN"):
            # folds BatchNorm and ReLU into the convolutions; this copy never trains, so it may
            batch = mx.nd.zeros((self.batch_size, size, size, 3), dtype="uint8")
            self._network.optimize_for(
                batch, backend="MKLDNN", static_alloc=True, static_shape=True
            )
        else:
            self._network.hybridize(static_alloc=True, static_shape=True)

    def submit(self, batch: NDArray[np.uint8]) -> Any:
        """Start a forward pass; see `Engine.submit`."""
        if len(batch) != self.batch_size:
            raise ValueError(f"batch of {len(batch)}, expected {self.batch_size}")
        try:
            outputs = self._network(mx.nd.array(batch, ctx=self._context, dtype="uint8"))
        except mx.MXNetError as error:
            raise _explained(error) from error
        return outputs if isinstance(outputs, list | tuple) else [outputs]

    def collect(self, ticket: Any) -> list[NDArray[np.float32]]:
        """Wait for a batch; see `Engine.collect`."""
        try:
            return [output.asnumpy() for output in ticket]
        except mx.MXNetError as error:
            raise _explained(error) from error


def _explained(error: Exception) -> EngineError:
    reason = reason_of(str(error))
    hint = (
        "a smaller --batch-size needs less memory"
        if "memory" in reason.lower()
        else "see `probe doctor`"
    )
    return EngineError(f"MXNet stopped: {reason}; {hint}")
