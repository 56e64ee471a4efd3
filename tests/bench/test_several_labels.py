"""Backbones compared on images that may have several labels, and the page about it."""

from __future__ import annotations

import base64
import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from probe.bench.compare import verdict
from probe.bench.record import load_bench
from probe.errors import UsageError
from probe.evaluation.predictions import load_predictions
from tests.commands import probe
from tests.report.test_page import Parsed, data_of
from tests.several import LABELS, make_list

NETWORKS = "squeezenet1_1/fire2@32=random:0,squeezenet1_1/fire2@16=random:1"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[object], dict[str, Any]]:
    """Return the state folder, the command, and the bench that it made."""
    folder = tmp_path_factory.mktemp("several")
    images, cache = make_list(folder / "data"), folder / "cache"
    command = ["bench", "--backbones", NETWORKS, "--dataset", images, "--heads", "ridge,knn",
               "--cache-dir", cache]  # fmt: skip
    return cache, command, json.loads(probe(*command, "--json"))


def test_they_are_ranked_by_mean_average_precision(
    world: tuple[Path, list[object], dict[str, Any]],
) -> None:
    cache, _, bench = world
    (comparison,) = bench["comparisons"]
    assert bench["protocol"]["metric"] == "map"
    values = []
    for name in comparison["rows"]:
        row = next(one for one in bench["rows"] if one["id"] == name)
        kept = load_predictions(cache / "runs" / row["run"])["val"]
        values.append(average_precision_score(kept.labels, kept.probabilities))
        assert row["metrics"]["val"]["map"] == pytest.approx(values[-1], abs=1e-6)
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.8  # the labels are to be seen, and no chance
    assert len(comparison["pairs"]) == 6
    assert all("only_a" not in pair for pair in comparison["pairs"])
    assert "mAP" in comparison["verdict"]
    assert "McNemar" not in comparison["verdict"]


def test_scores_of_one_class_an_image_are_absent(
    world: tuple[Path, list[object], dict[str, Any]],
) -> None:
    _, _, bench = world
    scores = bench["comparisons"][0]["scores"]
    assert [one["name"] for one in scores] == ["logme", "logme"]


