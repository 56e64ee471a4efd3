"""Load the dataset that a CSV or TSV file lists; `probe.datasets.table` reads the file itself."""

from __future__ import annotations

import logging
import os
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.datasets.classes import called_instead
from probe.datasets.files import FileImages
from probe.datasets.image_files import NOT_UTF8, shown
from probe.datasets.loading import Loading
from probe.datasets.spec import SPLITS, BadImage, Dataset, Split
from probe.datasets.split_names import split_words, tells_apart
from probe.datasets.table import NO_UTF8, Table, numbers_folds, read_table
from probe.errors import DataError
from probe.evaluation.task import task_of

log = logging.getLogger(__name__)

_FEW = 3  # values of a column


def load_listed(file: Path, loading: Loading) -> Dataset:
    """Read a list of images; no image is opened.

    Images keep the order of the lines; their ids are the paths as written, or in the Unicode form
    of the file's name. A path is absolute, or relative to `Loading.root`, by default
    the folder of the list. Without a split
    column all images are train. A warning names columns that were interpreted, and those that are
    not labels.

    With `Loading.skip_bad` it is left to the caller to find images that are missing.

    Raises
    ------
    DataError
        The list is something else, names an image twice or one that is not there, or has a class
        of which there is no image in train; the message has the line.
    """
    skip_bad = loading.skip_bad
    table = read_table(file)
    if table.not_utf8 and not skip_bad:
        raise DataError(
            f"{file}: line {table.not_utf8[0][0]} {NO_UTF8} ({len(table.not_utf8):,} such; "
            "--skip-bad leaves them out)"
        )
    for note in table.notes:
        log.warning("%s: %s", file, note)
    if table.unused:
        log.warning(
            "%s: no labels (--group and --sample-weight may name them, and figures are split by "
            "those of few values): %s",
            file,
            ", ".join(_with_values(name, table.columns.get(name, ())) for name in table.unused),
        )
    root = os.path.abspath(file.parent if loading.root is None else loading.root)
    if table.splits is None:
        for name in filter(numbers_folds, table.unused):
            log.warning(
                "%s: `%s` numbers folds, and none of them is held out; for that, add a column "
                "`split` with train and test in it",
                file,
                name,
            )
        _check_split_folders(file, table.paths)
    table = replace(table, paths=_as_on_disk(file, root, table.paths))
    _check_images(file, root, table, missing_too=not skip_bad)
    numbers = _rows_of_splits(table)
    _check_trained(file, table, numbers)
    splits = {}
    for name, rows in numbers.items():
        ids = [table.paths[row] for row in rows]
        labels = table.labels[rows]
        splits[name] = Split(
            ids=ids,
            labels=labels,
            images=FileImages(root, ids, loading.memo, loading.workers),
            columns={one: [cells[row] for row in rows] for one, cells in table.columns.items()},
        )
    skipped = tuple(BadImage(id=shown(name), reason=NOT_UTF8) for _, name in table.not_utf8)
    return Dataset(
        name=file.stem, classes=table.classes, splits=splits, root=Path(root), skipped=skipped
    )


def listed_folders(file: Path, root: Path | None = None) -> list[Path]:
    """Return the folders in which the images of a list lie; see `load_listed`."""
    root = file.parent if root is None else root
    places = (
        os.path.dirname(os.path.join(os.path.abspath(root), path))
        for path in read_table(file).paths
    )
    return [Path(one) for one in dict.fromkeys(places)]


def _with_values(name: str, cells: Sequence[str]) -> str:
    """Return a column's name, with its values where they may be splits under other names."""
    different = sorted({*cells})
    few = 1 < len(different) <= _FEW and all(cell.isalpha() for cell in different)
    return f"`{name}` ({', '.join(different)})" if few else f"`{name}`"


def _as_on_disk(file: Path, root: str, paths: Sequence[str]) -> list[str]:
    """Return paths as the file system has them: decomposed Unicode or backslashes are replaced."""
    found, turned = list(paths), 0
    for row, path in enumerate(paths):
        forms = []
        if not path.isascii():
            forms = [unicodedata.normalize(form, path) for form in ("NFC", "NFD")]
        if "\\" in path:
            forms += [form.replace("\\", "/") for form in (path, *forms)]
        if forms and not _exists(root, path):
            found[row] = next((one for one in forms if _exists(root, one)), path)
            turned += "\\" in path and found[row] != path
    if turned:
        log.warning(
            "%s: reading the backslashes in %s as slashes",
            file,
            "1 path" if turned == 1 else f"{turned:,} paths",
        )
    return found


def _exists(root: str, path: str) -> bool:
    return os.path.exists(os.path.join(root, path))


def _check_images(file: Path, root: str, table: Table, *, missing_too: bool) -> None:
    first: dict[str, int] = {}
    files: dict[tuple[int, int], int] = {}
    links: list[tuple[int, int]] = []
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
        try:
            status = os.stat(place)
        except (OSError, ValueError):  # the latter for a NUL in the name
            if missing_too:
                raise DataError(
                    f"{file}: line {line}: there is no file {place}; paths are relative to the "
                    "folder of the list (--skip-bad leaves out what is missing)"
                ) from None
            continue
        before = files.setdefault((status.st_dev, status.st_ino), row)
        if before != row:
            links.append((before, row))
    if links:
        one, other = links[0]
        log.warning(
            "%s: %s that another line names already, through a link (line %d: %s is %s)",
            file,
            "1 line names a file" if len(links) == 1 else f"{len(links):,} lines name files",
            table.lines[other],
            table.paths[other],
            table.paths[one],
        )


def _check_split_folders(file: Path, paths: Sequence[str]) -> None:
    """Refuse a list without splits whose paths lie in split folders: ``train/1.jpg``."""
    depths = [path.replace("\\", "/").split("/")[:-1] for path in paths]
    for level in range(min(map(len, depths), default=0)):
        names = {folders[level] for folders in depths}
        read = split_words(names, whole=True) if 1 < len(names) <= 20 else None
        if read is not None and tells_apart(read.values()):
            raise DataError(
                f"{file}: its images lie in {', '.join(sorted(names))}, and no column tells the "
                "split, so that all would be trained on; add a column `split` with train, val and "
                "test in it (train in each line where that is meant)"
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
    task = task_of(table.labels)
    trained = set(task.present(table.labels[numbers["train"]]).tolist())
    for split, rows in numbers.items():
        strange = sorted(set(task.present(table.labels[rows]).tolist()) - trained)
        if strange:
            own = task.has(table.labels[rows], strange[0])
            line = table.lines[int(rows[np.flatnonzero(own)[0]])]
            name = table.classes[strange[0]]
            instead = called_instead(name, (table.classes[one] for one in sorted(trained)))
            raise DataError(
                f"{file}: line {line}: the class {name!r} is in {split} but "
                f"not in train{instead}; change the split of an image, or remove the class"
            )
