"""`probe doctor`: show versions, threads, devices, and why a GPU is or is not used."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import typer

from probe.cli.options import AsJson, CacheDir, cache_folder
from probe.errors import EngineError

PACKAGES = (
    "probe",
    "mxnet",
    "numpy",
    "h5py",
    "scikit-learn",
    "pillow",
    "joblib",
    "typer",
    "safetensors",
    "xxhash",
)


def doctor(cache_dir: CacheDir = None, as_json: AsJson = False) -> None:
    """Show versions, threads, devices, and why a GPU is or is not used."""
    from probe.core.machine import usable_cores
    from probe.engines import mxnet_facts
    from probe.screen import console

    folder = cache_folder(cache_dir)
    facts: dict[str, str] = {
        "python": f"{platform.python_version()} ({sys.executable})",
        "machine": f"{platform.system()} {platform.machine()}, {usable_cores()} usable cores",
        "packages": ", ".join(f"{name} {_version(name)}" for name in PACKAGES),
    }
    works = True
    try:
        facts |= mxnet_facts()
    except EngineError as error:
        facts["mxnet"], works = str(error), False
    facts["gpu driver"] = _driver()
    usage = shutil.disk_usage(folder if folder.exists() else ".")
    facts["cache"] = f"{console.place(folder)}, {console.size(usage.free)} free"
    if as_json:
        console.print_json(facts)
    else:
        console.facts(console.stdout(), facts)
    if not works:
        raise typer.Exit(1)


def _driver() -> str:
    if shutil.which("nvidia-smi") is None:
        return "no nvidia-smi on the path"
    query = ["nvidia-smi", "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return "nvidia-smi does not answer"
    return (
        "; ".join((done.stdout or done.stderr).strip().splitlines()) or "nvidia-smi lists nothing"
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"
