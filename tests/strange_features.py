"""Feature files whose arrays are whatever can be written: what is imported is right, or refused.

`tests/fuzzing.py` damages bytes; here the files are whole, and what is in them makes no sense. The
short run is in `tests/test_fuzzing.py`, the long one in `benchmarks/fuzz_import.py`.
"""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from probe.cache.interchange import Names, import_features
from probe.cache.store import Store
from probe.errors import ProbeError

N = 6
X = np.random.default_rng(0).standard_normal((N, 3)).astype(np.float32)
TEXTS = ["cat", "dog", "owl", "cat", "dog", "owl"]
RIGHT = {
    "features": [X, X.astype(np.float64), X.reshape(N, 3, 1), X.astype(np.float16), np.eye(N)],
    "labels": [
        np.arange(N) % 3, np.array(TEXTS), np.array(TEXTS, "S"), np.array(TEXTS, object), TEXTS,
        [0, 1, 2] * 2, np.eye(3)[np.arange(N) % 3],
    ],
}  # fmt: skip
VALUES: list[Any] = [
    *RIGHT["features"], *RIGHT["labels"],
    X[:, 0], X[:0], X[:, :0], X * np.nan, X.astype(np.complex64), np.ones((N, 3), bool),
    np.array(3), np.array("a"), np.float32(3), np.empty((0, 0)), np.array([], "U1"),
    np.full(N, 2**64 - 1, np.uint64), np.full(N, 2**31 - 2), -np.arange(N), np.arange(N) / 2,
    np.full(N, np.nan), np.arange(N)[:, None], np.arange(N)[None], np.full((N, 3), np.inf),
    np.array(["a", 1, None, 2.0, b"x", True], object), np.array([None] * N, object),
    np.array([""] * N), np.array([b"caf\xe9"] * N), np.array(["a\0b"] * N), ["\ud800"] * N,
    np.array(["x" * 5000] * N), np.array(["2020-01-01"] * N, "M8[D]"), np.zeros(N, [("a", "i4")]),
    np.zeros(N, "V3"), np.array(["train", "test"] * 3), np.array(["fold1"] * N),
    ["a", 1] * 3, [[1], [1, 2], [3], [1, 2, 3], [], [0]], [[1, 2, 3]] * 5 + [[1, 2]],
    [[[1, 2, 3]]] * N, [None] * N, [{}] * N, tuple(TEXTS), [], {"a": 1}, None, 3, "hello", b"hello",
    {"train": {"features": X, "labels": TEXTS}}, [b"a", b"\xff"] * 3, [True, False] * 3,
    [2**70] * N, {1, 2}, [1j] * N, [float("inf")] * N, [f"{k}.jpg" for k in range(N)], ["a"] * N,
]  # fmt: skip
ROLES = (
    "features", "labels", "ids", "classes", "X", "y", "X_train", "y_train", "X_test", "y_test",
    "train/features", "train/labels", "split", "names", "filenames", "key", "provenance",
    "train_columns", "val_labels", "a/b", "feature\n", "\x1b[31m", "é",
)  # fmt: skip
Arrays = dict[str, Any]


def _array(value: Any) -> Any:
    """Return a value as NumPy saves it; of lists of different lengths an array of objects."""
    try:
        return np.asarray(value)
    except ValueError:
        found = np.empty(len(value), object)
        found[:] = value
        return found


def _npz(path: Path, arrays: Arrays, random: np.random.Generator) -> None:
    np.savez(path, **{name: _array(one) for name, one in arrays.items()})


def _npy(path: Path, arrays: Arrays, random: np.random.Generator) -> None:
    with path.open("wb") as file:
        np.save(file, _array(next(iter(arrays.values()))))


def _pickle(path: Path, arrays: Arrays, random: np.random.Generator) -> None:
    path.write_bytes(pickle.dumps(arrays, int(random.integers(6))))


def _hdf5(path: Path, arrays: Arrays, random: np.random.Generator) -> None:
    """Write what HDF5 can hold; text of either kind, as h5py writes it."""
    matlab = path.suffix == ".mat"
    with h5py.File(path, "w", userblock_size=512 if matlab else 0) as file:
        for name, one in arrays.items():
            try:
                if isinstance(one, np.ndarray) and one.dtype.kind == "U" and random.random() < 0.5:
                    file[name] = one.astype(object)
                elif isinstance(one, np.ndarray) and one.dtype.kind == "U":
                    file[name] = one.astype(np.bytes_)
                else:
                    file[name] = h5py.Empty("f4") if one is None else one
            except (TypeError, ValueError, OSError):
                continue
    if matlab:
        path.write_bytes(b"MATLAB 7.3" + path.read_bytes()[10:])


