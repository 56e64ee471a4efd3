"""Engines run a frozen network; nothing outside this package imports an inference framework.

    make_engine        a network that is ready for a dataset
    forward            a few images, nothing fused: for checks
    first_not_finite   where a network first gives NaN or infinity
    mxnet_json         a network in MXNet's format
    mxnet_facts        what there is of MXNet, for people
    load_mxnet         MXNet itself, for what trains with it or writes its format

Importing this imports no framework.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones.cut import Cuts, cut_network
from probe.backbones.network import NetworkGraph
from probe.backbones.spec import BackboneSpec
from probe.engines.base import Engine, Parameters, check_device_name
from probe.errors import EngineError
from probe.preprocess.spec import PreprocessSpec

__all__ = [
    "Engine",
    "Parameters",
    "check_device_name",
    "first_not_finite",
    "forward",
    "load_mxnet",
    "make_engine",
    "mxnet_facts",
    "mxnet_json",
]


def make_engine(
    spec: BackboneSpec, parameters: Parameters, cuts: Cuts, preprocess: PreprocessSpec, *,
    batch_size: int, device: str = "auto", quick_start: bool = False,
) -> Engine:  # fmt: skip
    """Return a backbone cut at some layers, with its weights, on one device.

    Parameters
    ----------
    parameters : mapping of canonical name to float32 array
        All that the deepest cut uses; more is ignored.
    cuts : sequence of (Layer, Pool)
    preprocess : PreprocessSpec
        Its arithmetic half becomes the first step.
    device : str, default="auto"
        ``auto``, ``cpu``, ``gpu`` or ``gpu:1``.
    quick_start : bool, default=False
        For a few images: on the CPU MXNet's library is used without its Python package, whose
        import takes longer than they do.

    Raises
    ------
    UsageError
        The device's name is none.
    EngineError
        The network cannot run here; says why, and where MXNet cannot be imported, what it needs.
    """
    network = cut_network(spec, cuts, preprocess)
    if quick_start:
        from probe.engines.mxnet.native import NativeEngine, runs_here

        if runs_here(device):
            return NativeEngine(network, parameters, preprocess, batch_size=batch_size)
    from probe.engines.mxnet.engine import MxnetEngine

    return MxnetEngine(network, parameters, preprocess, batch_size=batch_size, device=device)


def forward(
    spec: BackboneSpec, parameters: Parameters, cuts: Cuts, preprocess: PreprocessSpec,
    batch: NDArray[np.uint8],
) -> list[NDArray[np.float32]]:  # fmt: skip
    """Run a few images on the CPU, operator by operator: slow, nothing fused, nothing kept.

    An engine is for datasets; this is for checks, which should depend on as little as they can.

    Parameters
    ----------
    parameters : mapping of canonical name to float32 array
        All that the deepest cut uses; more is ignored.
    cuts : sequence of (Layer, Pool)
        Layers of `spec`, or its `logits`.
    batch : uint8, (N, S, S, 3), RGB
        Already resized to ``preprocess.size``.

    Returns
    -------
    list of float32 arrays
        One a cut, (N, ...).

    Raises
    ------
    EngineError
        MXNet cannot be imported.
    """
    from probe.engines.mxnet import eager

    return eager.forward(cut_network(spec, cuts, preprocess), parameters, preprocess, batch)


def first_not_finite(
    spec: BackboneSpec, parameters: Parameters, cuts: Cuts, preprocess: PreprocessSpec,
    batch: NDArray[np.uint8],
) -> tuple[str, int, int] | None:  # fmt: skip
    """Run a few images as `forward` does and look at what each operation gives.

    Returns
    -------
    tuple of (str, int, int) or None
        The first operation that gives NaN or infinity, by its place in the network, how many such
        numbers and of how many; None where every number is finite.

    Raises
    ------
    EngineError
        MXNet cannot be imported.
    """
    from probe.engines.mxnet import eager

    network = cut_network(spec, cuts, preprocess)
    return eager.first_not_finite(network, parameters, preprocess, batch)


def mxnet_json(network: NetworkGraph) -> str:
    """Return a network as MXNet's `-symbol.json`; needs no MXNet."""
    from probe.engines.mxnet.graph import symbol_json

    return symbol_json(network, {})


def mxnet_facts() -> dict[str, str]:
    """Return what `probe doctor` says of MXNet: its build, its threads, its GPUs.

    Raises
    ------
    EngineError
        It cannot be imported.
    """
    from probe.engines.mxnet.engine import facts

    return facts()


def load_mxnet(wanted_by: str) -> Any:
    """Return `probe.engines.mxnet.tools`: MXNet, for what trains with it or writes its format.

    Parameters
    ----------
    wanted_by : str
        For the message, as ``fine-tuning``.

    Raises
    ------
    EngineError
        It cannot be imported; says why in one line.
    """
    try:
        from probe.engines.mxnet import tools
    except EngineError as error:
        raise EngineError(f"{wanted_by} needs MXNet: {error}") from error
    return tools
