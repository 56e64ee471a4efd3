"""Turn an index into row numbers as NumPy does; an invalid one raises RowIndexError."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.errors import RowIndexError


def row_numbers(index: Any, count: int) -> NDArray[np.intp]:
    """Return the row numbers that an index selects, in its order.

    Parameters
    ----------
    index : slice, sequence or array of whole numbers, or of a bool for each row
        Negative numbers count from the end.
    count : int
        How many rows there are.

    Returns
    -------
    intp, (n,)
        From 0 to `count` - 1.

    Raises
    ------
    RowIndexError
        There is no such row, or it is no such index: floats, text, two dimensions, a mask of
        another length.
    """
    if isinstance(index, slice):
        return np.arange(*_bounds(index, count), dtype=np.intp)
    try:
        given = np.asarray(index)
    except ValueError:  # lists of different lengths
        raise RowIndexError("rows are selected by one list of numbers, not by several") from None
    if given.ndim != 1:
        words = "one number" if given.ndim == 0 else f"an array of shape {given.shape}"
        raise RowIndexError(f"rows are selected by a list of numbers, and this is {words}")
    if given.dtype.kind == "b":
        if len(given) != count:
            raise RowIndexError(f"a mask of {len(given):,} for {count:,} rows; it has one for each")
        return np.flatnonzero(given)
    if not given.size:
        return np.empty(0, np.intp)
    if given.dtype.kind not in "iu":
        raise RowIndexError(f"rows are whole numbers or a mask, not {_kind(given)}")
    low, high = int(given.min()), int(given.max())
    if low < -count or high >= count:
        raise RowIndexError(f"row {high if high >= count else low:,} of {count:,} rows")
    numbers = given.astype(np.intp)
    return np.where(numbers < 0, numbers + count, numbers)


def rows_of_ids(wanted: Sequence[str], ids: Sequence[str]) -> tuple[NDArray[np.intp], list[str]]:
    """Return where each wanted id is among others, (n,), and the wanted ids that are not there.

    Where some are not there, the rows are of the others.
    """
    place = {one: row for row, one in enumerate(ids)}
    rows = [place[one] for one in wanted if one in place]
    missing = [one for one in wanted if one not in place] if len(rows) < len(wanted) else []
    return np.array(rows, np.intp), missing


def row_number(row: Any, count: int) -> int:
    """Return the number of one row, from 0 to `count` - 1; a negative one counts from the end.

    Raises
    ------
    RowIndexError
        There is no such row, or it is no whole number.
    """
    if isinstance(row, bool | np.bool_):
        raise RowIndexError("a row is a whole number, not True or False; a mask has one for each")
    try:
        number = operator.index(row)
    except TypeError:
        raise RowIndexError(f"a row is a whole number, not a {type(row).__name__}") from None
    if not -count <= number < count:
        raise RowIndexError(f"row {number:,} of {count:,} rows")
    return number % count


def is_one_row(index: Any) -> bool:
    """Whether an index selects a single row.

    Raises
    ------
    RowIndexError
        It also selects columns.
    """
    if isinstance(index, tuple):
        raise RowIndexError("rows are selected by one index; select columns of the result")
    return not isinstance(index, slice | list | range) and np.ndim(index) == 0


def _bounds(index: slice, count: int) -> tuple[int, int, int]:
    try:
        return index.indices(count)
    except (TypeError, ValueError) as error:
        raise RowIndexError(f"rows {index.start}:{index.stop}:{index.step}: {error}") from None


def _kind(given: NDArray[Any]) -> str:
    words = {"f": "floats", "c": "complex numbers", "U": "text", "S": "bytes"}
    return words.get(given.dtype.kind, f"of type {given.dtype}")
