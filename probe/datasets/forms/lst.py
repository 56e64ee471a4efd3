"""Read and write MXNet's lists of images: ``index TAB label [TAB label ...] TAB path`` a line."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from probe.core.regular import open_regular
from probe.core.short_repr import short_repr
from probe.core.urls import is_url
from probe.datasets.images.image_files import is_utf8
from probe.errors import DataError

LST = ".lst"
EXPECTED = "expected an index, one label or several, and a path, with tabs between"
_LONGEST_LINE = 2**24  # bytes: a million labels
_FLOAT = struct.Struct("<f")
_SPLIT, _CHUNK = re.compile(r"_(train|val|test)$"), re.compile(r"_[0-9]+$")


@dataclass(frozen=True, kw_only=True)
class ImageList:
    """The lines of a list, in its order.

    Parameters
    ----------
    indices : list of int
        Of an image in the list; the id of its record.
    labels : list of bytes
        One or more float32, little-endian, an image.
    paths : list of str
        As written.
    lines : list of int
        Their numbers, from 1.
    """

    __repr__ = short_repr

    indices: list[int]
    labels: list[bytes]
    paths: list[str]
    lines: list[int]


def read_lst(path: Path) -> ImageList:
    """Read a list; empty lines and spaces around a cell are ignored.

    Raises
    ------
    DataError
        It cannot be read, is empty, or a line is something else; the message has the line.
    """
    found = ImageList(indices=[], labels=[], paths=[], lines=[])
    known: dict[bytes, bytes] = {}  # one object for the many images of a label
    for number, line in _lines(path):
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) < 3:
            raise DataError(f"{path}: line {number} has {len(cells)} cells; {EXPECTED}")
        index, *texts, image = cells
        if not (index.isascii() and index.isdigit() and int(index) < 2**64):
            raise DataError(f"{path}: line {number}: {index!r:.40} is no index; {EXPECTED}")
        if not image:
            raise DataError(f"{path}: line {number} names no image; {EXPECTED}")
        try:
            labels = b"".join(_FLOAT.pack(float(text)) for text in texts)
        except (ValueError, OverflowError):
            raise DataError(
                f"{path}: line {number}: {' '.join(texts)!r:.60} are no numbers; {EXPECTED}"
            ) from None
        found.indices.append(int(index))
        found.labels.append(known.setdefault(labels, labels))
        found.paths.append(image)
        found.lines.append(number)
    if not found.paths:
        raise DataError(f"{path}: lists no images; {EXPECTED}")
    return found


def lst_lines(rows: Iterable[tuple[int, bytes, str]]) -> Iterator[str]:
    """Yield the lines of a list of (index, labels, path), as im2rec writes them.

    Raises
    ------
    DataError
        A path cannot stand in a list.
    """
    for index, labels, path in rows:
        if path != path.strip() or {*"\t\r\n"} & {*path} or not is_utf8(path):
            raise DataError(
                f"{path!r}: a list of MXNet's cannot have a path with a tab or a line break in it, "
                "with spaces around it, or that is not UTF-8; rename the file"
            )
        numbers = "\t".join(f"{value:f}" for value in np.frombuffer(labels, "<f4").tolist())
        yield f"{index}\t{numbers}\t{path}\n"


def folders_beside(path: Path) -> list[Path]:
    """Return the folder of a list, and those beside the list that are called like it."""
    stem = path.name[: -len(LST)] if path.name.lower().endswith(LST) else path.name
    whole = _SPLIT.sub("", stem)
    names = dict.fromkeys((stem, whole, _CHUNK.sub("", whole)))
    return [path.parent, *(path.parent / one for one in names if one)]


def images_root(
    path: Path,
    listed: ImageList,
    given: Path | None,
    *,
    is_there: Callable[[str], bool] = os.path.lexists,
) -> Path:
    """Return the folder that the paths of a list are relative to.

    The one that is given; else the folder of the list, or a folder beside the list that is called
    like it (``pets`` for ``pets_train.lst``), whichever has the first image.

    Raises
    ------
    DataError
        None of them has it.
    """
    places = [given.expanduser()] if given else folders_beside(path)
    first = listed.paths[0]
    if is_url(first):
        return places[0]
    for place in places:
        if is_there(os.path.normpath(os.path.join(place, first))):
            return place
    looked = ", ".join(str(place) for place in places)
    raise DataError(
        f"{path}: line {listed.lines[0]}: there is no {first!r} in {looked}; --dataset-root names "
        "the folder that the paths are relative to"
    )


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number and text of each line that is not empty."""
    number = 0
    try:
        with open_regular(path) as file:
            while data := file.readline(_LONGEST_LINE):
                number += 1
                if b"\0" in data or len(data) == _LONGEST_LINE:
                    raise DataError(f"{path}: line {number} is no text; {EXPECTED}")
                line = data.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                if line:
                    yield number, line
    except UnicodeDecodeError:
        raise DataError(f"{path}: line {number} is not UTF-8; save it as UTF-8 text") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
