"""Pairs of images whose features point almost the same way, whatever the number of images.

All cosines are computed, a tile at a time, and only those above a threshold are kept: 50,000
images with each other are 1.25 billion.
"""

from __future__ import annotations

import heapq
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.short_repr import short_repr
from probe.evaluation.parts import Part
from probe.evaluation.streaming import StreamedRows
from probe.evaluation.units import Groups, Units
from probe.heads.normalize import (
    Features,
    NormalizedRows,
    Normalizer,
    Rows32,
    blocks,
    fit_normalizer,
    to_length_one,
)
from probe.heads.products import Array32, closest_rows, each_tile

log = logging.getLogger(__name__)

THRESHOLD = 0.95  # of the cosine between standardised rows
MOST = 20_000  # pairs within train that are kept: a low threshold has millions
MOST_WAITING = 4_000_000  # pairs, 64 MB, before their rows are put together
LARGE = 0.1  # of all images in one group: nearness that says little
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
    similarity, numbers = closest_rows(
        _directions(train, normalizer), _directions(test, normalizer), 1
    )
    found = [
        NearDuplicate(
            a=train.ids[near], split_a="train", label_a=train.task.text(train.y[near], classes),
            b=test.ids[row], split_b="test", label_b=test.task.text(test.y[row], classes),
            similarity=min(1.0, float(cosine)),
        )
        for row, (cosine, near) in enumerate(zip(similarity[:, 0], numbers[:, 0], strict=True))
        if cosine >= threshold
    ]  # fmt: skip
    return sorted(found, key=lambda pair: -pair.similarity)


def contradictions(
    train: Part, classes: Sequence[str], *, threshold: float = THRESHOLD
) -> list[NearDuplicate]:
    """Return near-duplicates within train whose labels differ, at most MOST; see `leaks`."""

    def differ(a: NDArray[np.intp], b: NDArray[np.intp]) -> NDArray[np.bool_]:
        return train.task.differ(train.y[a], train.y[b])

    found = _pairs({"train": train}, differ, classes, threshold, _standard(train))
    if len(found) == MOST:
        log.warning("%d pairs in train are kept, the most alike; raise the threshold", MOST)
    return found


def near_pairs(
    parts: Mapping[str, Part],
    pictures: Mapping[str, Units],
    classes: Sequence[str],
    *,
    threshold: float = THRESHOLD,
) -> list[NearDuplicate]:
    """Return near-duplicates within and across splits, whatever their labels, at most MOST.

    Parameters
    ----------
    parts : mapping of split name to Part
        Features are standardised by all rows, for no split is one that others know nothing of: a
        feature that is almost constant in ``train`` alone would rule the cosines of other splits.
    pictures : mapping of split name to int, (n_images,)
        The number of each image's content: exact copies of each other are left out.
    """
    content = np.concatenate([pictures[name] for name in parts])
    first, *others = [_plain(part) for part in parts.values()]
    normalizer = fit_normalizer("standard", first, more=others)
    return _pairs(parts, lambda a, b: content[a] != content[b], classes, threshold, normalizer)


Differ = Callable[[NDArray[np.intp], NDArray[np.intp]], NDArray[np.bool_]]


def _pairs(
    parts: Mapping[str, Part],
    differ: Differ,
    classes: Sequence[str],
    threshold: float,
    normalizer: Normalizer,
) -> list[NearDuplicate]:
    """Return the pairs of rows that differ and point almost the same way, the most alike first.

    Parameters
    ----------
    differ : callable
        From the numbers of rows, (n,) and (n,), over all splits together, to bool, (n,).
    """
    names = list(parts)
    starts = np.cumsum([0, *(len(parts[name]) for name in names)])
    found = _Pairs(differ, threshold)
    _compare_all(parts, normalizer, found.take)

    def place(row: int) -> tuple[str, str, str]:
        number = int(np.searchsorted(starts, row, side="right")) - 1
        part, own = parts[names[number]], row - starts[number]
        return part.ids[own], names[number], part.task.text(part.y[own], classes)

    pairs = []
    for cosine, a, b in found.best():
        (id_a, split_a, label_a), (id_b, split_b, label_b) = place(a), place(b)
        pairs.append(
            NearDuplicate(
                a=id_a, split_a=split_a, label_a=label_a,
                b=id_b, split_b=split_b, label_b=label_b, similarity=min(1.0, cosine),
            )
        )  # fmt: skip
    return pairs


