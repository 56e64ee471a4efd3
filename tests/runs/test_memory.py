"""Rows that stay in their file are read a few at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from probe.runs import memory
from probe.runs.memory import Fitting, SplitRows


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


def test_the_reckoning_covers_what_was_seen() -> None:
    """Peaks above the process before a fit, in MB, on real features and on 390,625 random rows."""
    seen = [
        (Fitting(solver="knn"), 2048, 60_000, 125),
        (Fitting(solver="knn", heads=20), 1280, 60_000, 146),
        (Fitting(solver="knn"), 1024, 390_625, 92),
        (Fitting(solver="dense"), 1280, 2_000, 178),
        (Fitting(solver="dense"), 512, 60_000, 182),
        (Fitting(solver="dense"), 1024, 390_625, 224),
        (Fitting(solver="dense", heads=3, hidden=(256,)), 1280, 60_000, 215),
        (Fitting(solver="ridge", heads=33), 512, 60_000, 83),
    ]
    for fitting, width, n_images, peak in seen:
        promised = fitting.workspace(width, n_images, 10) / 1e6
        assert peak <= promised <= peak + 110, fitting
    assert Fitting(solver="dense").workspace(1024, 390_625, 10) <= 400e6 - 168e6
