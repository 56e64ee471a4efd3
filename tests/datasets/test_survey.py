"""What is said of a dataset, against files whose properties Pillow and hashlib tell."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from probe.datasets import Dataset, Split, decode_file, load_dataset
from probe.datasets.copies import copies_in_words
from probe.datasets.images.decode import read_header
from probe.datasets.images.image_inputs import ImageSources
from probe.datasets.survey import Pictures, survey
from probe.errors import ImageError, ProbeError
from tests.fakes import make_dataset

Make = Callable[..., Path]


def look(folder: Path, tmp_path: Path, **options: object) -> Pictures:
    dataset = load_dataset(str(folder), cache_dir=tmp_path / "cache")
    found = survey(dataset, **options).pictures  # type: ignore[arg-type]
    assert found is not None
    return found


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A hundred and twenty of CIFAR-10's JPEG files, some twice, beside files of other kinds."""
    data = os.environ.get("PROBE_TEST_DATA")
    if not data:
        pytest.skip("PROBE_TEST_DATA is not set, so there is no real CIFAR-10")
    root = tmp_path / "some photos"
    for split in ("train", "test"):
        with tarfile.open(Path(data) / "cifar10" / f"{split}.tar") as tar:
            for name in ("cat", "dog"):
                (root / split / name).mkdir(parents=True)
                for number in range(30):
                    member = tar.extractfile(f"{name}/{number:04d}.jpg")
                    assert member is not None
                    (root / split / name / f"{number}.jpg").write_bytes(member.read())
    train = root / "train"
    (train / "cat" / "again.jpg").write_bytes((train / "cat" / "3.jpg").read_bytes())
    (root / "test" / "dog" / "leak.jpg").write_bytes((train / "cat" / "5.jpg").read_bytes())
    return root


