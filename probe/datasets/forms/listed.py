"""Load the dataset that a list of images tells; `probe.datasets.tables` reads the list itself."""

from __future__ import annotations

import logging
import os
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.core.reading import AS_IT_IS, ReadOptions
from probe.core.texts import Texts
from probe.core.urls import is_url
from probe.datasets.classes import called_instead
from probe.datasets.forms.loading import Loading, ids_of
from probe.datasets.forms.split_lists import are_lists, read_lists
from probe.datasets.images.image_files import NOT_UTF8, shown
from probe.datasets.mirror.mirror import Mirror
from probe.datasets.spec import SPLITS, BadImage, Dataset, Split
from probe.datasets.split_names import split_words, tells_apart
from probe.datasets.tables.split_columns import numbers_folds
from probe.datasets.tables.table import Table
from probe.datasets.tables.text_lists import NO_UTF8
from probe.errors import DataError
from probe.evaluation.task import task_of

log = logging.getLogger(__name__)

_FEW = 3  # values of a column


def load_listed(file: Path, loading: Loading) -> Dataset:
    """Read a list of images, or several as one (`read_lists`); no image is opened.

    Images keep the order of the lines; their ids are the paths as written, or in the Unicode form
    of the file's name. A path is absolute, or relative to `Loading.root`, by default the folder of
    the list. Without a split column all images are train. A warning names columns that were
    interpreted, and those that are not labels. `interpret` of `probe.datasets.tables.table`
    says what the options do.

    With `Loading.skip_bad` it is left to the caller to find images that are missing.

    Raises
    ------
    DataError
        The list is something else, names an image twice or one that is not there, or has a class
        of which there is no image in train; the message has the line.
    UsageError
        An option names a column that is not there, or makes no sense for the list.
    """
    table = read_lists(file, loading.options)
    return dataset_of_table(table, loading, name=_name(file), root=_root(file, loading.root))


def dataset_of_table(table: Table, loading: Loading, *, name: str, root: str) -> Dataset:
    """Return the dataset of a table with paths; see `load_listed`.

    Parameters
    ----------
    root : str
        The folder that paths are relative to, absolute.
    """
    skip_bad = loading.skip_bad
    place = table.lines.place
    if table.not_utf8 and not skip_bad:
        raise DataError(
            f"{place}: line {table.not_utf8[0][0]} {NO_UTF8} ({len(table.not_utf8):,} such; "
            "--skip-bad leaves them out)"
        )
    for note in table.notes:
        log.warning("%s: %s", place, note)
    if table.unused:
        log.warning(
            "%s: kept as columns, not read as labels: %s (--group and --sample-weight may name "
            "them; figures are split by those of few values)",
            place,
            ", ".join(_with_values(name, table.columns.get(name, ())) for name in table.unused),
        )
    if table.splits is None:
        for fold in filter(numbers_folds, table.unused):
            log.warning(
                "%s: `%s` numbers folds, and none of them is held out; for that, add a column "
                "`split` with train and test in it",
                place,
                fold,
            )
        _check_split_folders(place, table.paths)
    remote = loading.remote.has(root)
    if not remote:
        table = replace(table, paths=_as_on_disk(place, root, table.paths))
    files = loading.files(root, table.paths)
    are_ids = files is table.paths
    table = replace(table, paths=[*ids_of(table.paths)])
    _check_images(root, table, files, loading.remote, missing_too=not skip_bad)
    numbers = rows_of_splits(table)
    check_trained(table, numbers)
    splits = {}
    for split, rows in numbers.items():
        ids = Texts.of(table.paths[row] for row in rows)
        splits[split] = Split(
            ids=ids,
            labels=table.labels[rows],
            images=loading.images(root, ids if are_ids else Texts.of(files[row] for row in rows)),
            columns={one: [cells[row] for row in rows] for one, cells in table.columns.items()},
        )
    skipped = tuple(BadImage(id=shown(one), reason=NOT_UTF8) for _, one in table.not_utf8)
    return Dataset(
        name=name, classes=table.classes, splits=splits, root=Path(root), skipped=skipped
    )


def listed_folders(
    file: Path, root: Path | None = None, options: ReadOptions = AS_IT_IS
) -> list[Path]:
    """Return the folders in which the images of a list lie; see `load_listed`."""
    base = _root(file, root)
    paths = [one for one in read_lists(file, options).paths if not is_url(one)]
    places = (os.path.dirname(os.path.join(base, path)) for path in paths)
    return [Path(one) for one in dict.fromkeys(places)]


def _root(file: Path, root: Path | None) -> str:
    """Return the folder that paths are relative to, absolute."""
    own = file if file.is_dir() else file.parent
    return os.path.abspath(own if root is None else root)


def _name(file: Path) -> str:
    """Return what a dataset is called: as its list, or as the folder of several."""
    if are_lists(file):
        return os.path.basename(_root(file, None))
    return file.stem


