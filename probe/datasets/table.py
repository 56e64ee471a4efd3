"""Read a CSV or TSV file of images: its labels, its classes, and the split of each row."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.core.short_repr import short_repr
from probe.datasets.classes import class_name, ordered_classes, same_numbers
from probe.datasets.image_files import is_utf8
from probe.datasets.split_names import EXACT, name_words, split_words, tells_apart
from probe.errors import DataError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
_OTHERS = {";": "semicolons", "\t": "tabs", ",": "commas"}
IMAGE_COLUMNS = ("image", "file", "path", "filename")
LABEL, LABELS = "label", "labels"
BAR = "|"  # between the labels of one image
NO_UTF8 = "is not UTF-8; save it as UTF-8 text"
EXPECTED = "expected a line of names: image,label or image,labels or image and a column a class"
Rows = Sequence[tuple[int, list[str]]]  # with the number of the line
SPLIT = "split"
_CALLED = frozenset(  # without spaces and signs
    (
        "split", "splits", "set", "sets", "subset", "dataset", "datasets", "datasplit", "phase",
        "partition", "fold", "usage", "splitname", "setname", "splitset", "traintest",
        "trainvaltest", "traintestsplit", "splitid", "splitindex",
    )
)  # fmt: skip
_TRUE = frozenset(("1", "1.0", "true", "t", "yes", "y"))
_FALSE = frozenset(("0", "0.0", "false", "f", "no", "n"))
_NUMBERS = (
    frozenset(["-1", "-1.0", "0", "1", "2", "3", "0.0", "1.0", "2.0", "3.0"]) | _TRUE | _FALSE
)
_FOLD = frozenset(("fold", "kfold", "cvfold", "cv"))
_FEW = 3  # values; one of them that says train is hardly a vehicle
_NOTHING = frozenset(("", "nan", "none", "null", "na", "n/a"))
_ADVICE = "call the column that tells it `split`, with train, val and test in it"


@dataclass(frozen=True, kw_only=True)
class Table:
    """The contents of a list of images, in its order.

    Parameters
    ----------
    paths : list of str
        As in the file.
    lines : list of int
        Line numbers, from 1.
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
    notes : tuple of str
        A sentence on each column that was interpreted.
    not_utf8 : tuple of (line, name)
        Lines left out because the image's name is not UTF-8.
    """

    __repr__ = short_repr

    paths: list[str]
    lines: list[int]
    splits: list[str] | None
    labels: NDArray[np.int32] | NDArray[np.uint8]
    classes: tuple[str, ...]
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    columns: Mapping[str, list[str]] = field(default_factory=dict)
    not_utf8: tuple[tuple[int, str], ...] = ()


def is_table(path: Path) -> bool:
    """Whether a path has the ending of a list of images."""
    return path.suffix.lower() in DELIMITERS


def read_table(path: Path) -> Table:
    """Read a list of images.

    The first line names the columns, in any order. The image is ``image``, ``file``, ``path`` or
    ``filename``; these names, ``label``, ``labels`` and ``split`` may be written in any case.
    ``label`` is one class. ``labels`` are several, or none, with bars between them: ``cat|dog``.
    Where there is neither, every column but the image's and the split's is a class, with 1 or 0.
    With ``label`` or ``labels`` other columns are listed in `Table.unused`. `find_splits` says
    which other columns are read as the split. Where all labels are whole numbers, ``3.0`` is ``3``;
    names in different Unicode forms are equal. Spaces around a cell, empty lines and a byte order
    mark are ignored. Where the first line is a single cell that semicolons, tabs or commas would
    divide, those are the separators, as after Excel's ``sep=;``.

    Raises
    ------
    DataError
        It is not such a list; the message has the line.
    """
    text = _text(path)
    text, delimiter, first = _separated(text, DELIMITERS[path.suffix.lower()])
    notes = () if first is None else (first,)
    lines = _lines(path, text, delimiter)
    try:
        _, header = next(lines)
    except StopIteration:
        raise DataError(f"{path}: is empty; {EXPECTED}") from None
    names = [class_name(name.strip()) for name in header]
    rows: Rows = list(lines)
    rows, left_out = (rows, []) if is_utf8(text) else _utf8_rows(path, names, rows)
    columns, splits = _columns(path, names, rows)
    if not rows:
        raise DataError(f"{path}: has no images, only the names of its columns")
    paths = [row[columns.image].strip() for _, row in rows]
    for (line, _), one in zip(rows, paths, strict=True):
        if not one:
            raise DataError(f"{path}: line {line} names no image")
    labels, classes = _targets(path, names, columns, rows)
    return Table(
        paths=paths,
        lines=[line for line, _ in rows],
        splits=splits.by_row if splits else None,
        labels=labels,
        classes=classes,
        unused=tuple(names[n] or f"column {n + 1}" for n in columns.unused),
        notes=(*notes, *(splits.notes if splits else ())),
        columns={names[n]: [row[n].strip() for _, row in rows] for n in columns.unused if names[n]},
        not_utf8=tuple(left_out),
    )


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What each column of a list is for, by its place from 0.

    Every column has one role: it is the image, the label or the labels, one of the `flags` (a
    class, of 0s and 1s), one of those that tell the split, or unused.
    """

    image: int
    label: int | None
    labels: int | None
    flags: tuple[int, ...]
    splits: tuple[int, ...]
    unused: tuple[int, ...]


