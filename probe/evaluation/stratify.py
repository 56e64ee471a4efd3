"""Rows divided into parts, so that each part has its share of every label and units stay whole.

Which of these a kind of labels is divided by says its task, see `probe.evaluation.task`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.text import shown
from probe.errors import UsageError

RowNumbers = NDArray[np.intp]
Labels = NDArray[np.integer[Any]]
Parts = tuple[RowNumbers, RowNumbers]  # rows to train on, rows that are held out
Pairs = tuple[RowNumbers, NDArray[np.int64]]  # every (row, label), as two vectors


def stratified_parts(
    pairs: Pairs,
    n_labels: int,
    sizes: Sequence[int],
    random: np.random.Generator,
    units: NDArray[np.intp] | None = None,
) -> list[RowNumbers]:
    """Divide rows by iterative stratification.

    The label with the fewest rows left is dealt out first: each of its rows goes to the part that
    lacks this label most, among equals to the one that lacks rows most, then by chance. Rows
    without labels come last. A part that has its size takes no more, so that sizes are exact.

    Units of several rows stay whole. They are dealt out before single rows, large ones first, among
    equals those of the rarest label, then by chance; each goes to the part that lacks its labels,
    and rows, most in proportion, which is the one where the squares of what is lacking shrink most.
    The last unit of a part may go beyond its size.

    Parameters
    ----------
    pairs : (rows, labels)
        Every label of every row, see `Task.pairs`.
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
    numbers = np.arange(sum(sizes)) if units is None else units
    dealer = _Dealer(_Counts(pairs, n_labels, numbers), sizes, random)
    part_of = dealer.deal()[numbers]
    return [np.flatnonzero(part_of == part) for part in range(len(sizes))]


def iterative_split(
    pairs: Pairs, n_labels: int, sizes: tuple[int, int], val_size: float, seed: int
) -> Parts:
    """Divide rows by `stratified_parts` into (those to train on, those that are held out)."""
    left, wanted = sizes
    if left <= 0:
        raise UsageError(
            f"--val-size {val_size:g} holds out {wanted} of {left + wanted} rows; give fewer"
        )
    random = np.random.default_rng(seed)
    train, held_out = stratified_parts(pairs, n_labels, sizes, random)
    return train, held_out


def iterative_folds(
    pairs: Pairs,
    n_labels: int,
    sizes: Sequence[int],
    seed: int,
    units: NDArray[np.intp] | None = None,
) -> list[Parts]:
    """Divide rows into folds of these sizes by `stratified_parts`, units whole."""
    rows, folds = np.arange(sum(sizes)), len(sizes)
    found = []
    for held_out in stratified_parts(pairs, n_labels, sizes, np.random.default_rng(seed), units):
        if not len(held_out):
            raise UsageError(
                f"--folds {folds}: rows that belong together are so many that a fold stays "
                "empty; give fewer folds"
            )
        found.append((np.setdiff1d(rows, held_out), held_out))
    return found


