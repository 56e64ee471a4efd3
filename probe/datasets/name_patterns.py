"""Choose images by patterns of their names: ``--include '*.jpg' --exclude '*_mask.*'``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase


def matches(id_: str, patterns: Iterable[str]) -> bool:
    """Whether a pattern fits an image's id, which is a path with slashes.

    ``*``, ``?`` and ``[...]`` are as in a shell, and ``*`` takes slashes, too. A pattern without a
    slash is that of the file's name. The case of the ending is ignored: ``*.jpg`` takes ``1.JPG``.
    """
    whole = _ending_in_lower_case(id_)
    name = whole.rpartition("/")[2]
    return any(
        fnmatchcase(whole if "/" in pattern else name, _ending_in_lower_case(pattern))
        for pattern in patterns
    )


def chosen(id_: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Whether an image is to be read: one that is included, if anything is, and not excluded."""
    return (not include or matches(id_, include)) and not (exclude and matches(id_, exclude))


def _ending_in_lower_case(name: str) -> str:
    stem, ending = os.path.splitext(name)
    return stem + ending.lower()
