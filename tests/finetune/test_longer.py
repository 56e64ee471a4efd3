"""A fine-tuning goes on longer than it was planned for, and its length may be given in steps."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import probe
from probe.errors import ProbeError, UnknownNameError, UsageError
from probe.finetune import request
from probe.finetune.checkpoint import load_last, save_last
from probe.finetune.longer import lengthened, planned_anew
from probe.finetune.options import Options
from probe.finetune.rates import schedule_of
from probe.finetune.request import Planned, PromoteRequest
from probe.heads.history import load_history
from probe.runs.results import read_run
from tests.events import scalars
from tests.finetune.data import Silent, training_of
from tests.finetune.test_promote import promote

RECIPE = ("--lr", "1e-3", "--augment", "flip,crop", "--ema", "0.5", "--warmup", "1")
CONSTANT = (*RECIPE, "--schedule", "constant")
UPDATES = 3  # steps of an epoch: 112 training images in batches of 32
LATER = {"promotion.json", "result.json", "promote.json", "curves.png", "confusion.png"}

SIGNALLED = """
import os, signal, sys
from probe.finetune.train import Training
from probe.cli.app import app

plain, left = Training.checkpoint, [int(sys.argv[2])]

def checkpoint(self):
    plain(self)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.Signals[sys.argv[1]])

Training.checkpoint = checkpoint
app(sys.argv[3:])
"""


def tuned(cache: Path, *arguments: str) -> Path:
    return Path(json.loads(promote(cache, *arguments, "--json").stdout)["folder"])


def newest(cache: Path) -> Path:
    return max((cache / "runs").glob("*/promote.json")).parent


def signalled(cache: Path, name: str, after: int, *arguments: str) -> list[str]:
    """Return a command that sends itself a signal after so many checkpoints."""
    start = [sys.executable, "-c", SIGNALLED, name, str(after), "promote", "--cache-dir"]
    return [*start, str(cache), *arguments]


def killed(cache: Path, after: int, *arguments: str) -> None:
    """Run the command in a process that is killed after so many checkpoints."""
    command = signalled(cache, "SIGKILL", after, *arguments)
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


@contextmanager
def paused(cache: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run the command in a process that stands still after its first checkpoint, until SIGCONT."""
    command = signalled(cache, "SIGSTOP", 1, *arguments)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
            yield process
        finally:
            process.kill()


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()
    }


