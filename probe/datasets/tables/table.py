"""Read a list of images: its labels, its classes, and the split of each row.

The cells come from a file of any form (`READERS`), or from whoever has them (`interpret`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.core.reading import AS_IT_IS, ReadOptions
from probe.core.short_repr import short_repr
from probe.datasets.classes import UNLABELED, class_name, ordered_classes, same_numbers
from probe.datasets.tables.arrow_cells import read_parquet_list
from probe.datasets.tables.cells import (
    BAR,
    EXPECTED,
    Cells,
    Lines,
    image_columns,
    named,
    no_image,
)
from probe.datasets.tables.json_lines import read_json_lines
from probe.datasets.tables.name_patterns import chosen, left_out_note
from probe.datasets.tables.split_columns import FoundSplits, find_splits, named_splits
from probe.datasets.tables.text_lists import read_text_list
from probe.datasets.tables.where import rows_where
from probe.errors import DataError, UsageError

READERS: Mapping[str, Callable[[Path], Cells]] = {
    ".csv": read_text_list, ".tsv": read_text_list, ".txt": read_text_list,
    ".jsonl": read_json_lines, ".ndjson": read_json_lines,
    ".parquet": read_parquet_list, ".pq": read_parquet_list,
}  # fmt: skip
LABEL, LABELS = "label", "labels"
_FLAGS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}  # pandas has all of them
_SCORES = 10  # different fractions, from which on they may be no classes
_MANY_SCORES = 50


@dataclass(frozen=True, kw_only=True)
class Table:
    """The contents of a list of images, in its order.

    Parameters
    ----------
    paths : list of str
        As in the file; empty where the list has no paths.
    lines : Lines
        Where each image stands.
    splits : list of {"train", "val", "test"} or None
        None without a split column.
    labels : int32, (n_images,), or uint8, (n_images, n_classes)
        Class numbers, or 1 where an image is of a class and 0 where it is not.
    classes : tuple of str
        In the order of `ordered_classes`; columns of 0s and 1s keep their order.
    unused : tuple of str
        Names of the columns that are neither image, label nor split.
    columns : mapping of name to list of str
        Their values for each image, for example a patient or a camera.
    rows : sequence of int
        The place of each image among the rows that were given, from 0.
    notes : tuple of str
        A sentence on each column that was interpreted, and on rows that were left out.
    not_utf8 : tuple of (line, name)
        Lines left out because the image's name is not UTF-8.
    """

    __repr__ = short_repr

    paths: list[str]
    lines: Lines
    splits: list[str] | None
    labels: NDArray[np.int32] | NDArray[np.uint8]
    classes: tuple[str, ...]
    rows: Sequence[int] = ()
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    columns: Mapping[str, list[str]] = field(default_factory=dict)
    not_utf8: tuple[tuple[int, str], ...] = ()


def is_table(path: Path) -> bool:
    """Whether a path has the ending of a list of images."""
    return path.suffix.lower() in READERS


def read_table(path: Path, options: ReadOptions = AS_IT_IS) -> Table:
    """Read a list of images; see `interpret`.

    Raises
    ------
    DataError
        It is not such a list; the message has the line.
    UsageError
        An option names a column that is not there, or makes no sense for the file.
    """
    return interpret(read_cells(path, options), options)


def read_cells(path: Path, options: ReadOptions) -> Cells:
    """Read the cells of a file by its ending.

    Raises
    ------
    DataError
        The file cannot be read; the message has the line.
    UsageError
        ``--columns`` is given for a file that has names of columns itself.
    """
    reader = READERS.get(path.suffix.lower(), read_text_list)
    if reader is read_text_list:
        return read_text_list(path, options.columns)
    if options.columns:
        raise UsageError(
            f"{path}: has names of columns; leave out --columns, which is for lists without them"
        )
    return reader(path)


def interpret(
    cells: Cells, options: ReadOptions, *, paths: bool = True, image: str | None = None
) -> Table:
    """Find out what the columns are for, and return labels, classes and splits.

    The columns may have any order. The image is ``image``, ``file``, ``path`` or ``filename``, or
    else ``file_name`` and the like. ``label`` is one class. ``labels`` are several, or none, with
    bars between them: ``cat|dog``. Where there is neither, and none is named by an option, every
    column but the image's and the split's is a class, with 1 or 0. Otherwise other columns are
    kept in `Table.columns`. `find_splits` says which columns are read as the split. Where all
    labels are whole numbers, ``3.0`` is ``3``; names in different Unicode forms are equal. Spaces
    around a cell are ignored.

    Parameters
    ----------
    options : ReadOptions
        ``label`` and ``split_column`` name columns; ``where`` chooses rows by their cells, and
        ``include`` and ``exclude`` by their paths.
    paths : bool, default=True
        Whether there has to be a column of paths. Otherwise the images are elsewhere, row by row,
        and no column is the image's; `Table.rows` says which of them were taken.
    image : str, optional
        The column of paths, where it is known.

    Raises
    ------
    DataError
        It is no list of images with labels; the message has the line.
    UsageError
        An option names a column that is not there, or ``where`` cannot be parsed.
    """
    cells = replace(cells, names=[_column_name(name) for name in cells.names])
    names = cells.names
    twice = next((name for name in names if name and list(names).count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{cells.header} names the column {twice!r} twice")
    place = _image_column(cells, image) if paths else None
    rows, left_out = _chosen_rows(cells, place, options)
    cells = cells if len(rows) == len(cells) else cells.take(rows)
    columns, splits = _columns(cells, place, options)
    if not cells.rows:
        raise DataError(f"{cells.place}: has no images, only the names of its columns")
    ids = [] if place is None else cells.column(place)
    for row, one in enumerate(ids):
        if not one:
            raise DataError(f"{cells.at(row)} names no image")
    labels, classes = _targets(cells, columns, options)
    return Table(
        paths=ids,
        lines=cells.lines,
        splits=splits.by_row if splits else None,
        labels=labels,
        classes=classes,
        rows=rows,
        unused=tuple(names[n] or f"column {n + 1}" for n in columns.unused),
        notes=(*cells.notes, *left_out, *(splits.notes if splits else ())),
        columns={names[n]: cells.column(n) for n in columns.unused if names[n]},
        not_utf8=cells.not_utf8,
    )


def _column_name(name: str) -> str:
    """Return a column's name as one printable line, in Unicode's composed form."""
    printable = "".join(sign if sign.isprintable() else " " for sign in name)
    return class_name(" ".join(printable.split()) if printable != name else name)


def has_label_column(names: Sequence[str]) -> bool:
    """Whether a column is called as one of labels."""
    return any(name.lower() in {LABEL, LABELS} for name in names)


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What each column of a list is for, by its place from 0.

    A column that is neither the image nor tells the split is the label or the labels, one of the
    `flags` (a class, of 0s and 1s), or unused.
    """

    label: int | None  # of one class
    labels: int | None  # of several
    flags: tuple[int, ...]
    unused: tuple[int, ...]


