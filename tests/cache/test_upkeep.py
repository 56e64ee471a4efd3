"""Explaining, syncing and sampling, on folders of real files and a network that is none."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from probe.backbones.catalog import BACKBONES
from probe.cache.features import FeatureSet
from probe.cache.pack import pack
from probe.cache.store import Store
from probe.core.memo import Memo, stamp_of
from probe.datasets import load_dataset
from probe.datasets.images.files import HASH_KIND
from probe.errors import CacheError
from probe.extraction.drift import measure_drift
from probe.extraction.extract import extract_features
from probe.extraction.job import decide
from probe.extraction.request import Request, repeat
from probe.extraction.upkeep import SyncPlan, explain, plan_sync, sync
from probe.preprocess.spec import TORCHVISION
from tests.cache.toy import everything
from tests.fakes import SIZE, FakeEngine, Silent


class World:
    """A folder of images, a cache, and what a request for it comes to today."""

    def __init__(self, base: Path) -> None:
        self.cache, self.images = base / "cache dir", base / "my images"
        self.store = Store(self.cache)
        self.scale, self.engines = 1.0, 0
        for number in range(60):
            self.add(f"train/{'ab'[number % 2]}/{number:03d}.png", number)
        for number in range(10):
            self.add(f"test/{'ab'[number % 2]}/{number:03d}.png", 100 + number)

    def add(self, name: str, seed: int) -> Path:
        path = self.images / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, compress_level=0)
        os.utime(path, (1e9 + seed, 1e9 + seed))  # long ago: the memo trusts it
        return path

    def prepared(self, *, layer: str = "gap", parameters: str = "p" * 32, **load: Any) -> Any:
        dataset = load_dataset(str(self.images), cache_dir=self.cache, **load)
        backbone = BACKBONES["resnet18"]
        job = decide(
            dataset,
            backbone,
            TORCHVISION.with_size(SIZE),
            [(backbone.layer(layer), "none" if layer == "gap" else "avg", parameters)],
            dtype="float32",
            provenance={
                "dataset": dataset.name,
                "weights": "toy",
                "request": {"dataset": str(self.images)},
            },
        )
        return SimpleNamespace(
            job=job,
            weights=SimpleNamespace(name="toy"),
            request=SimpleNamespace(workers=1),
            engine_for=self.engine,
        )

    def engine(self, cuts: Any) -> FakeEngine:
        self.engines += 1
        world = self

        class Engine(FakeEngine):
            def collect(self, ticket: Any) -> list[np.ndarray]:
                return [one * np.float32(world.scale) for one in super().collect(ticket)]

        return Engine(cuts)

    def extract(self, **load: Any) -> FeatureSet:
        prepared = self.prepared(**load)
        (entry,) = extract_features(prepared.job, self.store, self.engine, Silent(), workers=1)
        return entry

    def sync(self, entry: FeatureSet) -> tuple[FeatureSet, SyncPlan, Silent]:
        prepared, observer = self.prepared(), Silent()
        plan = plan_sync(entry, prepared)
        return sync(entry, prepared, plan, self.store, observer), plan, observer

    def fresh(self) -> FeatureSet:
        """What an extraction into an empty cache gives."""
        other = Store(self.cache / "empty")
        (entry,) = extract_features(self.prepared().job, other, self.engine, Silent(), workers=1)
        return entry


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def same(one: FeatureSet, other: FeatureSet) -> None:
    assert one.key == other.key
    for name in other.splits:
        np.testing.assert_array_equal(one[name].features, other[name].features)
        np.testing.assert_array_equal(one[name].labels, other[name].labels)
        assert one[name].ids == other[name].ids


def test_an_unchanged_folder_is_in_step_and_nothing_is_touched(world: World) -> None:
    entry = world.extract()
    before = entry.path.stat()
    made, plan, _ = world.sync(entry)
    assert plan == SyncPlan(kept=70, new=0, gone=0, changes=())
    assert made is entry
    assert entry.path.stat() == before


def test_added_replaced_renamed_moved_and_deleted_images(world: World) -> None:
    entry = world.extract()
    world.add("train/a/new.png", 500)
    world.add("train/a/000.png", 501)  # replaced
    (world.images / "train/b/001.png").rename(world.images / "train/b/renamed.png")
    (world.images / "train/b/003.png").rename(world.images / "train/a/moved to another class.png")
    (world.images / "test/a/000.png").rename(world.images / "train/a/from test.png")
    (world.images / "test/b/001.png").unlink()
    made, plan, observer = world.sync(entry)
    assert (plan.kept, plan.new, plan.gone) == (68, 2, 2)
    assert observer.forwarded == 2
    assert len(plan.changes) == 2
    assert [one.path for one in world.store.entries()] == [made.path]
    assert made.path != entry.path
    same(made, world.fresh())
    entry["train"].verify()  # whoever still reads the old one is not disturbed


def test_other_labels_forward_nothing(world: World) -> None:
    entry = world.extract()
    (world.images / "train/a").rename(world.images / "train/c")
    (world.images / "test/a").rename(world.images / "test/c")
    made, plan, observer = world.sync(entry)
    assert (plan.kept, plan.new) == (70, 0)
    assert observer.forwarded == 0
    assert made.classes == ("b", "c")
    same(made, world.fresh())


def test_a_moved_folder_forwards_nothing_and_is_remembered(world: World) -> None:
    entry = world.extract()
    world.images = world.images.rename(world.images.with_name("elsewhere"))
    made, plan, observer = world.sync(entry)
    assert plan.changes == ("where the images or the weights lie",)
    assert observer.forwarded == 0
    assert made.path == entry.path
    assert made.provenance["request"] == {"dataset": str(world.images)}
    same(made, world.fresh())
    assert world.sync(made)[1].changes == ()


def test_a_file_replaced_in_place_with_its_old_time_and_size_is_seen(world: World) -> None:
    entry = world.extract()
    path = world.images / "train/a/000.png"
    before = path.stat()
    other = world.add("other.png", 777)
    path.write_bytes(other.read_bytes())
    other.unlink()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (
        before.st_size, before.st_mtime_ns, before.st_ino,
    )  # fmt: skip
    made, plan, _ = world.sync(entry)
    assert plan.new == 1
    same(made, world.fresh())


def test_strict_believes_no_memo(world: World) -> None:
    entry = world.extract()
    path = world.images / "train/a/000.png"
    memo = Memo(world.cache / "memo.sqlite")
    other = sorted((world.images / "train/a").iterdir())[1]
    known = memo.get_many(HASH_KIND, {str(other): stamp_of(other)})[str(other)]
    memo.put_many(HASH_KIND, [(str(path), stamp_of(path), known)])  # as if nothing told them apart
    assert world.sync(entry)[1].changes != ()
    memo.forget(world.images)  # what --strict does first
    assert world.sync(entry)[1].changes == ()


def test_other_weights_are_refused_for_no_row_could_be_kept(world: World) -> None:
    entry = world.extract()
    with pytest.raises(CacheError, match="weights is toy"):
        plan_sync(entry, world.prepared(parameters="q" * 32))
    assert entry.path.exists()


def test_a_failed_sync_leaves_the_old_entry(world: World) -> None:
    entry = world.extract()
    world.add("train/a/new.png", 500)
    prepared = world.prepared()
    plan = plan_sync(entry, prepared)
    prepared.engine_for = lambda cuts: 1 / 0
    with pytest.raises(ZeroDivisionError):
        sync(entry, prepared, plan, world.store, Silent())
    assert [one.path for one in world.store.entries()] == [entry.path]


def test_a_packed_entry_stays_packed(world: World) -> None:
    pytest.importorskip("hdf5plugin")
    entry = pack(world.extract(), world.store).entry
    world.add("train/a/new.png", 500)
    made, _, observer = world.sync(entry)
    assert observer.forwarded == 1
    assert made.header.packed
    same(made, world.fresh())


def test_explain_names_the_fields_that_differ_and_the_rows(world: World) -> None:
    assert explain(world.prepared(), world.store)[0].near == []
    entry = world.extract(limit=20)
    (found,) = explain(world.prepared(limit=20), world.store)
    assert (found.found, found.differing) == (entry.name, ())
    (other,) = explain(world.prepared(), world.store)
    assert (other.found, other.copied, other.forwarded) == (None, 30, 40)
    (near,) = other.near
    assert near.recipe == ()
    assert near.rows == ("train has 20 images there and 60 here, 20 of them the same",)
    (changed,) = explain(world.prepared(layer="stage4", parameters="q" * 32), world.store)
    assert changed.forwarded == 70
    assert set(changed.near[0].recipe) == {
        "layer is gap there and stage4 here",
        "pool is none there and avg here",
        f"weights is toy (parameters {'p' * 12}) there and toy (parameters {'q' * 12}) here",
    }
    (world.images / "train/a").rename(world.images / "train/c")
    (world.images / "test/a").rename(world.images / "test/c")
    (relabelled,) = explain(world.prepared(), world.store)
    assert relabelled.forwarded == 40


@pytest.mark.parametrize(("scale", "agrees"), [(1.0, True), (1 + 1e-5, True), (1.01, False)])
def test_rows_that_are_forwarded_again_show_drift(world: World, scale: float, agrees: bool) -> None:
    entry = world.extract()
    world.scale = scale
    drift = measure_drift(entry, world.prepared(), count=33, seed=1)
    assert drift.rows == 33
    assert drift.relative == pytest.approx(scale - 1, rel=0.02, abs=1e-6)
    assert drift.agrees is agrees
    assert drift.worst in entry["train"].ids + entry["test"].ids


def test_drift_says_what_is_gone_and_which_weights_changed(world: World) -> None:
    entry = world.extract()
    for number in range(0, 60, 2):
        (world.images / f"train/a/{number:03d}.png").unlink()
    world.add("train/a/stays.png", 900)
    drift = measure_drift(entry, world.prepared(parameters="q" * 32), count=1000, seed=1)
    assert (drift.rows, drift.gone) == (40, 30)
    assert drift.relative == 0
    assert not drift.agrees
    assert "weights is toy" in drift.recipe[0]


def test_an_entry_tells_how_to_ask_for_it_again(world: World) -> None:
    entry = world.extract()
    values = {
        "dataset": str(world.images), "dataset_root": None, "weights": "random:3",
        "preprocess": None, "size": 8, "splits": ["train"], "per_class": 7, "limit": None,
        "coarse": False, "skip_bad": True, "seed": 5,
    }  # fmt: skip
    asked = repeat(entry.key, {"request": values}, cache_dir=world.cache)
    assert asked == Request(
        backbone="resnet18", dataset=str(world.images), cache_dir=world.cache, weights="random:3",
        layers=("gap",), pool="none", size=8, resize="crop", splits=("train",), per_class=7,
        skip_bad=True, seed=5,
    )  # fmt: skip
    moved = repeat(
        entry.key, {"request": values}, cache_dir=world.cache,
        dataset_root=Path("/elsewhere"), weights="other.h5",
    )  # fmt: skip
    assert moved == replace(asked, dataset="/elsewhere", weights="other.h5")
    with pytest.raises(CacheError, match="does not record"):
        repeat(entry.key, {}, cache_dir=world.cache)


def test_a_flipped_bit_in_the_memo_changes_no_entry_and_stops_nobody(world: World) -> None:
    """A remembered hash that was wrong made `extract` refuse the image for ever."""
    entry = world.extract()
    before, place = everything(entry), world.cache / "memo.sqlite"
    data, dice = place.read_bytes(), random.Random(0)
    at = data.index(entry["train"].content[7].tobytes())
    for where in [at, at + 9, *dice.sample(range(len(data)), 25)]:
        flipped = bytearray(data)
        flipped[where] ^= 1 << dice.randrange(8)
        place.write_bytes(flipped)
        assert everything(world.extract()) == before
    place.write_bytes(data[:5000])
    assert everything(world.extract()) == before
