"""Read features and labels of each split from feature files."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.cache.interchange.arrays import Array, Arrays, open_arrays, read_array, text_of
from probe.cache.interchange.labels import Made, Part, usual_labels
from probe.cache.interchange.roles import (
    SPLIT_WORDS,
    Names,
    assign_roles,
    calls_itself_ids,
    list_names,
    merge_unnamed_split,
    split_and_role,
    split_in,
    tells_splits,
)
from probe.cache.key import SPLIT_ORDER, FeatureKey
from probe.core.columns import Column
from probe.core.records import loads_json, shown
from probe.datasets.split_names import split_called
from probe.errors import DataError, UsageError
from probe.preprocess.views import VIEWS

log = logging.getLogger(__name__)

BLOCK = 1 << 24  # numbers that are checked at a time
OF_EXPORTS = ("key", "provenance")


def read_parts(path: Path, names: Names, split: str | None) -> dict[str, Part]:
    """Read the splits of a file. Each of its arrays is used or named in a warning.

    Parameters
    ----------
    split : str or None
        The split where neither the arrays' names nor the file's give it.

    Raises
    ------
    DataError, UsageError, UnsafeFileError
        As `probe.cache.interchange.import_features`.
    """
    split = None if split is None else split_called(split)
    if split is not None and split not in SPLIT_ORDER:
        raise UsageError(f"--split {split}: expected {', '.join(SPLIT_ORDER)}")
    arrays = open_arrays(path)
    if names.labels is not None and names.labels.endswith(".npy"):
        beside = open_arrays(Path(names.labels)).named["features"]
        arrays = replace(arrays, named={**arrays.named, names.labels: beside})
    places, unused = assign_roles(path, arrays.named, names)
    chosen, left = _chosen(path, places, split or _of_its_name(path, places))
    unused += left
    classes, strange = _class_names(path, arrays, places)
    unused += strange
    found = {}
    without = []
    for name in SPLIT_ORDER:
        roles = chosen.get(name, {})
        if "features" not in roles:
            unused += roles.values()
        elif "labels" not in roles:
            without.append(roles["features"])
            unused += [value for role, value in roles.items() if role != "features"]
        else:
            found[name] = roles
    if not found:
        raise DataError(
            f"{path}: has {list_names(sorted(arrays.named))}; say which are the features and "
            "which the labels (--features NAME --labels NAME)"
        )
    if names.labels is not None and names.labels.endswith(".npy") and len(found) + len(without) > 1:
        raise UsageError(f"--labels {names.labels}: one file for the features of several splits")
    split_arrays = [name for name in unused if tells_splits(name) and split is None]
    whole = (
        split_arrays and len(found) == 1 and split_and_role(next(iter(found.values()))["features"])
    )
    own = _divisions(path, arrays, split_arrays) if whole and whole[0] is None else None
    unused = [name for name in unused if own is None or name not in split_arrays]
    if without:
        log.warning("%s: no labels for %s; left out", path, list_names(without))
    columns = _tables(path, arrays) if arrays.exported else {}
    unused = [name for name in unused if not any(name == one for one, _ in columns.values())]
    if said := [name for name in unused if not (arrays.exported and name in OF_EXPORTS)]:
        log.warning("%s: not used: %s", path, list_names(said))
    made = _made(path, arrays) if arrays.exported else None
    parts = {
        name: replace(_part(path, arrays, roles, classes), made=made)
        for name, roles in found.items()
    }
    for name in columns.keys() & parts.keys():
        parts[name] = replace(parts[name], columns=_checked(path, columns[name], parts[name]))
    return (
        parts if own is None else _divided(path, split_arrays[0], next(iter(parts.values())), own)
    )


def _tables(path: Path, arrays: Arrays) -> dict[str, tuple[str, Any]]:
    """Return what an exported file says of each split's images beside labels, with its name."""
    found = {}
    for split in SPLIT_ORDER:
        for name in (f"{split}{mark}columns" for mark in "_./"):
            if name in arrays.named:
                value = read_array(path, arrays.named[name], name)
                found[split] = name, value
    return found


def _checked(path: Path, said: tuple[str, Any], part: Part) -> dict[str, Column]:
    """Return the columns of a split.

    Raises
    ------
    DataError
        They are not what `probe cache export` writes.
    """
    name, value = said
    try:
        if isinstance(value, np.ndarray) and value.dtype == np.uint8:
            value = loads_json(value.tobytes())
        if not isinstance(value, Mapping):
            raise ValueError("no names with lists of text")
        for cells in value.values():
            if not isinstance(cells, list) or not all(isinstance(one, str) for one in cells):
                raise ValueError("a column is no list of text")
            if len(cells) != len(part.features):
                raise ValueError(f"{len(cells)} cells for {len(part.features)} rows")
    except ValueError as error:
        raise DataError(f"{path}: {shown(name)}: {error}; export the entry again") from error
    return {column: Column.of(cells) for column, cells in value.items()}