def _image_column(cells: Cells, name: str | None) -> int:
    """Return the column of paths."""
    names = cells.names
    if name is not None:
        return cells.find(name, "the column")
    images = image_columns(names)
    if len(images) > 1:
        both = " and ".join(names[number] for number in images)
        raise DataError(f"{cells.header} names the image twice, {both}; keep one of them")
    if not images:
        raise no_image(cells.header, names, cells.rows[:1])
    return images[0]


def _chosen_rows(
    cells: Cells, image: int | None, options: ReadOptions
) -> tuple[Sequence[int], list[str]]:
    """Return the rows that ``--where``, ``--include`` and ``--exclude`` take, and notes on it."""
    rows: Sequence[int] = range(len(cells))
    notes = []
    if options.where is not None:
        named_columns = {name: cells.column(n) for n, name in enumerate(cells.names) if name}
        try:
            rows = np.flatnonzero(rows_where(options.where, named_columns, len(cells))).tolist()
        except UsageError as error:
            raise UsageError(f"{cells.place}: {error}") from error
        if len(cells) and not rows:
            raise DataError(f"{cells.place}: --where leaves none of its {len(cells):,} images")
        notes.append(f"--where: {len(rows):,} of {len(cells):,} images are read")
    if options.include or options.exclude:
        if image is None:
            raise UsageError(
                f"{cells.place}: has no paths for --include and --exclude; --where chooses rows"
            )
        before, ids = len(rows), cells.column(image)
        rows = [row for row in rows if chosen(ids[row], options.include, options.exclude)]
        notes.append(left_out_note(options, cells.place, before, len(rows)))
    return rows, notes


def _columns(
    cells: Cells, image: int | None, options: ReadOptions
) -> tuple[Columns, FoundSplits | None]:
    """Give each column its role."""
    names, header = cells.names, cells.header
    label, labels = _label_columns(cells, image, options)
    by_class = label is None and labels is None and not options.unlabeled
    others = [n for n in range(len(names)) if n not in (image, label, labels)]
    if options.split_column is None:
        splits = find_splits(cells, others, may_be_classes=by_class)
    else:
        column = cells.find(options.split_column, "--split-column")
        if column not in others:
            raise UsageError(f"--split-column {names[column]}: has the images or their labels")
        splits = named_splits(cells, column) if cells.rows else None
    taken = splits.columns if splits else ()
    left = tuple(n for n in others if n not in taken)
    if by_class and not left:
        how = "--unlabeled reads images without them" if image is None else EXPECTED
        raise DataError(f"{header} has no labels; {how}")
    nameless = next((number for number in left if not names[number]), None)
    if by_class and nameless is not None:
        raise DataError(
            f"{cells.place}: column {nameless + 1} has no name; without `label` or `labels` every "
            "other column is a class (pandas writes no numbers of rows with index=False)"
        )
    if by_class and cells.rows and not any(_are_flags(cells.column(n)) for n in left):
        raise _no_label(cells, left)
    columns = Columns(
        label=label, labels=labels, flags=left if by_class else (), unused=() if by_class else left
    )
    return columns, splits


