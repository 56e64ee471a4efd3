"""Find the images that the arguments of a command name."""

from __future__ import annotations

import glob
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from probe.core.columns import Column, names_of, stacked
from probe.core.reading import ReadOptions
from probe.core.regular import read_regular
from probe.core.short_repr import short_repr
from probe.datasets.forms.formats import format_of, is_dataset_file
from probe.datasets.forms.lst import folders_beside
from probe.datasets.forms.shards import is_pattern
from probe.datasets.images.image_files import (
    ending,
    is_image_file,
    is_image_name,
    is_leavings,
    left_out,
    shown,
)
from probe.datasets.load import load_dataset
from probe.datasets.spec import Images
from probe.datasets.tables.table import is_table, read_table
from probe.errors import UsageError

log = logging.getLogger(__name__)

LISTS = (".txt", ".lst")
LABEL = re.compile(r"(?<=\S)\s+[-+]?\d+(\.\d+)?$", re.ASCII)  # `path label` of Caffe's lists


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredImage:
    """An image in an archive, a file of records, a table or an array."""

    name: str
    images: Images
    row: int


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Images to predict, and what tables say of them.

    Parameters
    ----------
    images : list of str or StoredImage
        Paths, or images within files.
    columns : mapping of name to Column, (n_images,)
        Empty cells for images that no table names.
    """

    __repr__ = short_repr

    images: list[str | StoredImage]
    columns: dict[str, Column]


def find_images(
    inputs: Iterable[str],
    lines: Iterable[str] = (),
    *,
    root: Path | None = None,
    cache_dir: Path = Path("cache"),
) -> list[str | StoredImage]:
    """Return the images of `find_inputs`."""
    return find_inputs(inputs, lines, root=root, cache_dir=cache_dir).images


def find_inputs(
    inputs: Iterable[str],
    lines: Iterable[str] = (),
    *,
    root: Path | None = None,
    cache_dir: Path = Path("cache"),
) -> Inputs:
    """Return the images that the arguments name, in order.

    Parameters
    ----------
    inputs : iterable of str
        An image; a folder, searched recursively; a file that holds images, as an archive, or a
        folder of nothing but such files, with the columns that they may have; a pattern with ``*``,
        unless a file has that name; a ``.txt`` file with a path per line or a ``.lst`` file of
        RecordIO's tools, whose paths are relative to the file unless they exist as they are, of a
        ``.lst`` also to a folder beside it that is called like it; a table with a column of such
        paths, whose other columns are kept; or ``-`` for `lines`. Numbers after a path are labels,
        as in Caffe's lists, unless a file has the whole name. A name that does not exist is
        returned unchanged, so that its reader reports it and the rest is predicted.
    lines : iterable of str
        A path each.
    root : Path, optional
        Folder that paths of lists and of `lines` are relative to, even those that begin with a
        slash, as in Caffe's and RecordIO's tools; a path that is not there is also tried as it is.

    cache_dir : Path
        The state folder.

    Raises
    ------
    UsageError
        No name exists, or none names an image; or `root` is no folder, or given without a list.
    DataError
        A table cannot be read, or has no column of paths.
    """
    found: list[str | StoredImage] = []
    nothing: list[str] = []
    tables: list[tuple[Mapping[str, Sequence[str]], int]] = []  # and others, without columns
    inputs = list(inputs)
    if root is not None:
        _check_root(root, inputs)
    for name in inputs:
        if name == "-":
            found += [_located(line, root, None) for line in _paths(lines)]
        elif os.path.isdir(name) and not _holds_images(Path(name)):
            found += _below(name)
        elif _holds_images(Path(name)):
            for images, columns in _stored(name, cache_dir):
                tables += [({}, len(found) - _count(tables)), (columns, len(images))]
                found += images
        elif _is_table(name):
            paths, columns = _table(Path(name), root)
            tables += [({}, len(found) - _count(tables)), (columns, len(paths))]
            found += paths
        elif os.path.isfile(name) or os.path.islink(name):
            found += _listed(Path(name), root) if name.lower().endswith(LISTS) else [name]
        elif matches := _matches(name):
            found += [path for path in matches if os.path.isfile(path)]
        else:
            nothing.append(name)
            found.append(name)
    if nothing and len(nothing) == len(found):
        raise UsageError(
            f"{', '.join(nothing)}: no such image, folder or list, and no pattern that matches"
        )
    if not found:
        raise UsageError("no images found; name files, a folder, a pattern or a list")
    tables.append(({}, len(found) - _count(tables)))
    parts = [(columns, count) for columns, count in tables if count]
    names = names_of(columns for columns, _ in parts)
    return Inputs(images=found, columns={name: stacked(name, parts) for name in names})


def _count(tables: Sequence[tuple[Mapping[str, Sequence[str]], int]]) -> int:
    return sum(count for _, count in tables)


def _is_table(name: str) -> bool:
    return is_table(Path(name)) and not name.lower().endswith(LISTS) and os.path.isfile(name)


def _table(path: Path, root: Path | None) -> tuple[list[str], Mapping[str, Sequence[str]]]:
    """Return the images of a table and its other columns; labels are one of these."""
    table = read_table(path, ReadOptions(unlabeled=True))
    if table.not_utf8:
        log.warning("%s: left out %d lines that are not UTF-8", path, len(table.not_utf8))
    paths = []
    for name in table.paths:
        places = [*_places(name, root, path.parent), *_places(_slashes(name), root, path.parent)]
        paths.append(next(filter(os.path.exists, places), places[-1]))
    return paths, table.columns


def _slashes(name: str) -> str:
    return name.replace("\\", "/")


def _holds_images(place: Path) -> bool:
    """Whether a path is that of a file, or of several, with images in it, and none beside them."""
    if not place.is_dir() and not (
        is_dataset_file(place) and (place.is_file() or is_pattern(place))
    ):
        return False
    form = format_of(place)
    if form is None or not form.holds_images:
        return False
    beside = (name for _, _, names in os.walk(place) for name in names)  # nothing of a file
    return not any(map(is_image_name, beside))


def _stored(
    name: str, cache_dir: Path
) -> Iterator[tuple[list[str | StoredImage], Mapping[str, Sequence[str]]]]:
    """Yield the images of each split of a file that holds images, and what it says of them."""
    dataset = load_dataset(
        name, cache_dir=cache_dir, reading=ReadOptions(unlabeled=True), stored_split=False
    )
    for split in dataset.splits.values():
        images: list[str | StoredImage] = [
            StoredImage(name=_within(name, id_), images=split.images, row=row)
            for row, id_ in enumerate(split.ids)
        ]
        yield images, split.columns


def _within(name: str, id_: str) -> str:
    """Return what an image in a file is called; ids of records begin with the file's name."""
    folder, file = os.path.split(name)
    return os.path.join(folder, id_) if id_.startswith(f"{file}/") else f"{name}/{id_}"