def test_the_table_has_every_figure_by_name(
    world: tuple[Path, list[object], dict[str, Any]],
) -> None:
    cache, _, bench = world
    with (cache / "benches" / bench["id"] / "results.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    found = [one for one in lines if one["metric_name"] == "map" and one["split"] == "val"]
    assert len(found) == 4
    assert all(float(one["ci_lower"]) <= float(one["metric_value"]) for one in found)
    assert not [one for one in lines if one["metric_name"] == "top1"]


def test_a_second_time_all_is_found_and_the_screen_says_map(
    world: tuple[Path, list[object], dict[str, Any]],
) -> None:
    cache, command, bench = world
    shown = probe(*command)
    assert "mAP, val" in shown
    assert "labels, several an image" in shown
    assert "top-1" not in shown
    assert len(list((cache / "runs").iterdir())) == len(bench["rows"])


def test_what_cannot_be_compared_is_refused_before_anything_runs(
    world: tuple[Path, list[object], dict[str, Any]], tmp_path: Path
) -> None:
    _, command, _ = world
    mine = [*command[:5], "--cache-dir", tmp_path]
    with pytest.raises(UsageError, match=r"--heads prototype: .* several labels"):
        probe(*mine, "--heads", "ridge,prototype")
    with pytest.raises(UsageError, match="give each kind a bench of its own"):
        probe(*mine, "--dataset", "digits")
    assert not list(tmp_path.rglob("*.h5"))


def bits(text: str, n_rows: int) -> np.ndarray:
    rows = np.frombuffer(base64.b64decode(text), np.uint8).reshape(n_rows, -1)
    return np.unpackbits(rows, axis=1)[:, : len(LABELS)]


def test_the_page_shows_labels_and_no_confusion(
    world: tuple[Path, list[object], dict[str, Any]], tmp_path: Path
) -> None:
    cache, _, bench = world
    out = tmp_path / "page.html"
    done = json.loads(
        probe("report", "--cache-dir", cache, "--out", out, "--png", tmp_path / "png", "--json")
    )
    assert done["notes"] == []
    text = out.read_text()
    parsed, data = Parsed(text), data_of(text)
    assert parsed.open == []
    words = " ".join(parsed.words)
    assert "mAP, validation" in words
    assert "top-1" not in words
    assert "only one right" not in words
    assert "confusion-plot" not in parsed.ids
    assert {"labels-plot", "map-label", "cost-plot"} <= set(parsed.ids)
    assert {Path(one).stem for one in done["pictures"]} == {
        "leaderboard", "cost", "labels-val", "labels-test", "calibration-val", "calibration-test",
    }  # fmt: skip
    _check_data(data, cache, bench)


def _check_data(data: dict[str, Any], cache: Path, bench: dict[str, Any]) -> None:
    """Compare what the scripts get with what the winner's run kept."""
    assert (data["several"], data["metric"]) == (True, "mAP")
    best = next(row for row in bench["rows"] if row["rank"] == 1)
    kept = load_predictions(cache / "runs" / best["run"])["test"]
    run, items = data["runs"][0], data["items"]
    assert run["id"] == best["id"]
    figures = next(one for one in run["splits"] if one["name"] == "test")["labels"]
    wanted = average_precision_score(kept.labels, kept.probabilities, average=None)
    assert [one[2] for one in figures] == pytest.approx(wanted, abs=1e-4)
    thresholds = np.array([one[1] for one in figures])
    given, has = bits(run["given"], len(items["ids"])), bits(items["labels"], len(items["ids"]))
    for row, name in enumerate(kept.ids.tolist()):
        place = items["ids"].index(name)
        assert given[place].tolist() == (kept.probabilities[row] >= thresholds - 1e-5).tolist()
        assert has[place].tolist() == kept.labels[row].tolist()


def test_a_page_is_of_one_kind_of_labels(
    world: tuple[Path, list[object], dict[str, Any]], tmp_path: Path
) -> None:
    """A list with one label an image, called like the other, has a page of its own."""
    cache, command, bench = world
    source = Path(str(command[4]))
    with source.open(newline="") as file:
        lines = list(csv.DictReader(file))
    other = source.parent / "one" / source.name
    other.parent.mkdir()
    with other.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "label", "split"))
        for one in lines:
            label = one["labels"].partition("|")[0] or "none"
            writer.writerow((f"../{one['image']}", label, one["split"]))
    probe("extract", "--backbone", "squeezenet1_1", "--layer", "fire2", "--size", 16, "--weights",
          "random:1", "--dataset", other, "--cache-dir", cache)  # fmt: skip
    single = json.loads(probe("head", "--head", "ridge", "--cache-dir", cache, "--json"))
    assert "top1" in single["metrics"]["val"]
    names = [row["run"] for row in bench["rows"]]
    newest = max(path.name for path in (cache / "runs").iterdir())
    with pytest.raises(UsageError, match="name runs of one task"):
        probe("report", names[0], newest, "--cache-dir", cache, "--out", tmp_path / "a.html")
    (cache / "benches").rename(cache / "kept")
    done = json.loads(probe("report", "--cache-dir", cache, "--out", tmp_path / "b.html", "--json"))
    (cache / "kept").rename(cache / "benches")
    assert done["runs"] == [newest]


def test_test_images_without_any_label_leave_the_verdict_whole(
    world: tuple[Path, list[object], dict[str, Any]],
) -> None:
    cache, _, made = world
    bench = load_bench(cache / "benches" / made["id"])
    (comparison,) = bench.comparisons
    rows = {
        row.id: replace(row, metrics={**row.metrics, "test": {"log_loss": 1.0}})
        for row in bench.rows
    }
    text = verdict(comparison, rows, bench.protocol)
    assert text.startswith(f"Take {bench.row(comparison.winner or '').name}")
    assert "On test images" in comparison.verdict
    assert "On test images" not in text
