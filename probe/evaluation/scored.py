"""Measure a fitted head on each split, with intervals and a temperature.

Labels are class numbers, (n_rows,), or where a row may have several a matrix of 0 and 1.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.short_repr import short_repr
from probe.errors import NoTemperatureError
from probe.evaluation.many import Blocks, Kept, keep
from probe.evaluation.metrics import Confusion, Metrics, calibration_gap
from probe.evaluation.multilabel import (
    HALF,
    LabelFigures,
    MultiLabelMetrics,
    label_figures,
    mean_of,
    micro_f1,
)
from probe.evaluation.splitting import Labels
from probe.evaluation.task import Task, task_of
from probe.evaluation.units import Units, count_units, dealt, effective_count

log = logging.getLogger(__name__)

TOLD = 5  # labels in a message

Bounds = dict[str, dict[str, tuple[float, float]]]
Array64 = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """A head's probabilities on one split and their metrics.

    Parameters
    ----------
    probabilities, logits : float64, (n_rows, n_classes)
        See `probe.evaluation.logits`; figures that rank go by the logits, and so does a
        temperature.
    labels : int, (n_rows,) or (n_rows, n_classes)
    metrics : Metrics or MultiLabelMetrics
        With repeats the means of each repeat's figures; the confusion is their sum.
    units : int, (n_rows,), optional
        Which rows belong together; without it each is alone. The repeats of a row do.
    repeats : int
        How often each row was predicted: the rows come so often, one repeat after the other.
    kept : Kept, optional
        Of rows of many classes: then probabilities and logits are those of each row's kept
        classes, (n_rows, KEPT).
    """

    __repr__ = short_repr

    probabilities: Array64
    logits: Array64
    labels: Labels
    metrics: Metrics | MultiLabelMetrics
    units: Units | None = None
    repeats: int = 1
    kept: Kept | None = None

    @property
    def label_columns(self) -> Labels:
        """Which column each row's label is, (n_rows,); of several labels the labels themselves."""
        return self.labels if self.kept is None else self.kept.own

    @property
    def task(self) -> Task:
        """Whether a row has one label or may have several."""
        return task_of(self.labels)


def measure(
    probabilities: Array64,
    labels: Labels,
    units: Units | None = None,
    logits: Array64 | None = None,
) -> Scored:
    """Score probabilities, (n_rows, n_classes), on a split; see `Task.measure`.

    Parameters
    ----------
    logits : float64, (n_rows, n_classes), optional
        Default: of the probabilities.
    """
    task = task_of(labels)
    if logits is None:
        logits = task.logits_of(probabilities)
    metrics = task.measure(probabilities, labels, logits)
    return Scored(
        probabilities=probabilities, logits=logits, labels=labels, metrics=metrics,
        units=dealt(units, len(labels)),
    )  # fmt: skip


def measure_logits(
    logits: Array64, labels: Labels, units: Units | None = None, repeats: int = 1
) -> Scored:
    """Score logits, (n_rows, n_classes), on a split.

    With repeats every row is there so often, one repeat after the other; `units` are of one of
    them. Each repeat is scored alone and the figures are averaged: the mean of their probabilities
    would be another head's, an ensemble of as many as there are repeats. All predictions of a row
    belong together, so that intervals and tests take them for one.
    """
    task = task_of(labels)
    probabilities = task.probabilities_of(logits)
    if repeats == 1:
        return measure(probabilities, labels, units, logits)
    rows = len(labels) // repeats
    each = [slice(start, start + rows) for start in range(0, len(labels), rows)]
    every = [task.measure(probabilities[own], labels[own], logits[own]) for own in each]
    alone = np.arange(rows, dtype=np.intp)
    return Scored(
        probabilities=probabilities, logits=logits, labels=labels, metrics=_mean(every),
        units=np.tile(alone if units is None else units, repeats), repeats=repeats,
    )  # fmt: skip


def measure_blocks(
    blocks: Blocks,
    labels: Labels,
    n_classes: int,
    units: Units | None = None,
    repeats: int = 1,
) -> Scored:
    """Score rows of many classes, some at a time; else as `measure_logits`.

    Parameters
    ----------
    blocks : callable
        Makes the logits of all rows, see `probe.evaluation.many.Kept`; called again where a figure
        needs them once more.
    labels : int, (n_rows,)
    """
    kept = keep(blocks, labels, n_classes)
    rows = len(labels) // repeats
    each = [slice(start, start + rows) for start in range(0, len(labels), rows)]
    if repeats == 1:
        units = dealt(units, len(labels))
    else:
        alone = np.arange(rows, dtype=np.intp)
        units = np.tile(alone if units is None else units, repeats)
    return Scored(
        probabilities=np.exp(kept.logits), logits=kept.logits, labels=labels,
        metrics=_mean([kept.metrics(labels, own) for own in each]),
        units=units, repeats=repeats, kept=kept,
    )  # fmt: skip


