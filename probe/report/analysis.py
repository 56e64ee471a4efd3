"""What a run said of its held-out rows, reduced to what a page shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.metrics import confusion_matrix
from probe.predictions import Predictions
from probe.report.ranking import Run
from probe.statistics import apply_temperature

BINS = 15
WORST = 24


@dataclass(frozen=True, kw_only=True, eq=False)
class Reliability:
    """Confidence against accuracy in bins of equal width; bins without rows are left out.

    Parameters
    ----------
    confidence, accuracy : float64, (n_bins,)
        Means over the bin's rows.
    count : int64, (n_bins,)
    error : float
        Expected calibration error.

    References
    ----------
    Guo et al., "On calibration of modern neural networks", arXiv:1706.04599, section 2.
    """

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    count: NDArray[np.int64]
    error: float


@dataclass(frozen=True, kw_only=True, eq=False)
class SplitView:
    """One run on one split of held-out rows.

    Parameters
    ----------
    split : str
        ``oof``, ``val`` or ``test``.
    ids : str, (n_rows,)
    labels, predicted : int64, (n_rows,)
    confidence : float32, (n_rows,)
        Of the predicted class.
    pairs : int64, (n_pairs, 3)
        True class, predicted class, rows; the cells of the confusion matrix that are not 0.
    before, after : Reliability
        As the head is, and with its temperature; `after` is None where it has none.
    worst : int64, (n_worst,)
        Rows that are confidently wrong, the surest first.
    """

    split: str
    ids: NDArray[np.str_]
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float32]
    pairs: NDArray[np.int64]
    before: Reliability
    after: Reliability | None
    worst: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def confusion(self, n_classes: int) -> NDArray[np.int64]:
        """Return the whole matrix, rows being true classes."""
        return confusion_matrix(self.predicted, self.labels, n_classes)


def views_of(run: Run, n_worst: int = WORST) -> dict[str, SplitView]:
    """Reduce a run's predictions, split by split; the probabilities themselves are let go."""
    order = ("oof", "val", "test")
    kept = run.predictions()
    return {
        split: _view(split, kept[split], run.result.temperature, n_worst)
        for split in order
        if split in kept and len(kept[split])
    }


def _view(split: str, kept: Predictions, temperature: float | None, n_worst: int) -> SplitView:
    probabilities, labels = kept.probabilities, kept.labels.astype(np.int64)
    predicted = probabilities.argmax(axis=1)
    confidence = np.take_along_axis(probabilities, predicted[:, None], axis=1)[:, 0]
    wrong = np.flatnonzero(predicted != labels)
    after = None
    if temperature is not None:
        after = reliability(_scaled_confidence(probabilities, temperature), predicted == labels)
    both, counts = np.unique(np.stack([labels, predicted]), axis=1, return_counts=True)
    return SplitView(
        split=split,
        ids=kept.ids,
        labels=labels,
        predicted=predicted,
        confidence=confidence,
        pairs=np.column_stack([both.T, counts]).astype(np.int64),
        before=reliability(confidence.astype(np.float64), predicted == labels),
        after=after,
        worst=wrong[np.argsort(-confidence[wrong], kind="stable")][:n_worst],
    )


def _scaled_confidence(
    probabilities: NDArray[Any], temperature: float, rows: int = 4096
) -> NDArray[np.float64]:
    """Return the highest probability after scaling, some rows at a time."""
    blocks = [
        apply_temperature(probabilities[start : start + rows], temperature).max(axis=1)
        for start in range(0, len(probabilities), rows)
    ]
    return np.concatenate(blocks)


def reliability(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> Reliability:
    """Bin rows by confidence.

    Parameters
    ----------
    confidence : float64, (n_rows,)
    right : bool, (n_rows,)
    """
    bins = np.clip(np.ceil(confidence * BINS).astype(np.intp) - 1, 0, BINS - 1)
    count = np.bincount(bins, minlength=BINS)
    kept = count > 0
    sums = np.bincount(bins, weights=confidence, minlength=BINS)
    hits = np.bincount(bins, weights=right, minlength=BINS)
    return Reliability(
        confidence=sums[kept] / count[kept],
        accuracy=hits[kept] / count[kept],
        count=count[kept],
        error=float(np.abs(sums - hits).sum() / len(right)),
    )
