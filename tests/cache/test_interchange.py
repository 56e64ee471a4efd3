"""Feature files as other tools write them: every array is used or named, and nothing is guessed."""

from __future__ import annotations

import io
import json
import os
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from probe.cache.features import FeatureSet
from probe.cache.interchange import Names, export_features, import_features
from probe.cache.interchange.roles import split_and_role
from probe.cache.joining import join
from probe.cache.store import Store
from probe.core.records import loads_json, read_json
from probe.datasets import DATASETS
from probe.errors import DataError, ProbeError, UnsafeFileError, UsageError
from tests.cache.toy import small_entry

RNG = np.random.default_rng(3)
N, D = 12, 5
X = RNG.standard_normal((N, D)).astype(np.float32)
Y = np.arange(N) % 3
NAMES = np.array(["cat", "dog", "owl"])[Y]
XT, YT = X[:6] + 1, Y[:6]


def imported(path: Path, **options: Any) -> FeatureSet:
    return import_features([path], Store(path.parent / "cache"), **options)


def npz(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "some.npz", **arrays)
    return folder / "some.npz"


def h5(folder: Path, name: str = "some.h5", *, userblock: int = 0, **arrays: Any) -> Path:
    with h5py.File(folder / name, "w", userblock_size=userblock) as file:
        for one, value in arrays.items():
            file.create_dataset(one.replace("__", "/"), data=value)
    return folder / name


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("X_train", ("train", "features")), ("train_X", ("train", "features")),
        ("xtrain", ("train", "features")), ("XTrain", ("train", "features")),
        ("features_train", ("train", "features")), ("trainFeatures", ("train", "features")),
        ("valid_y", ("val", "labels")), ("dev_labels", ("val", "labels")),
        ("validation/features", ("val", "features")), ("data/train/labels", ("train", "labels")),
        ("test.ids", ("test", "ids")), ("y", (None, "labels")), ("label_names", (None, "classes")),
        ("train_images", None), ("features_resnet", None), ("X_y", None), ("train", None),
        ("2", None), ("", None),
    ],
)  # fmt: skip
def test_what_an_arrays_name_says(name: str, place: Any) -> None:
    assert split_and_role(name) == place


def test_arrays_without_a_split_are_train_beside_those_with_one(tmp_path: Path) -> None:
    entry = imported(npz(tmp_path, X=X, y=Y, X_test=XT, y_test=YT))
    np.testing.assert_array_equal(entry["train"].features, X)
    np.testing.assert_array_equal(entry["test"].features, XT)
    np.savez(tmp_path / "set_and_test.npz", X=X, y=Y, X_test=XT, y_test=YT)  # its name says less
    assert list(imported(tmp_path / "set_and_test.npz").splits) == ["train", "test"]
    assert list(imported(npz(tmp_path, train_X=X, train_y=Y, dev_X=XT, dev_y=YT)).splits) == [
        "train", "val",
    ]  # fmt: skip


def test_two_arrays_for_one_place_are_refused(tmp_path: Path) -> None:
    both = {"val_X": XT, "val_y": YT, "validation_X": X, "validation_y": Y}
    with pytest.raises(DataError, match="val_X and validation_X are both val features"):
        imported(npz(tmp_path, train_X=X, train_y=Y, **both))
    with pytest.raises(DataError, match="X and X_train both are the features of train"):
        imported(npz(tmp_path, X=X, y=Y, X_train=XT, y_train=YT))
    path = npz(tmp_path, X=X, y=Y, X_train=XT, y_train=YT)
    assert len(imported(path, names=Names(features="X", labels="y"))["train"]) == N
    with pytest.raises(UsageError, match=r"--features nothing: .* has X, y, X_train, y_train"):
        imported(path, names=Names(features="nothing"))


def test_what_is_not_used_is_named_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    imported(npz(tmp_path, X_train=X, y_train=Y, X_test=XT, extra=np.ones(3), resnet_X=X))
    said = [record.getMessage().split(": ", 1)[1] for record in caplog.records]
    assert said == ["no labels for X_test; left out", "not used: extra, resnet_X"]


