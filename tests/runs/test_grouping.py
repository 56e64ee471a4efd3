"""What `--group` says: a column of the list, a file, near-duplicates."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from probe.bench.fitting import _weights_of
from probe.datasets.table import read_table
from probe.errors import UsageError
from probe.evaluation.parts import Part
from probe.evaluation.units import ALONE
from probe.runs.duplicates import near_groups
from probe.runs.grouping import (
    columns_of,
    find_groups,
    hint,
    list_of,
    read_groups,
    read_weights,
    related_images,
)
from probe.runs.head_request import HeadRequest

IDS = {"train": ["a.png", "b.png", "c.png"], "test": ["d.png", "e.png"]}


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    path = tmp_path / "list.csv"
    path.write_text(
        "image,label,Patient,site,split\n"
        "a.png,cat,p1,x,train\nb.png,dog,p1,,train\nc.png,cat,p2,y,train\n"
        "d.png,dog,p3,x,test\ne.png,cat,p2,y,test\n"
    )
    return path


def test_a_column_of_the_list_groups_its_images(listed: Path) -> None:
    (found,) = find_groups(["patient"], IDS, listed=listed)
    assert found.by == "Patient"
    assert {name: of.tolist() for name, of in found.of.items()} == {
        "train": [1, 1, 2], "test": [3, 2],
    }  # fmt: skip
    assert columns_of(listed)["site"]["a.png"] == "x"
    assert list(read_table(listed).columns) == ["Patient", "site"]


def test_images_without_a_group_are_counted(listed: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no group for 1 images \(1 of train\), first 'b.png'"):
        find_groups(["site"], IDS, listed=listed)
    file = tmp_path / "g.csv"
    file.write_text("a.png,1\nd.png,2\n")
    with pytest.raises(UsageError, match=r"3 images \(2 of train, 1 of test\), first 'b.png'"):
        find_groups([str(file)], IDS, listed=None)


def test_a_split_that_a_file_says_nothing_of_has_no_groups(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "g.csv"
    file.write_text("id,group\na.png,1\nb.png,1\nc.png,2\n")
    (found,) = find_groups([str(file), str(file)], IDS, listed=None)
    assert found.by == "g.csv"
    assert found.of["train"].tolist() == [1, 1, 2]
    assert found.of["test"].tolist() == [ALONE, ALONE]
    assert "names no test image, so each of them counts as a group" in caplog.text


def test_what_is_neither_column_nor_file_says_what_there_is(listed: Path) -> None:
    with pytest.raises(UsageError, match="its columns are Patient, site"):
        find_groups(["patients"], IDS, listed=listed)
    with pytest.raises(
        UsageError, match=r"no list of images.*a CSV of `id,group`, or `duplicates`"
    ):
        find_groups(["patients"], IDS, listed=None)
    with pytest.raises(UsageError, match="not there any more"):
        find_groups(["patient"], IDS, listed=listed.with_name("gone.csv"))


def test_an_entry_remembers_which_list_it_is_of() -> None:
    assert list_of({"request": {"dataset": "/x/list.csv"}}) == Path("/x/list.csv")
    assert list_of({"request": {"dataset": "/x/photos"}}) is None
    assert list_of({}) is None


@pytest.mark.parametrize(
    ("column", "values", "hinted"),
    [
        ("patient", [f"p{row // 5}" for row in range(40)], True),
        ("who", [f"p{row // 5}" for row in range(40)], True),  # eight values, five rows each
        ("camera", ["a", "b"] * 20, False),  # a kind of image
        ("note", [f"n{row}" for row in range(40)], False),  # nothing repeats
        ("weight", [f"{row // 5}.5" for row in range(40)], False),  # a measurement
        ("site", ["a", "b"] * 20, True),  # by its name
    ],
)
def test_a_column_that_repeats_like_a_patient_gets_a_hint(
    column: str, values: list[str], hinted: bool, tmp_path: Path
) -> None:
    path = tmp_path / "list.csv"
    rows = [f"{row}.png,{'cat' if row % 2 else 'dog'},{one}" for row, one in enumerate(values)]
    path.write_text("\n".join([f"image,label,{column}", *rows]) + "\n")
    line = hint(path)
    assert (line is not None) == hinted
    if line is not None:
        assert f"add --group {column}" in line
        assert f"{len(set(values))} values on 40 images" in line
        assert "\n" not in line


def test_near_duplicates_alone_do_not_silence_the_hint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "list.csv"
    path.write_text("image,label,patient\n" + "".join(f"{i}.png,x,p{i // 5}\n" for i in range(40)))
    content = np.arange(40, dtype=np.uint8)[:, None]
    images = SimpleNamespace(content=lambda: content)
    split = cast("Any", SimpleNamespace(ids=[f"{i}.png" for i in range(40)], images=images))
    for wanted, said in ((["duplicates"], 1), ([], 1), (["patient", "duplicates"], 0)):
        caplog.clear()
        related_images({"train": split}, wanted, str(path))
        assert len(caplog.messages) == said


def test_near_duplicates_are_one_group_across_splits() -> None:
    random = np.random.default_rng(0)
    pictures = {"train": [0, 1, 2, 1, 3, 4, 5, 6, 7, 8], "test": [9, 1, 2, 10]}
    base = random.normal(size=(11, 40))

    def part(name: str) -> Part:
        X = base[pictures[name]] + 0.02 * random.normal(size=(len(pictures[name]), 40))
        ids = [f"{name}/{row}" for row in range(len(X))]
        return Part(X=X.astype(np.float32), y=np.zeros(len(X), np.int64), ids=ids)

    found = near_groups({name: part(name) for name in pictures}, threshold=0.95)
    of = np.concatenate([found.of["train"], found.of["test"]])
    owner = np.concatenate([pictures["train"], pictures["test"]])
    np.testing.assert_array_equal(of[:, None] == of, owner[:, None] == owner)


def test_a_chain_of_near_duplicates_is_one_group(caplog: pytest.LogCaptureFixture) -> None:
    angle = np.arange(0, 2, 0.1)  # each is near the next, the ends are opposite
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    X = np.concatenate([circle, -circle]).astype(np.float32)
    part = Part(X=X, y=np.zeros(40, np.int64), ids=[str(row) for row in range(40)])
    found = near_groups({"train": part}, threshold=0.98)
    assert len(set(found.of["train"][:20].tolist())) == 1
    assert "the largest group of near-duplicates" in caplog.text


def test_groups_of_a_spreadsheet(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text("a,1\nb,é\na,1\n", encoding="utf-8-sig")
    assert read_groups(tmp_path / "g.csv") == {"a": "1", "b": "é"}


@pytest.fixture
def weighed(tmp_path: Path) -> Path:
    listed = tmp_path / "list.csv"
    values = ["1", "3", "0", "2", "", "-1", "nan", "many"]
    for number in range(len(values)):
        (tmp_path / f"{number}.png").write_bytes(b"")
    lines = [f"{number}.png,a,{value},0" for number, value in enumerate(values)]
    listed.write_text("image,label,Trust,none\n" + "\n".join(lines) + "\n")
    return listed


def test_weights_of_a_column_average_to_1_over_training_images(weighed: Path) -> None:
    found = read_weights("trust", {"train": ["0.png", "1.png", "2.png"], "val": ["3.png"]}, weighed)
    assert found["train"].tolist() == [0.75, 2.25, 0]
    assert found["val"].tolist() == [1.5]


@pytest.mark.parametrize(
    ("column", "rows", "words"),
    [
        ("weight", [0], "no such column; its columns are Trust, none"),
        (
            "trust",
            [0, 4, 5],
            "2 of 3 images have no number from 0 there, first '4.png' with nothing",
        ),
        ("trust", [0, 5], "first '5.png' with '-1'"),
        ("trust", [6], "first '6.png' with 'nan'"),
        ("trust", [7], "first '7.png' with 'many'"),
        ("none", [0, 1], "no training image has a weight above 0"),
    ],
)
def test_weights_that_are_none_are_refused(
    weighed: Path, column: str, rows: list[int], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        read_weights(column, {"train": [f"{row}.png" for row in rows]}, weighed)
    with pytest.raises(UsageError, match="a column of a list of images, and the dataset has none"):
        read_weights(column, {"train": ["0.png"]}, None)


def test_a_head_that_counts_rows_alike_is_refused_by_name_before_anything_is_read() -> None:
    with pytest.raises(UsageError, match="the knn head counts all rows alike; those that take"):
        HeadRequest(solver="knn", sample_weight="trust").check()
    HeadRequest(solver="ridge", sample_weight="trust").check()


def test_other_weights_make_another_run_of_a_bench(weighed: Path) -> None:
    splits = {"train": SimpleNamespace(ids=["0.png", "1.png"])}
    entry = SimpleNamespace(provenance={"request": {"dataset": str(weighed)}})
    source = cast("Any", SimpleNamespace(splits=splits, entry=entry))
    before = _weights_of(source, "trust")
    assert _weights_of(source, "trust") == before
    assert _weights_of(source, None) == {}
    weighed.write_text(weighed.read_text().replace("1.png,a,3", "1.png,a,4"))
    assert _weights_of(source, "trust") != before
