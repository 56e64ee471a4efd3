"""Pairs of images whose features point almost the same way, whatever the number of images.

All cosines are computed, a tile at a time, and only those above a threshold are kept: 50,000
images with each other are 1.25 billion.
"""

from __future__ import annotations

import heapq
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.audit import NearDuplicate
from probe.heads.normalize import (
    Features,
    NormalizedRows,
    Normalizer,
    Rows32,
    blocks,
    fit_normalizer,
    to_length_one,
)
from probe.heads.tiles import Array32, each_tile
from probe.multilabel import label_text
from probe.parts import Part
from probe.splitting import Labels
from probe.streaming import StreamedRows

log = logging.getLogger(__name__)

THRESHOLD = 0.95  # of the cosine between standardised rows
MOST = 20_000  # pairs within train that are kept: a low threshold has millions
ROUNDING = 1e-6  # of a cosine of 1 in float32


def leaks(
    train: Part, test: Part, classes: Sequence[str], *, threshold: float = THRESHOLD
) -> list[NearDuplicate]:
    """Return the test images that have a near-duplicate in train, each with its closest.

    Features are standardised by the training rows first: as they come from a network, all are
    positive, and any two images point much the same way. Of several views the plain one counts.

    Parameters
    ----------
    threshold : float
        Cosine from which a pair counts.

    Returns
    -------
    list of NearDuplicate
        The most alike first.
    """
    normalizer = _standard(train)
    similarity, numbers = _closest(_directions(test, normalizer), _directions(train, normalizer))
    found = [
        NearDuplicate(
            a=train.ids[near], split_a="train", label_a=label_text(train.y[near], classes),
            b=test.ids[row], split_b="test", label_b=label_text(test.y[row], classes),
            similarity=min(1.0, float(cosine)),
        )
        for row, (cosine, near) in enumerate(zip(similarity, numbers, strict=True))
        if cosine >= threshold
    ]  # fmt: skip
    return sorted(found, key=lambda pair: -pair.similarity)


def contradictions(
    train: Part, classes: Sequence[str], *, threshold: float = THRESHOLD
) -> list[NearDuplicate]:
    """Return near-duplicates within train whose labels differ, at most MOST; see `leaks`."""
    rows = _directions(train, _standard(train))
    found = _Pairs(train.y, threshold)
    each_tile(rows, rows, found.take, upper=True)
    pairs = found.best()
    if len(pairs) == MOST:
        log.warning("%d pairs in train are kept, the most alike; raise the threshold", MOST)
    return [
        NearDuplicate(
            a=train.ids[a], split_a="train", label_a=label_text(train.y[a], classes),
            b=train.ids[b], split_b="train", label_b=label_text(train.y[b], classes),
            similarity=min(1.0, cosine),
        )
        for cosine, a, b in pairs
    ]  # fmt: skip


def _standard(train: Part) -> Normalizer:
    return fit_normalizer("standard", _plain(train))


def _plain(part: Part) -> Features:
    """Return the first view of each image."""
    if part.views == 1 or not isinstance(part.X, StreamedRows):
        return part.X[:: part.views] if part.views > 1 else part.X
    return StreamedRows(
        source=_FirstView(part.X), images=np.arange(len(part)), views=1, width=part.X.width,
        dtype=part.X.dtype,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _FirstView:
    """Of rows that stay in their file, every image's first, as a source of rows."""

    views: StreamedRows

    def __len__(self) -> int:
        return len(self.views.images)

    def rows(self, index: NDArray[np.intp]) -> NDArray[Any]:
        return self.views[index * self.views.views]


def _directions(part: Part, normalizer: Normalizer) -> Rows32:
    """Return the plain view of each image, standardised, at length 1."""
    plain = _plain(part)
    if isinstance(plain, StreamedRows):
        return NormalizedRows(rows=plain, normalizer=normalizer, unit=True)
    rows = np.empty(plain.shape, np.float32)
    for start, block in blocks(plain):
        rows[start : start + len(block)] = to_length_one(normalizer.apply(block))
    return rows


def _closest(queries: Rows32, reference: Rows32) -> tuple[Array32, NDArray[np.intp]]:
    """Return cosine and number of the reference row closest to each query, (m,) each."""
    best = np.full(len(queries), -np.inf, np.float32)
    which = np.zeros(len(queries), np.intp)

    def take(first: int, start: int, cosines: Array32) -> None:
        rows = np.arange(first, first + len(cosines))
        near = cosines.argmax(axis=1)
        highest = cosines[rows - first, near]
        closer = highest > best[rows]
        best[rows[closer]] = highest[closer]
        which[rows[closer]] = near[closer] + start

    each_tile(queries, reference, take)
    return best, which


class _Pairs:
    """Pairs of rows with different labels above a threshold; each pair is met once."""

    def __init__(self, labels: Labels, threshold: float) -> None:
        self._labels, self._least = labels, threshold - ROUNDING
        self._kept: list[tuple[float, int, int]] = []
        self._lock = threading.Lock()

    def take(self, first: int, start: int, cosines: Array32) -> None:
        """Keep a tile's pairs."""
        a, b = np.divmod(np.flatnonzero(cosines >= self._least), cosines.shape[1])
        similar = cosines[a, b]
        a, b = a + first, b + start
        differ = self._labels[a] != self._labels[b]
        differ = differ if differ.ndim == 1 else differ.any(axis=1)  # of several, in one at least
        wanted = np.flatnonzero((b > a) & differ)
        wanted = wanted[np.argsort(-similar[wanted], kind="stable")[:MOST]]
        found = (similar[wanted].tolist(), a[wanted].tolist(), b[wanted].tolist())
        with self._lock:
            self._kept += zip(*found, strict=True)
            if len(self._kept) > 4 * MOST:
                self._kept = self.best()
                self._least = max(self._least, self._kept[-1][0])

    def best(self) -> list[tuple[float, int, int]]:
        """Return (cosine, row, row), the most alike first."""
        return heapq.nsmallest(MOST, self._kept, key=lambda pair: (-pair[0], *pair[1:]))
