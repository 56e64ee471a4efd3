"""Decide which folders of a dataset are splits and which are classes, wherever they lie."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from probe.core.texts import Texts
from probe.datasets.classes import (
    UNLABELED,
    called_instead,
    class_name,
    has_labels,
    ordered_classes,
)
from probe.datasets.images.image_files import ending, is_image_name, is_leavings, shown
from probe.datasets.spec import SPLITS, BadImage, Dataset, Images, Split
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

ByClass = dict[str, list[str]]  # ids
EMPTY = "a class folder without an image"
EXAMPLE = "expected CLASS/IMAGE or train/CLASS/IMAGE"
_DEEPEST = 8  # folders with nothing but one folder in them
_LIST = "or list the images in a .csv with the columns image,label,split"
DECLARED = "classes.txt"  # a file that says which folders are classes, a name a line
_DECLARE = f"if they are classes, write their names into {DECLARED} beside them, a name a line"
MASKS = (
    "are called like images and the masks or annotations to them, not like classes; move those "
    "elsewhere, or list the images in a .csv with the columns image,label,split"
)


class Tree(Protocol):
    """Folders and images below a root: on disk, in an archive, or in a listing.

    Attributes
    ----------
    root : str
        What messages call it.
    """

    root: str

    def scan(self, folder: str) -> Iterable[tuple[str, bool]]:
        """Yield the name of each folder and image in a folder, and whether it is an image.

        `folder` is relative to the root, ``""`` the root itself. Leavings are passed over.
        """
        ...

    def read(self, path: str) -> bytes | None:
        """Return the contents of a small file; None where there is none."""
        ...


class NamesTree:
    """The tree of a list of paths.

    Parameters
    ----------
    names : iterable of str
        Of files, relative to the root, with slashes.
    files : mapping of str to bytes
        Contents of the small files that may be read.
    """

    def __init__(self, root: str, names: Iterable[str], files: Mapping[str, bytes]) -> None:
        self.root, self._files = root, files
        self._folders: dict[str, dict[str, bool]] = {"": {}}
        for name in names:
            *folders, last = name.split("/")
            if not is_image_name(last) or any(is_leavings(one) for one in folders):
                continue
            above = ""
            for one in folders:
                self._folders.setdefault(above, {})[one] = False
                above = join(above, one)
            self._folders.setdefault(above, {})[last] = True

    def scan(self, folder: str) -> Iterable[tuple[str, bool]]:
        """Yield the name of each folder and image in a folder, and whether it is an image."""
        return self._folders.get(folder, {}).items()

    def read(self, path: str) -> bytes | None:
        """Return the contents of a small file; None where there is none."""
        return self._files.get(path)

    def images_of(self, part: ClassFolder) -> list[str]:
        """Return the paths of the images in a class folder and below, sorted."""
        found: list[str] = []
        folders = [part.folder]
        while folders:
            folder = folders.pop()
            for name, is_image in self.scan(folder):
                (found if is_image else folders).append(join(folder, name))
            below = [name for name, is_image in self.scan(folder) if not is_image]
            if part.labelled:
                check_no_splits(os.path.join(self.root, folder), below)
        return sorted(found)


@dataclass(frozen=True, kw_only=True)
class ClassFolder:
    """A folder whose images are of one class and split.

    Parameters
    ----------
    split : {"train", "val", "test"}
    name : str
        The class's.
    folder : str
        Relative to the dataset's; ``""`` is that itself.
    """

    split: str
    name: str
    folder: str

    @property
    def labelled(self) -> bool:
        """Whether its images have labels."""
        return has_labels([self.name])


def labelled(
    root: str,
    listed: dict[str, ByClass],
    folders: dict[tuple[str, str], str],
    images: Callable[[Sequence[str]], Images],
    *,
    name: str,
    base: Path | None,
    skip_bad: bool,
    skipped: Sequence[BadImage] = (),
) -> Dataset:
    """Return the dataset of images that are listed by split and class.

    Parameters
    ----------
    root : str
        What messages call it.
    listed : dict of split to dict of class to list of id
    folders : dict of (split, class) to str
        The folder of each.
    images : callable
        From ids to `Images`.
    skip_bad : bool
        Leave out classes without an image, and list them.
    skipped : sequence of BadImage
        What was left out before.

    Raises
    ------
    DataError
        A class has no image, or none in train.
    """
    for by_class in listed.values():
        for ids in by_class.values():
            ids.sort()
    every = [ids for by_class in listed.values() for ids in by_class.values()]
    _say_masks(root, every)
    _say_twins(root, every)
    found, empty = _without_empty(root, listed, folders, skip_bad=skip_bad)
    classes = ordered_classes(name for by_class in found.values() for name in by_class)
    _check_trained(root, found, classes)
    return Dataset(
        name=name,
        classes=classes,
        splits={one: _split(found[one], classes, images) for one in SPLITS if one in found},
        root=base,
        skipped=(*(BadImage(id=shown(one), reason=EMPTY) for one in empty), *skipped),
    )


def labelled_by(
    tree: NamesTree,
    parts: Sequence[ClassFolder],
    images: Callable[[Sequence[str]], Images],
    *,
    name: str,
    base: Path | None,
    skip_bad: bool,
    skipped: Sequence[BadImage] = (),
) -> Dataset:
    """Return the dataset of class folders in a tree of names; see `labelled`."""
    listed: dict[str, ByClass] = {}
    folders: dict[tuple[str, str], str] = {}
    for part in parts:
        found = listed.setdefault(part.split, {}).setdefault(part.name, [])
        found += tree.images_of(part)
        folders.setdefault((part.split, part.name), part.folder)
    return labelled(
        tree.root, listed, folders, images,
        name=name, base=base, skip_bad=skip_bad, skipped=skipped,
    )  # fmt: skip


def unlabeled_folders(tree: Tree) -> list[ClassFolder]:
    """Return the folders of a dataset whose images have no labels.

    Where all images lie in split folders, `train` and at least one other, they are of those splits;
    otherwise all are of train.
    """
    base = _only_folder(tree, "")
    found = dict(tree.scan(base))
    read = None if any(found.values()) else split_words(found, whole=True)
    if read is None or not tells_apart(read.values()) or len({*read.values()}) < len(read):
        return [ClassFolder(split="train", name=UNLABELED, folder="")]
    _say_near(tree, base, read)
    return [
        ClassFolder(split=split, name=UNLABELED, folder=join(base, name))
        for name, split in read.items()
    ]


def class_folders(tree: Tree) -> list[ClassFolder]:
    """Find the class folders of a dataset, and warn where a name was interpreted.

    Images in no folder, and no folder beside them, have no labels.

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
    kinds = {is_image for _, is_image in tree.scan("")}
    if kinds == {True}:
        log.warning(
            "%s: has no class folders: its images are read without labels", shown(tree.root)
        )
        return unlabeled_folders(tree)
    base = _innermost(tree, "")
    names = _with_images(tree, base, _folders_of(tree, base))
    splits = {} if _declared(tree, base, names) else _split_folders(tree, base, names)
    if not splits:
        inverted = _splits_in_classes(tree, base, names)
        return inverted or _classes(tree, base, "train", names)
    bases = {split: join(base, name) for split, name in splits.items()}
    siblings = {split: set(_peek(tree, folder).folders) for split, folder in bases.items()}
    found = []
    for split, folder in bases.items():
        others = {
            name
            for other, names in siblings.items()
            if other != split
            for name in names
            if len(names) > 1 or _peek(tree, join(bases[other], name)).image
        }  # the only class of a split is not a wrapper
        inner = folder if siblings[split] & others else _innermost(tree, folder)
        found += _classes(tree, inner, split, _folders_of(tree, inner))
    return found


