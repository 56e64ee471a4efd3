"""Passes on workers: the entry is the one of a single process, bit by bit."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from probe.cache.features import FeatureSet
from probe.core import regular
from probe.errors import ImageError, UsageError
from probe.predict import PredictTask
from tests.cache.toy import everything
from tests.commands import invoke, probe, probe_json
from tests.finished import save_digits

COUNT = 80


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("of workers") / "pictures", np.random.default_rng(0)
    for number in range(COUNT):
        place = root / "ab"[number % 2] / f"{number:03d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(place)
    return root


def asked(pictures: Path, cache: Path, *more: str) -> list[object]:
    return [
        "extract", "--backbone", "squeezenet1_1", "--weights", "random:0", "--size", "64",
        "--batch-size", "8", "--dataset", pictures, "--cache-dir", cache, *more,
    ]  # fmt: skip


def contents(cache: Path) -> list[Any]:
    found = []
    for path in sorted((cache / "features").glob("*.h5")):
        whole = everything(FeatureSet.open(path))
        whole[2].pop("command")  # the provenance
        found += whole
    assert not list(cache.glob("features/.*.partial"))
    return found


@pytest.fixture(scope="module")
def alone(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """All that the entry says that one process made."""
    cache = tmp_path_factory.mktemp("alone")
    invoke(*asked(pictures, cache))
    return contents(cache)


def test_processes_make_the_same_entry(pictures: Path, tmp_path: Path, alone: list[Any]) -> None:
    said = probe_json(*asked(pictures, tmp_path, "--scheduler", "loky:2"))
    assert said["forwarded"] == COUNT
    assert contents(tmp_path) == alone


def test_a_pass_on_workers_that_is_killed_goes_on(
    pictures: Path, tmp_path: Path, alone: list[Any]
) -> None:
    command = [str(one) for one in asked(pictures, tmp_path, "--scheduler", "loky:1")]
    running = subprocess.Popen(
        [sys.executable, "-m", "probe", *command],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    until = time.monotonic() + 60
    while not list(tmp_path.glob("features/.*.partial")) and time.monotonic() < until:
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    invoke(*asked(pictures, tmp_path, "--scheduler", "loky:1"))
    assert contents(tmp_path) == alone


def test_an_image_that_cannot_be_read_is_named(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["probe.schedulers.spread"], "PAUSES", (0.0, 0.0))
    shutil.copytree(pictures, tmp_path / "pictures")
    cut = tmp_path / "pictures" / "a" / "004.png"
    cut.write_bytes(cut.read_bytes()[:-300])
    with pytest.raises(ImageError, match=r"a/004.png: "):
        invoke(*asked(tmp_path / "pictures", tmp_path / "cache", "--scheduler", "loky:1"))


@pytest.fixture
def dask() -> Iterator[str]:
    """A cluster whose workers are threads of this process, behind a real socket."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=":0"
    ) as cluster:
        yield cluster.scheduler_address.replace("tcp://", "dask://")


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning:distributed.*")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_dask_cluster_makes_the_same_entry(
    pictures: Path, tmp_path: Path, alone: list[Any], dask: str
) -> None:
    assert probe_json(*asked(pictures, tmp_path, "--scheduler", dask))["forwarded"] == COUNT
    assert contents(tmp_path) == alone


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning:distributed.*")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_shared_folder_that_fails_now_and_then_changes_nothing(
    pictures: Path, tmp_path: Path, alone: list[Any], dask: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opener, tries, lock = regular._opener, Counter[str](), threading.Lock()

    def fails_every_other_time(path: str, flags: int) -> int:
        with lock:
            tries[path] += path.startswith(str(pictures))
            if tries[path] % 2:
                raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return opener(path, flags)

    monkeypatch.setattr(regular, "_opener", fails_every_other_time)
    monkeypatch.setattr(regular, "PAUSES", (0.0, 0.0))
    assert probe_json(*asked(pictures, tmp_path, "--scheduler", dask))["forwarded"] == COUNT
    assert contents(tmp_path) == alone
    found = [count for count in tries.values() if count]
    assert (len(found), min(found)) == (COUNT, 4)  # the command hashes, and a worker decodes


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning:distributed.*")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_workers_answer_with_the_engine_of_the_command(
    digits_bundle: Path, tmp_path: Path, dask: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    names = [Path(one).name for one in save_digits(tmp_path, 6)]
    monkeypatch.chdir(tmp_path)
    command = "predict", digits_bundle, *names, "--engine", "openvino", "--format", "jsonl"
    asked: list[set[str]] = []
    versions = PredictTask.versions

    def noted(task: PredictTask) -> dict[str, str]:
        asked.append(set(found := versions(task)))
        return found

    monkeypatch.setattr(PredictTask, "versions", noted)
    assert probe(*command, "--scheduler", dask) == probe(*command)
    assert asked == [{"pillow", "openvino"}] * 2  # here, and in the one process of the workers


def test_a_scheduler_that_nobody_knows_is_refused(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--scheduler slurm: expected loky"):
        invoke(*asked(pictures, tmp_path, "--scheduler", "slurm"))
    assert not (tmp_path / "features").exists()
