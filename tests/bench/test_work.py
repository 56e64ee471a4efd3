"""The command as a user meets it: real digits, small networks, what is reused and what fails."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from probe.bench.record import load_bench
from probe.cache.features import FeatureSet
from probe.errors import CacheError, ProbeError
from probe.runs.ledger import read_test_evaluations
from probe.runs.results import read_run
from tests.commands import probe_json

NETWORKS = "squeezenet1_1/fire2+fire3@32=random:0,squeezenet1_1/fire2@16=random:1"
OPTIONS = ("bench", "--per-class", "25", "--heads", "ridge,prototype")
NAMES = ["squeezenet1_1/fire2@32=random:0", "squeezenet1_1/fire3@32=random:0",
         "squeezenet1_1/fire2@16=random:1"]  # fmt: skip
Probe = Callable[..., Any]


def probe(folder: Path, *more: str, code: int = 0, dataset: str = "digits") -> Any:
    """Run `probe bench --json` in this process and return its object."""
    return probe_json(*OPTIONS, "--dataset", dataset, "--cache-dir", folder, *more, code=code)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("bench") / "cache"
    return folder, probe(folder, "--backbones", NETWORKS)


def test_a_dry_run_says_what_is_to_be_done_and_keeps_nothing(tmp_path: Path) -> None:
    found = probe(tmp_path, "--backbones", NETWORKS, "--dry-run")
    assert [one["features"] for one in found["passes"]] == [NAMES[:2], NAMES[2:]]
    assert [(one["missing"], one["complete"]) for one in found["passes"]] == [(250, False)] * 2
    # rows of 128 float32, and 5 % for what stands beside them
    assert found["disk"] == 2 * int(250 * 128 * 4 * 1.05) + int(250 * 128 * 4 * 1.05)
    assert not list(tmp_path.rglob("*.h5"))
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "benches").exists()


def test_what_an_interrupted_pass_finished_is_not_counted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from probe.bench import plan

    monkeypatch.setattr(plan, "progress", lambda partial: (200, 250))
    (one,) = probe(tmp_path, "--backbones", NAMES[0], "--dry-run")["passes"]
    assert one["missing"] == 50


def test_rows_to_forward_are_timed_where_there_are_many(tmp_path: Path) -> None:
    options = ("--backbones", "squeezenet1_1/fire2@32=random:0", "--batch-size", "32")
    (one,) = probe(tmp_path, *options, "--dry-run")["passes"]
    assert one["seconds"] == pytest.approx(250 / one["images_per_second"])


def test_each_features_and_head_is_a_row_and_an_ordinary_run(first: tuple[Path, Any]) -> None:
    folder, found = first
    assert [(row["name"], row["head"]) for row in found["rows"]] == [
        (name, head) for name in NAMES for head in ("ridge", "prototype")
    ]
    for row in found["rows"]:
        result = read_run(folder / "runs" / row["run"])
        assert result.metrics["val"] == row["metrics"]["val"]
        assert (result.n_train, result.n_val) == (175, 75)
        cost = row["cost"]
        assert cost["parameters"] > 0
        assert cost["images_per_second"] * cost["extract_seconds"] == pytest.approx(250)
        assert cost["disk"] == (folder / "features" / f"{row['entries'][0]}.h5").stat().st_size
    assert load_bench(Path(found["folder"])).rows[0].feature_dim == 128


def test_layers_of_one_backbone_come_from_one_pass(first: tuple[Path, Any]) -> None:
    folder, found = first
    seals = {
        name: FeatureSet.open(folder / "features" / f"{row['entries'][0]}.h5").seal
        for name in NAMES[:2]
        for row in found["rows"]
        if row["name"] == name
    }
    assert seals[NAMES[0]] == seals[NAMES[1]]


def test_the_table_has_every_figure_once(first: tuple[Path, Any]) -> None:
    _, found = first
    with (Path(found["folder"]) / "results.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    keys = [(one["name"], one["head"], one["split"], one["metric_name"]) for one in lines]
    assert len(set(keys)) == len(keys)
    for row in found["rows"]:
        (line,) = (
            one
            for one, key in zip(lines, keys, strict=True)
            if key == (row["name"], row["head"], "val", "top1")
        )
        assert float(line["metric_value"]) == row["metrics"]["val"]["top1"]
        bounds = [float(line["ci_lower"]), float(line["ci_upper"])]
        assert bounds == row["intervals"]["val"]["top1"]
        assert line["best_c"] == ("" if row["head"] == "prototype" else str(row["best"]))
    scores = {one["metric_name"] for one in lines if one["split"] == "train" and not one["head"]}
    assert {"logme", "h_score", "h_score_shrunk", "knn"} == scores  # these have no classifier


def test_a_score_that_was_kept_and_is_no_longer_what_was_written_is_computed_anew(
    first: tuple[Path, Any], tmp_path: Path
) -> None:
    """A flipped bit makes another digit: still a number, and another score in the table."""
    folder = Path(shutil.copytree(first[0], tmp_path / "cache"))

    def scores(found: Any) -> list[float]:
        return [one["value"] for one in found["comparisons"][0]["scores"]]

    for path in (folder / "benches" / ".scores").iterdir():
        data = path.read_text()
        assert '"value": ' in data
        path.write_text(data.replace('"value": ', '"value": 9'))
    assert scores(probe(folder, "--backbones", NETWORKS)) == scores(first[1])


def test_the_same_again_forwards_and_fits_nothing(first: tuple[Path, Any]) -> None:
    folder, found = first
    before = sorted((folder / "runs").iterdir())
    again = probe(folder, "--backbones", NETWORKS)
    assert sorted((folder / "runs").iterdir()) == before
    assert again["comparisons"] == found["comparisons"]
    assert again["rows"] == found["rows"]
    assert all(
        one["complete"] for one in probe(folder, "--backbones", NETWORKS, "--dry-run")["passes"]
    )


def test_where_no_bench_can_be_kept_that_is_one_line(first: tuple[Path, Any]) -> None:
    folder = first[0]
    (folder / "benches").rename(folder / "kept")
    (folder / "benches").write_text("")
    try:
        with pytest.raises(CacheError, match="benches: cannot be written"):
            probe(folder, "--backbones", NETWORKS)
    finally:
        (folder / "benches").unlink()
        (folder / "kept").rename(folder / "benches")


def test_a_run_whose_predictions_are_damaged_is_fitted_again(tmp_path: Path) -> None:
    options = ("--backbones", NAMES[0], "--heads", "prototype")
    (one,) = probe(tmp_path, *options)["rows"]
    (tmp_path / "runs" / one["run"] / "predictions.npz").write_bytes(b"PK\x03\x04 no more")
    (other,) = probe(tmp_path, *options)["rows"]
    assert other["run"] != one["run"]
    assert other["metrics"] == one["metrics"]


def test_another_protocol_never_takes_a_stale_run(first: tuple[Path, Any]) -> None:
    folder, found = first
    runs = {row["run"] for row in found["rows"]}
    for option in (("--seed", "7"), ("--val-size", "0.2"), ("--folds", "3")):
        other = probe(folder, "--backbones", NAMES[0], *option)
        assert runs.isdisjoint(row["run"] for row in other["rows"])


def test_folds_compare_each_training_row_by_a_head_that_did_not_see_it(
    first: tuple[Path, Any],
) -> None:
    folder, _ = first
    found = probe(folder, "--backbones", ",".join(NAMES), "--folds", "3")
    assert found["protocol"]["split"] == "oof"
    assert {pair["n"] for pair in found["comparisons"][0]["pairs"]} == {250}


def test_one_failure_is_its_rows_reason_and_the_rest_goes_on(first: tuple[Path, Any]) -> None:
    folder, found = first
    again = probe(folder, "--backbones", f"vgg11@32,{NETWORKS}", code=1)
    failed = [row for row in again["rows"] if row["status"] == "failed"]
    assert [(row["name"], row["head"]) for row in failed] == [
        ("vgg11@32", "ridge"), ("vgg11@32", "prototype"),
    ]  # fmt: skip
    assert all("no weights for vgg11 found" in row["reason"] for row in failed)
    winner = {row["id"]: row for row in again["rows"]}[again["comparisons"][0]["winner"]]
    best = {row["id"]: row for row in found["rows"]}[found["comparisons"][0]["winner"]]
    assert winner["name"] == best["name"]


def test_features_side_by_side_and_after_a_pca_are_rows_of_their_own(
    first: tuple[Path, Any],
) -> None:
    folder, _ = first
    more = ("--concat", "squeezenet1_1/fire2@32+squeezenet1_1@16", "--pca", "16")
    with pytest.raises(ProbeError, match="squeezenet1_1/fire2@32"):
        probe(folder, "--backbones", NETWORKS, "--concat", "squeezenet1_1@32+squeezenet1_1@16")
    rows = probe(folder, "--backbones", NETWORKS, *more)["rows"]
    joined = f"{NAMES[0]}+{NAMES[2]}"
    widths = {row["name"]: row["feature_dim"] for row in rows}
    assert widths[joined] == 256
    assert {widths[f"{name}-pca16"] for name in (*NAMES, joined)} == {16}
    by_name = {row["name"]: row for row in rows}
    one, other = (by_name[name]["cost"]["multiply_adds"] for name in (NAMES[0], NAMES[2]))
    assert by_name[joined]["cost"]["multiply_adds"] == one + other


def test_a_pca_is_refused_with_folds(first: tuple[Path, Any]) -> None:
    with pytest.raises(ProbeError, match="leave --folds out"):
        probe(first[0], "--backbones", NETWORKS, "--pca", "16", "--folds", "3")


@pytest.mark.parametrize(
    ("option", "message"),
    [(("--val-size", "0"), "nothing to compare on"), (("--folds", "26"), "from 2 to 25")],
)
def test_a_split_that_cannot_be_is_refused_before_anything_is_extracted(
    tmp_path: Path, option: tuple[str, str], message: str
) -> None:
    with pytest.raises(ProbeError, match=message):
        probe(tmp_path, "--backbones", NETWORKS, *option)
    assert not list(tmp_path.rglob("*.h5"))


def test_what_does_not_fit_on_the_disk_is_refused_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from probe.bench import plan

    free = type("Usage", (), {"free": 200_000_100})
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda _: free)
    with pytest.raises(ProbeError, match="name fewer backbones or layers"):
        probe(tmp_path, "--backbones", NETWORKS)
    assert not list(tmp_path.rglob("*.h5"))


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of squares and stripes with a test split."""
    folder = tmp_path_factory.mktemp("data") / "shapes"
    random = np.random.default_rng(0)
    for split, count in (("train", 30), ("test", 12)):
        for kind in ("square", "stripe"):
            (folder / split / kind).mkdir(parents=True)
            for number in range(count):
                image = random.integers(0, 90, (16, 16, 3), np.uint8)
                top, left = random.integers(0, 8, 2)
                wide, high = (6, 6) if kind == "square" else (12, 3)
                image[top : top + high, left : left + wide] += 140
                Image.fromarray(image).save(folder / split / kind / f"{number}.png")
    return folder


