"""The images of `FrozenBackbone.transform`, identified by what they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.indexing import row_number, row_numbers
from probe.datasets.decode import decode, read_file
from probe.datasets.given import Given, given_image, given_images
from probe.datasets.notes import Notes
from probe.errors import DataError
from probe.extraction.recall import Recall, file_content, pixel_content
from probe.preprocess.spec import UInt8Image


class ImageSources:
    """What `transform` was given, as `probe.datasets.spec.Images`."""

    def __init__(self, items: Sequence[Given]) -> None:
        self._items = items
        self._content: NDArray[np.uint8] | None = None
        self.notes = Notes()

    @classmethod
    def of(cls, X: Any) -> ImageSources:
        """Take images in any of the forms that people have them in; see `probe.datasets.given`."""
        items = given_images(X)
        if not items:
            raise DataError("no images to transform")
        return cls([given_image(item, f"image {place}") for place, item in enumerate(items)])

    def __len__(self) -> int:
        return len(self._items)

    def content(self) -> NDArray[np.uint8]:
        """Return what identifies each image, (n_images, 16): the hash of its file or its pixels."""
        if self._content is None:
            rows = [_content(one.source) for one in self._items]
            self._content = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), -1)
        return self._content

    def image(self, row: int) -> UInt8Image:
        """Return the pixels of one image.

        Raises
        ------
        DataError
            A file cannot be read, or an image was changed since `content` told of it.
        """
        row = row_number(row, len(self))
        one, content = self._items[row], self._content
        data = read_file(one.source) if isinstance(one.source, str) else one.source
        if isinstance(data, np.ndarray):
            data = data.copy()  # what is hashed is what goes through the network
        if content is not None and _content(data) != content[row].tobytes():
            raise DataError(f"{one.name}: was changed while its features were computed; try again")
        return decode(data, one.name, self.notes) if isinstance(data, bytes) else data

    def take(self, rows: NDArray[np.intp]) -> ImageSources:
        """Return the images of those rows, in that order."""
        rows = row_numbers(rows, len(self))
        taken = ImageSources([self._items[row] for row in rows.tolist()])
        taken._content, taken.notes = self.content()[rows], self.notes
        return taken

    def missing(self, recall: Recall) -> NDArray[np.intp]:
        """Return the first row of each image that the cache lacks."""
        seen: dict[bytes, int] = {}
        for row, content in enumerate(self.content()):
            if (one := content.tobytes()) not in recall:
                seen.setdefault(one, row)
        return np.array(sorted(seen.values()), np.intp)


def _content(source: str | bytes | UInt8Image) -> bytes:
    if isinstance(source, str):
        return file_content(read_file(source))
    return file_content(source) if isinstance(source, bytes) else pixel_content(source)
