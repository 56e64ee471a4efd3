"""Whether features fit into memory, and rows that stay in their file where they do not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.cache.features import FeatureSplit
from probe.cache.key import view_count
from probe.cache.store import Joined
from probe.errors import UsageError
from probe.parts import Part
from probe.streaming import StreamedRows

COPIES = 3  # of all features: their pages, the rows that train and validate, the normalised ones
RELEASE_BYTES = 32 << 20  # read before pages are given back
STATM = Path("/proc/self/statm")
PAGE = 4096
BLOCKS_BYTES = 96 << 20  # blocks, scores and buffers of a fit that streams
ID_BYTES, PROBABILITIES = 150, 2  # an image's id in lists; arrays of probabilities at a time
KNN_BYTES = 520 << 20  # seen for a moment in its first product
MXNET_BYTES = 120 << 20  # that importing it adds


def parts_of(joined: Joined, *, solver: str, max_memory: int | None) -> dict[str, Part]:
    """Return each split's features as rows, views next to each other, with labels and ids.

    Parameters
    ----------
    solver : str
        A name in the catalog of heads.
    max_memory : int, optional
        Bytes the process should take, about. Rows stay in their file if all of them would not fit.

    Raises
    ------
    UsageError
        Not even that fits.
    """
    entry = joined.entry
    views, width = view_count(entry.key.views), _width(joined)
    total = sum(len(split) for split in joined.splits.values()) * views
    whole = COPIES * total * width * np.dtype(entry.key.dtype).itemsize
    if max_memory is None or resident() + whole <= max_memory:
        return {
            name: Part(
                X=split.features.reshape(len(split) * views, -1),
                y=split.labels,
                ids=split.ids,
                views=views,
            )
            for name, split in joined.splits.items()
        }
    images = sum(len(split) for split in joined.splits.values())
    least = resident() + _workspace(solver, width, images, len(entry.classes))
    if least > max_memory:
        raise UsageError(
            f"--max-memory {max_memory / 1e6:,.0f} MB: {solver} on {width:,} features takes about "
            f"{least / 1e6:,.0f} MB even when rows stay in their file"
        )
    return {
        name: streamed_part(split, views, width, np.dtype(entry.key.dtype))
        for name, split in joined.splits.items()
    }


def streamed_part(split: FeatureSplit, views: int, width: int, dtype: np.dtype[Any]) -> Part:
    """Return a split whose rows stay in their file, every block checked once beforehand."""
    source = SplitRows(split=split)
    step = max(1, RELEASE_BYTES // (views * width * dtype.itemsize))
    for start in range(0, len(split), step):
        source.rows(np.arange(start, min(start + step, len(split)), dtype=np.intp))
    rows = StreamedRows(
        source=source, images=np.arange(len(split), dtype=np.intp), views=views, width=width,
        dtype=dtype,
    )  # fmt: skip
    return Part(X=rows, y=split.labels, ids=split.ids, views=views)


@dataclass(frozen=True, kw_only=True)
class SplitRows:
    """A split of an entry as a source of rows; what was read is not kept in memory."""

    split: FeatureSplit

    def __len__(self) -> int:
        return len(self.split)

    def rows(self, index: NDArray[np.intp]) -> NDArray[Any]:
        """Return a copy of some images' features and give their pages back."""
        found = self.split.rows(index)
        self.split.release()
        return found


def resident() -> int:
    """Return the bytes of memory that this process has now; 0 where nobody tells."""
    return int(STATM.read_text().split()[1]) * PAGE if STATM.exists() else 0


def _width(joined: Joined) -> int:
    shape = joined.entry.row_shape
    return int(np.prod(shape)) // view_count(joined.entry.key.views)


def _workspace(solver: str, width: int, n_images: int, n_classes: int) -> int:
    """Return roughly what a streaming fit holds besides the rows."""
    of_images = n_images * (ID_BYTES + 8 * n_classes * PROBABILITIES)
    square = 8 * width * width
    of = {
        "path": 2 * square + 45 * n_classes * width * 8 * 6,  # a grid's heads and L-BFGS's memory
        "ridge": 4 * square,
        "prototype": 3 * square,
        "dense": MXNET_BYTES + 52 * n_classes * width * 4 * 8,
        "knn": KNN_BYTES,
    }
    return BLOCKS_BYTES + of_images + of.get(solver, 0)
