from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.datasets import Dataset, load_dataset
from probe.errors import DataError, MissingFilesError, UnsafeFileError, UsageError
from tests.datasets.conftest import CIFAR10_CLASSES


def load(root: Path, **options: Any) -> Dataset:
    cache = root.parent / "cache"
    return load_dataset("cifar10", root=root, cache_dir=cache, download=False, **options)


@pytest.mark.parametrize("layout", ["cifar-10-batches-bin", "cifar-10-batches-py"])
def test_both_layouts_say_the_same(cifar10: Path, layout: str) -> None:
    one, other = load(cifar10), load(cifar10 / layout)
    assert one.classes == other.classes == tuple(CIFAR10_CLASSES)
    assert list(one.splits) == list(other.splits) == ["train", "test"]
    for name, split in one.splits.items():
        same = other.splits[name]
        assert list(split.ids) == list(same.ids)
        assert split.labels.dtype == same.labels.dtype == np.int32
        np.testing.assert_array_equal(split.labels, same.labels)
        np.testing.assert_array_equal(split.images.content(), same.images.content())
        for row in range(len(split)):
            np.testing.assert_array_equal(split.images.image(row), same.images.image(row))


def test_rows_are_in_the_official_order(cifar10: Path) -> None:
    train = load(cifar10).splits["train"]
    assert list(train.ids[:2]) == ["train/00000", "train/00001"]
    raw = (cifar10 / "cifar-10-batches-bin" / "data_batch_2.bin").read_bytes()
    red, green = raw[1], raw[1 + 1024]
    assert train.labels[4] == raw[0]
    assert train.images.image(4)[0, 0, :2].tolist() == [red, green]


def test_the_real_images(real_cifar10: Path) -> None:
    one = load(real_cifar10 / "cifar-10-batches-bin")
    other = load(real_cifar10 / "cifar-10-batches-py")
    assert {name: len(split) for name, split in one.splits.items()} == {
        "train": 50000,
        "test": 10000,
    }
    assert np.bincount(one.splits["train"].labels).tolist() == [5000] * 10
    for name, split in one.splits.items():
        np.testing.assert_array_equal(split.labels, other.splits[name].labels)
        contents = split.images.content(), other.splits[name].images.content()
        np.testing.assert_array_equal(*contents)
        for row in (0, len(split) - 1):
            image = split.images.image(row)
            np.testing.assert_array_equal(image, other.splits[name].images.image(row))
    names = pickle.loads((real_cifar10 / "cifar-10-batches-py" / "data_batch_1").read_bytes())
    assert (
        names[b"filenames"][0].decode().split("_")[0] == one.classes[one.splits["train"].labels[0]]
    )


def write_cifar100(root: Path) -> None:
    py, raw = root / "cifar-100-python", root / "cifar-100-binary"
    py.mkdir(parents=True)
    raw.mkdir()
    random = np.random.default_rng(0)
    for stem in ("train", "test"):
        data = random.integers(0, 256, (6, 3072), np.uint8)
        fine, coarse = random.integers(0, 100, 6), random.integers(0, 20, 6)
        batch = {"data": data, "fine_labels": fine.tolist(), "coarse_labels": coarse.tolist()}
        (py / stem).write_bytes(pickle.dumps(batch))
        labels = np.stack([coarse, fine], axis=1).astype(np.uint8)
        (raw / f"{stem}.bin").write_bytes(np.concatenate([labels, data], axis=1).tobytes())


@pytest.mark.parametrize("coarse", [False, True])
def test_cifar100_has_two_kinds_of_labels(tmp_path: Path, coarse: bool) -> None:
    write_cifar100(tmp_path / "c")
    found = [
        load_dataset("cifar100", root=tmp_path / "c" / name, cache_dir=tmp_path, coarse=coarse)
        for name in ("cifar-100-python", "cifar-100-binary")
    ]
    key = "coarse_labels" if coarse else "fine_labels"
    wanted = pickle.loads((tmp_path / "c" / "cifar-100-python" / "test").read_bytes())[key]
    for dataset in found:
        assert len(dataset.classes) == (20 if coarse else 100)
        assert dataset.splits["test"].labels.tolist() == wanted
    contents = [dataset.splits["test"].images.content() for dataset in found]
    np.testing.assert_array_equal(*contents)


