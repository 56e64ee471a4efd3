"""Make classes of the numbers that MXNet's lists and records have in place of names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from probe.core.regular import open_regular
from probe.core.short_repr import short_repr
from probe.datasets.classes import class_name
from probe.errors import DataError, UsageError

NAME_FILES = ("classes.txt", "synset.txt")  # a name a line, in the order of the labels
_MOST_NAMES = 2**24  # bytes
_SHOWN = 4


@dataclass(frozen=True, kw_only=True)
class Names:
    """What the labels are called.

    Parameters
    ----------
    by_number : mapping of int to str
    source : str
        Where the names are from, for messages.
    """

    __repr__ = short_repr

    by_number: Mapping[int, str]
    source: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Classes:
    """Labels as a dataset has them.

    Parameters
    ----------
    labels : int32, (n_images,), or uint8, (n_images, n_classes)
    names : tuple of str
        In the order of the numbers.
    empty : tuple of str
        Classes of flags that no image has; they are left out.
    """

    __repr__ = short_repr

    labels: NDArray[np.int32] | NDArray[np.uint8]
    names: tuple[str, ...]
    empty: tuple[str, ...] = ()


def classes_of(
    labels: Sequence[bytes],
    names: Names | None,
    where: Callable[[int], str],
) -> Classes:
    """Return the classes of some images.

    One whole number an image is the number of its class; only those that there are become classes,
    in the order of the numbers. Several numbers an image, of which each is 0 or 1, say for each
    class whether the image is of it.

    Parameters
    ----------
    labels : sequence of bytes, (n_images,)
        One or more float32, little-endian, an image.
    names : Names or None
        None: classes are called by their numbers.
    where : callable
        Row to the words for it, for messages.

    Raises
    ------
    DataError
        The numbers are none of these, or a number has no name.
    """
    width = len(labels[0]) // 4
    for row, one in enumerate(labels):
        if len(one) != 4 * width:
            raise DataError(
                f"{where(row)} has {_counted(one)}, and {where(0)} has {_counted(labels[0])}; as "
                "in lists of objects and their boxes, which are no classes of images. If the first "
                "number is the class, add --label 0"
            )
    values = np.frombuffer(b"".join(labels), "<f4").reshape(len(labels), width)
    return _one(values[:, 0], names, where) if width == 1 else _flags(values, names, where)


def chosen_labels(
    labels: Sequence[bytes], place: str | None, where: Callable[[int], str]
) -> Sequence[bytes]:
    """Return one of several labels of each image, or all where no place is given.

    Parameters
    ----------
    place : str or None
        From 0, as typed.

    Raises
    ------
    UsageError
        It is no number.
    DataError
        An image has fewer labels.
    """
    if place is None:
        return labels
    if not (place.isascii() and place.isdigit()):
        raise UsageError(
            f"--label {place}: labels are numbers without names here; give the place of one, from 0"
        )
    start = 4 * int(place)
    for row, one in enumerate(labels):
        if start >= len(one):
            raise DataError(f"--label {place}: {where(row)} has {_counted(one)}, from place 0")
    return [one[start : start + 4] for one in labels]


def _counted(label: bytes) -> str:
    count = len(label) // 4
    return "1 label" if count == 1 else f"{count:,} labels"


def _one(values: NDArray[np.float32], names: Names | None, where: Callable[[int], str]) -> Classes:
    whole = np.isfinite(values) & (values == np.rint(values)) & (np.abs(values) < 2**53)
    if not whole.all():
        row = int(np.flatnonzero(~whole)[0])
        raise DataError(
            f"{where(row)} has the label {values[row]:g}, which is no whole number and so no class"
        )
    numbers, labels = np.unique(values.astype(np.int64), return_inverse=True)
    found = numbers.tolist()
    lacking = [number for number in found if names and number not in names.by_number]
    if names and lacking:
        row = int(np.flatnonzero(labels == found.index(lacking[0]))[0])
        raise DataError(
            f"{where(row)} has the label {lacking[0]}, for which {names.source} has no name; "
            "correct or remove that"
        )
    return Classes(labels=labels.astype(np.int32), names=tuple(_name(n, names) for n in found))


def _flags(
    values: NDArray[np.float32], names: Names | None, where: Callable[[int], str]
) -> Classes:
    odd = (values != 0) & (values != 1)
    if odd.any():
        row = int(np.flatnonzero(odd.any(axis=1))[0])
        few = values[row, :_SHOWN].tolist()
        shown = ", ".join(f"{value:g}" for value in few) + (
            ", ..." if len(few) < len(values[row]) else ""
        )
        raise DataError(
            f"{where(row)} has {values.shape[1]:,} labels ({shown}) that are not 0 or 1 for each "
            "class; if one of them is the number of the class, --label 0 takes the first"
        )
    count = values.shape[1]
    if names and not set(range(count)) <= set(names.by_number):
        raise DataError(
            f"{names.source} names {len(names.by_number):,} classes, and {where(0)} has {count:,} "
            "labels; correct or remove it"
        )
    called = [_name(number, names) for number in range(count)]
    there = values.any(axis=0)
    if there.sum() < 2:
        raise DataError(
            f"{where(0)} has a label of 0 or 1 for each of {count:,} classes, as all have; fewer "
            "than two of the classes have an image, which tells nothing apart"
        )
    return Classes(
        labels=values[:, there].astype(np.uint8),
        names=tuple(name for name, some in zip(called, there, strict=True) if some),
        empty=tuple(name for name, some in zip(called, there, strict=True) if not some),
    )


def _name(number: int, names: Names | None) -> str:
    return names.by_number[number] if names else str(number)


def names_in(folder: Path) -> Names | None:
    """Return the names in a ``classes.txt`` or ``synset.txt`` of a folder; None without one.

    Raises
    ------
    DataError
        It is no list of different names.
    """
    for path in (folder / name for name in NAME_FILES):
        if not path.is_file():
            continue
        try:
            with open_regular(path) as file:
                text = file.read(_MOST_NAMES).decode("utf-8-sig")
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
        except UnicodeDecodeError:
            raise DataError(f"{path}: is not UTF-8; save it as UTF-8 text") from None
        lines = [class_name(line.strip()) for line in text.splitlines()]
        while lines and not lines[-1]:
            lines.pop()
        twice = next((name for name, count in Counter(lines).items() if count > 1), None)
        if twice is not None or "" in lines or not lines:
            what = "has an empty line" if twice is None else f"names {twice!r} twice"
            raise DataError(
                f"{path}: {what if lines else 'is empty'}; it names the classes of the labels 0, "
                "1, ..., a line each: correct or remove it"
            )
        return Names(by_number=dict(enumerate(lines)), source=str(path))
    return None


def names_of_folders(labels: Sequence[bytes], paths: Sequence[str], source: str) -> Names | None:
    """Return what classes are called by the folders of their images; None where they do not tell.

    The last folder of a path is the class, or else the first, or all of them: whichever has a
    folder for each label and a label for each folder.
    """
    numbers = [float(np.frombuffer(one, "<f4")[0]) for one in labels]
    if any(len(one) != 4 for one in labels) or not all(map(float.is_integer, numbers)):
        return None
    folders = [PurePosixPath(path.replace("\\", "/")).parent.parts for path in paths]
    if not all(folders):
        return None
    for part in (slice(-1, None), slice(1), slice(None)):
        named: dict[int, str] = {}
        pairs = {(int(n), "/".join(one[part])) for n, one in zip(numbers, folders, strict=True)}
        named = {number: class_name(name) for number, name in pairs}
        if len(named) == len(pairs) == len(set(named.values())):
            return Names(by_number=named, source=source)
    return None
