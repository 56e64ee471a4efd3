"""CIFAR-10 and CIFAR-100, in the binary and the pickled layout of the official site.

References
----------
https://www.cs.toronto.edu/~kriz/cifar.html describes both.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.records import check_regular
from probe.core.regular import read_regular
from probe.datasets.images.packed import LabelledFile, Records, Rows
from probe.datasets.named.pickles import load_pickle, text_keys
from probe.errors import DataError

log = logging.getLogger(__name__)

SIDE = 32
PIXELS = 3 * SIDE * SIDE
_MOST_BYTES = 8 << 30  # of a binary file; CIFAR's have 184 MB
_AT_ONCE = 4096  # images whose labels are read

# The keys of the class names in the pickled meta file, and the binary layout's text files.
META = {
    "cifar10": ("batches.meta", "label_names", "batches.meta.txt"),
    "fine": ("meta", "fine_label_names", "fine_label_names.txt"),
    "coarse": ("meta", "coarse_label_names", "coarse_label_names.txt"),
}


@dataclass(frozen=True, kw_only=True)
class CifarBinary(LabelledFile):
    """Records of label bytes, then 32x32 of red, of green, of blue.

    Parameters
    ----------
    path : Path
    label_bytes : int
        1 for CIFAR-10; 2 for CIFAR-100: coarse, fine.
    label : int
        Position of the label among them.
    """

    label_bytes: int
    label: int

    @property
    def kind(self) -> str:
        return f"cifar-binary-{self.label_bytes}"

    def read_labels(self) -> NDArray[np.int32]:
        count, size = self._count(), self.label_bytes + PIXELS
        records = Records(self.path, offset=0, size=size)
        starts = range(0, count, _AT_ONCE)
        parts = [records.read(at, min(at + _AT_ONCE, count))[:, self.label] for at in starts]
        labels: NDArray[np.int32] = np.concatenate(parts).astype(np.int32)
        return labels

    def open(self) -> Rows:
        count = self._count()
        records = Records(self.path, offset=0, size=self.label_bytes + PIXELS)

        def read(start: int, stop: int) -> NDArray[np.uint8]:
            return _planes_to_rgb(records.read(start, stop)[:, self.label_bytes :])

        return Rows(count=count, read=read)

    def _count(self) -> int:
        size, record = check_regular(self.path, _MOST_BYTES), self.label_bytes + PIXELS
        if size == 0 or size % record:
            raise DataError(
                f"{self.path}: {size:,} bytes are no whole number of records of {record:,}; "
                "it is cut short or another format, get it again"
            )
        return size // record


@dataclass(frozen=True, kw_only=True)
class CifarPickle(LabelledFile):
    """A pickled dictionary of `data`, uint8 (n_images, 3072), and lists of labels.

    Parameters
    ----------
    path : Path
    label_key : str
        ``labels``, ``fine_labels`` or ``coarse_labels``.
    """

    label_key: str

    @property
    def kind(self) -> str:
        return "cifar-pickle"

    @property
    def labels_kind(self) -> str:
        return f"labels-2/{self.kind}-{self.label_key}"

    def read_labels(self) -> NDArray[np.int32]:
        batch = self._batch()
        labels, data = batch.get(self.label_key), self._data(batch)
        try:
            values = np.asarray(labels)
        except ValueError:  # lists of different lengths in it
            values = np.empty(0)
        if values.shape != (len(data),) or values.dtype.kind not in "iu":
            raise DataError(
                f"{self.path}: {self.label_key!r} is not one whole number for each of the "
                f"{len(data):,} images; get it again"
            )
        return np.clip(values, -1, 2**31 - 1).astype(np.int32)

    def open(self) -> Rows:
        """Open the pixels: the whole file is held, 30 MB for a batch of CIFAR-10."""
        data = self._data(self._batch())
        return Rows(count=len(data), read=lambda start, stop: _planes_to_rgb(data[start:stop]))

    def _batch(self) -> dict[str, Any]:
        batch = load_pickle(self.path)
        if not isinstance(batch, dict):
            raise DataError(f"{self.path}: is no CIFAR batch, for it holds no dictionary")
        return text_keys(batch)

    def _data(self, batch: dict[str, Any]) -> NDArray[np.uint8]:
        data = batch.get("data")
        if (
            not isinstance(data, np.ndarray)
            or data.dtype != np.uint8
            or data.shape[1:] != (PIXELS,)
        ):
            found = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else "missing"
            raise DataError(
                f"{self.path}: 'data' is {found}, not uint8 (n, {PIXELS}); it is no CIFAR batch"
            )
        return data


def class_names(folder: Path, *, pickled: bool, key: str, known: Sequence[str]) -> tuple[str, ...]:
    """Return the names from the layout's meta file, or the known ones where it is missing.

    Raises
    ------
    DataError
        The file has another number of names, or cannot be read.
    """
    meta, field, text = META[key]
    path = folder / (meta if pickled else text)
    if not path.is_file():
        log.info("%s is missing; using the known class names", path)
        return tuple(known)
    names = _pickled_names(path, field) if pickled else _text_names(path)
    if len(names) != len(known) or len(set(names)) != len(names):
        raise DataError(
            f"{path}: {len(names)} class names instead of {len(known)} different ones; get it "
            "again, or remove it to use the known names"
        )
    return names


def _pickled_names(path: Path, field: str) -> tuple[str, ...]:
    meta = load_pickle(path)
    names = text_keys(meta).get(field) if isinstance(meta, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str | bytes) for name in names):
        raise DataError(f"{path}: has no list {field!r}; get it again, or remove it")
    try:
        return tuple(n.decode() if isinstance(n, bytes) else str(n) for n in names)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: class names that are not UTF-8; get it again") from error


def _text_names(path: Path) -> tuple[str, ...]:
    try:
        return tuple(read_regular(path).decode("utf-8").split())
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path}: cannot be read as text; get it again, or remove it") from error


def _planes_to_rgb(planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (n, 3072) as (n, 32, 32, 3)."""
    return np.ascontiguousarray(planes.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))