def _compare_all(
    parts: Mapping[str, Part],
    normalizer: Normalizer,
    take: Callable[[int, int, int, int, Array32], None],
) -> None:
    """Compare all rows of all splits with each other, a tile at a time.

    Parameters
    ----------
    take : callable
        Called with where the two splits begin among all rows, where the tile begins in each, and
        its cosines.
    """
    rows = [_directions(part, normalizer) for part in parts.values()]
    starts = np.cumsum([0, *map(len, parts.values())]).tolist()
    for i, queries in enumerate(rows):
        for j, reference in enumerate(rows[i:], start=i):
            each_tile(queries, reference, partial(take, starts[i], starts[j]), upper=i == j)


def near_groups(parts: Mapping[str, Part], *, threshold: float = THRESHOLD) -> Groups:
    """Return groups of images that near-duplicates connect, over all splits; see `leaks`.

    Nearness is no equivalence: of a chain of images, each alike the next, all are one group.

    Parameters
    ----------
    parts : mapping of split name to Part
        ``train`` among them, by whose rows features are standardised.
    """
    names = list(parts)
    starts = np.cumsum([0, *(len(parts[name]) for name in names)])
    found = _Connected(int(starts[-1]), threshold)
    _compare_all(parts, _standard(parts["train"]), found.take)
    numbers = found.components()
    sizes = np.bincount(numbers)
    largest = int(sizes.max(initial=0))
    if largest > LARGE * len(numbers):
        log.warning(
            "the largest group of near-duplicates (cosine from %g) has %s of %s images; a higher "
            "threshold, or a file of groups, would part them",
            threshold, f"{largest:,}", f"{len(numbers):,}",
        )  # fmt: skip
    of = np.split(numbers, starts[1:-1])
    return Groups(by="near-duplicates", of=dict(zip(names, of, strict=True)))


class _Connected:
    """Rows that pairs above a threshold connect."""

    def __init__(self, n_rows: int, threshold: float) -> None:
        self._least, self._lock = threshold - ROUNDING, threading.Lock()
        self._known = np.arange(n_rows)
        self._pairs: list[NDArray[np.intp]] = []
        self._waiting = 0

    def take(self, row: int, column: int, first: int, start: int, cosines: Array32) -> None:
        """Keep a tile's pairs; `row` and `column` are where its two sides begin among all rows."""
        a, b = np.divmod(np.flatnonzero(cosines >= self._least), cosines.shape[1])
        pairs = np.stack([a + first + row, b + start + column])
        pairs = pairs[:, pairs[0] != pairs[1]]
        with self._lock:
            self._pairs.append(pairs)
            self._waiting += pairs.shape[1]
            if self._waiting > MOST_WAITING:
                self._connect()

    def components(self) -> NDArray[np.intp]:
        """Return each row's component, numbered from 0."""
        self._connect()
        return self._known

    def _connect(self) -> None:
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        a, b = self._known[np.concatenate([np.empty((2, 0), np.intp), *self._pairs], axis=1)]
        n = len(self._known)
        graph = coo_matrix((np.ones(len(a), np.int8), (a, b)), (n, n))
        merged = connected_components(graph, directed=False)[1]
        self._known = merged[self._known].astype(np.intp)
        self._pairs, self._waiting = [], 0


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

    __repr__ = short_repr

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


class _Pairs:
    """Pairs of rows that differ above a threshold; each pair is met once."""

    def __init__(self, differ: Differ, threshold: float) -> None:
        self._differ, self._least = differ, threshold - ROUNDING
        self._kept: list[tuple[float, int, int]] = []
        self._lock = threading.Lock()

    def take(self, row: int, column: int, first: int, start: int, cosines: Array32) -> None:
        """Keep a tile's pairs; `row` and `column` are where its two sides begin among all rows."""
        a, b = np.divmod(np.flatnonzero(cosines >= self._least), cosines.shape[1])
        similar = cosines[a, b]
        a, b = a + first + row, b + start + column
        wanted = np.flatnonzero((b > a) & self._differ(a, b))
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


@dataclass(frozen=True, kw_only=True)
class NearDuplicate:
    """Two images whose features point almost the same way.

    Parameters
    ----------
    a, b : str
        Ids; `a` is the one that training sees.
    split_a, split_b : str
        ``train`` and ``test`` where the pair leaks, ``train`` twice where it contradicts itself;
        any two where labels tell nothing apart.
    label_a, label_b : str
        Class names; of several labels all of an image's, ``cat, dog``.
    similarity : float
        Cosine, up to 1.
    """

    a: str
    split_a: str
    label_a: str
    b: str
    split_b: str
    label_b: str
    similarity: float
