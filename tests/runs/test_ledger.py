"""Looks at test rows are counted by what the rows are, and cannot be taken back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from probe.errors import UsageError
from probe.runs.ledger import read_test_evaluations, record_test_evaluation

ROWS = np.random.default_rng(0).integers(0, 256, (50, 16), dtype=np.uint8)


def test_looks_are_counted_whatever_the_order_of_rows(tmp_path: Path) -> None:
    assert record_test_evaluation(tmp_path / "ledger", ROWS, command="one", entry="a") == 1
    assert record_test_evaluation(tmp_path / "ledger", ROWS[::-1], command="two", entry="b") == 2
    assert record_test_evaluation(tmp_path / "ledger", ROWS[1:], command="three", entry="a") == 1
    looks = read_test_evaluations(tmp_path / "ledger", ROWS)
    assert [look["command"] for look in looks] == ["one", "two"]


def test_looks_at_once_are_all_counted(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        numbers = list(
            pool.map(
                lambda n: record_test_evaluation(tmp_path, ROWS, command=str(n), entry="a"),
                range(40),
            )
        )
    assert len(read_test_evaluations(tmp_path, ROWS)) == 40
    assert sorted(numbers) == list(range(1, 41))  # no number is told twice


def test_a_torn_line_still_counts(tmp_path: Path) -> None:
    record_test_evaluation(tmp_path, ROWS, command="one", entry="a")
    (path,) = tmp_path.iterdir()
    with path.open("a") as file:
        file.write("{torn\n")
    assert record_test_evaluation(tmp_path, ROWS, command="two", entry="a") == 3


def test_where_looks_cannot_be_counted_there_are_none(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text("a file")
    with pytest.raises(UsageError, match="stays closed"):
        record_test_evaluation(tmp_path / "ledger", ROWS, command="one", entry="a")
