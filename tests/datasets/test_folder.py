from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from probe.datasets import Dataset, load_dataset
from probe.errors import DataError

Make = Callable[..., Path]


def load(root: Path, splits: list[str] | None = None, *, skip_bad: bool = False) -> Dataset:
    cache = root.parent / "cache"
    return load_dataset(str(root), cache_dir=cache, splits=splits, skip_bad=skip_bad)


def test_class_folders_alone_are_train(make_folder: Make) -> None:
    dataset = load(make_folder("dog/2.png", "cat/b.JPG", "cat/a.Jpeg", "dog/10.tiff"))
    assert dataset.name == "pictures"
    assert dataset.classes == ("cat", "dog")
    train = dataset.splits["train"]
    assert list(train.ids) == ["cat/a.Jpeg", "cat/b.JPG", "dog/10.tiff", "dog/2.png"]
    assert train.labels.tolist() == [0, 0, 1, 1]
    assert train.images.image(3).shape == (5, 7, 3)


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
def test_split_folders(make_folder: Make, val: str) -> None:
    root = make_folder("test/cat/1.png", "train/dog/1.png", "train/cat/1.png", f"{val}/dog/7.png")
    dataset = load(root)
    assert list(dataset.splits) == ["train", "val", "test"]
    assert list(dataset.splits["val"].ids) == [f"{val}/dog/7.png"]
    assert dataset.splits["val"].labels.tolist() == [1]
    assert list(load(root, ["test"]).splits) == ["test"]
    assert load(root, ["test"]).classes == ("cat", "dog")


def test_a_folder_with_only_some_splits_is_just_those(make_folder: Make) -> None:
    root = make_folder("test/cat/1.png")
    assert list(load(root).splits) == ["test"]
    with pytest.raises(DataError, match="no split 'val'; it has test"):
        load(root, ["val"])


def test_what_is_no_image_is_ignored(make_folder: Make) -> None:
    root = make_folder("cat/1.png", "cat/more/x/2.png")
    for name in ("cat/.hidden.jpg", "cat/Thumbs.db", "cat/notes.txt", "readme.md", "cat/jpg"):
        (root / name).write_text("x")
    (root / ".git").mkdir()
    (root / "cat" / ".thumbs").mkdir()
    (root / "cat" / ".thumbs" / "1.png").write_text("x")
    assert list(load(root).splits["train"].ids) == ["cat/1.png", "cat/more/x/2.png"]


WRONG = {
    "mixed": (["train/cat/1.png", "dog/1.png"], r"both split folders \(train\) and others \(dog\)"),
    "beside the classes": (["cat/1.png", "2.png"], r"images lie beside the folders \(2\.png\)"),
    "beside in a split": (["train/cat/1.png", "train/2.png"], r"train: images lie beside"),
    "no class folder": (["train/2.png"], r"train: images lie in no class folder"),
    "no folder at all": (["2.png"], r"images lie in no class folder \(2\.png\); expected CLASS"),
    "only in test": (["train/a/1.png", "test/b/1.png"], "class 'b' is in test but not in train"),
    "twice": (["val/a/1.png", "valid/a/1.png"], "are all 'val'; keep one"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_layout_is_one_clear_line(make_folder: Make, name: str) -> None:
    paths, message = WRONG[name]
    with pytest.raises(DataError, match=message) as caught:
        load(make_folder(*paths))
    assert "\n" not in str(caught.value)


def test_an_empty_class_folder_is_named(make_folder: Make) -> None:
    root = make_folder("cat/1.png")
    (root / "dog").mkdir()
    (root / "dog" / "readme.txt").write_text("none yet")
    with pytest.raises(DataError, match=r"dog: a class folder without an image.*--skip-bad"):
        load(root)


def test_empty_class_folders_are_left_out_when_asked(make_folder: Make, tmp_path: Path) -> None:
    root = make_folder("train/cat/1.png", "train/owl/2.png", "test/cat/3.png")
    (root / "train" / "dog").mkdir()
    (root / "val" / "cat").mkdir(parents=True)
    found = load(root, skip_bad=True)
    assert found.classes == ("cat", "owl")
    assert list(found.splits) == ["train", "test"]
    assert [one.id for one in found.skipped] == ["train/dog", "val/cat"]
    (tmp_path / "bare" / "dog").mkdir(parents=True)
    with pytest.raises(DataError, match="dog: a class folder without an image; remove it"):
        load(tmp_path / "bare", skip_bad=True)


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "e").mkdir()
    with pytest.raises(DataError, match="e: has no class folders; expected"):
        load(tmp_path / "e")


def test_links_are_followed_and_loops_end(make_folder: Make) -> None:
    root = make_folder("cat/1.png", "cat/a/2.png")
    (root / "cat" / "a" / "loop").symlink_to(root / "cat")
    (root / "cat" / "b").symlink_to(root / "cat" / "a")
    (root / "cat" / "3.png").symlink_to(root / "cat" / "1.png")
    (root / "dog").symlink_to(make_folder("x/4.png", root="elsewhere") / "x")
    ids = load(root).splits["train"].ids
    assert list(ids) == ["cat/1.png", "cat/3.png", "cat/a/2.png", "dog/4.png"]


def test_a_broken_link_is_a_bad_image(make_folder: Make) -> None:
    root = make_folder("cat/1.png")
    (root / "cat" / "2.png").symlink_to(root / "gone.png")
    dataset = load_dataset(str(root), cache_dir=root.parent / "c", skip_bad=True)
    assert [bad.id for bad in dataset.skipped] == ["cat/2.png"]


def test_a_pipe_does_not_hang(make_folder: Make) -> None:
    root = make_folder("cat/1.png")
    os.mkfifo(root / "cat" / "2.png")
    assert list(load(root).splits["train"].ids) == ["cat/1.png"]


@pytest.mark.parametrize("place", [b"cat/\xff.png", b"\xff/1.png"])
def test_a_name_that_is_not_utf_8(make_folder: Make, place: bytes) -> None:
    root = make_folder("cat/1.png")
    path = os.fsencode(root) + b"/" + place
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(b"x")
    with pytest.raises(DataError, match=r"xff.*is not UTF-8; rename it") as caught:
        load(root)
    str(caught.value).encode()


def test_names_in_any_script(make_folder: Make) -> None:
    root = make_folder("猫/ä b.png")
    train = load(root).splits["train"]
    assert list(train.ids) == ["猫/ä b.png"]
    assert train.images.image(0).shape == (5, 7, 3)