def _separated(text: str, usual: str) -> tuple[str, str, str | None]:
    """Return the text to read, what separates its cells, and what to say of that, if anything."""
    if start := re.match(r'"?sep=(.)"?\r?\n', text):
        return "\n" + text[start.end() :], start[1], None  # an empty line, to keep their numbers
    head = text.lstrip("\r\n").partition("\n")[0].replace('"', "").lower()
    for other, called in _OTHERS.items():
        names = {name.strip() for name in head.split(other)}
        if usual not in head and len(names) > 1 and names & {*IMAGE_COLUMNS}:
            return text, other, f"its cells are separated by {called}"
    return text, usual, None


def _lines(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield number and cells of each line that is not empty."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1  # of a row in quotes that spans lines, the first
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"{path}: line {line} cannot be read: {error}") from error
        if any(cell.strip() for cell in row):
            yield line, row


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        raise DataError(f"{path}: is UTF-16; save it as UTF-8")
    if (bad := data.find(b"\0")) >= 0:
        line = data.count(b"\n", 0, bad) + 1
        raise DataError(f"{path}: line {line} holds a NUL byte; save it as UTF-8 text")
    return data.decode("utf-8-sig", "surrogateescape")


def _utf8_rows(path: Path, names: list[str], rows: Rows) -> tuple[Rows, list[tuple[int, str]]]:
    """Return the rows that are UTF-8, and lines and names of those whose image's name is not."""
    if not all(map(is_utf8, names)):
        raise DataError(f"{path}: line 1 {NO_UTF8}")
    images = [number for number, name in enumerate(names) if name.lower() in IMAGE_COLUMNS]
    good, left_out = [], []
    for line, row in rows:
        odd = [number for number, cell in enumerate(row) if not is_utf8(cell)]
        if not set(odd) <= set(images):
            raise DataError(f"{path}: line {line} {NO_UTF8}")
        if odd:
            left_out.append((line, row[odd[0]].strip()))
        else:
            good.append((line, row))
    return good, left_out