def _paths(lines: Iterable[str]) -> list[str]:
    return [line.strip() for line in lines if line.strip()]


def _check_root(root: Path, inputs: list[str]) -> None:
    if not root.is_dir():
        raise UsageError(f"--root {root}: no such folder")
    if not any(name == "-" or name.lower().endswith(LISTS) or _is_table(name) for name in inputs):
        raise UsageError(
            f"--root {root}: the paths of a list (.txt, .lst, .csv, -) start there; name one"
        )


def _listed(path: Path, root: Path | None) -> list[str]:
    try:
        data = read_regular(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        raise UsageError(f"{path}: is UTF-16; save it as UTF-8")
    if b"\0" in data:
        line = data.count(b"\n", 0, data.index(b"\0")) + 1
        raise UsageError(f"{path}: line {line} holds a NUL byte; it is no list of paths")
    # a name that is not UTF-8 may be that of a file, too
    lines = _paths(re.split(r"\r\n|\n|\r", data.decode("utf-8-sig", "surrogateescape")))
    beside = path.parent
    if path.suffix.lower() == ".lst":  # index TAB label ... TAB path
        lines = [line.rsplit("\t", 1)[-1] for line in lines]
        if lines:
            folders = folders_beside(path)
            beside = next((one for one in folders if os.path.exists(one / lines[0])), beside)
    return [_located(line, root, beside) for line in lines]


def _located(line: str, root: Path | None, beside: Path | None) -> str:
    """Return the path of a line's image, without labels after it; it may not exist."""
    names = [line]
    while (name := LABEL.sub("", names[-1])) != names[-1]:
        names.append(name)
    names += [name.replace("\\", "/") for name in names if "\\" in name]  # of Windows
    for name in names:  # the longest first: a file may be called `cat 2`
        for place in _places(name, root, beside):
            if os.path.exists(place):
                return place
    images = [name for name in names if is_image_name(os.path.basename(name))]
    *_, last = _places(images[0] if images else line, root, beside)
    return last


def _places(name: str, root: Path | None, beside: Path | None) -> list[str]:
    """Return the paths that a name may stand for, the likeliest first; messages name the last."""
    if root is not None:
        under = str(root / name.lstrip("/"))
        return [under, name, under]
    return [name] if beside is None else [name, str(beside / name)]


def _matches(pattern: str) -> list[str]:
    """Return what a pattern matches, sorted; leading folders that exist are taken literally.

    So ``set[1]/*.png`` are the images in the folder ``set[1]``.
    """
    there, rest = "", pattern
    while rest:
        part, slash, behind = rest.partition("/")
        if not slash or not os.path.isdir(there + part + slash):
            break
        there, rest = there + part + slash, behind
    return sorted(glob.glob(glob.escape(there) + rest, recursive=True))


def _below(folder: str) -> list[str]:
    found, others = [], Counter[str]()
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_leavings(name)]
        for name in names:
            path = os.path.join(root, name)
            if is_leavings(name):
                continue
            if is_image_file(path, name):
                found.append(path)
            else:
                others[ending(name)] += 1
    if others:
        log.warning("%s: %s", shown(folder), left_out(others))
    # a pipe or a device would block; a broken link stays, to be reported as unreadable
    return sorted(path for path in found if os.path.isfile(path) or not os.path.exists(path))
