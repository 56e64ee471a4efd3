"""Convert labels in their usual forms to class numbers and class names."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from probe.cache.interchange.arrays import text_of
from probe.core.columns import Column
from probe.core.short_repr import short_repr
from probe.datasets import DATASETS
from probe.datasets.classes import ordered_classes
from probe.errors import DataError, UsageError

Labels: TypeAlias = "NDArray[np.int64] | NDArray[np.uint8] | list[str]"


@dataclass(frozen=True, kw_only=True)
class Made:
    """The origin of features as `probe cache export` recorded it: names, without proof."""

    dataset: str
    backbone: str
    layer: str
    pool: str
    views: str


@dataclass(frozen=True, kw_only=True)
class Part:
    """One split of a feature file.

    Parameters
    ----------
    features : numbers, (n, ...)
    labels : int64, (n,); list of str; or uint8 of 0 and 1, (n, n_classes)
    classes : tuple of str, optional
        Class names, where the file has them.
    exported : bool
        `probe cache export` wrote it: two-dimensional labels are multi-label.
    made : Made, optional
        The origin of exported features.
    columns : mapping of name to Column, (n,)
        What a table says of each image; only exported files have some.
    """

    __repr__ = short_repr

    source: Path
    features: NDArray[Any]
    labels: Labels
    ids: Sequence[str] | None
    classes: tuple[str, ...] | None = None
    exported: bool = False
    made: Made | None = None
    columns: Mapping[str, Column] = field(default_factory=dict)


def usual_labels(
    value: Any, where: str, names: Mapping[int, str] | None, counts: Collection[int]
) -> Labels:
    """Return labels as class numbers, class names, or a matrix of 0 and 1.

    Parameters
    ----------
    value : array or list
        Numbers or text, (n,), (n, 1) or (1, n); or numbers, (n, n_classes), 1 for the image's
        classes and 0 or -1 for the others.
    where : str
        Begins messages.
    names : mapping of number to str, optional
        Names of the numbers.
    counts : collection of int
        Possible values of n.

    Returns
    -------
    int64, (n,); list of str; or uint8, (n, n_classes)

    Raises
    ------
    DataError
        It has another form; the message names the first such row.
    """
    if isinstance(value, np.ndarray) and value.dtype.kind in "OSU":
        value = (value.ravel() if 1 in value.shape else value).tolist()
    if isinstance(value, list | tuple):
        value = _of_list(list(value), where)
        if isinstance(value, list):
            return value
    if not isinstance(value, np.ndarray) or value.ndim not in (1, 2):
        shape = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else ""
        raise DataError(_expected(where, f"labels are {shape or type(value).__name__}"))
    if value.ndim == 2 and (value.shape[1] == 1 or (len(value) == 1 and value.shape[1] in counts)):
        value = value.ravel()  # as CIFAR-10's pickles have them, and MATLAB
    numbers = _whole(value, where)
    if numbers.ndim == 2:
        return _matrix(numbers, where)
    if names is None:
        return numbers
    known = np.isin(numbers, list(names))
    if not known.all():
        row = int((~known).argmax())
        raise DataError(f"{where}, row {row}, is {numbers[row]}, which its type has no name for")
    return [names[number] for number in numbers.tolist()]


def _expected(where: str, found: str) -> str:
    return f"{where}: {found}; expected class numbers, names or one-hot rows"


def _of_list(values: list[Any], where: str) -> list[str] | NDArray[Any]:
    """Return the texts of a list, or its numbers as an array."""
    kinds = {_kind(one) for one in values}
    if kinds == {"text"}:
        return [text_of(one, f"{where}, row {row},") for row, one in enumerate(values)]
    if kinds <= {"int"} or kinds <= {"int", "float"}:
        try:
            return np.array(values)
        except (ValueError, OverflowError):
            pass
    elif kinds == {"list"} and {_kind(one) for row in values for one in row} <= {"int", "float"}:
        if len({len(one) for one in values}) > 1:
            raise DataError(_expected(where, "its rows have different lengths"))
        return np.array(values, np.float64)
    first = _kind(values[0])
    row = next((k for k, one in enumerate(values) if _kind(one) != first), 0)
    raise DataError(_expected(where, f"row {row} is {values[row]!r:.60}"))


def _kind(value: Any) -> str:
    if isinstance(value, str | bytes):
        return "text"
    if isinstance(value, bool | int | np.integer | np.bool_):
        return "int"
    if isinstance(value, float | np.floating):
        return "float"
    flat = isinstance(value, np.ndarray) and value.ndim == 1
    return "list" if flat or isinstance(value, list | tuple) else "other"


def _whole(labels: NDArray[Any], where: str) -> NDArray[np.int64]:
    if labels.dtype.kind == "b":
        return labels.astype(np.int64)
    if labels.dtype.kind not in "iuf":
        raise DataError(_expected(where, f"labels are {labels.dtype} {labels.shape}"))
    with np.errstate(invalid="ignore"):
        fits = (labels >= -(2.0**63)) & (labels < 2.0**63)
        right = fits & (labels == np.floor(labels)) if labels.dtype.kind == "f" else fits
    if not right.all():
        place = np.unravel_index(int((~right).argmax()), labels.shape)
        raise DataError(
            _expected(where, f"row {place[0]} is {labels[place]}, labels are {labels.dtype}")
        )
    return labels.astype(np.int64)


def _matrix(labels: NDArray[np.int64], where: str) -> NDArray[np.uint8]:
    low = -1 if (labels == -1).any() else 0
    strange = ((labels != low) & (labels != 1)).any(axis=1)
    if strange.any():
        row = int(strange.argmax())
        raise DataError(_expected(where, f"row {row} holds other than {low} and 1"))
    rows: NDArray[np.uint8] = (labels == 1).astype(np.uint8)
    return rows


def class_numbers(
    parts: Mapping[str, Part], classes: Sequence[str] | None, dataset: str
) -> tuple[dict[str, NDArray[np.int32] | NDArray[np.uint8]], tuple[str, ...]]:
    """Return class numbers, (n,) each, and class names.

    Numbers become classes by those that are present, whose values are the class names, so that
    large numbers cost no memory. With class names (given, or of a named dataset) numbers are
    positions among them. Multi-label targets are a matrix of 0 and 1.

    Raises
    ------
    DataError, UsageError
    """
    forms = {_form(one.labels) for one in parts.values()}
    if len(forms) > 1:
        said = ", ".join(f"{name} has {_form(one.labels)}" for name, one in parts.items())
        raise DataError(f"{dataset}: labels of different kinds ({said}); write them alike")
    (form,) = forms
    if form == "rows of 0 and 1":
        return _of_rows(parts, classes, dataset)
    if form == "names":
        return _of_names(parts, classes)
    return _of_numbers(parts, classes, dataset)


def _form(labels: Labels) -> str:
    if isinstance(labels, list):
        return "names"
    return "rows of 0 and 1" if labels.ndim == 2 else "numbers"


def _of_rows(
    parts: Mapping[str, Part], classes: Sequence[str] | None, dataset: str
) -> tuple[dict[str, NDArray[np.int32] | NDArray[np.uint8]], tuple[str, ...]]:
    rows = {name: cast("NDArray[np.uint8]", one.labels) for name, one in parts.items()}
    widths = {one.shape[1] for one in rows.values()}
    width = next(iter(widths))
    if len(widths) > 1 or len(classes or range(width)) != width:
        raise DataError(
            f"{dataset}: label rows of {', '.join(map(str, sorted(widths)))} classes"
            + (f", and {len(classes)} classes are named" if classes else "")
        )
    known = tuple(classes or map(str, range(width)))
    exported = any(one.exported for one in parts.values())
    if not exported and all((one.sum(axis=1) == 1).all() for one in rows.values()):
        return {name: one.argmax(axis=1).astype(np.int32) for name, one in rows.items()}, known
    return dict(rows), known


def _of_names(
    parts: Mapping[str, Part], classes: Sequence[str] | None
) -> tuple[dict[str, NDArray[np.int32] | NDArray[np.uint8]], tuple[str, ...]]:
    texts = {name: cast("list[str]", one.labels) for name, one in parts.items()}
    present = {value for one in texts.values() for value in one}
    known = tuple(classes or ordered_classes(present))
    place = {name: number for number, name in enumerate(known)}
    strange = sorted(present - set(place))
    if strange:
        raise UsageError(f"label {strange[0]!r} is not among the classes given")
    return {
        name: np.array([place[value] for value in one], np.int32) for name, one in texts.items()
    }, known


def _of_numbers(
    parts: Mapping[str, Part], classes: Sequence[str] | None, dataset: str
) -> tuple[dict[str, NDArray[np.int32] | NDArray[np.uint8]], tuple[str, ...]]:
    flat = {name: cast("NDArray[np.int64]", one.labels) for name, one in parts.items()}
    present = np.unique(np.concatenate([np.unique(one) for one in flat.values()]))
    low, high = int(present[0]), int(present[-1])
    if low < 0 and not (classes is None and present.tolist() == [-1, 1]):
        name, labels = next((n, one) for n, one in flat.items() if (one < 0).any())
        negative = sum(int((one < 0).sum()) for one in flat.values())
        raise DataError(
            f"{parts[name].source}: {negative} labels are negative, the first in row "
            f"{int((labels < 0).argmax())}; number classes from 0 and leave out rows without one"
        )
    spec = DATASETS.get(dataset.removesuffix("_100"))
    usual = tuple(spec.classes) if spec is not None and len(spec.classes) > high else ()
    if classes or usual:
        known = tuple(classes or usual)
        if high >= len(known):
            from_one = "; number them from 0" if low == 1 and high == len(known) else ""
            raise UsageError(f"{len(known)} classes are given and labels go up to {high}{from_one}")
        return {name: one.astype(np.int32) for name, one in flat.items()}, known
    numbers = {name: np.searchsorted(present, one).astype(np.int32) for name, one in flat.items()}
    return dict(numbers), tuple(map(str, present.tolist()))