def exact_shares(labels: Labels, wanted: int, val_size: float, seed: int) -> Parts:
    """Hold out each class's exact share of so many rows; see `splitting.validation_split`."""
    classes, encoded, counts = np.unique(labels, return_inverse=True, return_counts=True)
    least, most = np.minimum(counts - 1, 1), counts - 1
    if val_size < 1:
        wanted = max(wanted, int(least.sum()))
    if not least.any():
        remedy = "train on all with --val-size 0"
        if len(classes) == 1:
            remedy = "add images of another class, which a head needs"
        raise UsageError(f"every class has one training row, so none can be held out; {remedy}")
    if not int(least.sum()) <= wanted <= int(most.sum()):
        raise UsageError(
            f"--val-size {val_size:g} holds out {wanted} of {len(labels)} rows; with "
            f"{len(classes)} classes it must be from {least.sum()} to {most.sum()} rows, or 0"
        )
    shares = _shares(counts, least, most, wanted)
    random = np.random.default_rng(seed)
    held_out = np.zeros(len(labels), bool)
    for index, share in enumerate(shares):
        rows = np.flatnonzero(encoded == index)
        held_out[random.permutation(rows)[:share]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _shares(counts: RowNumbers, least: RowNumbers, most: RowNumbers, wanted: int) -> RowNumbers:
    """Return how many rows each class gives: in proportion, within its bounds, `wanted` in all."""
    exact = counts * (wanted / counts.sum())
    shares: RowNumbers = np.clip(np.floor(exact).astype(np.intp), least, most)
    while (missing := wanted - int(shares.sum())) != 0:
        step = 1 if missing > 0 else -1
        movable = shares < most if missing > 0 else shares > least
        order = np.argsort(-step * (exact - shares), kind="stable")  # the most wronged first
        chosen = order[movable[order]][: abs(missing)]
        shares[chosen] += step
    return shares


def shuffled_folds(labels: Labels, folds: int, seed: int) -> list[Parts]:
    """Divide rows into scikit-learn's stratified folds; see `splitting.fold_split`."""
    from sklearn.model_selection import StratifiedKFold

    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        return [
            (train.astype(np.intp), held_out.astype(np.intp))
            for train, held_out in splitter.split(np.empty((len(labels), 0)), labels)
        ]


def most_folds(labels: Labels, folds: int) -> int:
    """Return the rows of the largest class; refuse where a fold would leave one class to fit."""
    counts = np.unique(labels, return_counts=True)[1]
    alone = int((counts == 1).sum())
    if alone and len(counts) - alone < 2:
        which = "no class has" if alone == len(counts) else "only one class has"
        raise UsageError(
            f"--folds {folds}: {which} more than one training row, so a fold would leave too few "
            "classes to train on; add images of the others"
        )
    return int(counts.max())


def check_two_classes(
    labels: Labels, folds: Sequence[Parts], classes: Sequence[str] | None
) -> None:
    """Refuse groups so large that a fold leaves one class to train on."""
    for number, (train, _) in enumerate(folds, start=1):
        left = np.unique(labels[train])
        if len(left) == 1:
            name = str(left[0]) if classes is None else shown(classes[left[0]])
            raise UsageError(
                f"--folds {len(folds)}: rows that belong together stay on one side, so fold "
                f"{number} of {len(folds)} holds out every class but {name}, and one class is "
                "nothing to tell apart; give smaller groups, or more folds"
            )


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

    def __init__(self, named_pairs: Pairs, n_labels: int, numbers: RowNumbers) -> None:
        rows, named = named_pairs
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
        if (large := order[counts.weights[order] > 1]).size:
            self._deal_large_first(large)
        turn = np.empty(len(order), np.intp)
        turn[order] = np.arange(len(order))
        # units that have the label and are not dealt yet
        left = np.bincount(
            counts.label[self._part_of[counts.unit] < 0], minlength=len(counts.holders)
        )
        while left.any():
            label = int(np.where(left > 0, left, left.max() + 1).argmin())
            own = counts.with_label(label)
            own = own[self._part_of[own] < 0]
            for unit in own[np.argsort(turn[own])].tolist():
                self._give(unit, label)
                for other, _ in counts.of(unit):
                    left[other] -= 1
        rest = (self._part_of[order] < 0) & (counts.weights[order] > 0)  # a number may be unused
        for unit in order[rest].tolist():
            self._give(unit, None)
        return self._part_of

    def _deal_large_first(self, order: NDArray[np.intp]) -> None:
        counts = self._counts
        rarest = np.full(len(counts), len(counts))
        np.minimum.at(rarest, counts.unit, counts.holders[counts.label])
        order = order[np.lexsort((rarest[order], -counts.weights[order]))]
        sizes, shares = list(self._room), [list(wanted) for wanted in self._wanted]
        for unit, weight in zip(order.tolist(), counts.weights[order].tolist(), strict=True):
            of, best = counts.of(unit), (-np.inf, -1)
            for part in self._random.permutation(len(self._room)).tolist():
                if self._room[part] > 0:
                    lacks = _gain(weight, self._room[part], sizes[part])
                    lacks += sum(
                        _gain(n, self._wanted[part][one], shares[part][one]) for one, n in of
                    )
                    best = max(best, (lacks, part), key=lambda one: one[0])
            self._put(unit, best[1])

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


def _gain(count: float, lacking: float, share: float) -> float:
    """Return how far (lacking)^2 / share shrinks where a part is given so many rows."""
    return count * (2 * lacking - count) / max(share, 1e-9)