def test_several_datasets_give_a_matrix_and_count_each_look_at_test_rows(
    first: tuple[Path, Any], shapes: Path
) -> None:
    folder, _ = first
    names = f"{NAMES[0]},{NAMES[2]}"
    found = probe(folder, "--backbones", names, "--dataset", str(shapes), "--heads", "ridge")
    assert [one["dataset"] for one in found["comparisons"]] == ["digits", "shapes"]
    assert found["matrix"]["datasets"] == ["digits", "shapes"]
    assert sorted(found["matrix"]["names"]) == sorted(names.split(","))
    row = next(row for row in found["rows"] if row["dataset"] == "shapes")
    assert row["metrics"]["test"]["top1"] > 0.5
    content = FeatureSet.open(folder / "features" / f"{row['entries'][0]}.h5")["test"].content
    assert len(read_test_evaluations(folder / "ledger", content)) == 2  # two heads were fitted
    probe(folder, "--backbones", names, "--dataset", str(shapes), "--heads", "ridge")
    assert len(read_test_evaluations(folder / "ledger", content)) == 2  # and found again


def test_each_request_is_prepared_once(
    tmp_path: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from probe.extraction import request
    from probe.weights import ResolvedWeights

    counted: Counter[str] = Counter()

    def count(place: Any, name: str) -> None:
        real = getattr(place, name)

        def call(*given: Any, **named: Any) -> Any:
            counted[name] += 1
            return real(*given, **named)

        monkeypatch.setattr(place, name, call)

    for name in ("load_dataset", "resolve_weights", "decide"):
        count(request, name)
    count(ResolvedWeights, "digest")
    found = probe(
        tmp_path, "--backbones", NETWORKS, "--dataset", str(shapes), "--batch-size", "8",
        dataset="digits",
    )  # fmt: skip
    assert len(found["rows"]) == 12  # 3 features, 2 heads, 2 datasets
    assert all(row["status"] == "done" for row in found["rows"])
    assert {score["name"] for score in found["comparisons"][1]["scores"]} > {"logme", "knn"}
    # 2 datasets; 2 passes of each, one of them of 2 layers
    assert counted == {"load_dataset": 2, "resolve_weights": 4, "decide": 4, "digest": 6}


def test_a_dataset_that_is_not_there_is_an_error_not_a_row(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match="nowhere"):
        probe(tmp_path, "--backbones", NETWORKS, dataset="nowhere")


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT])
def test_a_bench_that_was_stopped_goes_on_with_what_is_missing(
    tmp_path: Path, kind: signal.Signals
) -> None:
    arguments = [*OPTIONS, "--dataset", "digits", "--cache-dir", str(tmp_path)]
    arguments += ["--backbones", NETWORKS]
    process = subprocess.Popen(
        [sys.executable, "-m", "probe", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs/*/result.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(kind)
    _, err = process.communicate(timeout=60)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/result.json")}
    assert kept
    assert not list(tmp_path.glob("benches/*/bench.json"))
    assert process.returncode == (-signal.SIGKILL if kind == signal.SIGKILL else 130), err
    found = probe(tmp_path, "--backbones", NETWORKS)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert {path.parent.name for path in kept} < {row["run"] for row in found["rows"]}
    assert len(found["rows"]) == 6
