"""`probe runs`: what is listed, compared and removed, and what stays."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest
from typer.testing import CliRunner

import probe
from probe.cli.app import app
from probe.errors import UsageError
from probe.evaluation.predictions import Predictions, save_predictions
from probe.runs.results import write_run
from tests.runs.test_results import RESULT

A, B, C = "20260101-000000-001", "20260102-000000-001", "20260103-000000-001"


def runs(folder: Path, *words: str) -> str:
    done = CliRunner().invoke(
        app, ["runs", *words, "--cache-dir", str(folder)], catch_exceptions=False
    )
    assert done.exit_code == 0
    return done.stdout


def refused(folder: Path, *words: str) -> str:
    error = CliRunner().invoke(app, ["runs", *words, "--cache-dir", str(folder)]).exception
    assert isinstance(error, UsageError)
    return str(error)


def make_run(folder: Path, name: str, right: np.ndarray, ids: Any, **changed: Any) -> None:
    """Keep a run that answered class 0 of rows that are, or are not, of it."""
    place = folder / "runs" / name
    place.mkdir(parents=True)
    logits = np.where(right[:, None], [2.0, 0.0], [0.0, 2.0])
    labels = np.zeros(len(right), np.int64)
    save_predictions(place, {"val": Predictions.of(ids, labels, logits)})
    top1 = {"val": {"top1": float(right.mean())}}
    write_run(place, replace(RESULT, metrics=top1, **changed))


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Two runs on the same 40 images, one on others, an unfinished, and two damaged folders."""
    ids = [f"{number:02d}.png" for number in range(40)]
    first, second = np.arange(40) < 36, np.arange(40) % 2 == 0
    make_run(tmp_path, A, first, ids, head="path", params={"C": 0.1})
    make_run(tmp_path, B, second[::-1], ids[::-1], head="path", params={"C": 10.0})
    make_run(tmp_path, C, first[:20], ids[:20])
    for name, text in (("20260104-000000-001", "{"), ("20260105-000000-001", '{"schema": 1}')):
        (tmp_path / "runs" / name).mkdir()
        (tmp_path / "runs" / name / "result.json").write_text(text)
    (tmp_path / "runs" / "20260106-000000-001").mkdir()
    return tmp_path


def test_runs_are_listed_the_newest_first_and_damaged_ones_are_told(kept: Path) -> None:
    runs(kept, "tag", A, "  the  first\n")
    listed = json.loads(runs(kept, "list", "--json"))["runs"]
    assert [one["name"][:8] for one in listed] == [f"2026010{day}" for day in (6, 5, 4, 3, 2, 1)]
    assert listed[0]["problem"] == "not finished"
    assert all(one["problem"].startswith("damaged: ") for one in listed[1:3])
    assert listed[5]["tag"] == "the first"
    assert listed[5]["metrics"] == {"val": {"top1": 0.9}}
    shown = runs(kept, "list").splitlines()
    assert "90.00 %" in shown[6]
    assert shown[6].endswith("the first")
    assert "C 0.1" in runs(kept, "show", A[:8])
    runs(kept, "tag", A, "")
    assert not (kept / "runs" / A / "tag.txt").exists()


def test_a_run_names_its_features_as_bench_does(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 20, 30, 3), np.uint8)
    features = probe.extract(
        (pixels, ["a", "b", "c"] * 4), "squeezenet1_1", name="noise", weights="random:0",
        layer="fire2", size=32, resize="pad", cache_dir=tmp_path, quiet=True,
    )  # fmt: skip
    probe.fit(features, head="ridge", alpha=1, quiet=True)
    assert "  noise: squeezenet1_1/fire2@32:pad=random:0  " in runs(tmp_path, "list")


def test_runs_are_compared_by_a_paired_test_on_the_same_images_alone(kept: Path) -> None:
    told = json.loads(runs(kept, "compare", A, B, "--json"))
    (test,) = told["tests"]
    (pair,) = test["pairs"]
    first, second = np.arange(40) < 36, np.arange(40) % 2 == 0
    only_a, only_b = int((first & ~second).sum()), int((~first & second).sum())
    assert (pair["only_a"], pair["only_b"]) == (only_a, only_b)
    assert pair["p"] == pytest.approx(binomtest(only_a, only_a + only_b).pvalue)
    assert pair["difference"] == pytest.approx(0.4)
    shown = runs(kept, "compare", A, B)
    assert "+40.00 points" in shown
    assert [line.split()[1:] for line in shown.splitlines() if line.startswith("C ")] == [
        ["0.1", "10.0"]
    ]
    assert "settling" not in pair
    assert "held-out images" not in shown  # they are told apart
    near = "20260107-000000-001"
    make_run(kept, near, np.arange(40) < 34, [f"{number:02d}.png" for number in range(40)])
    (pair,) = json.loads(runs(kept, "compare", A, near, "--json"))["tests"][0]["pairs"]
    assert pair["settling"]["count"] > pair["settling"]["n"] == 40
    assert f"If {A} and {near} really differ by the 5.00 points" in runs(kept, "compare", A, near)
    other = json.loads(runs(kept, "compare", A, C, "--json"))
    assert other["tests"] == []
    assert other["not_tested"] == {"val": f"{A} and {C} predicted other images (40 and 20)"}
    assert "name two runs or more" in refused(kept, "compare", A)


def test_a_run_that_a_bench_needs_stays_and_damaged_ones_can_go(kept: Path) -> None:
    (kept / "benches" / "b").mkdir(parents=True)
    (kept / "benches" / "b" / "bench.json").write_text(json.dumps({"rows": [{"run": A}]}))
    assert f"{A} is needed by benches/b; --force" in refused(kept, "remove", B, A, "--yes")
    assert "give --yes" in refused(kept, "remove", B)
    outside = kept / "pictures"
    outside.mkdir()
    assert "no folder of a run" in refused(kept, "remove", str(outside), "--yes")
    assert (kept / "runs" / B).exists()
    removed = json.loads(runs(kept, "remove", B, "20260104", "--yes", "--json"))
    assert [Path(one).name for one in removed["removed"]] == [B, "20260104-000000-001"]
    runs(kept, "remove", A, "--yes", "--force")
    listed = json.loads(runs(kept, "list", "--json"))
    assert [one["name"][:8] for one in listed["runs"]] == ["20260106", "20260105", "20260103"]
    assert listed["benches"][0]["problem"].startswith("damaged: ")
