"""Read a folder of class folders: ``CLASS/**/*.jpg``, or that below ``train/ val/ test/``."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from probe.core.reading import ReadOptions
from probe.core.regular import open_regular
from probe.core.short_repr import short_repr
from probe.datasets.forms.layout import (
    ByClass,
    ClassFolder,
    check_no_splits,
    class_folders,
    join,
    labelled,
    unlabeled_folders,
)
from probe.datasets.forms.loading import Loading
from probe.datasets.images.files import FileImages
from probe.datasets.images.image_files import (
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
from probe.datasets.spec import BadImage, Dataset
from probe.datasets.split_names import EXACT
from probe.datasets.tables.name_patterns import chosen, left_out_note
from probe.errors import DataError

log = logging.getLogger(__name__)

_MOST_DECLARED = 2**24  # bytes
_DEEP = 50  # folders in folders


class DiskTree:
    """The folders and images below a folder; see `probe.datasets.forms.layout.Tree`."""

    def __init__(self, root: str) -> None:
        self.root = root

    def scan(self, folder: str) -> Iterator[tuple[str, bool]]:
        """Yield the name of each folder and image in a folder, and whether it is an image."""
        place = os.path.join(self.root, folder) if folder else self.root
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
            raise DataError(
                f"{shown(place)}: cannot be listed: {error.strerror}; check it"
            ) from error

    def read(self, path: str) -> bytes | None:
        """Return the contents of a small file; None where there is none."""
        place = os.path.join(self.root, path)
        try:
            with open_regular(place) as file:
                return file.read(_MOST_DECLARED)
        except OSError:
            pass
        return None


class _ChosenTree(DiskTree):
    """The images that ``--include`` and ``--exclude`` take, and the folders that have such."""

    def __init__(self, root: str, options: ReadOptions) -> None:
        super().__init__(root)
        self._include, self._exclude = options.include, options.exclude
        self._known: dict[str, bool] = {}

    def scan(self, folder: str) -> Iterator[tuple[str, bool]]:
        """Yield the name of each folder and image in a folder, and whether it is an image."""
        for name, is_image in super().scan(folder):
            path = join(folder, name)
            if chosen(path, self._include, self._exclude) if is_image else self._has(path):
                yield name, is_image

    def _has(self, folder: str) -> bool:
        """Whether there is such an image below.

        Of links, which may form loops, and of very deep folders it is taken for granted.
        """
        if folder not in self._known:
            far = folder.count("/") > _DEEP or os.path.islink(os.path.join(self.root, folder))
            self._known[folder] = far or next(iter(self.scan(folder)), None) is not None
        return self._known[folder]


def load_folder(root: Path, loading: Loading) -> Dataset:
    """Read the names in a folder of class folders; no image is opened.

    Classes are in the order of `ordered_classes`, by number where all names are whole numbers;
    images by class and then by id. Folders within a class folder belong to that class. A class
    may be missing from ``val`` or ``test``, but one that is there must be in ``train``, where
    there is a ``train``. `class_folders` says which folders are splits and which are classes;
    `is_image_file` which files are images. What is left out, and how unusual names were read, is
    logged as a warning each.

    Links are followed, but not to a folder above or to another class's images, and each folder of
    a class is read once.

    ``include`` and ``exclude`` of the options are looked at first: a folder without an image that
    they take is as if it were not there.

    `Loading.skip_bad` leaves out class folders without an image, and images whose names are not
    UTF-8, and lists them in `Dataset.skipped`.

    Raises
    ------
    DataError
        The folder is laid out in another way; the message says what is wrong where.
    """
    _check_root(root)
    skip_bad = loading.skip_bad
    options = loading.options
    some = bool(options.include or options.exclude)
    tree = _ChosenTree(str(root), options) if some else DiskTree(str(root))
    if some and next(iter(tree.scan("")), None) is None:
        left_out_note(options, shown(str(root)), 1, 0)
    parts = unlabeled_folders(tree) if options.unlabeled else class_folders(tree)
    listing = _Listing(_Places(str(root), parts))
    listed: dict[str, ByClass] = {}
    folders: dict[tuple[str, str], str] = {}
    before = 0
    for part in parts:
        ids = listing.images_of(str(root), part)
        before += len(ids)
        if some:
            ids = [one for one in ids if chosen(one, options.include, options.exclude)]
        listed.setdefault(part.split, {}).setdefault(part.name, []).extend(ids)
        folders.setdefault((part.split, part.name), part.folder)
    listing.say(str(root))
    if some:
        count = sum(len(ids) for by_class in listed.values() for ids in by_class.values())
        log.warning("%s: %s", shown(str(root)), left_out_note(options, str(root), before, count))
    if listing.not_utf8 and not skip_bad:
        folder, name = os.path.split(listing.not_utf8[0])
        raise DataError(
            f"{os.path.join(shown(str(root)), shown(folder))}: the name "
            f"{os.fsencode(name if is_utf8(folder) else listing.not_utf8[0])!r} is not UTF-8; "
            f"rename it ({len(listing.not_utf8):,} such; --skip-bad leaves them out)"
        )
    place = os.path.abspath(root)
    return labelled(
        str(root),
        listed,
        folders,
        lambda ids: FileImages(place, ids, loading.memo, loading.workers),
        name=Path(place).name or str(root),
        base=root,
        skip_bad=skip_bad,
        skipped=[BadImage(id=shown(one), reason=NOT_UTF8) for one in listing.not_utf8],
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
        seen: set[tuple[int, int]] = set()
        left = [(os.path.join(root, part.folder), f"{part.folder}/" if part.folder else "")]
        while left:
            folder, prefix = left.pop()
            below = self._list(folder, prefix, part, ids, seen)
            if part.labelled:
                check_no_splits(folder, below)
            ordered = sorted(below, reverse=True)
            left += [(f"{folder}/{name}", f"{prefix}{name}/") for name in ordered]
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
    ) -> list[str]:  # fmt: skip
        """Add the images in a folder, and return the folders in it.

        Each real folder is read once, as links can form loops.
        """
        below: list[str] = []
        named_well = is_utf8(prefix)
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                self._links.append(prefix)
                return []
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
        return below

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
