"""Row numbers mean what NumPy's do, or are refused, wherever rows are taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.cache.features import FeatureSet
from probe.cache.pack import pack
from probe.cache.store import Store
from probe.core.memo import Memo
from probe.datasets.images.files import FileImages
from probe.datasets.images.image_inputs import ImageSources
from probe.datasets.spec import Split
from probe.errors import RowIndexError
from probe.evaluation.streaming import StreamedRows
from tests.cache.toy import small_entry
from tests.fakes import MemoryImages

COUNT = 40
MASK = np.arange(COUNT) % 3 == 0
GOOD = [
    MASK, MASK.tolist(), np.zeros(COUNT, bool), [], np.empty(0), np.empty(0, np.int64),
    slice(3, 9), slice(None, None, -7), slice(-5, None), slice(90, 95), range(4, 8), [0, -1, 5, 5],
    np.array([1, 2], np.uint8), np.array([7], np.uint64), [np.intp(3), np.int8(-2)],
]  # fmt: skip
BAD = [
    MASK[:-1], np.ones(COUNT + 1, bool), np.ones(0, bool), [0.0, 1.0], np.array([1.5]), ["1"],
    [b"1"], [None], [2**70], [COUNT], [-COUNT - 1], [[0, 1]], MASK[None], [[1], [1, 2]],
    np.array([2**63 + 1], np.uint64), [1 + 0j], slice(0, "b"), slice(0, 5, 0),
]  # fmt: skip


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    return small_entry(tmp_path_factory.mktemp("indexed"))


class Pairs:
    """Twenty images of two views each, from forty rows."""

    def __init__(self, rows: np.ndarray) -> None:
        self._rows = rows.reshape(COUNT // 2, 2, -1)

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self, index: np.ndarray) -> np.ndarray:
        return self._rows[index]


def streamed(entry: FeatureSet, views: int, images: np.ndarray | None = None) -> StreamedRows:
    source: Any = entry["train"] if views == 1 else Pairs(entry["train"].features)
    images = np.arange(COUNT // views) if images is None else images
    return StreamedRows(
        source=source, images=images, views=views, width=512, dtype=np.dtype(np.float32)
    )


def chained(entry: FeatureSet) -> StreamedRows:
    again = FeatureSet.open(entry.path)
    return streamed(entry, 1, np.arange(30)).joined(streamed(again, 1, np.arange(30, COUNT)))


WAYS: dict[str, Callable[[FeatureSet, Any], Any]] = {
    "rows": lambda entry, index: entry["train"].rows(index),
    "brackets": lambda entry, index: entry["train"][index][0],
    "streamed": lambda entry, index: streamed(entry, 1)[index],
    "streamed views": lambda entry, index: streamed(entry, 2)[index],
    "streamed from two": lambda entry, index: chained(entry)[index],
    "images of a stream": lambda entry, index: streamed(entry, 1).take(index)[:],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("number", range(len(GOOD)))
def test_what_numpy_takes_gives_the_same_rows(entry: FeatureSet, way: str, number: int) -> None:
    index = GOOD[number]
    plain = index if isinstance(index, slice) else np.array(index)
    plain = plain.astype(int) if not isinstance(plain, slice) and not plain.size else plain
    np.testing.assert_array_equal(WAYS[way](entry, index), entry["train"].features[plain])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("number", range(len(BAD)))
def test_what_names_no_rows_is_refused_in_our_words(
    entry: FeatureSet, way: str, number: int
) -> None:
    with pytest.raises(RowIndexError) as caught:
        WAYS[way](entry, BAD[number])
    assert "\n" not in str(caught.value)


def test_a_packed_entry_is_indexed_alike(tmp_path: Path) -> None:
    pytest.importorskip("hdf5plugin")
    entry = small_entry(tmp_path)
    whole = np.array(entry["train"].features)
    packed = pack(entry, Store(tmp_path)).entry["train"]
    np.testing.assert_array_equal(packed.rows(MASK), whole[MASK])
    np.testing.assert_array_equal(packed[::9][0], whole[::9])
    np.testing.assert_array_equal(packed.rows([]), whole[:0])


def test_one_row_is_one_row(entry: FeatureSet) -> None:
    split = entry["train"]
    for row in (5, -1, np.intp(7), np.uint8(3), np.array(4)):
        features, label = split[row]
        np.testing.assert_array_equal(features, split.features[row])
        assert label == split.labels[row]
        np.testing.assert_array_equal(streamed(entry, 2)[row], split.features[row])
    assert isinstance(label, int)
    assert features.flags.writeable  # torch warns of arrays that are not
    features, labels = split[MASK]
    np.testing.assert_array_equal(labels, split.labels[MASK])
    batch = split.__getitems__([5, -1, 5])
    assert [label for _, label in batch] == split.labels[[5, -1, 5]].tolist()
    np.testing.assert_array_equal(np.stack([one for one, _ in batch]), split.features[[5, -1, 5]])
    wrong: Any
    for wrong in (True, np.True_, 1.0, "1", None, ..., COUNT, -COUNT - 1, (1, 2)):
        with pytest.raises(RowIndexError):
            split[wrong]
        with pytest.raises(RowIndexError):
            streamed(entry, 1)[wrong]
    with pytest.raises(RowIndexError, match="one number"):
        split.rows(3)
    assert len(list(split)) == COUNT


def test_images_and_their_labels_are_chosen_together(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 3), dtype=np.uint8)
    labels = np.arange(4, dtype=np.int32)
    sites = {"site": list("wxyz")}
    split = Split(ids=list("abcd"), labels=labels, images=MemoryImages(pixels), columns=sites)
    mask = np.array([False, True, False, True])
    some = split.take(mask)
    assert (list(some.ids), some.labels.tolist()) == (["b", "d"], [1, 3])
    np.testing.assert_array_equal(some.images.image(1), pixels[3])
    assert some.columns == {"site": ["x", "z"]}
    with pytest.raises(ValueError, match="'site' has 4 cells for 2 images"):
        replace(some, columns=sites)
    given = ImageSources.of(list(pixels))
    np.testing.assert_array_equal(given.take(mask).image(0), pixels[1])
    files = FileImages(str(tmp_path), list("abcd"), Memo(tmp_path / "m"), 1)
    assert files.take(mask)._ids == ["b", "d"]
    images: Any
    for images in (given, files):
        with pytest.raises(RowIndexError):
            images.take(np.array([0.0]))
        with pytest.raises(RowIndexError):
            images.image(4)
    with pytest.raises(RowIndexError):
        split.take(np.array([4]))
