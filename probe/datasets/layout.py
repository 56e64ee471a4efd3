"""What the folders of a dataset are: splits, classes, or neither, told from their names."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from probe.datasets.classes import class_name
from probe.datasets.image_files import is_folder, is_image_file, is_leavings, shown
from probe.datasets.split_names import (
    EXACT,
    are_folds,
    are_images_and_masks,
    split_words,
    tells_apart,
    without_labels,
)
from probe.errors import DataError

log = logging.getLogger(__name__)

EXAMPLE = "expected CLASS/IMAGE or train/CLASS/IMAGE"
_MOST_DECLARED = 2**24  # bytes
_DEEPEST = 8  # folders with nothing but one folder in them
_LIST = "or list the images in a .csv with the columns image,label,split"
DECLARED = "classes.txt"  # a file that says which folders are classes, a name a line
_DECLARE = f"if they are classes, write their names into {DECLARED} beside them, a name a line"
MASKS = (
    "are called like images and the masks or annotations to them, not like classes; move those "
    "elsewhere, or list the images in a .csv with the columns image,label,split"
)


@dataclass(frozen=True, kw_only=True)
class ClassFolder:
    """A folder whose images are of one class and split.

    Parameters
    ----------
    split : {"train", "val", "test"}
    name : str
        The class's.
    folder : str
        Relative to the dataset's.
    """

    split: str
    name: str
    folder: str


def class_folders(root: str) -> list[ClassFolder]:
    """Find the class folders of a dataset, and say how their names were read where it is not plain.

    Split folders are `train`, `val` and `test` and what means the same (see `split_words`), above
    the classes or, where every class has them, below. A folder with nothing in it but one folder
    is that folder. Folders that a file ``classes.txt`` beside them or in the root names, one a
    line, are classes whatever they are called and hold.

    Raises
    ------
    DataError
        It is laid out in another way; or folders that would be classes are parts or copies of the
        dataset: folds, splits without classes, or folders without images that hold folders of the
        same names.
    """
    base = _innermost(root, "")
    names = _with_images(root, base, _folders_of(root, base))
    splits = {} if _declared(root, base, names) else _split_folders(root, base, names)
    if not splits:
        inverted = _splits_in_classes(root, base, names)
        return inverted or _classes(root, base, "train", names)
    bases = {split: _join(base, name) for split, name in splits.items()}
    siblings = {
        split: set(_peek(os.path.join(root, folder)).folders) for split, folder in bases.items()
    }
    found = []
    for split, folder in bases.items():
        others = {
            name
            for other, names in siblings.items()
            if other != split
            for name in names
            if len(names) > 1 or _peek(os.path.join(root, bases[other], name)).image
        }  # a class that is alone in its split is no wrapping
        inner = folder if siblings[split] & others else _innermost(root, folder)
        found += _classes(root, inner, split, _folders_of(root, inner))
    return found


@dataclass(frozen=True)
class _Peeked:
    """What lies directly in a folder; where there is an image, no more than that one."""

    folders: list[str]
    image: str | None


def _peek(folder: str) -> _Peeked:
    folders = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_leavings(entry.name):
                    continue
                if is_folder(entry):
                    folders.append(entry.name)
                elif is_image_file(entry.path, entry.name):
                    return _Peeked([], entry.name)
    except OSError as error:
        raise DataError(f"{shown(folder)}: cannot be listed: {error.strerror}; check it") from error
    return _Peeked(sorted(folders), None)


def _folders_of(root: str, base: str) -> list[str]:
    """Return the folders in one that may hold no images itself."""
    place = os.path.join(root, base) if base else root
    folders, image = [], None
    try:
        with os.scandir(place) as entries:
            for entry in entries:
                if is_leavings(entry.name):
                    continue
                if is_folder(entry):
                    folders.append(entry.name)
                elif image is None and is_image_file(entry.path, entry.name):
                    image = entry.name
    except OSError as error:
        raise DataError(f"{shown(place)}: cannot be listed: {error.strerror}; check it") from error
    if image is not None:
        where = "beside the class folders" if folders else "in no class folder"
        where = where if base else where.replace("the class folders", "the folders")
        raise DataError(f"{shown(place)}: images lie {where} ({shown(image)}); {EXAMPLE}")
    if not folders:
        raise DataError(f"{shown(place)}: has no class folders; {EXAMPLE}")
    return sorted(folders)


def _with_images(root: str, base: str, names: list[str]) -> list[str]:
    """Leave out folders without images, such as annotations, where the others are splits."""
    place = os.path.join(root, base) if base else root
    if not any(split_words([name], whole=False) for name in names):
        return names
    peeked = {name: _peek(os.path.join(place, name)) for name in names}
    empty = [name for name, one in peeked.items() if not one.image and not one.folders]
    rest = [name for name in names if name not in empty]
    read = split_words(rest, whole=False) if empty else None
    if read is None or not tells_apart(read.values()) or split_words(empty, whole=False):
        return names
    log.warning("%s: left out folders without images beside the splits: %s", place, _some(empty))
    return rest


def _innermost(root: str, base: str) -> str:
    """Go down while a folder has nothing in it but one folder, which has folders itself."""
    start = base
    for _ in range(_DEEPEST):
        peeked = _peek(os.path.join(root, base) if base else root)
        if peeked.image or len(peeked.folders) != 1:
            break
        (only,) = peeked.folders
        within = _peek(os.path.join(root, base, only))
        a_split = start == "" and split_words([only], whole=True)
        if not within.folders or (a_split and not split_words(within.folders, whole=True)):
            break
        base = _join(base, only)
    if base != start:
        place = os.path.join(root, start) if start else root
        log.warning("%s: has nothing but a folder in it; reading %s", shown(place), shown(base))
    return base


def _split_folders(root: str, base: str, names: Sequence[str]) -> dict[str, str]:
    """Return split -> folder below base; none where they are classes."""
    place = shown(os.path.join(root, base) if base else root)
    read = split_words(names, whole=len(names) == 1)
    exact = [name for name in names if name.lower() in EXACT]
    if read is None:
        near = {name: one[name] for name in names if (one := split_words([name], whole=True))}
        loose = {name: one[name] for name in names if (one := split_words([name], whole=False))}
        shells = [n for n in loose if not _peek(os.path.join(root, base, n)).image]
        if exact or tells_apart([loose[name] for name in shells]):
            near = near if exact else loose
            others = [name for name in names if name not in near]
            raise DataError(
                f"{place}: has both split folders ({_some(near)}) and others ({_some(others)}); "
                "move those away, or rename a class that is called like a split; "
                + _DECLARE.replace("they", "all")
            )
        return {}
    holding = [name for name in names if _peek(os.path.join(root, base, name)).image]
    if not exact and holding and not tells_apart(read.values()):
        return {}  # `passenger_train` and `freight_train`, with images in them, are classes
    twice = [split for split, count in Counter(read.values()).items() if count > 1]
    if twice:
        both = ", ".join(shown(name) for name, split in read.items() if split == twice[0])
        if not exact and not tells_apart(read.values()):
            return {}
        raise DataError(f"{place}: {both} are all {twice[0]!r}; keep one of them")
    near_names = {name: split for name, split in read.items() if name.lower() not in EXACT}
    if near_names:
        told = ", ".join(f"{shown(name)} as {split}" for name, split in near_names.items())
        log.warning("%s: reading the folder %s", place, told)
    return {split: name for name, split in read.items()}


def _splits_in_classes(root: str, base: str, names: Sequence[str]) -> list[ClassFolder]:
    """Return the class folders where splits lie in the classes: `cat/train/1.jpg`."""
    within = {name: _peek(os.path.join(root, base, name)) for name in names}
    if any(one.image or not one.folders for one in within.values()):
        return []
    below = sorted({folder for one in within.values() for folder in one.folders})
    read = split_words(below, whole=True)
    if read is None or not tells_apart(read.values()):
        return []
    found = []
    for name, one in within.items():
        for folder in one.folders:
            path = _join(base, name, folder)
            inner = _peek(os.path.join(root, path))
            if inner.folders and not inner.image:
                return []  # `fold_0/train/cat`: no classes, but copies
            found.append(ClassFolder(split=read[folder], name=class_name(name), folder=path))
    told = ", ".join(f"{shown(folder)} as {split}" for folder, split in read.items())
    log.warning("%s: each class has its splits; reading %s", shown(root), told)
    return found


def _classes(root: str, base: str, split: str, names: Sequence[str]) -> list[ClassFolder]:
    if not _declared(root, base, names):
        _check_no_copies(root, base, names)
    return [
        ClassFolder(split=split, name=class_name(name), folder=_join(base, name)) for name in names
    ]


def _declared(root: str, base: str, names: Sequence[str]) -> bool:
    """Whether a file beside the folders, or in the root, says that all of them are classes.

    Split folders alone are none: a list of COCO's classes has `train` in it.
    """
    if all(name.lower() in EXACT for name in names):
        return False
    for place in dict.fromkeys((os.path.join(root, base), root)):
        path = os.path.join(place, DECLARED)
        if not os.path.isfile(path):
            continue
        try:
            with open(path, "rb") as file:
                lines = file.read(_MOST_DECLARED).decode("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError):
            continue
        if {class_name(name) for name in names} <= {class_name(line.strip()) for line in lines}:
            return True
    return False


def _check_no_copies(root: str, base: str, names: Sequence[str]) -> None:
    """Refuse folders that would be classes and look like parts or copies of the dataset."""
    place = shown(os.path.join(root, base) if base else root)
    if are_folds(names):
        raise DataError(
            f"{place}: {_some(names)} are called like folds, not like classes; give one of them "
            f"({os.path.join(place, shown(names[0]))}), {_LIST}; {_DECLARE}"
        )
    if unlabelled := without_labels(names):
        raise DataError(
            f"{place}: {_some(unlabelled)} says that its images have no labels, and would be a "
            f"class; move it away, {_LIST}; {_DECLARE}"
        )
    if are_images_and_masks(names):
        raise DataError(f"{place}: {_some(names)} {MASKS}")
    shells = {}
    for name in names:
        folders = _spine(os.path.join(root, base, name)).folders
        if are_images_and_masks(folders):
            raise DataError(f"{os.path.join(place, shown(name))}: {_some(folders)} {MASKS}")
        if len(folders) > 1:
            shells[name] = {class_name(folder) for folder in folders}
    counts = Counter(folder for folders in shells.values() for folder in folders)
    shared = sorted(folder for folder, count in counts.items() if count > 1)
    if len(shared) * 2 < len(counts) or not shared:
        return
    raise DataError(
        f"{place}: {_some(list(shells))} hold no images themselves but folders of the same names "
        f"({_some(shared)}), so they look like parts or copies of one dataset, not like classes; "
        f"give one of them ({os.path.join(place, shown(next(iter(shells))))}), {_LIST}; "
        f"{_DECLARE}"
    )


def _spine(folder: str) -> _Peeked:
    """Look into a folder, through folders that hold nothing but one folder."""
    peeked = _peek(folder)
    for _ in range(_DEEPEST):
        if peeked.image or len(peeked.folders) != 1:
            break
        folder = os.path.join(folder, peeked.folders[0])
        peeked = _peek(folder)
    return peeked


def _join(*parts: str) -> str:
    return "/".join(part for part in parts if part)


def _some(names: Sequence[str] | dict[str, str]) -> str:
    names = [shown(name) for name in names]
    return ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")
