"""Read lists of images that are text: CSV, TSV, and lines of a path and a label as Caffe's."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from probe.core.records import check_regular
from probe.core.regular import read_regular
from probe.datasets.images.image_files import is_image_name, is_utf8
from probe.datasets.tables.cells import EXPECTED, Cells, Lines, check_size, image_columns, no_image
from probe.errors import DataError, UsageError

BLANKS = ""  # between cells: any number of them
DELIMITERS = {".csv": ",", ".tsv": "\t", ".txt": BLANKS}  # by ending
MOST_BYTES = 2**29
MOST_LINE = 2**22  # bytes; lines of twice that may pass
NO_UTF8 = "is not UTF-8; save it as UTF-8 text"
IGNORED = ("", "-")  # names in --columns
_CALLED = {",": "commas", ";": "semicolons", "\t": "tabs", " ": "blanks", BLANKS: "blanks"}
_TRIED = 20  # lines that show what separates the cells
_LOOKED_AT = 1 << 20  # characters in which these are
_NAMES = "name the columns: --columns path,label, or --columns path --unlabeled for paths alone"


@dataclass(frozen=True, kw_only=True)
class _Form:
    """How the lines of a list are read.

    Parameters
    ----------
    delimiter : str
        One sign, or `BLANKS`.
    names : list of str or None
        Of the columns; None where the first line has them.
    called : str
        Where the names come from, for the message on a line with another number of cells.
    """

    delimiter: str
    names: list[str] | None = None
    called: str = "the first"


def read_text_list(path: Path, columns: Sequence[str] = ()) -> Cells:
    """Read a list whose cells are separated by commas, tabs, semicolons or blanks.

    The first line names the columns. Where its cells are separated by another sign than the ending
    says, which shows in a column named as one of images, that sign is used; so is that of Excel's
    ``sep=;``. A ``.txt`` without names has a path and a label in each line, as Caffe's lists.
    Where blanks separate the cells, paths may have blanks in them. Empty lines and a byte order
    mark are ignored.

    Parameters
    ----------
    columns : sequence of str
        Names of the columns where the first line has none; ``-`` and ``""`` leave a column out.

    Raises
    ------
    DataError
        It is no such list, or larger than `MOST_BYTES`; the message has the line.
    """
    text, usual = _without_excels_line(read_text(path), DELIMITERS.get(path.suffix.lower(), ","))
    form = _form(path, text, [name.strip() for name in columns], usual)
    lines = _lines(path, text, form)
    names = form.names
    if names is None:
        try:
            _, first = next(lines)
        except StopIteration:
            raise DataError(f"{path}: is empty; {EXPECTED}") from None
        names = [name.strip() for name in first]
        if form.delimiter == BLANKS:
            form = replace(form, names=names)
            lines = islice(_lines(path, text, form), 1, None)
    numbers, rows = [], []
    for line, row in lines:
        if len(row) != len(names):
            if form.names is None and not image_columns(names):
                raise no_image(f"{path}: line 1", names)
            raise DataError(f"{path}: line {line} has {len(row)} cells, {form.called} {len(names)}")
        numbers.append(line)
        rows.append(row)
    check_size(str(path), len(names), len(rows))
    if columns:
        kept = [n for n, name in enumerate(names) if name not in IGNORED]
        names, rows = [names[n] for n in kept], [[row[n] for n in kept] for row in rows]
    found, expected = (_CALLED.get(one, one) for one in (form.delimiter, usual))
    cells = Cells(
        names=names,
        rows=rows,
        lines=Lines(place=str(path), numbers=numbers),
        header=f"{path}: --columns" if columns else f"{path}: line 1",
        notes=(f"its cells are separated by {found}",) if found != expected else (),
    )
    return cells if is_utf8(text) else _utf8_rows(cells)


def read_text(path: Path) -> str:
    """Return the text of a list; bytes that are not UTF-8 are surrogates.

    Raises
    ------
    DataError
        It cannot be read, is larger than `MOST_BYTES`, is UTF-16, or has a NUL byte or a line that
        is longer than rows of a list are.
    """
    check_file(path)
    try:
        data = read_regular(path, MOST_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        raise DataError(f"{path}: is UTF-16; save it as UTF-8")
    if (bad := data.find(b"\0")) >= 0:
        line = data.count(b"\n", 0, bad) + 1
        raise DataError(f"{path}: line {line} holds a NUL byte; save it as UTF-8 text")
    for start in range(0, len(data) - MOST_LINE, MOST_LINE):
        part = data[start : start + MOST_LINE]
        if b"\n" not in part and b"\r" not in part:
            line = data.count(b"\n", 0, start) + 1
            raise DataError(
                f"{path}: line {line} has more than {MOST_LINE // 2**20} MiB: no row of a list"
            )
    return data.decode("utf-8-sig", "surrogateescape")


def check_file(path: Path, most: int | None = MOST_BYTES) -> None:
    """Refuse a list that is no regular file, which reading may not end, or a very large one.

    Parameters
    ----------
    most : int or None
        Bytes; None for any number.

    Raises
    ------
    DataError
        It is a folder, a pipe or a device, or larger.
    """
    size = check_regular(path)
    if most is not None and size > most:
        raise DataError(
            f"{path}: has {size / 2**20:,.0f} MiB; a list of images may have "
            f"{most // 2**20}; divide it"
        )


def _without_excels_line(text: str, usual: str) -> tuple[str, str]:
    """Return the text, and what separates the cells by its ending or by ``sep=;``."""
    if start := re.match(r'"?sep=([;,:|^\t ])"?\r?\n', text):
        return "\n" + text[start.end() :], start[1]  # an empty line, to keep their numbers
    return text, usual


def _form(path: Path, text: str, columns: list[str], usual: str) -> _Form:
    first = _first_lines(text)
    if columns:
        if all(name in IGNORED for name in columns):
            raise UsageError("--columns names no column; give for example path,label")
        if first:
            _check_no_names(path, first[0])
        delimiter = _delimiter(first, columns, usual)
        return _Form(delimiter=delimiter, names=columns, called="--columns names")
    head = first[0].replace('"', "") if first else ""
    others = (";", "\t", ",", BLANKS) if usual == BLANKS or usual not in head else ()
    for other in others:
        names = [name.strip() for name in head.split(other or None)]
        if len(names) > 1 and image_columns(names) and not any(map(str.isdigit, names)):
            # one blank exactly, as pandas writes it, leaves cells empty
            single = all(len(_cells(line, " ", None)) == len(names) for line in first)
            return _Form(delimiter=" " if other == BLANKS and single else other)
    if usual != BLANKS or not first:
        return _Form(delimiter=usual)
    names = ["path", "label"]
    delimiter = _delimiter(first, names, usual, surely=True)
    cells = _cells(first[0], delimiter, names)
    if len(cells) < 2:
        raise DataError(f"{path}: line 1 is {first[0]!r:.80}, no path and a label; {_NAMES}")
    if not is_image_name(cells[0]) and is_image_name(cells[0].split()[0]):
        raise DataError(
            f"{path}: line 1 has more than a path and a label; name the columns, for example "
            "--columns path,cat,dog"
        )
    return _Form(delimiter=delimiter, names=names, called="expected")


def _first_lines(text: str) -> list[str]:
    """Return the first lines that are not empty, of which there may be fewer than `_TRIED`."""
    lines = re.split(r"\r\n|\n|\r", text[:_LOOKED_AT])
    if len(text) > _LOOKED_AT and len(lines) > 1:
        lines.pop()  # a part of one
    return [line for line in lines if line.strip()][:_TRIED]


def _check_no_names(path: Path, line: str) -> None:
    """Refuse ``--columns`` for a list whose first line has names."""
    names = re.split(r"[,;\t ]", line.replace('"', "").lower())
    if len(names) > 1 and {*names} & {"label", "labels"} and image_columns(names):
        raise UsageError(
            f"{path}: line 1 has names of columns ({line:.80}); leave out --columns, which is for "
            "lists without them"
        )


def _delimiter(first: Sequence[str], names: list[str], usual: str, *, surely: bool = False) -> str:
    """Return what separates the cells of lines whose columns are known.

    Parameters
    ----------
    surely : bool
        Whether another sign than usual has to leave names that end as those of images do.
    """
    images = image_columns(names)

    def fits(line: str, delimiter: str, *, named: bool) -> bool:
        cells = _cells(line, delimiter, names)
        if len(cells) != len(names):
            return False
        return not named or not images or is_image_name(cells[images[0]].strip())

    for named in (True,) if surely else (True, False):
        for one in dict.fromkeys((usual, "\t", ";", ",", BLANKS)):
            if first and all(fits(line, one, named=named) for line in first):
                return one
    return usual


def _cells(line: str, delimiter: str, names: Sequence[str] | None) -> list[str]:
    """Return the cells of one line; none where it cannot be read."""
    if delimiter != BLANKS:
        try:
            return next(csv.reader([line], delimiter=delimiter, strict=True), [])
        except csv.Error:
            return []
    if '"' in line:
        plain = line.strip().replace("\t", " ")
        quoted = csv.reader([plain], delimiter=" ", skipinitialspace=True, strict=True)
        try:
            return next(quoted, [])
        except csv.Error:
            return []
    images = image_columns(names or ())
    if not names or len(images) != 1:
        return line.split()
    cells = line.split(None, images[0])  # what is left over is the path's
    return [*cells[:-1], *cells[-1].rsplit(None, len(names) - 1 - images[0])] if cells else []


def _lines(path: Path, text: str, form: _Form) -> Iterator[tuple[int, list[str]]]:
    """Yield number and cells of each line that is not empty."""
    if form.delimiter == BLANKS:
        for line, one in enumerate(io.StringIO(text, newline=None), 1):
            if one.strip():
                if not (cells := _cells(one, BLANKS, form.names)):
                    raise DataError(f"{path}: line {line} cannot be read: its quotes do not close")
                yield line, cells
        return
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=form.delimiter, strict=True)
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


def _utf8_rows(cells: Cells) -> Cells:
    """Leave out rows whose image's name is not UTF-8."""
    if not all(map(is_utf8, cells.names)):
        raise DataError(f"{cells.header} {NO_UTF8}")
    images = image_columns(cells.names)
    good, left_out = [], []
    for row, one in enumerate(cells.rows):
        odd = [number for number, cell in enumerate(one) if not is_utf8(cell)]
        if not set(odd) <= set(images):
            raise DataError(f"{cells.at(row)} {NO_UTF8}")
        if odd:
            left_out.append((cells.lines.numbers[row], one[odd[0]].strip()))
        else:
            good.append(row)
    return replace(cells.take(good), not_utf8=tuple(left_out))
