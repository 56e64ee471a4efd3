"""One definition of an image: whatever form it comes in, it is the image that its file is."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from probe.datasets import decode
from probe.datasets.images.image_inputs import image_input, list_images, read_image
from probe.errors import DataError, ImageError
from tests.datasets.test_decode import AS_HELD, SHOWN, UPRIGHT, encoded

RAMP = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


@pytest.mark.parametrize("name", SHOWN)
def test_an_image_of_pillows_is_read_as_its_file_is(name: str) -> None:
    data = SHOWN[name][0]()
    with Image.open(io.BytesIO(data)) as opened:
        np.testing.assert_array_equal(read_image(opened), decode(data, name))
        # one that something has looked at already is the same
        np.testing.assert_array_equal(read_image(opened), decode(data, name))


@pytest.mark.parametrize("mode", ["HSV", "YCbCr", "CMYK", "1", "L", "LA", "P", "RGBA"])
def test_an_image_of_pillows_that_no_file_holds(mode: str) -> None:
    made = Image.new("RGB", (4, 3), (255, 255, 255)).convert(mode)
    assert read_image(made).shape == (3, 4, 3)
    assert (read_image(made) >= 254).all()


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_an_image_of_pillows_is_turned_as_its_file_is(fmt: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    stored = Image.fromarray(np.ascontiguousarray(AS_HELD[orientation](UPRIGHT)))
    data = encoded(stored, fmt, exif=exif)
    with Image.open(io.BytesIO(data)) as opened:
        np.testing.assert_array_equal(read_image(opened), decode(data, "x"))


def test_files_arrays_and_bytes(tmp_path: Path) -> None:
    data = encoded(Image.fromarray(RAMP), "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(data)
    stream = io.BytesIO(data)
    for _ in range(2):  # a stream that was read is at its end
        np.testing.assert_array_equal(read_image(stream), RAMP)
    with path.open("rb") as file:
        forms = [path, str(path), data, file, RAMP, RAMP[:, ::-1][:, ::-1]]
        for one in forms:
            np.testing.assert_array_equal(read_image(one), RAMP)
    grey = RAMP[:, :, 0]
    np.testing.assert_array_equal(read_image(grey), np.stack([grey] * 3, axis=2))


def closed() -> io.BytesIO:
    stream = io.BytesIO(b"x")
    stream.close()
    return stream


def half() -> io.BytesIO:
    data = encoded(Image.fromarray(np.tile(RAMP, (9, 9, 1))), "PNG")
    return io.BytesIO(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: None, "image 7: is of type NoneType; give a path"),
        (lambda: 3, "image 7: is of type int"),
        (lambda: [[1, 2], [3, 4]], "image 7: is of type list"),
        (lambda: np.zeros((8, 8, 3)), "image 7: has float64 pixels"),
        (lambda: np.zeros((8, 8, 4), np.uint8), r"image 7: has the shape \(8, 8, 4\)"),
        (lambda: np.zeros((0, 8), np.uint8), r"image 7: has the shape \(0, 8, 3\)"),
        (lambda: Image.new("RGB", (0, 3)), "image 7: is empty"),
        (lambda: Image.new("F", (2, 2)), "image 7: has floating-point pixels"),
        (lambda: Image.open(half()), "image 7: cannot be decoded: "),
        (lambda: b"", "image 7: is empty"),
        (lambda: io.BytesIO(b"no image"), "image 7: is not a JPEG"),
        (lambda: io.StringIO("text"), "image 7: is a file that was opened as text"),
        (closed, "image 7: cannot be read: I/O operation on closed file"),
        (lambda: "gone.png", r"^gone\.png: cannot be opened: No such file or directory$"),
        (lambda: "a\0b.png", "cannot be opened: .*embedded null"),
    ],
)
def test_what_is_no_image_is_named_by_its_place_or_path(
    make: Callable[[], object], message: str
) -> None:
    with pytest.raises(ImageError, match=message):
        image_input(make(), "image 7").pixels()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "one",
    [
        "photo.jpg",
        Path("photo.jpg"),
        b"\xff\xd8",
        io.BytesIO(b"\xff\xd8"),
        Image.new("RGB", (4, 4)),
        np.zeros((32, 32, 3), np.uint8),
        np.zeros((32, 32, 4), np.uint8),
        np.zeros((32, 32), np.uint8),
        np.array([["a.png", "b.png"]]),
        None,
        3,
    ],
    ids=lambda one: type(one).__name__,
)
def test_one_image_is_no_collection_of_images(one: object) -> None:
    with pytest.raises(DataError, match=r"list"):
        list_images(one)


def test_collections() -> None:
    assert list_images(path for path in ("a", "b")) == ["a", "b"]
    assert list_images(np.array([["a"], ["b"]], dtype=object)) == ["a", "b"]
    assert list_images([]) == []
    for several in (np.zeros((2, 8, 8), np.uint8), np.zeros((2, 8, 8, 3), np.uint8)):
        assert [one.shape for one in list_images(several)] == [several.shape[1:]] * 2