def _divisions(path: Path, arrays: Arrays, names: Sequence[str]) -> list[str]:
    """Return the split of each row from an array of words.

    Raises
    ------
    DataError
        The splits have another form, and all rows would be trained on.
    """
    value = read_array(path, arrays.named[names[0]], names[0]) if len(names) == 1 else None
    values = value.ravel().tolist() if isinstance(value, np.ndarray) else value
    if isinstance(values, list | tuple) and all(isinstance(one, str | bytes) for one in values):
        words = [text_of(one, f"{path}: {names[0]}").strip().lower() for one in values]
        if set(words) <= SPLIT_WORDS.keys():
            return [SPLIT_WORDS[word] for word in words]
    raise DataError(
        f"{path}: {list_names(names)} may say which rows are train and which are test; write each "
        "split as arrays of its own (X_train, y_train, X_test, y_test), or as an array `split` of "
        "the words train, val and test; --split train takes all rows as they are"
    )


def _divided(path: Path, name: str, part: Part, own: Sequence[str]) -> dict[str, Part]:
    """Return the rows of each split."""
    if len(own) != len(part.features):
        raise DataError(
            f"{path}: {shown(name)} has {len(own)} values for {len(part.features)} rows"
        )
    words, found = np.array(own), {}
    for split in SPLIT_ORDER:
        rows = np.flatnonzero(words == split)
        if not len(rows):
            continue
        labels, ids = part.labels, part.ids
        found[split] = replace(
            part,
            features=part.features[rows],
            labels=[labels[row] for row in rows] if isinstance(labels, list) else labels[rows],
            ids=None if ids is None else [ids[row] for row in rows],
        )
    return found


def _made(path: Path, arrays: Arrays) -> Made | None:
    """Return the origin of exported features; None, with a warning, where it is damaged."""
    try:
        texts = [str(read_array(path, arrays.named[name], name)) for name in OF_EXPORTS]
        key, provenance = FeatureKey.from_json(loads_json(texts[0])), loads_json(texts[1])
        said = [provenance.get("dataset", path.stem), key.backbone, key.layer, key.pool]
        names = [text_of(one, "a name") for one in said]
        if not all(isinstance(one, str) and one for one in said) or key.views not in VIEWS:
            raise ValueError("a name is no text")
    except (DataError, ValueError, KeyError, TypeError, AttributeError):
        log.warning("%s: does not say any more how its features were made", path)
        return None
    dataset, backbone, layer, pool = names
    return Made(dataset=dataset, backbone=backbone, layer=layer, pool=pool, views=key.views)


def _of_its_name(path: Path, places: Mapping[str | None, dict[str, str]]) -> str:
    """Return the split in a file's name, unless its arrays' names give splits themselves."""
    named = any(split is not None and "features" in one for split, one in places.items())
    return "train" if named else split_in(path.stem) or "train"


