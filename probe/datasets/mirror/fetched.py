"""Images that lie on other machines: each is fetched when it is first needed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from probe.core.indexing import row_number
from probe.core.memo import Memo
from probe.datasets.images.files import FileImages, with_advice
from probe.datasets.mirror.mirror import Mirror
from probe.errors import ImageError

TRIES = 3  # how often a copy is fetched that others remove
Read = TypeVar("Read")


class FetchedImages(FileImages):
    """Image files of which some lie in a mirror; see `FileImages`.

    `content` and `unreadable` fetch all that are not at hand, several at once; an image that is
    read before is fetched alone. What was not chosen is not fetched.
    """

    def __init__(
        self, root: str, ids: Sequence[str], memo: Memo, workers: int, mirror: Mirror
    ) -> None:
        super().__init__(root, ids, memo, workers)
        self._mirror = mirror
        self._missing: dict[str, str] | None = None  # of these and maybe others, once asked

    def content(self) -> NDArray[np.uint8]:
        """Return the hash of each file's bytes, (n_images, 16), fetched before if need be.

        Raises
        ------
        ImageError
            One is not there.
        MissingFilesError
            A host cannot be reached.
        """
        for _ in range(TRIES):
            if self._content is None:
                missing = self._fetch()
                for path in self._paths() if missing else ():
                    if path in missing:
                        raise self._absent(path, missing[path])
            with suppress(ImageError):
                return super().content()
            if all(map(os.path.exists, self._paths())):
                break
            self._missing = None  # copies were removed meanwhile
        return super().content()

    def image(self, row: int) -> NDArray[np.uint8]:
        """Decode one image to RGB, (height, width, 3)."""
        return self._read(row, super().image)

    def encoded(self, row: int) -> bytes:
        """Return the bytes of one file."""
        return self._read(row, super().encoded)

    def address(self, row: int) -> str:
        """Return the path or the URL of one image's file, as a list may name it."""
        path = self.path(row)
        return self._mirror.public_url(path) if self._mirror.has(path) else path

    def unreadable(self) -> dict[int, str]:
        """Fetch and decode every image; return the error of each bad row."""
        missing = self._fetch()
        paths = self._paths() if missing else []
        absent = {row: missing[path] for row, path in enumerate(paths) if path in missing}
        return dict(sorted({**super().unreadable(), **absent}.items()))

    def fetch(self) -> None:
        """Fetch all that are not at hand; those that are missing raise when they are read."""
        self._fetch()

    def take(self, rows: NDArray[np.intp]) -> FetchedImages:
        """Return the images of those rows, in that order."""
        taken = super().take(rows)
        assert isinstance(taken, FetchedImages)
        taken._missing = self._missing
        return taken

    def _of(self, ids: Sequence[str]) -> FetchedImages:
        return FetchedImages(self._root, ids, self._memo, self._workers, self._mirror)

    def _fetch(self) -> dict[str, str]:
        """Fetch all, once; return why some are missing."""
        if self._missing is None:
            paths = [path for path in self._paths() if self._mirror.has(path)]
            what = "1 image" if len(paths) == 1 else f"{len(paths):,} images"
            self._missing = self._mirror.fetch(paths, what) if paths else {}
        return self._missing

    def _read(self, row: int, read: Callable[[int], Read]) -> Read:
        """Read an image; fetch it again where its copy was removed meanwhile, as `prune` does."""
        for _ in range(TRIES):
            self._fetch_one(row)
            with suppress(ImageError):
                return read(row)
            if os.path.exists(self.path(row_number(row, len(self)))):
                break
        return read(row)

    def _fetch_one(self, row: int) -> None:
        path = self.path(row_number(row, len(self)))
        if not self._mirror.has(path):
            return
        missing = self._missing
        if missing is None or (path not in missing and not os.path.exists(path)):
            missing = self._mirror.fetch([path], "1 image")  # on a worker that has no copies, too
        if path in missing:
            raise self._absent(path, missing[path])

    def _absent(self, path: str, reason: str) -> ImageError:
        return with_advice(ImageError(self._mirror.public_url(path), reason))