def test_one_file_of_labels_is_for_one_of_features(tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", Y)
    names = Names(labels=str(tmp_path / "labels.npy"))
    paths = [tmp_path / "train.npy", tmp_path / "test.npy"]
    for path in paths:
        np.save(path, X)
    with pytest.raises(UsageError, match="one file of labels for 2 of features"):
        import_features(paths, Store(tmp_path / "cache"), names=names)
    with pytest.raises(UsageError, match="one file for the features of several splits"):
        imported(npz(tmp_path, X=X, X_test=XT), names=names)
    assert imported(paths[0], names=names)["train"].labels.tolist() == Y.tolist()


LABELS: dict[str, Any] = {
    "one-hot": np.eye(3)[Y],
    "one-hot, -1": 2 * np.eye(3)[Y] - 1,
    "whole floats": Y.astype(np.float64),
    "a row": Y[None],
    "a column": Y[:, None],
    "big-endian": Y.astype(">i8"),
}


@pytest.mark.parametrize("form", LABELS)
def test_forms_of_labels(tmp_path: Path, form: str) -> None:
    entry = imported(npz(tmp_path, X=X, y=LABELS[form]))
    assert (entry["train"].labels.tolist(), entry.classes) == (Y.tolist(), ("0", "1", "2"))


@pytest.mark.parametrize("kind", ["unicode", "bytes", "objects", "variable", "list", "pickled"])
def test_names_as_tools_write_them(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "some.pkl"
    match kind:
        case "unicode" | "objects":
            path = npz(tmp_path, X=X, y=NAMES if kind == "unicode" else NAMES.astype(object))
        case "bytes" | "variable":
            path = h5(tmp_path, features=X, labels=NAMES.astype("S" if kind == "bytes" else object))
        case _:
            y = NAMES.tolist() if kind == "list" else NAMES.astype(object)
            path.write_bytes(pickle.dumps({"features": X, "labels": y}))
    entry = imported(path, split="test")
    assert entry.classes == ("cat", "dog", "owl")
    assert entry["test"].labels.tolist() == Y.tolist()


def test_an_enumeration_names_its_classes(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "some.h5", "w") as file:
        kind = h5py.enum_dtype({"OWL": 0, "CAT": 1, "ANT": 2, "BEE": 3}, "u1")
        file.create_dataset("features", data=X)
        file.create_dataset("labels", data=Y.astype("u1"), dtype=kind)
    entry = imported(tmp_path / "some.h5")
    assert entry.classes == ("OWL", "CAT", "ANT", "BEE")
    assert entry["train"].labels.tolist() == Y.tolist()


def test_numbers_are_counted_by_those_that_are_there(tmp_path: Path) -> None:
    entry = imported(npz(tmp_path, X=X, y=Y * 1_000_000 + 7))
    assert entry.classes == ("7", "1000007", "2000007")
    assert entry["train"].labels.tolist() == Y.tolist()
    assert imported(npz(tmp_path, X=X, y=Y * 5)).classes == ("0", "5", "10")
    assert imported(npz(tmp_path, X=X, y=2 * (Y > 1) - 1)).classes == ("-1", "1")
    huge = {"features": X, "labels": [2**31 - 2] * 6 + [2**62] * 6}
    (tmp_path / "huge.p").write_bytes(pickle.dumps(huge))
    assert imported(tmp_path / "huge.p").classes == (str(2**31 - 2), str(2**62))
    with pytest.raises(UsageError, match="labels go up to 3; number them from 0"):
        imported(npz(tmp_path, X=X, y=Y + 1), classes=["a", "b", "c"])


def matlab73(folder: Path, **arrays: Any) -> Path:
    path = h5(folder, "some.mat", userblock=512, **arrays)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116) + b"\0" * 8 + b"\0\2IM")
    return path


@pytest.mark.parametrize("turned", [False, True])
def test_matlab_files_of_both_kinds(tmp_path: Path, turned: bool) -> None:
    from scipy.io import savemat

    y = (Y + 1)[None].astype(np.float64)
    entry = imported(matlab73(tmp_path, features=X if turned else X.T, labels=y))
    np.testing.assert_array_equal(entry["train"].features, X)
    assert (entry.classes, entry["train"].labels.tolist()) == (("1", "2", "3"), Y.tolist())
    cells = np.array([*NAMES.tolist(), ""], object)[:-1]  # as a cell array of texts
    ids = np.array([f"{row}.jpg" for row in range(N)])  # as a char matrix: filled up with spaces
    table = {"X": X.T if turned else X, "y": cells, "ids": ids, "note": "made by hand"}
    savemat(tmp_path / "five.mat", table)
    entry = imported(tmp_path / "five.mat")
    np.testing.assert_array_equal(entry["train"].features, X)
    assert entry.classes == ("cat", "dog", "owl")
    assert entry["train"].ids[1] == "1.jpg"


