"""Lists in every form, of real JPEGs: each form of one list gives the same dataset."""

from __future__ import annotations

import csv
import datetime
import decimal
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probe.core.reading import ReadOptions
from probe.datasets import Dataset, load_dataset
from probe.datasets.in_memory import given_dataset
from probe.datasets.tables import arrow_cells
from probe.datasets.tables.table import read_table
from probe.errors import DataError, ProbeError, UsageError

NAMES = ("path", "label", "split", "site", "score")
CLASSES = ("airplane", "bird", "cat")


@pytest.fixture
def rows(cifar_jpegs: dict[str, bytes], tmp_path: Path) -> list[list[str]]:
    """Nine rows of three classes, and their images in ``tmp_path / "a folder"``."""
    made = []
    for number, (name, data) in enumerate(cifar_jpegs.items()):
        class_, file = name.split("/")
        if class_ not in CLASSES:
            continue
        place = f"some {class_}/{file}" if number % 2 else f"{class_}/{file}"
        target = tmp_path / "a folder" / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        split = ("train", "train", "test")[int(file[:4])]
        made.append([place, class_, split, "AB"[len(made) % 2], f"0.{number}5"])
    assert len(made) == 9
    return made


def read(root: Path, name: str, **options: object) -> Dataset:
    reading = ReadOptions(**options)  # type: ignore[arg-type]
    place = str(root / "a folder" / name)
    return load_dataset(place, cache_dir=root / "cache", reading=reading)


def written_by_csv(rows: list[list[str]], header: bool = True, **dialect: object) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, **dialect)  # type: ignore[arg-type]
    writer.writerows([NAMES, *rows] if header else rows)
    return text.getvalue().encode()


def json_lines(rows: list[list[str]]) -> bytes:
    objects = [dict(zip(NAMES, row, strict=True)) for row in rows]
    return "\n".join(json.dumps(one) for one in objects).encode()


def parquet(rows: list[list[str]], **columns: pa.Array) -> bytes:
    table = pa.table({name: [row[n] for row in rows] for n, name in enumerate(NAMES)} | columns)
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=4)
    return sink.getvalue()


def quoted_blanks(rows: list[list[str]]) -> bytes:
    return written_by_csv(rows, delimiter=" ", quoting=csv.QUOTE_NONNUMERIC)


def aligned(rows: list[list[str]]) -> bytes:
    return "\n".join("   ".join(f"{cell:<12}" for cell in row) for row in [NAMES, *rows]).encode()