def _chosen(
    path: Path, places: Mapping[str | None, dict[str, str]], unnamed: str
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Return the arrays of each split, and those that belong to no features."""
    bare = {role: name for role, name in places.get(None, {}).items() if role != "classes"}
    named = [one for split, one in places.items() if split is not None and "features" in one]
    if "features" in bare:
        return merge_unnamed_split(path, places, unnamed), []
    others = {split: dict(one) for split, one in places.items() if split is not None}
    if len(named) == 1:  # X_train and y: y can only belong to X_train
        (split,) = (split for split, one in others.items() if "features" in one)
        taken = {role: name for role, name in bare.items() if role not in others[split]}
        others[split] |= taken
        bare = {role: name for role, name in bare.items() if role not in taken}
    return others, list(bare.values())


def _class_names(
    path: Path, arrays: Arrays, places: Mapping[str | None, dict[str, str]]
) -> tuple[tuple[str, ...] | None, list[str]]:
    """Return the class names, and unused arrays that are named like class names."""
    found = [one["classes"] for one in places.values() if "classes" in one]
    if not found:
        return None, []
    value = read_array(path, arrays.named[found[0]], found[0])
    values = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(values, list | tuple) or not all(
        isinstance(one, str | bytes) for one in values
    ):
        return None, found
    names = tuple(text_of(one, f"{path}: {found[0]}, number {k},") for k, one in enumerate(values))
    if len(set(names)) != len(names):
        twice = next(name for k, name in enumerate(names) if name in names[:k])
        raise DataError(f"{path}: {found[0]} names {twice!r} twice; give each class its own name")
    return names, found[1:]


def _part(
    path: Path, arrays: Arrays, roles: Mapping[str, str], classes: tuple[str, ...] | None
) -> Part:
    label_array = arrays.named[roles["labels"]]
    where = f"{path}: {shown(roles['labels'])}"
    features = _features(path, arrays.named[roles["features"]], roles["features"])
    counts = {len(features), features.shape[-1]} if arrays.matlab else {len(features)}
    value = read_array(path, label_array, roles["labels"])
    labels = usual_labels(value, where, label_array.names, counts)
    if arrays.matlab:
        features = _turned(path, features, len(labels))
    count = len(labels)
    if len(features) != count or not count:
        other = features.ndim == 2 and features.shape[1] == count
        hint = "; they are the other way round: transpose the features" if other else ""
        raise DataError(f"{path}: {len(features)} rows of features and {count} labels{hint}")
    ids = None
    if "ids" in roles:
        try:
            ids = _ids(path, arrays.named[roles["ids"]], roles["ids"], count)
        except DataError as error:
            if calls_itself_ids(roles["ids"]):
                raise
            log.warning("%s: rows get numbers as ids: %s", path, error)  # paths may repeat
    _look_at_zeros(path, roles["features"], features)
    enum = label_array.names
    return Part(
        source=path, features=features, labels=labels, ids=ids, exported=arrays.exported,
        classes=classes or (tuple(enum[k] for k in sorted(enum)) if enum else None),
    )  # fmt: skip


def _features(path: Path, array: Array, name: str) -> NDArray[Any]:
    value = read_array(path, array, name)
    try:
        features = np.asarray(value)
    except ValueError:  # lists of different lengths
        features = np.empty(0, object)
    if features.ndim < 2 or features.dtype.kind not in "fiub":
        raise DataError(
            f"{path}: features are {features.dtype} {features.shape}; expected numbers with "
            "one row an image"
        )
    if 0 in features.shape[1:]:
        raise DataError(f"{path}: features are {features.shape}: there are no numbers in a row")
    return features


def _turned(path: Path, features: NDArray[Any], count: int) -> NDArray[Any]:
    """Transpose a MATLAB array whose columns are the images."""
    rows, columns = features.shape[0], features.shape[-1]
    if rows == columns == count:
        raise DataError(
            f"{path}: features are {' x '.join(map(str, features.shape))} for {count} labels: "
            "whether a row or a column is an image is ambiguous, and MATLAB's files have both; "
            "save them as .npz, one row an image"
        )
    return np.moveaxis(features, -1, 0) if rows != count and columns == count else features


def _ids(path: Path, array: Array, name: str, count: int) -> list[str]:
    value = read_array(path, array, name)
    values = np.asarray(value).ravel().tolist() if isinstance(value, np.ndarray) else value
    where = f"{path}: {shown(name)}"
    if not isinstance(values, list | tuple) or len(values) != count:
        found = len(values) if isinstance(values, list | tuple) else type(values).__name__
        raise DataError(f"{where} holds {found} for {count} rows")
    if not all(isinstance(one, str | bytes | int | float) for one in values):
        raise DataError(f"{where} holds something else than text or numbers")
    texts = [text_of(one, f"{where}, row {row},") for row, one in enumerate(values)]
    if len(set(texts)) != count:
        raise DataError(f"{path}: {len(set(texts))} different ids for {count} rows")
    longest, sum_of = max(map(len, texts)), sum(map(len, texts))
    if longest * count > (1 << 26) + 64 * sum_of:
        raise DataError(f"{where} has one of {longest} letters among short ones; shorten it")
    return texts


def _look_at_zeros(path: Path, name: str, features: NDArray[Any]) -> None:
    """Warn of zero rows at the end, as a killed writer leaves them."""
    zeros = 0
    for block in _blocks_from_the_end(features):
        some = (block.reshape(len(block), -1) != 0).any(axis=1)
        if some.any():
            zeros += int(some[::-1].argmax())
            break
        zeros += len(block)
    if zeros > 1 or zeros == len(features):
        log.warning(
            "%s: the last %d of %d rows of %s hold zeros only; was it written to its end?",
            path, zeros, len(features), shown(name),
        )  # fmt: skip


def _blocks_from_the_end(rows: NDArray[Any]) -> Iterator[NDArray[Any]]:
    step = max(1, BLOCK // max(1, rows[0].size))
    for stop in range(len(rows), 0, -step):
        yield rows[max(0, stop - step) : stop]