def test_a_square_matlab_array_is_not_guessed(tmp_path: Path) -> None:
    from scipy.io import savemat

    square = RNG.standard_normal((N, N))
    savemat(tmp_path / "five.mat", {"X": square, "y": Y})
    for path in (matlab73(tmp_path, X=square, y=Y[None]), tmp_path / "five.mat"):
        with pytest.raises(DataError, match="12 x 12 for 12 labels: whether a row or a column"):
            imported(path)
    assert len(imported(npz(tmp_path, X=square, y=Y))["train"]) == N


def test_a_block_before_hdf5_that_is_not_matlabs_turns_nothing(tmp_path: Path) -> None:
    square = RNG.standard_normal((N, N)).astype(np.float32)
    entry = imported(h5(tmp_path, userblock=512, features=square, labels=Y))
    np.testing.assert_array_equal(entry["train"].features, square)


def test_rows_of_zeros_at_the_end_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    half = X.copy()
    half[7:] = 0
    half[3] = 0  # not at the end: an image may have no activations
    imported(npz(tmp_path, X=half, y=Y))
    assert "the last 5 of 12 rows of X hold zeros only" in caplog.text
    caplog.clear()
    imported(npz(tmp_path, X=X, y=Y))
    assert not caplog.records


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "nan": ({"X": np.where(np.arange(N)[:, None] == 4, np.nan, X), "y": Y}, "row 4 has a feature"),
    "beyond float32": ({"X": X.astype("f8") * 1e39, "y": Y}, "row 0 .* not finite as float32"),
    "complex": ({"X": X.astype("c8"), "y": Y}, "features are complex64"),
    "nan label": ({"X": X, "y": np.where(Y == 2, np.nan, Y)}, "row 2 is nan"),
    "half label": ({"X": X, "y": Y + 0.5}, "row 0 is 0.5"),
    "turned": ({"X": X.T, "y": Y}, "other way round"),
    "classes twice": ({"X": X, "y": Y, "classes": np.array(["a", "b", "a"])}, "'a' twice"),
    "nothing in a row": ({"X": X[:, :0], "y": Y}, "no numbers in a row"),
    "other numbers": ({"X": X, "y": np.eye(3)[Y] * 2}, "row 0 holds other than 0 and 1"),
    "latin-1": ({"X": X, "y": np.array([b"caf\xe9", b"caf\xe8"] * 6)}, "row 0, is .* not UTF-8"),
    "latin-1 ids": ({"X": X, "y": Y, "ids": np.array([b"\xe9%d" % k for k in range(N)])}, "UTF-8"),
    "counts": ({"X": X[:5], "y": Y}, "5 rows of features and 12 labels"),
    "flat": ({"X": X.reshape(-1), "y": Y}, "one row an image"),
    "names": ({"a": X, "b": Y}, "--features NAME"),
    "labels": ({"X": X, "y": RNG.standard_normal(N)}, "expected class numbers"),
    "negative": ({"X": X, "y": np.full(N, -1)}, "negative"),
    "ids": ({"X": X, "y": Y, "ids": np.zeros(N)}, "1 different ids"),
    "empty": ({"X": X[:0], "y": Y[:0]}, "0 rows"),
    "latin-1 classes": ({"X": X, "y": Y, "classes": np.array([b"a", b"\xe9", b"\xe8"])}, "UTF-8"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_with_its_row(tmp_path: Path, name: str) -> None:
    arrays, message = WRONG[name]
    with pytest.raises(ProbeError, match=message) as caught:
        imported(npz(tmp_path, **arrays))
    assert "\n" not in str(caught.value)
    assert Store(tmp_path / "cache").entries() == []


def test_an_enumeration_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    kind = h5py.h5t.enum_create(h5py.h5t.NATIVE_INT32)
    for number, name in enumerate((b"caf\xe9", b"caf\xe8")):
        kind.enum_insert(name, number)
    with h5py.File(tmp_path / "some.h5", "w") as file:
        file["features"] = X
        space = h5py.h5s.create_simple((N,))
        labels = h5py.h5d.create(file.id, b"labels", kind, space)
        labels.write(h5py.h5s.ALL, h5py.h5s.ALL, (Y % 2).astype(np.int32), mtype=kind)
    with pytest.raises(DataError, match=r"a class of labels is .* not UTF-8"):
        imported(tmp_path / "some.h5")


def shared_lists(levels: int) -> list[Any]:
    value: list[Any] = [0] * 10
    for _ in range(levels):
        value = [value] * 10
    return value


def circle() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


PICKLED: dict[str, tuple[Any, str]] = {
    "none": ({"features": X, "labels": None}, "NoneType"),
    "a number": ({"features": X, "labels": 3}, "int"),
    "a dictionary": ({"features": X, "labels": {1: 2}}, "dict"),
    "ragged": ({"features": X, "labels": [[1], [2, 3]] * 6}, "different lengths"),
    "ragged features": ({"features": [[1.0], [2.0, 3.0]] * 6, "labels": Y}, "expected numbers"),
    "mixed": ({"features": X, "labels": [*NAMES[:-1].tolist(), 7]}, "row 11 is 7"),
    "shared": ({"features": X, "labels": shared_lists(12)}, "unfold to more than"),
    "shared text": ({"features": X, "labels": ["a" * 4000] * 50_000}, "unfold to more than"),
    "a circle": ({"features": X, "labels": circle()}, "unfold to more than"),
    "beyond 64 bits": ({"features": X, "labels": [2**80] * N}, "expected class numbers"),
    "half a surrogate": ({"features": X, "labels": ["\ud800"] * N}, "not UTF-8"),
    "a pair": ((X, Y), "holds a tuple"),
}


@pytest.mark.parametrize("name", PICKLED)
def test_pickles_that_hold_something_else(tmp_path: Path, name: str) -> None:
    value, message = PICKLED[name]
    (tmp_path / "some.p").write_bytes(pickle.dumps(value))
    with pytest.raises(ProbeError, match=message):
        imported(tmp_path / "some.p")


def external(folder: Path, secret: Path) -> None:
    with h5py.File(folder / "some.h5", "w") as file:
        file.create_dataset("features", (N, 4), "u1", external=[(str(secret), 0, N * 4)])
        file["labels"] = Y


def external_link(folder: Path, secret: Path) -> None:
    with h5py.File(folder / "some.h5", "w") as file:
        file["features"], file["labels"] = h5py.ExternalLink(str(secret), "features"), Y


def soft_link(folder: Path, secret: Path) -> None:
    with h5py.File(folder / "some.h5", "w") as file:
        file["far"], file["labels"] = h5py.ExternalLink(str(secret), "/"), Y
        file["features"] = h5py.SoftLink("/far/features")


def virtual(folder: Path, secret: Path) -> None:
    layout = h5py.VirtualLayout((N, 4), "u1")
    layout[:] = h5py.VirtualSource(str(secret), "features", (N, 4))
    with h5py.File(folder / "some.h5", "w") as file:
        file.create_virtual_dataset("features", layout)
        file["labels"] = Y


@pytest.mark.parametrize("make", [external, external_link, soft_link, virtual])
@pytest.mark.parametrize("pipe", [False, True])
def test_hdf5_reaches_no_other_file(tmp_path: Path, make: Any, pipe: bool) -> None:
    secret = tmp_path / "secret"
    if pipe:  # who opens it waits for ever
        os.mkfifo(secret)
    else:
        with h5py.File(secret, "w") as file:
            file["features"] = np.full((N, 4), 65, np.uint8)
    make(tmp_path, secret)
    with pytest.raises(UnsafeFileError, match=r"in another file|somewhere else"):
        imported(tmp_path / "some.h5")


@pytest.mark.parametrize("ending", ["npz", "npy", "h5", "mat", "p", "safetensors", "parquet"])
def test_only_regular_files_are_opened(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"some.{ending}"
    os.mkfifo(path)
    with pytest.raises(DataError, match="is not a regular file but a pipe"):
        imported(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match="is not a regular file but a folder"):
        imported(path)
    with pytest.raises(DataError, match="File name too long"):
        imported(tmp_path / f"{'a' * 300}.{ending}")
    with pytest.raises(DataError, match=r"\\udcff|\\xff"):
        imported(tmp_path / f"\udcff.{ending}")


def test_text_that_is_named_again_and_again_is_no_more_than_the_file(tmp_path: Path) -> None:
    path = h5(tmp_path, features=X, labels=np.array(["a" * 3000] + ["b" * 3000] * (N - 1), object))
    data = bytearray(path.read_bytes())
    first = data.index(b"a" * 3000)
    assert imported(path).classes == ("a" * 3000, "b" * 3000)
    with h5py.File(path, "r") as file:
        at, size = file["labels"].id.get_offset(), file["labels"].id.get_storage_size()
    with h5py.File(path, "a") as file:  # 400 rows for one text of 3,000 bytes in a file of 50 kB
        del file["labels"]
        file["labels"] = np.array(["c"] * 4000, object)
        offset = file["labels"].id.get_offset()
    whole = bytearray(path.read_bytes())
    whole[offset : offset + 16 * 4000] = bytes(data[at : at + size // N]) * 4000
    path.write_bytes(whole)
    assert first > 0
    with pytest.raises(ProbeError, match=r"more text than the file holds|rows of features"):
        imported(path)


@pytest.mark.parametrize("damage", [*range(0, 500, 25), -1])
@pytest.mark.parametrize("ending", ["npz", "npy", "h5"])
def test_a_damaged_file_is_one_line(tmp_path: Path, ending: str, damage: int) -> None:
    path = tmp_path / f"some.{ending}"
    match ending:
        case "npz":
            np.savez_compressed(path, X=X, y=NAMES)
        case "npy":
            np.save(path, X)
        case _:
            h5(tmp_path, features=X, labels=NAMES.astype(object))
    data = bytearray(path.read_bytes())
    if damage < 0:
        data = data[: len(data) // 2]
    else:
        at = damage * len(data) // 500
        data[at : at + 4] = b"\xff\x7f\x01\xff"
    path.write_bytes(data)
    np.save(tmp_path / "labels.npy", Y)
    try:
        imported(
            path, names=Names(labels=str(tmp_path / "labels.npy") if ending == "npy" else None)
        )
    except ProbeError as error:
        assert "\n" not in str(error)  # noqa: PT017 - both outcomes are right


@pytest.mark.parametrize("ending", ["npz", "safetensors", "parquet"])
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("views", ["none", "flip"])
def test_what_is_exported_is_imported(
    tmp_path: Path, ending: str, several: bool, views: str
) -> None:
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    rows = np.stack([X, -X], axis=1) if views == "flip" else X
    names = ["owl", "cat, big", "dögs"]
    # in `several` each row has one label by chance: they stay several
    y = np.eye(3, dtype=np.uint8)[Y] if several else Y
    arrays = {"X_train": rows, "y_train": y, "X_test": rows[:3], "y_test": y[:3]}
    ids = np.array([f"a/{row}.jpg" for row in range(N)])
    path = npz(tmp_path, **arrays, ids_train=ids, ids_test=ids[:3], classes=np.array(names))
    if several:  # one row with two, so that the first import sees several labels
        y[0] = 1
        path = npz(tmp_path, **arrays, ids_train=ids, ids_test=ids[:3], classes=np.array(names))
    entry = imported(path)
    assert entry["train"].labels.ndim == (2 if several else 1)
    out = tmp_path / f"out.{ending}"
    export_features(entry, out)
    again = import_features([out], Store(tmp_path / "other"))
    assert again.classes == entry.classes
    assert again.row_shape == entry.row_shape
    assert list(again.splits) == ["train", "test"]
    for name, split in entry.splits.items():
        np.testing.assert_array_equal(again[name].features, split.features)
        np.testing.assert_array_equal(again[name].labels, split.labels)
        assert again[name].labels.dtype == split.labels.dtype
        assert list(again[name].ids) == list(split.ids)


def test_splits_that_will_not_be_joined_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path / "cache")
    for split, kept in (("train", Y >= 0), ("test", Y > 0)):
        np.savez(tmp_path / f"{split}.npz", X=X[kept], y=Y[kept])
        import_features([tmp_path / f"{split}.npz"], store, dataset="mine")
    assert "has other classes" in caplog.text


BAD_JSON = [
    b"[" * 100_000,
    b'{"a": 1e999}', b'{"a": NaN}', b'{"a": -Infinity}',
    b'{"a": 1%s}' % (b"0" * 400),
    b'{"a": "\\ud800"}', b'{"a": "\xff"}', b"", b"\0", b'{"a": 1',
]  # fmt: skip


@pytest.mark.parametrize("text", BAD_JSON, ids=range(len(BAD_JSON)))
def test_json_that_no_record_holds_is_a_value_error(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(ValueError, match=r".") as caught:
        read_json(tmp_path / "a.json")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"."):
        loads_json(text)


def test_a_header_that_claims_more_than_there_is_reserves_nothing(tmp_path: Path) -> None:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        out, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 1 << 10)}
    )
    (tmp_path / "some.npy").write_bytes(out.getvalue())
    np.save(tmp_path / "labels.npy", Y)
    with pytest.raises(DataError, match="claimed, and 0 bytes there"):
        imported(tmp_path / "some.npy", names=Names(labels=str(tmp_path / "labels.npy")))


def parquet(folder: Path, **columns: Any) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({n: list(one) for n, one in columns.items()}), folder / "some.parquet")
    return folder / "some.parquet"


