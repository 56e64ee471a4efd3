"""Who hears of a fine-tuning, also of one that was stopped and goes on."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import probe
from probe.core.records import CHECKSUM
from probe.finetune.request import FILE_NAME, PromoteRequest
from probe.heads.history import Epoch, load_history
from probe.runs.listeners import RunEnd, RunStart
from tests.events import scalars
from tests.finetune.data import RUN

QUICK: dict[str, Any] = {"lr": 1e-5, "augment": "none", "quiet": True}


class Ears(probe.Listener):
    """Keeps what it hears, and stops the run after some epoch."""

    def __init__(self, stop_after: int = 0) -> None:
        self.said: list[Any] = []
        self.stop_after = stop_after

    def started(self, run: RunStart) -> None:
        self.said.append(run)

    def epoch(self, epoch: Epoch, steps: Sequence[Mapping[str, float]]) -> None:
        self.said.append((epoch, steps))
        if epoch.epoch == self.stop_after:
            raise KeyboardInterrupt

    def ended(self, end: RunEnd) -> None:
        self.said.append(end)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_fine_tuning_is_heard_with_its_batches(cache: Path) -> None:
    ears = Ears()
    run = probe.promote(RUN, epochs=2, log=["tensorboard", ears], cache_dir=cache, **QUICK)
    start, *epochs, end = ears.said
    assert (start.kind, start.name, start.folder) == ("promote", run.name, run.folder)
    assert start.tags["head"] == "promoted"
    assert start.tags["backbone"] == "resnet18"
    assert {**start.params, "best_epoch": run.result.params["best_epoch"]} == run.result.params
    assert end.params == run.result.params
    assert [one for one, _ in epochs] == load_history(run.folder)
    rows = table(run.folder / "steps.csv")
    told = [step for _, steps in epochs for step in steps]
    assert [list(one) for one in told] == [["step", "loss", "top1", "lr"]] * len(rows)
    for name in ("step", "loss", "top1", "lr"):
        assert [one[name] for one in told] == pytest.approx(
            [float(row[name]) for row in rows], rel=1e-5
        )
    found = scalars(run.folder / "tensorboard")
    assert [step for step, _ in found["step/loss"]] == [int(row["step"]) for row in rows]
    assert [value for _, value in found["step/top1"]] == pytest.approx(
        [one["top1"] for one in told]
    )
    assert found["val/top1"] == [(2, pytest.approx(run.metrics["val"]["top1"]))]


def stop_and_go_on(cache: Path, log: str) -> tuple[probe.Run, Ears]:
    """Stop a training of three epochs after the first, and go on with the listeners it had."""
    first = Ears(stop_after=1)
    with pytest.raises(KeyboardInterrupt) as stop:
        probe.promote(RUN, epochs=3, log=[log, first], cache_dir=cache, **QUICK)
    assert first.said[-1].status == "stopped"
    assert PromoteRequest.read(Path(stop.value.args[0])).log == (log,)
    return probe.promote(None, resume=True, cache_dir=cache, quiet=True), first


def test_one_that_goes_on_tells_tensorboard_each_epoch_once(cache: Path) -> None:
    run, _ = stop_and_go_on(cache, "tensorboard")
    found = scalars(run.folder / "tensorboard")
    history = load_history(run.folder)
    assert found["epoch/val_loss"] == [(one.epoch, pytest.approx(one.val_loss)) for one in history]
    steps = len(table(run.folder / "steps.csv"))
    assert [step for step, _ in found["step/lr"]] == list(range(1, steps + 1))
    assert len(history) == 3


def test_listeners_may_be_others_when_it_goes_on(cache: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        probe.promote(RUN, epochs=2, log=Ears(stop_after=1), cache_dir=cache, **QUICK)
    ears = Ears()
    run = probe.promote(None, resume=True, log=ears, cache_dir=cache, quiet=True)
    start, (epoch, _), end = ears.said
    assert (start.folder, epoch.epoch, end.folder) == (run.folder, 2, run.folder)


def test_what_an_earlier_version_asked_for_is_understood(cache: Path) -> None:
    with pytest.raises(KeyboardInterrupt) as stop:
        probe.promote(RUN, epochs=2, log=Ears(stop_after=1), cache_dir=cache, **QUICK)
    path = Path(stop.value.args[0]) / FILE_NAME
    plain = json.loads(path.read_text())
    del plain["log"], plain[CHECKSUM]
    path.write_text(json.dumps(plain | {"tensorboard": True}))
    assert PromoteRequest.read(path.parent).log == ("tensorboard",)
    path.write_text(json.dumps(plain | {"tensorboard": False}))
    assert PromoteRequest.read(path.parent).log == ()


@pytest.mark.filterwarnings("ignore")  # of MLflow and what it imports
def test_one_that_goes_on_is_one_run_of_mlflow(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DO_NOT_TRACK", "true")
    pytest.importorskip("mlflow", reason="MLflow is not installed: pip install mlflow")
    pytest.importorskip("sqlalchemy")
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    run, _ = stop_and_go_on(cache, "mlflow")
    (found,) = mlflow.MlflowClient().search_runs(["0"])
    assert found.info.status == "FINISHED"
    assert found.data.params["epochs"] == "3"
    assert found.data.params["best_epoch"] == str(run.result.params["best_epoch"])
    curve = mlflow.MlflowClient().get_metric_history(found.info.run_id, "epoch/val_loss")
    expected = [(one.epoch, one.val_loss) for one in load_history(run.folder)]
    assert [(one.step, one.value) for one in curve] == expected
    assert mlflow.active_run() is None
