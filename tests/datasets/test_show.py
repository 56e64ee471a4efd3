"""`probe dataset show`: what it prints, and the sheet that it draws."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import probe
from probe.errors import UsageError
from tests.commands import invoke, probe_json

Make = Callable[..., Path]


@pytest.fixture
def pictures(make_folder: Make) -> Path:
    """Three classes, in train and test, an image of test that is in train, and a broken one."""
    root = make_folder(
        *(f"{split}/{name}/{n}.png" for split in ("train", "test") for name in ("1", "2", "10")
          for n in range(4)),
        root="my pictures",
    )  # fmt: skip
    (root / "test/2/0.png").write_bytes((root / "train/2/1.png").read_bytes())
    (root / "train/10/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return root


def test_show_counts_measures_and_names_leaks(pictures: Path, tmp_path: Path) -> None:
    done = invoke("dataset", "show", pictures, "--cache-dir", tmp_path / "cache")
    lines = done.stdout.splitlines()
    assert ["images", "13", "12"] in [line.split() for line in lines]
    assert "size     7 x 5 pixels, all" in lines
    assert "copies   1 test image is in train, too" in lines
    assert any(line.startswith("leak ") for line in lines)
    assert any(line.startswith("train/10/broken.png") for line in lines)
    assert any(line.startswith("classes  ") and "'10' is 2" in line for line in lines)
    assert done.stderr.startswith("reading headers and hashes of 25 images")
    assert "Traceback" not in done.stderr


def test_what_is_known_of_a_name_is_not_said_of_a_folder_called_so(
    make_folder: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder("a/1.png", "b/2.png", root="digits")
    monkeypatch.chdir(tmp_path)
    command = ("dataset", "show", "--read", "names", "--cache-dir", tmp_path / "cache")
    assert "licence" not in invoke(*command, "./digits").stdout
    assert "licence   CC-BY-4.0" in invoke(*command, "digits").stdout


def test_json_is_what_python_gets(pictures: Path, tmp_path: Path) -> None:
    told = probe_json(
        "dataset", "show", pictures, "--read", "pixels", "--cache-dir", tmp_path / "cache"
    )
    found = probe.show_dataset(
        str(pictures), read="pixels", cache_dir=tmp_path / "cache", quiet=True
    )
    assert told == json.loads(json.dumps(found.to_json()))
    assert told["counts"] == {"train": [4, 4, 5], "test": [4, 4, 4]}
    assert told["pictures"]["copies"][0]["splits"] == ["train", "test"]
    assert repr(found) == "<Survey of my pictures: train 13, test 12 images, 3 classes>"
    with pytest.raises(UsageError, match="names, files, pixels"):
        probe.show_dataset(str(pictures), read="all")  # type: ignore[arg-type]


def test_a_sheet_has_a_picture_of_every_class(pictures: Path, tmp_path: Path) -> None:
    for path in (pictures / "train/2").iterdir():
        Image.new("RGB", (30, 20), (255, 0, 255)).save(path)
    sheet = tmp_path / "sheets" / "all of it.png"
    done = invoke("dataset", "show", pictures, "--sheet", sheet, "--cache-dir", tmp_path / "cache")
    assert "all of it.png" in done.stdout
    with Image.open(sheet) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert (pixels == (255, 0, 255)).all(axis=1).sum() > 4 * 100 * 60
    assert [path.name for path in sheet.parent.iterdir()] == [sheet.name]


def test_a_sheet_of_another_kind_is_refused_before_anything_is_read(
    pictures: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"ends in \.png"):
        invoke("dataset", "show", pictures, "--sheet", tmp_path / "sheet.jpg")


def test_an_empty_class_can_be_left_out(pictures: Path, tmp_path: Path) -> None:
    (pictures / "train" / "3").mkdir()
    cache = ("--cache-dir", tmp_path / "cache")
    with pytest.raises(probe.ProbeError, match="--skip-bad leaves it out"):
        invoke("dataset", "show", pictures, *cache)
    told = probe_json("dataset", "show", pictures, "--skip-bad", *cache)
    assert [one["id"] for one in told["skipped"]] == ["train/3", "train/10/broken.png"]


def test_several_labels_are_counted_each(make_folder: Make, tmp_path: Path) -> None:
    root = make_folder("1.png", "2.png", "3.png", "4.png")
    (root / "list.csv").write_text("image,labels\n1.png,a|b\n2.png,b\n3.png,\n4.png,a\n")
    sheet = tmp_path / "sheet.png"
    told = probe_json(
        "dataset", "show", root / "list.csv", "--sheet", sheet, "--cache-dir", tmp_path / "cache"
    )
    assert told["counts"] == {"train": [2, 2]}
    assert told["multilabel"]
    assert sheet.read_bytes().startswith(b"\x89PNG")