def nested(folder: Path) -> Path:
    splits = {"train": {"features": X, "labels": Y}, "test": {"features": XT, "labels": YT}}
    (folder / "some.pkl").write_bytes(pickle.dumps(splits))
    return folder / "some.pkl"


LAYOUTS = {
    "embeddings": lambda f: npz(f, train_embeddings=X, train_targets=Y, test_embeddings=XT,
                                test_targets=YT),
    "image features": lambda f: npz(f, train_image_features=X, train_labels=Y,
                                    test_image_features=XT, test_labels=YT),
    "groups": lambda f: h5(f, train__embeddings=X, train__labels=Y, test__embeddings=XT,
                           test__labels=YT),
    "trn": lambda f: npz(f, feat_trn=X, label_trn=Y, feat_tst=XT, label_tst=YT),
    "dictionaries": nested,
    "split column": lambda f: npz(f, feats=np.concatenate([X, XT]), y=np.concatenate([Y, YT]),
                                  split=np.array(["Train"] * N + ["test"] * 6)),
    "table": lambda f: parquet(f, embedding=[*X.tolist(), *XT.tolist()], label=[*Y, *YT],
                               split=["training"] * N + ["test"] * 6),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_that_people_have(tmp_path: Path, name: str) -> None:
    entry = imported(LAYOUTS[name](tmp_path))
    for split, features, labels in (("train", X, Y), ("test", XT, YT)):
        np.testing.assert_array_equal(entry[split].features, features)
        np.testing.assert_array_equal(entry[split].labels, labels)


def matlab_struct(folder: Path) -> Path:
    from scipy.io import savemat

    savemat(folder / "some.mat", {"data": {"X": X, "y": Y}})
    return folder / "some.mat"


def one_dictionary(folder: Path) -> Path:
    return npz(folder, features=np.array({"a": 1}, dtype=object), labels=Y)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda f: npz(f, X=X, y=Y, is_train=np.arange(N) < 8), "is_train may say which rows"),
        (lambda f: npz(f, X=X, y=Y, train_idx=np.arange(8), test_idx=np.arange(8, N)),
         "train_idx, test_idx may say which rows are train"),
        (lambda f: npz(f, X=X, y=Y, fold=np.arange(N) % 3), "fold may say which rows"),
        (lambda f: npz(f, X=X, y=Y, split=np.array(["train"] * 5)), "split has 5 values for 12"),
        (matlab_struct, r"data is a struct; .*'-struct', 'data'"),
        (one_dictionary, "holds one dict; save what is in it as arrays"),
        (lambda f: parquet(f, features=[[1.0], [1.0, 2.0]], label=[0, 1]), "different lengths"),
    ],
)  # fmt: skip
def test_layouts_that_are_not_read_say_what_to_do(tmp_path: Path, make: Any, said: str) -> None:
    with pytest.raises((DataError, UnsafeFileError), match=said):
        imported(make(tmp_path))
    assert not (tmp_path / "cache").exists()


