"""`probe evaluate`: score bundles on a labelled dataset."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probe.cli.head_options import Positive
from probe.cli.options import AsJson, CacheDir, DatasetName, DatasetRoot, Group, cache_folder
from probe.cli.pass_options import Device, Limit, PerClass, SkipBad, Workers
from probe.cli.predict import (
    Also,
    Combine,
    Tta,
    Weighting,
    check_options,
    make_predictor,
    one_line,
    vote_note,
)
from probe.errors import UsageError

if TYPE_CHECKING:
    from probe.datasets import Split
    from probe.evaluation.parts import Part
    from probe.evaluation.units import Groups, Units
    from probe.predict.evaluate import Evaluation


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="What `probe bundle` made.")],
    dataset: DatasetName,
    dataset_root: DatasetRoot = None,
    split: Annotated[
        str | None, typer.Option(help="train, val or test.", show_default="test, else the only one")
    ] = None,
    per_class: PerClass = None,
    limit: Limit = None,
    skip_bad: SkipBad = False,
    group: Group = None,
    tta: Tta = "none",
    combine: Combine = "probabilities",
    also: Also = None,
    weighting: Weighting = "val",
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", "-b", min=1, show_default="by input size")
    ] = None,
    workers: Workers = None,
    device: Device = "auto",
    cache_dir: CacheDir = None,
    positive: Positive = None,
    as_json: AsJson = False,
) -> None:
    """Score a bundle on a labelled dataset; classes are matched by name.

    Features that the cache holds are not computed again. Each evaluation of test rows is counted.
    """
    import numpy as np

    from probe.bundle import Bundle
    from probe.cli.head_figures import show_each, show_two, show_values
    from probe.core.options import default_workers
    from probe.datasets import load_dataset
    from probe.datasets.table import is_table
    from probe.evaluation.predictions import Predictions
    from probe.predict.evaluate import evaluate as score_bundle
    from probe.runs.duplicates import near_groups
    from probe.runs.grouping import columns_of, related_images
    from probe.runs.subgroups import tell
    from probe.screen import console

    check_options(tta, combine, weighting)
    folder = cache_folder(cache_dir)
    found = load_dataset(
        dataset, root=dataset_root, cache_dir=folder, per_class=per_class, limit=limit,
        skip_bad=skip_bad, workers=workers or default_workers(),
    )  # fmt: skip
    for one in found.skipped:
        sys.stderr.write(f"skipped   {one_line(one.id)}: {one.reason}\n")
    name = split or ("test" if "test" in found.splits else next(iter(found.splits)))
    if name not in found.splits:
        raise UsageError(f"--split {name}: {found.name} has {', '.join(found.splits)}")
    paths, rows = [bundle, *(also or ())], found.splits[name]
    loaded = [Bundle.load(path, batch_size=batch_size, device=device) for path in paths]
    predictor = make_predictor(loaded, tta, combine, weighting, folder)
    named = {name: rows}

    def units_of(part: Part) -> Units:
        def near() -> Groups:
            found = near_groups({"train": part})
            return replace(found, of={name: found.of["train"]})

        return related_images(named, group or (), dataset, near).units[name]

    related_images(named, group or (), dataset)  # what is wrong with a group is said first
    looks = _look(folder, rows, str(bundle)) if name == "test" else None
    with console.progress("evaluate", "images") as bar:
        task = bar.add_task("evaluate", total=len(rows))
        outcome = score_bundle(
            predictor,
            rows,
            found.classes,
            workers=workers or default_workers(),
            on_rows=lambda count: bar.advance(task, count),
            units_of=units_of,
            positive=positive,
        )
    kept = outcome.scored.kept
    told = tell(
        Predictions(
            ids=np.asarray(rows.ids, np.str_), labels=outcome.scored.labels.astype(np.int64),
            probabilities=outcome.scored.probabilities.astype(np.float32),
            units=outcome.scored.units,
            classes=None if kept is None else kept.classes,
            n_classes=None if kept is None else kept.n_classes,
        ),
        name, columns_of(Path(dataset).expanduser() if is_table(Path(dataset)) else None),
    )  # fmt: skip
    outcome = replace(outcome, subgroups=told)
    if as_json:
        about = {"bundle": str(bundle), "dataset": found.name, "split": name, "n": len(rows)}
        counted = {} if looks is None else {"test_looks": looks}
        console.print_json({**about, **outcome.to_json(), **counted})
        return
    out = console.stdout()
    votes = vote_note(loaded)
    console.facts(
        out,
        _facts(outcome, f"{found.name} {name}, {len(rows):,}", looks)
        | ({"answers": votes} if votes else {}),
    )
    if told is not None:
        show_values(out, told, "top1" if outcome.labels is None else "map")
    if outcome.two_classes is not None:
        show_two(out, _by_split(outcome.two_classes, name))
    if outcome.labels is not None:
        out.print()
        show_each(out, outcome.labels, predictor.classes, name)


def _by_split(two: Mapping[str, Any], split: str) -> dict[str, Any]:
    """Return the figures of two classes as those of a run, by split."""
    found = {**two, **{name: {split: two[name]} for name in ("figures", "intervals")}}
    if "at_threshold" in two:
        at = two["at_threshold"]
        found["at_threshold"] = {name: {split: figures} for name, figures in at.items()}
    return found


def _look(folder: Path, rows: Split, bundle: str) -> int:
    from probe.runs.ledger import record_test_evaluation

    command = "probe " + shlex.join(sys.argv[1:])
    return record_test_evaluation(
        folder / "ledger", rows.images.content(), command=command, entry=bundle
    )


FLAGS = {
    "low_confidence": "flagged low confidence",
    "out_of_distribution": "flagged out of distribution",
    "top1_answered": "top-1 without flags",
}


def _facts(outcome: Evaluation, images: str, looks: int | None) -> dict[str, str]:
    from probe.cli.head_figures import LABEL_NAMES, NAMES

    if outcome.n_groups is not None:
        images += f" in {outcome.n_groups:,} groups, over which intervals are"
    figures = {"images": images}
    names = NAMES if outcome.labels is None else LABEL_NAMES
    for name, value in outcome.figures.items():
        share = name != "log_loss"
        text = f"{100 * value:.2f} %" if share else f"{value:.4f}"
        if bounds := outcome.intervals.get(name):
            low, high = (f"{100 * one:.2f}" if share else f"{one:.4f}" for one in bounds)
            text += f"  [{low}, {high}]"
        figures[names.get(name, name)] = text
    if (base := outcome.baseline) is not None:
        figures["baseline"] = (
            f"always {base['class']}, the largest class here: top-1 {100 * base['top1']:.1f} %, "
            f"balanced accuracy {100 * base['mean_recall']:.1f} %"
        )
    for name, word in FLAGS.items():
        value = getattr(outcome, name)
        if value is not None:
            figures[word] = f"{100 * value:.2f} %"
    if outcome.from_cache:
        figures["from cache"] = f"{outcome.from_cache:,} images were not forwarded"
    if looks is not None:
        figures["test evaluations"] = str(looks)
    return figures
