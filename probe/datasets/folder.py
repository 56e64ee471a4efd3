"""Read a folder of class folders: ``CLASS/**/*.jpg``, or that below ``train/ val/ test/``.

The first half lists the images of each class; the second decides which folders are splits and
which are classes.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from probe.core.memo import Memo
from probe.core.short_repr import short_repr
from probe.datasets.classes import called_instead, class_name, ordered_classes
from probe.datasets.files import FileImages
from probe.datasets.image_files import (
    EXTENSIONS,
    NOT_UTF8,
    ending,
    is_folder,
    is_image_file,
    is_image_name,
    is_leavings,
    is_utf8,
    left_out,
    shown,
)
from probe.datasets.spec import SPLITS, BadImage, Dataset, Split
from probe.datasets.split_names import (
    EXACT,
    are_folds,
    are_images_and_masks,
    masks_among,
    split_words,
    tells_apart,
    without_labels,
)
from probe.errors import DataError

log = logging.getLogger(__name__)

EMPTY = "a class folder without an image"

ByClass = dict[str, list[str]]  # ids
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


def load_folder(root: Path, *, memo: Memo, workers: int = 1, skip_bad: bool = False) -> Dataset:
    """Read the names in a folder of class folders; no image is opened.

    Classes are in the order of `ordered_classes`, by number where all names are whole numbers;
    images by class and then by id. Folders within a class folder belong to that class. A class
    may be missing from ``val`` or ``test``, but one that is there must be in ``train``, where
    there is a ``train``. `class_folders` says which folders are splits and which are classes;
    `is_image_file` which files are images. What is left out, and how unusual names were read, is
    logged as a warning each.

    Links are followed, but not to a folder above or to another class's images, and each folder of
    a class is read once.

    Parameters
    ----------
    skip_bad : bool
        Leave out class folders without an image, and images whose names are not UTF-8, and list
        them in `Dataset.skipped`.

    Raises
    ------
    DataError
        The folder is laid out in another way; the message says what is wrong where.
    """
    _check_root(root)
    parts = class_folders(str(root))
    listing = _Listing(_Places(str(root), parts))
    listed: dict[str, ByClass] = {}
    folders: dict[tuple[str, str], str] = {}
    for part in parts:
        ids = listing.images_of(str(root), part)
        listed.setdefault(part.split, {}).setdefault(part.name, []).extend(ids)
        folders.setdefault((part.split, part.name), part.folder)
    for by_class in listed.values():
        for ids in by_class.values():
            ids.sort()
    listing.say(str(root))
    _say_masks(str(root), [ids for by_class in listed.values() for ids in by_class.values()])
    if listing.not_utf8 and not skip_bad:
        folder, name = os.path.split(listing.not_utf8[0])
        raise DataError(
            f"{os.path.join(shown(str(root)), shown(folder))}: the name "
            f"{os.fsencode(name if is_utf8(folder) else listing.not_utf8[0])!r} is not UTF-8; "
            f"rename it ({len(listing.not_utf8):,} such; --skip-bad leaves them out)"
        )
    found, empty = _without_empty(root, listed, folders, skip_bad=skip_bad)
    classes = ordered_classes(name for by_class in found.values() for name in by_class)
    _check_trained(root, found, classes)
    there = [name for name in SPLITS if name in found]
    name = Path(os.path.abspath(root)).name or str(root)
    return Dataset(
        name=name,
        classes=classes,
        splits={each: _split(root, found[each], classes, memo, workers) for each in there},
        root=root,
        skipped=(
            *(BadImage(id=shown(one), reason=EMPTY) for one in empty),
            *(BadImage(id=shown(one), reason=NOT_UTF8) for one in listing.not_utf8),
        ),
    )


def looks_like_class_folders(root: Path) -> bool:
    """Whether a folder has images in class folders, judged from a few of its entries."""
    try:
        tops = [entry.path for entry in os.scandir(root) if entry.is_dir()]
        for top in tops:
            with os.scandir(top) as entries:
                children = list(entries)
            if any(is_image_name(child.name) for child in children):
                return True
            if os.path.basename(top).lower() in EXACT and any(c.is_dir() for c in children):
                return True
    except OSError:
        return False
    return False


class _Places:
    """The real paths of class folders, so that no link adds images of another class."""

    def __init__(self, root: str, parts: list[ClassFolder]) -> None:
        self._root = os.path.realpath(root)
        self._tops: dict[str, ClassFolder] = {}
        self._above: set[str] = {self._root}
        self._written: dict[str, ClassFolder] = {}
        for part in parts:
            path = os.path.join(root, part.folder)
            real = os.path.realpath(path)
            before = self._tops.setdefault(real, part)
            if before is not part and before.split == part.split and before.name != part.name:
                raise DataError(
                    f"{shown(path)}: is the same folder as the class {shown(before.name)!r}; "
                    "remove the link"
                )
            self._written[os.path.abspath(path)] = part
            self._above.update(_parents(real))

    def leads_away(self, path: str, part: ClassFolder) -> bool:
        """Whether a linked folder contains, or lies in, a folder of images of another class."""
        real = os.path.realpath(path)
        if real in self._above:
            return True
        places = [real, *_parents(real)]
        owner = next((self._tops[one] for one in places if one in self._tops), None)
        if owner is not None:
            return (owner.name, owner.split) != (part.name, part.split)
        return self._root in places

    def is_of_another_class(self, path: str, part: ClassFolder) -> bool:
        """Whether a linked file lies in the folder of another class."""
        try:
            target = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(path)))
        except OSError:
            return False
        target = os.path.abspath(target)
        for one in _parents(target):
            owner = self._written.get(one) or self._tops.get(one)
            if owner is not None:
                return owner.name != part.name
        return False


@dataclass
class _Listing:
    """Lists images and counts the files that it leaves out."""

    __repr__ = short_repr

    places: _Places
    not_utf8: list[str] = field(default_factory=list)
    _endings: Counter[str] = field(default_factory=Counter)
    _links: list[str] = field(default_factory=list)
    _thumbnails: list[str] = field(default_factory=list)

    def images_of(self, root: str, part: ClassFolder) -> list[str]:
        """Return the ids of the images in a class folder and below, unsorted."""
        ids: list[str] = []
        self._list(os.path.join(root, part.folder), f"{part.folder}/", part, ids, set())
        return ids

    def say(self, root: str) -> None:
        """Log what was left out, a line for each kind."""
        if self._endings:
            log.warning("%s: %s", shown(root), left_out(self._endings))
        if self._links:
            log.warning(
                "%s: left out %s (%s): nothing there, read already, or another class's images",
                shown(root),
                "1 link" if len(self._links) == 1 else f"{len(self._links):,} links",
                shown(self._links[0]) + (", ..." if len(self._links) > 1 else ""),
            )
        if self._thumbnails:
            log.warning(
                "%s: left out %s of thumbnails (%s)",
                shown(root),
                "1 folder" if len(self._thumbnails) == 1 else f"{len(self._thumbnails):,} folders",
                shown(self._thumbnails[0]) + (", ..." if len(self._thumbnails) > 1 else ""),
            )

    def _list(
        self, folder: str, prefix: str, part: ClassFolder, ids: list[str],
        seen: set[tuple[int, int]],
    ) -> None:  # fmt: skip
        """Add the images in a folder and below; each real folder once, as links can form loops."""
        below: list[str] = []
        named_well = is_utf8(prefix)
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                self._links.append(prefix)
                return
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                for entry in entries:
                    name = entry.name
                    if name.startswith("."):
                        continue
                    linked = entry.is_symlink()
                    if is_folder(entry) if linked else entry.is_dir():
                        self._folder(entry, prefix, part, below)
                        continue
                    plain = not linked and name[name.rfind(".") :].lower() in EXTENSIONS
                    if entry.is_file() if plain else self._is_image(entry, prefix, part):
                        good = named_well and (name.isascii() or is_utf8(name))
                        (ids if good else self.not_utf8).append(prefix + name)
        except OSError as error:
            raise DataError(
                f"{shown(folder)}: cannot be listed: {error.strerror}; check it"
            ) from error
        _check_no_splits(folder, below)
        for name in sorted(below):
            self._list(f"{folder}/{name}", f"{prefix}{name}/", part, ids, seen)

    def _folder(
        self, entry: os.DirEntry[str], prefix: str, part: ClassFolder, below: list[str]
    ) -> None:
        if is_leavings(entry.name):
            if "thumb" in entry.name.lower():
                self._thumbnails.append(prefix + entry.name)
        elif entry.is_symlink() and self.places.leads_away(entry.path, part):
            self._links.append(prefix + entry.name)
        else:
            below.append(entry.name)

    def _is_image(self, entry: os.DirEntry[str], prefix: str, part: ClassFolder) -> bool:
        """Whether a file is an image of the class; a broken link counts as an unreadable image."""
        linked = entry.is_symlink()
        known = ending(entry.name)
        if known not in EXTENSIONS and not is_image_file(entry.path, entry.name):
            if linked and not os.path.exists(entry.path):
                self._links.append(prefix + entry.name)
            elif not is_leavings(entry.name):
                self._endings[known] += 1
            return False
        if linked and self.places.is_of_another_class(entry.path, part):
            self._links.append(prefix + entry.name)
            return False
        return linked or entry.is_file()


def _say_masks(root: str, classes: list[list[str]]) -> None:
    """Warn of images that are named like masks of other images of their class."""
    masks: list[str] = []
    for ids in classes:
        stems = {one[: one.rfind(".")]: one for one in ids if "." in one}
        masks += [stems[mask] for mask in masks_among(stems)]
    if masks:
        log.warning(
            "%s: %s like masks of images beside them (%s), and read as images of their class; "
            "move masks elsewhere",
            shown(root),
            "1 image is called" if len(masks) == 1 else f"{len(masks):,} images are called",
            shown(masks[0]) + (", ..." if len(masks) > 1 else ""),
        )


def _check_no_splits(folder: str, below: list[str]) -> None:
    """Refuse split folders inside a single class: its test images would be trained on."""
    if are_images_and_masks(below):
        raise DataError(f"{shown(folder)}: {', '.join(map(shown, sorted(below)))} {MASKS}")
    read = split_words(below, whole=True) if len(below) > 1 else None
    if read and tells_apart(read.values()):
        raise DataError(
            f"{shown(folder)}: splits ({', '.join(sorted(below))}) lie in a class folder, and not "
            "in all in the same way; put the split folders above the class folders, or list the "
            "images in a .csv with the columns image,label,split"
        )


def _without_empty(
    root: Path, listed: dict[str, ByClass], folders: dict[tuple[str, str], str], *, skip_bad: bool
) -> tuple[dict[str, ByClass], list[str]]:
    """Return the splits and classes that have images, and the folders of those that have none."""
    empty = [
        folders[split, name]
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
            f"{os.path.join(root, shown(empty[0]))}: {EMPTY}; remove it or fill it"
            + ("" if skip_bad else " (--skip-bad leaves it out)")
        )
    return filled, empty


def _parents(path: str) -> Iterator[str]:
    """Yield the folders above an absolute path, the nearest first."""
    while (cut := path.rfind(os.sep)) > 0:
        path = path[:cut]
        yield path
    yield os.sep


def _check_root(root: Path) -> None:
    """Refuse a path that is not UTF-8, which an entry cannot record."""
    if not is_utf8(os.path.abspath(root)):
        raise DataError(f"{shown(str(root))}: the path is not UTF-8; rename the folder")


def _check_trained(root: Path, found: dict[str, ByClass], classes: tuple[str, ...]) -> None:
    if "train" not in found:
        return
    for split, by_class in found.items():
        strange = sorted(set(by_class) - set(found["train"]))
        if strange:
            raise DataError(
                f"{root}: the class {strange[0]!r} is in {split} but not in train"
                f"{called_instead(strange[0], found['train'])}; add images of it to train, or "
                "remove it"
            )
        missing = [name for name in classes if name not in by_class]
        if missing:
            log.info("%s: no images of %s in %s", root, ", ".join(missing), split)


def _split(
    root: Path, by_class: ByClass, classes: tuple[str, ...], memo: Memo, workers: int
) -> Split:
    ids = [id_ for name in classes for id_ in by_class.get(name, ())]
    counts = [len(by_class.get(name, ())) for name in classes]
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), counts)
    return Split(
        ids=ids,
        labels=labels,
        images=FileImages(os.path.abspath(root), ids, memo, workers),
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
    """Find the class folders of a dataset, and warn where a name was interpreted.

    Split folders are `train`, `val` and `test` and their synonyms (see `split_words`), above the
    classes or, where every class has them, below. A folder that contains nothing but one folder is
    skipped in favour of that. Folders that a file ``classes.txt``, beside them or in the root,
    names one a line are classes, whatever they are called and contain.

    Raises
    ------
    DataError
        The layout is another one, or folders that would be classes are parts or copies of the
        dataset: folds, splits without classes, or folders without images that contain folders of
        the same names.
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
        }  # the only class of a split is not a wrapper
        inner = folder if siblings[split] & others else _innermost(root, folder)
        found += _classes(root, inner, split, _folders_of(root, inner))
    return found


