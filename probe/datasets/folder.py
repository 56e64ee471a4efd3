"""A folder of class folders: ``<class>/**/*.jpg``, or that below ``train/ val/ test/``."""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path

import numpy as np

from probe.datasets.files import FileImages
from probe.datasets.image_files import EXTENSIONS
from probe.datasets.spec import SPLITS, BadImage, Dataset, Split
from probe.errors import DataError
from probe.memo import Memo

log = logging.getLogger(__name__)

SPLIT_FOLDERS = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
EMPTY = "a class folder without an image"
EXAMPLE = "expected CLASS/IMAGE or train/CLASS/IMAGE"


def load_folder(root: Path, *, memo: Memo, workers: int = 1, skip_bad: bool = False) -> Dataset:
    """Read the names in a folder of class folders; no image is opened.

    Classes are sorted by name, images by class and then by id. Folders within a class folder
    belong to that class. A class may be missing from ``val`` or ``test``, but one that is there
    must be in ``train``, where there is a ``train``. Split folders may be written in any case.

    Parameters
    ----------
    skip_bad : bool
        Leave out class folders without an image and list them in `Dataset.skipped`.

    Raises
    ------
    DataError
        The folder is laid out in another way; the message says what is wrong where.
    """
    _check_root(root)
    folders = _split_folders(root)
    listed = {split: _classes_in(root, folder) for split, folder in folders.items()}
    found, empty = _without_empty(root, folders, listed, skip_bad=skip_bad)
    classes = sorted({name for by_class in found.values() for name in by_class})
    _check_trained(root, found, classes)
    there = [name for name in SPLITS if name in found]
    name = Path(os.path.abspath(root)).name or str(root)
    return Dataset(
        name=name,
        classes=tuple(classes),
        splits={each: _split(root, found[each], classes, memo, workers) for each in there},
        root=root,
        skipped=tuple(BadImage(id=one, reason=EMPTY) for one in empty),
    )


def looks_like_class_folders(root: Path) -> bool:
    """Say whether a folder has images in class folders, at the cost of a few look-ups."""
    try:
        tops = [entry.path for entry in os.scandir(root) if entry.is_dir()]
        for top in tops:
            with os.scandir(top) as entries:
                children = list(entries)
            if any(_is_image(child.name) for child in children):
                return True
            if os.path.basename(top).lower() in SPLIT_FOLDERS and any(c.is_dir() for c in children):
                return True
    except OSError:
        return False
    return False


def _split_folders(root: Path) -> dict[str, str]:
    """Return split -> folder below root; ``""`` where the classes are at the top."""
    folders, images = _top(str(root))
    named = {name: SPLIT_FOLDERS[name.lower()] for name in folders if name.lower() in SPLIT_FOLDERS}
    if images:
        where = "beside the folders" if folders else "in no class folder"
        raise DataError(f"{root}: images lie {where} ({images[0]}); {EXAMPLE}")
    if not folders:
        raise DataError(f"{root}: has no class folders; {EXAMPLE}")
    if not named:
        return {"train": ""}
    others = [name for name in folders if name not in named]
    if others:
        raise DataError(
            f"{root}: has both split folders ({', '.join(named)}) and others "
            f"({', '.join(others[:5])}); move those away, or rename a class that is called "
            "like a split"
        )
    twice = [split for split, count in Counter(named.values()).items() if count > 1]
    if twice:
        both = ", ".join(name for name, split in named.items() if split == twice[0])
        raise DataError(f"{root}: {both} are all {twice[0]!r}; keep one of them")
    return {split: name for name, split in named.items()}


def _classes_in(root: Path, folder: str) -> dict[str, list[str]]:
    """Return class -> sorted ids, which may be none."""
    base = os.path.join(root, folder) if folder else str(root)
    names, images = _top(base)
    if images:
        where = "beside the class folders" if names else "in no class folder"
        raise DataError(f"{base}: images lie {where} ({images[0]}); {EXAMPLE}")
    if not names:
        raise DataError(f"{base}: has no class folders; {EXAMPLE}")
    found = {}
    for name in names:
        prefix = f"{folder}/{name}/" if folder else f"{name}/"
        ids: list[str] = []
        _list_images(os.path.join(base, name), prefix, ids, set())
        ids.sort()
        found[name] = ids
    return found


