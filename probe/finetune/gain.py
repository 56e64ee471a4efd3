"""What fine-tuning gained over the probe, image by image, and how sure that is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from probe.errors import DataError
from probe.evaluation.paired import MCNEMAR
from probe.evaluation.pairs import compare_all, evidence
from probe.evaluation.predictions import Predictions


@dataclass(frozen=True, kw_only=True)
class Gain:
    """Two networks on the same images.

    Parameters
    ----------
    split : str
    before, after : float
        Top-1, or of several labels an image the mean average precision.
    low, high : float
        95 % interval of ``after - before`` over images, see `probe.evaluation.pairs.compare_all`.
    repaired, broken : int or None
        Images that only the second, only the first gets right; None of several labels.
    p : float
        Two-sided, of no difference.
    test : str
        What the test is called.
    """

    split: str
    before: float
    after: float
    low: float
    high: float
    p: float
    test: str = MCNEMAR
    repaired: int | None = None
    broken: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def gain_of(split: str, before: Predictions, after: Predictions) -> Gain:
    """Compare predictions of the same images; see `probe.evaluation.pairs`.

    Raises
    ------
    DataError
        They are of other images.
    """
    place = {one: row for row, one in enumerate(before.ids.tolist())}
    if set(place) != set(after.ids.tolist()) or not len(after):
        raise DataError(f"{split}: the two runs did not predict the same images")
    rows = np.array([place[one] for one in after.ids.tolist()], np.intp)
    units = None if before.units is None else before.units[rows]
    old = evidence(before.compared[rows], before.columns[rows], units=units)
    new = evidence(after.compared, after.columns, units=units)
    (pair,) = compare_all({"new": new, "old": old})
    return Gain(
        split=split, before=old.value, after=new.value, low=pair.low, high=pair.high, p=pair.p,
        test=pair.test or MCNEMAR, repaired=pair.only_a, broken=pair.only_b,
    )  # fmt: skip
