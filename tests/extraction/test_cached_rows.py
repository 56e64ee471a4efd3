"""Features found by what an image is: damaged rows are as rows that are not there."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from probe.bundle import Bundle
from probe.cache.features import FeatureSet
from probe.cache.store import Store
from probe.datasets import load_dataset
from probe.errors import CorruptEntryError
from probe.extraction.cached_rows import CachedRows
from probe.predict.evaluate import evaluate
from probe.predict.predictor import Predictor


@pytest.fixture
def damaged(digits_cache: Path, tmp_path: Path) -> Path:
    """A copy of the digits' cache with one bit of one feature turned over."""
    folder = shutil.copytree(digits_cache, tmp_path / "damaged")
    (path,) = Store(folder).files()
    at = FeatureSet.open(path).header.features["train"].start
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    return folder


def test_of_copies_the_one_that_is_whole_is_taken(digits_cache: Path, damaged: Path) -> None:
    (path,) = Store(digits_cache).files()
    whole = FeatureSet.open(path)
    contents = [row.tobytes() for row in whole["train"].content]
    bad, good = Store(damaged), Store(digits_cache)
    cached = CachedRows([bad, good], whole.key)
    assert all(content in cached for content in contents)
    np.testing.assert_array_equal(cached.rows(contents), whole["train"].features)
    alone = CachedRows([bad], whole.key)
    first = whole.header.block_rows
    assert [one in alone for one in contents] == [row >= first for row in range(len(contents))]
    with pytest.raises(CorruptEntryError, match="does not match its checksum"):
        alone.rows(contents[:1])


def test_damage_costs_time_and_not_the_answer(
    digits_bundle: Path, digits_cache: Path, damaged: Path, tmp_path: Path
) -> None:
    bundle = Bundle.load(digits_bundle, batch_size=16)
    split = load_dataset("digits", cache_dir=tmp_path, limit=16).splits["train"]
    plain, found = (
        evaluate(Predictor([bundle], store=Store(one)), split, bundle.about.classes)
        for one in (digits_cache, damaged)
    )
    assert plain.from_cache == 16 > found.from_cache
    np.testing.assert_allclose(found.scored.probabilities, plain.scored.probabilities, atol=1e-4)
