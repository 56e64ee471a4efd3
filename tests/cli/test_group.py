"""`--group` and copies as a user meets them: head, bench, audit, a bundle's evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from probe.bundle.make.training import _tenth
from probe.errors import UsageError
from probe.runs.results import read_run
from tests.commands import invoke, probe_json
from tests.needs import needs_mxnet

PATIENTS, EACH = 24, 4
BACKBONE = "squeezenet1_1/fire2"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of patients, each with noisy shots of it; labels know nothing of the picture."""
    folder, random = tmp_path_factory.mktemp("patients"), np.random.default_rng(0)
    lines, groups = ["image,label,patient,split,camera"], []
    for split, count in (("train", PATIENTS), ("test", 6)):
        labels = random.permutation(count) % 2
        for patient in range(count):
            base = np.kron(random.integers(0, 256, (4, 4, 3)), np.ones((8, 8, 1)))
            for shot in range(EACH):
                name = f"{split}{patient}_{shot}.png"
                pixels = np.clip(base + random.normal(0, 3, base.shape), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
                label, camera = "cat" if labels[patient] else "dog", "ab"[shot % 2]
                lines.append(f"{name},{label},{split}{patient},{split},{camera}")
                groups.append(f"{name},{split}{patient}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    (folder / "groups.csv").write_text("\n".join(groups) + "\n")
    options = ("--backbone", "squeezenet1_1", "--layer", "fire2", "--size", "32")
    probe_json(
        "extract", *options, "--weights", "random:0", "--dataset", str(folder / "list.csv"),
        "--cache-dir", str(folder / "cache"),
    )  # fmt: skip
    return folder


@pytest.mark.parametrize("group", ["patient", "groups.csv", "duplicates"])
def test_a_head_knows_nothing_of_photographs_that_it_did_not_see(group: str, world: Path) -> None:
    named = str(world / group) if group.endswith(".csv") else group
    spelled = "--groups" if group.endswith(".csv") else "--group"
    found = probe_json(
        "head", "--head", "ridge", "--alpha", "grid", "--folds", "4", "--val-size", "0.25",
        spelled, named, "--cache-dir", str(world / "cache"),
    )  # fmt: skip
    for split in ("val", "oof", "test"):
        assert found["metrics"][split]["top1"] < 0.75
    assert found["groups"]["units"] == {"train": 18, "val": 6, "oof": 18, "test": 6}
    assert found["groups"]["by"] == {"duplicates": "near-duplicates"}.get(group, group)
    low, high = found["intervals"]["oof"]["top1"]
    assert high - low > 0.35  # of 18 independent ones; of 72 rows it would be 0.24


def test_without_groups_each_photograph_is_known_and_a_hint_is_given(world: Path) -> None:
    arguments = ["head", "--head", "ridge", "--folds", "4", "--cache-dir", str(world / "cache")]
    done = invoke(*arguments, "--json")
    assert json.loads(done.stdout)["metrics"]["oof"]["top1"] > 0.9
    assert "groups" not in json.loads(done.stdout)


def test_a_bench_compares_on_whole_groups_and_finds_its_runs_again(world: Path) -> None:
    arguments = (
        "bench", "--backbone", f"{BACKBONE}@32=random:0", "--heads", "ridge,prototype",
        "--dataset", str(world / "list.csv"), "--cache-dir", str(world / "cache"),
    )  # fmt: skip
    rows, grouped, again = probe_json(*arguments), *(
        probe_json(*arguments, "--group", "patient") for _ in range(2)
    )  # fmt: skip
    assert all(row["metrics"]["val"]["top1"] > 0.9 for row in rows["rows"])
    assert all(row["metrics"]["val"]["top1"] < 0.75 for row in grouped["rows"])
    assert [row["groups"]["val"] for row in grouped["rows"]] == [8, 8]
    assert "groups" not in rows["rows"][0]
    assert [row["run"] for row in again["rows"]] == [row["run"] for row in grouped["rows"]]
    assert "in 8 groups right" in grouped["comparisons"][0]["verdict"]
    assert "sign-flip" in grouped["comparisons"][0]["pairs"][0]["test"]
    knn = {one["name"]: one["value"] for one in grouped["comparisons"][0]["scores"]}["knn"]
    assert knn < 0.75
    kept = read_run(world / "cache" / "runs" / grouped["rows"][0]["run"])
    assert kept.groups is not None
    assert kept.groups["by"] == "patient"


def test_an_audit_doubts_by_whole_groups(world: Path) -> None:
    alone = probe_json("audit", "--cache-dir", str(world / "cache"))
    grouped = probe_json("audit", "--group", "patient", "--cache-dir", str(world / "cache"))
    assert alone["scores"]["oof_top1"] > 0.8
    assert grouped["scores"]["oof_top1"] < 0.75
    assert grouped["copies"] == []


def test_what_no_group_is_called_is_refused_in_one_line(world: Path) -> None:
    for command in (
        ("head",),
        ("audit",),
        ("bench", "--backbone", f"{BACKBONE}@32=random:0", "--dataset", str(world / "list.csv")),
    ):
        with pytest.raises(UsageError, match=r"--group site: .* columns are patient") as raised:
            probe_json(*command, "--group", "site", "--cache-dir", str(world / "cache"))
        assert "\n" not in str(raised.value)


def fit(world: Path, *more: str) -> Path:
    done = probe_json("head", "--head", "ridge", *more, "--cache-dir", str(world / "cache"))
    return Path(done["run"])


def test_a_bundle_is_evaluated_over_groups_and_keeps_them_apart(world: Path) -> None:
    run, bundle = fit(world, "--group", "patient"), str(world / "model.probe")
    probe_json("bundle", str(run), "--out", bundle, "--cache-dir", str(world / "cache"))
    arguments = ["evaluate", bundle, "-d", str(world / "list.csv"), "--cache-dir",
                 str(world / "cache")]  # fmt: skip
    rows = probe_json(*arguments)
    for group in ("patient", "duplicates", str(world / "groups.csv")):
        found = probe_json(*arguments, "--group", group)
        assert found["groups"] == 6
        assert found["metrics"] == rows["metrics"]
        width, before = (np.ptp(one["intervals"]["top1"]) for one in (found, rows))
        assert width > before
    assert "groups" not in rows
    values = rows["subgroups"]["columns"]["camera"]["values"]
    assert sorted((one["value"], one["n"]) for one in values) == [("a", 12), ("b", 12)]
    assert values[0]["figure"] <= values[1]["figure"]
    told = read_run(run).subgroups
    assert told is not None
    assert told["split"] == "test"
    assert list(told["columns"]) == ["camera"]  # patients have too few images each
    assert not told["columns"]["camera"]["shortcut"]["suspected"]


@needs_mxnet
def test_promotion_takes_the_groups_of_its_run_and_refuses_to_divide_others(world: Path) -> None:
    cache = ("--cache-dir", str(world / "cache"))
    run = fit(world, "--group", "patient")
    done = probe_json("promote", str(run), "--epochs", "1", *cache)
    assert done["groups"] == {**read_run(run).groups, "units": {"val": 8, "test": 6}} | {
        "effective": done["groups"]["effective"]
    }
    assert "sign-flip" in done["gain"]["val"]["test"]
    alone = fit(world)
    with pytest.raises(UsageError, match=r"validation images are of groups \(patient\) that are"):
        probe_json("promote", str(alone), "--group", "patient", *cache)


def test_images_that_a_bundle_keeps_are_no_copies_of_those_its_threshold_is_of() -> None:
    units = np.repeat(np.arange(50), 5)
    held_out = _tenth(250, units)
    assert held_out.sum() == 25
    assert not set(units[held_out]) & set(units[~held_out])
    order = np.random.default_rng(0).permutation(250)
    assert set(np.flatnonzero(_tenth(250, np.arange(250)))) == set(order[:25])