@dataclass(frozen=True)
class _Peeked:
    """The folders in a folder, or the name of its first image."""

    folders: list[str]
    image: str | None


def _peek(tree: Tree, folder: str) -> _Peeked:
    folders = []
    for name, is_image in tree.scan(folder):
        if is_image:
            return _Peeked([], name)
        folders.append(name)
    return _Peeked(sorted(folders), None)


def _folders_of(tree: Tree, base: str) -> list[str]:
    """Return the folders in a folder; refuse images beside them."""
    folders, image = [], None
    for name, is_image in tree.scan(base):
        if not is_image:
            folders.append(name)
        elif image is None:
            image = name
    if image is not None:
        where = "beside the class folders" if folders else "in no class folder"
        where = where if base else where.replace("the class folders", "the folders")
        raise DataError(
            f"{_at(tree, base)}: images lie {where} ({shown(image)}); {EXAMPLE}: move them, or "
            "--unlabeled takes all images, without labels"
        )
    if not folders:
        raise DataError(f"{_at(tree, base)}: has no class folders; {EXAMPLE}")
    return sorted(folders)


def _with_images(tree: Tree, base: str, names: list[str]) -> list[str]:
    """Leave out folders without images, such as annotations, beside split folders."""
    if not any(split_words([name], whole=False) for name in names):
        return names
    peeked = {name: _peek(tree, join(base, name)) for name in names}
    empty = [name for name, one in peeked.items() if not one.image and not one.folders]
    rest = [name for name in names if name not in empty]
    read = split_words(rest, whole=False) if empty else None
    if read is None or not tells_apart(read.values()) or split_words(empty, whole=False):
        return names
    log.warning(
        "%s: left out folders without images beside the splits: %s", _at(tree, base), _some(empty)
    )
    return rest


