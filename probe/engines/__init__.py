"""Engines run a frozen network; nothing outside this package imports an inference framework.

    make_engine        a network that is ready for a dataset
    default_engine     which engine that is, where nobody named one
    rival_engines      what may be faster than that here
    default_batch_size how many images a batch has, where nobody said
    filled             a short batch for a network that takes one size only
    forward            a few images, nothing fused: for checks
    first_not_finite   where a network first gives NaN or infinity
    mxnet_json         a network in MXNet's format
    engine_facts       what there is of each engine, for people
    load_mxnet         MXNet itself, for what trains with it or writes its format

Importing this imports no framework.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones.cut import Cuts, cut_network
from probe.backbones.network import NetworkGraph, Node, Shape
from probe.backbones.spec import BackboneSpec
from probe.core.version import installed_versions
from probe.engines.base import (
    BUILDS,
    ENGINES,
    MXNET_NEEDS,
    TOLERANCE,
    Engine,
    Parameters,
    batch_of,
    check_device_name,
    default_batch_size,
    filled,
    relative_differences,
)
from probe.engines.several import SeveralDevices
from probe.errors import EngineError, UsageError
from probe.preprocess.spec import PreprocessSpec

__all__ = [
    "BUILDS",
    "ENGINES",
    "TOLERANCE",
    "Engine",
    "Parameters",
    "batch_of",
    "check_device_name",
    "check_engine",
    "check_engine_name",
    "default_batch_size",
    "default_engine",
    "engine_facts",
    "engine_is_installed",
    "engine_version",
    "filled",
    "first_not_finite",
    "forward",
    "function_of",
    "load_mxnet",
    "make_engine",
    "mxnet_json",
    "plain_engine",
    "relative_differences",
    "rival_engines",
    "values_of",
]


def check_engine_name(name: str) -> None:
    """Raise UsageError unless it is ``auto`` or an engine, EngineError where that is missing."""
    if name not in ("auto", *ENGINES):
        raise UsageError(f"--engine {name}: expected auto, {', '.join(ENGINES[:-1])} or mxnet")
    if not engine_is_installed(name):
        lacking = {
            "openvino": "OpenVINO is not installed; leave --engine out, or `pip install openvino`",
            "mxnet": "MXNet is not installed; leave --engine out, or `pip install mxnet==1.9.1`: "
            + MXNET_NEEDS,
        }
        raise EngineError(f"--engine {name}: {lacking[name]}")


def check_engine(spec: BackboneSpec, name: str) -> None:
    """Raise UsageError where a backbone cannot be run by the engine of that name."""
    if spec.only_engine is not None and name not in ("auto", spec.only_engine):
        raise UsageError(f"--engine {name}: {spec.name} cannot be run by it; leave --engine out")


def engine_is_installed(name: str) -> bool:
    """Whether an engine can be had here; ONNX Runtime always can."""
    return name not in ("openvino", "mxnet") or find_spec(name) is not None


def engine_version(name: str) -> dict[str, str]:
    """Return the version of what an engine is made of, whichever of its builds is installed."""
    versions = installed_versions(BUILDS.get(name, ()))
    return {name: next(iter(versions.values()))} if versions else {}


def default_engine(device: str = "auto", spec: BackboneSpec | None = None) -> str:
    """Return the engine of a pass for which nobody named one, and nothing was timed.

    That is ONNX Runtime: some networks run faster by it, most as fast (``benchmarks/engines.py``).
    It is MXNet only where that is installed as one of its CUDA builds, ONNX Runtime as its CPU
    build, the device may be a GPU, and the network is one of the catalog; of a function it is
    ``python``.
    """
    if spec is not None and spec.only_engine is not None:
        return spec.only_engine
    of_gpus = BUILDS["mxnet"][1:]
    if device.partition(":")[0] not in ("auto", "gpu", "cuda") or not installed_versions(of_gpus):
        return "onnx"
    from probe.engines.onnx.devices import usable_kinds

    return "onnx" if len(usable_kinds()) > 1 else "mxnet"


def rival_engines(device: str, spec: BackboneSpec) -> tuple[str, ...]:
    """Return the engines that a long pass times beside the default one.

    That is OpenVINO, where it is installed, the device is the CPU and the network is one of the
    catalog. MXNet is none: of ten networks it was as fast as ONNX Runtime at best, and took four
    times as long at worst.
    """
    if spec.only_engine is not None or default_engine(device, spec) != "onnx":
        return ()
    if device not in ("auto", "cpu") or not engine_is_installed("openvino"):
        return ()
    from probe.engines.onnx.devices import choose_devices

    return ("openvino",) if choose_devices(device) == ["cpu"] else ()


def make_engine(
    spec: BackboneSpec, parameters: Parameters, cuts: Cuts, preprocess: PreprocessSpec, *,
    batch_size: int | None, views: int = 1, engine: str = "auto", device: str = "auto",
    ahead: bool = False,
) -> Engine:  # fmt: skip
    """Return a backbone cut at some layers, with its weights, on one device or several.

    Parameters
    ----------
    parameters : mapping of canonical name to float32 array
        All that the deepest cut uses; more is ignored.
    cuts : sequence of (Layer, Pool)
    preprocess : PreprocessSpec
        Its arithmetic half becomes the first step.
    batch_size : int or None
        Images in a batch, on each device. None for `default_batch_size`.
    views : int, default=1
        Views of an image; all of them stand in one batch, whose size is a multiple.
    engine : {"auto", "onnx", "openvino", "mxnet"}, default="auto"
        See `default_engine`. Their rows agree to 1e-4 of a row's norm.
    device : str, default="auto"
        ``auto``, ``cpu``, ``gpu``, ``gpu:1``, or ``gpu:0,1`` for batches that go to two in turn;
        for ONNX Runtime also ``cuda``, ``cuda:1``, ``cuda:0,1``, ``dml`` (DirectML) and ``coreml``.
    ahead : bool, default=False
        Return before a CPU's network is ready; see `OnnxEngine`.

    Raises
    ------
    UsageError
        The engine's or the device's name is none.
    EngineError
        The network cannot run here, or gives other rows than on a CPU; says why.
    """
    check_engine(spec, engine)
    if engine != spec.only_engine:
        check_engine_name(engine)
    network = cut_network(spec, cuts, preprocess)
    kind: Callable[..., Engine]
    named = default_engine(device, spec) if engine == "auto" else engine
    if named == "python":
        from probe.engines.callable import CallableEngine, choose_devices

        kind = CallableEngine
    elif named == "mxnet":
        from probe.engines.mxnet.engine import MxnetEngine, choose_devices

        kind = MxnetEngine
    elif named == "openvino":
        from probe.engines.openvino.engine import OpenvinoEngine, choose_devices

        kind = OpenvinoEngine
    else:
        from probe.engines.onnx.devices import choose_devices
        from probe.engines.onnx.engine import OnnxEngine

        kind = partial(OnnxEngine, ahead=ahead)
    devices = choose_devices(device)
    gpu = not {"cpu", "python"} & set(devices)
    size = batch_of(batch_size, preprocess.size, views=views, gpu=gpu)
    made = [kind(network, parameters, preprocess, batch_size=size, device=one) for one in devices]
    for each in made if gpu else ():
        _check_rows(each, network, parameters, preprocess)
    return made[0] if len(made) == 1 else SeveralDevices(made, device)


def _check_rows(
    engine: Engine, network: NetworkGraph, parameters: Parameters, preprocess: PreprocessSpec
) -> None:
    """Raise EngineError unless a device gives the rows that a CPU gives: no key holds a device."""
    shape = (engine.batch_size, preprocess.size, preprocess.size, 3)
    batch = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    known = values_of(network, parameters, preprocess, batch[:2])
    for found, expected in zip(engine.collect(engine.submit(batch)), known, strict=True):
        worst = float(relative_differences(found[: len(expected)], expected).max())
        if np.isfinite(expected).all() and not worst <= TOLERANCE:
            raise EngineError(
                f"{engine.device} gives other features than a CPU, by {worst:.2g} of a row's norm "
                f"(at most {TOLERANCE:g}); use --device cpu"
            )


def forward(
    spec: BackboneSpec, parameters: Parameters, cuts: Cuts, preprocess: PreprocessSpec,
    batch: NDArray[np.uint8],
) -> list[NDArray[np.float32]]:  # fmt: skip
    """Run a few images on the CPU, operator by operator: nothing fused, nothing kept.

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
        The network cannot run here.
    """
    return values_of(cut_network(spec, cuts, preprocess), parameters, preprocess, batch)


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
        The network cannot run here.
    """
    network = cut_network(spec, cuts, preprocess)
    every = replace(network, outputs=tuple(node.output for node in network.nodes))
    values = values_of(every, parameters, preprocess, batch)
    for node, value in zip(network.nodes, values, strict=True):
        if bad := value.size - int(np.isfinite(value).sum()):
            return node.name, bad, value.size
    return None