def _label_columns(
    cells: Cells, image: int | None, options: ReadOptions
) -> tuple[int | None, int | None]:
    """Return the column of one label an image, or that of several."""
    lower = [name.lower() for name in cells.names]
    if options.unlabeled:
        if options.label is not None:
            raise UsageError("--unlabeled reads no labels; leave out --label")
        return None, None
    if options.label is not None:
        column = cells.find(options.label, "--label")
        if column == image:
            raise UsageError(f"--label {cells.names[column]}: has the images' paths")
        several = lower[column] == LABELS or any(BAR in cell for cell in cells.column(column))
        return (None, column) if several else (column, None)
    label, labels = (lower.index(name) if name in lower else None for name in (LABEL, LABELS))
    if label is not None and labels is not None:
        raise DataError(
            f"{cells.header} has `label` and `labels`; keep one of them, or name it by --label"
        )
    return label, labels


def _no_label(cells: Cells, columns: Sequence[int]) -> DataError:
    """Return the error that no column is called as one of labels, and none is of 0s and 1s."""
    likely = "COLUMN"
    for n in columns:
        if 2 <= len({*cells.column(n)}) <= len(cells) // 2:
            likely = cells.names[n]
            break
    quoted = f"'{likely}'" if " " in likely else likely
    return DataError(
        f"{cells.header} has no column `label` or `labels`, it has {named(cells.names)}; name the "
        f"one with the classes, for example --label {quoted}, or read no labels by --unlabeled"
    )


def _targets(
    cells: Cells, columns: Columns, options: ReadOptions
) -> tuple[NDArray[np.int32] | NDArray[np.uint8], tuple[str, ...]]:
    """Return labels and class names."""
    if options.unlabeled:
        return np.zeros(len(cells), np.int32), (UNLABELED,)
    if columns.label is not None:
        return _one_label(cells, columns.label)
    if columns.labels is not None:
        several = [_split_labels(cell) for cell in cells.column(columns.labels)]
        called = same_numbers({name for one in several for name in one})
        classes = ordered_classes(called.values())
        matrix = _matrix([{called[name] for name in one} for one in several], classes)
    else:
        classes = tuple(cells.names[number] for number in columns.flags)
        matrix = _flags(cells, columns.flags)
    if len(classes) < 2:
        what = f"only the class {classes[0]!r}" if classes else "no class at all"
        raise DataError(
            f"{cells.place}: has {what}; a `label` column with two names is what tells two"
        )
    never = np.flatnonzero(~matrix.any(axis=0))
    if len(never):
        raise DataError(f"{cells.place}: no image is of the class {classes[never[0]]!r}; remove it")
    return matrix, classes


def _one_label(cells: Cells, column: int) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    texts, name = cells.column(column), cells.names[column]
    for row, text in enumerate(texts):
        if not text:
            raise DataError(
                f"{cells.at(row)} has no label; where images may have none or several, call "
                f"the column `labels` (--where \"{_in_where(name)} != ''\" leaves such rows out)"
            )
        if BAR in text:
            raise DataError(
                f"{cells.at(row)} has the label {text!r}; for several labels an image call "
                f"the column `labels`, or name it by --label {name}"
            )
    different = set(texts)
    if _are_scores(different, len(texts)):
        raise DataError(
            f"{cells.place}: `{name}` has {len(different):,} different numbers with fractions "
            f"(as {texts[0]}), which is a score and no class; name another column by --label"
        )
    called = same_numbers(different)
    classes = ordered_classes(called.values())
    place = {one: number for number, one in enumerate(classes)}
    return np.array([place[called[text]] for text in texts], np.int32), classes


def _in_where(name: str) -> str:
    return name if name.isidentifier() else f"`{name}`"


def _are_scores(texts: set[str], count: int) -> bool:
    """Whether labels are numbers of which there are too many, and too few images each."""
    if len(texts) <= _SCORES or (len(texts) <= _MANY_SCORES and len(texts) * 5 <= count):
        return False
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        return False
    return any(math.isfinite(one) and not one.is_integer() for one in numbers)


def _split_labels(cell: str) -> set[str]:
    return {name.strip() for name in cell.split(BAR) if name.strip()}


def _matrix(several: Sequence[set[str]], classes: Sequence[str]) -> NDArray[np.uint8]:
    place = {name: number for number, name in enumerate(classes)}
    matrix = np.zeros((len(several), len(classes)), np.uint8)
    for row, names in enumerate(several):
        matrix[row, [place[name] for name in names]] = 1
    return matrix


def _are_flags(texts: Sequence[str]) -> bool:
    return {text.lower() for text in set(texts)} <= _FLAGS.keys()


def _flags(cells: Cells, flags: Sequence[int]) -> NDArray[np.uint8]:
    """Return the columns of 0s and 1s, (n_images, n_classes)."""
    matrix = np.zeros((len(cells), len(flags)), np.uint8)
    for place, column in enumerate(flags):
        for row, cell in enumerate(cells.column(column)):
            value = _FLAGS.get(cell.lower())
            if value is None:
                raise DataError(
                    f"{cells.at(row)}, column {cells.names[column]!r}: {cell!r:.40} is not 0 or 1; "
                    "without `label` or `labels` every other column is a class (--label names the "
                    "column that has the classes)"
                )
            matrix[row, place] = value
    return matrix
