"""Datasets that Python has at hand: images with labels, arrays, and pandas' frames.

Frames and lists of paths become a list file in the state folder, for the images are on disk and can
be found again; all else is read from memory, and found again by its content alone.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from probe.core.files import make_folder, write_text
from probe.core.sheets import Sheet
from probe.core.text import counted
from probe.core.urls import is_url, public, text_of
from probe.datasets.classes import called_instead, ordered_classes, same_numbers
from probe.datasets.images.image_inputs import ImageSources, list_images
from probe.datasets.spec import SPLITS, Dataset, Split
from probe.datasets.split_names import split_called
from probe.datasets.tables.cells import BAR, IMAGE_COLUMNS, image_columns
from probe.datasets.tables.table import LABEL, LABELS
from probe.errors import DataError, ImageError
from probe.evaluation.task import task_of

Data: TypeAlias = Any
"""A name, a folder or a list; a `Dataset`; ``(images, labels)``; a mapping of split to such a pair;
or a pandas DataFrame."""

LISTS = "lists"  # of the state folder
EXPECTED = (
    "a name, a folder or a .csv list; (images, labels); a mapping of train, val and test to such "
    "pairs; a pandas DataFrame with the columns of a list; or a Dataset"
)


def given_dataset(data: Data, *, cache_dir: Path, name: str | None = None) -> str | Dataset:
    """Return what `load_dataset` finds by its name, or a dataset in memory.

    Parameters
    ----------
    data : str, path, Dataset, pair, mapping of split to pair, or DataFrame
        Of a pair, the images are paths, images of Pillow's or arrays in a sequence, or one uint8
        array (n, height, width, 3) or (n, height, width). Labels are (n,), whole numbers or names;
        where an image may have several, (n, n_classes) of 0 and 1, or a sequence of names for each
        image. A frame has the columns of a list file: ``path``, ``label``, ``split`` ...
    cache_dir : Path
        The state folder, where lists are written.
    name : str, optional
        What entries are called by. Default: ``images`` or ``frame``,
        with a digest of images and labels.

    Raises
    ------
    DataError
        It is something else; images and labels differ in number; an image is none of uint8, or
        there is no such file; a label is missing, or of a class that is not in train.
    """
    if name is not None and (not name or name != Path(name).name):
        raise DataError(f"name={name!r}: give a short name, as birds")
    if isinstance(data, str | os.PathLike):
        if name is not None:
            raise DataError(f"name={name!r}: {os.fspath(data)!r} has a name already; leave it out")
        return os.fsdecode(data)
    if isinstance(data, Dataset):
        return data
    if hasattr(data, "iloc") and hasattr(data, "columns"):
        return _written(_cells(data), cache_dir, name or "frame")
    pairs = _pairs(data)
    images = {split: _images(one, split) for split, (one, _) in pairs.items()}
    targets = {split: _labels(one, split) for split, (_, one) in pairs.items()}
    for split, one in images.items():
        if len(one) != len(targets[split]):
            raise DataError(
                f"{split}: {counted(len(one), 'image')} and "
                f"{counted(len(targets[split]), 'label')}; give one a piece"
            )
    if all(isinstance(one, str | os.PathLike) for each in images.values() for one in each):
        return _written(_as_list(images, targets), cache_dir, name or "images")
    return _in_memory(images, targets, name)


def _pairs(data: Any) -> dict[str, tuple[Any, Any]]:
    """Return (images, labels) by split."""
    if not isinstance(data, Mapping):
        if not isinstance(data, tuple | list) or len(data) != 2:
            raise DataError(f"dataset is a {_kind(data)}; expected {EXPECTED}")
        data = {"train": data}
    if not data:
        raise DataError("the mapping has no split; give train, val and test, or some of them")
    found: dict[str, tuple[Any, Any]] = {}
    for name, pair in data.items():
        split = split_called(str(name))
        if split not in SPLITS:
            raise DataError(f"no split is called {name!r}; there are {', '.join(SPLITS)}")
        if split in found:
            raise DataError(f"the mapping names {split} twice, the second time as {name!r}")
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise DataError(f"{name} is a {_kind(pair)}; give (images, labels)")
        found[split] = (pair[0], pair[1])
    return {split: found[split] for split in SPLITS if split in found}


def _kind(data: Any) -> str:
    many = f" of {len(data)}" if isinstance(data, tuple | list) else ""
    return f"{type(data).__name__}{many}"


def _images(images: Any, split: str) -> list[Any]:
    if isinstance(images, np.ndarray) and images.dtype.kind not in "OUS":
        if images.dtype != np.uint8:
            raise DataError(
                f"{split}: the images have {images.dtype} pixels; give uint8 from 0 to 255 (nobody "
                "knows whether 0.5 is 127 or 128)"
            )
        grey = images.ndim == 3
        if not grey and (images.ndim != 4 or images.shape[3] != 3):
            raise DataError(
                f"{split}: the images have the shape {images.shape}; give (n, height, width, 3), "
                "RGB, or (n, height, width), grey"
            )
    try:
        found = list_images(images)
    except DataError as error:
        raise DataError(f"{split}: {error}") from error
    if not found:
        raise DataError(f"{split}: no images were given")
    return found


Labels: TypeAlias = "list[str | tuple[str, ...]]"


def _labels(labels: Any, split: str) -> Labels:
    """Return the name of each image's class; of several labels a tuple of names."""
    names = list(map(str, labels.columns)) if hasattr(labels, "columns") else None
    if odd := next((one for one in names or () if not _is_text(one)), None):
        raise DataError(f"{split}: the column {odd!r} is not UTF-8; rename it")
    if isinstance(labels, str | bytes | Mapping) or not hasattr(labels, "__len__"):
        raise DataError(f"{split}: labels are a {_kind(labels)}; give one for each image")
    array = labels.to_numpy() if hasattr(labels, "to_numpy") else labels
    array = array if isinstance(array, np.ndarray) else _array(array)
    if array is None:  # sequences of names, one an image
        return [tuple(_label(one, split, row) for one in each) for row, each in enumerate(labels)]
    if array.ndim == 1:
        return [_label(one, split, row) for row, one in enumerate(array.tolist())]
    if array.ndim != 2 or not np.isin(array, (0, 1)).all():
        raise DataError(
            f"{split}: labels have the shape {array.shape}; give (n,), or (n, n_classes) of 0 and "
            "1 where an image may have several"
        )
    names = names or list(map(str, range(array.shape[1])))
    return [tuple(names[k] for k in np.flatnonzero(row)) for row in array]


