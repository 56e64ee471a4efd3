"""Files of MXNet's records as datasets: alone or in a folder, with and without names beside."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.core.reading import ReadOptions
from probe.datasets import Dataset, load_dataset
from probe.datasets.forms.indexing import Ratios, write_lists
from probe.datasets.forms.packing import pack_list
from probe.datasets.forms.recordio import MAGIC, RecordWriter, read_records
from probe.errors import DataError, ImageError, UsageError
from tests.datasets.conftest import LONG_AGO

MakeFolder = Callable[..., Path]


def labels(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


@pytest.fixture
def images(make_folder: MakeFolder) -> list[bytes]:
    """Six image files."""
    folder = make_folder(*(f"{n}.png" for n in range(6)), root="six")
    return [(folder / f"{n}.png").read_bytes() for n in range(6)]


def write(path: Path, records: list[tuple[int, bytes, bytes]], *, index: bool = False) -> Path:
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file, path.with_suffix(".idx").open("wb") as lines:
        writer = RecordWriter(file, lines)
        for record in records:
            writer.write(*record)
    if not index:
        path.with_suffix(".idx").unlink()
    return path


def load(path: Path, **options: Any) -> Dataset:
    cache = path.parent / "no cache" if path.is_dir() else path.with_name("no cache")
    return load_dataset(str(path), cache_dir=cache, **options)


def test_a_folder_and_its_records_are_the_same_images(
    make_folder: MakeFolder, tmp_path: Path
) -> None:
    folder = make_folder(*(f"{name}/{n}.png" for name in ("cat", "dog") for n in range(20)))
    dataset = load_dataset(str(folder), cache_dir=tmp_path / "cache")
    out = tmp_path / "packed"
    for one in write_lists(dataset, out / "pets", ratios=Ratios(val=0.2, test=0.3), chunks=2):
        pack_list(one.path, root=folder)
    packed = load_dataset(str(out), cache_dir=tmp_path / "cache", workers=3)
    assert {name: len(split) for name, split in packed.splits.items()} == {
        "train": 20, "val": 8, "test": 12,
    }  # fmt: skip
    assert packed.classes == ("cat", "dog")
    before = dataset.splits["train"]
    known = {one.tobytes(): row for row, one in enumerate(before.images.content())}
    seen = []
    for split in packed.splits.values():
        for row, content in enumerate(split.images.content()):
            own = known[content.tobytes()]
            seen.append(own)
            assert split.ids[row].split("/")[1] == str(own)  # the record's id is the index
            assert split.labels[row] == before.labels[own]
            np.testing.assert_array_equal(split.images.image(row), before.images.image(own))
    assert sorted(seen) == list(range(40))


def test_images_of_a_divided_record(tmp_path: Path, images: list[bytes]) -> None:
    odd = images[0] + bytes(-len(images[0]) % 4) + MAGIC + b"after the end of the image"
    path = write(tmp_path / "a.rec", [(MAGIC_ID, labels(1), odd), (2, labels(0), images[1])])
    split = load(path).splits["train"]
    assert split.ids == [f"a.rec/{MAGIC_ID}", "a.rec/2"]
    np.testing.assert_array_equal(split.images.image(0), decoded(images[0]))
    np.testing.assert_array_equal(split.images.image(1), decoded(images[1]))


MAGIC_ID = 0xCED7230A


def decoded(data: bytes) -> Any:
    from probe.datasets import decode

    return decode(data, "image")


def test_labels_are_numbered_by_number(
    tmp_path: Path, images: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    numbers = [10, 9, 10, 2, 9, 10]
    rows = [(n, labels(number), images[n]) for n, number in enumerate(numbers)]
    path = write(tmp_path / "a.rec", rows)
    found = load(path)
    assert found.classes == ("2", "9", "10")
    assert found.splits["train"].labels.tolist() == [2, 1, 2, 0, 1, 2]
    lines = [f"{n}\t{number}\t{number} things/{n}.png\n" for n, number in enumerate(numbers)]
    path.with_suffix(".lst").write_text("".join(lines))
    assert load(path).classes == ("2 things", "9 things", "10 things")
    assert "names from the folders in " in caplog.text
    path.with_suffix(".lst").write_text("0\t9\tnine/0.png\n")
    assert load(path).classes == ("2", "9", "10")
    assert "gives the image 0 another label than its record has" in caplog.text
    path.with_suffix(".lst").write_text("0\t10\tten/0.png\n")  # names one of three
    assert load(path).classes == ("2", "9", "10")
    assert load(path, reading=ReadOptions(unlabeled=True)).classes == ("unlabeled",)


def test_several_labels_an_image(
    tmp_path: Path, images: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    flags = [(1, 0, 0, 0), (1, 1, 0, 0), (0, 0, 0, 1), (0, 0, 0, 0)]
    path = write(tmp_path / "a.rec", [(n, labels(*one), images[n]) for n, one in enumerate(flags)])
    found = load(path)
    assert found.classes == ("0", "1", "3")
    assert found.splits["train"].labels.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert "left out 1 class without an image: 2" in caplog.text
    assert load(path, reading=ReadOptions(label="1")).classes == ("0", "1")


def test_faces_whose_first_record_counts_them(tmp_path: Path, images: list[bytes]) -> None:
    rows = [(n, labels(n % 2, 0.5), images[n]) for n in range(1, 4)]
    path = write(tmp_path / "train.rec", [(0, labels(4, 6), b""), *rows])
    with pytest.raises(DataError, match=r"record 0 at byte 0 holds no image \(1 such of 4; --skip"):
        load(path)
    with pytest.raises(DataError, match=r"2 labels \(1, 0\.5\) .* --label 0 takes the first"):
        load(path, skip_bad=True)
    found = load(path, skip_bad=True, reading=ReadOptions(label="0"))
    assert [*found.splits["train"].ids] == ["train.rec/1", "train.rec/2", "train.rec/3"]
    assert [(one.id, one.reason) for one in found.skipped] == [
        ("train.rec/0", "the record holds no image")
    ]
    assert found.splits["train"].labels.tolist() == [1, 0, 1]
    np.testing.assert_array_equal(found.splits["train"].images.image(2), decoded(images[3]))


def test_ids_that_repeat_are_places(
    tmp_path: Path, images: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "a.rec", [(0, labels(n), images[n]) for n in range(3)])
    assert load(path).splits["train"].ids == ["a.rec/0", "a.rec/1", "a.rec/2"]
    assert "several records have the id 0; ids are places in the file" in caplog.text


def test_which_files_are_which_split(tmp_path: Path, images: list[bytes]) -> None:
    def one(name: str, *numbers: int) -> None:
        write(folder / name, [(n, labels(n % 2), images[n]) for n in numbers])

    folder = tmp_path / "my records"
    for name, numbers in (("p_1_train.rec", (0, 1)), ("p_2_train.rec", (2,)), ("p_val.rec", (3,))):
        one(name, *numbers)
    found = load(folder)
    assert {name: [*split.ids] for name, split in found.splits.items()} == {
        "train": ["p_1_train.rec/0", "p_1_train.rec/1", "p_2_train.rec/2"],
        "val": ["p_val.rec/3"],
    }
    assert (found.name, found.root) == ("my records", folder)
    assert load(folder / "p_val.rec").splits["train"].ids == ["p_val.rec/3"]
    assert len(load(folder / "p_{1..2}_train.rec").splits["train"]) == 3
    one("extra.rec", 4)
    with pytest.raises(DataError, match=r"some files are called like splits .* and others not"):
        load(folder)
    for path in folder.glob("p_*"):
        path.unlink()
    one("more.rec", 5)
    assert [*load(folder).splits["train"].ids] == ["extra.rec/4", "more.rec/5"]


def test_a_class_that_is_not_trained(tmp_path: Path, images: list[bytes]) -> None:
    folder = tmp_path / "r"
    write(folder / "train.rec", [(n, labels(n), images[n]) for n in range(2)])
    write(folder / "test.rec", [(n, labels(n), images[n]) for n in range(3)])
    with pytest.raises(
        DataError, match=r"test\.rec: record 2 at byte \d+: the class '2' is in test but not in"
    ):
        load(folder)


def test_an_index_shows_what_is_missing(
    tmp_path: Path, images: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    rows = [(n, labels(n % 2), images[n]) for n in range(6)]
    path = write(tmp_path / "a.rec", rows, index=True)
    assert len(load(path).splits["train"]) == 6
    last = [one.offset for one in read_records(path)][-1]
    os.truncate(path, last)  # between two records, where nothing of the file itself shows it
    with pytest.raises(
        DataError, match=rf"names a record 5 at byte {last:,} of a\.rec, where none"
    ):
        load(path)
    index = path.with_suffix(".idx")
    index.write_text("".join(index.read_text().splitlines(keepends=True)[:4]))
    assert len(load(path).splits["train"]) == 5
    assert "names 4 of the 5 records of a.rec; all are read" in caplog.text
    os.truncate(path, last - 1)
    with pytest.raises(DataError, match="goes on beyond the end of the file"):
        load(path)


def test_labels_that_are_no_classes(tmp_path: Path, images: list[bytes]) -> None:
    path = tmp_path / "a.rec"
    for one, told in (
        (labels(0.5), r"a\.rec: record 1 at byte \d+ has the label 0\.5, which is no whole number"),
        (labels(1, 2), r"record 1 .* has 2 labels, and .*record 0 at byte 0 has 1 label"),
    ):
        write(path, [(0, labels(0), images[0]), (1, one, images[1])])
        with pytest.raises(DataError, match=told):
            load(path)


def test_a_file_that_is_replaced_while_its_dataset_is_in_use(
    tmp_path: Path, images: list[bytes]
) -> None:
    path = write(tmp_path / "a.rec", [(n, labels(n), images[n]) for n in range(2)])
    split = load(path).splits["train"]
    write(path, [(n, labels(1 - n), images[n]) for n in range(2)])  # the labels are others now
    with pytest.raises(DataError, match="this file was changed since this command looked at it"):
        split.images.content()


def test_an_image_that_is_changed_or_broken_is_told(tmp_path: Path, images: list[bytes]) -> None:
    rows = [(n, labels(n), images[n]) for n in range(2)]
    path = write(tmp_path / "a.rec", [*rows, (7, labels(0), b"no image")])
    split = load(path).splits["train"]
    with pytest.raises(ImageError, match=r"a\.rec: record 7 at byte [\d,]+: is not a JPEG"):
        split.images.image(2)
    split.images.content()
    data = bytearray(path.read_bytes())
    data[60] ^= 255
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match="was changed since this command looked at it"):
        split.images.image(0)


def test_records_that_cannot_be_read_are_left_out(tmp_path: Path, images: list[bytes]) -> None:
    rows = [(n, labels(n % 2), one) for n, one in enumerate([*images, b"no image", images[0][:60]])]
    path = write(tmp_path / "a.rec", rows)
    os.utime(path, (LONG_AGO, LONG_AGO))
    for _ in range(2):  # computed, and remembered
        found = load(path, skip_bad=True, workers=2)
        assert found.splits["train"].ids == [f"a.rec/{n}" for n in range(6)]
        assert [one.id for one in found.skipped] == ["a.rec/6", "a.rec/7"]
        assert found.skipped[0].reason.startswith("is not a JPEG")
    write(path, [(0, labels(0), images[0]), (1, labels(1), b"no image")])
    with pytest.raises(DataError, match=r"no image of '1' in train can be read \(a\.rec/1: is not"):
        load(path, skip_bad=True)


def test_images_of_records_can_be_read_in_another_process(
    tmp_path: Path, images: list[bytes]
) -> None:
    path = write(tmp_path / "a.rec", [(n, labels(n), images[n]) for n in range(3)])
    split = pickle.loads(pickle.dumps(load(path).splits["train"]))
    np.testing.assert_array_equal(split.images.image(1), decoded(images[1]))


def test_options_of_other_forms_are_refused(tmp_path: Path, images: list[bytes]) -> None:
    path = write(tmp_path / "a.rec", [(0, labels(0), images[0])])
    with pytest.raises(UsageError, match=r"--where has no effect on files of MXNet's records"):
        load(path, reading=ReadOptions(where="x == 1"))
    with pytest.raises(UsageError, match="so --dataset-root"):
        load(path, root=tmp_path)


def test_no_records(tmp_path: Path) -> None:
    path = tmp_path / "a.rec"
    path.touch()
    with pytest.raises(DataError, match=r"a\.rec: holds no records"):
        load(path)
    path.unlink()
    with pytest.raises(DataError, match="there is no such file"):
        load(path)