def _mean(every: Sequence[Any]) -> Any:
    """Return metrics of one kind averaged, figure by figure; confusions are added up."""
    if len(every) == 1:
        return every[0]
    found: dict[str, Any] = {}
    for field in fields(every[0]):
        values = [getattr(one, field.name) for one in every]
        if isinstance(values[0], Confusion):
            found[field.name] = _sum(values)
        elif is_dataclass(values[0]):
            found[field.name] = _mean(values)
        elif field.name == "positives":  # of the rows, whoever predicts them
            found[field.name] = values[0]
        elif any(value is None for value in values):
            found[field.name] = None
        else:
            mean = np.mean(values, axis=0)
            found[field.name] = mean if isinstance(values[0], np.ndarray) else float(mean)
    return type(every[0])(**found)


def _sum(every: Sequence[Confusion]) -> Confusion:
    n_classes = every[0].n_classes
    true, predicted, count = (
        np.concatenate([getattr(one, name) for one in every])
        for name in ("true", "predicted", "count")
    )
    cells, which = np.unique(true * n_classes + predicted, return_inverse=True)
    counts = np.zeros(len(cells), np.int64)
    np.add.at(counts, which, count)
    return Confusion(
        n_classes=n_classes, true=cells // n_classes, predicted=cells % n_classes, count=counts
    )


def temperature_of(splits: Mapping[str, Scored]) -> float | None:
    """Return the temperature that fits the held-out rows best; None without such rows.

    None also, with a warning, where no temperature is best. With repeats it is fitted to the
    predictions of all of them, not to their means.
    """
    held_out = _held_out(splits)
    if held_out is None:
        return None
    if held_out.kept is not None:
        return usable_temperature(held_out.kept.sample, held_out.kept.sample_labels)
    return usable_temperature(held_out.logits, held_out.labels)


def usable_temperature(logits: NDArray[np.floating[Any]], labels: Labels) -> float | None:
    """Return the temperature that fits rows best; None, with a warning, where none does."""
    try:
        return task_of(labels).fit_temperature(logits, labels)
    except NoTemperatureError as error:
        log.warning(
            "no temperature is fitted to the probabilities, which stay as they are: %s; look at "
            "the log loss before you use them", error,
        )  # fmt: skip
        return None


def thresholds_of(
    splits: Mapping[str, Scored], classes: Sequence[str] | None = None
) -> Array64 | None:
    """Return the probability from which each label is given, (n_classes,), for the best F1.

    Chosen on held-out rows. None without such rows, or where a row has one label. Labels whose
    threshold lies at an end of the scores are logged, by their names in `classes`.
    """
    held_out = _held_out(splits)
    if held_out is None:
        return None
    found = held_out.task.thresholds(held_out.probabilities, held_out.labels)
    if found is not None:
        _tell_ends(held_out, found, classes)
    return found


def _tell_ends(one: Scored, thresholds: Array64, classes: Sequence[str] | None) -> None:
    """Log which labels' thresholds lie at an end of the scores, or could not be chosen."""
    found = one.labels.any(axis=0)
    given = (one.probabilities >= thresholds).all(axis=0) & found & ~one.labels.all(axis=0)
    reasons = {
        "the best F1 comes of giving it to every one of them: the threshold lies below all their "
        "probabilities": given,
        "none of them has it, so its threshold stays at 0.5": ~found,
    }
    for why, labels in reasons.items():
        numbers = np.flatnonzero(labels).tolist()
        names = [classes[i] if classes is not None else f"label {i}" for i in numbers]
        if names:
            log.warning(
                "%d of %d labels on the held-out images: %s (%s)", len(names), len(found), why,
                ", ".join(names[:TOLD]) + (" ..." if len(names) > TOLD else ""),
            )  # fmt: skip


