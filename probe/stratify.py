"""Rows with several labels divided into parts, so that each part has its share of every label."""

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
    groups: NDArray[np.intp] | None = None,
) -> list[RowNumbers]:
    """Divide rows by iterative stratification.

    The label with the fewest rows left is dealt out first: each of its rows goes to the part that
    lacks this label most, among equals to the one that lacks rows most, then by chance. Rows
    without labels come last. A part that has its size takes no more, so that sizes are exact; with
    groups, which stay whole, a part may go beyond it by its last group.

    Parameters
    ----------
    labels : (n_rows, n_labels)
        1 for a label that the row has, else 0.
    sizes : sequence of int
        Rows of each part; together all rows.
    groups : int, (n_rows,), optional
        From 0; rows of one group go to one part.

    Returns
    -------
    list of intp
        Row numbers of each part, ascending.

    References
    ----------
    Sechidis, Tsoumakas, Vlahavas, "On the stratification of multi-label data", ECML PKDD 2011.
    """
    numbers = np.arange(len(labels)) if groups is None else groups
    weights = np.bincount(numbers)  # rows of each unit
    units = np.zeros((len(weights), labels.shape[1]), np.int64)
    np.add.at(units, numbers, labels.astype(np.int64))
    dealer = _Dealer(units, weights, sizes, random)
    part_of = dealer.deal()[numbers]
    return [np.flatnonzero(part_of == part) for part in range(len(sizes))]


class _Dealer:
    """Deals out units, (n_units, n_labels) of counts, to parts."""

    def __init__(
        self,
        units: NDArray[np.int64],
        weights: NDArray[np.int64],
        sizes: Sequence[int],
        random: np.random.Generator,
    ) -> None:
        self._units, self._weights, self._random = units, weights, random
        self._room: list[float] = [float(size) for size in sizes]
        totals = units.sum(axis=0)
        shares = np.array(sizes, np.float64) / max(1, sum(sizes))
        wanted = shares[:, None] * totals
        if (
            len(sizes) == 2
        ):  # of two rows with a label each side has one; a single one is trained on
            least = np.minimum(np.maximum(totals - 1, 0), 1)
            wanted[1] = np.clip(wanted[1], least, np.maximum(totals - 1, 0))
            wanted[0] = totals - wanted[1]
        self._wanted: list[list[float]] = wanted.tolist()
        self._part_of = np.full(len(units), -1, np.intp)

    def deal(self) -> NDArray[np.intp]:
        """Return each unit's part."""
        order = self._random.permutation(len(self._units))
        left = (self._units > 0).sum(axis=0)  # units that have the label and are not dealt yet
        while left.any():
            label = int(np.where(left > 0, left, left.max() + 1).argmin())
            own = order[(self._units[order, label] > 0) & (self._part_of[order] < 0)]
            for unit in own.tolist():
                self._give(unit, label)
            left -= (self._units[own] > 0).sum(axis=0)
        for unit in order[self._part_of[order] < 0].tolist():
            self._give(unit, None)
        return self._part_of

    def _give(self, unit: int, label: int | None) -> None:
        open_parts = [part for part, room in enumerate(self._room) if room > 0]
        lacks = self._room if label is None else [wanted[label] for wanted in self._wanted]
        best = max((lacks[part], self._room[part]) for part in open_parts)
        equal = [part for part in open_parts if (lacks[part], self._room[part]) == best]
        part = equal[0] if len(equal) == 1 else equal[int(self._random.integers(len(equal)))]
        self._part_of[unit] = part
        self._room[part] -= float(self._weights[unit])
        wanted = self._wanted[part]
        for other in np.flatnonzero(self._units[unit]).tolist():
            wanted[other] -= float(self._units[unit, other])