def _array(labels: Sequence[Any]) -> NDArray[Any] | None:
    """Return labels as an array; None where each image has a sequence of names."""
    if all(isinstance(one, tuple | list | set | frozenset) for one in labels):
        rows = [list(one) for one in labels if isinstance(one, tuple | list)]
        flags = all(isinstance(one, int | np.integer) for each in rows for one in each)
        same = len(rows) == len(labels) and len({len(one) for one in rows}) == 1
        return np.array(rows) if flags and same and rows[0] else None
    made = np.empty(len(labels), object)
    made[:] = list(labels)
    return made


def _is_missing(value: Any) -> bool:
    """Whether it is None, NaN, pandas' NA or an empty text."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return math.isnan(value) if isinstance(value, float) else str(value).strip() == ""


def _is_text(value: str) -> bool:
    """Whether it can be written as UTF-8: it has no half of a surrogate pair."""
    return not any("\ud800" <= sign <= "\udfff" for sign in value)


def _label(value: Any, split: str, row: int) -> str:
    if isinstance(value, np.generic):
        value = value.item()
    if _is_missing(value):
        raise DataError(f"{split}: image {row} has no label")
    if isinstance(value, str) and not _is_text(value):
        raise DataError(f"{split}: the label of image {row}, {value!r}, is not UTF-8; rename it")
    if isinstance(value, bool | int | str):
        return str(int(value)) if isinstance(value, bool) else str(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    raise DataError(
        f"{split}: the label of image {row} is {value!r}; give whole numbers or names of classes"
    )


def _in_memory(
    images: Mapping[str, list[Any]], targets: Mapping[str, Labels], name: str | None
) -> Dataset:
    several = any(isinstance(one, tuple) for each in targets.values() for one in each)
    flat = [one for each in targets.values() for one in each]
    every = {label for one in flat for label in (one if isinstance(one, tuple) else (one,))}
    called = same_numbers(every)
    classes = ordered_classes(called.values())
    number = {raw: classes.index(said) for raw, said in called.items()}
    splits = {}
    for split, each in images.items():
        labels: Any
        if several:
            labels = np.zeros((len(each), len(classes)), np.uint8)
            for row, one in enumerate(targets[split]):
                labels[row, [number[label] for label in _tuple(one)]] = 1
        else:
            labels = np.array([number[str(one)] for one in targets[split]], np.int32)
        try:
            sources = ImageSources.of(each)
        except ImageError as error:
            raise DataError(f"{split}: {error}") from error
        ids = [f"{split}/{row:05d}" for row in range(len(each))]
        splits[split] = Split(ids=ids, labels=labels, images=sources)
    _check_trained(splits, classes)
    if name is None:
        digest = hashlib.blake2b(digest_size=4)
        for split, made in splits.items():
            digest.update(split.encode() + made.images.content().tobytes() + made.labels.tobytes())
        digest.update("\0".join(classes).encode())
        name = f"images-{digest.hexdigest()}"
    return Dataset(name=name, classes=classes, splits=splits, root=None, in_memory=True)


def _tuple(one: str | tuple[str, ...]) -> tuple[str, ...]:
    return one if isinstance(one, tuple) else (one,)


def _check_trained(splits: Mapping[str, Split], classes: Sequence[str]) -> None:
    """Refuse a class that is in another split but not in train, where there is a train."""
    if "train" not in splits:
        return
    present = task_of(splits["train"].labels).present
    trained = set(present(splits["train"].labels).tolist())
    for name, split in splits.items():
        for strange in sorted(set(present(split.labels).tolist()) - trained)[:1]:
            instead = called_instead(classes[strange], (classes[one] for one in sorted(trained)))
            raise DataError(
                f"{name}: the class {classes[strange]!r} is not in train{instead}; add images "
                "of it there, or remove the class"
            )


def _cells(frame: Any) -> list[list[str]]:
    """Return a frame's cells as text, the names of its columns first; paths made absolute."""
    columns = [str(name) for name in frame.columns]
    lower = [name.strip().lower() for name in columns]
    paths = image_columns(columns)
    if len(paths) != 1:
        raise DataError(
            f"the frame's columns are {', '.join(columns) or 'none'}; one of them has to be called "
            f"{', '.join(IMAGE_COLUMNS)}, and hold paths"
        )
    required = {paths[0], *(place for place, name in enumerate(lower) if name == LABEL)}
    rows = [columns]
    for row in range(len(frame)):
        cells = [frame.iloc[row, place] for place in range(len(columns))]
        rows.append([_cell(one, columns[k], row, k in required) for k, one in enumerate(cells)])
        rows[-1][paths[0]] = _path(cells[paths[0]], f"row {row}")
    if len(rows) == 1:
        raise DataError("the frame has no rows")
    return rows


