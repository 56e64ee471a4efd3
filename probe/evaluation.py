"""What is measured on each split of a fitted head, and how sure it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.metrics import Metrics, calibration_error, score
from probe.results import PerClass
from probe.splitting import Labels
from probe.statistics import apply_temperature, bootstrap_mean, fit_temperature

Bounds = dict[str, dict[str, tuple[float, float]]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """A head's probabilities on one split, float64, (n_rows, n_classes), and their metrics."""

    probabilities: NDArray[np.float64]
    labels: Labels
    metrics: Metrics


def measure(probabilities: NDArray[np.float64], labels: Labels) -> Scored:
    """Score probabilities, (n_rows, n_classes), on a split; see `probe.metrics.score`."""
    metrics = score(probabilities, labels, probabilities.shape[1])
    return Scored(probabilities=probabilities, labels=labels, metrics=metrics)


def temperature_of(splits: Mapping[str, Scored]) -> float | None:
    """Return the temperature that fits the held-out rows best; None without such rows."""
    held_out = splits.get("val", splits.get("oof"))
    if held_out is None:
        return None
    return fit_temperature(held_out.probabilities, held_out.labels)


def figures_of(
    splits: Mapping[str, Scored], temperature: float | None
) -> dict[str, dict[str, float]]:
    """Return the single figures of each split by name.

    Calibration after temperature scaling is measured on test rows alone: the temperature was
    fitted on the held-out rows.
    """
    figures = {name: one.metrics.summary() for name, one in splits.items()}
    if temperature is not None and "test" in splits:
        scaled = apply_temperature(splits["test"].probabilities, temperature)
        error = calibration_error(scaled, splits["test"].labels)
        figures["test"]["calibration_error_scaled"] = error
    return figures


def intervals_of(splits: Mapping[str, Scored]) -> Bounds | None:
    """Return 95 % bootstrap intervals, (low, high), over rows that were not trained on."""
    found: Bounds = {}
    for name in ("val", "test", "oof"):
        if name in splits:
            p, labels = splits[name].probabilities, splits[name].labels
            own = np.take_along_axis(p, labels[:, None].astype(np.intp), axis=1)[:, 0]
            losses = -np.log(np.clip(own, np.finfo(np.float64).eps, 1))
            rows = {"top1": p.argmax(axis=1) == labels, "log_loss": losses}
            bounds = {metric: bootstrap_mean(values) for metric, values in rows.items()}
            found[name] = {metric: (one.low, one.high) for metric, one in bounds.items()}
    return found or None


def per_class_of(splits: Mapping[str, Scored], classes: Sequence[str]) -> PerClass:
    """Return the recall of each class on the most honest split there is."""
    split = next(name for name in ("test", "val", "oof", "train") if name in splits)
    recall = zip(classes, splits[split].metrics.per_class_recall, strict=True)
    return PerClass(split=split, recall={c: float(r) for c, r in recall if not np.isnan(r)})
