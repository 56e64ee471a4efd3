"""\"I do not know\": two flags, each with a threshold that was chosen on held-out rows.

unsure    the highest calibrated probability is lower than nearly all held-out images had
stranger  the image is further from the training features than nearly all held-out images were

*Nearly all* is 1 - rate. The flags say nothing of how many strangers are caught: that depends on
the strangers, of which training knew nothing.

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

UNSURE, STRANGER = "unsure", "stranger"
LEAST_HELD_OUT = 20  # below, a share of 5 % is less than one row


@dataclass(frozen=True, kw_only=True, eq=False)
class Verdicts:
    """What a bundle thinks of its own answers.

    Parameters
    ----------
    unsure, stranger : bool, (n,)
    distances : float64, (n,), or None
        To the k-th nearest training row; None where none are remembered.
    """

    unsure: NDArray[np.bool_]
    stranger: NDArray[np.bool_]
    distances: NDArray[np.float64] | None

    def flags(self, row: int) -> tuple[str, ...]:
        """Return the words for one image."""
        words = {UNSURE: self.unsure, STRANGER: self.stranger}
        return tuple(word for word, hit in words.items() if hit[row])


def judge(
    rejection: Rejection | None,
    neighbours: Neighbours | None,
    features: NDArray[Any],
    probabilities: NDArray[np.float64],
) -> Verdicts:
    """Compare images with the thresholds; without thresholds nothing is flagged."""
    nothing = np.zeros(len(features), bool)
    if rejection is None:
        return Verdicts(unsure=nothing, stranger=nothing, distances=None)
    unsure, stranger, distances = nothing, nothing, None
    if rejection.confidence is not None:
        unsure = probabilities.max(axis=1) < rejection.confidence
    if rejection.distance is not None and neighbours is not None:
        distances = neighbours.nearest(features, rejection.k)[0][:, -1]
        stranger = distances > rejection.distance
    return Verdicts(unsure=unsure, stranger=stranger, distances=distances)


def choose_confidence(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], rate: float
) -> tuple[float, float, float]:
    """Choose the confidence below which an image is unsure, on held-out rows.

    Parameters
    ----------
    confidence : float64, (n,)
        The highest probability of each row, calibrated.
    right : bool, (n,)
    rate : float
        The share of rows that may be unsure.

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
    """Choose the distance above which an image is a stranger, on held-out rows."""
    distances = neighbours.nearest(features, k)[0][:, -1]
    return float(np.quantile(distances, 1 - rate, method="higher"))
