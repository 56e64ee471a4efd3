"""ROC and precision-recall curves of two classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.short_repr import short_repr
from probe.evaluation.logits import ranked_against_rest
from probe.evaluation.scored import Scored
from probe.evaluation.two_classes import Threshold, answered, figures_of_two

Array64 = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """What every threshold gives, from answering no row positive to answering all.

    Parameters
    ----------
    false_positives : float64, (n_points,)
        The share of negative rows that are answered positive, 0 to 1, rising.
    recall : float64, (n_points,)
        The share of positive rows that are.
    precision : float64, (n_points,)
        The share of rows answered positive that are; 1 at the first point, where none is.
    """

    __repr__ = short_repr

    false_positives: Array64
    recall: Array64
    precision: Array64

    def steps(self) -> tuple[Array64, Array64]:
        """Return recall and precision as the steps whose area is the average precision.

        From a recall of 0 on, with the precision of the first threshold that finds a positive row.
        """
        found = self.recall > 0
        precision = self.precision[found]
        return np.append(0.0, self.recall[found]), np.append(precision[:1], precision)

    def thinned(self, most: int) -> Curve:
        """Return at most so many points, the first and the last among them."""
        if len(self.recall) <= most:
            return self
        rows = np.unique(np.linspace(0, len(self.recall) - 1, most).round().astype(np.intp))
        return Curve(
            false_positives=self.false_positives[rows], recall=self.recall[rows],
            precision=self.precision[rows],
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Point:
    """Where answers lie on the curves; `precision` is None where nothing is answered positive."""

    false_positives: float
    recall: float
    precision: float | None


def curves_of(one: Scored, positive: int) -> list[Curve]:
    """Return the curve of a split, or one a repeat; none where a class has no rows.

    Rows of equal scores are answered alike, so they are one step of a curve.

    References
    ----------
    Fawcett, "An introduction to ROC analysis", Pattern Recognit. Lett. 27, 2006. Davis, Goadrich,
    "The relationship between precision-recall and ROC curves", ICML 2006: precision is not to be
    joined by straight lines.
    """
    own = one.labels == positive
    if not own.any() or own.all():
        return []
    scores = ranked_against_rest(one.logits)[:, positive]
    rows = len(own) // one.repeats
    return [
        _curve(scores[start : start + rows], own[start : start + rows])
        for start in range(0, len(own), rows)
    ]


def _curve(scores: Array64, own: NDArray[np.bool_]) -> Curve:
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.append(np.flatnonzero(ranked[1:] < ranked[:-1]), len(ranked) - 1)  # of equals
    hits = np.append(0, np.cumsum(own[order])[last])
    said = np.append(0, last + 1)
    precision = np.divide(hits, said, out=np.ones(len(said)), where=said > 0)
    return Curve(
        false_positives=(said - hits) / (~own).sum(), recall=hits / own.sum(), precision=precision
    )


def point_of(one: Scored, positive: int, threshold: Threshold | None) -> Point:
    """Return where a threshold's answers lie, or without one those of the more probable class.

    Of repeats it is all of their answers.
    """
    own, said = one.labels == positive, answered(one, positive, threshold)
    return Point(
        false_positives=float(said[~own].mean()), recall=float(said[own].mean()),
        precision=float(own[said].mean()) if said.any() else None,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TwoCurves:
    """What a picture of two classes shows of a split.

    Parameters
    ----------
    positive : int
        The number of the positive class.
    curves : tuple of Curve
        One, or one a repeat.
    auc, average_precision : float
        Of repeats the means.
    points : mapping of words to Point
        The answers of the more probable class, and those at a threshold where one was chosen.
    """

    positive: int
    curves: tuple[Curve, ...]
    auc: float
    average_precision: float
    points: dict[str, Point]


def curves_of_two(
    one: Scored, positive: int | None, threshold: Threshold | None
) -> TwoCurves | None:
    """Return the curves and points of a split; None without two classes that both have rows."""
    curves = () if positive is None else tuple(curves_of(one, positive))
    if positive is None or not curves:
        return None
    points = {"the more probable class": point_of(one, positive, None)}
    if threshold is not None:
        points[threshold_words(threshold)] = point_of(one, positive, threshold)
    figures = figures_of_two(one, positive)
    return TwoCurves(
        positive=positive, curves=curves, points=points,
        auc=figures["auc"], average_precision=figures["average_precision"],
    )  # fmt: skip


def threshold_words(threshold: Threshold) -> str:
    """Say in a few words which threshold it is."""
    why = (
        f"for a recall of {100 * threshold.recall:g} %"
        if threshold.recall is not None
        else f"where mistakes cost {threshold.false_positive:g} : {threshold.false_negative:g}"
    )
    return f"threshold {threshold.probability:.3g}, {why}"


def words_of_interval(bounds: Any) -> str:
    """Return an interval as it stands behind a figure; nothing where there is none."""
    return f" [{100 * bounds[0]:.1f}, {100 * bounds[1]:.1f}]" if bounds else ""
