"""Stratified validation splits and folds.

Rows with several labels, (n_rows, n_classes) of 0 and 1, and rows of which some belong together
(`probe.evaluation.units`) are divided by iterative stratification, see `probe.evaluation.stratify`.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.errors import UsageError
from probe.evaluation.stratify import stratified_parts
from probe.evaluation.units import Units, dealt

log = logging.getLogger(__name__)

VAL_SIZE = 0.3  # of the training rows, held out unless told otherwise

Labels = NDArray[np.integer[Any]]
RowNumbers = NDArray[np.intp]


def validation_split(
    labels: Labels, val_size: float, seed: int, units: Units | None = None
) -> tuple[RowNumbers, RowNumbers]:
    """Hold out a stratified part of the training rows.

    Every class gives its share, rounded so that the total is exact (largest remainders first).
    A class of two or more rows has at least one on each side; a class of one is trained on. Where
    a fraction comes to fewer rows than there are such classes, each of them gives one. With several
    labels a row the total is exact, and classes come as close to their shares as they can.

    Parameters
    ----------
    labels : int, (n_rows,) or (n_rows, n_classes)
    val_size : float
        A fraction below 1, a whole number of rows, or 0 to hold nothing out.
    seed : int

    Returns
    -------
    train_rows, val_rows : intp
        Ascending, disjoint, together all rows.

    Raises
    ------
    UsageError
        `val_size` is no such number, or leaves a class without training rows.
    """
    own = dealt(units, len(labels))
    if own is not None:
        return _split_of_units(labels, val_size, seed, own)
    if labels.ndim == 2:
        return _several_labels_split(labels, val_size, seed)
    classes, encoded, counts = np.unique(labels, return_inverse=True, return_counts=True)
    wanted = _rows_to_hold_out(val_size, len(labels))
    if wanted == 0:
        return np.arange(len(labels)), np.empty(0, np.intp)
    least, most = np.minimum(counts - 1, 1), counts - 1
    if val_size < 1:
        wanted = max(wanted, int(least.sum()))
    if not least.any():
        raise UsageError(
            "every class has one training row, so none can be held out; train on all with "
            "--val-size 0"
        )
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


def _several_labels_split(
    labels: Labels, val_size: float, seed: int
) -> tuple[RowNumbers, RowNumbers]:
    wanted, total = _rows_to_hold_out(val_size, len(labels)), len(labels)
    if wanted == 0:
        return np.arange(total), np.empty(0, np.intp)
    if wanted >= total:
        raise UsageError(f"--val-size {val_size:g} holds out {wanted} of {total} rows; give fewer")
    train, held_out = stratified_parts(
        labels, (total - wanted, wanted), np.random.default_rng(seed)
    )
    return train, held_out


def _split_of_units(
    labels: Labels, val_size: float, seed: int, units: Units
) -> tuple[RowNumbers, RowNumbers]:
    wanted, rows = _rows_to_hold_out(val_size, len(labels)), np.arange(len(labels))
    if wanted == 0:
        return rows, np.empty(0, np.intp)
    holders = _holders(labels, units)
    movable = np.flatnonzero(~_keeps_a_class(labels, units, holders))
    if val_size < 1:  # every class that can be on both sides gives one
        wanted = max(wanted, min(int((holders > 1).sum()), len(movable) - 1))
    if not len(movable):
        raise UsageError(
            "the rows of every class belong together, so none can be held out; train on all with "
            "--val-size 0"
        )
    if wanted >= len(movable):
        raise UsageError(
            f"--val-size {val_size:g} holds out {wanted} of {len(labels)} rows, and {len(movable)} "
            "can be, for each class keeps rows that belong together to train on; give fewer"
        )
    inner = np.unique(units[movable], return_inverse=True)[1]
    sizes = (len(movable) - wanted, wanted)
    _, chosen = stratified_parts(labels[movable], sizes, np.random.default_rng(seed), inner)
    held_out = np.zeros(len(labels), bool)
    held_out[movable[chosen]] = True
    for label in np.flatnonzero((_rows_of(labels, ~held_out) == 0) & (holders > 0)):
        back = units[held_out & _has(labels, label)]  # large units left nothing to train on
        held_out[units == back[np.bincount(units)[back].argmin()]] = False
    if not held_out.any():
        raise UsageError(
            f"--val-size {val_size:g}: rows that belong together leave nothing to hold out; give "
            "more, or --val-size 0"
        )
    return rows[~held_out], rows[held_out]


def _has(labels: Labels, label: int) -> NDArray[np.bool_]:
    """Return which rows have a label, (n_rows,)."""
    found: NDArray[np.bool_] = labels == label if labels.ndim == 1 else labels[:, label] == 1
    return found


def _rows_of(labels: Labels, rows: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return how many of some rows have each label."""
    if labels.ndim == 2:
        return np.asarray(labels[rows].sum(axis=0, dtype=np.int64))
    return np.bincount(labels[rows], minlength=int(labels.max()) + 1)


def _holders(labels: Labels, units: Units) -> NDArray[np.int64]:
    """Return how many units have rows of each label."""
    rows, named = (np.arange(len(labels)), labels) if labels.ndim == 1 else np.nonzero(labels)
    n_labels = int(labels.max()) + 1 if labels.ndim == 1 else labels.shape[1]
    pairs = np.unique(units[rows].astype(np.int64) * n_labels + named)
    return np.bincount(pairs % n_labels, minlength=n_labels)


