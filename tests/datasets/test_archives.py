"""Archives read in place: the same ids, labels and pixels as the unpacked files; damage is told."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.core.reading import ReadOptions
from probe.datasets import Dataset, load_dataset
from probe.errors import DataError, ProbeError, UsageError
from tests.datasets.places import PATHS, load

Make = Callable[..., Path]
LONG_AGO = 1_600_000_000


def same(one: Dataset, other: Dataset) -> None:
    assert one.classes == other.classes
    assert list(one.splits) == list(other.splits)
    for name, split in one.splits.items():
        found = other.splits[name]
        assert list(split.ids) == list(found.ids)
        assert split.labels.tolist() == found.labels.tolist()
        assert (split.images.content() == found.images.content()).all()
        for row in range(len(split)):
            assert np.array_equal(split.images.image(row), found.images.image(row))


def tar_of(folder: Path, file: Path, **options: str) -> Path:
    with tarfile.open(file, "w", **options) as archive:  # type: ignore[call-overload]
        archive.add(folder, arcname=".")
    os.utime(file, (LONG_AGO, LONG_AGO))
    return file


def tar_with(file: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(file, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_what_is_sent_to_a_process_elsewhere_reads_its_images_and_has_no_index_of_others(
    make_folder: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    root = make_folder(*PATHS)
    if kind == "tar":
        file = tar_of(root, root.parent / "x.tar")
    else:
        file = root.parent / "x.zip"
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(root.rglob("*.png")):
                archive.write(path, path.relative_to(root))
    monkeypatch.chdir(file.parent)
    images = load_dataset(file.name, cache_dir=tmp_path / "cache").splits["train"].images
    images.content()
    some = np.array([2, 0])
    sent = pickle.dumps(images.take(some))
    assert sent.count(b".png") == len(some) < len(images)
    expected = [images.image(row) for row in some]
    monkeypatch.chdir("/")
    found = pickle.loads(sent)
    for row, pixels in enumerate(expected):
        np.testing.assert_array_equal(found.image(row), pixels)


@pytest.mark.parametrize("how", ["tar", "gnu", "pax", "tar program", "zip", "stored zip"])
def test_an_archive_is_the_folder_that_it_was_made_of(make_folder: Make, how: str) -> None:
    long = "train/dog/" + "a name of more than a hundred letters " * 3 + "ä.png"
    root = make_folder(*PATHS, long)
    (root / "train" / "notes.txt").write_text("no image")
    if how == "tar program":
        file = root.parent / "by tar.tar"
        subprocess.run(["tar", "-cf", str(file), "-C", str(root), "."], check=True)
    elif how in {"tar", "gnu", "pax"}:
        formats = {
            "tar": tarfile.DEFAULT_FORMAT,
            "gnu": tarfile.GNU_FORMAT,
            "pax": tarfile.PAX_FORMAT,
        }
        file = tar_of(root, root.parent / "x.tar", format=formats[how])  # type: ignore[arg-type]
    else:
        file = root.parent / "x.zip"
        method = zipfile.ZIP_STORED if how == "stored zip" else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(file, "w", method) as archive:
            for path in sorted(root.rglob("*")):
                archive.write(path, path.relative_to(root))
    same(load(root), load(file))
    assert load(file).name == ("by tar" if how == "tar program" else "x")


def test_archives_called_like_splits_are_a_folder_of_splits(make_folder: Make) -> None:
    root = make_folder(*PATHS)
    packed = root.parent / "packed"
    packed.mkdir()
    tar_of(root / "train", packed / "train.tar")
    tar_of(root / "test", packed / "test.tar")
    same(load(root), load(packed))
    assert load(packed).name == "packed"
    (packed / "more.tar").write_bytes((packed / "test.tar").read_bytes())
    with pytest.raises(DataError, match=r"called like splits .* and others not \(more\.tar\)"):
        load(packed)


def image_bytes(root: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(root.rglob("*.png"))]


def test_shards_of_webdataset(make_folder: Make, caplog: pytest.LogCaptureFixture) -> None:
    pictures = image_bytes(make_folder(*PATHS))
    folder = make_folder("x/1.png", root="shards").parent / "shards"
    for number in range(3):
        members = {}
        for row, data in enumerate(pictures):
            members[f"{row:04d}.png"] = data
            members[f"{row:04d}.cls"] = str((row + number) % 2 * 9).encode()
            members[f"{row:04d}.json"] = json.dumps({"site": "AB"[row % 2], "age": row}).encode()
        tar_with(folder / f"data-{number:03d}.tar", members)
    dataset = load(folder / "data-{000..002}.tar")
    train = dataset.splits["train"]
    assert dataset.name == "data"
    assert dataset.classes == ("0", "9")
    assert train.labels.tolist() == [(row + n) % 2 for n in range(3) for row in range(5)]
    assert list(train.ids[:2]) == ["data-000/0000.png", "data-000/0001.png"]
    assert list(train.columns["site"]) == list("ABABA") * 3
    chosen = load(folder / "data-{000..002}.tar", where="site == 'B' and age < 2", label="site")
    assert list(chosen.splits["train"].ids) == [f"data-00{n}/0001.png" for n in range(3)]
    assert chosen.classes == ("B",)
    with pytest.raises(DataError, match=r"1 of 4 files are missing, first data-003\.tar"):
        load(folder / "data-{000..003}.tar")


def test_a_picture_in_an_archive_shares_its_hash_with_the_file(make_folder: Make) -> None:
    root = make_folder(*PATHS)
    file = tar_of(root, root.parent / "x.tar")
    for name, split in load(root).splits.items():
        assert (split.images.content() == load(file).splits[name].images.content()).all()


def test_a_part_of_an_archive_is_hashed_alone(make_folder: Make) -> None:
    root = make_folder(*PATHS)
    file = tar_of(root, root.parent / "x.tar")
    whole = load(file)
    part = load_dataset(str(file), cache_dir=root.parent / "other", per_class=1)
    for name, split in part.splits.items():
        rows = [list(whole.splits[name].ids).index(one) for one in split.ids]
        assert (split.images.content() == whole.splits[name].images.content()[rows]).all()
    again = load_dataset(str(file), cache_dir=root.parent / "other")
    for name, split in again.splits.items():
        assert (split.images.content() == whole.splits[name].images.content()).all()


def test_patterns_and_unlabeled(make_folder: Make) -> None:
    root = make_folder(*PATHS)
    file = tar_of(root, root.parent / "x.tar")
    dataset = load(file, unlabeled=True, exclude=("test/*",))
    assert dataset.classes == ("unlabeled",)
    assert list(dataset.splits["train"].ids) == sorted(PATHS[:3])
    with_splits = load(file, unlabeled=True)
    folder = load_dataset(
        str(root), cache_dir=root.parent / "cache", reading=ReadOptions(unlabeled=True)
    )
    assert list(with_splits.splits) == list(folder.splits) == ["train", "test"]
    for name, split in folder.splits.items():
        assert list(with_splits.splits[name].ids) == list(split.ids)
    with pytest.raises(UsageError, match="--label has no effect on an archive of class folders"):
        load(file, label="x")
    with pytest.raises(DataError, match="has no image in it that is to be read"):
        load(file, include=("*.jpg",))


def test_links_in_a_tar_archive(make_folder: Make, caplog: pytest.LogCaptureFixture) -> None:
    root = make_folder("cat/1.png", "dog/1.png")
    os.link(root / "cat/1.png", root / "cat/2.png")
    (root / "cat" / "3.png").symlink_to("1.png")
    dataset = load(tar_of(root, root.parent / "x.tar"))
    train = dataset.splits["train"]
    assert list(train.ids) == ["cat/1.png", "cat/2.png", "dog/1.png"]
    assert np.array_equal(train.images.image(0), train.images.image(1))
    assert "left out 1 link" in caplog.text


def test_names_never_lead_out_of_an_archive(make_folder: Make) -> None:
    data = image_bytes(make_folder("a/1.png"))[0]
    file = tar_with(
        make_folder("a/1.png").parent / "x.tar", {"../../cat/1.png": data, "/dog/1.png": data}
    )
    assert list(load(file).splits["train"].ids) == ["cat/1.png", "dog/1.png"]


BROKEN = {
    "cut within an image": (lambda data: data[: len(data) // 3], "damaged|cut short"),
    "cut at the end": (lambda data: data[: -(len(data) % 10240 or 10240)], "cut short|damaged"),
    "two joined": (lambda data: data + data, "more behind its end"),
    "no archive": (lambda data: b"nothing of an archive" * 100, "is no tar archive"),
    "empty": (lambda data: b"", "is no tar archive"),
}


@pytest.mark.parametrize(("spoil", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_tar_is_one_clear_line(
    make_folder: Make, spoil: Callable[[bytes], bytes], message: str
) -> None:
    file = tar_of(make_folder(*PATHS), make_folder(*PATHS).parent / "x.tar")
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(DataError, match=message) as caught:
        load(file)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_read_in_place_is_refused(make_folder: Make) -> None:
    root = make_folder(*PATHS)
    with tarfile.open(root.parent / "x.tar.gz", "w:gz") as archive:
        archive.add(root, arcname=".")
    with pytest.raises(DataError, match=r"compressed as a whole, .* decompress it to a \.tar"):
        load(root.parent / "x.tar.gz")
    with zipfile.ZipFile(root.parent / "x.zip", "w", zipfile.ZIP_LZMA) as other:
        other.write(root / PATHS[0], PATHS[0])
    with pytest.raises(DataError, match="a method other than deflate"):
        load(root.parent / "x.zip")


def test_damage_in_a_zip_is_told_when_the_image_is_read(make_folder: Make) -> None:
    root = make_folder("cat/1.png", "dog/1.png")
    file = root.parent / "x.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in ("cat/1.png", "dog/1.png"):
            archive.write(root / path, path)
    data = bytearray(file.read_bytes())
    data[60] ^= 1
    file.write_bytes(data)
    with pytest.raises(DataError, match=r"x\.zip: cat/1\.png: (does not match|cannot be decomp)"):
        load(file).splits["train"].images.content()


def test_an_archive_that_changed_is_not_read(make_folder: Make) -> None:
    root = make_folder("cat/1.png", "dog/1.png")
    file = tar_of(root, root.parent / "x.tar")
    images = load(file).splits["train"].images
    images.content()
    data = bytearray(file.read_bytes())
    at = data.index(b"\x89PNG") + 40
    data[at] ^= 1
    file.write_bytes(data)
    with pytest.raises(DataError, match="was changed since this command looked at it"):
        images.image(0)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_random_damage_raises_no_other_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    picture = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
    ending = data.draw(st.sampled_from([".tar", ".zip"]))
    file = folder / f"x{ending}"
    if ending == ".tar":
        tar_with(file, {"cat/1.png": picture, "dog/1.png": picture, "dog/1.json": b"{}"})
    else:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("cat/1.png", picture)
            archive.writestr("dog/1.png", picture)
    whole = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    file.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    with contextlib.suppress(ProbeError):
        for split in load(file).splits.values():
            split.images.content()
            for row in range(len(split)):
                split.images.image(row)
