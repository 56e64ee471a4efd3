"""Folders with ``metadata.csv``, ``.jsonl`` or ``.parquet``, as Hugging Face's `datasets` has them.

The layouts are those that its `imagefolder` reads; what the files hold is as its version 5.2 writes
them (`Dataset.to_csv`, `to_json`, `to_parquet`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from probe.core.reading import ReadOptions
from probe.datasets import Dataset, load_dataset
from probe.datasets.forms.formats import format_of
from probe.errors import DataError, ProbeError, UsageError

FEATURES = {  # of the schema that `datasets` writes
    "file_name": {"dtype": "string", "_type": "Value"},
    "label": {"names": ["aeroplane", "cat"], "_type": "ClassLabel"},
    "tags": {"feature": {"names": ["big", "old"], "_type": "ClassLabel"}, "_type": "List"},
    "age": {"dtype": "float32", "_type": "Value"},
}
ROWS = [  # file_name, label, tags, age
    ("1.jpg", 1, [0, 1], 3.0),
    ("2.jpg", 0, [], None),
    ("3.jpg", 1, [0], 2.5),
    ("4.jpg", 0, [1], 4.0),
]


def to_parquet(path: Path, rows: list[tuple[str, int, list[int], float | None]]) -> None:
    columns = [list(one) for one in zip(*rows, strict=True)]
    about = {"huggingface": json.dumps({"info": {"features": FEATURES}})}
    schema = pa.schema(
        [
            ("file_name", pa.string()), ("label", pa.int64()), ("tags", pa.list_(pa.int64())),
            ("age", pa.float32()),
        ],
        metadata=about,
    )  # fmt: skip
    pq.write_table(pa.table(dict(zip(schema.names, columns, strict=True)), schema=schema), path)


def to_json(path: Path, rows: list[tuple[str, int, list[int], float | None]]) -> None:
    names = FEATURES["label"]["names"]
    lines = [
        json.dumps(
            {"file_name": file, "label": names[label], "tags": tags, "age": age},
            separators=(",", ":"),
        )
        for file, label, tags, age in rows
    ]
    path.write_text("\n".join(lines) + "\n")


def to_csv(path: Path, rows: list[tuple[str, int, list[int], float | None]]) -> None:
    names = FEATURES["label"]["names"]
    lines = [f"{file},{names[label]},{'' if age is None else age}" for file, label, _, age in rows]
    path.write_text("file_name,label,age\n" + "\n".join(lines) + "\n")


WRITERS = {"metadata.parquet": to_parquet, "metadata.jsonl": to_json, "metadata.csv": to_csv}


@pytest.fixture
def fill(cifar_jpegs: Mapping[str, bytes], tmp_path: Path) -> Callable[..., Path]:
    """Write JPEGs at paths and return their folder."""

    def write(*paths: str) -> Path:
        for path, data in zip(paths, cifar_jpegs.values(), strict=False):
            target = tmp_path / "my set" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        return tmp_path / "my set"

    return write


def read(root: Path, **options: object) -> Dataset:
    reading = ReadOptions(**options)
    return load_dataset(str(root), cache_dir=root.parent / "cache", reading=reading)


@pytest.mark.parametrize("name", WRITERS)
def test_metadata_beside_the_images(fill: Callable[..., Path], name: str) -> None:
    root = fill("1.jpg", "2.jpg", "3.jpg", "4.jpg")
    WRITERS[name](root / name, ROWS)
    dataset = read(root)
    assert dataset.name == "my set"
    assert dataset.classes == ("aeroplane", "cat")
    train = dataset.splits["train"]
    assert list(train.ids) == ["1.jpg", "2.jpg", "3.jpg", "4.jpg"]
    assert train.labels.tolist() == [1, 0, 1, 0]
    assert [age and float(age) for age in train.columns["age"]] == [3.0, "", 2.5, 4.0]
    assert train.images.image(3).shape == (32, 32, 3)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("base", ["", "data/"])
def test_metadata_in_each_split_folder(fill: Callable[..., Path], name: str, base: str) -> None:
    root = fill(*(f"{base}{one}/{n}.jpg" for one in ("train", "validation") for n in (1, 2, 3, 4)))
    WRITERS[name](root / f"{base}train" / name, ROWS)
    WRITERS[name](root / f"{base}validation" / name, ROWS[1:3])
    dataset = read(root)
    assert {split: list(one.ids) for split, one in dataset.splits.items()} == {
        "train": [f"{base}train/{n}.jpg" for n in (1, 2, 3, 4)],
        "val": [f"{base}validation/{n}.jpg" for n in (2, 3)],
    }
    assert dataset.splits["val"].labels.tolist() == [0, 1]
    unit = "row" if name.endswith("parquet") else "line"
    WRITERS[name](root / f"{base}validation" / name, [ROWS[0], ("9.jpg", 0, [], 1.0)])
    number = {"metadata.parquet": 2, "metadata.jsonl": 2, "metadata.csv": 3}[name]
    with pytest.raises(DataError, match=rf"validation/{name}: {unit} {number}: there is no file"):
        read(root)


def test_names_of_several_labels(fill: Callable[..., Path]) -> None:
    root = fill("1.jpg", "2.jpg", "3.jpg", "4.jpg")
    to_parquet(root / "metadata.parquet", ROWS)
    dataset = read(root, label="tags")
    assert dataset.classes == ("big", "old")
    assert dataset.splits["train"].labels.tolist() == [[1, 1], [0, 0], [1, 0], [0, 1]]
    assert dataset.splits["train"].columns["label"] == ["cat", "aeroplane", "cat", "aeroplane"]


def test_one_file_above_split_folders(fill: Callable[..., Path]) -> None:
    root = fill("train/1.jpg", "train/2.jpg", "test/1.jpg")
    (root / "metadata.csv").write_text(
        "file_name,label\ntrain/1.jpg,a\ntrain/2.jpg,b\ntest/1.jpg,b\n"
    )
    dataset = read(root)
    assert {split: list(one.ids) for split, one in dataset.splits.items()} == {
        "train": ["train/1.jpg", "train/2.jpg"], "test": ["test/1.jpg"],
    }  # fmt: skip
    (root / "metadata.csv").write_text(  # what a column says comes first
        "file_name,label,split\ntrain/1.jpg,a,test\ntrain/2.jpg,b,train\ntest/1.jpg,a,train\n"
    )
    assert list(read(root).splits["test"].ids) == ["train/1.jpg"]


def test_class_folders_are_the_labels_where_metadata_have_none(
    fill: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    root = fill("train/cat/1.jpg", "train/dog/2.jpg", "test/dog/1.jpg", "test/dog/more.jpg")
    (root / "metadata.jsonl").write_text(
        "".join(
            json.dumps({"file_name": path, "text": f"a caption of {path}"}) + "\n"
            for path in ("test/dog/1.jpg", "train/cat/1.jpg", "train/dog/2.jpg")
        )
    )
    dataset = read(root)
    assert dataset.classes == ("cat", "dog")
    assert list(dataset.splits["test"].ids) == ["test/dog/1.jpg"]
    assert dataset.splits["test"].columns["text"] == ["a caption of test/dog/1.jpg"]
    assert "it has no labels; the folders of its images are read as their classes" in caplog.text
    assert "left out 1 image that its metadata do not name" in caplog.text


def test_captions_alone_are_no_labels(fill: Callable[..., Path]) -> None:
    root = fill("1.jpg", "2.jpg")
    (root / "metadata.csv").write_text("file_name,text\n1.jpg,a cat\n2.jpg,a dog\n")
    with pytest.raises(DataError, match="has no column `label` or `labels`, it has file_n"):
        read(root)
    assert read(root, unlabeled=True).classes == ("unlabeled",)
    assert read(root, label="text", where="text != 'a dog'").classes == ("a cat",)


def test_metadata_of_something_else_are_not_read(fill: Callable[..., Path]) -> None:
    root = fill("cat/1.jpg", "dog/2.jpg")
    (root / "metadata.csv").write_text("camera,date\nX,2020\n")
    form = format_of(root)
    assert form is not None
    assert form.title == "a folder of class folders"
    assert read(root).classes == ("cat", "dog")


def test_wrong_metadata_are_named(fill: Callable[..., Path]) -> None:
    root = fill("train/1.jpg", "train/2.jpg", "test/1.jpg")
    to_csv(root / "metadata.csv", ROWS)
    with pytest.raises(DataError, match=r"metadata.csv: line 2: there is no file"):
        read(root)
    to_json(root / "metadata.jsonl", ROWS)
    with pytest.raises(DataError, match=r"my set: has both metadata.csv and metadata.jsonl; keep"):
        read(root)
    with pytest.raises(UsageError, match="--columns has no effect on a folder with metadata as"):
        read(root, columns=("path", "label"))
    (root / "metadata.csv").unlink()
    (root / "metadata.jsonl").write_bytes(b'{"file_name": "train/1.jpg", "label": "a"}\n{"file\xff')
    with pytest.raises(ProbeError, match=r"metadata.jsonl: line 2 is not UTF-8"):
        read(root)
    (root / "metadata.jsonl").unlink()
    pq.write_table(pa.table({"path": ["train/1.jpg"]}), root / "metadata.parquet")
    with pytest.raises(ProbeError, match=r"file_name: is no column of .*metadata.parquet"):
        read(root)
    wrong = [("train/1.jpg", 2, [], 1.0)]
    to_parquet(root / "metadata.parquet", wrong)
    with pytest.raises(DataError, match=r"metadata.parquet: 'label': has 2, and names for 0 to 1"):
        read(root)
