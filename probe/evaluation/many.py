"""Scores of very many classes: keep only what the figures need.

Rows times classes do not fit in memory where there are thousands of classes: 24,426 rows of 8,142
classes are 1.6 GB a copy. So their scores are made some rows at a time and let go; a row keeps its
likeliest classes and its own, and what the figures that need all classes are made of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.short_repr import short_repr
from probe.evaluation.metrics import (
    TOP,
    Metrics,
    calibration_error,
    check_scores,
    confused_pairs,
    log_loss,
    per_class_of_pairs,
    top_k_accuracy,
)
from probe.evaluation.statistics import apply_temperature

MANY = 1000  # classes: with fewer all scores are kept, whatever the rows
MOST = 1 << 24  # scores of a split that are kept whole: 134 MB a copy
KEPT = 20  # likeliest classes a row
BLOCK = 1 << 22  # scores at a time: 34 MB a copy
SAMPLED = 1 << 23  # scores that a temperature is fitted to: of every so many rows

Array64 = NDArray[np.float64]
Rows = NDArray[np.intp]
Blocks = Callable[[], Iterable[tuple[Rows, Array64]]]


def are_many(n_rows: int, n_classes: int) -> bool:
    """Return whether scores, (n_rows, n_classes), are too many to be kept."""
    return n_classes > MANY and n_rows * n_classes > MOST


@dataclass(frozen=True, kw_only=True, eq=False)
class Kept:
    """What is kept of log-probabilities, (n_rows, n_classes), of one label a row.

    Parameters
    ----------
    classes : int32, (n_rows, KEPT)
        The answer, then the other likeliest classes, the likeliest first; the row's own is always
        among them, if need be as the last.
    logits : float64, (n_rows, KEPT)
        Their log-probabilities.
    own : int64, (n_rows,)
        Which of them is the row's label.
    top5 : float64, (n_rows,)
        How much the row counts for top-5, 0 to 1; see `probe.evaluation.metrics.top_k_accuracy`.
    sample, sample_labels : float64, (n_sampled, n_classes), and int, (n_sampled,)
        Every so many rows with all classes: a temperature is fitted to these.
    blocks : callable
        Makes all scores again, some rows at a time, as (row numbers, log-probabilities).
    """

    __repr__ = short_repr

    n_classes: int
    classes: NDArray[np.int32]
    logits: Array64
    own: NDArray[np.int64]
    top5: Array64
    sample: Array64
    sample_labels: NDArray[np.int64]
    blocks: Blocks

    def metrics(self, labels: NDArray[np.integer[Any]], rows: slice) -> Metrics:
        """Return the figures of some rows; `macro_auc`, which ranks all scores, is absent."""
        p, own = np.exp(self.logits[rows]), self.own[rows]
        pairs = confused_pairs(self.classes[rows, 0], labels[rows], self.n_classes)
        recall, mean_recall, f1 = per_class_of_pairs(pairs)
        return Metrics(
            top1=top_k_accuracy(p, own, 1),
            top5=float(self.top5[rows].sum() / len(own)),
            mean_recall=mean_recall,
            macro_f1=f1,
            macro_auc=None,
            log_loss=log_loss(p, own),
            calibration_error=calibration_error(p, own),
            per_class_recall=recall,
            pairs=pairs,
        )

    def confidence_at(self, temperature: float) -> Array64:
        """Return each row's highest probability, (n_rows,), after scaling."""
        found = np.empty(len(self.own))
        for rows, logits in self.blocks():
            found[rows] = apply_temperature(logits, temperature).max(axis=1)
        return found


def keep(blocks: Blocks, labels: NDArray[np.integer[Any]], n_classes: int) -> Kept:
    """Go through the scores of all rows once and return what is kept of them.

    Parameters
    ----------
    blocks : callable
        See `Kept`.
    labels : int, (n_rows,)
    n_classes : int
        More than KEPT.

    Raises
    ------
    DataError
        As `probe.evaluation.metrics.score`.
    """
    n_rows, every = len(labels), max(1, -(-len(labels) * n_classes // SAMPLED))
    classes = np.empty((n_rows, KEPT), np.int32)
    kept, own = np.empty((n_rows, KEPT)), np.empty(n_rows, np.int64)
    top5 = np.empty(n_rows)
    sampled: list[Array64] = []
    numbers: list[Rows] = []
    for rows, logits in blocks():
        truth = labels[rows].astype(np.int64)
        p = np.exp(logits)
        check_scores(p, truth, n_classes)
        classes[rows] = _likeliest(p, truth)
        kept[rows] = np.take_along_axis(logits, classes[rows].astype(np.intp), axis=1)
        own[rows] = (classes[rows] == truth[:, None]).argmax(axis=1)
        top5[rows] = _counts_for_top5(logits, truth)
        some = np.flatnonzero(rows % every == 0)
        sampled.append(logits[some])
        numbers.append(rows[some])
    return Kept(
        n_classes=n_classes, classes=classes, logits=kept, own=own, top5=top5,
        sample=np.concatenate(sampled),
        sample_labels=labels[np.concatenate(numbers)].astype(np.int64), blocks=blocks,
    )  # fmt: skip


def _likeliest(p: Array64, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return KEPT classes a row: the answer, then by probability, the row's own among them."""
    answers = p.argmax(axis=1)  # the first of equals, which a partition may pass over
    found = np.sort(np.argpartition(-p, KEPT - 1, axis=1)[:, :KEPT], axis=1)
    order = np.argsort(-np.take_along_axis(p, found, axis=1), axis=1, kind="stable")
    found = np.take_along_axis(found, order, axis=1)
    passed = ~(found == answers[:, None]).any(axis=1)
    found[passed] = np.concatenate([answers[passed, None], found[passed, :-1]], axis=1)
    absent = ~(found == labels[:, None]).any(axis=1)
    found[absent, -1] = labels[absent]
    return found


def _counts_for_top5(logits: Array64, labels: NDArray[np.int64]) -> Array64:
    own = np.take_along_axis(logits, labels[:, None], axis=1)
    ahead, alike = (logits > own).sum(axis=1), (logits == own).sum(axis=1)
    counts: Array64 = ((TOP - ahead) / alike).clip(0, 1)
    return counts
