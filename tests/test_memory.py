"""Rows that stay in their file are read a few at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from probe import memory
from probe.memory import SplitRows


class Split:
    """A split that notes what is asked of it between two releases."""

    def __init__(self) -> None:
        self.features = np.arange(3000.0).reshape(1000, 3)
        self.asked: list[Any] = []
        self.released = 0

    def __len__(self) -> int:
        return len(self.features)

    def rows(self, index: Any) -> Any:
        assert self.released == len(self.asked)
        self.asked.append(index)
        return self.features[index]

    def release(self) -> None:
        self.released += 1


@pytest.mark.parametrize(
    ("index", "most"),
    [
        (np.arange(1000), 20),
        (np.arange(1000)[::-1], 20),
        (np.sort(np.random.default_rng(0).permutation(1000)[:700]), 20),
        (np.random.default_rng(1).integers(0, 1000, 57), memory.SCATTERED),
        (np.array([3, 3, 3]), 3),
        (np.array([], np.intp), 0),
    ],
)
def test_rows_far_apart_are_read_fewer_at_a_time_and_all_come_in_order(
    index: Any, most: int
) -> None:
    split = Split()
    source = SplitRows(split=split, step=20)  # type: ignore[arg-type]
    assert (source.rows(index) == split.features[index]).all()
    assert max(len(one) for one in split.asked) <= most
    assert split.released == len(split.asked)
    for one in split.asked:
        assert len(one) <= memory.SCATTERED or np.ptp(one) < memory.SPAN * 20
