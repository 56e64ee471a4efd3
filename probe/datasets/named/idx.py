"""IDX, the format of MNIST and Fashion-MNIST, plain or compressed with gzip.

References
----------
http://yann.lecun.com/exdb/mnist/: big-endian magic (0, 0, type, dimensions), sizes, then data.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.core.records import check_regular
from probe.core.regular import open_regular
from probe.datasets.images.packed import LabelledFile, Records, Rows, grey_to_rgb
from probe.errors import DataError

UNSIGNED_BYTE = 8
GZIP_MAGIC = b"\x1f\x8b"
MAX_SIDE = 1 << 14
MOST_UNFOLDED = 1100  # times: the largest ratio of deflate
MOST_BYTES = 8 << 30


@dataclass(frozen=True, kw_only=True)
class IdxFile(LabelledFile):
    """Grey images in one file and their labels in another.

    Parameters
    ----------
    path, labels : Path
        The two files, compressed or not, whatever their names.
    """

    labels: Path

    @property
    def labels_path(self) -> Path:
        return self.labels

    @property
    def kind(self) -> str:
        return "idx"

    def read_labels(self) -> NDArray[np.int32]:
        (count,), data = _read_whole(self.labels_path, dimensions=1)
        return np.frombuffer(data, np.uint8, count).astype(np.int32)

    def check_counts(self, n_labels: int) -> None:
        """Raise DataError if there are not as many images as labels."""
        count = _sizes(self.path, dimensions=3)[0]
        if count != n_labels:
            raise DataError(
                f"{self.path}: holds {count:,} images, but {self.labels_path.name} beside it "
                f"holds {n_labels:,} labels; get both again"
            )

    def open(self) -> Rows:
        """Open the pixels; a compressed file is decompressed into memory once, 47 MB for MNIST."""
        count, height, width = _sizes(self.path, dimensions=3)
        if _compressed(self.path):
            _shape, data = _read_whole(self.path, dimensions=3)
            grey = np.frombuffer(data, np.uint8).reshape(count, height, width)
            return Rows(count=count, read=lambda start, stop: grey_to_rgb(grey[start:stop]))
        records = Records(self.path, offset=_header_bytes(3), size=height * width)

        def read(start: int, stop: int) -> NDArray[np.uint8]:
            return grey_to_rgb(records.read(start, stop).reshape(-1, height, width))

        return Rows(count=count, read=read)


def _read_whole(path: Path, *, dimensions: int) -> tuple[tuple[int, ...], bytes]:
    sizes = _sizes(path, dimensions=dimensions)
    length = _header_bytes(dimensions) + math.prod(sizes)
    if length > MOST_UNFOLDED * check_regular(path, MOST_BYTES):
        raise DataError(f"{path}: claims {length:,} bytes, more than it can hold; get it again")
    data = _read(path, length + 1)[_header_bytes(dimensions) :]
    _check_length(path, sizes, len(data))
    return sizes, data


def _sizes(path: Path, *, dimensions: int) -> tuple[int, ...]:
    """Read and check the header."""
    header = _read(path, _header_bytes(dimensions))
    magic = bytes((0, 0, UNSIGNED_BYTE, dimensions))
    if header[:4] != magic:
        raise DataError(
            f"{path}: starts with {header[:4].hex() or 'nothing'}, not {magic.hex()} as IDX "
            f"{'images' if dimensions == 3 else 'labels'} do; it is another file, get it again"
        )
    if len(header) < _header_bytes(dimensions):
        raise DataError(f"{path}: ends within its header; get it again")
    sizes = struct.unpack(f">{dimensions}I", header[4:])
    if not all(0 < side <= MAX_SIDE for side in sizes[1:]):
        raise DataError(f"{path}: claims images of {sizes[1:]} pixels; get it again")
    if not _compressed(path):
        _check_length(path, sizes, path.stat().st_size - len(header))
    return sizes


def _check_length(path: Path, sizes: tuple[int, ...], found: int) -> None:
    if found != math.prod(sizes):
        raise DataError(
            f"{path}: {found:,} bytes of data instead of {math.prod(sizes):,}; it is cut short "
            "or damaged, get it again"
        )


def _header_bytes(dimensions: int) -> int:
    return 4 + 4 * dimensions


def _compressed(path: Path) -> bool:
    with open_regular(path) as file:
        return file.read(2) == GZIP_MAGIC


def _read(path: Path, size: int) -> bytes:
    try:
        with open_regular(path) as raw:
            return (gzip.GzipFile(fileobj=raw) if _compressed(path) else raw).read(size)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read to its end ({error}); get it again") from error