def test_sizes_formats_and_copies_are_those_that_the_files_have(
    photos: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for number, (height, width) in enumerate([(20, 50), (50, 21), (300, 200)]):
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(photos / "train" / "dog" / f"wide{number}.png")
    Image.fromarray(pixels[:, :, 0]).save(photos / "train" / "dog" / "grey.webp", lossless=True)
    Image.fromarray(pixels[:, :, 0]).save(photos / "train" / "dog" / "grey.png")
    found = look(photos, tmp_path, workers=2)

    files = sorted(path for path in photos.rglob("*") if path.is_file())
    opened = []
    for path in files:
        with Image.open(path) as image:
            opened.append(image)
    assert found.formats == Counter(str(one.format) for one in opened)
    assert found.modes == Counter(one.mode for one in opened)
    widths, heights = np.array([one.size for one in opened]).T
    sizes = found.sizes
    assert sizes is not None
    for spread, values in (
        (sizes.width, widths), (sizes.height, heights), (sizes.aspect, widths / heights),
    ):  # fmt: skip
        least, median, largest = np.quantile(values, (0, 0.5, 1))
        assert (spread.least, spread.median, spread.largest) == (least, median, largest)
    assert sizes.different == len({one.size for one in opened})
    assert sizes.largest in ("train/dog/wide2.png", "train/dog/grey.png", "train/dog/grey.webp")

    hashes: dict[str, set[str]] = {}
    for path in files:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        hashes.setdefault(digest, set()).add(str(path.relative_to(photos)))
    twice = {frozenset(ids) for ids in hashes.values() if len(ids) > 1}
    assert {frozenset(one.ids) for one in found.copies} == twice
    assert len(twice) == 2
    assert copies_in_words(found.copies) == (
        "1 image is an exact copy of others in their split; 1 test image is in train, too; "
        "1 picture has more than one label"
    )
    assert not found.unreadable


def test_a_copy_between_val_and_test_is_a_leak_too(make_folder: Make, tmp_path: Path) -> None:
    root = make_folder(
        *(f"{split}/{name}/{n}.png" for split in ("train", "val", "test") for name in "ab"
          for n in range(2))
    )  # fmt: skip
    (root / "test/a/0.png").write_bytes((root / "val/b/1.png").read_bytes())
    assert copies_in_words(look(root, tmp_path).copies) == (
        "1 test image is in val, too; 1 picture has more than one label"
    )


def test_broken_files_are_named_and_do_not_stop_it(photos: Path, tmp_path: Path) -> None:
    cat = photos / "train" / "cat"
    (cat / "empty.jpg").touch()
    (cat / "text.png").write_text("no image")
    whole = (cat / "0.jpg").read_bytes()
    (cat / "cut in its header.jpg").write_bytes(whole[:100])
    (cat / "cut in its pixels.jpg").write_bytes(whole[: len(whole) * 3 // 4])
    before = len(load_dataset(str(photos), cache_dir=tmp_path / "cache").splits["train"])
    found = look(photos, tmp_path)
    broken = {"empty.jpg", "text.png", "cut in its header.jpg"}
    assert {Path(one.id).name for one in found.unreadable} == broken
    assert sum(found.formats.values()) == before - 3 + 61
    all_of_it = look(photos, tmp_path, read="pixels")
    assert {Path(one.id).name for one in all_of_it.unreadable} == broken | {"cut in its pixels.jpg"}
    assert all("--skip-bad" not in one.reason for one in all_of_it.unreadable)


def test_nothing_but_broken_files(make_folder: Make, tmp_path: Path) -> None:
    root = make_folder("a/1.png", "b/2.png")
    for path in root.rglob("*.png"):
        path.write_bytes(b"\x89PNG")
    found = look(root, tmp_path)
    assert (found.sizes, found.copies, len(found.unreadable)) == (None, (), 2)


def test_unusual_images_are_counted(make_folder: Make, tmp_path: Path) -> None:
    root = make_folder("a/1.png", "b/2.png")
    rng = np.random.default_rng(1)
    Image.fromarray(np.zeros((9, 9, 4), np.uint8)).save(root / "a" / "clear.png")
    Image.fromarray(rng.integers(0, 4000, (9, 9)).astype(np.uint16)).save(root / "a" / "dark.png")
    frames = [Image.fromarray(rng.integers(0, 256, (9, 9), np.uint8)) for _ in range(3)]
    for name in ("moving.gif", "pages.tif"):
        frames[0].save(root / "b" / name, save_all=True, append_images=frames[1:])
    quick, whole = look(root, tmp_path), look(root, tmp_path, read="pixels")
    for found in (quick, whole):
        assert found.frames == ("b/moving.gif", "b/pages.tif")
    assert quick.unusual is None
    assert whole.unusual == {"clear": 1, "dark": 1}


def test_names_alone_open_no_file(make_folder: Make, tmp_path: Path) -> None:
    root = make_folder("train/1/1.png", "train/1/2.png", "train/10/3.png", "test/1/4.png")
    dataset = load_dataset(str(root), cache_dir=tmp_path / "cache")
    for path in root.rglob("*.png"):
        path.unlink()
    found = survey(dataset, read="names")
    assert found.pictures is None
    assert found.counts == {"train": (2, 1), "test": (1, 0)}
    assert found.images == {"train": 3, "test": 1}
    assert "'1' is 0" in (found.numbering or "")


def test_images_that_are_no_files_have_sizes_and_copies() -> None:
    dataset = make_dataset(train=20, test=5)
    pixels = dataset.splits["test"].images.pixels  # type: ignore[attr-defined]
    pixels[1] = dataset.splits["train"].images.image(7)
    advanced: list[int] = []
    found = survey(dataset, advance=advanced.append).pictures
    assert found is not None
    assert (found.formats, found.modes) == ({"pixels": 25}, {"RGB": 25})
    assert [one.ids for one in found.copies] == [("train/00007", "test/00001")]
    assert sum(advanced) == 25


def test_digits_and_images_in_memory(tmp_path: Path) -> None:
    found = survey(load_dataset("digits", cache_dir=tmp_path)).pictures
    assert found is not None
    assert found.sizes is not None
    assert (found.sizes.different, found.sizes.width.median) == (1, 8)
    data = io.BytesIO()
    Image.new("L", (4, 6)).save(data, "PNG")
    given = [data.getvalue(), np.zeros((3, 5, 3), np.uint8)]
    split = Split(ids=["0", "1"], labels=np.array([0, 1]), images=ImageSources.of(given))
    dataset = Dataset(name="given", classes=("a", "b"), splits={"train": split}, root=None)
    found = survey(dataset).pictures
    assert found is not None
    assert found.formats == {"PNG": 1, "pixels": 1}


def test_a_header_says_the_size_that_decoding_gives(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (8, 13, 3), np.uint8)
    exif = Image.Exif()
    for turn in range(1, 9):
        exif[274] = turn
        for ending in ("jpg", "png", "webp", "tif"):
            path = tmp_path / f"{turn}.{ending}"
            Image.fromarray(pixels).save(path, exif=exif)
            height, width = decode_file(str(path)).shape[:2]
            for source in (str(path), path.read_bytes()):
                header = read_header(source, path.name)
                assert (header.width, header.height) == (width, height), path.name


def test_a_header_that_is_refused_is_refused_as_decoding_does(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tif")
    (tmp_path / "page.png").write_text("<html><body>not found</body></html>")
    (tmp_path / "empty.png").touch()
    (tmp_path / "lfs.jpg").write_text("version https://git-lfs.github.com/spec/v1\n")
    (tmp_path / "short.tif").write_bytes((tmp_path / "float.tif").read_bytes()[:20])
    names = [path.name for path in tmp_path.iterdir()] + ["gone.png"]
    assert len(names) == 6
    for name in names:
        path = str(tmp_path / name)
        with pytest.raises(ImageError) as decoded:
            decode_file(path)
        with pytest.raises(ImageError) as read:
            read_header(path, path)
        assert str(read.value) == str(decoded.value)


def test_a_damaged_member_of_an_archive_is_named(photos: Path, tmp_path: Path) -> None:
    place = tmp_path / "photos.zip"
    files = sorted(path for path in photos.rglob("*.jpg"))
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in files:
            packed.write(path, path.relative_to(photos))
        start = packed.getinfo("train/cat/7.jpg").header_offset
    whole = look(place, tmp_path)
    assert whole.copies == look(photos, tmp_path).copies
    assert sum(whole.formats.values()) == len(files)
    data = bytearray(place.read_bytes())
    for at in range(start + 200, start + 260):
        data[at] ^= 0x55
    place.write_bytes(data)
    for read in ("files", "pixels"):
        found = look(place, tmp_path, read=read)
        assert [one.id for one in found.unreadable] == ["train/cat/7.jpg"]
        assert sum(found.formats.values()) == len(files) - 1
        assert found.copies == whole.copies


def test_a_folder_that_vanishes_is_told_in_one_line(make_folder: Make, tmp_path: Path) -> None:
    root = make_folder("a/1.png", "b/2.png")
    dataset = load_dataset(str(root), cache_dir=tmp_path / "cache")
    for path in root.rglob("*.png"):
        path.unlink()
    found = survey(dataset).pictures
    assert found is not None
    assert {one.reason for one in found.unreadable} == {
        "cannot be opened: No such file or directory"
    }
    with pytest.raises(ProbeError):
        dataset.splits["train"].images.content()
