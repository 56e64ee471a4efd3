"""The digits that come with scikit-learn, read from its file.

Not through `sklearn.datasets.load_digits`: importing that takes a second, which is longer than
a command that finds its features in the cache may take.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.datasets.packed import Rows, grey_to_rgb
from probe.errors import DataError, MissingFilesError

SIDE = 8
WHITE = 16  # the largest grey value in the file


@dataclass(frozen=True, kw_only=True)
class DigitsFile:
    """Lines of 64 grey values from 0 to 16 and a label."""

    path: Path

    @property
    def labels_path(self) -> Path:
        return self.path

    @property
    def kind(self) -> str:
        return "digits"

    @property
    def labels_kind(self) -> None:
        return None

    def read_labels(self) -> NDArray[np.int32]:
        """Return the labels, (n_images,)."""
        return self._table()[:, -1].astype(np.int32)

    def open(self) -> Rows:
        """Open the pixels, scaled to 0 to 255; 115 kB."""
        grey = np.rint(self._table()[:, :-1] * (255 / WHITE)).astype(np.uint8)
        images = grey.reshape(-1, SIDE, SIDE)
        return Rows(count=len(images), read=lambda start, stop: grey_to_rgb(images[start:stop]))

    def _table(self) -> NDArray[np.float64]:
        try:
            table = np.loadtxt(self.path, delimiter=",", ndmin=2)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{self.path}: {error}; install scikit-learn again") from error
        if table.shape[1] != SIDE * SIDE + 1 or table.min() < 0 or table.max() > WHITE:
            raise DataError(f"{self.path}: is not the digits; install scikit-learn again")
        return table


def digits_file() -> DigitsFile:
    """Find the file without importing scikit-learn.

    Raises
    ------
    MissingFilesError
        It is not installed.
    """
    spec = importlib.util.find_spec("sklearn")
    for folder in spec.submodule_search_locations or () if spec else ():
        path = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            return DigitsFile(path=path)
    raise MissingFilesError(
        "digits: digits.csv.gz of scikit-learn is missing; install scikit-learn"
    )
