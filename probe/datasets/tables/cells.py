"""The cells of a list of images as text, wherever they come from, before their roles are known."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from probe.core.short_repr import short_repr
from probe.datasets.images.image_files import is_image_name
from probe.errors import DataError, UsageError

IMAGE_COLUMNS = ("image", "file", "path", "filename")
BAR = "|"  # between the labels of one image
EXPECTED = "expected a line of names: image,label or image,labels or image and a column a class"
MOST_COLUMNS = 10_000
MOST_CELLS = 100_000_000
_ALSO = frozenset(  # in lower case, without signs; read where none of `IMAGE_COLUMNS` is there
    (
        "filename", "filepath", "imagefile", "imagefilename", "imagename", "imagepath", "img",
        "imgfile", "imgname", "imgpath", "relativepath", "relpath",
    )
)  # fmt: skip
_SHOWN = 12  # names of columns


@dataclass(frozen=True, kw_only=True)
class Lines:
    """Where rows stand.

    Parameters
    ----------
    place : str
        What is read, for messages: usually the path of a file.
    numbers : sequence of int
        Of each row in its file, from 1.
    unit : str
        What the numbers count: ``line`` or ``row``.
    places : sequence of str
        The file of each row, where they come from several; otherwise empty.
    """

    __repr__ = short_repr

    place: str
    numbers: Sequence[int]
    unit: str = "line"
    places: Sequence[str] = ()

    def at(self, row: int) -> str:
        """Return file and line of a row, for the beginning of a message."""
        return f"{self.places[row] if self.places else self.place}: {self.of(row)}"

    def of(self, row: int, beside: int | None = None) -> str:
        """Return the line of a row, ``line 3``; with its file if another row is in another."""
        if beside is not None and self.places and self.places[row] != self.places[beside]:
            return self.at(row)
        return f"{self.unit} {self.numbers[row]}"

    def take(self, rows: Sequence[int]) -> Lines:
        """Return those of some rows."""
        return replace(
            self,
            numbers=[self.numbers[row] for row in rows],
            places=[self.places[row] for row in rows] if self.places else (),
        )


@dataclass(frozen=True, kw_only=True)
class Cells:
    """The names of columns, and rows of text.

    Parameters
    ----------
    names : sequence of str
        Of the columns; a name may be empty.
    rows : list of list of str
        As many cells as names in each.
    lines : Lines
        Where the rows stand.
    header : str
        Where the names stand, for messages: ``birds.csv: line 1``.
    notes : tuple of str
        Sentences on how the file was read, each for a warning.
    not_utf8 : tuple of (line, name)
        Rows left out because the image's name is not UTF-8.
    """

    __repr__ = short_repr

    names: Sequence[str]
    rows: list[list[str]]
    lines: Lines
    header: str
    notes: tuple[str, ...] = ()
    not_utf8: tuple[tuple[int, str], ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def place(self) -> str:
        """What was read, for messages."""
        return self.lines.place

    def at(self, row: int) -> str:
        """Return file and line of a row, for the beginning of a message."""
        return self.lines.at(row)

    def column(self, number: int) -> list[str]:
        """Return the cells of a column without spaces around them, (n_rows,)."""
        return [row[number].strip() for row in self.rows]

    def take(self, rows: Sequence[int]) -> Cells:
        """Return those rows, in that order."""
        return replace(self, rows=[self.rows[row] for row in rows], lines=self.lines.take(rows))

    def find(self, name: str, option: str) -> int:
        """Return the number of the column that an option names, in any case.

        Raises
        ------
        UsageError
            There is no such column, or there are several that differ only in case.
        """
        if name and name in self.names:
            return list(self.names).index(name)
        folded = name.strip().casefold()
        found = [n for n, one in enumerate(self.names) if folded and one.casefold() == folded]
        if len(found) != 1:
            what = "are several columns" if found else "is no column"
            raise UsageError(
                f"{option} {name}: {what} of {self.place}, which has {named(self.names)}"
                + did_you_mean(name, self.names)
            )
        return found[0]


def joined(parts: Sequence[Cells], place: str) -> Cells:
    """Return the rows of several tables, one after the other.

    A column that a table lacks is empty in its rows.

    Parameters
    ----------
    place : str
        What messages on the whole begin with, where there are several.
    """
    if not parts:
        raise DataError(f"{place}: there is no list of images; check the path")
    if len(parts) == 1:
        return parts[0]
    names = list(dict.fromkeys(name for cells in parts for name in cells.names))
    rows = []
    for cells in parts:
        order = {name: n for n, name in enumerate(cells.names)}
        found = [order.get(name) for name in names]
        rows += [["" if n is None else row[n] for n in found] for row in cells.rows]
    return Cells(
        names=names,
        rows=rows,
        lines=Lines(
            place=place,
            numbers=[number for cells in parts for number in cells.lines.numbers],
            unit=parts[0].lines.unit,
            places=[cells.place for cells in parts for _ in cells.rows],
        ),
        header=f"{place}:",
        notes=tuple(dict.fromkeys(note for cells in parts for note in cells.notes)),
        not_utf8=tuple(one for cells in parts for one in cells.not_utf8),
    )


def with_column(cells: Cells, name: str, values: Sequence[str]) -> Cells:
    """Return cells with one more column.

    Parameters
    ----------
    values : sequence of str, (n_rows,)
    """
    rows = [[*row, value] for row, value in zip(cells.rows, values, strict=True)]
    return replace(cells, names=[*cells.names, name], rows=rows)


def image_columns(names: Sequence[str]) -> list[int]:
    """Return the columns whose names say that they hold the images' paths.

    Those called as one of `IMAGE_COLUMNS`, in any case; without them ``file_name``, ``image path``
    and the like.
    """
    found = [n for n, name in enumerate(names) if name.strip().lower() in IMAGE_COLUMNS]
    return found or [
        n for n, name in enumerate(names) if re.sub(r"[\W_]+", "", name.lower()) in _ALSO
    ]


def no_image(header: str, names: Sequence[str], rows: Sequence[Sequence[str]] = ()) -> DataError:
    """Return the error that no column is called as one of images, with the one to rename."""
    how = EXPECTED
    if len(names) == 1:
        how += ", separated by commas, semicolons or tabs"
    for name, cell in zip(names, rows[0] if rows else (), strict=False):
        if name and is_image_name(cell.strip()):
            how = f"rename `{name}`, if it has the paths of images, to `image`"
    if any(map(is_image_name, names)):
        how = "a list without names of columns takes --columns, for example --columns path,label"
    return DataError(f"{header} has no column `image`, it has {named(names)!r}; {how}")


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return a hint at the column whose name is the nearest, or ``""``."""
    near = get_close_matches(name, list(names), n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def named(names: Sequence[str]) -> str:
    """Return names of columns for a message, some of them where there are many."""
    shown = ", ".join(f"{name:.60}" for name in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else "")


def check_size(place: str, columns: int, rows: int) -> None:
    """Refuse a table that would take more memory than a list of images does.

    Raises
    ------
    DataError
        It has more than `MOST_COLUMNS` columns or `MOST_CELLS` cells.
    """
    if columns > MOST_COLUMNS:
        raise DataError(
            f"{place}: has {columns:,} columns; a list of images may have {MOST_COLUMNS:,}"
        )
    if columns * rows > MOST_CELLS:
        raise DataError(
            f"{place}: has {columns * rows:,} cells; a list of images may have {MOST_CELLS:,}; "
            "leave out columns, or divide it"
        )
