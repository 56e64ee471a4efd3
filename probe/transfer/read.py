"""Arrays of features and labels in the files that people have: pickles, .npy, .npz, HDF5."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.cache.key import SPLIT_ORDER
from probe.datasets.pickles import load_pickle, text_keys
from probe.errors import DataError, UsageError
from probe.hdf5_heaps import Beginning, check_heaps
from probe.records import loads_json

SPLIT_WORDS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
FEATURES, LABELS, IDS = ("features", "X", "x"), ("labels", "y"), ("ids",)


@dataclass(frozen=True, kw_only=True)
class Names:
    """What the arrays are called in a file; None for the usual names.

    Parameters
    ----------
    labels : str, optional
        Also the path of a .npy file.
    """

    features: str | None = None
    labels: str | None = None
    ids: str | None = None


@dataclass(frozen=True, kw_only=True)
class Part:
    """One split as it was found: features (n, ...), labels (n,) or one-hot.

    Ids, and the names of the classes that labels count, are there where the file has them.
    """

    source: Path
    features: NDArray[Any]
    labels: NDArray[Any]
    ids: Sequence[str] | None
    classes: tuple[str, ...] | None = None


def read_parts(path: Path, names: Names, split: str | None) -> dict[str, Part]:
    """Read the splits of one file.

    Parameters
    ----------
    split : str or None
        What the file is where neither its arrays' names nor its own say.

    Raises
    ------
    DataError, UsageError, UnsafeFileError
        As `probe.transfer.import_features`.
    """
    readers: dict[str, Callable[[Path], Mapping[str, Any]]] = {
        ".npz": _npz, ".npy": _npy, ".h5": _hdf5, ".hdf5": _hdf5, ".safetensors": _safetensors,
        ".p": _pickle, ".pkl": _pickle, ".pickle": _pickle,
    }  # fmt: skip
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{path}: expected one of {', '.join(readers)}")
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; check the path")
    arrays = dict(reader(path))
    if names.labels is not None and names.labels.endswith(".npy"):
        arrays["labels"] = _npy(Path(names.labels))["features"]
        names = Names(features=names.features, labels="labels", ids=names.ids)
    found = {}
    for word, name in SPLIT_WORDS.items():
        part = _part(path, arrays, names, word)
        if part is not None:
            found[name] = part
    if found:
        return found
    part = _part(path, arrays, names, None)
    if part is None:
        raise DataError(
            f"{path}: has {', '.join(sorted(arrays)[:8]) or 'no arrays'}; say which are the "
            "features and which the labels (--features NAME --labels NAME)"
        )
    words = [word for word in re.split(r"[^a-z]+", path.stem.lower()) if word in SPLIT_WORDS]
    named = split or (SPLIT_WORDS[words[-1]] if words else "train")
    if named not in SPLIT_ORDER:
        raise UsageError(f"--split {named}: expected {', '.join(SPLIT_ORDER)}")
    return {named: part}


def _npz(path: Path) -> Mapping[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable .npz file of plain arrays ({error})") from error


def _npy(path: Path) -> Mapping[str, Any]:
    try:
        return {"features": np.load(path, allow_pickle=False, mmap_mode="r")}
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable .npy file of plain numbers ({error})") from error


def _hdf5(path: Path) -> Mapping[str, Any]:
    import h5py

    found: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with path.open("rb") as raw:  # damaged ones can keep HDF5 busy for ever
        check_heaps(path, Beginning(raw, path.stat().st_size))
    try:
        with h5py.File(path, "r", locking=False) as file:
            file.visititems(visit)
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path}: not a readable HDF5 file ({error})") from error
    return found


def _safetensors(path: Path) -> Mapping[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            found: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            texts = file.metadata() or {}
        for name, text in texts.items():  # as `probe cache export` writes them
            if name == "classes" or name.endswith(".ids"):
                found[name] = np.array(loads_json(text), np.str_)
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise DataError(f"{path}: not a readable .safetensors file ({error})") from error
    return found


def _pickle(path: Path) -> Mapping[str, Any]:
    value = load_pickle(path)
    if not isinstance(value, Mapping):
        raise DataError(f"{path}: holds a {type(value).__name__}, expected features and labels")
    return text_keys(value)


def _part(path: Path, arrays: Mapping[str, Any], names: Names, split: str | None) -> Part | None:
    def find(usual: tuple[str, ...], given: str | None) -> Any:
        for name in (given,) if given else usual:
            spellings = (
                [name] if split is None
                else [f"{split}_{name}", f"{split}/{name}", f"{split}.{name}", f"{name}_{split}"]
            )  # fmt: skip
            for spelling in spellings:
                if spelling in arrays:
                    return arrays[spelling]
        return None

    features, labels = find(FEATURES, names.features), find(LABELS, names.labels)
    if features is None or labels is None:
        return None
    ids = find(IDS, names.ids)
    texts = None if ids is None else [text_of(one) for one in np.asarray(ids).tolist()]
    part = Part(
        source=path, features=np.asarray(features), labels=np.asarray(labels), ids=texts,
        classes=_class_names(arrays.get("classes")),
    )  # fmt: skip
    _check(part)
    return part


def _class_names(found: Any) -> tuple[str, ...] | None:
    """Return the array of that name where it is one of different texts."""
    values = None if found is None else np.asarray(found)
    if values is None or values.ndim != 1 or values.dtype.kind not in "SUO":
        return None
    names = tuple(text_of(value) for value in values.tolist())
    return names if len(set(names)) == len(names) else None


def _check(part: Part) -> None:
    features, count = part.features, len(part.labels)
    if features.ndim < 2 or features.dtype.kind not in "fiu":
        raise DataError(
            f"{part.source}: features are {features.dtype} {features.shape}; expected numbers with "
            "one row an image"
        )
    if len(features) != count or not count:
        raise DataError(f"{part.source}: {len(features)} rows of features and {count} labels")
    if part.ids is not None and len(set(part.ids)) != count:
        raise DataError(f"{part.source}: {len(set(part.ids))} different ids for {count} rows")


def text_of(value: Any) -> str:
    """Return an id or a class name as text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
