"""What is measured on each split of a fitted head, and how sure it is.

Labels are class numbers, (n_rows,), or where a row may have several a matrix of 0 and 1.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.metrics import Metrics, calibration_error, score
from probe.multilabel import (
    HALF,
    LabelFigures,
    MultiLabelMetrics,
    best_thresholds,
    binary_calibration_error,
    binary_losses,
    bootstrap_map,
    label_figures,
    mean_of,
    micro_f1,
    score_labels,
)
from probe.results import PerClass
from probe.splitting import Labels
from probe.statistics import (
    COLDEST,
    HOTTEST,
    apply_binary_temperature,
    apply_temperature,
    bootstrap_mean,
    fit_binary_temperature,
    fit_temperature,
    share_interval,
)
from probe.units import Units, count_units, dealt, effective_count

log = logging.getLogger(__name__)

AT_END = 0.01  # of the range of temperatures, in logarithms
Bounds = dict[str, dict[str, tuple[float, float]]]
Array64 = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """A head's probabilities on one split, float64, (n_rows, n_classes), and their metrics.

    `units`, (n_rows,), says which rows belong together; without it each is alone.
    """

    probabilities: Array64
    labels: Labels
    metrics: Metrics | MultiLabelMetrics
    units: Units | None = None

    @property
    def multilabel(self) -> bool:
        """Whether a row may have several labels."""
        return self.labels.ndim == 2


def measure(probabilities: Array64, labels: Labels, units: Units | None = None) -> Scored:
    """Score probabilities, (n_rows, n_classes), on a split; see `score` and `score_labels`."""
    metrics: Metrics | MultiLabelMetrics
    if labels.ndim == 2:
        metrics = score_labels(probabilities, labels)
    else:
        metrics = score(probabilities, labels, probabilities.shape[1])
    return Scored(
        probabilities=probabilities, labels=labels, metrics=metrics,
        units=dealt(units, len(labels)),
    )  # fmt: skip


def temperature_of(splits: Mapping[str, Scored]) -> float | None:
    """Return the temperature that fits the held-out rows best; None without such rows.

    None also, with a warning, where the best is an end of the range: then none fits.
    """
    held_out = _held_out(splits)
    if held_out is None:
        return None
    temperature = usable_temperature(held_out.probabilities, held_out.labels)
    if temperature is None:
        log.warning(
            "no temperature from %.3g to %.3g makes these probabilities fit the held-out rows, so "
            "they stay as they are: look at the log loss before you use them",
            *np.exp([COLDEST, HOTTEST]),
        )
    return temperature


def usable_temperature(probabilities: NDArray[np.floating[Any]], labels: Labels) -> float | None:
    """Return the temperature that fits rows best; None where that is an end of the range."""
    fit = fit_binary_temperature if labels.ndim == 2 else fit_temperature
    temperature = fit(probabilities, labels)
    at_end = min(np.log(temperature) - COLDEST, HOTTEST - np.log(temperature)) < AT_END
    return None if at_end else temperature


def thresholds_of(splits: Mapping[str, Scored]) -> Array64 | None:
    """Return the probability from which each label is given, (n_classes,), for the best F1.

    Chosen on held-out rows. None without such rows, or where a row has one label.
    """
    held_out = _held_out(splits)
    if held_out is None or not held_out.multilabel:
        return None
    return best_thresholds(held_out.probabilities, held_out.labels)


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
    if temperature is not None and test.multilabel:
        scaled = apply_binary_temperature(test.probabilities, temperature)
        more["calibration_error_scaled"] = binary_calibration_error(scaled, test.labels)
    elif temperature is not None:
        scaled = apply_temperature(test.probabilities, temperature)
        more["calibration_error_scaled"] = calibration_error(scaled, test.labels)
    if thresholds is not None:
        given = test.probabilities >= thresholds
        at = {
            "micro_f1_chosen": micro_f1(given, test.labels),
            "macro_f1_chosen": mean_of(
                label_figures(test.probabilities, test.labels, thresholds).f1
            ),
        }
        more |= {name: value for name, value in at.items() if value is not None}
    return figures


def intervals_of(splits: Mapping[str, Scored]) -> Bounds | None:
    """Return 95 % intervals, (low, high), over rows that were not trained on; see `statistics`."""
    found = {name: _bounds(splits[name]) for name in ("val", "test", "oof") if name in splits}
    return found or None


def _bounds(one: Scored) -> dict[str, tuple[float, float]]:
    p, labels, units = one.probabilities, one.labels, one.units
    if one.multilabel:
        bounds = {"log_loss": bootstrap_mean(binary_losses(p, labels).mean(axis=1), units=units)}
    else:
        own = np.take_along_axis(p, labels[:, None].astype(np.intp), axis=1)[:, 0]
        losses = -np.log(np.clip(own, np.finfo(np.float64).eps, 1))
        right = p.argmax(axis=1) == labels
        bounds = {
            "top1": share_interval(right, units=units),
            "log_loss": bootstrap_mean(losses, units=units),
        }
    found = {metric: (one.low, one.high) for metric, one in bounds.items()}
    precision = bootstrap_map(p, labels, units=units) if one.multilabel else None
    return found if precision is None else {"map": precision, **found}


def groups_of(splits: Mapping[str, Scored], by: str) -> dict[str, Any] | None:
    """Return how many groups the rows of each split are, as `RunResult.groups` has it.

    None where each row is alone.
    """
    grouped = {name: one for name, one in splits.items() if one.units is not None}
    if not grouped:
        return None
    sizes = {name: (one.units, len(one.labels)) for name, one in grouped.items()}
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
    if splits[split].multilabel:
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
    if not one.multilabel:
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
    return label_figures(one.probabilities, one.labels, at)


def _held_out(splits: Mapping[str, Scored]) -> Scored | None:
    return splits.get("val", splits.get("oof"))


def _honest(splits: Mapping[str, Scored]) -> str:
    return next(name for name in ("test", "val", "oof", "train") if name in splits)
