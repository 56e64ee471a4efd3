"""Images as users pass them: paths, open files, bytes, arrays, Pillow images, and collections."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from probe.core.indexing import row_number, row_numbers
from probe.core.short_repr import short_repr
from probe.core.text import counted
from probe.datasets.images.decode import decode, decode_file, decode_pillow, is_pillow, read_file
from probe.datasets.images.notes import Notes
from probe.datasets.spec import CONTENT_BYTES
from probe.errors import DataError, ImageError

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

    Image = str | os.PathLike[str] | bytes | BinaryIO | NDArray[np.uint8] | PillowImage

EXPECTED = "a path, an open file or its bytes, a uint8 array, or an image of Pillow's"


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageInput:
    """An image that a user passed, as a path, a file's bytes or pixels.

    Parameters
    ----------
    name : str
        For messages.
    source : str, bytes, or uint8 (height, width, 3)
        A file's path, a file's contents, or pixels in RGB.
    """

    __repr__ = short_repr

    name: str
    source: str | bytes | NDArray[np.uint8]

    def pixels(self) -> NDArray[np.uint8]:
        """Return it as RGB, uint8, (height, width, 3).

        Raises
        ------
        ImageError
            It cannot be read.
        """
        if isinstance(self.source, str):
            return decode_file(self.source)
        return decode(self.source, self.name) if isinstance(self.source, bytes) else self.source


def image_input(image: Image, name: str = "image") -> ImageInput:
    """Return a user's image as an `ImageInput`.

    Parameters
    ----------
    image : path; open file, or bytes of one; uint8 array; image of Pillow's
        Arrays are RGB, (height, width, 3), or grey, (height, width). Files are read from their
        start; a Pillow image has the pixels that a file of it would have.
    name : str
        For messages; of a path, the path is used.

    Raises
    ------
    ImageError
        It is something else, or an open file or an image of Pillow's cannot be read.
    """
    if isinstance(image, str | os.PathLike):
        return ImageInput(name=os.fsdecode(image), source=os.fsdecode(image))
    if isinstance(image, bytes):
        return ImageInput(name=name, source=image)
    if is_pillow(image):
        return ImageInput(name=name, source=decode_pillow(image, name))
    if hasattr(image, "read"):
        return ImageInput(name=name, source=_contents(image, name))
    if hasattr(image, "__array__"):
        return ImageInput(name=name, source=_rgb(np.asarray(image), name))
    raise ImageError(name, f"is of type {type(image).__name__}; give {EXPECTED}")


def read_image(image: Image, name: str = "image") -> NDArray[np.uint8]:
    """Return the pixels of an image, RGB, uint8, (height, width, 3); see `image_input`."""
    return image_input(image, name).pixels()


def list_images(images: Any) -> list[Any]:
    """Return the images of a collection as a list, each of them for `image_input`.

    Parameters
    ----------
    images : iterable
        A list, a generator, an array (n, height, width, 3) or (n, height, width), a column of a
        pandas frame, or a frame of one.

    Raises
    ------
    DataError
        It is a single image, or not a collection.
    """
    if isinstance(images, str | os.PathLike):
        raise DataError(f"{os.fsdecode(images)}: one path; give a list of paths or images")
    if hasattr(images, "iloc"):
        images = images.to_numpy()
    if isinstance(images, np.ndarray):
        images = _rows(images)
    elif isinstance(images, bytes) or hasattr(images, "read") or is_pillow(images):
        raise DataError("one image was given; put it in a list")
    if not isinstance(images, Iterable):
        raise DataError(f"a {type(images).__name__} is no collection of images; give a list")
    return list(images)


def _rows(images: NDArray[Any]) -> NDArray[Any]:
    """Refuse the array of a single image, whose rows would be taken for images."""
    if images.ndim and images.dtype.kind in "OUS":  # objects and texts
        if images.ndim == 2 and images.shape[1] == 1:
            return images[:, 0]  # a frame, or what ColumnTransformer hands over
        if images.ndim == 2:
            raise DataError(f"{images.shape[1]} columns; give a list, or the column of images")
        return images
    if images.ndim < 3 or (images.ndim == 3 and images.shape[2] <= 4):
        raise DataError(
            f"an array of shape {images.shape} is one image at most; put it in a list (several "
            "are (n, height, width, 3), or grey (n, height, width))"
        )
    return images


def _contents(file: Any, name: str) -> bytes:
    try:
        if file.seekable():
            file.seek(0)  # it may have been read to its end before
        data = file.read()
    except (OSError, ValueError, AttributeError) as error:  # closed, or no file at all
        raise ImageError(name, f"cannot be read: {error}") from error
    if not isinstance(data, bytes):
        raise ImageError(name, "is a file that was opened as text; open it with 'rb'")
    return data


def _rgb(array: NDArray[Any], name: str) -> NDArray[np.uint8]:
    if array.dtype != np.uint8:
        raise ImageError(name, f"has {array.dtype} pixels; give uint8 from 0 to 255, or a path")
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    if array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise ImageError(name, f"has the shape {array.shape}, expected (height, width, 3), RGB")
    return np.ascontiguousarray(array)


class ImageSources:
    """Images in memory or in files anywhere, as `probe.datasets.spec.Images`."""

    def __init__(self, items: Sequence[ImageInput]) -> None:
        self._items = items
        self._content: NDArray[np.uint8] | None = None
        self.notes = Notes()

    @classmethod
    def of(cls, X: Any) -> ImageSources:
        """Take images in any of the forms of `image_input`."""
        items = list_images(X)
        if not items:
            raise DataError("no images were given")
        return cls([image_input(item, f"image {place}") for place, item in enumerate(items)])

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"<{counted(len(self), 'image')}>"

    def content(self) -> NDArray[np.uint8]:
        """Return what identifies each image, (n_images, 16): the hash of its file or its pixels."""
        if self._content is None:
            rows = [_content(one.source) for one in self._items]
            self._content = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), -1)
        return self._content

    def image(self, row: int) -> NDArray[np.uint8]:
        """Return the pixels of one image.

        Raises
        ------
        DataError
            A file cannot be read, or an image was changed since `content` hashed it.
        """
        row = row_number(row, len(self))
        one, content = self._items[row], self._content
        data = read_file(one.source) if isinstance(one.source, str) else one.source
        if isinstance(data, np.ndarray):
            data = data.copy()  # what is hashed is what goes through the network
        if content is not None and _content(data) != content[row].tobytes():
            raise DataError(f"{one.name}: was changed while its features were computed; try again")
        return decode(data, one.name, self.notes) if isinstance(data, bytes) else data

    def encoded(self, row: int) -> bytes | None:
        """Return the bytes of one image's file; None where pixels were given."""
        source = self._items[row_number(row, len(self))].source
        if isinstance(source, str):
            return read_file(source)
        return source if isinstance(source, bytes) else None

    def take(self, rows: NDArray[np.intp]) -> ImageSources:
        """Return the images of those rows, in that order."""
        rows = row_numbers(rows, len(self))
        taken = ImageSources([self._items[row] for row in rows.tolist()])
        taken._content, taken.notes = self.content()[rows], self.notes
        return taken


def _content(source: str | bytes | NDArray[np.uint8]) -> bytes:
    if isinstance(source, str):
        return file_content(read_file(source))
    return file_content(source) if isinstance(source, bytes) else pixel_content(source)


def file_content(data: bytes) -> bytes:
    """Return what identifies an image file, as entries made of files record it."""
    return hashlib.blake2b(data, digest_size=CONTENT_BYTES).digest()


def pixel_content(image: NDArray[np.uint8]) -> bytes:
    """Return what identifies an RGB image in memory, as entries made of packed files record it."""
    shape = np.array(image.shape, "<u4").tobytes()
    return hashlib.blake2b(shape + image.tobytes(), digest_size=CONTENT_BYTES).digest()
