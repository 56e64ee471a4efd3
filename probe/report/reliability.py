"""Compute a reliability diagram: confidence against accuracy in bins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.core.short_repr import short_repr
from probe.evaluation.metrics import confidence_bins


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

    __repr__ = short_repr

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    count: NDArray[np.int64]
    error: float


def reliability(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> Reliability:
    """Bin rows by confidence.

    Parameters
    ----------
    confidence : float64, (n_rows,)
    right : bool, (n_rows,)
    """
    bins = confidence_bins(confidence)
    count = np.bincount(bins)
    kept = count > 0
    sums = np.bincount(bins, weights=confidence)
    hits = np.bincount(bins, weights=right)
    return Reliability(
        confidence=sums[kept] / count[kept],
        accuracy=hits[kept] / count[kept],
        count=count[kept],
        error=float(np.abs(sums - hits).sum() / len(right)),
    )
