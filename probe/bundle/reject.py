"""Two flags on doubtful answers, each with a threshold that was chosen on held-out rows.

low-confidence       the highest calibrated probability is below the threshold
out-of-distribution  the distance to the training features is above the threshold

Each flag applies to a share `rate` of the held-out images. Which share of out-of-distribution
images it catches is not known, since none were there to choose on.

References
----------
Hendrycks, Gimpel, "A baseline for detecting misclassified and out-of-distribution examples",
arXiv:1610.02136: the highest probability. Guo et al., arXiv:1706.04599: calibrating it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.bundle.about import Rejection
from probe.bundle.neighbours import Neighbours
from probe.core.short_repr import short_repr

LOW_CONFIDENCE, OUT_OF_DISTRIBUTION = "low-confidence", "out-of-distribution"
LEAST_HELD_OUT = 20  # with fewer rows a share of 5 % is less than one row


@dataclass(frozen=True, kw_only=True, eq=False)
class Verdicts:
    """The flags of a bundle's answers.

    Parameters
    ----------
    low_confidence, out_of_distribution : bool, (n,)
    distances : float64, (n,), or None
        Distance to the k-th nearest training row; None if no training rows are kept.
    """

    __repr__ = short_repr

    low_confidence: NDArray[np.bool_]
    out_of_distribution: NDArray[np.bool_]
    distances: NDArray[np.float64] | None

    def flags(self, row: int) -> tuple[str, ...]:
        """Return the names of the flags of one image."""
        words = {LOW_CONFIDENCE: self.low_confidence, OUT_OF_DISTRIBUTION: self.out_of_distribution}
        return tuple(word for word, hit in words.items() if hit[row])


def judge(
    rejection: Rejection | None,
    neighbours: Neighbours | None,
    features: NDArray[Any],
    probabilities: NDArray[np.float64],
) -> Verdicts:
    """Return the flags of images; without thresholds there are none."""
    nothing = np.zeros(len(features), bool)
    if rejection is None:
        return Verdicts(low_confidence=nothing, out_of_distribution=nothing, distances=None)
    low_confidence, out_of_distribution, distances = nothing, nothing, None
    if rejection.confidence is not None:
        low_confidence = probabilities.max(axis=1) < rejection.confidence
    if rejection.distance is not None and neighbours is not None:
        distances = neighbours.nearest(features, rejection.k)[0][:, -1]
        out_of_distribution = distances > rejection.distance
    return Verdicts(
        low_confidence=low_confidence, out_of_distribution=out_of_distribution, distances=distances
    )


def choose_confidence(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], rate: float
) -> tuple[float, float, float]:
    """Choose the confidence below which an image has low confidence, on held-out rows.

    Parameters
    ----------
    confidence : float64, (n,)
        The highest probability of each row, calibrated.
    right : bool, (n,)
    rate : float
        The share of rows that may be flagged.

    Returns
    -------
    confidence, top1_answered, errors_caught : float
        See `Rejection`; `errors_caught` is 0 where nothing was wrong.
    """
    threshold = float(np.quantile(confidence, rate, method="lower"))
    sure = confidence >= threshold
    wrong = np.count_nonzero(~right)
    caught = np.count_nonzero(~right & ~sure) / wrong if wrong else 0.0
    return threshold, float(right[sure].mean()), float(caught)


def choose_distance(neighbours: Neighbours, features: NDArray[Any], rate: float, k: int) -> float:
    """Choose the distance above which an image is a out_of_distribution, on held-out rows."""
    distances = neighbours.nearest(features, k)[0][:, -1]
    return float(np.quantile(distances, 1 - rate, method="higher"))
