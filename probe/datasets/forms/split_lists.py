"""Several lists of images as one dataset: ``{train,val}.txt``, or a folder of such lists."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from probe.core.reading import ReadOptions
from probe.datasets.forms.shards import files_by_split, has_files, is_pattern, stem
from probe.datasets.spec import SPLITS
from probe.datasets.split_names import split_words, tells_apart
from probe.datasets.tables.cells import joined, with_column
from probe.datasets.tables.split_columns import SPLIT
from probe.datasets.tables.table import READERS, Table, interpret, is_table, read_cells, read_table
from probe.errors import DataError

Found = list[tuple[str, Path]]  # split and file; the split may be ""


def is_folder_of_lists(place: Path) -> bool:
    """Whether a folder has no folders, and lists called like splits, train among them."""
    if not place.is_dir() or not has_files(place, tuple(READERS)):
        return False
    return tells_apart({split for split, _ in _in_folder(place)})


def are_lists(place: Path) -> bool:
    """Whether a place is several lists, not one."""
    return place.is_dir() or (is_pattern(place) and not place.exists())


def read_lists(place: Path, options: ReadOptions) -> Table:
    """Read a list, or several as one; see `interpret`.

    Without a column ``split``, or one that an option names, the name of a file is its split. Other
    files in a folder are not read.

    Raises
    ------
    DataError
        A file is missing or no list, or two have the same split and other endings.
    UsageError
        As `interpret`.
    """
    if not are_lists(place):
        return read_table(place, options)
    found = _in_folder(place) if place.is_dir() else _of_pattern(place)
    _check_endings(place, found)
    parts = [read_cells(file, options) for _, file in found]
    cells = joined(parts, str(place))
    own = SPLIT in [name.lower() for name in cells.names] or options.split_column is not None
    if not own and all(split for split, _ in found):
        splits = [split for (split, _), part in zip(found, parts, strict=True) for _ in part.rows]
        cells = with_column(cells, SPLIT, splits)
    return interpret(cells, options)


def _of_pattern(place: Path) -> Found:
    files = files_by_split(place, tuple(READERS))
    return [(split or "", file) for split, each in files.items() for file in each]


def _in_folder(folder: Path) -> Found:
    """Return the lists in a folder that are called like splits, in the order of these."""
    try:
        names = sorted(name for name in os.listdir(folder) if is_table(Path(name)))
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror}; check it") from error
    words = {name: split_words([stem(Path(name))], whole=True) for name in names}
    found = [
        (split, folder / name) for name, read in words.items() if read for split in read.values()
    ]
    return sorted(found, key=lambda one: SPLITS.index(one[0]))


def _check_endings(place: Path, found: Sequence[tuple[str, Path]]) -> None:
    """Refuse ``train.csv`` beside ``train.txt``: they hardly are two parts of one split."""
    first: dict[str, Path] = {}
    for split, file in found:
        before = first.setdefault(split, file)
        if before.suffix.lower() != file.suffix.lower():
            raise DataError(
                f"{place}: {before.name} and {file.name} are both {split or 'parts'}; keep one of "
                "them"
            )
