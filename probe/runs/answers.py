"""What a run answered of each image that it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from probe.cache.file import read_header
from probe.cache.joining import parse_features_name
from probe.cache.store import Store
from probe.errors import UsageError
from probe.evaluation.answer_table import Answered, write_answers
from probe.evaluation.predictions import Predictions, load_predictions
from probe.evaluation.two_classes import Threshold, answers_of
from probe.runs.results import RunResult


def classes_of_run(result: RunResult, cache_dir: Path) -> tuple[str, ...]:
    """Return the names of a run's classes, which its entry has.

    Raises
    ------
    CacheError, UnknownNameError
        The entry is not there any more.
    """
    names, _ = parse_features_name(result.entry)
    return read_header(Store(cache_dir).choose(names[0]).path).classes


def write_run_answers(folder: Path, result: RunResult, cache_dir: Path, path: Path) -> None:
    """Write a CSV file with a row for each prediction of a run; see `write_answers`.

    Probabilities are those that a bundle of the run answers: at the run's temperature.

    Raises
    ------
    ProbeError
        The run kept no predictions, its entry is gone, or the file cannot be written.
    """
    said = load_predictions(folder)
    if not said:
        raise UsageError(f"{folder.name}: it kept no predictions: nothing was held out from it")
    classes = classes_of_run(result, cache_dir)
    write_answers(path, {split: _answered(one, result, classes) for split, one in said.items()},
                  classes)  # fmt: skip


def _answered(said: Predictions, result: RunResult, classes: Sequence[str]) -> Answered:
    if result.multilabel is not None:
        figures = result.multilabel["classes"]
        least = np.array([figures[name]["threshold"] for name in classes])
        return Answered(said=said, answers=(said.probabilities >= least).astype(np.uint8))
    chosen = (result.two_classes or {}).get("threshold")
    if said.classes is not None or chosen is None:
        return Answered(said=said, answers=said.answers, temperature=result.temperature)
    answers = answers_of(said.probabilities, classes, Threshold(**chosen))
    return Answered(said=said, answers=answers, temperature=result.temperature)