def _mat(path: Path, arrays: Arrays, random: np.random.Generator) -> None:
    from scipy.io import savemat

    if random.random() < 0.5:
        return _hdf5(path, arrays, random)
    named = {
        name if name.isidentifier() else f"q{k}": one
        for k, (name, one) in enumerate(arrays.items())
    }
    savemat(path, {name: one for name, one in named.items() if one is not None})
    return None


def _safetensors(path: Path, arrays: Arrays, random: np.random.Generator) -> None:
    from safetensors.numpy import save_file

    texts = {}
    for name, one in arrays.items():
        try:
            text = json.dumps(one.tolist() if isinstance(one, np.ndarray) else one)
        except (TypeError, ValueError):
            continue
        texts[name + str(random.choice(["", ".ids", ".columns"]))] = text
    plain = {k: one for k, one in arrays.items() if isinstance(one, np.ndarray)}
    numbers = {k: np.ascontiguousarray(one) for k, one in plain.items() if one.dtype.kind in "fiu"}
    save_file(numbers, path, texts)


def _parquet(path: Path, arrays: Arrays, random: np.random.Generator) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {}
    for name, one in arrays.items():
        try:
            columns[name] = pa.array(one.tolist() if isinstance(one, np.ndarray) else one)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            continue
    columns = {name: one for name, one in columns.items() if len(one) == N}
    table = pa.table(columns)
    if random.random() < 0.3:  # as if `probe cache export` had written it
        said = {
            "classes": ['["a", "b"]', "3", "[[1]]", '{"a": 1}'],
            "columns": ["{}", "[]", '{"a": [1]}'],
            "row_shape": ["[3]", "[-1]", '"a"', "[1e99]"],
        }  # fmt: skip
        about = {
            name: str(random.choice(some)) for name, some in said.items() if random.random() < 0.5
        }
        table = table.replace_schema_metadata({"key": "{}", "provenance": "{}", **about})
    pq.write_table(table, path)


WRITERS: dict[str, Callable[[Path, Arrays, np.random.Generator], None]] = {
    ".npz": _npz, ".npy": _npy, ".p": _pickle, ".h5": _hdf5, ".mat": _mat,
    ".safetensors": _safetensors, ".parquet": _parquet,
}  # fmt: skip


def _chosen(random: np.random.Generator) -> Arrays:
    """Return arrays of any kind; often features or labels are right, so that the others matter."""

    def one_of(values: list[Any]) -> Any:
        return values[int(random.integers(len(values)))]

    roles = random.choice(ROLES, size=int(random.integers(1, 6)), replace=False)
    found = {str(role): one_of(VALUES) for role in roles}
    for role, right in RIGHT.items():
        if random.random() < 0.75:
            found[role] = one_of(right if random.random() < 0.6 else VALUES)
    return found


def attack_import(folder: Path, count: int, seed: int) -> tuple[int, list[str]]:
    """Import `count` files; return how many were taken, and what ended in another way.

    Parameters
    ----------
    folder : Path
        Empty. The file of a process that died is there.
    """
    random, taken, wrong = np.random.default_rng(seed), 0, []
    folder.mkdir(parents=True, exist_ok=True)
    for _ in range(count):
        ending = str(random.choice([*WRITERS]))
        path = folder / f"x{ending}"
        path.unlink(missing_ok=True)
        try:
            WRITERS[ending](path, _chosen(random), random)
        except Exception:  # not every library writes everything
            continue
        if random.random() < 0.1:  # called as another kind, or cut short
            path = path.rename(folder / f"x{random.choice([*WRITERS])}")
        elif random.random() < 0.05:
            data = path.read_bytes()
            path.write_bytes(data[: int(random.integers(len(data) + 1))])
        names = Names()
        if path.suffix == ".npy":
            labels = folder / "labels.npy"
            _npy(labels, {"y": VALUES[int(random.integers(len(VALUES)))]}, random)
            names = Names(labels=str(labels))
        shutil.rmtree(folder / "cache", ignore_errors=True)
        try:
            import_features([path], Store(folder / "cache"), names=names).verify()
            taken += 1
        except ProbeError as error:
            if "\n" in str(error):
                wrong.append(f"{path.suffix}: two lines: {error!s:.200}")
        except Exception as error:  # what is looked for
            wrong.append(f"{path.suffix}: {type(error).__name__}: {error!s:.200}")
    return taken, wrong