def values_of(
    network: NetworkGraph, parameters: Parameters, preprocess: PreprocessSpec,
    batch: NDArray[np.uint8],
) -> list[NDArray[np.float32]]:  # fmt: skip
    """Return the outputs of a network from pixels on, run as `forward` does."""
    engine = plain_engine(network, parameters, preprocess, batch_size=len(batch))
    return engine.collect(engine.submit(batch))


def plain_engine(
    network: NetworkGraph, parameters: Parameters, preprocess: PreprocessSpec, *, batch_size: int
) -> Engine:
    """Return an engine that runs a network from pixels on as `forward` does."""
    if function_of(network):
        from probe.engines.callable import CallableEngine

        return CallableEngine(network, parameters, preprocess, batch_size=batch_size)
    from probe.engines.onnx.engine import OnnxEngine

    return OnnxEngine(network, parameters, preprocess, batch_size=batch_size, optimize=False)


def function_of(network: NetworkGraph) -> Node | None:
    """Return the node that is a function of Python, None where the network has none."""
    return next((node for node in network.nodes if node.op == "callable"), None)


def mxnet_json(network: NetworkGraph, shapes: Mapping[str, Shape]) -> str:
    """Return a network as MXNet's `-symbol.json`, with the shapes of variables; needs no MXNet."""
    from probe.engines.mxnet.graph import symbol_json

    return symbol_json(network, shapes)


