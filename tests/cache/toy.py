"""Small entries for the tests of the cache, made without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

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
    return found
