"""Stratified validation splits and folds.

Rows with several labels, (n_rows, n_classes) of 0 and 1, and rows of which some belong together
(`probe.evaluation.units`) are divided by iterative stratification, see `probe.evaluation.stratify`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.errors import UsageError
from probe.evaluation.stratify import stratified_parts
from probe.evaluation.task import task_of
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
    wanted = _rows_to_hold_out(val_size, len(labels))
    if wanted == 0:
        return np.arange(len(labels)), np.empty(0, np.intp)
    return task_of(labels).hold_out(labels, wanted, val_size, seed)


def said_of_share(split: str, share: float, error: str) -> str:
    """Return what `validation_split` says of its share, about the share of a split."""
    told = re.sub(r"--val-size 0(?![\d.])", f"--{split} 0", error)
    return re.sub(r"--val-size( [\d.e-]+)?", f"--{split} {share:g}", told)


def _split_of_units(
    labels: Labels, val_size: float, seed: int, units: Units
) -> tuple[RowNumbers, RowNumbers]:
    wanted, rows = _rows_to_hold_out(val_size, len(labels)), np.arange(len(labels))
    if wanted == 0:
        return rows, np.empty(0, np.intp)
    task = task_of(labels)
    named, n_classes = task.pairs(labels), task.n_classes(labels)
    pairs = np.unique(units[named[0]].astype(np.int64) * n_classes + named[1])
    holders = np.bincount(pairs % n_classes, minlength=n_classes)  # units with rows of each label
    own = named[0][(holders == 1)[named[1]]]  # without these a class has none to train on
    movable = np.flatnonzero(~np.isin(units, units[own]))
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
    random = np.random.default_rng(seed)
    some = labels[movable]
    _, chosen = stratified_parts(task.pairs(some), task.n_classes(some), sizes, random, inner)
    held_out = np.zeros(len(labels), bool)
    held_out[movable[chosen]] = True
    left = task.counts(labels[~held_out], n_classes)
    for label in np.flatnonzero((left == 0) & (holders > 0)):
        back = units[
            held_out & task.has(labels, int(label))
        ]  # large units left nothing to train on
        held_out[units == back[np.bincount(units)[back].argmin()]] = False
    if not held_out.any():
        raise UsageError(
            f"--val-size {val_size:g}: rows that belong together leave nothing to hold out; give "
            "more, or --val-size 0"
        )
    return rows[~held_out], rows[held_out]


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
    own, task = dealt(units, len(labels)), task_of(labels)
    most, limit = task.most_folds(labels, folds), task.largest
    if own is not None:
        most = min(most, int(own.max()) + 1)
        limit += ", or of groups of rows that belong together where that is less"
    if not (2 <= folds <= most and repeats >= 1):
        raise UsageError(f"--folds {folds}: it must be from 2 to {most}, {limit}")
    found = [
        pair for repeat in range(repeats) for pair in task.folds(labels, folds, seed + repeat, own)
    ]
    if own is not None:
        task.check_folds(labels, found, classes)
    return found


def warn_of_unknown(labels: Labels, folds: Sequence[tuple[RowNumbers, RowNumbers]]) -> None:
    """Log how many rows are held out from heads that know no other row of their class.

    For whoever made the folds: a bench has the same ones for all its heads.
    """
    if not task_of(labels).exclusive:
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


def _rows_to_hold_out(val_size: float, n_rows: int) -> int:
    fraction = 0 <= val_size < 1
    if not fraction and not (val_size >= 1 and float(val_size).is_integer()):
        raise UsageError(
            f"--val-size {val_size:g} must be a fraction below 1, a whole number of rows, or 0"
        )
    return max(1, round(val_size * n_rows)) if 0 < val_size < 1 else int(val_size)
