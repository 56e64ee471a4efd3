"""Which files a dataset in several files has, and of which split each is."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from probe.datasets.images.image_files import is_leavings, shown
from probe.datasets.split_names import split_words, tells_apart
from probe.errors import DataError

_BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{},/]+(?:,[^{},/]+)+))\}")
_OF = re.compile(r"[-_.]?\d+([-_.]?of[-_.]?\d+)?$")  # the number of a shard
MOST_SHARDS = 1_000_000
_LOOKED_AT = 10_000  # entries of a folder


def is_pattern(place: Path) -> bool:
    """Whether a path names several files: ``data-{000..099}.tar``, ``{train,val}.tar``."""
    return _BRACES.search(place.name) is not None


def is_there(place: str) -> bool:
    """Whether a file or a folder is there, or the first file of a pattern."""
    path = Path(place)
    return path.exists() or (is_pattern(path) and next(expanded(path)).is_file())


def has_files(folder: Path, endings: Sequence[str]) -> bool:
    """Whether a folder has files of these endings and no folders, judged from its first entries.

    So ``train.tar`` and ``test.tar`` in one folder are one dataset.
    """
    try:
        with os.scandir(folder) as entries:
            there = [one for one in islice(entries, _LOOKED_AT) if not is_leavings(one.name)]
            return any(_ends(one.name, endings) for one in there) and not any(
                one.is_dir() for one in there
            )
    except OSError:
        return False


def files_by_split(place: Path, endings: Sequence[str]) -> dict[str | None, list[Path]]:
    """Return the files of a dataset by split; under None where their names tell none.

    Parameters
    ----------
    place : Path
        A file, several as ``data-{000..099}.tar`` or ``{train,val}.tar``, or a folder of such
        files.
    endings : sequence of str
        Of the files, in lower case.

    Raises
    ------
    DataError
        A file of a pattern is missing, or some names tell a split and others do not.
    """
    if is_pattern(place):
        files = list(expanded(place))
        missing = [one for one in files if not one.is_file()]
        if missing:
            raise DataError(
                f"{place}: {len(missing):,} of {len(files):,} files are missing, first "
                f"{missing[0].name}; get them, or give those that are there"
            )
    elif not place.is_dir():
        return {None: [place]}
    else:
        try:
            names = sorted(name for name in os.listdir(place) if not is_leavings(name))
        except OSError as error:
            raise DataError(f"{place}: cannot be listed: {error.strerror}; check it") from error
        files = [place / name for name in names if _ends(name, endings)]
    stems = {file: stem(file) for file in files}
    if is_pattern(place) and len(set(stems.values())) == 1:
        return {None: files}
    read = split_words(set(stems.values()), whole=False)
    if read is not None:
        found: dict[str | None, list[Path]] = {}
        for file in files:
            found.setdefault(read[stems[file]], []).append(file)
        return found
    told = {one: each for file in files for one, each in _told(stems[file]).items()}
    if told and (tells_apart(told.values()) or len(told) < len(set(stems.values()))):
        others = [file.name for file in files if stems[file] not in told]
        raise DataError(
            f"{place}: some files are called like splits ({shown(next(iter(told)))}) and others "
            f"not ({shown(others[0])}); move those away, or rename them"
        )
    return {None: files}


def name_of(place: Path) -> str:
    """Return what a dataset is called: a folder's name, or a file's without ending and number."""
    return Path(os.path.abspath(place)).name if place.is_dir() else stem(place) or "archive"


def stem(file: Path) -> str:
    """Return a file's name without its ending and the number of its shard."""
    return _OF.sub("", bare_name(_BRACES.sub("", file.name))).rstrip("-_. ")


def bare_name(name: str) -> str:
    """Return a file's name up to its first dot, but one that it begins with."""
    return name[: name.index(".", 1)] if "." in name[1:] else name


def _told(name: str) -> dict[str, str]:
    return split_words([name], whole=False) or {}


def _ends(name: str, endings: Sequence[str]) -> bool:
    return name.lower().endswith(tuple(endings))


def expanded(place: Path) -> Iterator[Path]:
    """Yield the paths that a pattern names, or the path itself.

    Raises
    ------
    DataError
        It counts no files.
    """
    found = _BRACES.search(place.name)
    if found is None:
        yield place
        return
    texts: Iterable[str]
    if found[3] is not None:
        texts = found[3].split(",")
    else:
        first, last = int(found[1]), int(found[2])
        if not first <= last < first + MOST_SHARDS:
            raise DataError(f"{place}: {found[0]} counts no files; write it like {{000..099}}")
        texts = (f"{number:0{len(found[1])}d}" for number in range(first, last + 1))
    for text in texts:
        name = place.name[: found.start()] + text + place.name[found.end() :]
        yield from expanded(place.with_name(name))
