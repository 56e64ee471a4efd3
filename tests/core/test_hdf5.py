"""No reader of HDF5 follows a file's storage, parts or links into other files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from probe.cache.features import FeatureSet
from probe.cache.interchange import import_features
from probe.cache.store import Store
from probe.datasets import load_dataset
from probe.errors import ProbeError
from probe.weights import open_tensors
from tests.cache.toy import extract
from tests.fakes import make_dataset

N = 12
SECRET = bytes(range(256)) * 64


def _external(file: Any, name: str, array: Any, secret: Path) -> None:
    place = [(str(secret), 0, array.nbytes)]
    file.create_dataset(name, array.shape, array.dtype, external=place)


def _virtual(file: Any, name: str, array: Any, secret: Path) -> None:
    other = secret.with_suffix(".h5")
    with h5py.File(other, "w") as far:
        far["far"] = array
    layout = h5py.VirtualLayout(array.shape, array.dtype)
    layout[...] = h5py.VirtualSource(str(other), "far", array.shape)
    file.create_virtual_dataset(name, layout)


def _link(file: Any, name: str, array: Any, secret: Path) -> None:
    other = secret.with_suffix(".h5")
    with h5py.File(other, "w") as far:
        far["far"] = array
    file[name] = h5py.ExternalLink(str(other), "far")


def _soft_link(file: Any, name: str, array: Any, secret: Path) -> None:
    _link(file, "beside", array, secret)
    file[name] = h5py.SoftLink("/beside")


def _features(path: Path, put: Any, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        put(file, "features", np.ones((N, 4), np.uint8), secret)
        file["labels"] = np.arange(N) % 3


def _matlab(path: Path, put: Any, secret: Path) -> None:
    """Write a cell array of text, whose texts MATLAB keeps in a group of their own."""
    with h5py.File(path, "w", userblock_size=512) as file:
        kept = file.create_group("#refs#")
        put(kept, "a", np.full(4, 65, np.uint16), secret)
        kept["b"] = np.full(4, 66, np.uint16)
        labels = file.create_dataset("labels", (1, N), h5py.ref_dtype)
        for row in range(N):
            labels[0, row] = kept["b"].ref
        if kept.get("a", getlink=True).__class__ is h5py.HardLink:  # none refers to a link
            labels[0, 3] = kept["a"].ref
        else:
            file["features"] = h5py.SoftLink("/nowhere")
            return
        file["features"] = np.ones((4, N), np.float32)
    path.write_bytes(b"MATLAB 7.3" + path.read_bytes()[10:])


def _images(path: Path, put: Any, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        put(file, "images", np.ones((N, 8, 8, 3), np.uint8), secret)
        file["labels"] = np.arange(N) % 3


def _weights(path: Path, put: Any, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        put(file.create_group("conv1"), "kernel:0", np.ones((3, 3, 3, 8), np.float32), secret)


def _entry(part: str) -> Callable[[Path, Any, Path], None]:
    def write(path: Path, put: Any, secret: Path) -> None:
        whole = extract(make_dataset(train=40, test=10), Store(path.parent / "cache"))[0]
        shutil.copy(whole.path, path)
        with h5py.File(path, "r+") as file:
            array = np.asarray(file[part][()])
            del file[part]
            put(file, part, array, secret)

    return write


def _import(path: Path) -> None:
    import_features([path], Store(path.parent / "imported"))


def _load(path: Path) -> None:
    load_dataset(str(path), cache_dir=path.parent / "cache")


READERS: dict[str, tuple[Any, Callable[[Path], Any], str]] = {
    "features": (_features, _import, "x.h5"),
    "MATLAB's texts": (_matlab, _import, "x.mat"),
    "images": (_images, _load, "x.h5"),
    "weights": (_weights, open_tensors, "x.h5"),
    "an entry's features": (_entry("train/features"), FeatureSet.open, "x.h5"),
    "an entry's classes": (_entry("classes"), FeatureSet.open, "x.h5"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("put", [_external, _virtual, _link, _soft_link])
def test_nothing_is_read_from_another_file(tmp_path: Path, put: Any, reader: str) -> None:
    write, read, name = READERS[reader]
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    write(tmp_path / name, put, secret)
    with pytest.raises(ProbeError, match=r"in another file|somewhere else"):
        read(tmp_path / name)