FORMS: dict[str, tuple[str, Callable[[list[list[str]]], bytes]]] = {
    "csv": ("x.csv", written_by_csv),
    "Excel's": ("x.CSV", lambda rows: b"\xef\xbb\xbf" + written_by_csv(rows, delimiter=";")),
    "tabs": ("x.tsv", lambda rows: written_by_csv(rows, dialect="excel-tab")),
    "unix": ("x.csv", lambda rows: written_by_csv(rows, dialect="unix")),
    "text with names": ("x.txt", lambda rows: written_by_csv(rows, delimiter="\t")),
    "text with commas": ("x.txt", written_by_csv),
    "blanks": ("x.csv", quoted_blanks),
    "blanks in a text": ("x.txt", quoted_blanks),
    "aligned": ("x.txt", aligned),
    "json lines": ("x.jsonl", json_lines),
    "ndjson": ("x.ndjson", lambda rows: json_lines(rows) + b"\n\n"),
    "parquet": ("x.parquet", parquet),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_list_is_the_same_dataset(
    rows: list[list[str]], tmp_path: Path, form: str
) -> None:
    name, write = FORMS[form]
    (tmp_path / "a folder" / name).write_bytes(write(rows))
    dataset = read(tmp_path, name)
    assert dataset.classes == CLASSES
    assert {split: list(one.ids) for split, one in dataset.splits.items()} == {
        split: [row[0] for row in rows if row[2] == split] for split in ("train", "test")
    }
    for split, one in dataset.splits.items():
        chosen = [row for row in rows if row[2] == split]
        assert [dataset.classes[label] for label in one.labels] == [row[1] for row in chosen]
        assert one.columns == {
            "site": [row[3] for row in chosen], "score": [row[4] for row in chosen],
        }  # fmt: skip
        assert one.images.image(0).shape == (32, 32, 3)


HEADERLESS: dict[str, tuple[str, Callable[[list[list[str]]], bytes]]] = {
    "csv": ("x.csv", lambda rows: written_by_csv(rows, header=False)),
    "semicolons": ("x.csv", lambda rows: written_by_csv(rows, header=False, delimiter=";")),
    "tsv": ("x.tsv", lambda rows: written_by_csv(rows, header=False, delimiter="\t")),
    "commas in a tsv": ("x.tsv", lambda rows: written_by_csv(rows, header=False)),
    "blanks in a csv": ("x.csv", lambda rows: "\n".join(map("  ".join, rows)).encode()),
    "text": ("x.txt", lambda rows: "\n".join(map(" ".join, rows)).encode()),
    "tabs in a text": ("x.txt", lambda rows: "\n".join(map("\t".join, rows)).encode()),
    "semicolons in a text": ("x.txt", lambda rows: "\r\n".join(map(";".join, rows)).encode()),
    "quotes": (
        "x.txt",
        lambda rows: written_by_csv(rows, False, delimiter=" ", quoting=csv.QUOTE_ALL),
    ),
}


@pytest.mark.parametrize("form", HEADERLESS)
def test_columns_of_a_list_without_names(rows: list[list[str]], tmp_path: Path, form: str) -> None:
    name, write = HEADERLESS[form]
    (tmp_path / "a folder" / name).write_bytes(write(rows))
    dataset = read(tmp_path, name, columns=("path", "label", "split", "-", "score"))
    assert dataset.classes == CLASSES
    assert list(dataset.splits["test"].ids) == [row[0] for row in rows if row[2] == "test"]
    assert {*dataset.splits["test"].columns} == {"score"}


def test_caffes_list_of_paths_and_numbers(rows: list[list[str]], tmp_path: Path) -> None:
    """As its tools read it: all but what follows the last blank is the path."""
    numbers = {"airplane": 10, "bird": 9, "cat": 2}
    lines = [f"{path} {numbers[label]}" for path, label, *_ in rows]
    for text in (
        "\n".join(lines), "\r\n".join(lines) + "\r\n", "\n\n".join(lines) + "\n  \n",
        "\r".join(lines),
    ):  # fmt: skip
        (tmp_path / "a folder" / "train.txt").write_text(text, newline="")
        dataset = read(tmp_path, "train.txt")
        assert dataset.classes == ("2", "9", "10")
        train = dataset.splits["train"]
        assert list(train.ids) == [line.rpartition(" ")[0] for line in lines]
        classes = [dataset.classes[label] for label in train.labels]
        assert classes == [line.rpartition(" ")[2] for line in lines]


def test_a_list_of_paths_that_start_elsewhere(rows: list[list[str]], tmp_path: Path) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "val.txt").write_text("".join(f"{row[0]} {row[1]}\n" for row in rows))
    dataset = load_dataset(
        str(lists / "val.txt"), root=tmp_path / "a folder", cache_dir=tmp_path / "cache"
    )
    assert list(dataset.splits["train"].ids) == [row[0] for row in rows]


def test_label_names_another_column(rows: list[list[str]], tmp_path: Path) -> None:
    (tmp_path / "a folder" / "x.csv").write_bytes(written_by_csv(rows))
    dataset = read(tmp_path, "x.csv", label="Site")
    assert dataset.classes == ("A", "B")
    train = dataset.splits["train"]
    assert train.columns["label"] == [row[1] for row in rows if row[2] == "train"]
    with pytest.raises(UsageError, match=r"--label place: is no column of .*, which has path, lab"):
        read(tmp_path, "x.csv", label="place")
    with pytest.raises(UsageError, match=r"--label sit: is no column .*; did you mean `site`\?$"):
        read(tmp_path, "x.csv", label="sit")
    with pytest.raises(UsageError, match="--label path: has the images' paths"):
        read(tmp_path, "x.csv", label="path")


