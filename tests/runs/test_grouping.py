"""What `--group` says: a column of the table, a file, near-duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from probe.bench.fitting import _weights_of
from probe.errors import UsageError
from probe.evaluation.parts import Part
from probe.evaluation.units import ALONE
from probe.runs.columns import Columns, columns_of
from probe.runs.duplicates import near_groups
from probe.runs.grouping import (
    find_groups,
    hint,
    read_groups,
    read_weights,
    related_images,
)
from probe.runs.head_request import HeadRequest

IDS = {"train": ["a.png", "b.png", "c.png"], "test": ["d.png", "e.png"]}


COLUMNS = {
    "train": {"Patient": ["p1", "p1", "p2"], "site": ["x", "", "y"]},
    "test": {"Patient": ["p3", "p2"], "site": ["x", "y"]},
}
NOTHING: Columns = {"train": {}, "test": {}}


def test_a_column_groups_the_images() -> None:
    (found,) = find_groups(["patient"], IDS, COLUMNS)
    assert found.by == "Patient"
    assert {name: of.tolist() for name, of in found.of.items()} == {
        "train": [1, 1, 2], "test": [3, 2],
    }  # fmt: skip


def test_a_column_that_a_split_lacks_groups_none_of_its_images(
    caplog: pytest.LogCaptureFixture,
) -> None:
    (found,) = find_groups(["patient"], IDS, {**COLUMNS, "test": {}})
    assert found.of["test"].tolist() == [ALONE, ALONE]
    assert "it names no test image" in caplog.text


def test_images_without_a_group_are_counted(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no group for 1 image \(1 of train\), first 'b.png'"):
        find_groups(["site"], IDS, COLUMNS)
    file = tmp_path / "g.csv"
    file.write_text("a.png,1\nd.png,2\n")
    with pytest.raises(UsageError, match=r"3 images \(2 of train, 1 of test\), first 'b.png'"):
        find_groups([str(file)], IDS, NOTHING)


def test_a_split_that_a_file_says_nothing_of_has_no_groups(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "g.csv"
    file.write_text("id,group\na.png,1\nb.png,1\nc.png,2\n")
    (found,) = find_groups([str(file), str(file)], IDS, NOTHING)
    assert found.by == "g.csv"
    assert found.of["train"].tolist() == [1, 1, 2]
    assert found.of["test"].tolist() == [ALONE, ALONE]
    assert "names no test image, so each of them counts as a group" in caplog.text


def test_what_is_neither_column_nor_file_says_what_there_is() -> None:
    with pytest.raises(UsageError, match="their columns are Patient, site; `probe extract` again"):
        find_groups(["patients"], IDS, COLUMNS)
    with pytest.raises(
        UsageError, match=r"no table says anything.*a CSV of `id,group`, or `duplicates`"
    ):
        find_groups(["patients"], IDS, NOTHING)


LIST = """image,label,Patient,site,split
a.png,cat,p1,x,train
b.png,dog,p1,,train
c.png,cat,p2,y,train
d.png,dog,p3,x,test
other.png,cat,p9,y,test
"""


@pytest.mark.parametrize(
    ("text", "told"),
    [(LIST, True), ("image,label\na.png,cat\nb.png,dog\n", False), ("no", False), (None, False)],
)
def test_of_an_entry_without_columns_the_list_is_read_if_it_is_there(
    tmp_path: Path, text: str | None, told: bool
) -> None:
    if text is not None:
        (tmp_path / "list.csv").write_text(text)
    splits = {name: SimpleNamespace(ids=ids, columns={}) for name, ids in IDS.items()}
    for named, read in (("list.csv", told), ("photos", False)):
        entry = SimpleNamespace(provenance={"request": {"dataset": str(tmp_path / named)}})
        found = columns_of(SimpleNamespace(entry=entry, splits=splits))
        wanted = {**COLUMNS, "test": {"Patient": ["p3", ""], "site": ["x", ""]}}
        assert found == (wanted if read else NOTHING)


def test_of_a_split_that_an_older_version_extracted_the_list_is_read(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(LIST)
    entry = SimpleNamespace(provenance={"request": {"dataset": str(tmp_path / "list.csv")}})
    own = {"site": ["n", "n", "s"]}
    splits = {
        "train": SimpleNamespace(ids=IDS["train"], columns=own),
        "test": SimpleNamespace(ids=IDS["test"], columns={}),
    }
    found = columns_of(SimpleNamespace(entry=entry, splits=splits))
    assert found == {"train": own, "test": {"Patient": ["p3", ""], "site": ["x", ""]}}


def test_columns_of_an_entry_stand_whatever_the_list_says_today(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("image,label,Patient\na.png,cat,p7\nb.png,dog,p8\n")
    entry = SimpleNamespace(provenance={"request": {"dataset": str(tmp_path / "list.csv")}})
    splits = {
        name: SimpleNamespace(ids=IDS[name], columns=columns) for name, columns in COLUMNS.items()
    }
    assert columns_of(SimpleNamespace(entry=entry, splits=splits)) == COLUMNS


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
    column: str, values: list[str], hinted: bool
) -> None:
    columns = {"train": {column: values[:30]}, "test": {column: values[30:]}}
    line = hint(columns, {"train": ["i"] * 30, "test": ["i"] * 10})
    assert (line is not None) == hinted
    if line is not None:
        assert f"add --group {column}" in line
        assert f"{len(set(values))} values on 40 images" in line
        assert "\n" not in line


def test_near_duplicates_alone_do_not_silence_the_hint(
    caplog: pytest.LogCaptureFixture,
) -> None:
    content = np.arange(40, dtype=np.uint8)[:, None]
    images = SimpleNamespace(content=lambda: content)
    columns = {"patient": [f"p{i // 5}" for i in range(40)]}
    ids = [f"{i}.png" for i in range(40)]
    split = cast("Any", SimpleNamespace(ids=ids, images=images, columns=columns))
    for wanted, said in ((["duplicates"], 1), ([], 1), (["patient", "duplicates"], 0)):
        caplog.clear()
        related_images({"train": split}, wanted)
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


TRUST = ["1", "3", "0", "2", "", "-1", "nan", "many"]


def weighed(rows: Sequence[int]) -> tuple[list[str], dict[str, list[str]]]:
    """Return ids and columns of some images."""
    columns = {"Trust": [TRUST[row] for row in rows], "none": ["0"] * len(rows)}
    return [f"{row}.png" for row in rows], columns


def test_weights_of_a_column_average_to_1_over_training_images() -> None:
    (train, trained), (val, held) = weighed([0, 1, 2]), weighed([3])
    found = read_weights("trust", {"train": train, "val": val}, {"train": trained, "val": held})
    assert found["train"].tolist() == [0.75, 2.25, 0]
    assert found["val"].tolist() == [1.5]


@pytest.mark.parametrize(
    ("column", "rows", "words"),
    [
        ("weight", [0], "no such column; their columns are Trust, none"),
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
def test_weights_that_are_none_are_refused(column: str, rows: list[int], words: str) -> None:
    ids, columns = weighed(rows)
    with pytest.raises(UsageError, match=words):
        read_weights(column, {"train": ids}, {"train": columns})
    with pytest.raises(UsageError, match="a column of a table of images, and no table says any"):
        read_weights(column, {"train": ["0.png"]}, {"train": {}})


def test_a_head_that_counts_rows_alike_is_refused_by_name_before_anything_is_read() -> None:
    with pytest.raises(UsageError, match="the knn head counts all rows alike; those that take"):
        HeadRequest(solver="knn", sample_weight="trust").check()
    HeadRequest(solver="ridge", sample_weight="trust").check()


def test_other_weights_make_another_run_of_a_bench() -> None:
    ids, columns = weighed([0, 1])
    train = SimpleNamespace(ids=ids, columns=columns)
    entry = SimpleNamespace(provenance={})
    source = cast("Any", SimpleNamespace(splits={"train": train}, entry=entry))
    before = _weights_of(source, "trust")
    assert _weights_of(source, "trust") == before
    assert _weights_of(source, None) == {}
    columns["Trust"][1] = "4"
    assert _weights_of(source, "trust") != before
