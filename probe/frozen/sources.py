"""What people have images in: paths, arrays, lists of either, columns of a frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.datasets.decode import decode, decode_file, read_file
from probe.errors import DataError
from probe.preprocess import UInt8Image
from probe.recall import Recall, file_content, pixel_content


class ImageSources:
    """What `transform` was given, as `probe.datasets.spec.Images`."""

    def __init__(self, items: Sequence[Any]) -> None:
        self._items = items
        self._content: NDArray[np.uint8] | None = None

    @classmethod
    def of(cls, X: Any) -> ImageSources:
        """Take images in any of the forms that people have them in."""
        if isinstance(X, str | Path):
            raise DataError(f"{X}: one path; give a list of paths or images")
        if hasattr(X, "iloc"):  # a pandas column, or a frame of one
            X = X.to_numpy()
        if isinstance(X, np.ndarray) and X.dtype.kind in "OU" and X.ndim == 2 and X.shape[1] == 1:
            X = X[:, 0]  # what ColumnTransformer hands over
        items = list(X)
        if not items:
            raise DataError("no images to transform")
        return cls([_checked(item, place) for place, item in enumerate(items)])

    def __len__(self) -> int:
        return len(self._items)

    def content(self) -> NDArray[np.uint8]:
        if self._content is None:
            rows = [
                file_content(read_file(one)) if isinstance(one, str) else pixel_content(one)
                for one in self._items
            ]
            self._content = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), -1)
        return self._content

    def image(self, row: int) -> UInt8Image:
        one = self._items[row]
        if not isinstance(one, str):
            return one  # type: ignore[no-any-return]
        if self._content is None:
            return decode_file(one)
        data = read_file(one)
        if file_content(data) != self._content[row].tobytes():
            raise DataError(f"{one}: was changed while its features were computed; try again")
        return decode(data, one)

    def take(self, rows: NDArray[np.intp]) -> ImageSources:
        taken = ImageSources([self._items[row] for row in rows.tolist()])
        taken._content = self.content()[rows]
        return taken

    def missing(self, recall: Recall) -> NDArray[np.intp]:
        """Return the first row of each image that the cache lacks."""
        seen: dict[bytes, int] = {}
        for row, content in enumerate(self.content()):
            if (one := content.tobytes()) not in recall:
                seen.setdefault(one, row)
        return np.array(sorted(seen.values()), np.intp)


def _checked(item: Any, place: int) -> str | UInt8Image:
    if isinstance(item, str | Path):
        return str(item)
    array = np.asarray(item)  # a Pillow image is one too
    if array.dtype != np.uint8:
        raise DataError(
            f"image {place} has {array.dtype} pixels; give uint8 from 0 to 255, or a path"
        )
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    if array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise DataError(
            f"image {place} has the shape {array.shape}, expected (height, width, 3), RGB"
        )
    return np.ascontiguousarray(array)