def test_told_to_take_all_rows_a_division_is_named_as_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = npz(tmp_path, X=X, y=Y, is_train=np.arange(N) < 8)
    assert len(imported(path, split="train")["train"]) == N
    assert "not used: is_train" in caplog.text


def test_file_names_are_ids_where_they_tell_rows_apart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = np.array([f"img/{row}.jpg" for row in range(N)])
    assert imported(npz(tmp_path, X=X, y=Y, paths=names))["train"].ids == names.tolist()
    names[1] = names[0]
    assert imported(npz(tmp_path, X=X, y=Y, paths=names))["train"].ids[1] == "train/00001"
    assert "11 different ids for 12 rows" in caplog.text
    with pytest.raises(DataError, match="11 different ids"):
        imported(npz(tmp_path, X=X, y=Y, ids=names))


MAPS = np.random.default_rng(0).standard_normal((30, 1, 1, 8)).astype(np.float32)
TEN = (np.arange(30) % 10).astype(np.uint8)


def bottleneck(folder: Path, split: str, *, small: bool = True, **changes: Any) -> Path:
    name = f"vgg_cifar10{'_100' if small else ''}_bottleneck_features_{split}.p"
    values = {"features": MAPS, "labels": TEN.reshape(-1, 1), **changes}
    (folder / name).write_bytes(pickle.dumps(values, protocol=2))
    return folder / name


