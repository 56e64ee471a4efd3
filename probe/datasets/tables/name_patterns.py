"""Choose images by patterns of their names: ``--include '*.jpg' --exclude '*_mask.*'``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from probe.core.reading import ReadOptions
from probe.errors import DataError

_WILD = re.compile(r"[*?\[]")


def matches(id_: str, patterns: Iterable[str]) -> bool:
    """Whether a pattern fits an image's id, which is a path with slashes.

    ``*``, ``?`` and ``[...]`` are as in a shell, and ``*`` takes slashes, too. A pattern without a
    slash is that of the file's name. One without any such sign may also be the name or the path of
    a folder that the image is in. The case of the ending is ignored: ``*.jpg`` takes ``1.JPG``.
    """
    whole = _ending_in_lower_case(id_)
    name = whole.rpartition("/")[2]
    return any(
        fnmatchcase(whole if "/" in pattern else name, _ending_in_lower_case(pattern))
        if _WILD.search(pattern)
        else f"/{pattern.strip('/')}/" in f"/{id_}/" or whole == _ending_in_lower_case(pattern)
        for pattern in patterns
    )


def chosen(id_: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Whether an image is to be read: one that is included, if anything is, and not excluded."""
    return (not include or matches(id_, include)) and not (exclude and matches(id_, exclude))


def left_out_note(options: ReadOptions, place: str, before: int, after: int) -> str:
    """Return a sentence on how many images patterns leave.

    Raises
    ------
    DataError
        None of them is left.
    """
    given = " and ".join(f"--{one}" for one in ("include", "exclude") if getattr(options, one))
    if before and not after:
        raise DataError(f"{place}: {given} leaves none of its images")
    # folders that are left out as a whole were not listed, so that none may be missing of these
    return f"{given}: {after:,}{f' of {before:,}' if after < before else ''} images are read"


def _ending_in_lower_case(name: str) -> str:
    stem, ending = os.path.splitext(name)
    return stem + ending.lower()
