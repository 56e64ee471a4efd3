"""Columns of text: some of their rows, one below the other, and the arrays they are kept as."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.core.columns import Column, decode_columns, encode_columns, free_names, names_of, stacked

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
CELLS = st.lists(TEXT | st.sampled_from(["", "a", "a\0", "zoë", '"\n\\', "\x1f"]), max_size=30)


@given(CELLS, st.data())
def test_rows_are_those_of_a_list(cells: list[str], data: st.DataObject) -> None:
    column = Column.of(cells)
    rows = data.draw(st.lists(st.integers(0, len(cells) - 1), max_size=9)) if cells else []
    some = column.take(np.array(rows, np.intp))
    assert (list(column), len(column)) == (cells, len(cells))
    assert list(some) == [cells[row] for row in rows] == list(some.compact())
    assert list(column[2:7]) == cells[2:7]
    assert [column[row] for row in range(len(cells))] == cells
    assert {value: cells.count(value) for value in cells} == column.counts()
    assert list(column.map([one.upper() for one in column.values])) == [x.upper() for x in cells]
    assert column == cells
    assert some.compact() == some
    assert {some.values[place] for place in some.used().tolist()} == set(some)
    assert column != [*cells, "more"]


@given(st.dictionaries(TEXT, CELLS, max_size=4))
def test_what_is_encoded_is_decoded_and_equal_columns_are_equal_bytes(
    columns: dict[str, list[str]],
) -> None:
    count = min(map(len, columns.values()), default=5)
    cut = {name: cells[:count] for name, cells in columns.items()}
    codes, values = encode_columns(cut, count)
    assert codes.shape == (len(cut), count)
    assert decode_columns(codes, values) == cut
    assert (values.size > 0) == bool(cut)
    whole = {name: Column.of(cells).take(np.arange(count)) for name, cells in columns.items()}
    again = encode_columns(whole, count)  # with values that no row has any more
    assert [one.tobytes() for one in again] == [codes.tobytes(), values.tobytes()]


def test_columns_below_one_another() -> None:
    parts = [({"site": ["x", "y"], "age": ["1", "2"]}, 2), ({}, 1), ({"site": ["y", "z", "x"]}, 3)]
    assert names_of(one for one, _ in parts) == ["site", "age"]
    site = stacked("site", parts)
    assert site == ["x", "y", "", "y", "z", "x"]
    assert sorted(site.values) == ["", "x", "y", "z"]
    assert stacked("age", parts) == ["1", "2", "", "", "", ""]
    assert stacked("age", parts[:1]) == ["1", "2"]


def test_names_that_are_taken() -> None:
    found = free_names(["label", "site", "label_"], ["id", "label"])
    assert found == {"label": "label_", "site": "site", "label_": "label__"}


GOOD = encode_columns({"site": ["x", "y", "x"]}, 3)


@pytest.mark.parametrize(
    ("codes", "text"),
    [
        (GOOD[0].astype(np.int32), None),
        (GOOD[0][0], None),
        (GOOD[0] + np.uint32(1), None),
        (GOOD[0], b""),
        (GOOD[0], b"{}"),
        (GOOD[0], b"[]"),
        (GOOD[0], b'[["site",["x","y"]],["age",[]]]'),
        (GOOD[0], b'[["site"]]'),
        (GOOD[0], b'[[1,["x","y"]]]'),
        (GOOD[0], b'[["site",["x",2]]]'),
        (GOOD[0], b'[["site","xy"]]'),
        (GOOD[0], b'[["site",["x"]]]'),
        (GOOD[0], b'[["site",["x","y"]]'),
        (GOOD[0], b'[["site",["x","\xff"]]]'),
        (GOOD[0], b'[["site",["x","\\ud800"]]]'),
        (np.vstack([GOOD[0]] * 2), b'[["site",["x","y"]],["site",["x","y"]]]'),
    ],
)
def test_arrays_of_something_else_are_refused(codes: np.ndarray, text: bytes | None) -> None:
    values = GOOD[1] if text is None else np.frombuffer(text, np.uint8)
    with pytest.raises(ValueError, match=r"."):
        decode_columns(codes, values)
