"""A training that was killed or stopped ends with the same bits as one that was not."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from probe.errors import PromoteError
from probe.finetune import train
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
from tests.finetune.data import Silent, training_of

OPTIONS = {
    "epochs": 2, "augment": "strong,jitter,hue,lighting", "mixup": 0.2, "ema": 0.9,
    "optimizer": "adamw", "bn": "moving", "freeze": "backbone", "unfreeze": ((2, "none"),),
    "sizes": (28, 32), "accumulate": 2, "batch_size": 16, "sampling": "balanced", "clip": 1.0,
}  # fmt: skip


class Batches(Silent):
    """Prints the number of each batch and stops the training after some of them."""

    def __init__(self, stop_after: int = 1000) -> None:
        super().__init__()
        self.count, self.stop_after = 0, stop_after

    def stepped(self, done: int, total: int, loss: float, top1: float, lr: float) -> None:
        print(done, flush=True)
        self.count += 1
        if self.count == self.stop_after:
            raise KeyboardInterrupt


def train_on(cache: Path, folder: Path, batches: Batches) -> int:
    """Train with a checkpoint after each step, from the last one on; return the batches done."""
    with mock.patch.object(train, "CHECKPOINT_SECONDS", 0.0):
        training = training_of(cache, folder, **OPTIONS)
        training.resume()
        with contextlib.suppress(KeyboardInterrupt):
            training.run(batches)
    return batches.count


def kill_after(batches: int, cache: Path, folder: Path) -> None:
    """Train in another process and kill it a moment after some batches."""
    code = (
        "import sys; from pathlib import Path; from tests.finetune.test_resume import *; "
        "train_on(Path(sys.argv[1]), Path(sys.argv[2]), Batches())"
    )
    command = [sys.executable, "-c", code, str(cache), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(batches):
            process.stdout.readline()
        time.sleep(random.Random(5).uniform(0, 0.15))  # writing a checkpoint may be hit, too
        process.kill()
    assert process.returncode == -signal.SIGKILL
    remove_leftovers(folder)


def test_a_training_killed_and_stopped_ends_with_the_same_bits(made: Path, tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert train_on(made, whole, Batches()) == 14
    kill_after(3, made, stopped)
    assert train_on(made, stopped, Batches(stop_after=2)) == 2
    assert 1 < train_on(made, stopped, Batches()) < 14  # it went on, it did not begin again
    (a, arrays_a), (b, arrays_b) = (found for one in (whole, stopped) if (found := load_last(one)))
    assert a == b  # history and all, times aside
    assert arrays_a.keys() == arrays_b.keys()
    for name, array in arrays_a.items():
        assert array.tobytes() == arrays_b[name].tobytes(), name
    best = [load_best(one, a.best_epoch) for one in (whole, stopped)]
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