def _keeps_a_class(labels: Labels, units: Units, holders: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return the rows of units without which a class would have none to train on."""
    alone = holders == 1
    own = alone[labels] if labels.ndim == 1 else (labels[:, alone] == 1).any(axis=1)
    return np.isin(units, units[own])


def fold_split(
    labels: Labels,
    folds: int,
    seed: int,
    *,
    repeats: int = 1,
    units: Units | Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
) -> list[tuple[RowNumbers, RowNumbers]]:
    """Divide rows into folds, each held out once a repeat.

    A class of fewer rows than folds has one in as many folds. The fold that holds out all rows of a
    class is scored by a head that does not know it, and these rows count as wrong; see
    `warn_of_unknown`.

    Parameters
    ----------
    labels : int, (n_rows,) or (n_rows, n_classes)
    folds : int
        At least 2.
    seed : int
        Repeat r shuffles with ``seed + r``.
    units : sequence of int or str, (n_rows,), optional
        Rows of one unit (a picture, a patient, a panel) are held out together.
    classes : sequence of str, optional
        Names of the classes, for messages.

    Returns
    -------
    list of (train_rows, held_out_rows)
        ``folds * repeats`` pairs of intp, ascending.

    Raises
    ------
    UsageError
        The rows of the largest class, or all units, are fewer than the folds; or a fold would
        leave rows of one class alone to train on. With several labels a row: all rows are fewer.
    """
    own = dealt(units, len(labels))
    if labels.ndim == 2 or own is not None:
        return _dealt_folds(labels, own, folds=folds, seed=seed, repeats=repeats, classes=classes)
    from sklearn.model_selection import StratifiedKFold

    most = _most_folds(labels, folds)
    if not (2 <= folds <= most and repeats >= 1):
        raise UsageError(
            f"--folds {folds}: it must be from 2 to {most}, the rows of the largest class"
        )
    found = []
    for repeat in range(repeats):
        splitter = StratifiedKFold(folds, shuffle=True, random_state=seed + repeat)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The least populated class", UserWarning)
            found += [
                (train.astype(np.intp), held_out.astype(np.intp))
                for train, held_out in splitter.split(np.empty((len(labels), 0)), labels)
            ]
    return found


def warn_of_unknown(labels: Labels, folds: Sequence[tuple[RowNumbers, RowNumbers]]) -> None:
    """Log how many rows are held out from heads that know no other row of their class.

    For whoever made the folds: a bench has the same ones for all its heads.
    """
    if labels.ndim == 2:
        return
    unknown = np.zeros(len(labels), bool)
    for train, held_out in folds:
        unknown[held_out] |= ~np.isin(labels[held_out], labels[train])
    if count := int(unknown.sum()):
        log.warning(
            "%s held out with no other row of the same class left to train on: wrong, whatever the "
            "head",
            "1 row is" if count == 1 else f"{count:,} rows are",
        )


def _require_two_classes(
    labels: Labels,
    folds: Sequence[tuple[RowNumbers, RowNumbers]],
    classes: Sequence[str] | None,
) -> None:
    """Refuse groups so large that a fold leaves one class to train on."""
    for number, (train, _) in enumerate(folds, start=1):
        left = np.unique(labels[train])
        if len(left) == 1:
            name = str(left[0]) if classes is None else repr(classes[left[0]])
            raise UsageError(
                f"--folds {len(folds)}: rows that belong together stay on one side, so fold "
                f"{number} of {len(folds)} holds out every class but {name}, and one class is "
                "nothing to tell apart; give smaller groups, or more folds"
            )


def _most_folds(labels: Labels, folds: int) -> int:
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


def _dealt_folds(
    labels: Labels,
    units: Units | None,
    *,
    folds: int,
    seed: int,
    repeats: int,
    classes: Sequence[str] | None,
) -> list[tuple[RowNumbers, RowNumbers]]:
    """Divide rows with several labels, or rows some of which belong together."""
    most = len(labels) if units is None else int(units.max()) + 1
    if labels.ndim == 1:
        most = min(most, _most_folds(labels, folds))
    if not (2 <= folds <= most and repeats >= 1):
        what = "the rows of the largest class" if labels.ndim == 1 else "the number of rows"
        raise UsageError(
            f"--folds {folds}: it must be from 2 to {most}, {what}, or of groups of rows that "
            "belong together where that is less"
        )
    sizes = [len(labels) // folds + (fold < len(labels) % folds) for fold in range(folds)]
    found = []
    for repeat in range(repeats):
        random = np.random.default_rng(seed + repeat)
        for held_out in stratified_parts(labels, sizes, random, units):
            if not len(held_out):
                raise UsageError(
                    f"--folds {folds}: rows that belong together are so many that a fold stays "
                    "empty; give fewer folds"
                )
            found.append((np.setdiff1d(np.arange(len(labels)), held_out), held_out))
    if labels.ndim == 1:
        _require_two_classes(labels, found, classes)
    return found


def _rows_to_hold_out(val_size: float, n_rows: int) -> int:
    fraction = 0 <= val_size < 1
    if not fraction and not (val_size >= 1 and float(val_size).is_integer()):
        raise UsageError(
            f"--val-size {val_size:g} must be a fraction below 1, a whole number of rows, or 0"
        )
    return max(1, round(val_size * n_rows)) if 0 < val_size < 1 else int(val_size)


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