def test_a_column_of_bars_that_label_names_has_several(
    rows: list[list[str]], tmp_path: Path
) -> None:
    tags = [["x", "y"], ["x"], [], *[["z"]] * 6]
    data = parquet(rows, tags=pa.array(tags))
    (tmp_path / "a folder" / "x.parquet").write_bytes(data)
    dataset = read(tmp_path, "x.parquet", label="tags")
    assert dataset.classes == ("x", "y", "z")
    every = np.concatenate([one.labels for one in dataset.splits.values()])
    assert every.sum(axis=0).tolist() == [2, 1, 6]


def test_where_include_and_exclude_leave_out_rows_and_say_so(
    rows: list[list[str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a folder" / "x.csv").write_bytes(written_by_csv(rows))

    def ids(**options: object) -> set[str]:
        splits = read(tmp_path, "x.csv", **options).splits.values()
        return {id_ for split in splits for id_ in split.ids}

    assert ids(where="site == 'A' and split != 'test'") == {
        row[0] for row in rows if row[3] == "A" and row[2] != "test"
    }
    assert "--where: 3 of 9 images are read" in caplog.text
    assert ids(include=("some */*",)) == {row[0] for row in rows if row[0].startswith("some")}
    assert ids(exclude=("*2.JPG", "cat/*")) == {
        row[0] for row in rows if not row[0].endswith("2.jpg") and not row[0].startswith("cat/")
    }
    assert ids(
        include=("*.jpg",), where="score > 0.2 and split == 'train'", exclude=("*bird/*",)
    ) == {row[0] for row in rows if float(row[4]) > 0.2 and row[1] != "bird" and row[2] == "train"}
    for options in ({"where": "site == 'Z'"}, {"include": ("*.png",)}, {"exclude": ("*",)}):
        with pytest.raises(DataError, match=r"x.csv: --\w+.* leaves none of its"):
            ids(**options)
    with pytest.raises(UsageError, match=r"x.csv: --where .*no column 'place', there are path, la"):
        ids(where="place == 3")


def test_split_column_names_the_split(rows: list[list[str]], tmp_path: Path) -> None:
    part = ["dev", "Training", "training", "holdout", *["train"] * 5]
    flags = [int(one == "dev") for one in part]
    text = "".join(
        f"{row[0]},{row[1]},{one},{flag},{number}\n"
        for number, (row, one, flag) in enumerate(zip(rows, part, flags, strict=True))
    )
    (tmp_path / "a folder" / "x.csv").write_text("path,label,where,is_val,n\n" + text)
    dataset = read(tmp_path, "x.csv", split_column="where", where="where != 'dev'")
    assert list(dataset.splits["test"].ids) == [rows[3][0]]
    assert len(dataset.splits["train"]) == 7
    dataset = read(tmp_path, "x.csv", split_column="is_val")
    assert list(dataset.splits["val"].ids) == [rows[0][0]]
    with pytest.raises(DataError, match="line 2: the split '0' is not train, val or test"):
        read(tmp_path, "x.csv", split_column="n")
    with pytest.raises(UsageError, match="--split-column label: has the images or their labels"):
        read(tmp_path, "x.csv", split_column="label")


def test_a_list_without_labels_is_read_where_that_is_asked_for(
    rows: list[list[str]], tmp_path: Path
) -> None:
    names = "image_path,place,patient\n"
    text = "".join(f"{row[0]},{row[3]},{number}\n" for number, row in enumerate(rows))
    (tmp_path / "a folder" / "x.csv").write_text(names + text)
    with pytest.raises(
        DataError,
        match=r"x.csv: line 1 has no column `label` or `labels`, it has image_path, place, patient;"
        r" name the one with the classes, for example --label place, or read no labels by --unlab",
    ):
        read(tmp_path, "x.csv")
    dataset = read(tmp_path, "x.csv", unlabeled=True)
    assert dataset.classes == ("unlabeled",)
    assert dataset.splits["train"].columns["place"] == [row[3] for row in rows]
    with pytest.raises(UsageError, match="--unlabeled reads no labels; leave out --label"):
        read(tmp_path, "x.csv", unlabeled=True, label="place")


def test_a_score_is_no_label(cifar_jpegs: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "a folder").mkdir()
    lines = ["file,score,level"]
    for number, data in enumerate(cifar_jpegs.values()):
        (tmp_path / "a folder" / f"{number}.jpg").write_bytes(data)
        lines.append(f"{number}.jpg,{number / 7:.3f},{number % 4 / 3:.3f}")
    (tmp_path / "a folder" / "x.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"`score` has 30 different numbers with fractions .*score"):
        read(tmp_path, "x.csv", label="score")
    dataset = read(tmp_path, "x.csv", label="level")  # as the grades of damage in ELPV
    assert dataset.classes == ("0.000", "0.333", "0.667", "1.000")
    assert dataset.splits["train"].columns["score"][3] == "0.429"


WRONG: dict[str, tuple[str, bytes, dict[str, object], str]] = {
    "one word a line": ("x.txt", b"1.jpg\n", {}, "line 1 is '1.jpg', no path and a label"),
    "several numbers": ("x.txt", b"1.jpg 0 1 0\n", {}, "more than a path and a label"),
    "a line without": ("x.txt", b"1.jpg 0\n2.jpg\n", {}, "line 2 has 1 cells, expected 2"),
    "an empty text": ("x.txt", b"\n", {}, "is empty"),
    "names in a text": ("x.txt", b"picture,kind\na.jpg,3\n", {}, "line 1 is 'picture,kind', no"),
    "no names": ("x.csv", b"1.jpg,cat\n", {}, "has no column `image`.*--columns path,label"),
    "another name": ("x.csv", b"pic,label\n1.jpg,x\n", {}, "rename `pic`, if it has the paths"),
    "too few columns": ("x.csv", b"1.jpg,cat,7\n", {"columns": ("path", "label")},
                        "line 1 has 3 cells, --columns names 2"),
    "no path among them": ("x.csv", b"1.jpg,cat\n", {"columns": ("a", "label")},
                           "--columns has no column `image`, it has 'a, label'"),
    "columns and names": ("x.csv", b"path,label\n1.jpg,c\n", {"columns": ("path", "label")},
                          "line 1 has names of columns .path,label.; leave out --columns"),
    "columns of objects": ("x.jsonl", b"{}", {"columns": ("path", "label")},
                           "has names of columns; leave out --columns"),
    "no columns": ("x.csv", b"1.jpg,cat\n", {"columns": ("-", "")}, "--columns names no column"),
    "no object": ("x.jsonl", b"[1]\n", {}, "line 1 is a list; expected an object"),
    "a number": ("x.jsonl", b'{"path": "1.jpg"}\n3\n', {}, "line 2 is a single value; expected"),
    "no JSON": ("x.jsonl", b"{'path': 1}\n", {}, "line 1 is no JSON .*; expected an object a line"),
    "empty objects": ("x.jsonl", b"{}\n{}\n", {}, "has no column `image`, it has ''"),
    "nothing": ("x.jsonl", b"", {}, "is empty; expected an object a line"),
    "a bar": ("x.jsonl", b'{"path": "1.jpg", "labels": ["a|b"]}', {}, "'labels' has a text"),
    "half a sign": ("x.jsonl", b'{"path": "1.jpg", "label": "\\ud800"}', {}, "'label' is not"),
    "no path": ("x.jsonl", b'{"path": "1.jpg", "label": "a"}\n{"label": "b"}', {}, "line 2 names"),
    "no label": ("x.jsonl", b'{"path": "1.jpg", "label": null}', {}, "line 1 has no label"),
    "latin 1": ("x.jsonl", '{"path": "\u00e9"}'.encode("latin-1"), {}, "line 1 is not UTF-8"),
    "deep": ("x.jsonl", b'{"path": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", {}, "nested too deep"),
    "deep objects": ("x.jsonl", b'{"a":' * 10_000 + b"1" + b"}" * 10_000, {}, "nested too deep"),
    "a long number": ("x.jsonl", b'{"path": ' + b"7" * 9000 + b', "label": 1}', {}, "no file"),
    "no Parquet": ("x.parquet", b"PAR1 and more PAR1", {}, "is no readable Parquet file"),
    "no bytes": ("x.parquet", b"", {}, "is no readable Parquet file"),
    **{
        f"{kind} in {name}": (name, data, {}, message)
        for name in ("x.csv", "x.txt", "x.jsonl", "x.tsv")
        for kind, data, message in (
            ("NUL", b"path,label\na\0.jpg,3\n", "line 2 holds a NUL byte"),
            ("UTF-16", "path,label\n".encode("utf-16"), "is UTF-16; save it as UTF-8"),
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_list_is_one_clear_line(tmp_path: Path, case: str) -> None:
    name, data, options, message = WRONG[case]
    (tmp_path / "a folder").mkdir()
    (tmp_path / "a folder" / name).write_bytes(data)
    with pytest.raises(ProbeError, match=message) as raised:
        read(tmp_path, name, **options)
    assert "\n" not in str(raised.value)
    assert name in str(raised.value) or "--columns" in str(raised.value)
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize("name", ["x.csv", "x.txt", "x.jsonl", "x.parquet"])
def test_what_is_no_file_is_not_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / "a folder").mkdir()
    os.mkfifo(tmp_path / "a folder" / name)
    with pytest.raises(DataError, match="is not a regular file"):
        read(tmp_path, name)
    (tmp_path / "a folder" / name).unlink()
    (tmp_path / "a folder" / name).symlink_to("/dev/zero")
    with pytest.raises(DataError, match="is not a regular file"):
        read(tmp_path, name)


@pytest.mark.parametrize("name", ["x.csv", "x.txt", "x.jsonl"])
def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "a folder").mkdir()
    with open(tmp_path / "a folder" / name, "wb") as file:
        file.truncate(2**30)  # one line of zeros, which takes no disk
    with pytest.raises(DataError, match="has 1,024 MiB; a list of images may have 512; divide it"):
        read(tmp_path, name)


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.txt", "x.jsonl"])
@pytest.mark.parametrize("sign", ["a", ",", "a ", '"', "["])
def test_a_huge_line_is_refused_before_it_is_divided(tmp_path: Path, name: str, sign: str) -> None:
    (tmp_path / "a folder").mkdir()
    begins = {"x.jsonl": '{"path": '}.get(name, "path,label\n")
    (tmp_path / "a folder" / name).write_text(begins + sign * (2**24 // len(sign)))
    with pytest.raises(DataError, match=r"line [12] has more than 4 MiB: no row of a list"):
        read(tmp_path, name)


def test_a_table_of_too_many_cells_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """A small file of Parquet may have any number of rows."""
    (tmp_path / "a folder").mkdir()
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(60_000_000, np.int8)), ["1.jpg"])
    pq.write_table(pa.table({"path": column, "label": column}), tmp_path / "a folder/x.parquet")
    assert (tmp_path / "a folder/x.parquet").stat().st_size < 1_000_000
    with pytest.raises(DataError, match="has 120,000,000 cells; a list of images may have"):
        read(tmp_path, "x.parquet")
    many = b"{" + b",".join(b'"%d": 1' % number for number in range(20_000)) + b"}"
    (tmp_path / "a folder" / "x.jsonl").write_bytes(many)
    with pytest.raises(DataError, match="has 20,000 columns; a list of images may have 10,000"):
        read(tmp_path, "x.jsonl")


def test_long_texts_of_a_parquet_table_are_refused_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether or not the table's columns of bytes hide how much text there is."""
    (tmp_path / "a folder").mkdir()
    monkeypatch.setattr(arrow_cells, "MOST_TEXT", 2**20)
    rows = [f"{number}{'a' * 4000}" for number in range(2000)]
    for more in ({}, {"bytes": pa.array([b"x"] * 2000)}):
        table = pa.table({"path": rows, "label": ["x", "y"] * 1000, **more})
        pq.write_table(table, tmp_path / "a folder" / "x.parquet", compression="zstd")
        assert (tmp_path / "a folder" / "x.parquet").stat().st_size < 2**17
        with pytest.raises(DataError, match="its texts and numbers have more than 1 MiB"):
            read(tmp_path, "x.parquet")


def test_what_parquet_has_beside_texts(rows: list[list[str]], tmp_path: Path) -> None:
    count = len(rows)
    data = parquet(
        rows,
        whole=pa.array([1, None, 3] * 3),
        third=pa.array([0.1] * count, pa.float32()),
        yes=pa.array([True, False, None] * 3),
        day=pa.array([datetime.date(2020, 1, 2)] * count),
        price=pa.array([decimal.Decimal("1.50")] * count),
        kind=pa.array(["x", "y", "x"] * 3).dictionary_encode(),
        nothing=pa.nulls(count),
        thumbnail=pa.array([b"\xff\xd8"] * count),
        box=pa.array([{"x": 1, "y": 2}] * count),
        nan=pa.array([float("nan"), 2.0, 3.5] * 3),
        __index_level_0__=pa.array(range(count)),
    )
    (tmp_path / "a folder" / "x.parquet").write_bytes(data)
    train = read(tmp_path, "x.parquet").splits["train"]
    assert {name: cells[0] for name, cells in train.columns.items()} == {
        "site": "A", "score": rows[0][4], "whole": "1", "third": "0.1", "yes": "1",
        "day": "2020-01-02", "price": "1.50", "kind": "x", "nothing": "", "nan": "",
    }  # fmt: skip
    third = read(tmp_path, "x.parquet", where="whole == 3 and nan > 3").splits["test"]
    assert list(third.ids) == [row[0] for row in rows[2::3]]


def test_parquet_without_pyarrow_names_the_extra(
    rows: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a folder" / "x.parquet").write_bytes(parquet(rows))
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(
        UsageError, match=r"install it with `pip install 'frozen-probe\[parquet\]'`"
    ):
        read(tmp_path, "x.parquet")


def test_lists_that_are_called_like_splits_are_one_dataset(
    rows: list[list[str]], tmp_path: Path
) -> None:
    """As Caffe's ``train.txt`` and ``val.txt``; each has classes that the other may lack."""
    numbers = {"airplane": 0, "bird": 1, "cat": 2}
    parts = {"train": rows[:6] + rows[7:8], "val": rows[6:7] + rows[8:]}
    for name, own in parts.items():
        lines = [f"{row[0]} {numbers[row[1]]}\n" for row in own]
        (tmp_path / "a folder" / f"{name}.txt").write_text("".join(lines))
    (tmp_path / "lists").mkdir()
    for name in ("train.txt", "val.txt"):
        os.link(tmp_path / "a folder" / name, tmp_path / "lists" / name)
    (tmp_path / "lists" / "classes.txt").write_text("airplane\nbird\ncat\n")
    for place, root in (
        (tmp_path / "a folder" / "{train,val}.txt", None),
        (tmp_path / "lists", tmp_path / "a folder"),
        (tmp_path / "lists" / "{val,train}.txt", tmp_path / "a folder"),
    ):
        dataset = load_dataset(str(place), root=root, cache_dir=tmp_path / "cache")
        assert dataset.name == place.name if place.is_dir() else place.parent.name
        assert dataset.classes == ("0", "1", "2")
        found = {
            split: list(zip(one.ids, one.labels.tolist(), strict=True))
            for split, one in dataset.splits.items()
        }
        assert found == {
            split: [(row[0], numbers[row[1]]) for row in own] for split, own in parts.items()
        }
    with pytest.raises(DataError, match=r"1 of 2 files are missing, first test.txt; get them, or"):
        read(tmp_path, "{train,test}.txt")
    with open(tmp_path / "a folder" / "val.txt", "a") as file:
        file.write(f"{rows[0][0]} 0\n")
    with pytest.raises(
        DataError, match=r"val.txt: line 3 names .* again, after .*train.txt: line 1, with the sa"
    ):
        read(tmp_path, "{train,val}.txt")
    (tmp_path / "lists" / "val.csv").write_text("path,label\n")
    with pytest.raises(DataError, match=r"lists: val.csv and val.txt are both val; keep one of"):
        load_dataset(str(tmp_path / "lists"), cache_dir=tmp_path / "cache")


def test_lists_of_a_split_in_shards_and_with_options(rows: list[list[str]], tmp_path: Path) -> None:
    for name, own in (("train-0", rows[:2]), ("train-1", rows[3:8]), ("test", rows[2:3])):
        (tmp_path / "a folder" / f"{name}.jsonl").write_bytes(
            json_lines(own).replace(b"split", b"subset_")
        )
    dataset = read(tmp_path, "{train-0,train-1,test}.jsonl", label="site", where="score > 0")
    assert dataset.classes == ("A", "B")
    assert {split: len(one) for split, one in dataset.splits.items()} == {"train": 7, "test": 1}


@pytest.mark.parametrize("yes_no", ["1 0", "True False", "1.0 0.0", "TRUE FALSE"])
def test_a_column_a_class_as_pandas_and_spreadsheets_write_it(
    rows: list[list[str]], tmp_path: Path, yes_no: str
) -> None:
    """`get_dummies` gives booleans, and a missing value makes floats of them."""
    yes, no = yes_no.split()
    lines = [",".join(yes if row[1] == name else no for name in CLASSES) for row in rows]
    text = "".join(f"{row[0]},{line}\n" for row, line in zip(rows, lines, strict=True))
    (tmp_path / "a folder" / "x.csv").write_text(f"path,{','.join(CLASSES)}\n{text}")
    dataset = read(tmp_path, "x.csv")
    assert dataset.classes == CLASSES
    labels = dataset.splits["train"].labels
    assert labels.tolist() == [[int(row[1] == name) for name in CLASSES] for row in rows]


def test_a_name_of_two_lines_is_one(rows: list[list[str]], tmp_path: Path) -> None:
    """As spreadsheets write headers; no message has two lines of them."""
    text = 'path,label,"patient\n  id","pu\x1bpil"\n'
    text += "".join(f"{row[0]},{row[1]},{row[3]},{row[2]}\n" for row in rows)
    (tmp_path / "a folder" / "x.csv").write_text(text)
    with pytest.raises(UsageError, match=r"which has path, label, patient id, pu pil$"):
        read(tmp_path, "x.csv", label="kind of it", split_column="patient id")
    with pytest.raises(DataError, match="the column `pu pil` holds 'test', 'train'"):
        read(tmp_path, "x.csv")
    dataset = read(tmp_path, "x.csv", where="`patient id` == 'A'", split_column="pu pil")
    assert [len(one) for one in dataset.splits.values()] == [3, 2]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(alphabet="path,label;\t 123.jpg\"'|\n\r{}[]:éß\u2028\ud800", max_size=120),
    begins=st.sampled_from(["", "path,label\n", "image label split\n", "sep=;\n", '{"path": ']),
    name=st.sampled_from(["x.csv", "x.tsv", "x.txt", "x.jsonl"]),
    columns=st.sampled_from([(), ("path", "label"), ("path", "-", "label"), ("path", "a", "b")]),
)
def test_any_text_is_a_list_or_one_clear_line(
    tmp_path: Path, text: str, begins: str, name: str, columns: tuple[str, ...]
) -> None:
    (tmp_path / name).write_bytes((begins + text).encode("utf-8", "surrogatepass"))
    said, found = "", None
    try:
        found = read_table(tmp_path / name, ReadOptions(columns=columns))
    except ProbeError as error:
        said = str(error)
    assert "\n" not in said
    assert found is None or len(found.paths) == len(found.labels) == len(found.rows) > 0


def test_a_frame_has_the_columns_and_options_of_a_list(
    rows: list[list[str]], tmp_path: Path
) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "file_name": [str(tmp_path / "a folder" / row[0]) for row in rows],
            "kind": [row[1] for row in rows], "age": np.arange(9) / 3,
        }
    )  # fmt: skip
    place = given_dataset(frame, cache_dir=tmp_path / "cache")
    assert isinstance(place, str)
    reading = ReadOptions(label="kind", where="age < 2")
    dataset = load_dataset(place, cache_dir=tmp_path / "cache", reading=reading)
    assert dataset.classes == ("airplane", "bird")
    assert list(dataset.splits["train"].ids) == frame["file_name"][:6].tolist()
