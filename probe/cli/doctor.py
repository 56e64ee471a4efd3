"""`probe doctor`: show versions, engines, threads, devices, and why a GPU is or is not used."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys

from probe.cli.options import AsJson, CacheDir, cache_folder

PACKAGES = (
    "probe",
    "onnx",
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
    """Show versions, engines, threads, devices, and why a GPU is or is not used."""
    from probe.core.machine import usable_cores
    from probe.core.version import __version__, installed_versions
    from probe.engines import engine_facts
    from probe.screen import console

    folder = cache_folder(cache_dir)
    versions = installed_versions(PACKAGES) | {"probe": __version__}
    facts: dict[str, str] = {
        "python": f"{platform.python_version()} ({sys.executable})",
        "machine": f"{platform.system()} {platform.machine()}, {usable_cores()} usable cores",
        "packages": ", ".join(f"{name} {versions.get(name, 'missing')}" for name in PACKAGES),
    }
    facts |= engine_facts()
    facts["gpu driver"] = _driver()
    usage = shutil.disk_usage(folder if folder.exists() else ".")
    facts["cache"] = f"{console.place(folder)}, {console.size(usage.free)} free"
    if as_json:
        console.print_json(facts)
    else:
        console.facts(console.stdout(), facts)


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