@dataclass(frozen=True)
class _Peeked:
    """The folders in a folder, or the name of its first image."""

    folders: list[str]
    image: str | None


def _scan(place: str) -> Iterator[tuple[str, bool]]:
    """Yield the name of each folder and image in a folder, and whether it is an image."""
    try:
        with os.scandir(place) as entries:
            for entry in entries:
                if is_leavings(entry.name):
                    continue
                if is_folder(entry):
                    yield entry.name, False
                elif is_image_file(entry.path, entry.name):
                    yield entry.name, True
    except OSError as error:
        raise DataError(f"{shown(place)}: cannot be listed: {error.strerror}; check it") from error


def _peek(folder: str) -> _Peeked:
    folders = []
    for name, is_image in _scan(folder):
        if is_image:
            return _Peeked([], name)
        folders.append(name)
    return _Peeked(sorted(folders), None)


def _folders_of(root: str, base: str) -> list[str]:
    """Return the folders in a folder; refuse images beside them."""
    place = os.path.join(root, base) if base else root
    folders, image = [], None
    for name, is_image in _scan(place):
        if not is_image:
            folders.append(name)
        elif image is None:
            image = name
    if image is not None:
        where = "beside the class folders" if folders else "in no class folder"
        where = where if base else where.replace("the class folders", "the folders")
        raise DataError(f"{shown(place)}: images lie {where} ({shown(image)}); {EXAMPLE}")
    if not folders:
        raise DataError(f"{shown(place)}: has no class folders; {EXAMPLE}")
    return sorted(folders)


