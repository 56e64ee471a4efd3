"""Small entries for the tests of the cache, made without a network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.cache.features import FeatureSet
from probe.cache.store import Store
from probe.datasets.spec import Dataset
from probe.extraction.extract import Reuse, extract_features
from tests.fakes import FakeEngine, Silent, make_dataset, make_job


def extract(
    dataset: Dataset,
    store: Store,
    *,
    batch_size: int = 32,
    reuse: Reuse = "entry",
    dtype: str = "float32",
) -> tuple[FeatureSet, Silent]:
    """Run the fake engine over a dataset in memory."""
    observer = Silent()
    (entry,) = extract_features(
        make_job(dataset, dtype=dtype),
        store,
        lambda cuts: FakeEngine(cuts, batch_size),
        observer,
        workers=1,
        reuse=reuse,
    )
    return entry, observer


class StoppedError(Exception):
    """The power went."""


class Failing(FakeEngine):
    """Gives a few batches, then none."""

    def __init__(self, cuts: Any, batches: int) -> None:
        super().__init__(cuts, 32)
        self._left = batches

    def collect(self, ticket: Any) -> list[np.ndarray]:
        self._left -= 1
        if self._left < 0:
            raise StoppedError
        return super().collect(ticket)


def interrupted(dataset: Dataset, store: Store, *, batches: int) -> Path:
    """Stop an extraction after some batches of 32 images; return the unfinished file."""
    with pytest.raises(StoppedError):
        extract_features(
            make_job(dataset), store, lambda cuts: Failing(cuts, batches), Silent(), workers=1
        )
    (partial,) = store.partials()
    return partial


def with_columns(dataset: Dataset, **changed: str) -> Dataset:
    """Return a dataset of which a table says sites and notes, the first of some changed."""
    splits = {}
    for name, split in dataset.splits.items():
        columns = {
            "site": [f"zoë {row % 3}" for row in range(len(split))],
            'note, "free"': ["" if row % 2 else f"{name}\n{row}" for row in range(len(split))],
        }
        for column, first in changed.items():
            columns[column] = [first, *columns.get(column, [""] * len(split))[1:]]
        splits[name] = replace(split, columns=columns)
    return replace(dataset, splits=splits)


def relabel(dataset: Dataset) -> Dataset:
    """Reverse the labels of the training images."""
    train = dataset.splits["train"]
    object.__setattr__(train, "labels", train.labels[::-1].copy())
    return dataset


def flip(path: Path, *places: int, bit: int = 0) -> None:
    """Flip a bit of some bytes; in a new file, since HDF5 remembers what is open."""
    data = bytearray(path.read_bytes())
    for at in places:
        data[at] ^= 1 << bit
    other = path.with_suffix(".new")
    other.write_bytes(data)
    other.replace(path)


def small_entry(folder: Path) -> FeatureSet:
    """Return an entry of 40 and 10 rows, 512 features each."""
    entry, _ = extract(make_dataset(train=40, test=10), Store(folder))
    return entry


def bytes_without_seal(path: Path) -> bytes:
    """Return all bytes of an entry but those that say how long it took, and their checksum."""
    data, header = bytearray(path.read_bytes()), FeatureSet.open(path).header
    assert header.seal_checksum is not None
    for region in (header.seal, header.seal_checksum):
        data[region.start : region.start + 16] = bytes(16)
    return bytes(data)


def everything(entry: FeatureSet) -> list[Any]:
    """Return all that can be read of an entry, but how long it took."""
    found: list[Any] = [entry.key, entry.classes, dict(entry.provenance), list(entry.splits)]
    for split in entry.splits.values():
        arrays = (split.features, split.labels, split.content, split.table.ids)
        found += [(one.dtype.str, one.shape, np.asarray(one).tobytes()) for one in arrays]
        found.append({name: list(cells) for name, cells in split.columns.items()})
    return found