def _innermost(tree: Tree, base: str) -> str:
    """Descend as `_only_folder` does, and warn of it."""
    found = _only_folder(tree, base)
    if found != base:
        log.warning("%s: has nothing but a folder in it; reading %s", _at(tree, base), shown(found))
    return found


def _only_folder(tree: Tree, base: str) -> str:
    """Descend while a folder contains only one folder that contains folders itself."""
    start = base
    for _ in range(_DEEPEST):
        peeked = _peek(tree, base)
        if peeked.image or len(peeked.folders) != 1:
            break
        (only,) = peeked.folders
        within = _peek(tree, join(base, only))
        a_split = start == "" and split_words([only], whole=True)
        if not within.folders or (a_split and not split_words(within.folders, whole=True)):
            break
        base = join(base, only)
    return base


def _split_folders(tree: Tree, base: str, names: Sequence[str]) -> dict[str, str]:
    """Return the folder of each split below `base`; empty where the folders are classes."""
    place = _at(tree, base)
    read = split_words(names, whole=len(names) == 1)
    exact = [name for name in names if name.lower() in EXACT]
    if read is None:
        near = {name: one[name] for name in names if (one := split_words([name], whole=True))}
        loose = {name: one[name] for name in names if (one := split_words([name], whole=False))}
        shells = [n for n in loose if not _peek(tree, join(base, n)).image]
        if exact or tells_apart([loose[name] for name in shells]):
            near = near if exact else loose
            others = [name for name in names if name not in near]
            raise DataError(
                f"{place}: has both split folders ({_some(near)}) and others ({_some(others)}); "
                "move those away, or rename a class that is called like a split; "
                + _DECLARE.replace("they", "all")
            )
        return {}
    holding = [name for name in names if _peek(tree, join(base, name)).image]
    if not exact and holding and not tells_apart(read.values()):
        return {}  # `passenger_train` and `freight_train`, with images in them, are classes
    twice = [split for split, count in Counter(read.values()).items() if count > 1]
    if twice:
        both = ", ".join(shown(name) for name, split in read.items() if split == twice[0])
        if not exact and not tells_apart(read.values()):
            return {}
        raise DataError(f"{place}: {both} are all {twice[0]!r}; keep one of them")
    _say_near(tree, base, read)
    return {split: name for name, split in read.items()}


def _say_near(tree: Tree, base: str, read: Mapping[str, str]) -> None:
    """Warn of folders that are read as splits and have other names."""
    near_names = {name: split for name, split in read.items() if name.lower() not in EXACT}
    if near_names:
        readings = ", ".join(f"{shown(name)} as {split}" for name, split in near_names.items())
        log.warning("%s: reading the folder %s", _at(tree, base), readings)