def _columns(path: Path, names: list[str], rows: Rows) -> tuple[Columns, FoundSplits | None]:
    """Give each column its role."""
    lower = [name.lower() for name in names]
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path}: line 1 names the column {twice!r} twice")
    images = [number for number, name in enumerate(lower) if name in IMAGE_COLUMNS]
    if not images:
        found = ", ".join(names[:6])
        how = ", separated by commas, semicolons or tabs" if len(names) == 1 else ""
        raise DataError(f"{path}: line 1 has no column `image`, it has {found!r}; {EXPECTED}{how}")
    if len(images) > 1:
        both = " and ".join(names[number] for number in images)
        raise DataError(f"{path}: line 1 names the image twice, {both}; keep one of them")
    label, labels = (lower.index(name) if name in lower else None for name in (LABEL, LABELS))
    if label is not None and labels is not None:
        raise DataError(f"{path}: line 1 has `label` and `labels`; keep one of them")
    for line, row in rows:
        if len(row) != len(names):
            raise DataError(f"{path}: line {line} has {len(row)} cells, the first {len(names)}")
    others = [n for n in range(len(names)) if n not in (images[0], label, labels)]
    by_class = label is None and labels is None
    splits = find_splits(path, names, others, rows, may_be_classes=by_class)
    taken = splits.columns if splits else ()
    left = tuple(n for n in others if n not in taken)
    if by_class and not left:
        raise DataError(f"{path}: line 1 has no labels; {EXPECTED}")
    nameless = next((number for number in left if not names[number]), None)
    if by_class and nameless is not None:
        raise DataError(
            f"{path}: column {nameless + 1} has no name; without `label` or `labels` every other "
            "column is a class (pandas writes no numbers of rows with index=False)"
        )
    columns = Columns(
        image=images[0], label=label, labels=labels, splits=taken,
        flags=left if by_class else (), unused=() if by_class else left,
    )  # fmt: skip
    return columns, splits


def _targets(
    path: Path, names: list[str], columns: Columns, rows: Rows
) -> tuple[NDArray[np.int32] | NDArray[np.uint8], tuple[str, ...]]:
    """Return labels and class names."""
    if columns.label is not None:
        return _one_label(path, columns.label, rows)
    if columns.labels is not None:
        several = [_split_labels(row[columns.labels]) for _, row in rows]
        called = same_numbers({name for one in several for name in one})
        classes = ordered_classes(called.values())
        matrix = _matrix([{called[name] for name in one} for one in several], classes)
    else:
        classes = tuple(class_name(names[number]) for number in columns.flags)
        matrix = _flags(path, names, columns.flags, rows)
    if len(classes) < 2:
        what = f"only the class {classes[0]!r}" if classes else "no class at all"
        raise DataError(f"{path}: has {what}; a `label` column with two names is what tells two")
    never = np.flatnonzero(~matrix.any(axis=0))
    if len(never):
        raise DataError(f"{path}: no image is of the class {classes[never[0]]!r}; remove it")
    return matrix, classes


def _one_label(path: Path, column: int, rows: Rows) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    texts = [row[column].strip() for _, row in rows]
    for (line, _), text in zip(rows, texts, strict=True):
        if not text:
            raise DataError(
                f"{path}: line {line} has no label; where images may have none or several, call "
                "the column `labels`"
            )
        if BAR in text:
            raise DataError(
                f"{path}: line {line} has the label {text!r}; for several labels an image call "
                "the column `labels`"
            )
    called = same_numbers(set(texts))
    classes = ordered_classes(called.values())
    place = {name: number for number, name in enumerate(classes)}
    return np.array([place[called[text]] for text in texts], np.int32), classes


def _split_labels(cell: str) -> set[str]:
    return {name.strip() for name in cell.split(BAR) if name.strip()}


def _matrix(several: Sequence[set[str]], classes: Sequence[str]) -> NDArray[np.uint8]:
    place = {name: number for number, name in enumerate(classes)}
    matrix = np.zeros((len(several), len(classes)), np.uint8)
    for row, names in enumerate(several):
        matrix[row, [place[name] for name in names]] = 1
    return matrix


def _flags(path: Path, names: list[str], flags: Sequence[int], rows: Rows) -> NDArray[np.uint8]:
    """Return the columns of 0s and 1s, (n_images, n_classes)."""
    matrix = np.zeros((len(rows), len(flags)), np.uint8)
    values = {"0": 0, "1": 1}
    for number, (line, row) in enumerate(rows):
        for place, column in enumerate(flags):
            value = values.get(row[column].strip())
            if value is None:
                raise DataError(
                    f"{path}: line {line}, column {names[column]!r}: {row[column].strip()!r:.40} "
                    "is not 0 or 1; without `label` or `labels` every other column is a class"
                )
            matrix[number, place] = value
    return matrix


