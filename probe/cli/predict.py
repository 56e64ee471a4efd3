"""`probe bundle`, `predict` and `evaluate`: a run that stands alone, and what it says of images."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from probe.cli.options import AsJson, CacheDir, DatasetName, DatasetRoot, cache_folder
from probe.errors import UsageError

if TYPE_CHECKING:
    from probe.datasets import BadImage
    from probe.predict import Prediction

FORMATS = ("table", "csv", "jsonl")
MANY_IMAGES, MANY_BATCH = 16, 16


def bundle(
    run: Annotated[
        Path | None, typer.Argument(help="The folder of a run.", show_default="the newest")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to make.", show_default="RUN/bundle")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Where the weights are now.", show_default="where extract found them"),
    ] = None,
    cache_dir: CacheDir = None,
) -> None:
    """Make a bundle of a run: a folder that predicts without cache and dataset."""
    from probe.cli import console
    from probe.export import bundle_run, newest_run

    folder = cache_folder(cache_dir)
    source = run if run is not None else newest_run(folder / "runs")
    target = out if out is not None else source / "bundle"
    made = bundle_run(source, target, cache_dir=folder, weights=weights)
    size = sum(path.stat().st_size for path in target.iterdir())
    classes = made.about.classes
    console.facts(
        console.stdout(),
        {
            "bundle": f"{target}  ({console.size(size)})",
            "network": f"{made.about.backbone} to {made.about.layer}, {made.about.weights}",
            "licence": made.about.licence,
            "classes": f"{len(classes)}: {', '.join(classes[:8])}" + " ..." * (len(classes) > 8),
            "next": f"probe predict {target} IMAGE",
        },
    )


def predict(
    bundle: Annotated[Path, typer.Argument(help="A folder made by `probe bundle`.")],
    images: Annotated[
        list[str],
        typer.Argument(
            help="Images, folders, 'patterns*', lists (.txt, .lst), or - for paths on stdin."
        ),
    ],
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="Classes an image.")] = 5,
    form: Annotated[str, typer.Option("--format", "-f", help="table, csv or jsonl.")] = "table",
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", "-b", min=1, show_default="1, or 16 for many images"),
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", "-j", min=1)] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, gpu or gpu:1.")] = "auto",
) -> None:
    """Tell the most probable classes of images.

    An image that cannot be read is reported, the rest is answered, and the exit code is 1.
    """
    from probe.bundle import Bundle
    from probe.cli.extract import default_workers
    from probe.predict import find_images, predict_images

    if form not in FORMATS:
        raise UsageError(f"--format {form}: expected {', '.join(FORMATS)}")
    paths = find_images(images, sys.stdin if "-" in images else ())
    size = batch_size or (1 if len(paths) < MANY_IMAGES else MANY_BATCH)
    loaded = Bundle.load(bundle, batch_size=size, device=device)
    found = predict_images(loaded, paths, top_k=top_k, workers=workers or default_workers())
    writer = {"table": _table, "csv": _csv, "jsonl": _json_lines}[form]
    bad: list[BadImage] = []
    writer(_watched(found, len(paths), bad))
    if bad:
        sys.stderr.write(f"probe: {len(bad)} of {len(paths)} images could not be read\n")
        raise typer.Exit(1)


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="A folder made by `probe bundle`.")],
    dataset: DatasetName,
    dataset_root: DatasetRoot = None,
    split: Annotated[
        str | None, typer.Option(help="train, val or test.", show_default="test, else the only one")
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", "-b", min=1)] = MANY_BATCH,
    workers: Annotated[int | None, typer.Option("--workers", "-j", min=1)] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, gpu or gpu:1.")] = "auto",
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Score a bundle on a labelled dataset; classes are matched by name."""
    from probe.bundle import Bundle
    from probe.cli import console
    from probe.cli.extract import default_workers
    from probe.datasets import load_dataset
    from probe.predict import evaluate as score_bundle

    found = load_dataset(dataset, root=dataset_root, cache_dir=cache_folder(cache_dir))
    name = split or ("test" if "test" in found.splits else next(iter(found.splits)))
    if name not in found.splits:
        raise UsageError(f"--split {name}: {found.name} has {', '.join(found.splits)}")
    loaded, rows = Bundle.load(bundle, batch_size=batch_size, device=device), found.splits[name]
    with console.progress("evaluate", "images") as bar:
        task = bar.add_task("evaluate", total=len(rows))
        metrics = score_bundle(
            loaded,
            rows,
            found.classes,
            workers=workers or default_workers(),
            on_rows=lambda count: bar.advance(task, count),
        )
    if as_json:
        about = {"bundle": str(bundle), "dataset": found.name, "split": name, "n": len(rows)}
        console.print_json({**about, "metrics": metrics.summary()})
        return
    figures = {"images": f"{found.name} {name}, {len(rows):,}"} | {
        word: f"{value:.4f}" if word == "log_loss" else f"{100 * value:.2f} %"
        for word, value in metrics.summary().items()
    }
    console.facts(console.stdout(), figures)


def _watched(
    found: Iterable[Prediction | BadImage], total: int, bad: list[BadImage]
) -> Iterator[Prediction]:
    """Pass predictions on behind a progress bar; tell of images that cannot be read."""
    from probe.cli import console
    from probe.predict import Prediction

    bar = console.progress("predict", "images")
    if total > MANY_IMAGES and not sys.stdout.isatty():  # on a terminal the answers are progress
        bar.start()
    task = bar.add_task("predict", total=total)
    try:
        for one in found:
            bar.advance(task)
            if isinstance(one, Prediction):
                yield one
            else:
                bad.append(one)
                sys.stderr.write(f"{one.id}: {one.reason}\n")
    finally:
        bar.stop()


def _table(found: Iterable[Prediction]) -> None:
    for one in found:
        answers = zip(one.labels, one.probabilities, strict=True)
        sys.stdout.write(f"{one.image}\n")
        sys.stdout.writelines(f"  {100 * value:6.2f} %  {label}\n" for label, value in answers)


def _csv(found: Iterable[Prediction]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["image", "rank", "label", "probability"])
    for one in found:
        for rank, (label, value) in enumerate(
            zip(one.labels, one.probabilities, strict=True), start=1
        ):
            writer.writerow([one.image, rank, label, f"{value:.6g}"])


def _json_lines(found: Iterable[Prediction]) -> None:
    for one in found:
        answers = [
            {"label": label, "probability": value}
            for label, value in zip(one.labels, one.probabilities, strict=True)
        ]
        line = {"image": one.image, "predictions": answers}
        sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
