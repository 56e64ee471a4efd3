"""How good predictions are. Every figure is a fraction from 0 to 1, log loss is in nats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.errors import DataError

Probabilities = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]

TOP = 5
BLOCK_ELEMENTS = 1 << 22  # scores compared at a time


@dataclass(frozen=True, kw_only=True, eq=False)
class Metrics:
    """What `score` measures on one split.

    Parameters
    ----------
    top1, mean_recall : float
    top5 : float or None
        None with five classes or fewer, where it says nothing.
    log_loss : float
    per_class_recall : float64, (n_classes,)
        NaN for a class without rows.
    confusion : int64, (n_classes, n_classes)
        Rows are true classes, columns predicted ones.
    """

    top1: float
    top5: float | None
    mean_recall: float
    log_loss: float
    per_class_recall: NDArray[np.float64]
    confusion: NDArray[np.int64]

    def summary(self) -> dict[str, float]:
        """Return the single figures by name, without those that were not measured."""
        figures = {
            "top1": self.top1,
            "top5": self.top5,
            "mean_recall": self.mean_recall,
            "log_loss": self.log_loss,
        }
        return {name: value for name, value in figures.items() if value is not None}


def score(probabilities: Probabilities, labels: Labels, n_classes: int) -> Metrics:
    """Measure predictions on one split.

    Parameters
    ----------
    probabilities : float, (n_rows, n_classes)
        Each row sums to 1.
    labels : int, (n_rows,)
        0 to n_classes - 1.
    n_classes : int
        At least 2.

    Raises
    ------
    DataError
        No rows, shapes that do not fit, a label out of range, or rows that are not probabilities.
    """
    check_scores(probabilities, labels, n_classes)
    sums = probabilities.sum(axis=1, dtype=np.float64)
    if probabilities.min() < 0 or np.abs(sums - 1).max() > 1e-3:
        raise DataError("log loss needs probabilities: numbers from 0 whose rows sum to 1")
    confusion = confusion_matrix(probabilities.argmax(axis=1), labels, n_classes)
    recall = per_class_recall(confusion)
    return Metrics(
        top1=top_k_accuracy(probabilities, labels, 1),
        top5=top_k_accuracy(probabilities, labels, TOP) if n_classes > TOP else None,
        mean_recall=float(np.nanmean(recall)),
        log_loss=log_loss(probabilities, labels),
        per_class_recall=recall,
        confusion=confusion,
    )


def check_scores(scores: Probabilities, labels: Labels, n_classes: int) -> None:
    """Raise DataError unless scores and labels belong together."""
    if n_classes < 2 or len(labels) == 0:
        raise DataError(f"{len(labels)} rows of {n_classes} classes: nothing to measure")
    if scores.shape != (len(labels), n_classes):
        raise DataError(
            f"scores have the shape {scores.shape}, expected {(len(labels), n_classes)}"
        )
    if not np.isfinite(scores).all():
        raise DataError("scores hold NaN or infinity")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= n_classes:
        raise DataError(f"labels go from {low} to {high}, expected 0 to {n_classes - 1}")


def top_k_accuracy(scores: Probabilities, labels: Labels, k: int) -> float:
    """Return the fraction of rows whose label is among the k highest scores.

    Equal scores are ranked by class number, so that top-1 is what `argmax` predicts and a head
    that scores all classes alike gets chance level, not 1.

    Parameters
    ----------
    scores : float, (n_rows, n_classes)
        Probabilities or anything that ranks alike.
    labels : int, (n_rows,)

    References
    ----------
    Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", arXiv:1409.0575: top-5.
    """
    columns, hits = np.arange(scores.shape[1]), 0
    step = max(1, BLOCK_ELEMENTS // scores.shape[1])
    for start in range(0, len(labels), step):
        block, own = scores[start : start + step], labels[start : start + step, None]
        own_score = np.take_along_axis(block, own, axis=1)
        ahead = (block > own_score) | ((block == own_score) & (columns < own))
        hits += int(np.count_nonzero(ahead.sum(axis=1) < k))
    return hits / len(labels)


def confusion_matrix(predicted: Labels, labels: Labels, n_classes: int) -> NDArray[np.int64]:
    """Count rows by true class (first axis) and predicted class (second)."""
    pairs = labels.astype(np.int64) * n_classes + predicted
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def per_class_recall(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the fraction of each class's rows that were predicted as that class.

    Their mean over the classes that have rows is the mean per-class recall, also called balanced
    accuracy: each class counts the same however rare it is.

    Returns
    -------
    float64, (n_classes,)
        NaN for a class without rows.

    References
    ----------
    Brodersen et al., "The balanced accuracy and its posterior distribution", ICPR 2010.
    """
    rows = confusion.sum(axis=1)
    recall = np.full(len(rows), np.nan)
    np.divide(np.diagonal(confusion), rows, out=recall, where=rows > 0)
    return recall


def log_loss(probabilities: Probabilities, labels: Labels) -> float:
    """Return the mean of ``-log p(label)``, in nats.

    A probability of 0 counts as the smallest step of its float type, as in scikit-learn, so that
    one row of a class that was never trained does not make the mean infinite.

    References
    ----------
    Good, "Rational decisions", J. R. Statist. Soc. B 14, 1952: the logarithmic score.
    """
    own = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    clipped = np.clip(own, np.finfo(probabilities.dtype).eps, 1)
    return max(0.0, float(-np.log(clipped.astype(np.float64)).mean()))
