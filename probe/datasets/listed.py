"""A dataset that a CSV or TSV file lists; `probe.datasets.table` says what the file holds."""

from __future__ import annotations

import logging
import os
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.datasets.files import FileImages
from probe.datasets.spec import SPLITS, Dataset, Split, classes_in
from probe.datasets.table import Table, read_table
from probe.errors import DataError
from probe.memo import Memo

log = logging.getLogger(__name__)


def load_listed(file: Path, *, memo: Memo, workers: int = 1, skip_bad: bool = False) -> Dataset:
    """Read a list of images; no image is opened.

    Images keep the order of the lines, their ids are the paths as written, or in the Unicode form
    in which the file is there. A path is relative to the folder of the list, or absolute. Without
    a column that tells the split all images are train. What was read in an unusual way, and which
    columns are no labels, is logged as a warning each.

    Parameters
    ----------
    skip_bad : bool
        Leave it to the caller to find images that are missing.

    Raises
    ------
    DataError
        The list is something else, names an image twice or one that is not there, or has a class
        of which there is no image in train; the message has the line.
    """
    table = read_table(file)
    for note in table.notes:
        log.warning("%s: %s", file, note)
    if table.unused:
        log.warning(
            "%s: no labels, and used only where --group names them: %s",
            file,
            ", ".join(f"`{name}`" for name in table.unused),
        )
    root = os.path.dirname(os.path.abspath(file))
    table = replace(table, paths=[_as_on_disk(root, path) for path in table.paths])
    _check_images(file, root, table, missing_too=not skip_bad)
    numbers = _rows_of_splits(table)
    _check_trained(file, table, numbers)
    splits = {}
    for name, rows in numbers.items():
        ids = [table.paths[row] for row in rows]
        labels = table.labels[rows]
        splits[name] = Split(ids=ids, labels=labels, images=FileImages(root, ids, memo, workers))
    return Dataset(name=file.stem, classes=table.classes, splits=splits, root=Path(root))


def listed_folders(file: Path) -> list[Path]:
    """Return the folders in which the images of a list lie."""
    root = os.path.dirname(os.path.abspath(file))
    places = (os.path.dirname(os.path.join(root, path)) for path in read_table(file).paths)
    return [Path(one) for one in dict.fromkeys(places)]


def _as_on_disk(root: str, path: str) -> str:
    """Return a path in the Unicode form that is there: some systems write names apart."""
    if path.isascii() or os.path.exists(os.path.join(root, path)):
        return path
    forms = (unicodedata.normalize(form, path) for form in ("NFC", "NFD"))
    return next((one for one in forms if os.path.exists(os.path.join(root, one))), path)


def _check_images(file: Path, root: str, table: Table, *, missing_too: bool) -> None:
    first: dict[str, int] = {}
    for row, path in enumerate(table.paths):
        line, place = table.lines[row], os.path.normpath(os.path.join(root, path))
        before = first.setdefault(place, row)
        if before != row:
            same = np.array_equal(table.labels[row], table.labels[before])
            raise DataError(
                f"{file}: line {line} names {path!r} again, after line {table.lines[before]}, with "
                f"{'the same' if same else 'another'} label; keep one of them (several labels of "
                "an image go into one cell of `labels`, with bars between them)"
            )
        if missing_too and not os.path.exists(place):
            raise DataError(
                f"{file}: line {line}: there is no file {place}; paths are relative to the "
                "folder of the list (--skip-bad leaves out what is missing)"
            )


def _rows_of_splits(table: Table) -> dict[str, NDArray[np.intp]]:
    """Return the rows of each split that there is."""
    if table.splits is None:
        return {"train": np.arange(len(table.paths))}
    found: dict[str, list[int]] = {name: [] for name in SPLITS}
    for row, split in enumerate(table.splits):
        found[split].append(row)
    return {name: np.array(rows, np.intp) for name, rows in found.items() if rows}


def _check_trained(file: Path, table: Table, numbers: dict[str, NDArray[np.intp]]) -> None:
    """Refuse a class that is in another split but not in train, where there is a train."""
    if "train" not in numbers:
        return
    trained = classes_in(table.labels[numbers["train"]])
    for split, rows in numbers.items():
        strange = sorted(classes_in(table.labels[rows]) - trained)
        if strange:
            own = table.labels[rows] == strange[0] if table.labels.ndim == 1 else (
                table.labels[rows, strange[0]] == 1
            )  # fmt: skip
            line = table.lines[int(rows[np.flatnonzero(own)[0]])]
            raise DataError(
                f"{file}: line {line}: the class {table.classes[strange[0]]!r} is in {split} but "
                f"not in train; change the split of an image, or remove the class"
            )
