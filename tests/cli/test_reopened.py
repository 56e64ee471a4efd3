"""What goes back to an entry finds the images of every form, and refuses labels that changed."""

from __future__ import annotations

import csv
import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from probe.errors import DataError
from probe.predict import find_images
from tests.commands import probe, probe_json

OPTIONS = ("--backbone", "resnet18", "--size", "32", "--weights", "random:0")
CLASSES, EACH = ("cat", "dog"), 12


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with blanks in its name: JPEGs as ``photos/``, ``two.csv`` and shards."""
    data = os.environ.get("PROBE_TEST_DATA")
    if not data:
        pytest.skip("PROBE_TEST_DATA is not set, so there are no photographs")
    folder = tmp_path / "my photos"
    with tarfile.open(Path(data) / "cifar10" / "test.tar") as archive:
        for name in (f"{one}/{n:04d}.jpg" for one in CLASSES for n in range(EACH)):
            file = folder / "photos" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(archive.extractfile(name).read())  # type: ignore[union-attr]
    files = sorted((folder / "photos").rglob("*.jpg"))
    with (folder / "two.csv").open("w", newline="") as table:
        writer = csv.writer(table)
        writer.writerow(["path", "label", "site"])
        for n, file in enumerate(files):
            writer.writerow([file.relative_to(folder), file.parent.name, "AB"[n % 2]])
    for shard in range(2):
        with tarfile.open(folder / f"shard-{shard}.tar", "w") as archive:
            for n, file in enumerate(files[shard::2]):
                for ending, data_ in (("jpg", file.read_bytes()), ("cls", file.parent.name)):
                    body = data_ if isinstance(data_, bytes) else data_.encode()
                    member = tarfile.TarInfo(f"{n:04d}{shard}.{ending}")
                    member.size = len(body)
                    archive.addfile(member, io.BytesIO(body))
    return folder


def extract(place: Path, dataset: str, *more: str) -> Any:
    return probe_json("extract", *OPTIONS, "--dataset", str(place / dataset), *more,
                      "--cache-dir", place / "cache")  # fmt: skip


def test_shards_named_by_a_pattern_are_found_again(place: Path) -> None:
    extract(place, "shard-{0..1}.tar")
    said = probe("cache", "verify", "--sample", "3", "--cache-dir", place / "cache")
    assert "forwarded  3 rows again" in said
    assert "nothing to do" in probe("cache", "sync", "--cache-dir", place / "cache")
    (place / "shard-0.tar").rename(place / "elsewhere.tar")
    with pytest.raises(DataError, match="no images there; say where they are now by --dataset-r"):
        probe("cache", "sync", "--cache-dir", place / "cache")


def test_the_stored_split_of_shards_is_not_taken_by_a_folder_of_copies(place: Path) -> None:
    cache = ("--cache-dir", place / "cache")
    probe("dataset", "split", place / "shard-{0..1}.tar", *cache)
    own = probe_json("dataset", "show", place / "shard-{0..1}.tar", "--read", "names", *cache)
    assert [*own["images"]] == ["train", "val", "test"]
    copies = probe_json("dataset", "show", place / "photos", "--read", "names", *cache)
    assert copies["images"] == {"train": len(CLASSES) * EACH}


@pytest.mark.parametrize("command", ["bundle", "promote", "report"])
def test_a_run_does_not_take_the_names_of_other_classes(place: Path, command: str) -> None:
    extract(place, "two.csv")
    cache = ("--cache-dir", str(place / "cache"))
    run = Path(probe_json("head", "--head", "ridge", *cache)["run"])
    table, renamed = place / "two.csv", {"cat": "A", "dog": "B"}
    before = table.read_text()
    lines = [line.split(",") for line in before.splitlines()]
    changed = [[path, renamed.get(label, label), site] for path, label, site in lines]
    table.write_text("\n".join(map(",".join, changed)) + "\n")
    extract(place, "two.csv")
    with pytest.raises(DataError, match=r"like cat, dog apart, .* since with others \(A, B\)"):
        probe(command, run, *cache)
    assert not (run / "bundle").exists()
    table.write_text(before)
    assert extract(place, "two.csv")["forwarded"] == 0
    if command == "bundle":
        assert "2: cat, dog" in probe("bundle", run, *cache)


def test_two_label_columns_have_an_entry_each(place: Path) -> None:
    first = extract(place, "two.csv")["entries"][0]["path"]
    cache = ("--cache-dir", str(place / "cache"))
    run = Path(probe_json("head", "--head", "ridge", *cache)["run"])
    done = extract(place, "two.csv", "--label", "site")
    assert done["forwarded"] == 0
    assert Path(done["entries"][0]["path"]).name.startswith("two_site-resnet18")
    assert Path(first).is_file()
    assert "2: cat, dog" in probe("bundle", run, *cache)
    assert "nothing to do" in probe("cache", "sync", *cache)


def test_all_images_of_shards_are_predicted_whatever_split_is_stored(place: Path) -> None:
    cache = place / "cache"
    (place / "shards").mkdir()
    for file in place.glob("shard-*.tar"):
        file.rename(place / "shards" / file.name)
    shards = place / "shards"
    probe("dataset", "split", shards, "--cache-dir", cache)
    with tarfile.open(shards / "shard-2.tar", "w") as archive:
        archive.add(place / "photos" / "cat" / "0000.jpg", "new.jpg")
        archive.add(place / "photos" / "dog" / "0000.jpg", "more.jpg")
    found = find_images([str(shards)], cache_dir=cache)
    assert len(found) == len(CLASSES) * EACH + 2
    (place / "photos" / "copy.tar").write_bytes((shards / "shard-0.tar").read_bytes())
    files = sorted(str(one) for one in (place / "photos").rglob("*.jpg"))
    assert find_images([str(place / "photos")]) == files  # an archive beside images is no image


def test_what_is_found_says_where_its_images_are_now(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = ("--cache-dir", str(place / "cache"))
    extract(place, "photos")
    probe("head", "--head", "ridge", *cache)
    (place / "old").mkdir()
    (place / "photos").rename(place / "old" / "photos")
    with pytest.raises(DataError, match="no images there"):
        probe("cache", "verify", "--sample", "3", *cache)
    caplog.clear()
    assert extract(place, "old/photos")["forwarded"] == 0
    assert "written anew" not in caplog.text
    assert "forwarded  3 rows again" in probe("cache", "verify", "--sample", "3", *cache)
    before = next((place / "cache" / "features").glob("*.h5")).stat().st_mtime_ns
    assert extract(place, "old/photos")["forwarded"] == 0
    assert next((place / "cache" / "features").glob("*.h5")).stat().st_mtime_ns == before
