"""What a list says of photographs goes with them: to entries, runs, and tables of answers."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.cache.joining import join
from probe.cache.store import Store
from probe.errors import CacheError, UsageError
from probe.evaluation.predictions import load_predictions
from tests.commands import invoke, probe_json

EACH = {"train": 24, "test": 10}
OPTIONS = ("--backbone", "squeezenet1_1", "--layer", "fire2", "--size", "32")
Lines = dict[str, dict[str, str]]


def write_list(path: Path, lines: Lines) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, next(iter(lines.values())))
        writer.writeheader()
        writer.writerows(lines.values())


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def lines() -> Lines:
    """The lines of a list by image: 24 + 10 cats and dogs, of sites and of herds."""
    found = {}
    for split, each in EACH.items():
        for name in ("cat", "dog"):
            for number in range(each):
                image = f"{split}/{name}/{number:04d}.jpg"
                found[image] = {
                    "image": image, "label": name, "split": split,
                    "site": ["Zürich", "Bern, north"][number % 2], "herd": f"{name}{number // 4}",
                    "answer": f'said "{number}"\nhere', "trust": str(1 + number % 2),
                }  # fmt: skip
    return found


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory, lines: Lines) -> Path:
    data = os.environ.get("PROBE_TEST_DATA")
    if not data:
        pytest.skip("PROBE_TEST_DATA is not set, so there are no photographs")
    folder = tmp_path_factory.mktemp("with columns") / "photo graphs"
    for split in EACH:
        with tarfile.open(Path(data) / "cifar10" / f"{split}.tar") as archive:
            wanted = {one.removeprefix(f"{split}/") for one in lines if one.startswith(split)}
            for member in archive:
                if member.name in wanted:
                    file = folder / split / member.name
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(archive.extractfile(member).read())  # type: ignore[union-attr]
    assert {one.relative_to(folder).as_posix() for one in folder.rglob("*.jpg")} == set(lines)
    return folder


@pytest.fixture
def world(tmp_path: Path, photographs: Path, lines: Lines) -> Path:
    """A folder with the photographs and their list, and a cache with an entry of them."""
    shutil.copytree(photographs, tmp_path / "in")
    write_list(tmp_path / "in" / "list.csv", lines)
    extract(tmp_path)
    return tmp_path


def extract(world: Path) -> Any:
    listed = world / "in" / "list.csv"
    return probe_json("extract", *OPTIONS, "--weights", "random:0", "--dataset", listed,
                      "--cache-dir", world / "cache")  # fmt: skip


def head(world: Path, *more: str) -> Any:
    return probe_json("head", "--head", "ridge", *more, "--cache-dir", world / "cache")


def test_the_list_may_go_once_features_are_there(world: Path, lines: Lines) -> None:
    shutil.move(world / "in", world / "elsewhere")
    done = head(world, "--group", "HERD", "--sample-weight", "trust")
    assert done["groups"]["by"] == "herd"
    assert done["groups"]["units"]["test"] == 6  # two classes, four of a herd
    told = done["subgroups"]
    assert told["split"] == "test"
    assert list(told["columns"]) == ["site", "trust"]
    assert sum(one["n"] for one in told["columns"]["site"]["values"]) == 20
    assert "shortcut" in told["columns"]["site"]
    with pytest.raises(UsageError, match="their columns are site, herd, answer, trust; `probe ex"):
        head(world, "--group", "flock")
    probe_json("audit", "--group", "herd", "--cache-dir", world / "cache")
    store = Store(world / "cache")
    joined = join(store, store.choose(None))
    for split in joined.splits.values():
        for name in ("site", "herd", "answer", "trust"):
            assert split.columns[name] == [lines[one][name] for one in split.ids]


def test_verify_reads_them(world: Path) -> None:
    (told,) = probe_json("cache", "verify", "--cache-dir", world / "cache")["entries"]
    assert told["columns"] == ["site", "herd", "answer", "trust"]
    said = invoke("cache", "verify", "--cache-dir", world / "cache").stdout
    assert "labels, ids, columns and the key match" in " ".join(said.split())


def test_predictions_have_them_and_are_written_as_a_table(world: Path, lines: Lines) -> None:
    done = head(world, "--folds", "3", "--val-size", "0.25")
    run = Path(done["run"])
    said = load_predictions(run)
    assert sorted(said) == ["oof", "test", "val"]
    for one in said.values():
        assert one.columns["site"] == [lines[name]["site"] for name in one.ids.tolist()]
    shown = probe_json("runs", "show", run.name, "--csv", world / "a b.csv",
                       "--cache-dir", world / "cache")  # fmt: skip
    assert shown["metrics"] == done["metrics"]
    rows = read_csv(world / "a b.csv")
    assert list(rows[0]) == ["image", "split", "label", "answer", "probability", "right", "site",
                             "herd", "answer_", "trust"]  # fmt: skip
    for split, one in said.items():
        own = [row for row in rows if row["split"] == split]
        assert [row["image"] for row in own] == one.ids.tolist()
        assert [row["answer"] for row in own] == [["cat", "dog"][k] for k in one.answers.tolist()]
        right = [row["label"] == row["answer"] for row in own]
        assert [row["right"] == "1" for row in own] == right
        assert np.mean(right) == pytest.approx(done["metrics"][split]["top1"])
        p = one.confidence_at(done["temperature"])
        np.testing.assert_allclose([float(row["probability"]) for row in own], p, rtol=1e-5)
    for row in rows:
        line = lines[row["image"]]
        assert (row["label"], row["site"], row["answer_"]) == (
            line["label"], line["site"], line["answer"],
        )  # fmt: skip
    # figures by site are those of the table
    for told in done["subgroups"]["columns"]["site"]["values"]:
        own = [row for row in rows if row["split"] == "test" and row["site"] == told["value"]]
        assert np.mean([row["right"] == "1" for row in own]) == pytest.approx(told["figure"])


def test_a_bundle_is_scored_with_the_columns_of_the_dataset_at_hand(
    world: Path, lines: Lines
) -> None:
    run = Path(head(world, "--recall", "0.5")["run"])
    probe_json("bundle", run, "--out", world / "model.probe", "--cache-dir", world / "cache")
    other = {name: {**line, "site": f"at {line['site']}"} for name, line in lines.items()}
    write_list(world / "in" / "other.csv", other)
    found = probe_json(
        "evaluate", world / "model.probe", "--dataset", world / "in" / "other.csv",
        "--group", "herd", "--csv", world / "answers.csv", "--split", "testing",
        "--cache-dir", world / "cache",
    )  # fmt: skip
    rows = read_csv(world / "answers.csv")
    assert len(rows) == found["n"] == 20
    assert found["groups"] == 6
    for told in found["subgroups"]["columns"]["site"]["values"]:
        own = [row for row in rows if row["site"] == told["value"]]
        assert told["n"] == len(own) == 10
        assert {row["split"] for row in own} == {"test"}
    probe_json("runs", "show", run.name, "--csv", world / "run.csv", "--cache-dir", world / "cache")
    of_run = {row["image"]: row for row in read_csv(world / "run.csv") if row["split"] == "test"}
    for row in rows:  # the run says of an image what its bundle does
        assert of_run[row["image"]]["answer"] == row["answer"]
        p = float(of_run[row["image"]]["probability"])
        assert p == pytest.approx(float(row["probability"]), rel=1e-4)
    at = found["two_classes"]["at_threshold"]["figures"]  # answers are the threshold's
    positive = [row for row in rows if row["label"] == "dog"]
    assert np.mean([row["answer"] == "dog" for row in positive]) == pytest.approx(at["recall"])
    assert np.mean([row["right"] == "1" for row in rows]) == pytest.approx(at["top1"])


def test_a_table_is_predicted_and_its_columns_stand_beside_the_answers(
    world: Path, lines: Lines
) -> None:
    run = Path(head(world)["run"])
    probe_json("bundle", run, "--out", world / "model.probe", "--cache-dir", world / "cache")
    listed = world / "in" / "list.csv"
    (world / "in" / "test" / "dog" / "0003.jpg").write_bytes(b"no image")
    words = ("predict", world / "model.probe", listed, "--cache-dir", world / "cache")
    done = invoke(*words, "--format", "csv", "--top-k", "1", code=1)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert list(rows[0]) == ["image", "rank", "label", "probability", "flags", "label_", "site",
                             "herd", "answer", "trust"]  # fmt: skip
    assert len(rows) == len(lines) - 1
    for row in rows:
        line = lines[Path(row["image"]).relative_to(world / "in").as_posix()]
        assert (row["label_"], row["site"], row["answer"]) == (
            line["label"], line["site"], line["answer"],
        )  # fmt: skip
    done = invoke(*words, "--format", "jsonl", code=1)
    told = map(json.loads, done.stdout.splitlines())
    assert [one["columns"]["site"] for one in told] == [row["site"] for row in rows]
    plain = invoke(*words[:2], world / "in" / "test" / "cat", *words[3:], "--format", "jsonl")
    assert "columns" not in plain.stdout


def test_mended_columns_come_in_step_by_extracting_again(world: Path, lines: Lines) -> None:
    mended = {name: {**line, "vet": f"v{line['herd'][-1]}"} for name, line in lines.items()}
    mended["train/cat/0000.jpg"]["site"] = "Genf"
    write_list(world / "in" / "list.csv", mended)
    why = invoke("cache", "explain", *OPTIONS, "--weights", "random:0", "--dataset",
                 world / "in" / "list.csv", "--cache-dir", world / "cache").stdout  # fmt: skip
    assert "these features; columns differ" in " ".join(why.split())
    assert extract(world)["forwarded"] == 0
    store = Store(world / "cache")
    (entry,) = store.entries()
    train = join(store, entry).splits["train"]
    assert train.columns["site"] == [mended[one]["site"] for one in train.ids]
    assert head(world, "--group", "vet")["groups"]["by"] == "vet"


def test_a_cell_that_is_too_long_leaves_its_column_out_with_a_line(
    world: Path, lines: Lines, caplog: pytest.LogCaptureFixture
) -> None:
    long = {name: {**line, "essay": "é" * (1 << 15)} for name, line in lines.items()}
    write_list(world / "in" / "list.csv", long)
    assert extract(world)["forwarded"] == 0
    assert "left out" not in caplog.text
    long["test/dog/0003.jpg"]["essay"] += "."
    write_list(world / "in" / "list.csv", long)
    extract(world)
    (said,) = [one for one in caplog.messages if "left out" in one]
    assert said == (
        "list: the column 'essay' is left out: a cell has 65,537 bytes, and at most 65,536 are kept"
    )
    store = Store(world / "cache")
    assert "essay" not in join(store, store.choose(None)).splits["train"].columns


def test_a_table_that_cannot_be_written_is_one_line(world: Path) -> None:
    run = Path(head(world)["run"])
    with pytest.raises(CacheError) as caught:
        invoke("runs", "show", run.name, "--csv", world / "in" / "list.csv" / "a.csv",
               "--cache-dir", world / "cache")  # fmt: skip
    assert "\n" not in str(caught.value)