def test_bottleneck_pickles_become_one_entry(tmp_path: Path) -> None:
    paths = [bottleneck(tmp_path, "validation"), bottleneck(tmp_path, "train")]
    store = Store(tmp_path / "cache")
    entry = import_features(paths, store)
    assert list(entry.splits) == ["train", "val"]
    np.testing.assert_array_equal(entry["train"].features, MAPS)
    np.testing.assert_array_equal(entry["val"].labels, TEN)
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
    flat, one_hot = MAPS.reshape(30, 8), np.eye(10)[TEN]
    path = folder / f"mine.{kind.split(maxsplit=1)[0]}"
    match kind:
        case "npz":
            np.savez(path, X=flat, y=TEN)
            return path, Names()
        case "npz splits":
            path = folder / "splits.npz"
            np.savez(path, X_train=flat, y_train=TEN, X_test=flat[:5], y_test=TEN[:5])
            return path, Names()
        case "npy":
            np.save(path, flat.astype(np.float64))
            np.save(folder / "labels.npy", one_hot)
            return path, Names(labels=str(folder / "labels.npy"))
        case _:
            with h5py.File(path, "w") as file:
                file["deep/activations"], file["deep/classes"] = flat, TEN.astype(np.float32)
                file["deep/names"] = [f"{row}.jpg" for row in range(30)]
            return path, Names(features="deep/activations", labels="deep/classes", ids="deep/names")


