"""What fine-tuning gained over the probe, image by image, and how sure that is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.errors import DataError
from probe.paired import compare_pair
from probe.predictions import Predictions


@dataclass(frozen=True, kw_only=True)
class Gain:
    """Two networks on the same images.

    Parameters
    ----------
    split : str
    before, after : float
        Top-1.
    low, high : float
        95 % bootstrap interval of ``after - before`` over images.
    repaired, broken : int
        Images that only the second, only the first gets right.
    p : float
        McNemar's exact two-sided test that both are equally likely.
    """

    split: str
    before: float
    after: float
    low: float
    high: float
    repaired: int
    broken: int
    p: float

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def gain_of(split: str, before: Predictions, after: Predictions) -> Gain:
    """Compare predictions of the same images; see `probe.paired`.

    Raises
    ------
    DataError
        They are of other images.
    """
    place = {one: row for row, one in enumerate(before.ids.tolist())}
    if set(place) != set(after.ids.tolist()) or not len(after):
        raise DataError(f"{split}: the two runs did not predict the same images")
    rows = np.array([place[one] for one in after.ids.tolist()], np.intp)
    old, new = _right(before)[rows], _right(after)
    test = compare_pair(new, old)
    return Gain(
        split=split, before=float(old.mean()), after=float(new.mean()), low=test.interval.low,
        high=test.interval.high, repaired=test.only_a, broken=test.only_b, p=test.p,
    )  # fmt: skip


def _right(predictions: Predictions) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = predictions.probabilities.argmax(axis=1) == predictions.labels
    return found
