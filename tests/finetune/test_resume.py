"""Killed at any moment, a training ends as if it had never stopped."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from probe.errors import PromoteError
from probe.finetune.checkpoint import (
    BEST,
    FOLDER,
    LAST,
    Progress,
    load_best,
    load_last,
    remove_leftovers,
    save_best,
    save_last,
)
from tests.finetune.data import training_of


def start(cache: Path, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.finetune.killed", str(cache), str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    with process.stdout:
        lines = process.stdout.read().split()
    assert process.wait() == 0
    assert lines[-1] == "done"
    return lines


def test_a_training_killed_again_and_again_ends_with_the_same_bits(
    made: Path, tmp_path: Path
) -> None:
    finish(start(made, tmp_path / "whole"))
    rng, killed = random.Random(5), 0
    for lines in (3, 2):
        process = start(made, tmp_path / "killed")
        assert process.stdout is not None
        for _ in range(lines):
            process.stdout.readline()
        time.sleep(rng.uniform(0, 0.15))  # so that writing a checkpoint is hit, too
        os.kill(process.pid, signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        process.stdout.close()
        remove_leftovers(tmp_path / "killed")
    assert killed == 2
    rest = finish(start(made, tmp_path / "killed"))
    assert 1 < len(rest) < 14 + 1  # it went on, it did not begin again
    (a, arrays_a), (b, arrays_b) = (
        found for one in ("whole", "killed") if (found := load_last(tmp_path / one))
    )
    assert a == b  # history and all, times aside
    assert arrays_a.keys() == arrays_b.keys()
    for name, array in arrays_a.items():
        assert array.tobytes() == arrays_b[name].tobytes(), name
    best = [load_best(tmp_path / one, a.best_epoch) for one in ("whole", "killed")]
    assert all(best[0][n].tobytes() == best[1][n].tobytes() for n in best[0])


def numbers() -> dict[str, np.ndarray]:
    return {"weights": np.arange(40, dtype=np.float32), "log": np.ones((2, 3), np.float32)}


@pytest.mark.parametrize("where", ["header", "middle", "end"])
def test_a_damaged_checkpoint_is_refused_by_name(tmp_path: Path, where: str) -> None:
    arrays = numbers()
    save_last(tmp_path, Progress(epoch=2), arrays, arrays.pop("log"))
    path = tmp_path / FOLDER / LAST
    data = bytearray(path.read_bytes())
    data[{"header": 30, "middle": len(data) // 2, "end": len(data) - 1}[where]] ^= 1
    path.write_bytes(data)
    with pytest.raises(PromoteError, match=LAST):
        load_last(tmp_path)


def test_the_best_of_another_epoch_is_refused(tmp_path: Path) -> None:
    save_best(tmp_path, 3, numbers())
    with pytest.raises(PromoteError, match="epoch 3, not 4"):
        load_best(tmp_path, 4)
    assert load_best(tmp_path, 3)["weights"][5] == 5
    assert BEST in {path.name for path in (tmp_path / FOLDER).iterdir()}


def test_a_checkpoint_of_another_network_is_refused(made: Path, tmp_path: Path) -> None:
    arrays = numbers()
    save_last(tmp_path, Progress(epoch=2), arrays, arrays.pop("log"))
    with pytest.raises(PromoteError, match="another network"):
        training_of(made, tmp_path).resume()


def test_where_the_disk_is_full_the_checkpoint_before_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = numbers()
    log = arrays.pop("log")
    save_last(tmp_path, Progress(epoch=2), arrays, log)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.raises(PromoteError, match=r"No space left on device.*--resume"):
        save_last(tmp_path, replace(Progress(), epoch=3), arrays, log)
    found = load_last(tmp_path)
    assert found is not None
    assert found[0].epoch == 2
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == [LAST]
