"""Metrics of predictions. Every figure is a fraction from 0 to 1; log loss is in nats.

Ties are counted by one rule. An answer is one class, that with the highest probability and the
first of equals, as `predict` gives it; top-1, recall, F1 and confusion go by answers. Figures that
rank take equal scores to be in no order: top-5 counts a row by the chance that its label is among
the five, were the tied classes shuffled; in an area under a ROC curve a tied pair counts half; an
average precision has one precision for all rows of one score, and a threshold takes them all or
none. What is ranked are log odds without their rounding noise, see
`probe.evaluation.logits.ranked_against_rest`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.short_repr import short_repr
from probe.errors import DataError
from probe.evaluation.logits import log_probabilities, ranked_against_rest

Probabilities = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]

TOP = 5
N_BINS = 15  # of confidence
MOST_RANKED = 1 << 26  # scores: beyond, sorting them for the area takes minutes
BLOCK_ELEMENTS = 1 << 22  # scores compared at a time
# of a row whose class the head does not know, in nats: scikit-learn clips probabilities there
UNSEEN_LOSS = float(-np.log(np.finfo(np.float64).eps))


@dataclass(frozen=True, kw_only=True, eq=False)
class Confusion:
    """A sparse confusion matrix: its memory grows with the rows, not with the classes squared.

    Parameters
    ----------
    true, predicted, count : int64, (n_pairs,)
        By true class, then by predicted one; `count` is at least 1.
    """

    __repr__ = short_repr

    n_classes: int
    true: NDArray[np.int64]
    predicted: NDArray[np.int64]
    count: NDArray[np.int64]

    @property
    def of_true(self) -> NDArray[np.int64]:
        """Rows of each class, (n_classes,)."""
        return self._sums(self.true, self.count)

    @property
    def of_predicted(self) -> NDArray[np.int64]:
        """Rows that were predicted as each class, (n_classes,)."""
        return self._sums(self.predicted, self.count)

    @property
    def hits(self) -> NDArray[np.int64]:
        """Rows of each class that were predicted as it, (n_classes,)."""
        right = self.true == self.predicted
        return self._sums(self.true[right], self.count[right])

    def dense(self) -> NDArray[np.int64]:
        """Return the whole matrix, (n_classes, n_classes); for a few hundred classes at most."""
        matrix = np.zeros((self.n_classes, self.n_classes), np.int64)
        matrix[self.true, self.predicted] = self.count
        return matrix

    def _sums(self, classes: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.int64]:
        sums = np.zeros(self.n_classes, np.int64)
        np.add.at(sums, classes, count)
        return sums


@dataclass(frozen=True, kw_only=True, eq=False)
class Metrics:
    """What `score` measures on one split.

    Parameters
    ----------
    top5 : float or None
        None with five classes or fewer, where it says nothing.
    macro_auc : float or None
        None where one class has all the rows, or there are more than MOST_RANKED scores.
    calibration_error : float
        Expected calibration error of the highest probability.
    per_class_recall : float64, (n_classes,)
        NaN for a class without rows.
    """

    __repr__ = short_repr

    top1: float
    top5: float | None
    mean_recall: float
    macro_f1: float
    macro_auc: float | None
    log_loss: float
    calibration_error: float
    per_class_recall: NDArray[np.float64]
    pairs: Confusion

    @property
    def confusion(self) -> NDArray[np.int64]:
        """The matrix of `pairs`, (n_classes, n_classes): rows are true classes."""
        return self.pairs.dense()

    def summary(self) -> dict[str, float]:
        """Return the single figures by name, without those that were not measured."""
        figures = {
            "top1": self.top1,
            "top5": self.top5,
            "mean_recall": self.mean_recall,
            "macro_f1": self.macro_f1,
            "macro_auc": self.macro_auc,
            "log_loss": self.log_loss,
            "calibration_error": self.calibration_error,
        }
        return {name: value for name, value in figures.items() if value is not None}


def score(
    probabilities: Probabilities,
    labels: Labels,
    n_classes: int,
    logits: NDArray[np.float64] | None = None,
) -> Metrics:
    """Measure predictions on one split.

    Parameters
    ----------
    probabilities : float, (n_rows, n_classes)
        Each row sums to 1.
    labels : int, (n_rows,)
        0 to n_classes - 1.
    n_classes : int
        At least 2.
    logits : float64, (n_rows, n_classes), optional
        Log-probabilities, by which classes and rows are ranked. Default: of the probabilities.

    Raises
    ------
    DataError
        No rows, shapes that do not fit, a label out of range, or rows that are not probabilities.
    """
    check_scores(probabilities, labels, n_classes)
    sums = probabilities.sum(axis=1, dtype=np.float64)
    if probabilities.min() < 0 or np.abs(sums - 1).max() > 1e-3:
        raise DataError("log loss needs probabilities: numbers from 0 whose rows sum to 1")
    ranks = log_probabilities(probabilities) if logits is None else logits
    pairs = confused_pairs(probabilities.argmax(axis=1), labels, n_classes)
    recall, mean_recall, f1 = per_class_of_pairs(pairs)
    return Metrics(
        top1=top_k_accuracy(probabilities, labels, 1),
        top5=top_k_accuracy(ranks, labels, TOP) if n_classes > TOP else None,
        mean_recall=mean_recall,
        macro_f1=f1,
        macro_auc=(
            macro_auc(ranked_against_rest(ranks), labels)
            if probabilities.size <= MOST_RANKED
            else None
        ),
        log_loss=log_loss(probabilities, labels),
        calibration_error=calibration_error(probabilities, labels),
        per_class_recall=recall,
        pairs=pairs,
    )


def per_class_of_pairs(pairs: Confusion) -> tuple[NDArray[np.float64], float, float]:
    """Return recall by class, see `per_class_recall`, its mean, and `macro_f1`."""
    recall = _recall(pairs.hits, pairs.of_true)
    f1 = _f1(pairs.hits, pairs.of_true + pairs.of_predicted)
    return recall, float(np.nanmean(recall)), f1


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

    With k = 1 that is the share of right answers, the first of equals being the answer. Else equal
    scores are in no order: where m classes tie for r of the k places, a label that is one of them
    counts r / m. So a head that scores all classes alike gets chance level, and the numbers of
    classes play no part.

    Parameters
    ----------
    scores : float, (n_rows, n_classes)
        Probabilities or anything that ranks alike.
    labels : int, (n_rows,)

    References
    ----------
    Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", arXiv:1409.0575: top-5.
    McSherry, Najork, "Computing information retrieval performance measures efficiently in the
    presence of tied scores", ECIR 2008: the expectation over orders of equals.
    """
    if k == 1:
        return float((scores.argmax(axis=1) == labels).mean())
    hits = 0.0
    step = max(1, BLOCK_ELEMENTS // scores.shape[1])
    for start in range(0, len(labels), step):
        block, own = scores[start : start + step], labels[start : start + step, None]
        own_score = np.take_along_axis(block, own, axis=1)
        ahead, alike = (block > own_score).sum(axis=1), (block == own_score).sum(axis=1)
        hits += float(((k - ahead) / alike).clip(0, 1).sum())
    return hits / len(labels)


def confusion_matrix(predicted: Labels, labels: Labels, n_classes: int) -> NDArray[np.int64]:
    """Count rows by true class (first axis) and predicted class (second)."""
    return confused_pairs(predicted, labels, n_classes).dense()


def confused_pairs(predicted: Labels, labels: Labels, n_classes: int) -> Confusion:
    """Count rows by true and predicted class, those that occur."""
    cells, count = np.unique(labels.astype(np.int64) * n_classes + predicted, return_counts=True)
    true, taken_for = np.divmod(cells, n_classes)
    return Confusion(n_classes=n_classes, true=true, predicted=taken_for, count=count)


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
    return _recall(np.diagonal(confusion), confusion.sum(axis=1))


def _recall(hits: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    recall = np.full(len(rows), np.nan)
    np.divide(hits, rows, out=recall, where=rows > 0)
    return recall


def macro_f1(confusion: NDArray[np.int64]) -> float:
    """Return the mean over classes of the harmonic mean of precision and recall.

    Classes that have no rows and were never predicted do not count, as in scikit-learn.

    References
    ----------
    Sokolova, Lapalme, "A systematic analysis of performance measures for classification tasks",
    Inf. Process. Manage. 45, 2009.
    """
    return _f1(np.diagonal(confusion), confusion.sum(axis=0) + confusion.sum(axis=1))


def _f1(hits: NDArray[np.int64], met: NDArray[np.int64]) -> float:
    return float(np.mean(2 * hits[met > 0] / met[met > 0]))


def macro_auc(scores: Probabilities, labels: Labels) -> float | None:
    """Return the mean over classes of the area under the ROC curve, one class against the rest.

    Classes without rows, or with all of them, have no curve and do not count; None where none has.

    References
    ----------
    Fawcett, "An introduction to ROC analysis", Pattern Recognit. Lett. 27, 2006: 9, by prevalence
    and not.
    """
    areas = [area_under_roc(scores[:, label], labels == label) for label in np.unique(labels)]
    measured = [area for area in areas if not np.isnan(area)]
    return float(np.mean(measured)) if measured else None


def area_under_roc(scores: NDArray[Any], own: NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve of one class, from scores (n,); NaN without two sides.

    References
    ----------
    Hand, Till, Mach. Learn. 45, 2001: the area from ranks, ties counting half.
    """
    n_own, n_rest = int(own.sum()), int((~own).sum())
    if not (n_own and n_rest):
        return float("nan")
    _, group, count = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[group]  # equal scores share a mean rank
    return float((ranks[own].sum() - n_own * (n_own + 1) / 2) / (n_own * n_rest))


def calibration_error(probabilities: Probabilities, labels: Labels, n_bins: int = N_BINS) -> float:
    """Return the expected calibration error: how far confidence is from accuracy, on average.

    Rows are put into bins of equal width by their highest probability; the gaps between a bin's
    mean confidence and its accuracy are averaged, weighed by its rows.

    References
    ----------
    Naeini et al., AAAI 2015; Guo et al., "On calibration of modern neural networks",
    arXiv:1706.04599: fifteen bins.
    """
    right = probabilities.argmax(axis=1) == labels
    return calibration_gap(probabilities.max(axis=1), right, n_bins)


def confidence_bins(confidence: NDArray[np.float64], n_bins: int = N_BINS) -> NDArray[np.intp]:
    """Return the bin of each confidence, (n,); they are equally wide and closed above."""
    bins: NDArray[np.intp] = np.ceil(confidence * n_bins).astype(np.intp) - 1
    return bins.clip(0, n_bins - 1)


def calibration_gap(confidence: NDArray[Any], right: NDArray[Any], n_bins: int = N_BINS) -> float:
    """Return how far confidences, (n,), are from what came true, averaged over bins of them."""
    sure = confidence.astype(np.float64)
    bins = confidence_bins(sure, n_bins)
    gaps = np.bincount(bins, weights=sure - right, minlength=n_bins)
    return float(np.abs(gaps).sum() / len(right))


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
