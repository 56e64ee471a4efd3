"""Datasets by name, folder or list: what is chosen, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import probe.datasets
from probe.datasets import DATASETS, Split, load_dataset
from probe.datasets.load import _check_ids
from probe.datasets.named.image_sets import READERS
from probe.errors import DataError, UnknownNameError, UsageError

Make = Callable[..., Path]


def test_the_public_names_are_sorted_and_there() -> None:
    names = probe.datasets.__all__
    assert set(names) == {name for name in names if hasattr(probe.datasets, name)}
    assert sorted(names, key=lambda name: (not name.isupper(), name.islower(), name)) == names


def test_importing_it_loads_nothing_heavy() -> None:
    code = "import sys, probe.datasets; print([m for m in sys.argv[1:] if m in sys.modules])"
    heavy = ["PIL.Image", "sklearn", "pooch", "requests", "rich", "mxnet", "matplotlib"]
    command = [sys.executable, "-c", code, *heavy]
    assert subprocess.check_output(command, text=True).strip() == "[]"


@pytest.mark.parametrize("name", ["cifar-10", "CIFAR10", "cifar11"])
def test_an_unknown_name_names_the_close_ones(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean .*cifar10.*no folder called that"):
        load_dataset(name, cache_dir=tmp_path)


def test_a_folder_that_is_not_there_or_is_a_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such folder"):
        load_dataset(str(tmp_path / "none"), cache_dir=tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(
        DataError, match=r"is a file of another kind; give .* a folder of class folders"
    ):
        load_dataset(str(tmp_path / "file"), cache_dir=tmp_path)


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_not_the_folder_one_stands_in(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--dataset is empty"):
        load_dataset(name, cache_dir=tmp_path)


def test_a_name_wins_and_a_slash_means_the_folder(
    make_folder: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_folder("cat/1.png", root="digits")
    monkeypatch.chdir(tmp_path)
    assert len(load_dataset("digits").splits["train"]) == 1797
    dataset = load_dataset("./digits")
    assert (dataset.name, dataset.classes) == ("digits", ("cat",))


@pytest.mark.parametrize("inner", [".", "cifar10"])
def test_class_folders_instead_of_official_files(
    make_folder: Make, no_network: None, inner: str
) -> None:
    root = make_folder(f"{inner}/train/cat/1.png", f"{inner}/test/cat/1.png")
    with pytest.raises(DataError, match="looked for cifar10's official files") as caught:
        load_dataset("cifar10", root=root, cache_dir=root.parent)
    assert "cifar-10-batches-py/data_batch_1" in str(caught.value)
    assert f"--dataset {root / inner} reads class folders" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per_class": 0}, "--per-class is 0"),
        ({"limit": -1}, "--limit is -1"),
        ({"workers": 0}, "--workers is 0"),
        ({"splits": ["dev"]}, "no split is called 'dev'; there are train, val, test"),
        ({"splits": []}, "no split is asked for"),
        ({"splits": "train"}, "give a list"),
        ({"root": Path("x")}, "comes with scikit-learn"),
        ({"coarse": True}, "no coarse labels"),
    ],
)
def test_an_option_that_makes_no_sense(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        load_dataset("digits", cache_dir=tmp_path, **options)


def test_options_that_a_folder_does_not_have(make_folder: Make) -> None:
    root = make_folder("cat/1.png")
    for options in ({"root": root}, {"coarse": True}):
        with pytest.raises(UsageError, match="is a folder"):
            load_dataset(str(root), cache_dir=root.parent, **options)  # type: ignore[arg-type]


def test_a_split_that_a_named_dataset_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="digits: has no split 'test'; it has train"):
        load_dataset("digits", cache_dir=tmp_path, splits=["test"])


def test_per_class_and_limit_hold_for_each_split(cifar10: Path, tmp_path: Path) -> None:
    def load(**options: Any) -> dict[str, Split]:
        return dict(load_dataset("cifar10", root=cifar10, cache_dir=tmp_path, **options).splits)

    for split in load(per_class=1).values():
        assert np.bincount(split.labels).max() == 1
    assert {name: len(split) for name, split in load(limit=3).items()} == {"train": 3, "test": 3}
    whole, some = load()["train"], load(limit=3)["train"]
    rows = [list(whole.ids).index(id_) for id_ in some.ids]
    assert rows == sorted(rows)
    np.testing.assert_array_equal(some.images.content(), whole.images.content()[rows])


def test_two_images_with_one_id(tmp_path: Path) -> None:
    split = load_dataset("digits", cache_dir=tmp_path, limit=3).splits["train"]
    with pytest.raises(DataError, match="digits: two images have the id 'a'"):
        _check_ids("digits", Split(ids=["a", "b", "a"], labels=split.labels, images=split.images))


def test_skip_bad_looks_only_at_what_was_chosen(make_folder: Make) -> None:
    root = make_folder(*(f"cat/{number}.png" for number in range(9)))
    cache = root.parent / "c"
    kept = load_dataset(str(root), cache_dir=cache, per_class=4).splits["train"].ids
    for path in root.rglob("*.png"):
        if f"cat/{path.name}" not in kept or path.name == Path(kept[0]).name:
            path.write_bytes(b"")
    dataset = load_dataset(str(root), cache_dir=cache, per_class=4, skip_bad=True)
    assert list(dataset.splits["train"].ids) == list(kept[1:])
    assert [bad.id for bad in dataset.skipped] == [kept[0]]


N_CLASSES = {
    "cifar100": 100, "flowers102": 102, "dtd": 47, "pets": 37, "pathmnist": 9, "dermamnist": 7,
    "bloodmnist": 8, "pneumoniamnist": 2, "breastmnist": 2, "elpv": 2,
}  # fmt: skip


@pytest.mark.parametrize("name", DATASETS)
def test_each_catalog_entry_is_complete(name: str) -> None:
    spec = DATASETS[name]
    assert len(set(spec.classes)) == len(spec.classes) == N_CLASSES.get(name, 10)
    assert len(spec.coarse_classes) == (20 if name == "cifar100" else 0)
    assert spec.title
    assert spec.licence
    assert spec.citation
    assert spec.homepage.startswith("http")
    for layout in spec.layouts:
        if layout.format not in READERS:
            assert tuple(split for split, _files in layout.splits) == spec.splits
        for source in layout.sources:
            algorithm, digest = source.checksum.split(":")
            assert (algorithm, len(digest)) in (("md5", 32), ("sha256", 64))
            assert all(url.partition("?")[0].endswith(source.file) for url in source.urls)


def test_the_digits_are_those_of_scikit_learn(tmp_path: Path, no_network: None) -> None:
    from sklearn.datasets import load_digits

    dataset = load_dataset("digits", cache_dir=tmp_path)
    wanted = load_digits()
    train = dataset.splits["train"]
    assert list(dataset.splits) == ["train"]
    assert dataset.classes == tuple("0123456789")
    np.testing.assert_array_equal(train.labels, wanted.target)
    for row in (0, 1796):
        image = train.images.image(row)
        assert image.shape == (8, 8, 3)
        np.testing.assert_allclose(image[:, :, 1], wanted.images[row] * 255 / 16, atol=0.5)
    assert max(train.images.image(row).max() for row in range(100)) == 255
