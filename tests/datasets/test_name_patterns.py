"""``--include`` and ``--exclude`` for folders and archives, and twins: a picture and its mask."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from PIL import Image

from probe.core.reading import ReadOptions
from probe.datasets import Dataset, load_dataset
from probe.datasets.tables.name_patterns import matches
from probe.errors import DataError

FITS = {
    "*.jpg": ("1.jpg", "1.JPG", "cat/1.jpg", "train/cat/a.b.Jpg"),
    "*.[jp][pn]g": ("1.jpg", "cat/1.png"),
    "cat/*": ("cat/1.png", "cat/more/1.png"),
    "*/cat/*": ("train/cat/1.png",),
    "IMG_?.png": ("IMG_1.png", "cat/IMG_2.PNG"),
    "cat": ("cat/1.png", "train/cat/more/1.png"),
    "cat/": ("cat/1.png",),
    "train/cat": ("train/cat/1.png",),
    "train/cat/1.png": ("train/cat/1.png", "train/cat/1.PNG"),
    "1.png": ("1.png", "cat/1.png"),
    "[x].png": ("x.png",),
}
FITS_NOT = {
    "*.jpg": ("1.jpeg", "1.jpg.png", "jpg"),
    "cat/*": ("dog/cat/1.png", "cats/1.png", "Cat/1.png"),
    "IMG_?.png": ("IMG_10.png", "img_1.png"),
    "cat": ("cats/1.png", "cat.png", "a cat/1.png"),
    "ca*": ("cat/1.png",),
    "1.png": ("11.png", "1.png.jpg"),
}


def test_a_pattern_and_what_it_fits() -> None:
    for pattern, ids in FITS.items():
        assert [one for one in ids if not matches(one, [pattern])] == [], pattern
    for pattern, ids in FITS_NOT.items():
        assert [one for one in ids if matches(one, [pattern])] == [], pattern


@pytest.fixture
def pictures(cifar_jpegs: Mapping[str, bytes], tmp_path: Path) -> Path:
    """Pictures of two classes with masks beside them, masks in folders, and sketches."""
    root = tmp_path / "with masks"
    for number, data in enumerate(list(cifar_jpegs.values())[:6]):
        place = root / ("cat", "dog")[number % 2] / f"{number}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        with Image.open(io.BytesIO(data)) as image:
            image.convert("1").save(place.with_suffix(".png"))
            (root / "sketches").mkdir(exist_ok=True)
            image.convert("L").save(root / "sketches" / f"{number}.png")
    return root


def read(place: Path, **options: object) -> Dataset:
    reading = ReadOptions(**options)  # type: ignore[arg-type]
    return load_dataset(str(place), cache_dir=place.parent / "cache", reading=reading)


def ids_of(dataset: Dataset) -> list[str]:
    return [id_ for split in dataset.splits.values() for id_ in split.ids]


def test_twins_are_said_once_and_include_reads_the_pictures(
    pictures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(ids_of(read(pictures))) == 18
    (said,) = caplog.messages
    assert said.endswith(
        "6 images are called like another but for the ending (cat/0.jpg and cat/0.png), and both "
        "are read; if one of them is a mask, --include '*.jpg' reads the pictures"
    )
    caplog.clear()
    dataset = read(pictures, include=("*.jpg",))
    assert dataset.classes == ("cat", "dog")  # `sketches` has no such image
    assert sorted(ids_of(dataset)) == [
        "cat/0.jpg", "cat/2.jpg", "cat/4.jpg", "dog/1.jpg", "dog/3.jpg", "dog/5.jpg",
    ]  # fmt: skip
    (said,) = caplog.messages
    assert said.endswith("--include: 6 of 12 images are read")
    assert dataset.splits["train"].images.image(0).shape == (32, 32, 3)


def test_what_is_excluded_is_as_if_it_were_not_there(pictures: Path) -> None:
    for options in (
        {"exclude": ("sketches", "*.png")},
        {"exclude": ("sketches/*", "*/*.PNG")},
        {"include": ("cat", "dog"), "exclude": ("*.png",)},
        {"include": ("cat/*.jpg", "dog/*.jpg")},
    ):
        dataset = read(pictures, **options)
        assert dataset.classes == ("cat", "dog")
        assert len(ids_of(dataset)) == 6
    # a folder of masks would be no class, and is refused where it is looked at
    os.rename(pictures / "sketches", pictures / "masks")
    for one in ("cat", "dog"):
        os.makedirs(pictures / "images" / one)
        os.rename(pictures / one, pictures / "images" / one / "x")
    with pytest.raises(DataError, match="are called like images and the masks"):
        read(pictures)
    assert read(pictures, exclude=("masks",), include=("*.jpg",)).classes == ("cat", "dog")


def test_patterns_that_leave_nothing_are_refused(pictures: Path) -> None:
    for options in ({"include": ("*.tif",)}, {"exclude": ("*",)}):
        with pytest.raises(DataError, match=r"with masks: --\w+clude leaves none of its images"):
            read(pictures, **options)
        with pytest.raises(DataError, match="leaves none of its images"):
            read(pictures, unlabeled=True, **options)
    (only,) = read(pictures, unlabeled=True, include=("*/4.jpg",)).splits.values()
    assert list(only.ids) == ["cat/4.jpg"]


def test_links_that_form_loops_end(pictures: Path) -> None:
    for one in ("cat", "dog"):
        (pictures / one / "again").symlink_to(pictures)
        (pictures / one / "more").symlink_to(pictures / one)
    assert len(ids_of(read(pictures, include=("*.jpg",)))) == 6


def test_an_archive_takes_the_same_patterns(
    pictures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with tarfile.open(pictures.parent / "set.tar", "w") as tar:
        tar.add(pictures, "set")
    read(pictures.parent / "set.tar")
    assert "6 images are called like another but for the ending" in caplog.text
    dataset = read(pictures.parent / "set.tar", include=("*.jpg",))
    assert dataset.classes == ("cat", "dog")
    assert len(ids_of(dataset)) == 6


SPLIT_NAMES = {
    "train": "train", "Training": "train", "valid": "val", "val": "val", "validation": "val",
    "dev": "val", "test": "test", "TEST": "test", "testing": "test",
}  # fmt: skip


@pytest.mark.parametrize("name", SPLIT_NAMES)
def test_a_split_by_its_name_in_a_folder_and_in_a_list(
    make_folder: Callable[..., Path], name: str
) -> None:
    split, other = SPLIT_NAMES[name], "test" if SPLIT_NAMES[name] == "train" else "train"
    first, second = (name, other) if split == "train" else (other, name)
    root = make_folder(*(f"{one}/{c}/1.png" for one in (first, second) for c in ("cat", "dog")))
    found = read(root).splits
    assert {*found} == {split, other}
    assert list(found[split].ids) == [f"{name}/cat/1.png", f"{name}/dog/1.png"]
    rows = [f"{one}/{c}/1.png,{c},{one}\n" for one in (first, second) for c in ("cat", "dog")]
    (root / "list.csv").write_text("path,label,split\n" + "".join(rows))
    found = read(root / "list.csv").splits
    assert {*found} == {split, other}
    assert list(found[split].ids) == [f"{name}/cat/1.png", f"{name}/dog/1.png"]


def test_folders_in_folders_without_end(pictures: Path) -> None:
    """Deeper than Python calls functions."""
    folders = [pictures / "cat"]
    for _ in range(1100):
        folders.append(folders[-1] / "d")
        folders[-1].mkdir()
    os.rename(pictures / "cat" / "0.jpg", folders[-1] / "0.jpg")
    try:
        for options in ({"include": ("*.jpg",)}, {"exclude": ("*.png", "sketches")}):
            assert len(ids_of(read(pictures, **options))) == 6
        (pictures / "metadata.csv").write_text("file_name,label\ncat/2.jpg,x\ndog/1.jpg,y\n")
        assert len(ids_of(read(pictures))) == 2
    finally:
        (folders[-1] / "0.jpg").unlink()
        for folder in reversed(folders[1:]):
            folder.rmdir()


def test_folders_that_are_left_out_are_not_counted_as_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("cat/1.png", "dog/1.png", "owl/1.png"):
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    found = load_dataset(str(tmp_path), reading=ReadOptions(exclude=("cat",)))
    assert found.classes == ("dog", "owl")
    assert caplog.messages[-1].endswith("--exclude: 2 images are read")