def figures_of(
    splits: Mapping[str, Scored], temperature: float | None, thresholds: Array64 | None = None
) -> dict[str, dict[str, float]]:
    """Return the single figures of each split by name.

    Calibration after temperature scaling, and F1 at chosen thresholds, are measured on test rows
    alone: both were fitted on the held-out rows.
    """
    figures = {name: one.metrics.summary() for name, one in splits.items()}
    if "test" not in splits:
        return figures
    test, more = splits["test"], figures["test"]
    if temperature is not None and test.kept is not None:
        right = test.probabilities.argmax(axis=1) == test.label_columns
        sure = test.kept.confidence_at(temperature)
        more["calibration_error_scaled"] = calibration_gap(sure, right)
    elif temperature is not None:
        scaled = test.task.apply_temperature(test.logits, temperature)
        more["calibration_error_scaled"] = test.task.calibration_error(scaled, test.labels)
    if thresholds is not None:
        given = test.probabilities >= thresholds
        at = {
            "micro_f1_chosen": micro_f1(given, test.labels),
            "macro_f1_chosen": mean_of(_at_thresholds(test, thresholds).f1),
        }
        more |= {name: value for name, value in at.items() if value is not None}
    return figures


def intervals_of(splits: Mapping[str, Scored]) -> Bounds | None:
    """Return 95 % intervals, (low, high), over rows that were not trained on; see `statistics`."""
    found = {}
    for name in ("val", "test", "oof"):
        if (one := splits.get(name)) is not None:
            found[name] = one.task.intervals(
                one.probabilities, one.label_columns, one.logits, one.units
            )
    return found or None


def groups_of(splits: Mapping[str, Scored], by: str) -> dict[str, Any] | None:
    """Return how many groups the rows of each split are, as `RunResult.groups` has it.

    None where each row is alone.
    """
    sizes = {}
    for name, one in splits.items():
        rows = len(one.labels) // one.repeats
        units = None if one.units is None else dealt(one.units[:rows], rows)
        if units is not None:
            sizes[name] = (units, rows)
    if not sizes:
        return None
    return {
        "by": by,
        "units": {name: count_units(*size) for name, size in sizes.items()},
        "effective": {name: effective_count(*size) for name, size in sizes.items()},
    }


def per_class_of(
    splits: Mapping[str, Scored], classes: Sequence[str], thresholds: Array64 | None = None
) -> PerClass:
    """Return the recall of each class on the most honest split there is."""
    split = _honest(splits)
    if not splits[split].task.exclusive:
        values = _at_thresholds(splits[split], thresholds).recall
    else:
        metrics = splits[split].metrics
        assert isinstance(metrics, Metrics)
        values = metrics.per_class_recall
    recall = zip(classes, values, strict=True)
    return PerClass(split=split, recall={c: float(r) for c, r in recall if not np.isnan(r)})


def describe_labels(
    splits: Mapping[str, Scored], classes: Sequence[str], thresholds: Array64 | None
) -> dict[str, Any] | None:
    """Return the figures of each class as `RunResult.multilabel` has them.

    None where a row has one label.
    """
    one = splits[_honest(splits)]
    if one.task.exclusive:
        return None
    figures = _at_thresholds(one, thresholds)
    chosen = np.full(len(classes), HALF) if thresholds is None else thresholds
    names = ("average_precision", "auc", "precision", "recall", "f1")
    of_class = {}
    for number, name in enumerate(classes):
        values = {each: float(getattr(figures, each)[number]) for each in names}
        of_class[name] = {
            "positives": int(figures.positives[number]),
            "threshold": float(chosen[number]),
            **{each: value for each, value in values.items() if not np.isnan(value)},
        }
    without = {
        split: [classes[i] for i in np.flatnonzero(~scored.labels.any(axis=0))]
        for split, scored in splits.items()
    }
    return {
        "classes": of_class,
        "without_positives": {split: names for split, names in without.items() if names},
    }


def _at_thresholds(one: Scored, thresholds: Array64 | None) -> LabelFigures:
    at = HALF if thresholds is None else thresholds
    rows = len(one.labels) // one.repeats
    each = [slice(start, start + rows) for start in range(0, len(one.labels), rows)]
    scores = one.task.ranked(one.logits)
    found: LabelFigures = _mean(
        [label_figures(one.probabilities[own], one.labels[own], at, scores[own]) for own in each]
    )
    return found


def _held_out(splits: Mapping[str, Scored]) -> Scored | None:
    return splits.get("val", splits.get("oof"))


def _honest(splits: Mapping[str, Scored]) -> str:
    return next(name for name in ("test", "val", "oof", "train") if name in splits)


@dataclass(frozen=True, kw_only=True)
class PerClass:
    """Recall of each class on one split; where an image may have several labels, at thresholds.

    Parameters
    ----------
    split : str
        ``test`` where there is one, else ``val``, else ``train``.
    recall : mapping of class name to float
        Without the classes that have no rows there.
    """

    __repr__ = short_repr

    split: str
    recall: Mapping[str, float]
