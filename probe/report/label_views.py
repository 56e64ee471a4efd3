"""Reduce a multi-label run's predictions of held-out rows to what the page shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.short_repr import short_repr
from probe.evaluation.multilabel import HALF, LabelFigures, label_figures
from probe.evaluation.pairs import Evidence, evidence_of
from probe.evaluation.predictions import Predictions
from probe.report.reliability import Reliability, reliability
from probe.runs.results import RunResult

WORST = 24  # of each kind


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelView:
    """One multi-label run on one split of N held-out rows with C labels.

    Parameters
    ----------
    split : str
        ``oof``, ``val`` or ``test``.
    ids : str, (N,)
    labels : uint8, (N, C)
        1 where a row has the label.
    given : bool, (N, C)
        Whether the run predicts the label: its probability reaches the threshold.
    thresholds : float64, (C,)
        As the run chose them on held-out rows; 0.5 where it could not.
    figures : LabelFigures
        At the thresholds.
    before, after : Reliability
        Of all decisions, without and with the head's temperature; `after` is None without one.
    worst : int64, (n_worst,)
        Rows of the wrong decisions with the highest confidence: first the false positives, then
        the false negatives, each in descending order of confidence.
    worst_labels : int64, (n_worst,)
    worst_probabilities : float64, (n_worst,)
    n_false : int
        The number of false positives among them.
    evidence : Evidence or None
        Rows in the order of their ids; None for test rows, which are not compared.
    """

    __repr__ = short_repr

    split: str
    ids: NDArray[np.str_]
    labels: NDArray[np.uint8]
    given: NDArray[np.bool_]
    thresholds: NDArray[np.float64]
    figures: LabelFigures
    before: Reliability
    after: Reliability | None
    worst: NDArray[np.int64]
    worst_labels: NDArray[np.int64]
    worst_probabilities: NDArray[np.float64]
    n_false: int
    evidence: Evidence | None

    def __len__(self) -> int:
        return len(self.labels)


def label_view(split: str, kept: Predictions, result: RunResult) -> LabelView:
    """Reduce one split's predictions, without keeping the probabilities."""
    whole, kept = kept, kept.first()
    p, labels = kept.probabilities, kept.labels.astype(np.uint8)
    thresholds = _thresholds(result.multilabel or {}, p.shape[1])
    given = p >= thresholds
    false, missed = given & (labels == 0), ~given & (labels == 1)
    false_at, missed_at = _surest(p, false), _surest(1 - p, missed)
    rows, columns = (np.concatenate(pair) for pair in zip(false_at, missed_at, strict=True))
    order = np.argsort(whole.ids, kind="stable")
    after = None
    if result.temperature is not None:
        after = _decisions(kept.task.apply_temperature(kept.scores, result.temperature), labels)
    return LabelView(
        split=split,
        ids=kept.ids,
        labels=labels,
        given=given,
        thresholds=thresholds,
        figures=label_figures(p, labels, thresholds, kept.compared),
        before=_decisions(p.astype(np.float64), labels),
        after=after,
        worst=rows.astype(np.int64),
        worst_labels=columns.astype(np.int64),
        worst_probabilities=p[rows, columns].astype(np.float64),
        n_false=len(false_at[0]),
        evidence=None if split == "test" else evidence_of(whole, order=order),
    )


def _thresholds(several: Mapping[str, Any], n_classes: int) -> NDArray[np.float64]:
    """Return the thresholds of a run's labels, in the order of the classes."""
    chosen = [float(one["threshold"]) for one in several.get("classes", {}).values()]
    return np.array(chosen if len(chosen) == n_classes else [HALF] * n_classes)


def _surest(
    confidence: NDArray[Any], wrong: NDArray[np.bool_]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return rows and columns of the wrong decisions with the highest confidence."""
    rows, columns = np.nonzero(wrong)
    order = np.argsort(-confidence[rows, columns], kind="stable")[:WORST]
    return rows[order], columns[order]


def _decisions(p: NDArray[np.float64], labels: NDArray[np.uint8]) -> Reliability:
    return reliability(p.reshape(-1), labels.reshape(-1) == 1)
