"""Score bundles on a labelled dataset, with a bar; each evaluation of test rows is counted."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from probe.bundle import Bundle
from probe.cache.store import Store
from probe.core.columns import Column
from probe.datasets import Dataset
from probe.datasets.classes import all_whole
from probe.datasets.head_check import require_labels
from probe.datasets.split_names import split_called
from probe.errors import UsageError
from probe.evaluation.parts import Part
from probe.evaluation.predictions import Predictions
from probe.evaluation.units import Groups, Units
from probe.predict import Predictor
from probe.predict.evaluate import Evaluation, evaluate
from probe.runs.duplicates import near_groups
from probe.runs.grouping import related_images
from probe.runs.ledger import record_test_evaluation
from probe.runs.subgroups import columns_to_tell, tell
from probe.screen import console

log = logging.getLogger(__name__)

LISTED = 3  # classes in a message


def evaluate_shown(
    bundles: Sequence[Bundle],
    dataset: Dataset,
    cache_dir: Path,
    *,
    split: str | None,
    group: Sequence[str],
    tta: str,
    combine: str,
    weighting: str,
    positive: str | None,
    workers: int,
    name: str,
    command: str,
) -> Evaluation:
    """Score bundles together on a split of a dataset.

    Parameters
    ----------
    split : str or None
        Default: test, or the first one.
    name : str
        The bundle's, for the record of test evaluations.

    The others are those of `probe evaluate`.

    Raises
    ------
    UsageError
        There is no such split or group, or classes differ.
    """
    require_labels(dataset.classes, dataset.name, "an evaluation")
    default = "test" if "test" in dataset.splits else next(iter(dataset.splits))
    chosen = split_called(split) if split else default
    if chosen not in dataset.splits:
        raise UsageError(f"--split {split}: {dataset.name} has {', '.join(dataset.splits)}")
    rows = dataset.splits[chosen]
    _say_classes(bundles, dataset)
    predictor = Predictor(
        bundles, tta=tta, combination=combine, equal=weighting == "equal", store=Store(cache_dir)
    )

    def units_of(part: Part) -> Units:
        def near() -> Groups:
            found = near_groups({"train": part})
            return replace(found, of={chosen: found.of["train"]})

        return related_images({chosen: rows}, group, near).units[chosen]

    related_images({chosen: rows}, group)  # what is wrong with a group is said first
    looks = None
    if chosen == "test":
        looks = record_test_evaluation(
            cache_dir / "ledger", rows.images.content(), command=command, entry=name
        )
    with console.progress("evaluate", "images") as bar:
        task = bar.add_task("evaluate", total=len(rows))
        outcome = evaluate(
            predictor, rows, dataset.classes, workers=workers,
            on_rows=lambda count: bar.advance(task, count), units_of=units_of, positive=positive,
        )  # fmt: skip
    kept = outcome.scored.kept
    said = Predictions(
        ids=np.asarray(rows.ids, np.str_), labels=outcome.scored.labels.astype(np.int64),
        probabilities=outcome.scored.probabilities, units=outcome.scored.units,
        classes=None if kept is None else kept.classes,
        n_classes=None if kept is None else kept.n_classes,
        columns={name: Column.of(cells) for name, cells in rows.columns.items()},
    )  # fmt: skip
    told = columns_to_tell({chosen: rows.columns}, {chosen: rows.ids})
    return replace(
        outcome, subgroups=tell(said, chosen, told[chosen]), dataset=dataset.name, split=chosen,
        n_images=len(rows), test_evaluations=looks, predictions=said,
    )  # fmt: skip


def _say_classes(bundles: Sequence[Bundle], dataset: Dataset) -> None:
    """Warn where classes that are matched by name may not be those of the bundle."""
    about = bundles[0].about
    lacking = [name for name in about.classes if name not in dataset.classes]
    if lacking and not set(dataset.classes) - set(about.classes):
        log.warning(
            "%s has %d of the bundle's %d classes, and lacks %s%s: an answer of those is wrong "
            "there, and figures are not those of all classes",
            dataset.name, len(dataset.classes), len(about.classes), ", ".join(lacking[:LISTED]),
            ", ..." if len(lacking) > LISTED else "",
        )  # fmt: skip
    if all_whole(dataset.classes) and dataset.name != about.dataset:
        log.warning(
            "classes are named by numbers alone: that %s means by them what %s did is taken on "
            "trust",
            dataset.name,
            about.dataset,
        )