@dataclass(frozen=True, kw_only=True)
class FoundSplits:
    """The split of each row, the columns that give it, and notes for a warning."""

    by_row: list[str]
    columns: tuple[int, ...]
    notes: tuple[str, ...] = ()

    __repr__ = short_repr


def find_splits(
    path: Path, names: Sequence[str], columns: Sequence[int], rows: Rows, *, may_be_classes: bool
) -> FoundSplits | None:
    """Find the columns that give the split of each row, or None.

    ``split`` is such a column. Without it, a column with a similar name (``set``, ``data set``,
    ``subset``, ``phase``, ``partition``, ``fold``, ``usage``) whose values are names of splits; see
    `split_words`. Or columns of yes and no (``1``, ``True``, ``yes``) that are named like a split:
    ``is_valid``, ``test``, ``in_train``. A row with no in all of them is train; where only training
    rows are marked, the others are test, which chooses nothing.

    Parameters
    ----------
    names : sequence of str
        Of all columns.
    columns : sequence of int
        Those that have no other role.
    rows : sequence of (line, cells)
    may_be_classes : bool
        Whether columns without a role are classes of 0s and 1s: one called ``train`` is a class
        then, unless there is another such column.

    Raises
    ------
    DataError
        A column looks like a split, but its values are ambiguous.
    """
    if not rows:
        return None
    values = {n: [row[n].strip() for _, row in rows] for n in columns}
    exact = next((n for n in columns if names[n].lower() == SPLIT), None)
    if exact is not None:
        return _exact_column(path, exact, values[exact], rows)
    found = [
        reading
        for n in columns
        if (reading := _word_column(path, names[n], n, values[n], rows)) is not None
    ]
    flags = _flag_columns(path, names, values, may_be_classes=may_be_classes)
    if flags:
        found.append(_read_flags(path, names, flags, values, rows))
    for other in found[1:]:
        if other.by_row != found[0].by_row:
            first, second = names[found[0].columns[0]], names[other.columns[0]]
            raise DataError(
                f"{path}: `{first}` and `{second}` both read like a split, and differ; {_ADVICE}"
            )
    return found[0] if found else None


def _exact_column(path: Path, column: int, texts: list[str], rows: Rows) -> FoundSplits:
    read = split_words(set(texts), whole=True)
    if read is None:
        line, text = next(
            (line, text)
            for (line, _), text in zip(rows, texts, strict=True)
            if text.lower() in ("", *_NUMBERS) or split_words([text], whole=True) is None
        )
        raise DataError(f"{path}: line {line}: the split {text!r} is not train, val or test")
    by_row = [read[text] for text in texts]
    near = [text for text in read if text.lower() not in EXACT]
    readings = ", ".join(f"{text!r} as {read[text]}" for text in sorted(near))
    notes = (f"read in `split`: {readings}",) if near else ()
    return FoundSplits(by_row=by_row, columns=(column,), notes=notes)


def _word_column(
    path: Path, name: str, column: int, texts: list[str], rows: Rows
) -> FoundSplits | None:
    """Read a column under another name as the split; None where it is not one."""
    different = set(texts)
    called = "".join(name_words(name)) in _CALLED or numbers_folds(name)
    if len(different) > 20:
        return None
    read = split_words(different, whole=True)
    if read is not None and called:
        by_row = [read[text] for text in texts]
        note = f"the column `{name}` is read as the split ({_counts(by_row)})"
        return FoundSplits(by_row=by_row, columns=(column,), notes=(note,))
    if read is not None and tells_apart(read.values()):
        raise DataError(
            f"{path}: the column `{name}` holds {_list(sorted(different))}, which reads like a "
            f"split; {_ADVICE}, or remove it"
        )
    if not called:
        words = {text for text in different if text.lower() not in _NOTHING}
        if len(words) < len(different) and split_words(words, whole=True):
            raise DataError(
                f"{path}: the column `{name}` holds {_list(sorted(different))}, which reads like "
                f"a split; {_ADVICE}, or remove it"
            )
        train = [text for text in different if split_words([text], whole=True) == {text: "train"}]
        if train and 1 < len(different) <= _FEW:
            raise DataError(
                f"{path}: the column `{name}` holds {_list(sorted(different))}, of which "
                f"{train[0]!r} reads like a split; {_ADVICE}, or remove it"
            )
        return None
    odd = [text for text in different if text.lower() not in EXACT]
    if 0 < len(odd) < len(different):
        line, text = next(
            (n, text) for (n, _), text in zip(rows, texts, strict=True) if text in odd
        )
        raise DataError(
            f"{path}: line {line}: the column `{name}` reads like a split, and {text!r} in it does "
            f"not; {_ADVICE}, or remove it"
        )
    lower = {text.lower() for text in different}
    fold = numbers_folds(name) and len(lower) > 2
    if len(lower) > 1 and lower <= _NUMBERS and not fold:
        raise DataError(
            f"{path}: the column `{name}` holds {_list(sorted(different))} and reads like a split, "
            f"but not which is which; {_ADVICE}, or remove it"
        )
    return None