def _with_images(root: str, base: str, names: list[str]) -> list[str]:
    """Leave out folders without images, such as annotations, beside split folders."""
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
    """Descend while a folder contains only one folder that contains folders itself."""
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
    """Return the folder of each split below `base`; empty where the folders are classes."""
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
        readings = ", ".join(f"{shown(name)} as {split}" for name, split in near_names.items())
        log.warning("%s: reading the folder %s", place, readings)
    return {split: name for name, split in read.items()}


def _splits_in_classes(root: str, base: str, names: Sequence[str]) -> list[ClassFolder]:
    """Return the class folders of a layout with splits inside classes: `cat/train/1.jpg`."""
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
    readings = ", ".join(f"{shown(folder)} as {split}" for folder, split in read.items())
    log.warning("%s: each class has its splits; reading %s", shown(root), readings)
    return found


def _classes(root: str, base: str, split: str, names: Sequence[str]) -> list[ClassFolder]:
    if not _declared(root, base, names):
        _check_no_copies(root, base, names)
    return [
        ClassFolder(split=split, name=class_name(name), folder=_join(base, name)) for name in names
    ]


def _declared(root: str, base: str, names: Sequence[str]) -> bool:
    """Whether a ``classes.txt`` beside the folders, or in the root, names them all.

    Split folders alone are not declared: a list of COCO's classes contains `train`.
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
    """Refuse class folders that look like parts or copies of one dataset."""
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
    """Return what a folder contains, after folders that contain only one folder."""
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
