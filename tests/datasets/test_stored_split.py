"""Splits that are stored by content: made once, and the same wherever the files go."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import probe
from probe.cache.store import Store
from probe.datasets import Dataset, load_dataset
from probe.datasets.stored_split import read_split
from probe.errors import DataError, UsageError
from probe.extraction.request import images_of_entry, repeat
from probe.report.thumbnails import find_images
from tests.commands import invoke, probe_json
from tests.datasets.conftest import LONG_AGO

SIDES = ("train", "val", "test")


def write(root: Path, sizes: dict[str, int], *, seed: int = 0) -> Path:
    """Write so many images of each class."""
    rng = np.random.default_rng(seed)
    for name, count in sizes.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            path = root / name / f"{seed}-{number}.png"
            Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)).save(path)
            os.utime(path, (LONG_AGO, LONG_AGO))
    return root


class Place:
    """A folder of images, and the state folder beside it."""

    def __init__(self, folder: Path) -> None:
        self.root, self.cache = folder / "my photos", folder / "the cache"

    def split(self, *options: object, name: Path | None = None, code: int = 0) -> Any:
        return probe_json(
            "dataset", "split", name or self.root, "--cache-dir", self.cache, *options, code=code
        )

    def load(self, name: Path | None = None, **options: Any) -> Dataset:
        return load_dataset(str(name or self.root), cache_dir=self.cache, **options)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    found = Place(tmp_path)
    write(found.root, {"cat": 60, "dog": 40, "owl": 20})
    return found


def sides(dataset: Dataset) -> dict[bytes, str]:
    """Return the split of each image by its content."""
    return {
        content.tobytes(): name
        for name, split in dataset.splits.items()
        for content in split.images.content()
    }


def counts(dataset: Dataset) -> dict[str, list[int]]:
    return {
        name: np.bincount(split.labels, minlength=len(dataset.classes)).tolist()
        for name, split in dataset.splits.items()
    }


def test_every_class_gives_its_share(place: Place) -> None:
    told = place.split("--val", 0.2, "--test", 0.1)
    assert told["images"] == {"train": 84, "val": 24, "test": 12}
    assert counts(place.load()) == {"train": [42, 28, 14], "val": [12, 8, 4], "test": [6, 4, 2]}
    assert place.load(splits=["val"]).splits.keys() == {"val"}


def test_copies_are_on_one_side(place: Place) -> None:
    copied = 0
    for number in range(0, 60, 3):
        one = place.root / "cat" / f"0-{number}.png"
        for other in ("cat/copy", "dog/copy"):  # whatever their labels
            shutil.copy(one, place.root / f"{other}{number}.png")
            copied += 1
    place.split()
    dataset = place.load()
    found: dict[bytes, set[str]] = {}
    rows = 0
    for name, split in dataset.splits.items():
        for content in split.images.content():
            found.setdefault(content.tobytes(), set()).add(name)
            rows += 1
    assert rows == 120 + copied
    assert {len(one) for one in found.values()} == {1}
    assert {name for one in found.values() for name in one} == set(SIDES)


def test_moving_and_renaming_changes_nothing(place: Place, tmp_path: Path) -> None:
    place.split()
    before = sides(place.load())
    for number, path in enumerate(sorted(place.root.rglob("*.png"), reverse=True)):
        path.rename(path.with_name(f"{number:03d} renamed.png"))
    assert sides(place.load()) == before
    moved = tmp_path / "elsewhere" / "photos"
    moved.parent.mkdir()
    place.root.rename(moved)
    assert sides(place.load(moved)) == before
    listed = tmp_path / "list.csv"
    rows = [(path, path.parent.name) for path in moved.rglob("*.png")]
    listed.write_text("path,label\n" + "".join(f"{path},{name}\n" for path, name in rows))
    assert sides(place.load(listed)) == before  # as nothing is at the first place any more


def test_it_is_said_in_one_line_and_how_to_undo_it(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.split()
    command = f"probe dataset split '{place.root}' --cache-dir '{place.cache}' --remove"
    assert {one.getMessage() for one in caplog.records} == {
        f"my photos: its stored split is used (train 84, val 18, test 18); `{command}` removes it"
    }
    invoke("dataset", "split", place.root, "--remove", "--cache-dir", place.cache)
    assert list(place.load().splits) == ["train"]
    with pytest.raises(UsageError, match="no split is stored"):
        invoke("dataset", "split", place.root, "--remove", "--cache-dir", place.cache)


def test_new_images_are_left_out_until_they_are_divided(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.split()
    before = sides(place.load())
    write(place.root, {"cat": 40, "dog": 20, "owl": 10}, seed=1)
    (place.root / "cat" / "0-3.png").unlink()
    gone = set(before) - set(sides(place.load()))
    assert len(gone) == 1
    assert "70 images are not in it and left out until `probe dataset split" in caplog.text
    told = place.split()
    assert (told["added"], told["gone"]) == (70, 1)
    after = sides(place.load())
    assert {one: after[one] for one in before if one not in gone} == {
        one: side for one, side in before.items() if one not in gone
    }
    assert len(after) == 189
    shares = {name: sum(map(sum, [each])) / 189 for name, each in counts(place.load()).items()}
    assert abs(shares["val"] - 0.15) < 0.01
    assert abs(shares["test"] - 0.15) < 0.01
    assert len(read_split(Path(told["path"])).side) == 190  # what left may come back


def test_a_few_new_images_do_not_swell_what_is_held_out(place: Place) -> None:
    place.split()
    for seed in range(1, 12):
        write(place.root, {"cat": 2, "owl": 1}, seed=seed)
        place.split()
    found = {name: sum(each) for name, each in counts(place.load()).items()}
    assert sum(found.values()) == 153
    assert all(abs(found[name] - 0.15 * 153) <= 2 for name in ("val", "test"))


def test_a_copy_of_an_old_image_joins_it(place: Place) -> None:
    place.split()
    before = place.load()
    for name, split in before.splits.items():
        source = place.root / split.ids[0]
        shutil.copy(source, place.root / "owl" / f"another {name}.png")
    after = place.load()  # without dividing anew: its content is known
    for name, split in after.splits.items():
        assert f"owl/another {name}.png" in split.ids


def test_a_new_class_is_asked_for_and_then_trained_on(place: Place) -> None:
    place.split()
    write(place.root, {"fox": 1}, seed=5)
    with pytest.raises(DataError, match=r"no image of 'fox' is in its stored split; `probe data"):
        place.load()
    place.split()
    assert counts(place.load())["train"][2] == 1


def test_groups_stay_whole_also_new_ones(place: Place, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = sorted(place.root.rglob("*.png"))
    patients = [f"p{number}" for number in rng.integers(0, 30, len(paths))]
    listed = tmp_path / "list.csv"

    def list_them(count: int) -> None:
        rows = zip(paths[:count], patients, strict=False)
        listed.write_text(
            "path,label,patient\n"
            + "".join(f"{path},{path.parent.name},{patient}\n" for path, patient in rows)
        )

    def groups() -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for name, split in place.load(listed).splits.items():
            for patient in split.columns["patient"]:
                found.setdefault(patient, set()).add(name)
        return found

    paths = [paths[k] for k in rng.permutation(len(paths))]
    list_them(80)
    told = place.split("--group", "patient", name=listed)
    assert told["recipe"]["group"] == ["patient"]
    old = groups()
    assert {len(one) for one in old.values()} == {1}
    list_them(120)
    assert place.split(name=listed)["added"] == 40
    new = groups()
    assert {len(one) for one in new.values()} == {1}
    assert {patient: new[patient] for patient in old} == old
    with pytest.raises(UsageError, match="--group"):
        place.split("--group", "site", name=listed)


def test_the_split_depends_on_content_labels_and_seed_alone(place: Place, tmp_path: Path) -> None:
    place.split()
    other = Place(tmp_path / "other")
    for number, path in enumerate(sorted(place.root.rglob("*.png"), reverse=True)):
        target = other.root / path.parent.name / f"{number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    other.split()
    assert sides(other.load()) == sides(place.load())
    again = Place(tmp_path / "again")
    shutil.copytree(place.root, again.root)
    again.split("--seed", 7)
    assert sides(again.load()) != sides(place.load())


def test_datasets_that_share_images_keep_apart(place: Place, tmp_path: Path) -> None:
    place.split()
    copy = tmp_path / "a copy"
    shutil.copytree(place.root, copy)
    assert list(place.load(copy).splits) == ["train"]  # its own, as the first is still there
    shutil.rmtree(place.root)
    assert list(place.load(copy).splits) == list(SIDES)  # it was moved, as far as one can see
    for name in ("cat", "dog"):
        shutil.rmtree(copy / name)
    write(copy, {"cat": 30, "dog": 30}, seed=9)
    assert list(place.load(copy).splits) == ["train"]  # 20 of 180 images in common


def test_a_moved_dataset_takes_its_split_along(place: Place, tmp_path: Path) -> None:
    first = Path(place.split()["path"])
    before = sides(place.load())
    moved = tmp_path / "moved"
    place.root.rename(moved)
    write(moved, {"cat": 10}, seed=3)
    told = place.split(name=moved)
    assert told["moved_from"] == str(place.root)
    assert told["added"] == 10
    assert not first.exists()
    assert before.items() <= sides(place.load(moved)).items()
    moved.rename(place.root)
    invoke("dataset", "split", place.root, "--remove", "--cache-dir", place.cache)
    assert list(place.load().splits) == ["train"]
    assert list((place.cache / "splits").iterdir()) == []


def test_a_link_leads_to_the_same_split(
    place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    link = tmp_path / "a link"
    link.symlink_to(place.root, target_is_directory=True)
    place.split(name=link)
    before = sides(place.load(link))
    assert set(before.values()) == set(SIDES)
    assert sides(place.load()) == before
    told = place.split()
    assert (told["added"], told.get("moved_from")) == (0, None)
    assert len(list((place.cache / "splits").iterdir())) == 1
    assert "made where it was" not in caplog.text
    assert sides(place.load(link)) == before
    invoke("dataset", "split", link, "--remove", "--cache-dir", place.cache)
    assert list(place.load().splits) == ["train"]


def test_a_file_of_groups_is_found_again_from_elsewhere(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = place.load().splits["train"].ids
    (tmp_path / "groups.csv").write_text("".join(f"{one},{one[-6:]}\n" for one in ids))
    monkeypatch.chdir(tmp_path)
    told = place.split("--group", "groups.csv")
    assert told["recipe"]["group"] == [str(tmp_path / "groups.csv")]
    for number in {one[-6:] for one in ids}:
        found = {
            name for name, split in place.load().splits.items()
            for one in split.ids if one.endswith(number)
        }  # fmt: skip
        assert len(found) == 1
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    assert place.split()["added"] == 0
    assert place.split("--group", "../groups.csv")["added"] == 0


def test_own_splits_are_left_alone(tmp_path: Path) -> None:
    place = Place(tmp_path)
    write(place.root / "train", {"a": 30, "b": 30})
    write(place.root / "test", {"a": 5, "b": 5}, seed=1)
    with pytest.raises(UsageError, match=r"has test images of its own; .* add --from-train"):
        place.split()
    with pytest.raises(UsageError, match=r"--test 0\.1: my photos has test images of its own"):
        place.split("--from-train", "--test", 0.1)
    told = place.split("--from-train", "--val", 0.2)
    assert told["images"] == {"train": 48, "val": 12}
    assert counts(place.load()) == {"train": [24, 24], "val": [6, 6], "test": [5, 5]}
    write(place.root / "val", {"a": 5, "b": 5}, seed=2)
    with pytest.raises(DataError, match=r"has val images of its own, and a split is stored"):
        place.load()
    only_test = tmp_path / "tests only"
    write(only_test / "test", {"a": 3, "b": 3})
    with pytest.raises(UsageError, match="no train images to divide"):
        place.split(name=only_test)


def test_a_dataset_with_a_name(tmp_path: Path) -> None:
    cache = ("--cache-dir", tmp_path)
    told = probe_json("dataset", "split", "digits", "--test", 0.2, *cache)
    assert told["images"] == {"train": 1168, "val": 270, "test": 359}
    found = load_dataset("digits", cache_dir=tmp_path, splits=["test"])
    assert len(found.splits["test"]) == 359
    shown = probe_json("dataset", "show", "digits", "--read", "names", *cache)
    assert shown["images"] == told["images"]


def test_several_labels(place: Place) -> None:
    rows = [
        (path, "|".join(sorted({path.parent.name, ("even", "odd")[number % 2]})))
        for number, path in enumerate(sorted(place.root.rglob("*.png")))
    ]
    listed = place.root / "list.csv"
    listed.write_text("path,labels\n" + "".join(f"{path},{names}\n" for path, names in rows))
    assert place.split(name=listed)["images"] == {"train": 84, "val": 18, "test": 18}
    dataset = place.load(listed)
    for name in ("val", "test"):
        assert (np.abs(dataset.splits[name].labels.sum(axis=0) - [9, 6, 9, 9, 3]) <= 1).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--val", "1.2"], r"--val 1\.2: give a share"),
        (["--val", "0.6", "--test", "0.4"], "nothing is left to train"),
        (["--val", "0", "--test", "0"], "nothing is held out"),
        (["--group", "duplicates"], "near-duplicates are known from features"),
        (["--group", "patient"], "there is no such file"),
    ],
)
def test_what_makes_no_sense_leaves_nothing_behind(
    place: Place, options: list[str], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        place.split(*options)
    assert not (place.cache / "splits").exists()


def test_other_shares_are_refused_where_it_is_divided(place: Place) -> None:
    path = Path(place.split()["path"])
    before = path.read_bytes()
    for option, value in (("--val", 0.3), ("--test", 0.0), ("--seed", 1), ("--group", "x")):
        with pytest.raises(UsageError, match=f"{option}: my photos is divided already"):
            place.split(option, value)
    assert path.read_bytes() == before
    place.split("--val", 0.15, "--seed", 42)  # as before
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: text[text.index("\n") + 1 :],
        lambda text: text.replace(",train,", ",elsewhere,", 1),
        lambda text: text.replace("0", "g"),
        lambda text: "# [[[[" + text,
        lambda text: "\0" * 100,
        lambda text: "# " + "[" * 10_000 + "\n",
    ],
)
def test_a_damaged_file_is_one_line_and_can_be_removed(
    place: Place, damage: Callable[[str], str]
) -> None:
    path = Path(place.split()["path"])
    path.write_text(damage(path.read_text()))
    with pytest.raises(DataError, match="is no stored split, or damaged") as caught:
        place.load()
    assert "\n" not in str(caught.value)
    other = write(place.root.parent / "other", {"a": 3, "b": 3}, seed=8)
    assert list(place.load(other).splits) == ["train"]  # another's damage is no matter
    invoke("dataset", "split", place.root, "--remove", "--cache-dir", place.cache)
    assert list(place.load().splits) == ["train"]


def test_images_that_cannot_be_read(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    (place.root / "cat" / "gone.png").symlink_to(place.root / "nowhere.png")
    (place.root / "cat" / "broken.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match=r"cannot be opened.*--skip-bad"):
        place.split()
    told = place.split("--skip-bad")
    assert sum(told["images"].values()) == 120
    assert sum(map(sum, counts(place.load(skip_bad=True)).values())) == 120
    assert "not in it" not in caplog.text
    assert place.split("--skip-bad")["added"] == 0


def test_the_exported_list_is_the_dataset(place: Place, tmp_path: Path) -> None:
    exported = tmp_path / "lists" / "all.csv"
    place.split("--export", exported)
    with exported.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 120
    shutil.rmtree(place.cache)
    assert sides(place.load(exported)) == sides(Place(tmp_path).load(exported, workers=2))
    assert counts(place.load(exported))["val"] == [9, 6, 3]


def test_python_divides_as_the_command_does(place: Place) -> None:
    found = probe.split_dataset(str(place.root), val=0.1, cache_dir=place.cache, quiet=True)
    assert found.images == {"train": 90, "val": 12, "test": 18}
    assert json.loads(json.dumps(found.to_json())) == place.split() | {"added": 120}
    with pytest.raises(UsageError, match="images in memory have no place"):
        probe.split_dataset(([np.zeros((4, 4, 3), np.uint8)] * 4, [0, 1, 0, 1]), quiet=True)


def test_a_folder_that_cannot_be_written(place: Place) -> None:
    place.cache.mkdir()
    (place.cache / "splits").write_text("a file in its way")
    with pytest.raises(probe.ProbeError) as caught:
        place.split()
    assert "\n" not in str(caught.value)


def test_two_at_once_leave_one_whole_file(place: Place) -> None:
    words = ["dataset", "split", str(place.root), "--cache-dir", str(place.cache)]
    running = [
        subprocess.Popen([sys.executable, "-m", "probe", *words], stdout=subprocess.DEVNULL)
        for _ in range(2)
    ]
    assert [one.wait(60) for one in running] == [0, 0]
    (path,) = (place.cache / "splits").iterdir()
    assert len(read_split(path).side) == 120


def images_at_hand(features: probe.FeatureSet, cache: Path) -> dict[str, list[bytes]]:
    """Return the content of the images of an entry, as a page or a promotion finds them."""
    (entry,) = [one for one in Store(cache).entries() if one.name == features.name]
    whole = images_of_entry(repeat(entry.key, entry.provenance, cache_dir=cache))
    shown = find_images(entry.provenance, cache)
    found = {}
    for name, split in features.splits.items():
        for dataset in (whole, shown):
            there = dataset.images_of(name)
            assert there is not None
            same = there.same_images(split.ids, split.content, name)
            found[name] = [one.tobytes() for one in same.images.content()]
    return found


@pytest.mark.parametrize("per_class", [None, 12])
def test_images_of_entries_are_found_whatever_splits_are_stored_since(
    place: Place, per_class: int | None
) -> None:
    def extract() -> probe.FeatureSet:
        return probe.extract(
            str(place.root), "resnet18", weights="random:0", size=32, per_class=per_class,
            cache_dir=place.cache, quiet=True,
        )  # fmt: skip

    undivided = extract()
    place.split()
    divided = extract()
    assert set(divided.splits) == set(SIDES)
    for features in (undivided, divided):
        assert set(images_at_hand(features, place.cache)) == set(features.splits)
    invoke("dataset", "split", place.root, "--remove", "--cache-dir", place.cache)
    found = images_at_hand(divided, place.cache)
    assert found["val"] == [one.tobytes() for one in divided["val"].content]


def test_extract_has_the_splits(place: Place) -> None:
    place.split()
    features = probe.extract(
        str(place.root), "resnet18", weights="random:0", size=32, cache_dir=place.cache, quiet=True
    )
    assert {name: len(split.ids) for name, split in features.splits.items()} == {
        "train": 84, "val": 18, "test": 18,
    }  # fmt: skip
