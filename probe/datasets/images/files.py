"""Image files, decoded when they are read and identified by a hash of their bytes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import numpy as np
import PIL
from numpy.typing import NDArray

from probe.core.indexing import row_number, row_numbers
from probe.core.memo import Memo, Stamp, stamp_of
from probe.core.regular import patiently
from probe.core.texts import taken_texts
from probe.datasets.images.decode import decode, decode_file, read_file
from probe.datasets.images.image_inputs import file_content
from probe.datasets.images.notes import Notes
from probe.datasets.spec import CONTENT_BYTES
from probe.errors import DataError, ImageError

HASH_KIND = "content-1/file"
AT_ONCE = 2000  # files; of all of them, paths and times would be a large part of the memory


class FileImages:
    """Image files below a folder; see `probe.datasets.spec.Images`.

    Parameters
    ----------
    root : str
        Absolute.
    ids : sequence of str
        Paths below it, or absolute ones.
    workers : int
        Threads that hash and check files.
    """

    def __init__(self, root: str, ids: Sequence[str], memo: Memo, workers: int) -> None:
        self._root, self._ids, self._memo, self._workers = root, ids, memo, workers
        self._content: NDArray[np.uint8] | None = None
        self.notes = Notes()  # unusual properties of the decoded images

    def __len__(self) -> int:
        return len(self._ids)

    def __repr__(self) -> str:
        return f"<{len(self):,} image files in {self._root}>"

    def content(self) -> NDArray[np.uint8]:
        """Return the hash of each file's bytes, (n_images, 16), as it was when first asked for."""
        if self._content is None:
            try:
                self._content = self._hashed()
            except ImageError as error:
                raise with_advice(error) from error
        return self._content

    def _hashed(self) -> NDArray[np.uint8]:
        table = bytearray()
        for start in range(0, len(self), AT_ONCE):
            paths = self._paths(slice(start, start + AT_ONCE))
            stamps = {path: _stamp(path) for path in paths}
            known = self._memo.get_many(HASH_KIND, stamps)
            for path, digest in self._each(_digest, HASH_KIND, stamps, known):
                if isinstance(digest, ImageError):
                    raise digest
                known[path] = digest
            table += b"".join(map(known.__getitem__, paths))
        return np.frombuffer(bytes(table), np.uint8).reshape(-1, CONTENT_BYTES)

    def image(self, row: int) -> NDArray[np.uint8]:
        """Decode one image to RGB, (height, width, 3).

        Raises
        ------
        ImageError
            It cannot be read.
        DataError
            The file was changed since `content` hashed it: its features would get a wrong key.
        """
        path = self.path(row)
        try:
            data = read_file(path)
            if self._content is not None and file_content(data) != self._content[row].tobytes():
                self._memo.forget_if_possible(path)  # else the next run would raise the same error
                raise DataError(
                    f"{path}: was changed since this command looked at it; run the same command "
                    "again"
                )
            return decode(data, path, self.notes)
        except ImageError as error:
            raise with_advice(error) from error

    def encoded(self, row: int) -> bytes:
        """Return the bytes of one file.

        Raises
        ------
        ImageError
            It cannot be read.
        """
        return read_file(self.path(row))

    def path(self, row: int) -> str:
        """Return where one image's file lies."""
        return os.path.join(self._root, self._ids[row_number(row, len(self))])

    def address(self, row: int) -> str:
        """Return the path or the URL of one image's file, as a list may name it."""
        return self.path(row)

    def take(self, rows: NDArray[np.intp]) -> FileImages:
        """Return the images of those rows, in that order."""
        rows = row_numbers(rows, len(self))
        taken = self._of(taken_texts(self._ids, rows))
        taken._content = None if self._content is None else self._content[rows]
        taken.notes = self.notes
        return taken

    def _of(self, ids: Sequence[str]) -> FileImages:
        return FileImages(self._root, ids, self._memo, self._workers)

    def unreadable(self) -> dict[int, str]:
        """Decode every image that no earlier run decoded; return the error of each bad row."""
        paths, stamps, bad = self._paths(), {}, {}
        for row, path in enumerate(paths):
            try:
                stamps[path] = _stamp(path)
            except ImageError as error:
                bad[row] = error.reason
        kind = decodes_kind()
        known = self._memo.get_many(kind, stamps)
        row_of = {path: row for row, path in enumerate(paths)}
        for path, result in self._each(_decodes, kind, stamps, known):
            if isinstance(result, ImageError):
                bad[row_of[path]] = result.reason
        return dict(sorted(bad.items()))

    def _paths(self, rows: slice = slice(None)) -> list[str]:
        return [os.path.join(self._root, id_) for id_ in self._ids[rows]]

    def _each(
        self,
        function: Callable[[str], bytes | ImageError],
        kind: str,
        stamps: dict[str, Stamp],
        known: dict[str, bytes],
    ) -> list[tuple[str, bytes | ImageError]]:
        """Run a function over the files that are not `known`, and keep successes in the memo."""
        todo = [path for path in stamps if path not in known]
        done: list[tuple[str, bytes | ImageError]] = []
        if not todo:
            return done
        with ThreadPoolExecutor(self._workers) as pool:
            for start in range(0, len(todo), AT_ONCE):
                paths = todo[start : start + AT_ONCE]
                size = -(-len(paths) // self._workers)
                parts = [paths[first : first + size] for first in range(0, len(paths), size)]
                results = pool.map(lambda part: list(map(function, part)), parts)
                block = list(zip(paths, chain.from_iterable(results), strict=True))
                self._memo.put_many(
                    kind, [(path, stamps[path], r) for path, r in block if isinstance(r, bytes)]
                )
                done += block
        return done


def decodes_kind() -> str:
    """Return the memo's kind of images that this version of Pillow decodes."""
    return f"decodes-3/pillow-{PIL.__version__}"


def with_advice(error: ImageError) -> ImageError:
    """Return the error of an image with what can be done about it."""
    advice = "mend or remove it, or leave such images out with --skip-bad"
    return ImageError(error.image, f"{error.reason}; {advice}")


def _stamp(path: str) -> Stamp:
    try:
        return patiently(lambda: stamp_of(path))
    except OSError as error:
        raise ImageError(path, f"cannot be opened: {error.strerror}") from error


def _digest(path: str) -> bytes | ImageError:
    try:
        return file_content(read_file(path))
    except ImageError as error:
        return error


def _decodes(path: str) -> bytes | ImageError:
    try:
        decode_file(path)
    except ImageError as error:
        return error
    return b"\1"
