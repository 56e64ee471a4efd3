from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.datasets import Dataset, load_dataset
from probe.datasets.named.idx import IdxFile
from probe.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (7, 28, 28), np.uint8)
LABELS = np.arange(7, dtype=np.uint8)


def idx(array: np.ndarray) -> bytes:
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def write(root: Path, *, compressed: bool = False, dots: bool = False) -> Path:
    root.mkdir(exist_ok=True)
    for stem in ("train", "t10k"):
        for name, array in (("images-idx3", PIXELS), ("labels-idx1", LABELS)):
            file = f"{stem}-{name}-ubyte"
            file = file.replace("-idx", ".idx") if dots else file
            data = gzip.compress(idx(array)) if compressed else idx(array)
            (root / (file + ".gz" if compressed else file)).write_bytes(data)
    return root


def load(root: Path, name: str = "mnist") -> Dataset:
    return load_dataset(name, root=root, cache_dir=root.parent / "cache", download=False)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dots", [False, True])
def test_the_images_come_as_rgb(tmp_path: Path, name: str, compressed: bool, dots: bool) -> None:
    dataset = load(write(tmp_path / "d", compressed=compressed, dots=dots), name)
    test = dataset.splits["test"]
    assert len(dataset.classes) == 10
    assert test.labels.tolist() == LABELS.tolist()
    assert test.ids[6] == "test/00006"
    np.testing.assert_array_equal(test.images.image(6), np.stack([PIXELS[6]] * 3, axis=2))


def test_compressed_or_not_is_the_same_content(tmp_path: Path) -> None:
    plain, packed = load(write(tmp_path / "a")), load(write(tmp_path / "b", compressed=True))
    contents = [dataset.splits["train"].images.content() for dataset in (plain, packed)]
    np.testing.assert_array_equal(*contents)


def test_the_folder_that_torchvision_makes(tmp_path: Path) -> None:
    (tmp_path / "MNIST").mkdir()
    write(tmp_path / "MNIST" / "raw")
    assert len(load(tmp_path).splits["train"]) == 7


WRONG = {
    "magic": (lambda data: b"\0\0\x0d" + data[3:], "starts with 00000d"),
    "labels for images": (lambda _data: idx(LABELS), "starts with 00000801, not 00000803"),
    "short": (lambda data: data[:-1], "5,487 bytes of data instead of 5,488"),
    "long": (lambda data: data + b"x", "5,489 bytes"),
    "header": (lambda data: data[:9], "ends within its header"),
    "empty": (lambda _data: b"", "starts with nothing"),
    "claim": (lambda data: data[:8] + b"\xff" * 8 + data[16:], "claims images of"),
    "fewer images": (lambda _data: idx(PIXELS[:5]), "holds 5 images.*holds 7 labels"),
}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_one_clear_line(tmp_path: Path, name: str, compressed: bool) -> None:
    damage, message = WRONG[name]
    root = write(tmp_path / "d", compressed=compressed)
    path = root / ("train-images-idx3-ubyte" + (".gz" if compressed else ""))
    data = damage(idx(PIXELS))
    path.write_bytes(gzip.compress(data) if compressed else data)
    with pytest.raises(DataError, match=f"train-images-idx3-ubyte.*: {message}"):
        load(root).splits["train"].images.content()


def test_a_cut_gzip_file(tmp_path: Path) -> None:
    root = write(tmp_path / "d", compressed=True)
    path = root / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(DataError, match=r"train-images.*cannot be read to its end"):
        load(root).splits["train"].images.content()


def test_a_label_out_of_range(tmp_path: Path) -> None:
    root = write(tmp_path / "d")
    (root / "train-labels-idx1-ubyte").write_bytes(idx(LABELS + 4))
    with pytest.raises(DataError, match="label of image 6 is 10, out of range 0 to 9"):
        load(root)


@given(st.binary(max_size=60), st.booleans())
@settings(deadline=None)
def test_any_bytes_are_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, compressed: bool
) -> None:
    path = tmp_path_factory.mktemp("idx") / "x"
    path.write_bytes(gzip.compress(data) if compressed else data)
    with pytest.raises(DataError):
        IdxFile(path=path, labels=path).open()