def _splits_in_classes(tree: Tree, base: str, names: Sequence[str]) -> list[ClassFolder]:
    """Return the class folders of a layout with splits inside classes: `cat/train/1.jpg`."""
    within = {name: _peek(tree, join(base, name)) for name in names}
    if any(one.image or not one.folders for one in within.values()):
        return []
    below = sorted({folder for one in within.values() for folder in one.folders})
    read = split_words(below, whole=True)
    if read is None or not tells_apart(read.values()):
        return []
    found = []
    for name, one in within.items():
        for folder in one.folders:
            path = join(base, name, folder)
            inner = _peek(tree, path)
            if inner.folders and not inner.image:
                return []  # `fold_0/train/cat`: no classes, but copies
            found.append(ClassFolder(split=read[folder], name=class_name(name), folder=path))
    readings = ", ".join(f"{shown(folder)} as {split}" for folder, split in read.items())
    log.warning("%s: each class has its splits; reading %s", shown(tree.root), readings)
    return found


def _classes(tree: Tree, base: str, split: str, names: Sequence[str]) -> list[ClassFolder]:
    if not _declared(tree, base, names):
        _check_no_copies(tree, base, names)
    return [
        ClassFolder(split=split, name=class_name(name), folder=join(base, name)) for name in names
    ]


def _declared(tree: Tree, base: str, names: Sequence[str]) -> bool:
    """Whether a ``classes.txt`` beside the folders, or in the root, names them all.

    Split folders alone are not declared: a list of COCO's classes contains `train`.
    """
    if all(name.lower() in EXACT for name in names):
        return False
    for folder in dict.fromkeys((base, "")):
        try:
            lines = (tree.read(join(folder, DECLARED)) or b"").decode("utf-8-sig").splitlines()
        except UnicodeDecodeError:
            continue
        if {class_name(name) for name in names} <= {class_name(line.strip()) for line in lines}:
            return True
    return False


def _check_no_copies(tree: Tree, base: str, names: Sequence[str]) -> None:
    """Refuse class folders that look like parts or copies of one dataset."""
    place = _at(tree, base)
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
        folders = _spine(tree, join(base, name)).folders
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


def _spine(tree: Tree, folder: str) -> _Peeked:
    """Return what a folder contains, after folders that contain only one folder."""
    peeked = _peek(tree, folder)
    for _ in range(_DEEPEST):
        if peeked.image or len(peeked.folders) != 1:
            break
        folder = join(folder, peeked.folders[0])
        peeked = _peek(tree, folder)
    return peeked


def _at(tree: Tree, folder: str) -> str:
    return shown(os.path.join(tree.root, folder) if folder else tree.root)


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


def _say_twins(root: str, classes: list[list[str]]) -> None:
    """Warn of images whose names differ in the ending alone: pictures, perhaps, and their masks."""
    count, first = 0, ("", "")
    endings: Counter[str] = Counter()
    for ids in classes:
        kinds: dict[str, str] = {}
        for one in ids:
            stem, known = one.rpartition(".")[0], ending(one)
            before = kinds.setdefault(stem, one)
            if before is not one and ending(before) != known:
                count += 1
                first = first if first[0] else (before, one)
                endings.update((ending(before), known))
    if count:
        most = max(endings, key=lambda one: (endings[one], one in {".jpg", ".jpeg"}))
        log.warning(
            "%s: %s like another but for the ending (%s and %s), and both are read; if one of them "
            "is a mask, --include '*%s' reads the pictures",
            shown(root),
            "1 image is called" if count == 1 else f"{count:,} images are called",
            shown(first[0]),
            shown(first[1]),
            most,
        )


def check_no_splits(folder: str, below: list[str]) -> None:
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
    root: str, listed: dict[str, ByClass], folders: dict[tuple[str, str], str], *, skip_bad: bool
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


def _check_trained(root: str, found: dict[str, ByClass], classes: tuple[str, ...]) -> None:
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
    by_class: ByClass, classes: tuple[str, ...], images: Callable[[Sequence[str]], Images]
) -> Split:
    ids = Texts.of(id_ for name in classes for id_ in by_class.get(name, ()))
    counts = [len(by_class.get(name, ())) for name in classes]
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), counts)
    return Split(ids=ids, labels=labels, images=images(ids))


def join(*parts: str) -> str:
    """Return a path of parts, leaving out empty ones."""
    return "/".join(part for part in parts if part)


def _some(names: Sequence[str] | dict[str, str]) -> str:
    names = [shown(name) for name in names]
    return ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")
