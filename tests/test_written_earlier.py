"""Entries, runs, a bench and bundles that an earlier version wrote are read, with equal figures.

``written_by_0.1.0.zip`` holds what the commands below left at commit 86a3b2f, less its pictures
(the images come from `write_images`; OMP_NUM_THREADS=1)::

    probe bench --backbones mobilenet_v1/block1@32=random:0,squeezenet1_1/fire2@32=random:0 \
        --dataset pics --heads path,knn
    probe head --head dense --epochs 5 pics-mobilenet_v1
    probe head --head path pics-squeeze --folds 3
    probe head --head ridge pics-squeeze
    probe head --head prototype pics-mobil
    probe audit pics-mobil
    probe promote --epochs 1 --batch-size 16; probe bundle --out tuned.probe
    probe extract --backbone mobilenet_v1 --layer block1 --size 32 --weights random:0 \
        --dataset pics/several.csv
    probe head --head path several; probe bundle --out several.probe
    probe predict tuned.probe pics/test --json; probe predict several.probe pics/test --json
"""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.commands import probe

WRITTEN = Path(__file__).with_name("written_by_0.1.0.zip")
DENSE, RIDGE, PROTOTYPE = "20261129-020337-001", "20261129-020348-001", "20261129-020352-001"
PATH, TUNED = "20261129-020343-001", "20261129-020406-001"
BENCH, SEVERAL = "20261129-020333-001", "20261129-020510-001"


def write_images(root: Path) -> None:
    """Write 60 images of noise in three faint colours, as PNG files of 32 by 32 pixels."""
    rng = np.random.default_rng(7)
    colours = {"ant": (140, 110, 105), "bee": (112, 132, 112), "cat": (112, 108, 136)}
    for split, count in (("train", 14), ("test", 6)):
        for name, colour in colours.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                noise = rng.normal(0, 60, (32, 32, 3)) + rng.normal(0, 18, 3)
                pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number:02}.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the earlier version ran."""
    folder = tmp_path_factory.mktemp("written earlier")
    with zipfile.ZipFile(WRITTEN) as archive:
        archive.extractall(folder)
    write_images(folder / "pics")
    shutil.copy(folder / "several.csv", folder / "pics")
    return folder


@pytest.fixture(autouse=True)
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.delenv("PROBE_CACHE", raising=False)


def result(run: str | Path) -> dict[str, Any]:
    return json.loads((Path("cache/runs") / run / "result.json").read_text())  # type: ignore[no-any-return]


def assert_same_figures(new: Any, old: Any) -> None:
    """The figures that both results hold are equal; a newer version may add some."""
    if isinstance(old, dict):
        for name in set(old) - {"seconds", "fit_seconds"}:
            assert_same_figures(new[name], old[name])
    elif isinstance(old, list):
        assert len(new) == len(old)
        for one, other in zip(new, old, strict=True):
            assert_same_figures(one, other)
    elif isinstance(old, float):
        assert new == pytest.approx(old, rel=1e-5, abs=1e-6)
    else:
        assert new == old


def test_every_block_of_the_entries_is_whole() -> None:
    assert "damaged" not in probe("cache", "verify", "--all")


def test_the_images_forwarded_again_give_the_same_rows() -> None:
    again = ("--sample", "20", "--dataset-root", "pics")
    assert "difference" in probe("cache", "verify", "pics-mobilenet_v1", *again)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--backbone", "mobilenet_v1", "--layer", "block1", "--dataset", "pics"),
        ("--backbone", "squeezenet1_1", "--layer", "fire2", "--dataset", "pics"),
        ("--backbone", "mobilenet_v1", "--layer", "block1", "--dataset", "pics/several.csv"),
    ],
)
def test_the_same_images_have_the_same_key(arguments: tuple[str, ...]) -> None:
    done = probe("extract", *arguments, "--size", "32", "--weights", "random:0", "--json")
    assert json.loads(done)["forwarded"] == 0


@pytest.mark.parametrize(
    ("run", "arguments"),
    [
        (DENSE, ("--head", "dense", "--epochs", "5", "pics-mobilenet_v1")),
        (PATH, ("--head", "path", "pics-squeeze", "--folds", "3")),
        (RIDGE, ("--head", "ridge", "pics-squeeze")),
        (PROTOTYPE, ("--head", "prototype", "pics-mobil")),
        (SEVERAL, ("--head", "path", "several")),
    ],
)
def test_the_same_head_has_the_same_figures(run: str, arguments: tuple[str, ...]) -> None:
    new, old = json.loads(probe("head", *arguments, "--json")), result(run)
    for name in ("entry", "head", "params", "metrics", "n_train", "seed"):
        assert_same_figures(new[name], old[name])
    before = dict(np.load(f"cache/runs/{run}/predictions.npz"))
    now = dict(np.load(Path(new["run"]) / "predictions.npz"))
    for name, values in before.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(now[name], values, rtol=1e-4, atol=1e-5)
        else:
            np.testing.assert_array_equal(now[name], values)


def test_the_same_bench_forwards_nothing_and_has_the_same_table() -> None:
    backbones = "mobilenet_v1/block1@32=random:0,squeezenet1_1/fire2@32=random:0"
    new = json.loads(
        probe(
            "bench", "--backbones", backbones, "--dataset", "pics", "--heads", "path,knn", "--json"
        )
    )
    old = json.loads(Path(f"cache/benches/{BENCH}/bench.json").read_text())
    assert_same_figures(new["protocol"], old["protocol"])
    assert [row["run"] for row in new["rows"]] == [row["run"] for row in old["rows"]]


@pytest.mark.parametrize("bundle", ["tuned", "several"])
def test_an_old_bundle_predicts_the_same(bundle: str) -> None:
    new = json.loads(probe("predict", f"{bundle}.probe", "pics/test", "--json"))
    assert_same_figures(new, json.loads(Path(f"{bundle}.json").read_text()))


@pytest.mark.parametrize(("bundle", "run"), [("tuned", TUNED), ("several", SEVERAL)])
def test_a_bundle_of_an_old_run_predicts_the_same(bundle: str, run: str, tmp_path: Path) -> None:
    made = tmp_path / "made now.probe"
    probe("bundle", run, "--out", str(made))
    new = json.loads(probe("predict", str(made), "pics/test", "--json"))
    assert_same_figures(new, json.loads(Path(f"{bundle}.json").read_text()))


def test_the_page_of_an_old_bench_and_its_runs(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    probe("report", BENCH, "--out", str(page))
    assert "mobilenet_v1/block1@32" in page.read_text()
    probe("report", DENSE, RIDGE, "--out", str(page))
    assert "ridge" in page.read_text()
