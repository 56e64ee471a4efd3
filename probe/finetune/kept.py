"""Decoded images kept in memory, so that an epoch in shuffled order costs no decoding.

Packed datasets read a whole file for an image of it, which is cheap in order and ruinous out of it;
folders of JPEGs decode each time. What does not fit is read whenever it is asked for.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from probe.datasets.notes import Notes
from probe.datasets.spec import Images
from probe.preprocess.spec import UInt8Image

BUDGET = 512 << 20  # bytes


class KeptImages:
    """Images of a dataset, the first ones that fit a budget in memory once `fill` was called."""

    def __init__(self, images: Images, budget: int = BUDGET) -> None:
        self._images, self._budget = images, budget
        self._kept: dict[int, UInt8Image] = {}
        self._filled = False

    def __len__(self) -> int:
        return len(self._images)

    @property
    def notes(self) -> Notes:
        """What was unusual of the images that were read."""
        found = getattr(self._images, "notes", None)
        return found if isinstance(found, Notes) else Notes()

    def content(self) -> NDArray[np.uint8]:
        """See Images."""
        return self._images.content()

    def image(self, row: int) -> UInt8Image:
        """See Images."""
        kept = self._kept.get(row)
        return self._images.image(row) if kept is None else kept

    def take(self, rows: NDArray[np.intp]) -> Images:
        """See Images."""
        return self._images.take(rows)

    def limit(self, budget: int) -> None:
        """Keep no more than so many bytes; before `fill`."""
        self._budget = min(self._budget, budget)

    def fill(self, workers: int) -> None:
        """Read images in order, a stretch a thread, until the budget is used up; once."""
        if self._filled or not len(self):
            return
        self._filled = True
        with ThreadPoolExecutor(max(workers, 1), thread_name_prefix="decode") as pool:
            parts = np.array_split(np.arange(len(self)), max(workers, 1))
            for found in pool.map(self._read, parts):
                self._kept |= found

    def _read(self, rows: NDArray[np.intp]) -> dict[int, UInt8Image]:
        share, found = self._budget * len(rows) // len(self), dict[int, UInt8Image]()
        for row in rows.tolist():
            image = self._images.image(row)
            share -= image.nbytes
            if share < 0:  # images differ in size
                break
            found[row] = image.copy()  # not a view of a whole file
        return found