def assert_same_training(one: Path, other: Path) -> None:
    """Both runs have the same bits, in the network that is kept and in the last checkpoint."""
    for name in ("backbone.safetensors", "head.safetensors", "predictions.npz", "steps.csv"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert load_history(one) == load_history(other)
    (a, arrays), (b, others) = (found for path in (one, other) if (found := load_last(path)))
    assert a == b
    for name, array in arrays.items():
        assert array.tobytes() == others[name].tobytes(), name


def rates(folder: Path) -> list[float]:
    with (folder / "steps.csv").open() as file:
        return [float(row["lr"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def finished(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A cache, and its fine-tuning of two epochs at one learning rate."""
    cache = Path(shutil.copytree(made, tmp_path_factory.mktemp("longer") / "cache"))
    return cache, tuned(cache, *CONSTANT, "--epochs", "2")


def test_a_finished_run_stays_whole_and_a_longer_one_is_as_if_from_the_start(
    finished: tuple[Path, Path], tmp_path: Path
) -> None:
    cache, first = finished
    before = content(first)
    longer = (first.name, "--resume", "--epochs", "4")
    killed(cache, 1, *longer)
    assert content(first) == before
    told = promote(cache, *longer).stderr
    assert "epoch 4, after 9 steps" in " ".join(told.split())  # it does not begin again
    folder = newest(cache)
    assert content(first) == before
    assert folder != first
    assert len(list((cache / "runs").glob("*/promote.json"))) == 2
    assert_same_training(
        folder, tuned(cache, *CONSTANT, "--epochs", "4", "--out", str(tmp_path / "whole"))
    )
    assert read_run(folder).params["epochs"] == 4
    with pytest.raises(UsageError, match="has its 4 epochs; ask for more"):
        promote(cache, folder.name, "--resume", "--epochs", "4")


def test_a_schedule_that_falls_is_planned_anew_which_is_said(cache: Path) -> None:
    tuned(cache, *RECIPE, "--epochs", "2")
    told = " ".join(promote(cache, "--resume", "--epochs", "4").stderr.split())
    assert "4 epochs, planned as 2 epochs; the cosine schedule is planned anew" in told
    assert "had come to 0.00025, goes on from 0.00075" in told
    folder = newest(cache)
    short, long = (
        schedule_of(Options(epochs=epochs, warmup=1.0), UPDATES).factor for epochs in (2, 4)
    )
    wanted = [*(short(step) for step in range(1, 7)), *(long(step) for step in range(7, 13))]
    np.testing.assert_allclose(rates(folder), [1e-3 * one for one in wanted], rtol=1e-5)
    planned = json.loads((folder / "promotion.json").read_text())["planned"]
    assert planned == [{"steps": 6, "length": 2}]


@pytest.mark.parametrize(
    ("planned", "same"),
    [
        (((12, 2), (15, 4)), False),  # steps 11 and 12 of 20 had a tenth of the rate
        (((12, 2), (12, 4)), False),
        (((10, 2), (15, 4)), True),
        (((0, 2), (15, 4)), True),
        (((15, 4),), True),
    ],
)
def test_each_step_behind_counts_with_the_length_it_ran_under(
    planned: tuple[tuple[int, int], ...], same: bool
) -> None:
    asked = PromoteRequest(
        run="", options=Options(epochs=8, schedule="step", warmup=0, lr=1e-3),
        planned=tuple(Planned(steps=steps, length=length) for steps, length in planned),
    )  # fmt: skip
    told = planned_anew(asked, 10)
    assert ("as if it had been this long from the start" in told) == same
    assert ("planned anew" in told) != same


def test_an_interrupted_run_goes_on_longer_in_its_folder(cache: Path, tmp_path: Path) -> None:
    options = (*RECIPE, "--compare", "last-layer")
    killed(cache, 1, *options, "--epochs", "2")
    (folder,) = (one.parent for one in (cache / "runs").glob("*/promote.json"))
    before = content(folder)
    with pytest.raises(UsageError, match="--log tensorbord: there is no such listener"):
        promote(cache, "--resume", "--epochs", "3", "--log", "tensorbord")
    assert content(folder) == before
    done = probe.promote(None, resume=True, epochs=3, cache_dir=cache, quiet=True)
    assert done.folder == folder
    assert not (folder / "comparison.csv").exists()  # a control would have another schedule
    # nothing but the warmup was behind, so both schedules agree on it
    assert_same_training(
        folder, tuned(cache, *RECIPE, "--epochs", "3", "--out", str(tmp_path / "whole"))
    )


def test_a_training_that_is_not_interrupted_is_left_alone(cache: Path) -> None:
    runs = cache / "runs"
    with paused(cache, *CONSTANT, "--epochs", "2") as process:
        folder = newest(cache)
        before = content(folder)
        for length in ((), ("--epochs", "3")):
            with pytest.raises(UsageError, match=f"{folder.name} is still trained by another pro"):
                promote(cache, "--resume", *length)
            with pytest.raises(UsageError, match=f"{folder.name}: another process trains in it"):
                promote(cache, folder.name, "--resume", *length)
        assert content(folder) == before
        process.send_signal(signal.SIGCONT)
        said, _ = process.communicate()
        assert process.returncode == 0, said
    with paused(cache, "--resume", "--epochs", "3"):  # a folder that it did not make in `promote`
        longer = newest(cache)
        assert request.newest(runs, finished=True) == folder
        other = lengthened(folder, runs, epochs=3, steps=None, command="")
        assert other not in (folder, longer)
        shutil.rmtree(other)
    assert request.newest(runs) == longer
    assert lengthened(folder, runs, epochs=3, steps=None, command="") == longer


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--epochs", "9", "--log", "tensorbord"), "there is no such listener"),
        (("--epochs", "1"), "has 2 epochs, and --resume makes none shorter"),
        (("--steps", "40"), "has 2 epochs: give its length as --epochs N"),
        (("--epochs", "2"), "has its 2 epochs; ask for more"),
        ((), "complete; --epochs N, or --steps N, goes on longer"),
        (("--epochs", "9", "--lr", "1"), "--lr: a run that is resumed keeps its options"),
    ],
)
def test_what_cannot_go_on_says_why(
    finished: tuple[Path, Path], arguments: tuple[str, ...], message: str
) -> None:
    cache, first = finished
    there = sorted((cache / "runs").iterdir())
    with pytest.raises(ProbeError, match=message):
        promote(cache, first.name, "--resume", *arguments)
    assert sorted((cache / "runs").iterdir()) == there


def test_checkpoints_that_are_gone_and_patience_are_said(cache: Path) -> None:
    stopped = tuned(cache, "--lr", "1e-12", "--epochs", "4", "--patience", "1")
    with pytest.raises(UsageError, match="--patience 1 ended it after epoch"):
        promote(cache, stopped.name, "--resume", "--epochs", "9")
    shutil.rmtree(stopped / "checkpoints")
    with pytest.raises(UsageError, match="checkpoints are gone"):
        promote(cache, stopped.name, "--resume", "--epochs", "9")


def test_a_length_in_steps_ends_within_an_epoch_and_goes_on_from_there(
    cache: Path, tmp_path: Path
) -> None:
    options = ("--lr", "1e-3", "--schedule", "constant", "--warmup", "0", "--log", "tensorboard")
    first = tuned(cache, *options, "--steps", "5")
    assert len(rates(first)) == 5
    told = scalars(first / "tensorboard")["step/lr"]
    assert [number for number, _ in told] == [1, 2, 3, 4, 5]
    history = load_history(first)
    assert [one.epoch for one in history] == [1, 2]
    assert read_run(first).params["steps"] == 5
    longer = tuned(cache, "--resume", "--steps", "9")
    assert load_history(longer)[:2] == history  # and the rest of the second pass comes next
    assert len(load_history(longer)) == 4
    with (longer / "steps.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == list("111223444")
    whole = tuned(cache, *options, "--epochs", "3", "--out", str(tmp_path / "whole"))
    (_, arrays), (_, others) = (found for path in (longer, whole) if (found := load_last(path)))
    for name, array in arrays.items():
        assert array.tobytes() == others[name].tobytes(), name


def test_one_that_is_killed_after_a_checkpoint_has_told_its_epoch(cache: Path) -> None:
    killed(cache, 2, "--epochs", "4", "--lr", "1e-5", "--augment", "none", "--log", "tensorboard")
    folder = tuned(cache, "--resume")
    told = scalars(folder / "tensorboard")["epoch/val_loss"]
    assert [number for number, _ in told] == [1, 2, 3, 4]
    assert len(load_history(folder)) == 4


def test_a_dry_run_knows_steps(made: Path) -> None:
    told = promote(made, "--steps", "5", "--dry-run", "--augment", "none").stderr
    assert "batches of 32, 5 steps, 3 an epoch" in " ".join(told.split())


def test_a_training_of_steps_that_was_stopped_ends_with_the_same_bits(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probe.finetune.train.CHECKPOINT_SECONDS", 0.0)
    asked: dict[str, Any] = {"steps": 5, "accumulate": 2, "batch_size": 16, "warmup": 1.0}
    whole = training_of(made, tmp_path / "whole", **asked)
    whole.run(Silent())

    class Stops(Silent):
        def stepped(self, done: int, total: int, loss: float, top1: float, lr: float) -> None:
            assert total == 9  # of 7 batches an epoch, two a step: 4 steps and one
            if done == stop:
                raise KeyboardInterrupt

    for stop in (3, 8, 0):
        training = training_of(made, tmp_path / "stopped", **asked)
        training.resume()
        if stop:
            with pytest.raises(KeyboardInterrupt):
                training.run(Stops())
    training.run(Stops())
    assert training.progress == whole.progress
    assert training.progress.ends == (7, 9)
    earlier = replace(training.progress, ends=())  # as 0.1.0 kept it
    save_last(training.folder, earlier, training.network.state.snapshot(), training.log)
    assert training.resume()
    assert training.progress == whole.progress
    assert training.log.tobytes() == whole.log.tobytes()
    for name, value in whole.network.state.weights.values().items():
        assert value.tobytes() == training.network.state.weights.values()[name].tobytes(), name


def test_a_warmup_leaves_most_of_the_steps() -> None:
    assert schedule_of(Options(steps=200), 1_000).warmup == 25
    assert schedule_of(Options(steps=200), 10).warmup == 10
    assert schedule_of(Options(epochs=1), 10).warmup == 10


def test_a_length_is_given_once(made: Path) -> None:
    with pytest.raises(UsageError, match="--epochs has no effect beside --steps"):
        promote(made, "--epochs", "2", "--steps", "5")
    for function in (probe.promote, probe.forecast):
        with pytest.raises(UsageError, match="the length is given twice"):
            function(None, epochs=2, steps=5, cache_dir=made)
    with pytest.raises(UsageError, match="expected a whole number from 1"):
        probe.promote(None, steps=0, cache_dir=made)
    with pytest.raises(UnknownNameError, match="no such run"):  # None is no length
        probe.promote("no such run", epochs=2, steps=None, cache_dir=made)


def test_a_length_that_is_typed_comes_before_one_of_a_file(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "probe.toml").write_text("[promote]\nsteps = 5\n")
    monkeypatch.chdir(tmp_path)
    assert "5 steps" in promote(made, "--dry-run").stderr
    typed = promote(made, "--epochs", "4", "--dry-run").stderr
    assert "5 steps" not in typed
    assert "4 epochs" in typed
