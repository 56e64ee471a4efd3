"""The devices that ONNX Runtime can run a network on here, and what keeps it from the others."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import logging
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from probe.core.machine import computing_threads
from probe.engines.base import check_device_name, split_device, stopped
from probe.engines.onnx.graph import onnx_model
from probe.errors import EngineError

log = logging.getLogger(__name__)

CPU = "CPUExecutionProvider"
SILENT = 4  # ONNX Runtime's level of logging: fatal only; errors come as exceptions


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of device: what ONNX Runtime calls it, and what brings it.

    Parameters
    ----------
    systems : tuple of str
        Where there is such a build, as `platform.system` calls them.
    exact : mapping
        Settings under which it computes in float32 throughout: rows have to agree with a CPU's to
        1e-4 of their norm.
    """

    provider: str
    package: str
    systems: tuple[str, ...]
    exact: Mapping[str, Any] = field(default_factory=dict)


KINDS = {
    "cuda": Kind(
        provider="CUDAExecutionProvider", package="'onnxruntime-gpu[cuda,cudnn]'",
        systems=("Linux", "Windows"),
        exact={"use_tf32": 0},  # TF32 rounds the factors of products to 10 bits
    ),
    "dml": Kind(
        provider="DmlExecutionProvider", package="onnxruntime-directml", systems=("Windows",)
    ),
    # Apple's Neural Engine computes in float16, and so do networks in Core ML's older format
    "coreml": Kind(
        provider="CoreMLExecutionProvider", package="onnxruntime", systems=("Darwin",),
        exact={"ModelFormat": "MLProgram", "MLComputeUnits": "CPUAndGPU"},
    ),
}  # fmt: skip


def usable_kinds() -> list[str]:
    """Return the kinds of devices that this build of ONNX Runtime knows, the CPU first."""
    there = onnxruntime.get_available_providers()
    return ["cpu", *(word for word, kind in KINDS.items() if kind.provider in there)]


def choose_devices(name: str) -> list[str]:
    """Return the devices that a name means, each of which runs networks.

    ``auto`` is the first CUDA device, or the CPU where none runs; ``cuda:0,1`` are two.

    Raises
    ------
    UsageError
        The name is none.
    EngineError
        Networks do not run on such a device here; says why.
    """
    check_device_name(name)
    kind, numbers = split_device(name)
    usable = usable_kinds()
    if kind == "auto":
        return ["cuda:0"] if "cuda" in usable and not obstacle("cuda:0") else ["cpu"]
    if kind == "gpu" and len(usable) > 1:
        kind = usable[1]
    if kind not in usable:
        raise EngineError(
            f"--device {name}: this build of ONNX Runtime runs on {', '.join(usable)}; "
            f"{_how_to_get('cuda' if kind == 'gpu' else kind)}"
        )
    if kind in ("cpu", "coreml"):  # there is one
        if numbers != (0,):
            raise EngineError(f"--device {name}: there is one {kind} device; leave the number out")
        devices = [kind]
    else:
        devices = [f"{kind}:{number}" for number in numbers]
    for device in devices:
        if reason := obstacle(device):
            raise EngineError(f"--device {name}: {reason}")
    return devices


def _how_to_get(kind: str) -> str:
    about = KINDS[kind]
    if platform.system() not in about.systems:
        return f"{kind} is for {' and '.join(about.systems).replace('Darwin', 'macOS')}"
    return f"`pip install {about.package}` in place of {onnxruntime.package_name} brings {kind}"


@functools.cache
def obstacle(device: str) -> str:
    """Return what keeps ONNX Runtime from running a network on a device, in one line.

    It is asked to run the smallest network there; nothing is returned where it does.
    """
    if device == "cpu":
        return ""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Cast", ["pixels"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["x", "ones"], ["rows"]),  # needs cuDNN, as networks do
    ]
    ones = numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "ones")
    shape = [1, 1, 2, 2]
    model = onnx_model("smallest", nodes, {"pixels": shape}, {"rows": shape}, [ones])
    try:
        session = open_session(model.SerializeToString(), onnxruntime.SessionOptions(), device)
        run_session(session, ["rows"], {"pixels": np.ones(shape, np.uint8)})
    except EngineError as error:
        log.info("%s is not used: %s", device, error)
        return str(error)
    return ""


def open_session(model: bytes, options: Any, device: str) -> Any:
    """Return a session that runs a model on one device, and on no other without saying so.

    Parameters
    ----------
    device : str
        ``cpu``, ``cuda:0`` ...

    Raises
    ------
    EngineError
        ONNX Runtime cannot start it; says why.
    """
    options.log_severity_level = SILENT
    kind, (number, *_) = split_device(device)
    providers: list[Any] = [CPU]
    if kind != "cpu":
        place = {} if kind == "coreml" else {"device_id": number}
        providers.insert(0, (KINDS[kind].provider, {**place, **KINDS[kind].exact}))
        options.enable_mem_pattern = kind != "dml"  # DirectML refuses it
        onnxruntime.set_default_logger_severity(SILENT)  # or it writes to stderr what is told below
    if kind == "cuda":
        _find_libraries()
    try:
        session = onnxruntime.InferenceSession(
            model, options, providers=providers, enable_fallback=0
        )
    except Exception as error:  # its exceptions share no base class but this one
        raise stopped("ONNX Runtime", _first_line(error)) from error
    if kind != "cpu" and session.get_providers()[0] == CPU:  # it falls back and raises nothing
        raise EngineError(f"{device} does not start: {_missing_library(kind)}")
    return session


def run_session(session: Any, outputs: list[str], inputs: Mapping[str, Any]) -> list[Any]:
    """Return a session's outputs.

    Raises
    ------
    EngineError
        ONNX Runtime stopped; says why.
    """
    try:
        return list(session.run(outputs, inputs))
    except Exception as error:  # see above
        raise stopped("ONNX Runtime", _first_line(error)) from error


@functools.cache
def _find_libraries() -> None:
    """Load CUDA's libraries where pip installs them, in which the system does not look."""
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find
        onnxruntime.preload_dlls()


def _missing_library(kind: str) -> str:
    """Return why the library of a provider does not load; ONNX Runtime only logs it."""
    folder = Path(onnxruntime.__file__).parent / "capi"
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(folder / f"libonnxruntime_providers_{kind}.so"))
    except OSError as error:
        brings = (
            "it is part of NVIDIA's driver"
            if "libcuda." in str(error)
            else f"`pip install {KINDS[kind].package}` brings it"
        )
        return f"{error}; {brings}" if kind == "cuda" else str(error)
    return "a library is missing or of another version"


def facts() -> dict[str, str]:
    """Return what `probe doctor` says of ONNX Runtime: its build, its threads and each device."""
    told = {
        "onnx": f"ONNX Runtime {onnxruntime.__version__} ({onnxruntime.package_name}), "
        f"{computing_threads()} threads on the CPU"
    }
    usable = usable_kinds()
    for kind, about in KINDS.items():
        if kind in usable:
            device = kind if kind == "coreml" else f"{kind}:0"
            told[f"onnx on {kind}"] = obstacle(device) or f"runs networks on {device}"
        elif platform.system() in about.systems:
            told[f"onnx on {kind}"] = f"not in this build; {_how_to_get(kind)}"
    return told


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
