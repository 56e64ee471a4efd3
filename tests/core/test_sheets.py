"""Cells of CSV files that spreadsheets do not run, and that are read back as they were."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.core.sheets import Sheet, is_formula, write_sheet

FORMULAS = (
    "=1+2", "+1+2", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "-", "--1", "-1-1", "=", "+x",
)  # fmt: skip
HARMLESS = ("-3", "+4.5", "-.5e-7", "1e9", "3-4", "a=b", "cat", "", " =1")


def written(*cells: object) -> list[str]:
    text = io.StringIO()
    Sheet(text).row(cells)
    return next(csv.reader(io.StringIO(text.getvalue(), newline="")))


@pytest.mark.parametrize("cell", FORMULAS)
def test_a_formula_becomes_text(cell: str) -> None:
    assert is_formula(cell)
    assert written(cell, "x") == [f"'{cell}", "x"]


def test_all_else_is_as_it_was() -> None:
    assert written(*HARMLESS) == list(HARMLESS)
    assert written(-3, -0.5, float("-inf"), None) == ["-3", "-0.5", "-inf", ""]


SIGNS = st.characters(codec="utf-8") | st.sampled_from("=+-@'\t\r\n13,;\"")


@settings(max_examples=50)
@given(st.lists(st.text(SIGNS), min_size=1))
def test_the_rule_is_undone_by_the_first_sign(cells: list[str]) -> None:
    found = written("x", *cells)[1:]
    assert not any(map(is_formula, found))
    assert [one.removeprefix("'") for one in found] == cells


def test_what_a_line_lacks_is_empty(tmp_path: Path) -> None:
    write_sheet(tmp_path / "x.csv", ("a", "=b"), [{"a": 1}, {"=b": "-x", "a": -1}])
    assert (tmp_path / "x.csv").read_text() == "a,'=b\n1,\n-1,'-x\n"