def _with_values(name: str, cells: Sequence[str]) -> str:
    """Return a column's name, with its values where they may be splits under other names."""
    different = sorted({*cells})
    few = 1 < len(different) <= _FEW and all(cell.isalpha() for cell in different)
    return f"`{name}` ({', '.join(different)})" if few else f"`{name}`"


def _as_on_disk(place: str, root: str, paths: Sequence[str]) -> list[str]:
    """Return paths as the file system has them: decomposed Unicode or backslashes are replaced."""
    found, turned = list(paths), 0
    for row, path in enumerate(paths):
        forms = []
        if not path.isascii():
            forms = [unicodedata.normalize(form, path) for form in ("NFC", "NFD")]
        if "\\" in path:
            forms += [form.replace("\\", "/") for form in (path, *forms)]
        if forms and not is_url(path) and not _exists(root, path):
            found[row] = next((one for one in forms if _exists(root, one)), path)
            turned += "\\" in path and found[row] != path
    if turned:
        log.warning(
            "%s: reading the backslashes in %s as slashes",
            place,
            "1 path" if turned == 1 else f"{turned:,} paths",
        )
    return found


def _exists(root: str, path: str) -> bool:
    return os.path.exists(os.path.join(root, path))


def _check_images(
    root: str, table: Table, every: Sequence[str], remote: Mirror, *, missing_too: bool
) -> None:
    """Refuse images that are named twice, or are not there; those elsewhere show when fetched.

    Parameters
    ----------
    every : sequence of str
        Where each lies.
    """
    lines = table.lines
    first: dict[str, int] = {}
    files: dict[tuple[int, int], int] = {}
    links: list[tuple[int, int]] = []
    for row, (path, file) in enumerate(zip(table.paths, every, strict=True)):
        place = os.path.normpath(os.path.join(root, file))
        before = first.setdefault(place, row)
        if before != row:
            same = np.array_equal(table.labels[row], table.labels[before])
            raise DataError(
                f"{lines.at(row)} names {path!r:.300} again, after {lines.of(before, row)}, with "
                f"{'the same' if same else 'another'} label; keep one of them (several labels of "
                "an image go into one cell of `labels`, with bars between them)"
            )
        if remote.has(place):
            continue
        try:
            status = os.stat(place)
        except (OSError, ValueError):  # the latter for a NUL in the name
            if missing_too:
                raise DataError(
                    f"{lines.at(row)}: there is no file {place:.300}; paths are relative to the "
                    "folder of the list (--skip-bad leaves out what is missing)"
                ) from None
            continue
        before = files.setdefault((status.st_dev, status.st_ino), row)
        if before != row:
            links.append((before, row))
    if links:
        one, other = links[0]
        log.warning(
            "%s: %s that another line names already, through a link (%s: %s is %s)",
            lines.place,
            "1 line names a file" if len(links) == 1 else f"{len(links):,} lines name files",
            lines.of(other, one),
            table.paths[other],
            table.paths[one],
        )


def _check_split_folders(place: str, paths: Sequence[str]) -> None:
    """Refuse a list without splits whose paths lie in split folders: ``train/1.jpg``."""
    depths = [path.replace("\\", "/").split("/")[:-1] for path in paths]
    for level in range(min(map(len, depths), default=0)):
        names = {folders[level] for folders in depths}
        read = split_words(names, whole=True) if 1 < len(names) <= 20 else None
        if read is not None and tells_apart(read.values()):
            raise DataError(
                f"{place}: its images lie in {', '.join(sorted(names))}, and no column tells the "
                "split, so that all would be trained on; add a column `split` with train, val and "
                "test in it (train in each line where that is meant)"
            )


def rows_of_splits(table: Table) -> dict[str, NDArray[np.intp]]:
    """Return the rows of each split that there is."""
    if table.splits is None:
        return {"train": np.arange(len(table.labels))}
    found: dict[str, list[int]] = {name: [] for name in SPLITS}
    for row, split in enumerate(table.splits):
        found[split].append(row)
    return {name: np.array(rows, np.intp) for name, rows in found.items() if rows}


def check_trained(table: Table, numbers: dict[str, NDArray[np.intp]]) -> None:
    """Refuse a class that is in another split but not in train, where there is a train."""
    if "train" not in numbers:
        return
    task = task_of(table.labels)
    trained = set(task.present(table.labels[numbers["train"]]).tolist())
    for split, rows in numbers.items():
        strange = sorted(set(task.present(table.labels[rows]).tolist()) - trained)
        if strange:
            own = task.has(table.labels[rows], strange[0])
            row = int(rows[np.flatnonzero(own)[0]])
            name = table.classes[strange[0]]
            instead = called_instead(name, (table.classes[one] for one in sorted(trained)))
            raise DataError(
                f"{table.lines.at(row)}: the class {name!r} is in {split} but "
                f"not in train{instead}; change the split of an image, or remove the class"
            )
