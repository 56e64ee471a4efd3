"""Damaged entries: nobody is served from them, and what is proven of them is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from probe.cache.features import FeatureSet
from probe.cache.pack import pack
from probe.errors import CorruptEntryError
from probe.extraction.extract import extract_features
from probe.extraction.upkeep import plan_mend, plan_sync, sync
from tests.cache.test_upkeep import World, same
from tests.cache.toy import bytes_without_seal, flip
from tests.fakes import Silent


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["labels", "ids", "blocks"])
def test_an_entry_that_cannot_be_opened_is_mended_from_its_proven_rows(
    world: World, name: str, packed: bool
) -> None:
    whole = world.extract()
    fresh = world.fresh()
    if packed:
        pytest.importorskip("hdf5plugin")
        whole = pack(whole, world.store).entry
    flip(whole.path, getattr(whole.header, name)["train"].start + 1)
    with pytest.raises(CorruptEntryError, match="--repair") as caught:
        FeatureSet.open(whole.path)
    (listed,) = world.store.entries()
    prepared, observer = world.prepared(), Silent()
    plan = plan_mend(listed, prepared, caught.value)
    assert (plan.kept, plan.new) == (70, 0)
    made = sync(listed, prepared, plan, world.store, observer)
    # 60 rows are one block of train, whose checksum is not known any more
    assert observer.forwarded == (60 if name == "blocks" else 0)
    assert made.path == whole.path
    assert made.packed is packed
    made.verify()
    same(made, fresh)


def test_a_damaged_entry_gives_its_proven_rows_to_others_and_is_not_served(world: World) -> None:
    entry = world.extract(limit=20)
    flip(entry.path, entry.header.labels["train"].start)
    with pytest.raises(CorruptEntryError):
        world.extract(limit=20)
    job, observer = world.prepared(limit=22).job, Silent()
    extract_features(job, world.store, world.engine, observer, workers=1)
    assert observer.forwarded == 2  # 22 of train, 10 of test


def test_repair_forwards_the_block_of_a_bad_row_and_writes_bad_folds_anew(world: World) -> None:
    entry = world.extract()
    fresh = world.fresh()
    before = bytes_without_seal(entry.path)
    flip(entry.path, entry.header.folds["train"].start)
    entry = FeatureSet.open(entry.path)
    plan = plan_sync(entry, world.prepared(), repair=True)
    assert plan.changes == ("the folds of the rows",)
    observer = Silent()
    made = sync(entry, world.prepared(), plan, world.store, observer)
    assert observer.forwarded == 0
    same(made, fresh)
    region = made.header.features["test"]
    flip(made.path, region.start + 3 * region.row_bytes)
    made = FeatureSet.open(made.path)
    plan = plan_sync(made, world.prepared(), repair=True)
    assert plan.changes == ("10 rows in damaged blocks",)
    made = sync(made, world.prepared(), plan, world.store, observer)
    assert observer.forwarded == 10
    same(made, fresh)
    assert bytes_without_seal(made.path) == before
