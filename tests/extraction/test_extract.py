from __future__ import annotations

import itertools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from probe.cache.features import FeatureSet
from probe.cache.store import Store
from probe.datasets.spec import Dataset
from probe.engines import default_batch_size
from probe.errors import CorruptEntryError, DataError, ImageError
from probe.extraction.extract import extract_features, find_entries
from probe.extraction.job import Job
from tests.cache.toy import bytes_without_seal
from tests.fakes import FakeEngine, MemoryImages, Silent, make_dataset, make_job, make_split


def run(
    job: Job, store: Store, *, batch_size: int = 32, workers: int = 2
) -> tuple[FeatureSet, Silent]:
    observer = Silent()
    (entry,) = extract_features(
        job, store, lambda cuts: FakeEngine(cuts, batch_size), observer, workers=workers
    )
    return entry, observer


def expected(dataset: Dataset, split: str) -> np.ndarray:
    images = dataset.splits[split].images
    assert isinstance(images, MemoryImages)
    engine = FakeEngine([(make_job(dataset).cuts[0].layer, "none")], len(images))
    return engine.collect(images.pixels)[0]


def test_an_entry_holds_what_the_network_gives_in_dataset_order(tmp_path: Path) -> None:
    dataset = make_dataset()
    entry, observer = run(make_job(dataset), Store(tmp_path))
    for split in ("train", "test"):
        np.testing.assert_array_equal(entry[split].features, expected(dataset, split))
        assert entry[split].ids == dataset.splits[split].ids
        np.testing.assert_array_equal(entry[split].labels, dataset.splits[split].labels)
    assert observer.forwarded == 830
    assert entry.classes == ("ant", "bee", "cat")


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 1), (7, 3), (64, 1), (256, 4)])
def test_batch_size_and_workers_change_no_number(
    tmp_path: Path, batch_size: int, workers: int
) -> None:
    dataset = make_dataset(train=100, test=10)
    one, _ = run(make_job(dataset), Store(tmp_path / "a"))
    other, _ = run(make_job(dataset), Store(tmp_path / "b"), batch_size=batch_size, workers=workers)
    assert one.key == other.key
    np.testing.assert_array_equal(one["train"].features, other["train"].features)


def test_an_image_too_large_for_memory_is_named(tmp_path: Path) -> None:
    dataset = make_dataset(train=20, test=10)

    class Huge(MemoryImages):
        def image(self, row: int) -> np.ndarray:
            if row == 3:
                raise MemoryError
            return super().image(row)

    images = dataset.splits["train"].images
    assert isinstance(images, MemoryImages)
    train = replace(dataset.splits["train"], images=Huge(images.pixels))
    job = make_job(replace(dataset, splits={**dataset.splits, "train": train}))
    with pytest.raises(ImageError, match=r"^train/00003: takes more memory than there is$"):
        run(job, Store(tmp_path))


def test_the_second_run_finds_the_entry_and_builds_no_engine(tmp_path: Path) -> None:
    job, store = make_job(make_dataset()), Store(tmp_path)
    entry, _ = run(job, store)

    def no_engine(cuts: object) -> FakeEngine:
        raise AssertionError("an engine was built")

    (again,) = extract_features(job, store, no_engine, Silent(), workers=1)
    assert again.path == entry.path
    assert find_entries(job, store)[0] is not None


def test_other_labels_forward_nothing_and_replace_the_entry(tmp_path: Path) -> None:
    dataset, store = make_dataset(), Store(tmp_path)
    before, _ = run(make_job(dataset), store)
    train = dataset.splits["train"]
    changed = replace(
        dataset,
        splits={**dataset.splits, "train": replace(train, labels=train.labels[::-1].copy())},
    )
    after, observer = run(make_job(changed), store)
    assert observer.forwarded == 0
    assert after.path == before.path
    np.testing.assert_array_equal(after["train"].labels, train.labels[::-1])
    np.testing.assert_array_equal(after["train"].features, before["train"].features)
    assert len(store.entries()) == 1


