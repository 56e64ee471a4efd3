"""What a bundle's probabilities are calibrated by, and the rows that this was chosen on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from probe.bundle.reject import LEAST_HELD_OUT
from probe.evaluation.logits import logits_of
from probe.evaluation.multilabel import best_thresholds
from probe.evaluation.predictions import Predictions
from probe.evaluation.scored import usable_temperature
from probe.evaluation.statistics import apply_binary_temperature
from probe.evaluation.two_classes import Threshold
from probe.runs.results import RunResult


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """Temperature and thresholds, each None where there is none.

    Parameters
    ----------
    held_out : Predictions or None
        What was said of rows that were held out, not calibrated.
    temperature : float or None
    thresholds : tuple of float, or None
        Of several labels, from which calibrated probability on each is given, (n_classes,).
    threshold : Threshold or None
        Of two classes, for calibrated probabilities.
    """

    held_out: Predictions | None = None
    temperature: float | None = None
    thresholds: tuple[float, ...] | None = None
    threshold: Threshold | None = None


def calibration_of(
    result: RunResult, predictions: Mapping[str, Predictions], classes: Sequence[str]
) -> Calibration:
    """Return how the run's final head is calibrated: as the run says.

    A vote is not: shares of votes are no probabilities that a temperature could mend, and no
    threshold that was chosen on the members' probabilities suits them.
    """
    if result.params.get("ensemble") == "vote":
        return Calibration()
    held_out, temperature = predictions.get("val") or predictions.get("oof"), result.temperature
    if temperature is None:
        temperature = _fitted(held_out)
    chosen = None
    if result.multilabel is not None and {"val", "oof"} & result.metrics.keys():
        chosen = [result.multilabel["classes"][name]["threshold"] for name in classes]
    two = (result.two_classes or {}).get("threshold")
    return Calibration(
        held_out=held_out, temperature=temperature, thresholds=_moved(chosen, temperature),
        threshold=Threshold(**two).cooled(temperature) if two is not None else None,
    )  # fmt: skip


def calibration_of_folds(
    predictions: Mapping[str, Predictions], fitted: float | None = None
) -> Calibration:
    """Return how the heads of all folds are calibrated: on the rows that each of them held out.

    Of many classes, of which not all is kept, by the temperature that the run `fitted`, if it was
    to these rows.
    """
    held_out = predictions.get("oof")
    temperature, chosen = _fitted(held_out), None
    if held_out is not None and held_out.classes is not None and "val" not in predictions:
        temperature = fitted
    if held_out is not None and held_out.labels.ndim == 2:
        chosen = best_thresholds(held_out.probabilities.astype(np.float64), held_out.labels)
    return Calibration(
        held_out=held_out, temperature=temperature, thresholds=_moved(chosen, temperature)
    )


def _fitted(held_out: Predictions | None) -> float | None:
    if held_out is None or len(held_out) < LEAST_HELD_OUT:
        return None
    if held_out.classes is not None:  # of many classes a temperature is fitted where all are known
        return None
    return usable_temperature(held_out.scores, held_out.labels)


def _moved(chosen: ArrayLike | None, temperature: float | None) -> tuple[float, ...] | None:
    """Return thresholds of what the head says as those of what is calibrated: both are moved."""
    if chosen is None:
        return None
    logits = logits_of(np.asarray(chosen, np.float64)[None], True)
    moved = apply_binary_temperature(logits, temperature or 1.0)[0]
    return tuple(float(one) for one in moved)