def test_coarse_needs_superclasses(cifar10: Path) -> None:
    with pytest.raises(UsageError, match="no coarse labels"):
        load(cifar10, coarse=True)


def test_class_names_come_from_the_meta_file(cifar10: Path) -> None:
    meta = cifar10 / "cifar-10-batches-bin" / "batches.meta.txt"
    meta.write_text("\n".join(f"c{number}" for number in range(10)))
    assert load(cifar10).classes[3] == "c3"
    meta.write_text("only\ntwo\n")
    with pytest.raises(DataError, match=r"batches\.meta\.txt: 2 class names instead of 10"):
        load(cifar10)
    meta.unlink()
    assert load(cifar10).classes == tuple(CIFAR10_CLASSES)


def test_a_cut_file_names_itself(cifar10: Path) -> None:
    path = cifar10 / "cifar-10-batches-bin" / "data_batch_3.bin"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(DataError, match=r"data_batch_3\.bin: .*no whole number of records"):
        load(cifar10)
    path = cifar10 / "cifar-10-batches-py" / "data_batch_3"
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(DataError, match=r"data_batch_3: not a whole pickle"):
        load(cifar10 / "cifar-10-batches-py")


@pytest.mark.parametrize("label", [10, 255])
def test_a_label_out_of_range(cifar10: Path, label: int) -> None:
    path = cifar10 / "cifar-10-batches-bin" / "test_batch.bin"
    data = bytearray(path.read_bytes())
    data[3073] = label
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"test_batch\.bin: the label of image 1 is {label}"):
        load(cifar10)


GOOD = {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1]}


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ([1], "holds no dictionary"),
        ({"labels": [0, 1]}, "'data' is missing"),
        (GOOD | {"data": np.zeros((2, 3071), np.uint8)}, "'data' is uint8"),
        (GOOD | {"data": np.zeros((2, 3072), np.float32)}, "'data' is float32"),
        (GOOD | {"data": np.uint8(3)}, "'data' is missing"),
        (GOOD | {"labels": [0]}, "'labels' is not one whole number"),
        (GOOD | {"labels": [0.5, 1]}, "'labels' is not one whole number"),
        (GOOD | {"labels": [0, [1]]}, "'labels' is not one whole number"),
        (GOOD | {"labels": None}, "'labels' is not one whole number"),
        (GOOD | {"labels": [0, -1]}, "is -1, out of range"),
        (GOOD | {"labels": [0, 2**40]}, "out of range"),
    ],
)
def test_a_wrong_batch_is_one_clear_line(cifar10: Path, batch: object, message: str) -> None:
    path = cifar10 / "cifar-10-batches-py" / "data_batch_2"
    path.write_bytes(pickle.dumps(batch))
    with pytest.raises(DataError, match=f"data_batch_2: .*{message}"):
        load(cifar10 / "cifar-10-batches-py")


def test_a_hostile_batch_runs_nothing(cifar10: Path, tmp_path: Path) -> None:
    path = cifar10 / "cifar-10-batches-py" / "data_batch_1"
    path.write_bytes(f"cos\nsystem\n(S'touch {tmp_path}/ran'\ntR.".encode())
    with pytest.raises(UnsafeFileError, match=r"data_batch_1: .*os\.system"):
        load(cifar10 / "cifar-10-batches-py")
    assert not (tmp_path / "ran").exists()


def test_only_the_wanted_splits_are_needed(cifar10: Path) -> None:
    (cifar10 / "cifar-10-batches-py" / "data_batch_4").unlink()
    root = cifar10 / "cifar-10-batches-py"
    assert list(load(root, splits=["test"]).splits) == ["test"]
    with pytest.raises(MissingFilesError, match=r"data_batch_4 missing.*cifar-10-python\.tar\.gz"):
        load(root)