def engine_facts() -> dict[str, str]:
    """Return what `probe doctor` says of each engine: its build, its threads, its devices."""
    from probe.engines.onnx.devices import facts as onnx_facts

    told = {"engine": f"{default_engine()}, where --engine names none", **onnx_facts()}
    if engine_is_installed("openvino"):
        from probe.engines.openvino.engine import facts as openvino_facts

        told |= openvino_facts()
    else:
        told["openvino"] = "not installed; `pip install openvino`: faster on some networks"
    if not engine_is_installed("mxnet"):
        users = "`probe promote`, --engine mxnet and export --to mxnet"
        return told | {"mxnet": f"not installed; only {users} need it. {MXNET_NEEDS}"}
    try:
        from probe.engines.mxnet.engine import facts as mxnet_facts

        return told | mxnet_facts()
    except EngineError as error:
        return told | {"mxnet": f"not used: {error}"}


def load_mxnet(wanted_by: str) -> Any:
    """Return `probe.engines.mxnet.tools`: MXNet, for what trains with it or writes its format.

    Parameters
    ----------
    wanted_by : str
        For the message, as ``fine-tuning``.

    Raises
    ------
    EngineError
        It is not installed or cannot be imported; says why in one line.
    """
    if not engine_is_installed("mxnet"):
        raise EngineError(f"{wanted_by} needs MXNet, which is not installed: {MXNET_NEEDS}")
    try:
        from probe.engines.mxnet import tools
    except EngineError as error:
        raise EngineError(f"{wanted_by} needs MXNet: {error}") from error
    return tools
