"""Each command that writes, on a disk that fills while it does: one line, and nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from probe.cache.features import FeatureSet
from probe.cache.store import Store
from tests.cache.test_commands import BASE, picture, probe
from tests.cache.test_kill import mount, remount
from tests.cache.toy import everything, flip

IMAGES, PAGE = 48, 4096
LEFT = (".partial", ".journal", "memo.sqlite", "memo.sqlite-journal")  # for the next run
COMMANDS = {
    "extract": ("extract", *BASE, "--views", "flip"),
    "sync": ("cache", "sync", "--dataset-root", "pics"),
    "sync --repair": ("cache", "sync", "--repair"),
    "pack": ("cache", "pack"),
    "pack to float16": ("cache", "pack", "--dtype", "float16", "--codec", "none"),
    "import": ("cache", "import", "in.npz", "--dataset", "theirs"),
    "export npz": ("cache", "export", "my cache/out.npz"),
    "export parquet": ("cache", "export", "my cache/out.parquet"),
    "export safetensors": ("cache", "export", "my cache/out.safetensors"),
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images and their entry."""
    folder = tmp_path_factory.mktemp("a begun folder")
    for number in range(IMAGES):
        picture(folder / "pics" / "ab"[number % 2] / f"{number:02d}.png", number)
    probe("extract", *BASE, cwd=folder)
    rows = np.random.default_rng(0).standard_normal((IMAGES, 512), np.float32)
    np.savez(folder / "in.npz", features=rows, labels=np.arange(IMAGES) % 2)
    return folder


def change(command: str, work: Path) -> None:
    """Do what the command is for."""
    if command == "sync":
        picture(work / "pics" / "a" / "new.png", 99)
    if command == "sync --repair":
        (path,) = Store(work / "my cache").files()
        flip(path, FeatureSet.open(path).header.labels["train"].start)


def listed(work: Path) -> dict[str, object]:
    entries = json.loads(probe("cache", "list", "--json", cwd=work).stdout)["entries"]
    return {one["name"]: (one["bytes"], one["digest"]) for one in entries}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_disk_that_fills_costs_one_line_and_no_entry(
    begun: Path, tmp_path: Path, command: str
) -> None:
    if "pack" in command:
        pytest.importorskip("hdf5plugin")
    if "parquet" in command:
        pytest.importorskip("pyarrow")
    work, arguments = tmp_path / "work", COMMANDS[command]
    for name in ("pics", "in.npz"):
        source = begun / name
        work.mkdir(exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, work / name)
    cache = work / "my cache"
    mount(cache, 64 << 20)
    try:
        shutil.copytree(begun / "my cache", cache, dirs_exist_ok=True)
        (cache / "memo.sqlite").unlink()  # of files that lie elsewhere
        change(command, work)
        before, files = listed(work), names(cache)
        refused = 0
        for room in (0, 1, 3, 8, 16, 24, 28, 40):
            remount(cache, taken(cache) + room * PAGE)
            done = probe(*arguments, cwd=work, code=None)
            if done.exit_code == 0:
                break
            refused += 1
            assert "cannot be written (No space left on device)" in str(done.exception)
            assert listed(work) == before
            left = names(cache) - files
            assert all(name.endswith(LEFT) for name in left), left
        assert refused >= 2
        remount(cache, 64 << 20)
        probe(*arguments, cwd=work)
        assert not [name for name in names(cache) if name.endswith((".partial", ".tmp"))]
        for entry in Store(cache).entries():
            everything(FeatureSet.open(entry.path))
    finally:
        subprocess.run(["umount", "-l", str(cache)], check=True)


def names(cache: Path) -> set[str]:
    found = {path.relative_to(cache) for path in cache.rglob("*") if path.is_file()}
    return {str(path) for path in found if ".locks" not in path.parts}


def taken(cache: Path) -> int:
    """Return how many bytes of the disk are in use."""
    state = os.statvfs(cache)
    return (state.f_blocks - state.f_bfree) * state.f_frsize
