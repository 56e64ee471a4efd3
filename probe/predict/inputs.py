"""Which images a person means."""

from __future__ import annotations

import glob
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from probe.datasets.image_files import (
    ending,
    is_image_file,
    is_image_name,
    is_leavings,
    left_out,
    shown,
)
from probe.datasets.table import is_table
from probe.errors import UsageError

log = logging.getLogger(__name__)

LISTS = (".txt", ".lst")
LABEL = re.compile(r"(?<=\S)\s+[-+]?\d+(\.\d+)?$", re.ASCII)  # `path label` of Caffe's lists


def find_images(
    inputs: Iterable[str], lines: Iterable[str] = (), *, root: Path | None = None
) -> list[str]:
    """Return the paths that are meant, in order.

    Parameters
    ----------
    inputs : iterable of str
        An image; a folder, searched to the bottom; a pattern with ``*``, unless there is a file
        called like that; a ``.txt`` file with a path a line, or a ``.lst`` file of RecordIO's
        tools, both relative to where it lies unless
        the path is there as it stands; or ``-``, for `lines`. Numbers behind a path are labels, as
        Caffe's lists have them, unless there is a file of the whole name. A name that stands for
        nothing is returned as it is, for whoever reads it to report: the others shall be answered.
    lines : iterable of str
        One path each.
    root : Path, optional
        Folder that the paths of lists and of `lines` start from, as in Caffe's and RecordIO's
        tools even those that begin with a slash; what is not there is looked for as it stands.

    Raises
    ------
    UsageError
        No name stands for anything, or they stand for no image; or there is a root and no list, or
        it is no folder.
    """
    found: list[str] = []
    nothing: list[str] = []
    inputs = list(inputs)
    if root is not None:
        _check_root(root, inputs)
    for name in inputs:
        if name == "-":
            found += [_located(line, root, None) for line in _paths(lines)]
        elif os.path.isdir(name):
            found += _below(name)
        elif is_table(Path(name)) and os.path.isfile(name):
            raise UsageError(
                f"{name}: is a table; `probe evaluate` scores labelled images of a .csv, and a "
                ".txt with a path a line is predicted"
            )
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
    return found


def _paths(lines: Iterable[str]) -> list[str]:
    return [line.strip() for line in lines if line.strip()]


def _check_root(root: Path, inputs: list[str]) -> None:
    if not root.is_dir():
        raise UsageError(f"--root {root}: no such folder")
    if not any(name == "-" or name.lower().endswith(LISTS) for name in inputs):
        raise UsageError(
            f"--root {root}: the paths of a list (.txt, .lst, -) start there; name one"
        )


def _listed(path: Path, root: Path | None) -> list[str]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        raise UsageError(f"{path}: is UTF-16; save it as UTF-8")
    if b"\0" in data:
        line = data.count(b"\n", 0, data.index(b"\0")) + 1
        raise UsageError(f"{path}: line {line} holds a NUL byte; it is no list of paths")
    # a name that is not UTF-8 is that of a file all the same, and keeps no other from its answer
    lines = _paths(re.split(r"\r\n|\n|\r", data.decode("utf-8-sig", "surrogateescape")))
    if path.suffix.lower() == ".lst":  # index TAB label ... TAB path
        lines = [line.rsplit("\t", 1)[-1] for line in lines]
    return [_located(line, root, path.parent) for line in lines]


def _located(line: str, root: Path | None, beside: Path | None) -> str:
    """Return where the image of a line is, or would be: without the labels behind it, if any."""
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
    """Return where a name may lie, the likeliest first; the last is where one looks for it."""
    if root is not None:
        under = str(root / name.lstrip("/"))
        return [under, name, under]
    return [name] if beside is None else [name, str(beside / name)]


def _matches(pattern: str) -> list[str]:
    """Return what a pattern matches, sorted; the part of it that is there as it stands is a name.

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
    # reading a pipe or a device would wait for ever; a link to nothing is told as unreadable
    return sorted(path for path in found if os.path.isfile(path) or not os.path.exists(path))
