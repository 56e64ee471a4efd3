"""Columns of text beside rows: each kept as its different values, and which of them a row has.

So a patient or a site of a million rows is a small table and a million numbers: rows are taken, and
values counted, without touching text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from probe.core.records import loads_json

Codes = NDArray[np.uint32]
Columns = Mapping[str, "Column"]


class Column(Sequence[str]):
    """The cells of a column; equal to any sequence of the same texts.

    Parameters
    ----------
    values : sequence of str
        Its different texts.
    codes : uint32, (n_rows,)
        Which of them each row has.
    """

    __slots__ = ("codes", "values")

    def __init__(self, values: Sequence[str], codes: Codes) -> None:
        self.values, self.codes = values, codes

    @classmethod
    def of(cls, cells: Iterable[str]) -> Column:
        """Return a column of these cells, its values in the order in which they come first."""
        if isinstance(cells, Column):
            return cells
        number: dict[str, int] = {}
        found = [number.setdefault(cell, len(number)) for cell in cells]
        return cls(list(number), np.array(found, np.uint32))

    @classmethod
    def empty(cls, count: int) -> Column:
        """Return a column whose cells are empty."""
        return cls([""], np.zeros(count, np.uint32))

    def take(self, rows: NDArray[np.intp]) -> Column:
        """Return those rows, in that order."""
        return Column(self.values, self.codes[rows])

    def map(self, values: Sequence[str]) -> Column:
        """Return the column with each of its values replaced by the one at its place."""
        own = Column.of(values)
        return Column(own.values, own.codes[self.codes])

    def ordered(self, values: Sequence[str]) -> Column:
        """Return an equal column whose values stand in this order; all of its own are there."""
        place = {value: number for number, value in enumerate(values)}
        places = np.array([place[value] for value in self.values], np.uint32)
        return Column(values, places[self.codes])

    def used(self) -> NDArray[np.intp]:
        """Return the places of the values that some row has."""
        return np.flatnonzero(np.bincount(self.codes, minlength=len(self.values)))

    def counts(self) -> dict[str, int]:
        """Return how many rows have each value that some row has."""
        counts = np.bincount(self.codes, minlength=len(self.values)).tolist()
        return {value: n for value, n in zip(self.values, counts, strict=True) if n}

    def compact(self) -> Column:
        """Return an equal column without unused values, in the order in which they come first."""
        if not len(self.codes):
            return Column((), self.codes)
        used, first = np.unique(self.codes, return_index=True)
        order = used[np.argsort(first, kind="stable")]
        place = np.zeros(len(self.values), np.uint32)
        place[order] = np.arange(len(order), dtype=np.uint32)
        return Column([self.values[one] for one in order.tolist()], place[self.codes])

    def __len__(self) -> int:
        return len(self.codes)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> Column: ...
    def __getitem__(self, row: int | slice) -> str | Column:
        if isinstance(row, slice):
            return Column(self.values, self.codes[row])
        return self.values[int(self.codes[row])]

    def __iter__(self) -> Iterator[str]:
        values = self.values
        return (values[code] for code in self.codes.tolist())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        one, two = self.compact(), Column.of(other).compact()
        return list(one.values) == list(two.values) and np.array_equal(one.codes, two.codes)

    __hash__ = None  # type: ignore[assignment]  # as of any sequence that may be a list

    def __repr__(self) -> str:
        return f"<column of {len(self):,} rows, {len(self.values):,} values>"


def stacked(name: str, parts: Sequence[tuple[Mapping[str, Sequence[str]], int]]) -> Column:
    """Return a column of several tables one below the other.

    Parameters
    ----------
    parts : sequence of (columns, number of rows)
        One that lacks the column has empty cells there.
    """
    own = [
        Column.of(columns[name]) if name in columns else Column.empty(count)
        for columns, count in parts
    ]
    if len(own) == 1:
        return own[0]
    starts = np.cumsum([0, *(len(one.values) for one in own)])
    # a value of several parts is one
    whole = Column.of([value for one in own for value in one.values])
    places = [one.codes + np.uint32(start) for one, start in zip(own, starts, strict=False)]
    return Column(whole.values, whole.codes[np.concatenate(places)])


def names_of(tables: Iterable[Mapping[str, object]]) -> list[str]:
    """Return the names of the columns that some of the tables have, in their order."""
    return list(dict.fromkeys(name for columns in tables for name in columns))


def free_names(names: Iterable[str], taken: Iterable[str]) -> dict[str, str]:
    """Return what columns are called beside others: one whose name is taken ends with ``_``."""
    found, used = dict[str, str](), set(taken)
    for name in names:
        found[name] = name
        while found[name] in used:
            found[name] += "_"
        used.add(found[name])
    return found


def encode_columns(
    columns: Mapping[str, Sequence[str]], count: int
) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
    """Return columns as two arrays: equal columns give equal arrays.

    Parameters
    ----------
    count : int
        Number of rows.

    Returns
    -------
    codes : uint32, (n_columns, n_rows)
    values : uint8, (n_bytes,)
        A JSON list of a pair of name and values for each, in UTF-8; no byte without columns.
    """
    own = {name: Column.of(cells).compact() for name, cells in columns.items()}
    codes = np.array([one.codes for one in own.values()], np.uint32).reshape(len(own), count)
    pairs = [[name, list(one.values)] for name, one in own.items()]
    text = json.dumps(pairs, separators=(",", ":"), ensure_ascii=False) if pairs else ""
    return codes, np.frombuffer(text.encode(), np.uint8)


def decode_columns(codes: NDArray[Any], values: NDArray[Any]) -> dict[str, Column]:
    """Return the columns that `encode_columns` wrote.

    Raises
    ------
    ValueError
        The arrays are something else, or do not belong together.
    """
    if codes.dtype != np.uint32 or codes.ndim != 2 or values.dtype != np.uint8 or values.ndim != 1:
        raise ValueError("columns of another kind")
    pairs = loads_json(values.tobytes()) if values.size else []
    if not isinstance(pairs, list) or len(pairs) != len(codes):
        raise ValueError("columns without their values")
    found = {}
    for row, pair in zip(codes, pairs, strict=True):
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str):
            raise ValueError("columns without a name")
        name, own = pair
        if not isinstance(own, list) or not all(isinstance(one, str) for one in own):
            raise ValueError(f"values of the column {name!r} are not text")
        if name in found or (row.size and int(row.max()) >= len(own)):
            raise ValueError(f"the column {name!r} is there twice, or lacks values")
        found[name] = Column(own, row)
    return found
