"""Load the datasets of MXNet's: lists of image files (.lst)."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from probe.datasets.files import FileImages
from probe.datasets.loading import Loading
from probe.datasets.lst import images_root, read_lst
from probe.datasets.number_labels import (
    Classes,
    Names,
    chosen_labels,
    classes_of,
    names_in,
    names_of_folders,
)
from probe.datasets.spec import Dataset, Split
from probe.datasets.split_names import EXACT, split_words, tells_apart
from probe.errors import DataError

log = logging.getLogger(__name__)


def load_lst(file: Path, loading: Loading) -> Dataset:
    """Read a list of MXNet's; no image is opened.

    Images keep the order of the lines; their ids are the paths as written. A list is one split, by
    its name, or train. `classes_of` says which labels are classes; they are called as a
    ``classes.txt`` or ``synset.txt`` beside the list says, or by the folders of the images, or else
    by their numbers.

    Raises
    ------
    DataError
        The list is something else, names an image twice, or has labels that are no classes; the
        message has the line.
    """
    listed = read_lst(file)

    def where(row: int) -> str:
        return f"{file}: line {listed.lines[row]}"

    root = images_root(file, listed, loading.root)
    _check_split_folders(file, listed.paths)
    first: dict[str, int] = {}
    for row, path in enumerate(listed.paths):
        before = first.setdefault(path, row)
        if before != row:
            raise DataError(
                f"{where(row)} names {path!r} again, after line {listed.lines[before]}; keep one"
            )
    labels = chosen_labels(listed.labels, loading.options.label, where)
    names = (
        names_in(file.parent)
        or names_in(root)
        or names_of_folders(labels, listed.paths, "the folders of the images")
    )
    classes = classes_of(labels, names, where)
    _say(file, names, classes)
    base = os.path.abspath(root)
    images = FileImages(base, listed.paths, loading.memo, loading.workers)
    split = Split(ids=listed.paths, labels=classes.labels, images=images)
    return Dataset(
        name=file.stem, classes=classes.names, splits={_split_of(file): split}, root=Path(base)
    )


def _say(file: Path, names: Names | None, classes: Classes) -> None:
    """Log where the names are from, and which classes are left out."""
    if names is not None:
        log.warning("%s: its classes take their names from %s", file, names.source)
    if classes.empty:
        count = len(classes.empty)
        log.warning(
            "%s: left out %s without an image: %s",
            file,
            "1 class" if count == 1 else f"{count:,} classes",
            ", ".join(classes.empty[:5]) + (", ..." if count > 5 else ""),
        )


def _split_of(file: Path) -> str:
    """Return the split that a file's name says, or train."""
    split = (split_words([file.stem], whole=False) or {file.stem: "train"})[file.stem]
    if split != "train" and file.stem.lower() not in EXACT:
        log.warning("%s: read as %s, by its name", file, split)
    return split


def _check_split_folders(file: Path, paths: Sequence[str]) -> None:
    """Refuse a list whose images lie in several split folders: it would be all train."""
    tops = {path.replace("\\", "/").partition("/")[0] for path in paths}
    read = split_words(tops, whole=True) if 1 < len(tops) <= len(EXACT) else None
    if read is not None and tells_apart(read.values()):
        raise DataError(
            f"{file}: its images lie in {', '.join(sorted(tops))}, and a list is one split; "
            "`probe dataset index FOLDER` writes a list for each"
        )
