"""What a table says of images beside labels and splits, as far as it can be kept."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from probe.core.columns import Column
from probe.datasets.spec import Dataset

log = logging.getLogger(__name__)

MOST_BYTES = 1 << 16  # of a cell: a caption is far shorter, and what is longer is no description


def with_sound_columns(dataset: Dataset) -> Dataset:
    """Return a dataset whose columns can be kept; a line is logged for each that is left out."""
    if not any(split.columns for split in dataset.splits.values()):
        return dataset
    coded = {split: _coded(one.columns) for split, one in dataset.splits.items()}
    reasons: dict[str, str] = {}
    for columns in coded.values():
        for name, column in columns.items():
            if name not in reasons and (why := _fault(name, column.values)):
                reasons[name] = why
    for name, why in reasons.items():
        log.warning("%s: the column %r is left out: %s", dataset.name, name, why)
    splits = {
        split: replace(
            dataset.splits[split],
            columns={name: one for name, one in columns.items() if name not in reasons},
        )
        for split, columns in coded.items()
    }
    return replace(dataset, splits=splits)


def _coded(columns: Mapping[str, Sequence[str]]) -> dict[str, Column]:
    return {name: Column.of(cells) for name, cells in columns.items()}


def _fault(name: str, values: Sequence[str]) -> str:
    """Return why a column cannot be kept; nothing where it can."""
    try:
        name.encode()
        "".join(values).encode()
    except UnicodeEncodeError:
        return "it is not UTF-8"
    if max(map(len, values), default=0) * 4 <= MOST_BYTES:
        return ""
    longest = max(len(one.encode()) for one in values)
    if longest <= MOST_BYTES:
        return ""
    return f"a cell has {longest:,} bytes, and at most {MOST_BYTES:,} are kept"
