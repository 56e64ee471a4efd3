"""Reduce a run's predictions of held-out rows to what the page shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.core.short_repr import short_repr
from probe.evaluation.metrics import Confusion, confused_pairs
from probe.evaluation.pairs import Evidence, evidence_of
from probe.evaluation.predictions import Predictions
from probe.evaluation.ranking_curves import TwoCurves, curves_of_two
from probe.evaluation.scored import measure_logits
from probe.evaluation.two_classes import Threshold
from probe.report.label_views import LabelView, label_view
from probe.report.ranking import Run
from probe.report.reliability import Reliability, reliability
from probe.runs.results import RunResult

WORST = 24
SPLITS = ("oof", "val", "test")


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
        Of the predicted class, at the head's temperature if it has one, as a bundle answers.
    pairs : int64, (n_pairs, 3)
        True class, predicted class, rows; the cells of the confusion matrix that are not 0.
    before, after : Reliability
        Without and with the head's temperature; `after` is None if it has none.
    worst : int64, (n_worst,)
        Wrong rows with the highest confidence, in descending order.
    units : int, (n_rows,), optional
        Rows with the same number are related.
    of_repeats : Evidence, optional
        The results of all repeats, where rows were predicted several times; the other fields are
        of the first repeat.
    two : TwoCurves, optional
        Curves of two classes, of all repeats.
    """

    __repr__ = short_repr

    split: str
    ids: NDArray[np.str_]
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float32]
    pairs: NDArray[np.int64]
    before: Reliability
    after: Reliability | None
    worst: NDArray[np.int64]
    units: NDArray[np.intp] | None = None
    of_repeats: Evidence | None = None
    two: TwoCurves | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def evidence(self) -> Evidence:
        """Return which rows are right, in the order of their ids."""
        if self.of_repeats is not None:
            return self.of_repeats
        order = np.argsort(self.ids, kind="stable")
        right = (self.predicted == self.labels)[order]
        units = None if self.units is None else self.units[order]
        return Evidence(n=len(right), value=float(right.mean()), right=right, units=units)

    def confusion(self, n_classes: int) -> Confusion:
        """Return the confusion matrix."""
        return confused_pairs(self.predicted, self.labels, n_classes)


AnyView = SplitView | LabelView


def views_of(run: Run) -> dict[str, AnyView]:
    """Reduce a run's predictions, split by split, without keeping the probabilities."""
    found: dict[str, AnyView] = {}
    for split, kept in run.predictions().items():
        if split in SPLITS and len(kept):
            view = _view if kept.task.exclusive else label_view
            found[split] = view(split, kept, run.result)
    return {split: found[split] for split in SPLITS if split in found}


def _view(split: str, kept: Predictions, result: RunResult) -> SplitView:
    temperature, two = result.temperature, _two(kept, result)
    whole = _of_repeats(kept) if kept.repeats > 1 else None
    kept = kept.first()
    labels, predicted = kept.labels.astype(np.int64), kept.answers
    right, wrong = predicted == labels, np.flatnonzero(predicted != labels)
    plain = kept.confidence_at(None)
    confidence = plain if temperature is None else kept.confidence_at(temperature)
    both, counts = np.unique(np.stack([labels, predicted]), axis=1, return_counts=True)
    return SplitView(
        split=split,
        ids=kept.ids,
        labels=labels,
        predicted=predicted,
        confidence=confidence.astype(np.float32),
        pairs=np.column_stack([both.T, counts]).astype(np.int64),
        before=reliability(plain, right),
        after=None if temperature is None else reliability(confidence, right),
        worst=wrong[np.argsort(-confidence[wrong], kind="stable")][:WORST],
        units=kept.units,
        of_repeats=whole,
        two=two,
    )


def _two(kept: Predictions, result: RunResult) -> TwoCurves | None:
    """Return the curves of two classes; None for other runs."""
    about = result.two_classes
    if about is None or kept.classes is not None or kept.scores.shape[1] != 2:
        return None
    names = list(result.per_class.recall)
    number = about.get("number", names.index(about["positive"]) if len(names) == 2 else None)
    chosen = about.get("threshold")
    threshold = None if chosen is None else Threshold(**chosen)
    scored = measure_logits(kept.scores, kept.labels, repeats=kept.repeats)
    return curves_of_two(scored, number, threshold)


def _of_repeats(kept: Predictions) -> Evidence:
    """Return which rows are right in all repeats, in the order of their ids."""
    return evidence_of(kept, order=np.argsort(kept.ids, kind="stable"))
