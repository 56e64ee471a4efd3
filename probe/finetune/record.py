"""What past fine-tunings, tried on a small draw first, say about one that was only tried.

The gain of all images is taken for a linear function of two things: the logarithm of their number,
which is that of a training's steps, and the gain on the draw. A gain that was seen on few held-out
images is mostly chance, so it is drawn towards the mean by as much as its sampling error makes of
the spread over the record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from probe.evaluation.statistics import LEVEL

Values = NDArray[np.float64]


class Past(NamedTuple):
    """A fine-tuning that was tried on an eighth of its images first; gains are points of top-1.

    Parameters
    ----------
    images : int
        All training images.
    seen, error : float
        Gain on the draw over the head fitted on it, on held-out images; its standard error.
    real : float
        Gain of the kept epoch of all images over the probe, on test images.
    """

    images: int
    seen: float
    error: float
    real: float


# the default recipe, by `benchmarks/forecast.py`, which names the networks and images of each
RECORD: tuple[Past, ...] = (
    Past(210, -3.3, 4.4, -1.5),
    Past(350, 6.7, 4.3, 2.1),
    Past(280, -2.5, 5.4, 3.5),
    Past(420, -13.3, 3.8, -0.1),
    Past(420, 7.2, 3.7, 10.1),
    Past(350, -0.7, 3.8, 1.6),
    Past(420, -2.8, 3.2, 2.8),
    Past(378, 1.2, 3.0, 6.9),
    Past(252, -10.2, 4.6, -1.0),
    Past(350, 11.3, 7.0, 0.1),
    Past(1050, 6.9, 2.4, 11.2),
    Past(560, 2.9, 3.3, 7.9),
    Past(560, 7.5, 3.1, 10.6),
    Past(560, 2.5, 2.6, 6.9),
    Past(1050, -0.2, 1.7, 10.2),
    Past(504, -2.8, 3.1, 2.7),
    Past(490, 2.4, 3.1, 4.0),
    Past(560, 10.0, 2.7, 10.0),
    Past(1050, 0.2, 1.7, 5.4),
    Past(490, 2.9, 3.7, 6.6),
    Past(490, -11.0, 3.8, 5.7),
    Past(560, 4.2, 3.4, 4.8),
    Past(560, 2.5, 2.8, 5.7),
)


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a fine-tuning is expected to gain.

    Parameters
    ----------
    gain : float
        Of top-1 or mAP over the probe, on new images.
    low, high : float
        95 % interval: sampling of held-out images and the record's own spread.
    chance : float
        Of any gain at all, 0 to 1.
    """

    gain: float
    low: float
    high: float
    chance: float


def expected(seen: float, error: float, images: int, record: Sequence[Past] = RECORD) -> Expected:
    """Return what a gain that was seen on a draw lets expect of all images.

    Parameters
    ----------
    seen, error : float
        Gain on the draw, and its standard error over held-out images.
    images : int
        Training images in all; beyond those of the record as many as its fewest or most.

    References
    ----------
    Carroll, Ruppert, Stefanski, Crainiceanu, "Measurement Error in Nonlinear Models", 2006, 4:
    regression calibration. The interval is that of a prediction from a linear regression.
    """
    from scipy.special import stdtr, stdtrit

    past = np.array(record, np.float64)
    counts, gains, errors, real = past[:, 0], past[:, 1] / 100, past[:, 2] / 100, past[:, 3] / 100
    spread = max(float(gains.var(ddof=1) - (errors**2).mean()), 0.0)

    def terms(count: Any, gain: Any, error: Any) -> Values:
        sure = spread / (spread + error**2) * (gain - gains.mean())
        return np.stack([np.ones_like(sure), np.log2(count), sure], axis=-1)

    def unsure(error: Any) -> Any:
        return spread * error**2 / (spread + error**2)  # what is left of the spread

    known = terms(counts, gains, errors)
    weights = np.linalg.lstsq(known, real, rcond=None)[0]
    freedom = len(real) - known.shape[1]
    noise = float(((real - known @ weights) ** 2).sum()) / freedom
    own = terms(np.clip(images, counts.min(), counts.max()), np.float64(seen), np.float64(error))
    leverage = float(own @ np.linalg.pinv(known.T @ known) @ own)
    more = max(0.0, float(unsure(np.float64(error)) - unsure(errors).mean()))
    gain = float(own @ weights)
    deviation = sqrt(noise * (1 + leverage) + weights[2] ** 2 * more)
    reach = float(stdtrit(freedom, (1 + LEVEL) / 2)) * deviation
    return Expected(
        gain=gain, low=gain - reach, high=gain + reach,
        chance=float(stdtr(freedom, gain / deviation)),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Track:
    """How past fine-tunings are foretold, each from the others.

    Parameters
    ----------
    count, held : int
        How many there are, and whose gain lay in the 95 % interval.
    error : float
        Root mean square of the real gain less the foretold one.
    images : (int, int)
        Fewest and most training images.
    """

    count: int
    held: int
    error: float
    images: tuple[int, int]


@cache
def track(record: tuple[Past, ...] = RECORD) -> Track:
    """Return how well each of the record is foretold from the rest of it."""
    off, held = [], 0
    for place, one in enumerate(record):
        rest = (*record[:place], *record[place + 1 :])
        told, real = expected(one.seen / 100, one.error / 100, one.images, rest), one.real / 100
        off.append(real - told.gain)
        held += told.low <= real <= told.high
    counts = [one.images for one in record]
    return Track(
        count=len(record), held=held, error=sqrt(float(np.mean(np.square(off)))),
        images=(min(counts), max(counts)),
    )  # fmt: skip