def numbers_folds(name: str) -> bool:
    """Whether a column is named like one of fold numbers: ``fold``, ``cv_fold``, ``kfold``."""
    return bool(_FOLD & {*name_words(name)})


def _flag_columns(
    path: Path, names: Sequence[str], values: Mapping[int, list[str]], *, may_be_classes: bool
) -> dict[str, int]:
    """Return the columns of yes and no that are named like a split, by split."""
    found: dict[str, int] = {}
    for column, texts in values.items():
        read = split_words([names[column]], whole=True)
        if read is None:
            continue
        odd = {text.lower() for text in texts} - _TRUE - _FALSE
        if odd:
            marked = len(odd) == 2 and odd & _NOTHING  # a cross marks yes
            gaps = odd == {""} or names[column].lower() not in EXACT
            if marked or (len(odd) < len(set(texts)) and gaps):
                raise DataError(
                    f"{path}: the column `{names[column]}` reads like {next(iter(read.values()))}, "
                    f"and holds {_list(sorted(set(texts)))}; {_ADVICE}, or remove it"
                )
            continue
        (split,) = read.values()
        if split in found and values[found[split]] != texts:
            raise DataError(
                f"{path}: `{names[found[split]]}` and `{names[column]}` both read like {split}, "
                f"and differ; {_ADVICE}"
            )
        found.setdefault(split, column)
    alone = [names[column].lower() for column in found.values()]
    return {} if may_be_classes and alone == ["train"] else found


def _read_flags(
    path: Path, names: Sequence[str], flags: Mapping[str, int], values: Mapping[int, list[str]],
    rows: Rows,
) -> FoundSplits:  # fmt: skip
    chosen = {split: [t.lower() in _TRUE for t in values[n]] for split, n in flags.items()}
    other = "train" if "train" not in flags else "val" if "test" in flags else "test"
    by_row = []
    for number, (line, _) in enumerate(rows):
        marked = [split for split, yes in chosen.items() if yes[number]]
        if len(marked) > 1 or (not marked and len(flags) == 3):
            what = " and ".join(marked) or "neither train nor val nor test"
            raise DataError(f"{path}: line {line} is {what} by its columns; {_ADVICE}")
        by_row.append(marked[0] if marked else other)
    for split, column in flags.items():
        if split != "train" and sum(chosen[split]) * 2 > len(rows) and "train" not in flags:
            raise DataError(
                f"{path}: the column `{names[column]}` would make {sum(chosen[split]):,} of "
                f"{len(rows):,} images {split}; {_ADVICE}, or rename it if it says something else"
            )
    which = " and ".join(f"`{names[column]}`" for column in flags.values())
    note = f"{which} read as the split ({_counts(by_row)})"
    return FoundSplits(by_row=by_row, columns=tuple(flags.values()), notes=(note,))


def _counts(by_row: Sequence[str]) -> str:
    return ", ".join(f"{split} {count:,}" for split, count in Counter(by_row).items())


def _list(texts: Sequence[str]) -> str:
    return ", ".join(map(repr, texts[:6])) + (", ..." if len(texts) > 6 else "")