def _cell(value: Any, column: str, row: int, required: bool) -> str:
    if isinstance(value, tuple | list | set | frozenset | np.ndarray):
        return BAR.join(str(one) for one in value)
    if _is_missing(value):
        if required:
            raise DataError(f"row {row} of the frame has nothing in {column!r}")
        return ""
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    return str(value)


def _path(value: Any, where: str) -> str:
    if not isinstance(value, str | os.PathLike):
        raise DataError(f"{where} has a {type(value).__name__} for its image; give paths")
    text = text_of(os.fsdecode(value))
    if is_url(text):
        if text != public(text):
            raise DataError(
                f"{where}: {public(text)} was given with a password or a query, which is not "
                "written to the state folder; save a list of such images, and give that"
            )
        return text
    path = os.path.abspath(os.path.expanduser(text))
    if not os.path.isfile(path):
        raise DataError(f"{where}: there is no file {path}")
    return path


def _as_list(images: Mapping[str, list[Any]], targets: Mapping[str, Labels]) -> list[list[str]]:
    """Return the cells of a list of paths with their labels and splits."""
    several = any(isinstance(one, tuple) for each in targets.values() for one in each)
    rows = [["path", LABELS if several else LABEL, "split"]]
    for split, each in images.items():
        for row, (image, label) in enumerate(zip(each, targets[split], strict=True)):
            path = _path(image, f"{split}: image {row}")
            if several and (odd := [one for one in _tuple(label) if BAR in one]):
                raise DataError(f"{split}: the label {odd[0]!r} has a {BAR} in it; rename it")
            rows.append([path, BAR.join(_tuple(label)) if several else str(label), split])
    return rows


def _written(rows: list[list[str]], cache_dir: Path, name: str) -> str:
    """Write a list of images to the state folder, by its content, and return its path."""
    first: dict[str, int] = {}
    place = image_columns(rows[0])[0]
    for row, cells in enumerate(rows[1:]):
        if (before := first.setdefault(cells[place], row)) != row:
            raise DataError(f"images {before} and {row} are the same file, {cells[place]}")
    text = io.StringIO()
    lines = Sheet(text, exact=True)
    for cells in rows:
        lines.row(cells)
    digest = hashlib.blake2b(text.getvalue().encode("utf-8", "surrogateescape"), digest_size=4)
    folder = cache_dir / LISTS / digest.hexdigest()
    file = folder / f"{name}.csv"
    if not file.is_file():
        make_folder(folder)
        write_text(file, text.getvalue())
    return str(file.resolve())
