"""CSV files that people open in spreadsheets: no cell of them is run as a formula.

Names of files and classes come from anywhere, and a spreadsheet runs ``=HYPERLINK(...)`` when it
opens a file. A text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a line break, and is no
number, stands behind a ``'``; so does one that begins with ``'`` itself. Hence a cell that begins
with ``'`` is the text after it, and every other is as it is.

What a program reads, as a list that is a dataset, has exact cells.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from probe.core.files import write_text

_BEGINS = ("=", "+", "-", "@", "\t", "\r", "\n")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class Sheet:
    """Writes rows into an open text file, whose line ends must not be translated.

    Parameters
    ----------
    exact : bool
        Leave formulas as they are, in files that a program reads.
    """

    def __init__(self, file: TextIO, *, exact: bool = False) -> None:
        self._file, self._exact = file, exact
        # a carriage return is in quotes only if it is part of what ends a line
        self._writer = csv.writer(self, lineterminator="\r\n")

    def row(self, cells: Iterable[object]) -> None:
        """Write a row of texts, numbers and None, which is an empty cell."""
        self._writer.writerow(cells if self._exact else map(harmless, cells))

    def write(self, line: str) -> None:
        """Write a line of `csv`'s, which ends as it does under Linux."""
        self._file.write(f"{line[:-2]}\n")


def is_formula(text: str) -> bool:
    """Whether a spreadsheet may run a cell instead of showing it."""
    return text.startswith(_BEGINS) and not _NUMBER.fullmatch(text)


def harmless(cell: object) -> object:
    """Return a cell that no spreadsheet runs."""
    if isinstance(cell, str) and (is_formula(cell) or cell.startswith("'")):
        return f"'{cell}"
    return cell


def write_sheet(path: Path, columns: Sequence[str], lines: Iterable[Mapping[str, object]]) -> None:
    """Write a whole file by rename; what a line lacks is an empty cell.

    Raises
    ------
    CacheError
        The file cannot be written.
    """
    text = io.StringIO()
    sheet = Sheet(text)
    sheet.row(columns)
    for line in lines:
        sheet.row(line.get(name, "") for name in columns)
    write_text(path, text.getvalue())
