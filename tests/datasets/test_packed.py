from __future__ import annotations

import errno
import os
import pickle
import resource
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from probe.datasets import Dataset, load_dataset
from probe.datasets.images.packed import ByteFile
from probe.datasets.named.cifar import CifarBinary, CifarPickle
from probe.errors import DataError
from tests.datasets.conftest import LONG_AGO

Loader = Callable[[], Dataset]


@pytest.fixture(params=["cifar-10-batches-bin", "cifar-10-batches-py"])
def loader(request: pytest.FixtureRequest, cifar10: Path, tmp_path: Path) -> Loader:
    for path in cifar10.rglob("*"):
        os.utime(path, (LONG_AGO, LONG_AGO))
    return lambda: load_dataset("cifar10", root=cifar10 / request.param, cache_dir=tmp_path / "c")


def test_an_unchanged_dataset_is_not_read_again(
    loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = loader().splits["train"]
    content = first.images.content()

    def refuse(self: object) -> None:
        raise AssertionError("pixels were read")

    for each in (CifarBinary, CifarPickle):
        monkeypatch.setattr(each, "open", refuse)
    # labels of a pickle are believed of these very bytes; where reading is quick they are read
    monkeypatch.setattr(CifarPickle, "read_labels", refuse)
    again = loader().splits["train"]
    np.testing.assert_array_equal(again.labels, first.labels)
    np.testing.assert_array_equal(again.images.content(), content)


def test_a_changed_file_is_read_again(cifar10: Path, tmp_path: Path) -> None:
    path = cifar10 / "cifar-10-batches-bin" / "data_batch_1.bin"

    def content() -> np.ndarray:
        root = cifar10 / "cifar-10-batches-bin"
        return (
            load_dataset("cifar10", root=root, cache_dir=tmp_path / "c")
            .splits["train"]
            .images.content()
        )

    before = content()
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    path.write_bytes(data)
    assert (content() != before).any(axis=1).nonzero()[0].tolist() == [0]


@pytest.mark.parametrize("layout", ["cifar-10-batches-bin", "cifar-10-batches-py"])
def test_labels_are_those_of_the_file_whatever_its_stamp_says(
    cifar10: Path, tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write through a memory map on tmpfs changes neither size nor times."""
    for path in cifar10.rglob("*"):
        os.utime(path, (LONG_AGO, LONG_AGO))
    root, binary = cifar10 / layout, layout.endswith("bin")
    path = root / ("test_batch.bin" if binary else "test_batch")
    monkeypatch.setattr("probe.datasets.images.packed.stamp_of", lambda _: (1, 2, 3, 4))

    def labels() -> list[int]:
        split = load_dataset("cifar10", root=root, cache_dir=tmp_path / "c").splits["test"]
        split.images.content()
        return split.labels.tolist()

    before = labels()
    assert labels() == before
    data = bytearray(path.read_bytes())
    if binary:
        data[0] = changed = (before[0] + 1) % 10
        path.write_bytes(data)
    else:
        batch = pickle.loads(data, encoding="bytes")
        batch[b"labels"][0] = changed = (before[0] + 1) % 10
        path.write_bytes(pickle.dumps(batch))
    assert labels() == [changed, *before[1:]]


def test_a_file_overwritten_during_the_pass_is_noticed(loader: Loader) -> None:
    """Features of the new pixels would be kept under the hashes of the old ones."""
    images = loader().splits["test"].images
    images.content()
    some = images.take(np.array([2, 0]))  # nor does a choice of rows escape
    images.image(0)
    (file,) = images._files  # type: ignore[attr-defined]
    data = file.path.read_bytes()
    new = bytearray(data)
    if isinstance(file, CifarBinary):
        new[1] ^= 1  # the first pixel, behind the label
    else:
        batch = pickle.loads(data, encoding="bytes")
        batch[b"data"][0, 0] ^= 1
        new = bytearray(pickle.dumps(batch))
        images._opened._rows.clear()  # type: ignore[attr-defined]  # as after another file
    file.path.write_bytes(new)
    with pytest.raises(DataError, match="image 0 was changed since this command looked at it"):
        images.image(0)
    with pytest.raises(DataError, match="was changed"):
        some.image(1)
    assert loader().splits["test"].images.image(0).any()  # and the next command goes on


def test_labels_and_pixels_of_two_versions_are_not_put_together(
    cifar10: Path, tmp_path: Path
) -> None:
    root = cifar10 / "cifar-10-batches-bin"
    images = load_dataset("cifar10", root=root, cache_dir=tmp_path / "c").splits["test"].images
    path = root / "test_batch.bin"
    path.write_bytes(bytes([*path.read_bytes()[:-1], 7]))
    with pytest.raises(DataError, match="this file was changed since"):
        images.content()


def test_a_choice_of_rows_keeps_everything_together(loader: Loader) -> None:
    train = loader().splits["train"]
    rows = np.array([17, 3, 3, 0])
    some = train.take(rows).take(np.array([0, 1]))
    assert list(some.ids) == ["train/00017", "train/00003"]
    np.testing.assert_array_equal(some.labels, train.labels[rows[:2]])
    np.testing.assert_array_equal(some.images.content(), train.images.content()[rows[:2]])
    np.testing.assert_array_equal(some.images.image(0), train.images.image(17))


def test_threads_and_processes_can_share_images(loader: Loader) -> None:
    images = loader().splits["train"].images
    wanted = [images.image(row) for row in range(len(images))]
    copied = pickle.loads(pickle.dumps(images))
    wrong: list[int] = []

    def work(seed: int) -> None:
        for row in np.random.default_rng(seed).permutation(len(images)).tolist():
            wrong.extend([row] if (copied.image(row) != wanted[row]).any() else [])

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_opened_files_are_closed_again(loader: Loader) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        images = loader().splits["train"].images
        for row in range(len(images)):
            images.image(row)
    del images
    assert len(os.listdir("/proc/self/fd")) <= before + 2


def test_a_file_cut_while_it_is_open_raises(cifar10: Path, tmp_path: Path) -> None:
    root = cifar10 / "cifar-10-batches-bin"
    images = load_dataset("cifar10", root=root, cache_dir=tmp_path / "c").splits["test"].images
    images.image(0)
    os.truncate(root / "test_batch.bin", 4000)
    with pytest.raises(DataError, match=r"test_batch\.bin: ends within image 3"):
        images.image(3)


@pytest.mark.parametrize("layout", ["cifar-10-batches-bin", "cifar-10-batches-py"])
def test_memory_does_not_grow_with_the_images_read(
    real_cifar10: Path, tmp_path: Path, layout: str
) -> None:
    dataset = load_dataset("cifar10", root=real_cifar10 / layout, cache_dir=tmp_path)
    images = dataset.splits["train"].images
    for row in range(0, 25_000, 50):  # three files have been open by then
        images.image(row)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for row in range(25_000, 50_000, 5):
        images.image(row)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 40_000  # kB


@pytest.mark.skipif(not hasattr(os, "pread"), reason="Windows has no pread")
def test_a_file_that_its_server_forgot_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.bin").write_bytes(b"0123456789")
    file = ByteFile(tmp_path / "a.bin")
    forgotten, pread = file._descriptor, os.pread

    def failing(descriptor: int, size: int, start: int) -> bytes:
        if descriptor == forgotten:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return pread(descriptor, size, start)

    monkeypatch.setattr(os, "pread", failing)
    assert file.read(2, 3) == b"234"
    assert file.read(5, 9) == b"56789"