def test_a_larger_sample_forwards_only_what_is_new(tmp_path: Path) -> None:
    dataset, store = make_dataset(), Store(tmp_path)
    small = replace(dataset, splits={"train": dataset.splits["train"].take(np.arange(0, 700, 7))})
    run(make_job(small), store)
    whole, observer = run(make_job(dataset), store)
    assert observer.taken == 100
    assert observer.forwarded == 730
    np.testing.assert_array_equal(whole["train"].features, expected(dataset, "train"))


def test_a_split_extracted_alone_is_not_forwarded_again(tmp_path: Path) -> None:
    dataset, store = make_dataset(), Store(tmp_path)
    run(make_job(replace(dataset, splits={"test": dataset.splits["test"]})), store)
    _, observer = run(make_job(dataset), store)
    assert observer.forwarded == 700


def test_other_weights_share_nothing(tmp_path: Path) -> None:
    dataset, store = make_dataset(train=50, test=5), Store(tmp_path)
    run(make_job(dataset), store)
    _, observer = run(make_job(dataset, parameters="q" * 32), store)
    assert observer.forwarded == 55
    assert len(store.entries()) == 2


def test_rows_of_a_damaged_entry_are_forwarded_again(tmp_path: Path) -> None:
    dataset, store = make_dataset(), Store(tmp_path)
    small, _ = run(make_job(replace(dataset, splits={"train": dataset.splits["train"]})), store)
    region = small.header.features["train"]
    with small.path.open("r+b") as file:
        file.seek(region.offset + 600 * region.row_bytes)
        file.write(b"\xff\xff\xff")
    with pytest.raises(CorruptEntryError, match=r"train row 600 \(train/00600\)"):
        _ = FeatureSet.open(small.path)["train"].features
    whole, observer = run(make_job(dataset), store)
    assert observer.taken == 512
    np.testing.assert_array_equal(whole["train"].features, expected(dataset, "train"))


class BrokenEngine(FakeEngine):
    def __init__(self, cuts: object, value: float, at: int) -> None:
        super().__init__(cuts, 32)  # type: ignore[arg-type]
        self.value, self.at, self.batch = value, at, 0

    def collect(self, ticket: object) -> list[np.ndarray]:
        outputs = super().collect(ticket)
        if self.batch == self.at:
            outputs[0][3, 5] = self.value
        self.batch += 1
        return outputs


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_feature_that_is_not_finite_stops_the_run_and_names_the_image(
    tmp_path: Path, value: float
) -> None:
    job, store = make_job(make_dataset()), Store(tmp_path)
    with pytest.raises(DataError, match=r"train/00067: a feature of gap is NaN or infinite"):
        extract_features(job, store, lambda cuts: BrokenEngine(cuts, value, 2), Silent(), workers=1)
    assert store.entries() == []
    assert find_entries(job, store) == [None]


def test_float16_halves_the_file_and_refuses_overflow(tmp_path: Path) -> None:
    dataset, store = make_dataset(), Store(tmp_path)
    half, _ = run(make_job(dataset, dtype="float16"), store)
    assert half["train"].features.dtype == np.float16
    np.testing.assert_array_equal(
        half["train"].features, expected(dataset, "train").astype(np.float16)
    )
    job = make_job(dataset, dtype="float16", parameters="q" * 32)
    with pytest.raises(DataError, match="beyond float16"):
        extract_features(job, store, lambda cuts: BrokenEngine(cuts, 1e6, 0), Silent(), workers=1)


def test_an_image_that_cannot_be_read_stops_the_run_and_keeps_the_finished_rows(
    tmp_path: Path,
) -> None:
    dataset, store = make_dataset(), Store(tmp_path)

    class Bad(MemoryImages):
        def image(self, row: int) -> np.ndarray:
            if row == 650:
                raise DataError("train/00650: truncated")
            return super().image(row)

    train = dataset.splits["train"]
    assert isinstance(train.images, MemoryImages)
    broken = replace(
        dataset, splits={**dataset.splits, "train": replace(train, images=Bad(train.images.pixels))}
    )
    with pytest.raises(DataError, match="train/00650"):
        run(make_job(broken), store)
    assert store.entries() == []
    entry, observer = run(make_job(dataset), store)
    assert observer.taken == 512  # one finished block
    np.testing.assert_array_equal(entry["train"].features, expected(dataset, "train"))


