"""Features in and out of the cache."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from probe.cache.features import FeatureSet
from probe.cache.interchange import Names, export_features, import_features
from probe.cache.joining import join
from probe.cache.store import Store
from probe.datasets import DATASETS
from probe.errors import DataError, ProbeError, UnsafeFileError, UsageError
from tests.cache.toy import small_entry

RNG = np.random.default_rng(0)
X = RNG.standard_normal((30, 1, 1, 8)).astype(np.float32)
Y = (np.arange(30) % 10).astype(np.uint8)


def bottleneck(folder: Path, split: str, *, small: bool = True, **changes: Any) -> Path:
    name = f"vgg_cifar10{'_100' if small else ''}_bottleneck_features_{split}.p"
    values = {"features": X, "labels": Y.reshape(-1, 1), **changes}
    (folder / name).write_bytes(pickle.dumps(values, protocol=2))
    return folder / name


def test_bottleneck_pickles_become_one_entry(tmp_path: Path) -> None:
    paths = [bottleneck(tmp_path, "validation"), bottleneck(tmp_path, "train")]
    store = Store(tmp_path / "cache")
    entry = import_features(paths, store)
    assert list(entry.splits) == ["train", "val"]
    np.testing.assert_array_equal(entry["train"].features, X)
    np.testing.assert_array_equal(entry["val"].labels, Y)
    assert (entry.dataset, entry.key.backbone) == ("cifar10_100", "vgg")
    assert entry.classes == DATASETS["cifar10"].classes
    assert "unknown" in entry.provenance["provenance"]
    assert entry.key.parameters == "unknown"
    entry.verify()
    again = import_features(paths, store)
    assert (again.path, len(store.entries())) == (entry.path, 1)


def test_splits_imported_apart_are_joined(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    for split in ("train", "validation"):
        import_features([bottleneck(tmp_path, split)], store)
    assert list(join(store, store.choose(None)).splits) == ["train", "val"]


def test_a_pickle_that_wants_code_to_run_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    path = bottleneck(tmp_path, "train", features=Evil())
    with pytest.raises(UnsafeFileError):
        import_features([path], Store(tmp_path / "cache"))
    assert not (tmp_path / "ran").exists()
    assert Store(tmp_path / "cache").entries() == []


def written(folder: Path, kind: str) -> tuple[Path, Names]:
    flat, one_hot = X.reshape(30, 8), np.eye(10)[Y]
    path = folder / f"mine.{kind.split(maxsplit=1)[0]}"
    match kind:
        case "npz":
            np.savez(path, X=flat, y=Y)
            return path, Names()
        case "npz splits":
            path = folder / "splits.npz"
            np.savez(path, X_train=flat, y_train=Y, X_test=flat[:5], y_test=Y[:5])
            return path, Names()
        case "npy":
            np.save(path, flat.astype(np.float64))
            np.save(folder / "labels.npy", one_hot)
            return path, Names(labels=str(folder / "labels.npy"))
        case _:
            with h5py.File(path, "w") as file:
                file["deep/activations"], file["deep/classes"] = flat, Y.astype(np.float32)
                file["deep/names"] = [f"{row}.jpg" for row in range(30)]
            return path, Names(features="deep/activations", labels="deep/classes", ids="deep/names")


@pytest.mark.parametrize("kind", ["npz", "npz splits", "npy", "h5"])
def test_other_files_are_read(tmp_path: Path, kind: str) -> None:
    path, names = written(tmp_path, kind)
    entry = import_features([path], Store(tmp_path / "cache"), names=names)
    np.testing.assert_array_equal(entry["train"].features, X.reshape(30, 8))
    np.testing.assert_array_equal(entry["train"].labels, Y)
    assert entry.classes == tuple("0123456789")
    assert list(entry.splits) == (["train", "test"] if kind == "npz splits" else ["train"])
    assert entry["train"].ids[7] == ("7.jpg" if kind == "h5" else "train/00007")


def test_labels_may_be_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", features=X, labels=np.array(["dog", "cat"] * 15))
    entry = import_features([tmp_path / "a.npz"], Store(tmp_path), split="test")
    assert entry.classes == ("cat", "dog")
    assert entry["test"].labels.tolist() == [1, 0] * 15


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "nan": ({"features": np.full((30, 8), np.nan), "labels": Y}, "row 0 has a feature"),
    "counts": ({"features": X[:5], "labels": Y}, "5 rows of features and 30 labels"),
    "flat": ({"features": X.reshape(-1), "labels": Y}, "one row an image"),
    "names": ({"a": X, "b": Y}, "--features NAME"),
    "labels": ({"features": X, "labels": RNG.standard_normal(30)}, "expected class numbers"),
    "negative": ({"features": X, "labels": np.full(30, -1)}, "negative"),
    "ids": ({"features": X, "labels": Y, "ids": np.zeros(30)}, "1 different ids"),
    "empty": ({"features": X[:0], "labels": Y[:0]}, "0 rows"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_features_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    arrays, message = BAD[name]
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ProbeError, match=message) as caught:
        import_features([tmp_path / "a.npz"], Store(tmp_path))
    assert "\n" not in str(caught.value)


def test_files_that_are_not_there_or_not_what_they_are_called(tmp_path: Path) -> None:
    for name in ("a.npz", "a.npy", "a.h5", "a.p"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
        with pytest.raises(DataError):
            import_features([tmp_path / name], Store(tmp_path))
    with pytest.raises(DataError, match="no such file"):
        import_features([tmp_path / "b.npz"], Store(tmp_path))
    with pytest.raises(UsageError, match="expected one of"):
        import_features([tmp_path / "b.csv"], Store(tmp_path))


def test_npz_goes_out_and_comes_back(tmp_path: Path) -> None:
    entry = small_entry(tmp_path)
    export_features(entry, tmp_path / "out.npz")
    again = import_features([tmp_path / "out.npz"], Store(tmp_path / "b"))
    for name, split in entry.splits.items():
        np.testing.assert_array_equal(again[name].features, split.features)
        np.testing.assert_array_equal(again[name].labels, split.labels)
        assert again[name].ids == split.ids


def test_parquet_and_safetensors_hold_all_of_it(tmp_path: Path) -> None:
    entry = small_entry(tmp_path)
    export_features(entry, tmp_path / "out.safetensors")
    from safetensors import safe_open

    with safe_open(tmp_path / "out.safetensors", "np") as file:
        np.testing.assert_array_equal(file.get_tensor("train.features"), entry["train"].features)
        assert json.loads(file.metadata()["test.ids"]) == entry["test"].ids
        assert json.loads(file.metadata()["key"]) == entry.key.to_json()
    parquet = pytest.importorskip("pyarrow.parquet")
    export_features(entry, tmp_path / "out.parquet")
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.column_names == ["split", "id", "label", "class", "features"]
    rows = table.to_pydict()
    assert rows["id"] == entry["train"].ids + entry["test"].ids
    assert rows["class"][:3] == ["ant", "bee", "cat"]
    np.testing.assert_array_equal(
        np.array(rows["features"][:40], np.float32), entry["train"].features
    )


def test_a_damaged_entry_is_not_exported(tmp_path: Path) -> None:
    entry = small_entry(tmp_path)
    with entry.path.open("r+b") as file:
        file.seek(entry.header.features["test"].start)
        file.write(b"\xff")
    for ending in ("npz", "safetensors"):
        with pytest.raises(ProbeError, match="test row 0 "):
            export_features(FeatureSet.open(entry.path), tmp_path / f"out.{ending}")
        assert not (tmp_path / f"out.{ending}").exists()
    with pytest.raises(UsageError, match="expected one of"):
        export_features(entry, tmp_path / "out.csv")


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_what_was_exported_is_read_with_its_names(tmp_path: Path, ending: str) -> None:
    entry = small_entry(tmp_path)
    path = tmp_path / f"out.{ending}"
    export_features(entry, path)
    again = import_features([path], Store(tmp_path / "other"))
    assert again.classes == entry.classes
    assert list(again.splits) == list(entry.splits)
    for name, split in entry.splits.items():
        assert list(again[name].ids) == list(split.ids)
        np.testing.assert_array_equal(again[name].labels, split.labels)
        np.testing.assert_array_equal(again[name].features, split.features)


def test_a_broken_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"\xff" * 64)
    with pytest.raises(DataError, match=r"not a readable \.safetensors"):
        import_features([path], Store(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([0, 0, 0, 0], "all 4 training images are of one class, '0'"),
        ([0, 1, 2, 3], "4 training images are too few for `probe head` as it stands"),
        ([0, 0, 1, 1], None),
    ],
)
def test_no_head_is_offered_where_none_can_be_fitted(
    tmp_path: Path, labels: list[int], said: str | None
) -> None:
    from probe.cli.extract import next_step

    X = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    np.savez(tmp_path / "few.npz", X=X, y=np.array(labels))
    store = Store(tmp_path / "cache")
    entry = import_features([tmp_path / "few.npz"], store)
    found = next_step(entry, store)
    assert ("next" in found) == (said is None)
    assert (said or "probe head") in next(iter(found.values()))
