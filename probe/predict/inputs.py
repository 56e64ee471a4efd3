"""Which images a person means."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from probe.datasets.decode import EXTENSIONS
from probe.errors import UsageError

LISTS = (".txt", ".lst")


def find_images(inputs: Iterable[str], lines: Iterable[str] = ()) -> list[str]:
    """Return the paths that are meant, in order.

    Parameters
    ----------
    inputs : iterable of str
        An image; a folder, searched to the bottom; a pattern with ``*``; a ``.txt`` file with a
        path a line, or a ``.lst`` file of RecordIO's tools, both relative to where it lies unless
        the path is there as it stands; or ``-``, for `lines`. A name that stands for nothing is
        returned as it is, for whoever reads it to report: the others shall be answered.
    lines : iterable of str
        One path each.

    Raises
    ------
    UsageError
        No name stands for anything, or they stand for no image.
    """
    found: list[str] = []
    nothing: list[str] = []
    for name in inputs:
        if name == "-":
            found += _paths(lines)
        elif os.path.isdir(name):
            found += _below(name)
        elif os.path.isfile(name):
            found += _listed(Path(name)) if name.lower().endswith(LISTS) else [name]
        elif matches := sorted(glob.glob(name, recursive=True)):
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


def _listed(path: Path) -> list[str]:
    try:
        lines = _paths(path.read_text(encoding="utf-8-sig").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a list of paths in UTF-8 ({error})") from error
    if path.suffix.lower() == ".lst":  # index TAB label ... TAB path
        lines = [line.rsplit("\t", 1)[-1] for line in lines]
    return [line if os.path.exists(line) else str(path.parent / line) for line in lines]


def _below(folder: str) -> list[str]:
    found = [
        os.path.join(root, name)
        for root, _, names in os.walk(folder)
        for name in names
        if Path(name).suffix.lower() in EXTENSIONS and not name.startswith(".")
    ]
    # reading a pipe or a device would wait for ever; a link to nothing is told as unreadable
    return sorted(path for path in found if os.path.isfile(path) or not os.path.exists(path))
