"""HDF5 files of any length on disks that fill: HDF5 crashes where a write fails, so it is not told.

`probe.cache.create` reserves the disk before it writes; how much compressed rows need, nobody
knows beforehand.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

ALIGNMENT = 4096  # arrays of a page or more start at a page
FILE_OPTIONS: dict[str, Any] = {
    # object headers that carry checksums; the older ones, still h5py's default, do not
    "libver": ("v108", "v108"),
    "alignment_threshold": ALIGNMENT,
    "alignment_interval": ALIGNMENT,
}


class _Disk:
    """A file as h5py's file-object driver wants it. After a refusal, writes go nowhere.

    Attributes
    ----------
    refused : OSError or None
        The first refusal.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self.refused: OSError | None = None
        for name in ("read", "readinto", "seek", "tell"):
            setattr(self, name, getattr(self._file, name))

    def write(self, data: memoryview) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        while left and self.refused is None:
            try:
                left = left[self._file.write(left) or 0 :]
            except OSError as error:
                self.refused = error
        return size

    def truncate(self, size: int) -> int:
        try:
            return self._file.truncate(size)
        except OSError as error:
            self.refused = self.refused or error
            return size

    def flush(self) -> None:
        """Nothing is buffered."""

    def close(self) -> None:
        self._file.close()

    def check(self) -> None:
        if self.refused is not None:
            raise OSError(self.refused.errno, os.strerror(self.refused.errno or 0))


@contextmanager
def new_file(path: Path) -> Iterator[tuple[Any, _Disk]]:
    """Yield an empty HDF5 file to write, and the disk below it.

    Raises
    ------
    OSError
        The disk refused; ``disk.check()`` raises the same as soon as it happened.
    """
    disk = _Disk(path)
    try:
        with h5py.File(disk, "w", **FILE_OPTIONS) as file:
            yield file, disk
        disk.check()
    finally:
        disk.close()
