"""Iterative stratification that keeps units of related rows together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

RowNumbers = NDArray[np.intp]


def stratified_parts(
    labels: NDArray[np.integer[Any]],
    sizes: Sequence[int],
    random: np.random.Generator,
    units: NDArray[np.intp] | None = None,
) -> list[RowNumbers]:
    """Divide rows by iterative stratification.

    The label with the fewest rows left is dealt out first: each of its rows goes to the part that
    lacks this label most, among equals to the one that lacks rows most, then by chance. Rows
    without labels come last. A part that has its size takes no more, so that sizes are exact.

    Units of several rows stay whole. They are dealt out large ones first, among equals those of the
    rarest label, then by chance; each goes to the part that lacks its labels, and rows, most in
    proportion, which is the one where the squares of what is lacking shrink most. The last unit of
    a part may go beyond its size.

    Parameters
    ----------
    labels : (n_rows,) of class numbers, or (n_rows, n_labels)
        Of the latter 1 for a label that the row has, else 0.
    sizes : sequence of int
        Rows of each part; together all rows.
    units : int, (n_rows,), optional
        From 0; rows of one unit go to one part.

    Returns
    -------
    list of intp
        Row numbers of each part, ascending.

    References
    ----------
    Sechidis, Tsoumakas, Vlahavas, "On the stratification of multi-label data", ECML PKDD 2011.
    """
    numbers = np.arange(len(labels)) if units is None else units
    dealer = _Dealer(_Counts(labels, numbers), sizes, random)
    part_of = dealer.deal()[numbers]
    return [np.flatnonzero(part_of == part) for part in range(len(sizes))]


class _Counts:
    """How many rows of each label each unit has; only what is not 0 is kept.

    Attributes
    ----------
    weights : int64, (n_units,)
        Rows of each unit.
    totals, holders : int64, (n_labels,)
        Rows that have a label, and units that have one.
    unit, label, count : int64, (n_pairs,)
        In the order of units.
    """

    def __init__(self, labels: NDArray[np.integer[Any]], numbers: RowNumbers) -> None:
        if labels.ndim == 1:
            rows, named = np.arange(len(labels)), labels.astype(np.int64)
            n_labels = int(labels.max()) + 1 if len(labels) else 0
        else:
            rows, named = np.nonzero(labels)
            n_labels = labels.shape[1]
        self.weights = np.bincount(numbers)
        pairs, self.count = np.unique(numbers[rows] * max(1, n_labels) + named, return_counts=True)
        self.unit, self.label = np.divmod(pairs, max(1, n_labels))
        self.totals = np.bincount(named, minlength=n_labels)
        self.holders = np.bincount(self.label, minlength=n_labels)
        self._of_unit = np.searchsorted(self.unit, np.arange(len(self.weights) + 1)).tolist()
        by_label = np.argsort(self.label, kind="stable")
        self._units = self.unit[by_label]
        self._of_label = np.searchsorted(self.label[by_label], np.arange(n_labels + 1))
        self._labels, self._counts = self.label.tolist(), self.count.tolist()

    def __len__(self) -> int:
        return len(self.weights)

    def of(self, unit: int) -> list[tuple[int, int]]:
        """Return a unit's labels, each with its rows."""
        start, stop = self._of_unit[unit], self._of_unit[unit + 1]
        return list(zip(self._labels[start:stop], self._counts[start:stop], strict=True))

    def with_label(self, label: int) -> NDArray[np.int64]:
        """Return the units that have a label."""
        own: NDArray[np.int64] = self._units[self._of_label[label] : self._of_label[label + 1]]
        return own


class _Dealer:
    """Deals out units to parts."""

    def __init__(self, counts: _Counts, sizes: Sequence[int], random: np.random.Generator) -> None:
        self._counts, self._random = counts, random
        self._room: list[float] = [float(size) for size in sizes]
        totals = counts.totals
        shares = np.array(sizes, np.float64) / max(1, sum(sizes))
        wanted = shares[:, None] * totals
        if (
            len(sizes) == 2
        ):  # of two rows with a label each side has one; a single one is trained on
            least = np.minimum(np.maximum(totals - 1, 0), 1)
            wanted[1] = np.clip(wanted[1], least, np.maximum(totals - 1, 0))
            wanted[0] = totals - wanted[1]
        self._wanted: list[list[float]] = wanted.tolist()
        self._part_of = np.full(len(counts), -1, np.intp)

    def deal(self) -> NDArray[np.intp]:
        """Return each unit's part."""
        counts = self._counts
        order = self._random.permutation(len(counts))
        if len(counts) and counts.weights.max() > 1:
            return self._deal_large_first(order)
        turn = np.empty(len(order), np.intp)
        turn[order] = np.arange(len(order))
        left = counts.holders.copy()  # units that have the label and are not dealt yet
        while left.any():
            label = int(np.where(left > 0, left, left.max() + 1).argmin())
            own = counts.with_label(label)
            own = own[self._part_of[own] < 0]
            for unit in own[np.argsort(turn[own])].tolist():
                self._give(unit, label)
                for other, _ in counts.of(unit):
                    left[other] -= 1
        for unit in order[self._part_of[order] < 0].tolist():
            self._give(unit, None)
        return self._part_of

    def _deal_large_first(self, order: NDArray[np.intp]) -> NDArray[np.intp]:
        counts = self._counts
        rarest = np.full(len(counts), len(counts))
        np.minimum.at(rarest, counts.unit, counts.holders[counts.label])
        order = order[np.lexsort((rarest[order], -counts.weights[order]))]
        totals, n_rows = counts.totals.tolist(), int(counts.weights.sum())
        for unit, weight in zip(order.tolist(), counts.weights[order].tolist(), strict=True):
            of, best = counts.of(unit), (-np.inf, -1)
            for part in self._random.permutation(len(self._room)).tolist():
                if self._room[part] > 0:
                    lacks = weight * self._room[part] / n_rows
                    lacks += sum(n * self._wanted[part][one] / totals[one] for one, n in of)
                    best = max(best, (lacks, part), key=lambda one: one[0])
            self._put(unit, best[1])
        return self._part_of

    def _give(self, unit: int, label: int | None) -> None:
        open_parts = [part for part, room in enumerate(self._room) if room > 0]
        lacks = self._room if label is None else [wanted[label] for wanted in self._wanted]
        best = max((lacks[part], self._room[part]) for part in open_parts)
        equal = [part for part in open_parts if (lacks[part], self._room[part]) == best]
        part = equal[0] if len(equal) == 1 else equal[int(self._random.integers(len(equal)))]
        self._put(unit, part)

    def _put(self, unit: int, part: int) -> None:
        self._part_of[unit] = part
        self._room[part] -= float(self._counts.weights[unit])
        wanted = self._wanted[part]
        for other, count in self._counts.of(unit):
            wanted[other] -= float(count)
