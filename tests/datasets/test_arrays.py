"""Images in arrays: which array is what, and pixels that are those that were saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from probe.datasets import Dataset
from probe.datasets.images.image_inputs import pixel_content
from probe.errors import DataError, UnsafeFileError
from tests.datasets.places import load, read_damaged


def pictures(count: int, *, grey: bool = False, seed: int = 0) -> NDArray[np.uint8]:
    shape = (count, 8, 9) if grey else (count, 8, 9, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def check(dataset: Dataset, split: str, pixels: NDArray[np.uint8], labels: list[int]) -> None:
    found = dataset.splits[split]
    rgb = np.repeat(pixels[..., None], 3, axis=-1) if pixels.ndim == 3 else pixels
    assert found.labels.tolist() == labels
    assert len(found) == len(pixels)
    for row in range(len(found)):
        assert np.array_equal(found.images.image(row), rgb[row])
        assert found.images.content()[row].tobytes() == pixel_content(rgb[row])


NAMES = {
    "keras": ("x_train", "y_train", "x_test", "y_test"),
    "medmnist": ("train_images", "train_labels", "test_images", "test_labels"),
    "capitals": ("X_train", "Y_train", "X_test", "Y_test"),
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("how", ["npz", "compressed", "npy", "hdf5", "chunks"])
def test_arrays_by_split(tmp_path: Path, names: tuple[str, ...], how: str) -> None:
    train, test = pictures(6), pictures(4, seed=1)
    values = (train, np.array([[0], [3]] * 3), test, np.array([[3], [0]] * 2))
    arrays = dict(zip(names, values, strict=True))
    place = tmp_path / "some data"
    if how in {"npz", "compressed"}:
        place = place.with_suffix(".npz")
        (np.savez if how == "npz" else np.savez_compressed)(place, **arrays)
    elif how == "npy":
        place.mkdir()
        for name, one in arrays.items():
            np.save(place / f"{name}.npy", one)
    else:
        place = place.with_suffix(".h5")
        with h5py.File(place, "w") as file:
            for name, one in arrays.items():
                extra: dict[str, Any] = {"chunks": True, "compression": "gzip"}
                file.create_dataset(name, data=one, **(extra if how == "chunks" else {}))
    dataset = load(place)
    assert dataset.name == "some data"
    assert dataset.classes == ("0", "3")
    check(dataset, "train", train, [0, 1] * 3)
    check(dataset, "test", test, [1, 0] * 2)
    assert list(dataset.splits["test"].ids[:2]) == ["test/00000", "test/00001"]


def test_grey_channels_first_columns_and_names(tmp_path: Path) -> None:
    grey, first = pictures(4, grey=True), pictures(4).transpose(0, 3, 1, 2)
    names = np.array(["cat", "dog"])
    np.savez(
        tmp_path / "a.npz",
        images=grey,
        labels=[1, 0, 1, 0],
        patient=list("aabb"),
        class_names=names,
    )
    dataset = load(tmp_path / "a.npz")
    assert dataset.classes == ("cat", "dog")
    assert list(dataset.splits["train"].columns["patient"]) == list("aabb")
    check(dataset, "train", grey, [1, 0, 1, 0])
    assert len(load(tmp_path / "a.npz", where="patient == 'b'").splits["train"]) == 2
    assert load(tmp_path / "a.npz", label="patient").classes == ("a", "b")
    np.savez(tmp_path / "b.npz", data=np.ascontiguousarray(first), target=[1, 0, 1, 0])
    check(load(tmp_path / "b.npz"), "train", pictures(4), [1, 0, 1, 0])


def test_flags_are_several_labels_and_one_hot_is_one(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=pictures(3), y=np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]]))
    dataset = load(tmp_path / "a.npz")
    assert dataset.splits["train"].labels.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    np.savez(tmp_path / "b.npz", x=pictures(3), y=np.eye(3)[[2, 0, 1]])
    assert load(tmp_path / "b.npz").splits["train"].labels.tolist() == [2, 0, 1]


def test_images_alone_need_to_be_said_to_have_no_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", pictures(3))
    with pytest.raises(DataError, match="--unlabeled"):
        load(tmp_path / "x.npy")
    check(load(tmp_path / "x.npy", unlabeled=True), "train", pictures(3), [0, 0, 0])


WRONG = {
    "float": ({"images": pictures(2) / 255.0, "y": [0, 1]}, "float64 pixels; save uint8"),
    "two": ({"a": pictures(2), "b": pictures(2), "y": [0, 1]}, "a, b may all be the images"),
    "none": ({"weights": np.zeros((3, 3))}, r"no array of images; expected .* are weights float64"),
    "lengths": ({"x": pictures(3), "y": [0, 1]}, "no labels|--label|--unlabeled"),
    "scores": ({"x": pictures(2), "y": [[0.5, 0.5], [1, 0]]}, "other values than 0 and 1"),
}


@pytest.mark.parametrize(("arrays", "message"), WRONG.values(), ids=WRONG)
def test_what_is_unclear_is_one_line(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path / "x.npz")
    assert "\n" not in str(caught.value)


def test_hdf5_that_points_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(8 * 9 * 3 * 2))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        where = [(str(tmp_path / "secret"), 0, 8 * 9 * 3 * 2)]
        file.create_dataset("images", (2, 8, 9, 3), "u1", external=where)
    with pytest.raises(UnsafeFileError, match="keeps its data in another file"):
        load(tmp_path / "x.h5")
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file.create_dataset("images", (10**9, 32, 32, 3), "u1", chunks=True)
    with pytest.raises(UnsafeFileError, match="most of it would be made up"):
        load(tmp_path / "y.h5")


@pytest.mark.parametrize("how", ["npz", "h5"])
def test_damage_raises_no_other_error(tmp_path: Path, how: str) -> None:
    file = tmp_path / f"x.{how}"
    if how == "npz":
        np.savez_compressed(file, x=pictures(4), y=[0, 1, 0, 1])
    else:
        with h5py.File(file, "w") as made:
            made.create_dataset("x", data=pictures(4), chunks=True, compression="gzip")
            made["y"] = [0, 1, 0, 1]
    read_damaged(file, seed=0)


@pytest.mark.parametrize("grey", [False, True])
def test_pixels_overwritten_during_the_pass_are_noticed(tmp_path: Path, grey: bool) -> None:
    """The features of the new pixels would be kept under the hashes of the old ones."""
    file = tmp_path / "x.npz"
    np.savez(file, x=pictures(4, grey=grey), y=[0, 1, 0, 1])
    images = load(file).splits["train"].images
    images.content()
    images.image(3)
    np.savez(tmp_path / "new.npz", x=pictures(4, grey=grey, seed=1), y=[0, 1, 0, 1])
    with file.open("r+b") as there:
        there.write((tmp_path / "new.npz").read_bytes())
    for row in range(4):
        with pytest.raises(DataError, match=f"image {row} was changed since this command"):
            images.image(row)
