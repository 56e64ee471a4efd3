"""Columns that cannot be kept are left out of all splits, with a line for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from probe.datasets.load import chosen_images
from probe.datasets.tables.columns import MOST_BYTES
from tests.fakes import make_dataset

BROKEN = {
    "long": ["", "é" * (MOST_BYTES // 2) + "."],
    "half of a pair": ["a", "\ud800"],
    "half \udfff": ["a", "b"],
}
SAID = {
    "long": f"'long' is left out: a cell has {MOST_BYTES + 1:,} bytes",
    "half of a pair": "'half of a pair' is left out: it is not UTF-8",
    "half \udfff": r"'half \udfff' is left out: it is not UTF-8",
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_kept_is_left_out(name: str, caplog: pytest.LogCaptureFixture) -> None:
    dataset = make_dataset(train=4, test=2)

    def columns(cells: Sequence[str]) -> dict[str, Sequence[str]]:
        return {
            "site": ["x"] * len(cells),
            name: cells,
            "most": ["é" * (MOST_BYTES // 2)] * len(cells),
        }

    splits = {
        "train": replace(dataset.splits["train"], columns=columns(["a"] * 4)),
        "test": replace(dataset.splits["test"], columns=columns(BROKEN[name])),
    }
    found = chosen_images(replace(dataset, splits=splits), limit=3)
    for split in found.splits.values():
        assert list(split.columns) == ["site", "most"]
        assert split.columns["site"] == ["x"] * len(split)
    (said,) = caplog.messages
    assert SAID[name] in said
    caplog.clear()
    assert chosen_images(found, limit=3).splits["train"].columns == found.splits["train"].columns
    assert caplog.messages == []
