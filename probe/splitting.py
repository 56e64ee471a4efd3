"""Rows divided into parts: one that is held out, or folds. Classes keep their shares.

Rows with several labels, (n_rows, n_classes) of 0 and 1, are divided by iterative stratification,
see `probe.stratify`.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.errors import UsageError
from probe.stratify import stratified_parts

log = logging.getLogger(__name__)

Labels = NDArray[np.integer[Any]]
RowNumbers = NDArray[np.intp]


def validation_split(labels: Labels, val_size: float, seed: int) -> tuple[RowNumbers, RowNumbers]:
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


def fold_split(
    labels: Labels,
    folds: int,
    seed: int,
    *,
    repeats: int = 1,
    groups: Sequence[str] | None = None,
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
    groups : sequence of str, (n_rows,), optional
        Rows of one group (a patient, a panel, near-duplicates) are held out together.
    classes : sequence of str, optional
        Names of the classes, for messages.

    Returns
    -------
    list of (train_rows, held_out_rows)
        ``folds * repeats`` pairs of intp, ascending.

    Raises
    ------
    UsageError
        The rows of the largest class, or all groups, are fewer than the folds; or a fold would
        leave rows of one class alone to train on. With several labels a row: all rows are fewer.
    """
    if labels.ndim == 2:
        return _several_labels_folds(labels, folds, seed, repeats, groups)
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    most = _most_folds(labels, folds)
    if groups is not None:
        most = min(most, len(set(groups)))
    if not (2 <= folds <= most and repeats >= 1):
        raise UsageError(
            f"--folds {folds}: it must be from 2 to {most}, the rows of the largest class, or the "
            "number of groups where that is less"
        )
    found = []
    for repeat in range(repeats):
        kind = StratifiedKFold if groups is None else StratifiedGroupKFold
        splitter = kind(folds, shuffle=True, random_state=seed + repeat)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The least populated class", UserWarning)
            found += [
                (train.astype(np.intp), held_out.astype(np.intp))
                for train, held_out in splitter.split(np.empty((len(labels), 0)), labels, groups)
            ]
    if groups is not None:
        _require_two_classes(labels, found, classes)
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
                f"--groups: fold {number} of {len(folds)} holds out every class but {name}, and "
                "one class is nothing to tell apart; give smaller groups, or more folds"
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


def _several_labels_folds(
    labels: Labels, folds: int, seed: int, repeats: int, groups: Sequence[str] | None
) -> list[tuple[RowNumbers, RowNumbers]]:
    numbers = None if groups is None else np.unique(groups, return_inverse=True)[1].astype(np.intp)
    most = len(labels) if numbers is None else int(numbers.max()) + 1
    if not (2 <= folds <= most and repeats >= 1):
        raise UsageError(
            f"--folds {folds}: it must be from 2 to {most}, the number of rows or of groups"
        )
    sizes = [len(labels) // folds + (fold < len(labels) % folds) for fold in range(folds)]
    found = []
    for repeat in range(repeats):
        random = np.random.default_rng(seed + repeat)
        for held_out in stratified_parts(labels, sizes, random, numbers):
            if not len(held_out):
                raise UsageError(f"--folds {folds}: large groups leave a fold empty; give fewer")
            found.append((np.setdiff1d(np.arange(len(labels)), held_out), held_out))
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
