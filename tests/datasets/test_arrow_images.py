"""Images in Parquet and Arrow files: the rows of the files that they were made of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.datasets import Dataset
from probe.errors import DataError
from tests.datasets.places import PATHS, load, read_damaged

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
Make = Callable[..., Path]


def table_of(root: Path, split: str, *, paths: bool = True, named: bool = True) -> Any:
    """Return a split as Hugging Face's `datasets` stores it."""
    files = sorted((root / split).rglob("*.png"))
    images = [
        {"bytes": file.read_bytes(), "path": str(file.relative_to(root)) if paths else None}
        for file in files
    ]
    table = pa.table(
        {
            "image": pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            "label": pa.array([["cat", "dog"].index(file.parent.name) for file in files]),
            "age": pa.array([10.5 * n for n in range(len(files))]),
        }
    )
    features = {
        "image": {"_type": "Image"},
        "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
    }
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    return table.replace_schema_metadata(about) if named else table


def write_arrow(table: Any, file: Path, *, stream: bool = True) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with new(str(file), table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


def same(folder: Dataset, other: Dataset) -> None:
    assert other.classes == folder.classes
    assert list(other.splits) == list(folder.splits)
    for name, split in folder.splits.items():
        found = other.splits[name]
        order = [list(found.ids).index(one) for one in split.ids]
        found = found.take(np.array(order))
        assert split.labels.tolist() == found.labels.tolist()
        assert (split.images.content() == found.images.content()).all()
        for row in range(len(split)):
            assert np.array_equal(split.images.image(row), found.images.image(row))


@pytest.mark.parametrize("form", ["hub", "shards", "saved", "indexed"])
def test_rows_are_those_of_the_files(make_folder: Make, form: str) -> None:
    root = make_folder(*PATHS)
    out = root.parent / "out put"
    for split in ("train", "test"):
        table = table_of(root, split)
        if form == "hub":
            (out / "data").mkdir(parents=True, exist_ok=True)
            pq.write_table(table, out / "data" / f"{split}-00000-of-00001.parquet")
        elif form == "shards":
            out.mkdir(exist_ok=True)
            for number in range(2):
                part = table.slice(number, None if number else 1)
                pq.write_table(
                    part, out / f"{split}-{number:05d}-of-00002.parquet", row_group_size=1
                )
        else:
            write_arrow(table, out / split / "data-00000-of-00001.arrow", stream=form == "saved")
            (out / split / "dataset_info.json").write_text("{}")
            (out / split / "state.json").write_text("{}")
            (out / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    found = load(out)
    assert found.name == "out put"
    same(load(root), found)
    assert list(found.splits["train"].columns["age"]) == ["0", "10.5", "21"]


def test_columns_choose_label_and_rows(make_folder: Make) -> None:
    root = make_folder(*PATHS)
    table = table_of(root, "train", paths=False, named=False)
    table = table.append_column("site", pa.array(["B", "A", "A"]))
    pq.write_table(table, root.parent / "x.parquet")
    train = load(root.parent / "x.parquet").splits["train"]
    assert list(train.ids) == ["x/00000", "x/00001", "x/00002"]
    assert load(root.parent / "x.parquet").classes == ("0", "1")
    chosen = load(root.parent / "x.parquet", label="site", where="age < 20")
    assert chosen.classes == ("A", "B")
    assert chosen.splits["train"].labels.tolist() == [1, 0]
    assert list(load(root.parent / "x.parquet", unlabeled=True).classes) == ["unlabeled"]


def test_bytes_in_a_plain_column(make_folder: Make) -> None:
    root = make_folder("train/cat/1.png", "train/dog/1.png")
    data = [file.read_bytes() for file in sorted(root.rglob("*.png"))]
    table = pa.table({"jpg": data, "mask": data, "label": ["cat", "dog"]})
    pq.write_table(table, root.parent / "x.parquet")
    dataset = load(root.parent / "x.parquet")
    assert np.array_equal(
        dataset.splits["train"].images.image(0), load(root).splits["train"].images.image(0)
    )
    pq.write_table(table.rename_columns(["a", "b", "label"]), root.parent / "y.parquet")
    with pytest.raises(DataError, match="the columns a, b may all be the images; call one `image`"):
        load(root.parent / "y.parquet")


def test_a_path_instead_of_bytes_is_told(make_folder: Make) -> None:
    root = make_folder("train/cat/1.png", "train/dog/1.png")
    table = table_of(root, "train")
    images = [{"bytes": None, "path": "cat/1.png"}] * 2
    table = table.set_column(0, "image", pa.array(images, table.schema.field("image").type))
    pq.write_table(table, root.parent / "x.parquet")
    with pytest.raises(DataError, match=r"row 1: has no bytes .* only the path cat/1\.png; write"):
        load(root.parent / "x.parquet").splits["train"].images.content()


def test_a_column_whose_name_is_not_utf8_is_refused(tmp_path: Path) -> None:
    table = pa.table({"image": pa.array([b"x"] * 2), "label": ["a", "b"]})
    write_arrow(table, tmp_path / "train.arrow")
    data = (tmp_path / "train.arrow").read_bytes()
    (tmp_path / "train.arrow").write_bytes(data.replace(b"label", b"l\x80bel"))
    with pytest.raises(DataError, match="is a file of another kind"):
        load(tmp_path / "train.arrow")


@pytest.mark.parametrize("stream", [True, False])
def test_offsets_beyond_the_file_are_refused(tmp_path: Path, stream: bool) -> None:
    """Pyarrow trusts them: it read another part of the process's memory, or ended the process."""
    table = pa.table({"image": pa.array([b"x"] * 2), "label": ["abc", "defg"]})
    write_arrow(table, tmp_path / "train.arrow", stream=stream)
    data = (tmp_path / "train.arrow").read_bytes()
    right, wrong = (np.array([0, 3, end], np.int32).tobytes() for end in (7, 1 << 30))
    assert data.count(right) == 1
    (tmp_path / "train.arrow").write_bytes(data.replace(right, wrong))
    with pytest.raises(DataError, match="no readable Parquet or Arrow file"):
        load(tmp_path / "train.arrow")


@pytest.mark.parametrize("ending", [".parquet", ".arrow"])
def test_damage_raises_no_other_error(make_folder: Make, ending: str) -> None:
    root = make_folder(*PATHS)
    file = root.parent / f"x{ending}"
    table = table_of(root, "train")
    if ending == ".parquet":
        pq.write_table(table, file)
    else:
        write_arrow(table, file)
    read_damaged(file, seed=1)
