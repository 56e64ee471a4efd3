"""Reading entries: arrays, batches, views, packed files, other people's loaders."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.cache.features import FeatureSet
from probe.cache.file import open_file
from probe.cache.pack import CODECS, pack
from probe.cache.store import Store
from probe.datasets.spec import Dataset
from probe.errors import CacheError, CorruptEntryError, UsageError
from probe.extraction.extract import extract_features
from probe.extraction.job import Job, decide
from probe.preprocess.spec import CAFFE_BGR, TORCHVISION, PreprocessSpec
from probe.preprocess.views import image_views
from tests.cache.toy import everything, extract, small_entry
from tests.fakes import SIZE, FakeEngine, MemoryImages, Silent, make_dataset, make_job


@pytest.fixture
def entry(tmp_path: Path) -> FeatureSet:
    return small_entry(tmp_path)


def test_arrays_are_maps_of_the_file_and_cannot_be_written(entry: FeatureSet) -> None:
    split = entry["train"]
    for array in (split.features, split.labels, split.content):
        assert not array.flags.owndata
        assert not array.flags.writeable
    np.testing.assert_array_equal(np.concatenate(list(split.blocks())), split.features)


def test_scikit_learn_fits_on_it(entry: FeatureSet) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    X, y = entry["train"].as_xy()
    assert X.shape == (40, 512)
    assert KNeighborsClassifier(1).fit(X, y).score(X, y) == 1.0


def test_gluon_s_loader_takes_it_as_it_is(entry: FeatureSet, mx: Any) -> None:
    loader = mx.gluon.data.DataLoader(entry["train"], batch_size=16)
    batches = [(x.asnumpy(), y.asnumpy()) for x, y in loader]
    np.testing.assert_array_equal(np.concatenate([x for x, _ in batches]), entry["train"].features)
    np.testing.assert_array_equal(np.concatenate([y for _, y in batches]), entry["train"].labels)


def test_only_the_blocks_that_are_touched_are_checked(tmp_path: Path) -> None:
    entry, _ = extract(make_dataset(train=1200), Store(tmp_path))
    region = entry.header.features["train"]
    with entry.path.open("r+b") as file:
        file.seek(region.start + 1100 * region.row_bytes)
        file.write(b"\xff\xff")
    split = FeatureSet.open(entry.path)["train"]
    assert split.rows([0, 600, 1023]).shape == (3, 512)
    with pytest.raises(CorruptEntryError, match=r"train row 1100 \(train/01100\)"):
        split.rows([1030])
    with pytest.raises(CorruptEntryError):
        _ = split.features


@pytest.mark.parametrize("codec", CODECS)
def test_packing_loses_nothing_and_is_read_alike(entry: FeatureSet, codec: str) -> None:
    pytest.importorskip("hdf5plugin")
    store, before = Store(entry.path.parents[1]), everything(entry)
    done = pack(entry, store, codec=codec)
    assert done.entry.path == entry.path
    assert (done.largest, done.relative) == (0, 0)
    assert done.entry.header.packed is (codec != "none")
    assert everything(done.entry) == before
    assert everything(entry) == before  # opened before it was replaced
    split = pickle.loads(pickle.dumps(done.entry["train"]))
    np.testing.assert_array_equal(split.rows([39, 0, 7]), entry["train"].features[[39, 0, 7]])
    np.testing.assert_array_equal(split[5][0], entry["train"].features[5])
    assert [one.packed for one in store.entries()] == [codec != "none"]
    _, observer = extract(make_dataset(train=60, test=10), store)  # rows are taken from it
    assert observer.taken == 50


def test_packing_as_float16_says_how_far_it_is_and_equals_an_extraction(tmp_path: Path) -> None:
    pytest.importorskip("hdf5plugin")
    dataset, store = make_dataset(train=40, test=10), Store(tmp_path)
    entry, _ = extract(dataset, store)
    done = pack(entry, store, dtype="float16")
    X = np.concatenate([entry[name].features for name in entry.splits]).astype(np.float64)
    half = X.astype(np.float16).astype(np.float64)
    assert done.largest == np.abs(half - X).max()
    norms = np.linalg.norm(X, axis=1)
    assert done.relative == pytest.approx((np.linalg.norm(half - X, axis=1) / norms).max())
    assert entry.path.exists()
    fresh, _ = extract(dataset, Store(tmp_path / "b"), dtype="float16")
    assert done.entry.key == fresh.key
    np.testing.assert_array_equal(done.entry["train"].features, fresh["train"].features)


def test_packing_refuses_what_float16_cannot_hold(tmp_path: Path) -> None:
    pytest.importorskip("hdf5plugin")

    class Large(FakeEngine):
        def collect(self, ticket: object) -> list[np.ndarray]:
            return [one * np.float32(1e5) for one in super().collect(ticket)]

    store = Store(tmp_path)
    job = make_job(make_dataset(train=40, test=10))
    (entry,) = extract_features(job, store, Large, Silent(), workers=1)
    with pytest.raises(CacheError, match=r"a feature of train/0000\d is .*beyond float16"):
        pack(entry, store, dtype="float16")
    assert [one.path for one in store.entries()] == [entry.path]


def test_a_flipped_bit_of_a_packed_entry_is_found(entry: FeatureSet) -> None:
    pytest.importorskip("hdf5plugin")
    packed = pack(entry, Store(entry.path.parents[1])).entry
    info = open_file(packed.path).hdf5["train"]["features"].id.get_chunk_info(0)
    whole, dice = packed.path.read_bytes(), np.random.default_rng(0)
    found = 0
    for at in dice.integers(0, info.size, 60):
        data = bytearray(whole)
        data[info.byte_offset + at] ^= 1 << int(dice.integers(8))
        packed.path.write_bytes(data)
        before = everything_or_none(packed.path)
        found += before is None
        assert before is None or before == everything(entry)
    assert found > 50


def everything_or_none(path: Path) -> list[object] | None:
    try:
        return everything(FeatureSet.open(path))
    except CacheError:
        return None


def viewed(dataset: Dataset, views: str) -> Job:
    job = make_job(dataset)
    cut = job.cuts[0]
    return decide(
        dataset, job.backbone, job.preprocess, [(cut.layer, "none", "p" * 32)],
        dtype="float32", views=views, provenance={"dataset": dataset.name},
    )  # fmt: skip


@pytest.mark.parametrize(("views", "count"), [("flip", 2), ("crops5", 5)])
@pytest.mark.parametrize("batch_size", [10, 30])
def test_views_are_one_more_axis_the_plain_one_first(
    tmp_path: Path, views: str, count: int, batch_size: int
) -> None:
    dataset, store = make_dataset(train=47, test=10), Store(tmp_path)
    plain, _ = extract(dataset, store)
    (entry,) = extract_features(
        viewed(dataset, views), store, lambda cuts: FakeEngine(cuts, batch_size), Silent(),
        workers=2,
    )  # fmt: skip
    assert entry.key.recipe != plain.key.recipe
    assert entry.row_shape == (count, 512)
    features = entry["train"].features
    np.testing.assert_array_equal(features[:, 0], plain["train"].features)
    images = dataset.splits["train"].images
    assert isinstance(images, MemoryImages)
    job = make_job(dataset)
    for row in (0, 13, 46):
        pixels = np.stack(image_views(images.pixels[row], job.preprocess, views))
        want = FakeEngine([(job.cuts[0].layer, "none")], count).collect(pixels)[0]
        np.testing.assert_array_equal(features[row], want)
    X, y = entry["train"].as_xy()
    assert X.shape == (47 * count, 512)
    np.testing.assert_array_equal(y, np.repeat(entry["train"].labels, count))
    np.testing.assert_array_equal(X.reshape(47, count, 512), features)
    X, y = entry["train"].as_xy(view=0)
    np.testing.assert_array_equal(X, plain["train"].features)
    assert len(y) == 47
    with pytest.raises(UsageError, match=f"give 0 to {count - 1}"):
        entry["train"].as_xy(view=count)
    assert len(images.reads) > 0


@pytest.mark.parametrize(
    "spec",
    [
        TORCHVISION.with_size(16),
        replace(TORCHVISION, size=16, crop_fraction=0.5),
        CAFFE_BGR.with_size(16),
    ],
)
@pytest.mark.parametrize("shape", [(16, 16), (40, 24), (10, 30)])
def test_each_view_is_what_it_says(spec: PreprocessSpec, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    (plain,) = image_views(image, spec, "none")
    same, mirrored = image_views(image, spec, "flip")
    np.testing.assert_array_equal(same, plain)
    np.testing.assert_array_equal(mirrored, plain[:, ::-1])
    first, *corners = image_views(image, spec, "crops5")
    np.testing.assert_array_equal(first, plain)
    assert all(one.shape == (16, 16, 3) for one in corners)
    of_mirrored = image_views(np.ascontiguousarray(image[:, ::-1]), spec, "crops5")[1:]
    if shape[1] % 2 == 0 and spec.resize == "squash":
        for left, right in ((0, 1), (2, 3)):  # top left of the mirrored is top right mirrored
            np.testing.assert_allclose(
                of_mirrored[left].astype(int), corners[right][:, ::-1].astype(int), atol=1
            )


def test_each_image_is_decoded_once_however_many_views(tmp_path: Path) -> None:
    dataset = make_dataset(train=40, test=5)
    images = dataset.splits["train"].images
    assert isinstance(images, MemoryImages)
    extract_features(
        viewed(dataset, "crops5"), Store(tmp_path), lambda cuts: FakeEngine(cuts, 20), Silent(),
        workers=1,
    )  # fmt: skip
    assert sorted(images.reads) == list(range(40))
    assert SIZE == 8
