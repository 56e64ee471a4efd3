"""Read a folder of images as Hugging Face's `datasets` has it: with ``metadata.csv`` and the like.

The file has a column ``file_name``, and lies above all images; or there is one in each of the
folders ``train``, ``test`` and so on.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from probe.core.reading import AS_IT_IS
from probe.core.regular import open_regular
from probe.datasets.forms.listed import dataset_of_table
from probe.datasets.forms.loading import Loading
from probe.datasets.images.image_files import is_image_name, is_leavings
from probe.datasets.spec import Dataset
from probe.datasets.split_names import split_words, tells_apart
from probe.datasets.tables.cells import Cells, joined, with_column
from probe.datasets.tables.split_columns import SPLIT
from probe.datasets.tables.table import LABEL, has_label_column, interpret, read_cells
from probe.errors import DataError

log = logging.getLogger(__name__)

FILE_NAME = "file_name"
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_FIRST_BYTES = 65_536  # of a file, in which its first line shows its columns


@dataclass(frozen=True, kw_only=True)
class _Part:
    """The metadata of the images in a folder.

    Parameters
    ----------
    folder : str
        Relative to the dataset's, or ``""``.
    names : tuple of str
        Of its files of metadata; there should be one.
    split : str or None
        The folder's name where it is called like a split.
    """

    folder: str
    names: tuple[str, ...]
    split: str | None = None


def is_metadata_folder(place: Path) -> bool:
    """Whether a folder or its split folders have metadata with a column ``file_name``."""
    parts = _parts(place) if place.is_dir() else []
    return bool(parts) and all(_names_files(place / one.folder / one.names[0]) for one in parts)


def load_metadata_folder(root: Path, loading: Loading) -> Dataset:
    """Read the images that a folder's metadata name; no image is opened.

    Ids are paths relative to the folder. The split is the column ``split``, or that which an option
    names, or else the folder of the metadata or, of one file above split folders, these. Where
    neither a column nor an option names labels, and the images lie in class folders, those are the
    labels.

    Raises
    ------
    DataError
        A folder has metadata in two forms; or as `probe.datasets.forms.listed.load_listed`.
    UsageError
        An option names a column that is not there.
    """
    options = loading.options
    cells, splits, below = _joined(root, _parts(root))
    notes = list(cells.notes)
    names = {name.lower() for name in cells.names}
    if splits and SPLIT not in names and options.split_column is None:
        cells = with_column(cells, SPLIT, splits)
    if not (has_label_column(cells.names) or options.label or options.unlabeled):
        classes = [path.partition("/")[0] if "/" in path else "" for path in below]
        if all(classes) and len(set(classes)) > 1:
            cells = with_column(cells, LABEL, classes)
            notes.append("it has no labels; the folders of its images are read as their classes")
    table = interpret(replace(cells, notes=tuple(notes)), options, image=FILE_NAME)
    place = os.path.abspath(root)
    dataset = dataset_of_table(table, loading, name=os.path.basename(place), root=place)
    if not (options.where or options.include or options.exclude):
        _say_others(place, sum(map(len, dataset.splits.values())))
    return dataset


def _parts(root: Path) -> list[_Part]:
    """Return the metadata in a folder or its split folders, or of those in its folder ``data``."""
    for base in ("", "data"):
        names = _metadata_in(root / base)
        if names:
            return [_Part(folder=base, names=names)]
        try:
            with os.scandir(root / base) as entries:
                folders = [one.name for one in entries if split_words([one.name], whole=True)]
        except OSError:
            continue
        found = [(one, _metadata_in(root / base / one)) for one in sorted(folders)]
        if any(names for _, names in found):
            return [
                _Part(folder=f"{base}/{one}".lstrip("/"), names=names, split=one)
                for one, names in found
                if names
            ]
    return []


def _metadata_in(folder: Path) -> tuple[str, ...]:
    return tuple(name for name in METADATA if (folder / name).is_file())


def _names_files(file: Path) -> bool:
    """Whether metadata have a column ``file_name``, judged from the first line; of Parquet, yes."""
    if file.suffix == ".parquet":
        return True
    try:
        with open_regular(file) as opened:
            return FILE_NAME.encode() in opened.read(_FIRST_BYTES).partition(b"\n")[0]
    except OSError:
        return False


def _joined(root: Path, parts: list[_Part]) -> tuple[Cells, list[str], list[str]]:
    """Return the cells of all parts, with paths relative to the root.

    Returns
    -------
    cells : Cells
    splits : list of str
        The split folder of each image; empty where not all have one.
    below : list of str
        The path of each image below its split folder, or below that of the metadata.
    """
    every: list[Cells] = []
    splits: list[str] = []
    below: list[str] = []
    for part in parts:
        file = root / part.folder / part.names[0]
        if len(part.names) > 1:
            raise DataError(f"{file.parent}: has both {' and '.join(part.names)}; keep one of them")
        cells = read_cells(file, AS_IT_IS)
        image = cells.find(FILE_NAME, "the column")
        paths = cells.column(image)
        below += paths
        splits += [part.split or ""] * len(paths)
        if part.folder:
            for row, path in zip(cells.rows, paths, strict=True):
                row[image] = f"{part.folder}/{path}"
        every.append(cells)
    if not all(splits):
        tops = [path.partition("/")[0] if "/" in path else "" for path in below]
        read = split_words(set(tops), whole=True)
        splits = tops if read is not None and tells_apart(read.values()) else []
        below = [path.partition("/")[2] for path in below] if splits else below
    return joined(every, str(root)), splits, below


def _say_others(root: str, read: int) -> None:
    """Warn of images below a folder that its metadata do not name."""
    there, left = 0, [root]
    while left:
        with suppress(OSError), os.scandir(left.pop()) as entries:
            for one in entries:
                if one.is_dir(follow_symlinks=False):
                    left += [] if is_leavings(one.name) else [one.path]
                else:
                    there += is_image_name(one.name)
    if there > read:
        log.warning(
            "%s: left out %s that its metadata do not name",
            root,
            "1 image" if there - read == 1 else f"{there - read:,} images",
        )
