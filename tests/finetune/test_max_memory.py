"""A limit on memory: the same training in parts, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.core.records import write_record
from probe.errors import UsageError
from probe.finetune import planning
from probe.finetune.batches import Batch
from probe.finetune.options import Options
from probe.finetune.planning import Limit, follow, in_units, make_plan
from probe.finetune.promotion import begin
from probe.finetune.request import PromoteRequest
from tests.finetune.data import Silent, source_of, training_of
from tests.finetune.test_promote import QUICK, promote

MB = 10**6
ADDED = ("max_memory", "part")


@pytest.mark.parametrize("freeze", ["none", "backbone"])
def test_a_training_in_parts_ends_where_the_whole_one_does(
    made: Path, tmp_path: Path, freeze: str
) -> None:
    asked = {"epochs": 2, "lr": 1e-3, "accumulate": 2, "batch_size": 24, "freeze": freeze}
    whole = training_of(made, tmp_path / "whole", **asked)
    parts = training_of(made, tmp_path / "parts", **asked)
    parts.network.part = 8
    for training in (whole, parts):
        training.run(Silent())
    np.testing.assert_allclose(parts.log, whole.log, rtol=1e-3, atol=1e-5)
    moved = 0.0
    start = training_of(made, tmp_path / "start", **asked).network.state.weights.values()
    found = parts.network.state.weights.values()
    for name, value in whole.network.state.weights.values().items():
        step = np.abs(value - start[name]).max()
        assert np.abs(found[name] - value).max() <= 1e-6 + 1e-3 * step, name
        moved = max(moved, float(step))
    assert moved > 1e-4


def test_the_largest_parts_that_fit_are_taken(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "resident", lambda: 0)
    training = training_of(made, tmp_path, batch_size=32)
    monkeypatch.setattr(training, "planned", lambda images: (10 * MB * images, MB * images))
    weights = 4 * len(training.network.state.weights) * 6  # momentum, copies, other layouts
    base = planning.RESERVE + weights

    def plan(more: float) -> planning.Plan:
        return make_plan(training, int(base + planning.FACTOR * more * MB) + 10)

    assert plan(10 * 32 + 48).part is None  # 48 validation images at once, as without a limit
    assert plan(10 * 32 + 47).part == 32
    assert plan(11 * 31).part == 16
    assert plan(11 * 15).part == 8
    found = plan(11)
    assert (found.part, found.whole > found.limit >= found.needed) == (1, True)
    with pytest.raises(UsageError, match=r"too little: resnet18 at 32 pixels takes about .*one im"):
        plan(10)


@pytest.mark.parametrize("option", [{"ohem": 0.5}, {"bn": "moving"}])
def test_what_needs_a_whole_batch_says_so(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: dict[str, object]
) -> None:
    monkeypatch.setattr(planning, "resident", lambda: 0)
    training = training_of(made, tmp_path, **option)
    monkeypatch.setattr(training, "planned", lambda images: (100 * MB * images, MB * images))
    with pytest.raises(UsageError, match=f"which --{next(iter(option))}.* needs in one piece"):
        make_plan(training, 2000 * MB)
    plain = training_of(made, tmp_path)
    monkeypatch.setattr(plain, "planned", lambda images: (100 * MB * images, MB * images))
    assert make_plan(plain, 2000 * MB).part == 8
    with pytest.raises(UsageError, match=r"which a control of --compare with --.* in one piece"):
        make_plan(plain, 2000 * MB, (training.options,))


def test_a_plan_of_a_network_is_in_proportion_and_computes_nothing(
    made: Path, tmp_path: Path
) -> None:
    training = training_of(made, tmp_path)
    small, large = training.planned(64), training.planned(256)
    assert large[0] == pytest.approx(4 * small[0], rel=0.1)
    assert large[0] > large[1] > 0
    frozen = training_of(made, tmp_path, freeze="backbone").planned(256)
    assert 0 < frozen[0] < large[0] / 2


def test_a_run_that_goes_on_computes_in_the_same_parts(made: Path, tmp_path: Path) -> None:
    training = training_of(made, tmp_path)
    assert follow(training, Limit(bytes=1, part=4)) is None
    assert training.network.part == 4
    assert follow(training, Limit(bytes=1, part=0)) is None
    assert training.network.part is None


def test_the_command_refuses_what_is_too_little_and_keeps_what_it_took(cache: Path) -> None:
    with pytest.raises(UsageError, match=r"--max-memory 1MB is too little: .* one image at a time"):
        promote(cache, *QUICK, "--max-memory", "1MB")
    for text in ("much", "9" * 400 + "GB"):
        with pytest.raises(UsageError, match=f"--max-memory {text}: give a size"):
            promote(cache, *QUICK, "--max-memory", text)
    done = promote(cache, *QUICK, "--epochs", "1", "--max-memory", "50GB")
    assert "within --max-memory 50GB" in " ".join(done.stderr.split())
    (folder,) = (cache / "runs").glob("*/promote.json")
    (folder.parent / "result.json").unlink()
    asked = PromoteRequest.read(folder.parent)
    assert (asked.max_memory, asked.part) == (50 * 10**9, 0)
    written = json.loads(folder.read_text())
    write_record(folder, {n: v for n, v in written.items() if n not in ADDED})
    asked = PromoteRequest.read(folder.parent)  # as earlier versions wrote it
    assert (asked.max_memory, asked.part) == (None, None)


def test_sizes_are_said_as_they_are_asked_for() -> None:
    assert in_units(4 * 10**9) == "4GB"
    assert in_units(2_540_000_000) == "2.54GB"
    assert in_units(2_510_000_000, up=True) == "2.6GB"
    assert in_units(512_000_000) == "512MB"
    assert in_units(512_000_000, up=True) == "520MB"
    assert in_units(1_000_000) == "1MB"


@pytest.mark.parametrize("batch_size", [112, 32])
def test_the_time_of_a_batch_is_measured_with_one_batch_an_epoch_too(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    begun = begin(source_of(made), Options(augment="none", batch_size=batch_size), tmp_path)
    clock, forward = [0.0], begun.training.forward
    monkeypatch.setattr(planning.time, "perf_counter", lambda: clock[0])

    def slow(batch: Batch, epoch: int) -> Any:
        clock[0] += 100
        return forward(batch, epoch)

    monkeypatch.setattr(begun.training, "forward", slow)
    assert planning.estimate(begun.training, begun.predict_seconds).batch_seconds == 100