@pytest.mark.parametrize("kind", ["npz", "npz splits", "npy", "h5"])
def test_other_files_are_read(tmp_path: Path, kind: str) -> None:
    path, names = written(tmp_path, kind)
    entry = import_features([path], Store(tmp_path / "cache"), names=names)
    np.testing.assert_array_equal(entry["train"].features, MAPS.reshape(30, 8))
    np.testing.assert_array_equal(entry["train"].labels, TEN)
    assert entry.classes == tuple("0123456789")
    assert list(entry.splits) == (["train", "test"] if kind == "npz splits" else ["train"])
    assert entry["train"].ids[7] == ("7.jpg" if kind == "h5" else "train/00007")


def test_files_that_are_not_there_or_not_what_they_are_called(tmp_path: Path) -> None:
    for name in ("a.npz", "a.npy", "a.h5", "a.p"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
        with pytest.raises(DataError):
            import_features([tmp_path / name], Store(tmp_path))
    with pytest.raises(DataError, match="no such file"):
        import_features([tmp_path / "b.npz"], Store(tmp_path))
    with pytest.raises(UsageError, match="expected one of"):
        import_features([tmp_path / "b.csv"], Store(tmp_path))


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


@pytest.mark.parametrize("ending", ["npz", "safetensors", "parquet"])
def test_what_was_exported_is_read_with_its_names(tmp_path: Path, ending: str) -> None:
    if ending == "parquet":
        pytest.importorskip("pyarrow")
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

    MAPS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    np.savez(tmp_path / "few.npz", X=MAPS, y=np.array(labels))
    store = Store(tmp_path / "cache")
    entry = import_features([tmp_path / "few.npz"], store)
    found = next_step(entry, store)
    assert ("next" in found) == (said is None)
    assert (said or "probe head") in next(iter(found.values()))
