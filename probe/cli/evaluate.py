"""`probe evaluate`: score bundles on a labelled dataset."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probe.cli.options import (
    AsJson,
    CacheDir,
    Csv,
    DatasetName,
    DatasetRoot,
    Group,
    Positive,
    cache_folder,
)
from probe.cli.pass_options import BatchSize, Device, EngineName, Limit, PerClass, SkipBad, Workers
from probe.cli.predict import (
    Also,
    Combine,
    Tta,
    Weighting,
    vote_note,
)
from probe.cli.reading import takes_reading
from probe.core.reading import AS_IT_IS, ReadOptions
from probe.core.text import counted, visible
from probe.core.urls import typed_command

if TYPE_CHECKING:
    from probe.predict.evaluate import Evaluation


@takes_reading
def evaluate(
    bundle: Annotated[Path, typer.Argument(help="What `probe bundle` made.")],
    dataset: DatasetName,
    dataset_root: DatasetRoot = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Which split is scored: train, val or test.",
            show_default="test, else the only one",
        ),
    ] = None,
    per_class: PerClass = None,
    limit: Limit = None,
    skip_bad: SkipBad = False,
    reading: ReadOptions = AS_IT_IS,
    group: Group = None,
    tta: Tta = "none",
    combine: Combine = "probabilities",
    also: Also = None,
    weighting: Weighting = "val",
    batch_size: BatchSize = None,
    workers: Workers = None,
    engine: EngineName = "auto",
    device: Device = "auto",
    cache_dir: CacheDir = None,
    positive: Positive = None,
    csv: Csv = None,
    as_json: AsJson = False,
) -> None:
    """Score a bundle on a labelled dataset; classes are matched by name.

    Features that the cache holds are not computed again. Each evaluation of test rows is counted.
    """
    from probe.bundle import Bundle
    from probe.cli.head_figures import show_each, show_two, show_values
    from probe.core.options import default_workers
    from probe.datasets import load_dataset
    from probe.predict.predictor import check_words
    from probe.screen import console
    from probe.screen.evaluations import evaluate_shown

    check_words(tta, combine, weighting)
    folder = cache_folder(cache_dir)
    found = load_dataset(
        dataset, root=dataset_root, cache_dir=folder, per_class=per_class, limit=limit,
        skip_bad=skip_bad, reading=reading, workers=workers or default_workers(),
    )  # fmt: skip
    for one in found.skipped:
        sys.stderr.write(f"skipped   {visible(one.id)}: {visible(one.reason)}\n")
    paths = [bundle, *(also or ())]
    loaded = [
        Bundle.load(path, batch_size=batch_size, engine=engine, device=device) for path in paths
    ]
    outcome = evaluate_shown(
        loaded, found, folder, split=split, group=group or (), tta=tta,
        combine=combine, weighting=weighting, positive=positive,
        workers=workers or default_workers(), name=str(bundle),
        command=typed_command(),
    )  # fmt: skip
    if csv is not None:
        outcome.to_csv(csv)
    if as_json:
        console.print_json({"bundle": str(bundle), **outcome.to_json()})
        return
    out = console.stdout()
    votes = vote_note(loaded)
    console.facts(
        out,
        _facts(outcome) | ({"answers": votes} if votes else {}),
    )
    if outcome.subgroups is not None:
        show_values(out, outcome.subgroups, "top1" if outcome.labels is None else "map")
    if outcome.two_classes is not None:
        show_two(out, _by_split(outcome.two_classes, outcome.split))
    if outcome.labels is not None:
        out.print()
        show_each(out, outcome.labels, loaded[0].about.classes, outcome.split)
    out.print()
    console.facts(out, {"next": console.command("serve", bundle)})


def _by_split(two: Mapping[str, Any], split: str) -> dict[str, Any]:
    """Return the figures of two classes as those of a run, by split."""
    found = {**two, **{name: {split: two[name]} for name in ("figures", "intervals")}}
    if "at_threshold" in two:
        at = two["at_threshold"]
        found["at_threshold"] = {name: {split: figures} for name, figures in at.items()}
    return found


FLAGS = {
    "low_confidence": "flagged low confidence",
    "out_of_distribution": "flagged out of distribution",
    "top1_answered": "top-1 without flags",
}


def _facts(outcome: Evaluation) -> dict[str, str]:
    from probe.cli.head_figures import LABEL_NAMES, NAMES

    images = f"{outcome.dataset} {outcome.split}, {outcome.n_images:,}"
    if outcome.n_groups is not None:
        images += f" in {counted(outcome.n_groups, 'group')}, over which intervals are"
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
        figures["from cache"] = f"{counted(outcome.from_cache, 'image')} not forwarded"
    if outcome.test_evaluations is not None:
        figures["test evaluations"] = str(outcome.test_evaluations)
    return figures