def _without_empty(
    root: Path,
    folders: dict[str, str],
    listed: dict[str, dict[str, list[str]]],
    *,
    skip_bad: bool,
) -> tuple[dict[str, dict[str, list[str]]], list[str]]:
    """Return the splits and classes that have images, and the folders of those that have none."""
    empty = [
        os.path.join(folders[split], name)
        for split, by_class in listed.items()
        for name, ids in by_class.items()
        if not ids
    ]
    filled = {
        split: {name: ids for name, ids in by_class.items() if ids}
        for split, by_class in listed.items()
        if any(by_class.values())
    }
    if empty and not (skip_bad and filled):
        raise DataError(
            f"{os.path.join(root, empty[0])}: {EMPTY}; remove it or fill it"
            + ("" if skip_bad else " (--skip-bad leaves it out)")
        )
    return filled, empty


def _top(folder: str) -> tuple[list[str], list[str]]:
    """Return the names of the folders and of the images directly in a folder, sorted."""
    folders, images = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    _check_name(folder, entry.name)
                    folders.append(entry.name)
                elif _is_image(entry.name):
                    images.append(entry.name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror}; check it") from error
    return sorted(folders), sorted(images)


def _list_images(folder: str, prefix: str, ids: list[str], seen: set[tuple[int, int]]) -> None:
    """Add the images in a folder and below; each real folder once, so that links cannot loop."""
    below = []
    try:
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            log.warning("%s: a link to a folder that was read already; left out", folder)
            return
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith("."):
                    continue
                if entry.is_dir():
                    _check_name(folder, name)
                    below.append(name)
                elif _is_image(name) and (entry.is_file() or entry.is_symlink()):
                    _check_name(folder, name)  # a broken link is an image that cannot be read
                    ids.append(prefix + name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror}; check it") from error
    for name in sorted(below):
        _list_images(f"{folder}/{name}", f"{prefix}{name}/", ids, seen)


def _is_image(name: str) -> bool:
    return name[name.rfind(".") :].lower() in EXTENSIONS and not name.startswith(".")


def _check_name(folder: str, name: str) -> None:
    if not name.isascii():
        try:
            name.encode()
        except UnicodeEncodeError:
            raise DataError(
                f"{os.fsencode(folder).decode('utf-8', 'backslashreplace')}: the name "
                f"{os.fsencode(name)!r} is not UTF-8; rename it"
            ) from None


def _check_root(root: Path) -> None:
    """Refuse a path that an entry could not record."""
    try:
        os.path.abspath(root).encode()
    except UnicodeEncodeError:
        raise DataError(
            f"{os.fsencode(root).decode('utf-8', 'backslashreplace')}: the path is not UTF-8; "
            "rename the folder"
        ) from None


def _check_trained(root: Path, found: dict[str, dict[str, list[str]]], classes: list[str]) -> None:
    if "train" not in found:
        return
    for split, by_class in found.items():
        strange = sorted(set(by_class) - set(found["train"]))
        if strange:
            raise DataError(
                f"{root}: the class {strange[0]!r} is in {split} but not in train; add images of "
                "it to train, or remove it"
            )
        missing = [name for name in classes if name not in by_class]
        if missing:
            log.info("%s: no images of %s in %s", root, ", ".join(missing), split)


def _split(
    root: Path, by_class: dict[str, list[str]], classes: list[str], memo: Memo, workers: int
) -> Split:
    ids = [id_ for name in classes for id_ in by_class.get(name, ())]
    counts = [len(by_class.get(name, ())) for name in classes]
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), counts)
    return Split(
        ids=ids,
        labels=labels,
        images=FileImages(os.path.abspath(root), ids, memo, workers),
    )