def without_seal(entry: FeatureSet) -> bytes:
    """All bytes of the file but how long it took."""
    return bytes_without_seal(entry.path)


KILLED = """
import os, signal, sys
from pathlib import Path
from probe.cache.store import Store
from probe.extraction.extract import extract_features
from tests.fakes import FakeEngine, Silent, make_dataset, make_job

class Engine(FakeEngine):
    batches = 0
    def collect(self, ticket):
        if self.batches == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        self.batches += 1
        return super().collect(ticket)

dataset = make_dataset(train=2000)
extract_features(make_job(dataset), Store(Path(sys.argv[1])), Engine, Silent(), workers=2)
"""


@pytest.mark.parametrize("batches", [0, 1, 15, 16, 17, 40, 66])
def test_a_kill_loses_at_most_a_block_and_the_resumed_entry_is_the_same(
    tmp_path: Path, batches: int
) -> None:
    dataset = make_dataset(train=2000)
    whole, _ = run(make_job(dataset), Store(tmp_path / "whole"))
    killed = tmp_path / "killed folder"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(killed), str(batches)], cwd=root, check=False
    )
    assert done.returncode == -9
    store = Store(killed)
    assert store.entries() == []
    assert len(store.partials()) == 1
    entry, observer = run(make_job(dataset), store)
    assert observer.taken == max(end for end in (0, 512, 1024, 1536, 2000) if end <= batches * 32)
    assert without_seal(entry) == without_seal(whole)
    assert store.partials() == []


def test_two_that_want_the_same_entry_compute_it_once(tmp_path: Path) -> None:
    last = KILLED.strip().splitlines()[-1]
    code = KILLED.replace("int(sys.argv[2])", "-1").replace(
        last,
        "seen = Silent()\n"
        "extract_features(make_job(dataset), Store(Path(sys.argv[1])), Engine, seen, workers=2)\n"
        "print(seen.forwarded)",
    )
    root = Path(__file__).parents[2]
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), "-"],
            cwd=root,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = sorted(int(one.communicate()[0]) for one in both)
    assert outputs == [0, 2130]
    assert [one.returncode for one in both] == [0, 0]


def test_a_file_cut_short_is_no_entry_and_resumes(tmp_path: Path) -> None:
    dataset, store = make_dataset(train=2000), Store(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), "60"],
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == -9
    (partial,) = store.partials()
    with partial.open("r+b") as file:
        file.truncate(partial.stat().st_size // 2)
    entry, _ = run(make_job(dataset), store)
    np.testing.assert_array_equal(entry["train"].features, expected(dataset, "train"))


def test_a_dataset_without_images_is_refused() -> None:
    empty = Dataset(
        name="none", classes=("a",), splits={"train": make_split("train", 0, seed=1)}, root=None
    )
    with pytest.raises(DataError, match="no images"):
        make_job(empty)


@pytest.mark.parametrize(
    ("size", "images"), [(32, 256), (64, 256), (128, 64), (224, 32), (299, 16), (1024, 8)]
)
def test_batches_hold_about_as_many_pixels_at_every_size(size: int, images: int) -> None:
    assert default_batch_size(size) == images
    assert default_batch_size(size, gpu=True) == 4 * images


@pytest.mark.parametrize("devices", [1, 3])
def test_the_estimate_is_from_the_second_batch_of_every_device(
    devices: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, float, str]] = []

    class Several(FakeEngine):
        def __init__(self, cuts: Any) -> None:
            super().__init__(cuts, batch_size=16)
            self.devices = devices

    class Observer(Silent):
        def estimated(self, rows: int, seconds: float, device: str) -> None:
            told.append((rows, seconds, device))

    seconds = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: next(seconds))  # a batch takes a second
    monkeypatch.setattr("probe.extraction.extract.time", clock)
    dataset = make_dataset()
    extract_features(make_job(dataset), Store(tmp_path), Several, Observer(), workers=1)
    left = 700 + 130 - 2 * devices * 16
    assert told == [(left, pytest.approx(left / 16), "fake")]
