"""Whether features fit into memory, and rows that stay in their file where they do not."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.cache.features import FeatureSplit
from probe.cache.joining import Joined
from probe.core.short_repr import short_repr
from probe.errors import UsageError
from probe.evaluation.many import BLOCK as SCORES_AT_ONCE
from probe.evaluation.many import KEPT, SAMPLED, are_many
from probe.evaluation.parts import Part
from probe.evaluation.streaming import StreamedRows
from probe.heads import HEADS
from probe.preprocess.views import view_count

COPIES = 5  # of all features: their pages, train and val, both joined, normalised, centred
RELEASE_BYTES = 2 << 20  # read before pages are given back
SPAN, SCATTERED = 4, 4  # times so much of the file; rows that are further apart than that
STATM = Path("/proc/self/statm")
PAGE = 4096
IMAGE_BYTES = 75  # its id in arrays, its hash, its ranks while the figures are taken
PROBABILITIES = 0.5  # of a row of them, float64: those of the splits are not all there at once
ROUND = 10_000_000  # that a budget is named in

# What a fit adds to the process besides rows, images and weights: packages, BLAS's buffers, blocks
# of rows. Seen on 2,000 to 390,000 images and 512 to 2,048 features, and rounded up.
FITTING_BYTES = 45_000_000


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """What is to be fitted, as far as it takes memory.

    Parameters
    ----------
    solver : str
        A name in the catalog of heads.
    heads : int
        Candidates, times seeds and folds.
    hidden : tuple of int
        Units of hidden layers.
    """

    solver: str
    heads: int = 1
    hidden: tuple[int, ...] = ()

    def workspace(self, width: int, n_images: int, n_classes: int) -> int:
        """Return the bytes that a fit takes besides the rows."""
        weights = sum(a * b for a, b in pairwise((width, *self.hidden, n_classes)))
        scores = n_images * 8 * n_classes * PROBABILITIES
        if are_many(n_images, n_classes):  # a row keeps its likeliest
            scores = n_images * 16 * KEPT + 8 * (4 * SCORES_AT_ONCE + 3 * SAMPLED)
        of_images = int(n_images * IMAGE_BYTES + scores)
        return FITTING_BYTES + of_images + HEADS[self.solver].workspace(width, weights, self.heads)


def parts_of(joined: Joined, fitting: Fitting, *, max_memory: int | None) -> dict[str, Part]:
    """Return each split's features as rows, views next to each other, with labels and ids.

    Parameters
    ----------
    max_memory : int, optional
        Bytes the process may take. Rows stay in their file if all of them would not fit.

    Raises
    ------
    UsageError
        Not even that fits; the message has what would.
    """
    entry = joined.entry
    views, width = view_count(entry.key.views), _width(joined)
    images = sum(len(split) for split in joined.splits.values())
    least = resident() + fitting.workspace(width, images, len(entry.classes))
    whole = least + COPIES * images * views * width * 4
    if max_memory is None or whole <= max_memory:
        return {
            name: Part(
                X=split.features.reshape(len(split) * views, -1),
                y=split.labels,
                ids=split.ids,
                views=views,
            )
            for name, split in joined.splits.items()
        }
    spec = HEADS[fitting.solver]
    if not spec.streams or least > max_memory:
        needed = ROUND * -(-(least if spec.streams else whole) // ROUND) / 1e6
        why = (
            f"{fitting.solver} on {images:,} images of {width:,} features takes up to "
            f"{needed:,.0f} MB even when rows stay in their file"
            if spec.streams
            else f"{fitting.solver} holds all rows in memory and takes up to {needed:,.0f} MB; "
            f"{spec.instead}"
        )
        raise UsageError(f"--max-memory {max_memory / 1e6:,.3g} MB is too little: {why}")
    return {
        name: streamed_part(split, views, width, np.dtype(entry.key.dtype))
        for name, split in joined.splits.items()
    }


def streamed_part(split: FeatureSplit, views: int, width: int, dtype: np.dtype[Any]) -> Part:
    """Return a split whose rows stay in their file, every block checked once beforehand."""
    source = SplitRows(split=split, step=max(1, RELEASE_BYTES // (views * width * dtype.itemsize)))
    step = source.step
    for start in range(0, len(split), step):
        source.rows(np.arange(start, min(start + step, len(split)), dtype=np.intp))
    rows = StreamedRows(
        source=source, images=np.arange(len(split), dtype=np.intp), views=views, width=width,
        dtype=dtype,
    )  # fmt: skip
    return Part(X=rows, y=split.labels, ids=split.ids, views=views)


@dataclass(frozen=True, kw_only=True)
class SplitRows:
    """A split of an entry as a source of rows; what was read is not kept in memory.

    Parameters
    ----------
    step : int
        Images whose pages are mapped at a time.
    """

    __repr__ = short_repr

    split: FeatureSplit
    step: int

    def __len__(self) -> int:
        return len(self.split)

    def rows(self, index: NDArray[np.intp]) -> NDArray[Any]:
        """Return a copy of some images' features and give their pages back."""
        end = self._end(index, 0)
        first = self._read(index[:end])
        if end == len(index):
            return first
        found = np.empty((len(index), *first.shape[1:]), first.dtype)
        found[:end] = first
        while end < len(index):
            start, end = end, self._end(index, end)
            found[start:end] = self._read(index[start:end])
        return found

    def _read(self, index: NDArray[np.intp]) -> NDArray[Any]:
        found = self.split.rows(index)
        self.split.release()
        return found

    def _end(self, index: NDArray[np.intp], start: int) -> int:
        """Return where the rows end that are read together: close ones, or a few of the others.

        A page of the file brings its neighbours along, up to some megabytes of them.
        """
        some = index[start : start + self.step]
        if len(some) and some.max() - some.min() >= SPAN * self.step:
            some = some[:SCATTERED]
        return start + len(some)


def resident() -> int:
    """Return the bytes of memory that this process has now; 0 where nobody tells."""
    return int(STATM.read_text().split()[1]) * PAGE if STATM.exists() else 0


def _width(joined: Joined) -> int:
    shape = joined.entry.row_shape
    return int(np.prod(shape)) // view_count(joined.entry.key.views)
