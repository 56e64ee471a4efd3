"""`probe predict`: predict images with bundles."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

import typer

from probe.cli import complete
from probe.cli.options import AsJson, CacheDir, cache_folder
from probe.cli.pass_options import Device, EngineName, Mean, SchedulerName, Workers
from probe.core.columns import Column, free_names
from probe.core.sheets import Sheet
from probe.core.text import counted, visible, visible_json
from probe.errors import UsageError
from probe.evaluation.task import Task

if TYPE_CHECKING:
    from probe.bundle import Bundle
    from probe.bundle.make import OwnTop
    from probe.datasets import BadImage
    from probe.predict import Prediction, Predictor

MANY_IMAGES = 16

Also = Annotated[
    list[Path] | None,
    typer.Option("--also", help="Another bundle of the same classes: an ensemble. Repeatable."),
]
Weighting = Annotated[
    Literal["val", "equal"],
    typer.Option(
        help="How the bundles of an ensemble count; val: by accuracy, or mAP, on validation rows."
    ),
]
Classes = Annotated[
    str | None,
    typer.Option(
        help="With --backbone: the classes of the weights' own classifier in its order, as a,b,c, "
        "or a file with a name a line.",
        show_default="ImageNet's",
    ),
]
Preprocess = Annotated[
    str | None,
    typer.Option(
        help="With --backbone: what the weights were trained on, a name, a JSON file or a "
        "published folder; known weights bring it."
    ),
]
Tta = Annotated[
    str,
    typer.Option(
        help="Test-time augmentation, the views of each image that are predicted and combined: "
        "none, flip, crops5, crops10, scales, or a list as flip,scales, of which flip mirrors each."
    ),
]
Combine = Annotated[
    Literal["probabilities", "logits", "vote"],
    typer.Option(help="How views and bundles are combined: by a mean of these, or a vote."),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        "-b",
        min=1,
        help="Images in a forward pass.",
        show_default="by input size; 1 for fewer than 16 images",
    ),
]


def predict(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="BUNDLE IMAGE...",
            help="A bundle, then images, folders, 'patterns*', lists (.txt, .lst), tables (.csv, "
            "whose columns are written beside the answers), files that hold images (.tar, .zip, "
            ".rec, .parquet, .npz ...), or - for paths on stdin.",
        ),
    ],
    root: Annotated[
        Path | None,
        typer.Option(
            help="Folder that the paths of lists start from.",
            show_default="the list's own, or the working directory",
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            autocompletion=complete.backbones,
            help="No bundle: this backbone with its weights' own classifier.",
        ),
    ] = None,
    weights: Annotated[
        str,
        typer.Option(
            help="With --backbone: a file, a name from `probe weights list`, or auto (what is at "
            "hand)."
        ),
    ] = "auto",
    preprocess: Preprocess = None,
    mean: Mean = None,
    classes: Classes = None,
    top_k: Annotated[
        int | None,
        typer.Option(
            "--top-k",
            "-k",
            min=1,
            help="Classes told of each image.",
            show_default="5; of several labels those whose thresholds are reached",
        ),
    ] = None,
    form: Annotated[
        Literal["table", "csv", "jsonl"],
        typer.Option("--format", "-f", help="Format of the answers."),
    ] = "table",
    tta: Tta = "none",
    combine: Combine = "probabilities",
    also: Also = None,
    weighting: Weighting = "val",
    batch_size: BatchSize = None,
    workers: Workers = None,
    engine: EngineName = "auto",
    device: Device = "auto",
    scheduler: SchedulerName = None,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Tell the most probable classes of images; of several labels those whose threshold is reached.

    An image that cannot be read is reported, the rest is answered, and the exit code is 1. Answers
    come one by one as a table, CSV or JSON lines; --json prints one object at the end.
    """
    from probe.core.options import default_workers
    from probe.engines import default_engine
    from probe.predict import PredictTask, find_inputs, predict_images, predict_spread
    from probe.predict.predictor import check_words
    from probe.schedulers import check_scheduler, workers_called
    from probe.screen import console

    check_words(tta, combine, weighting)
    names = inputs if backbone is not None else inputs[1:]
    if not names:
        raise UsageError("name a bundle and then images; `probe bundle` makes a bundle of a run")
    folder = cache_folder(cache_dir)
    told = find_inputs(names, sys.stdin if "-" in names else (), root=root, cache_dir=folder)
    paths = told.images
    size = batch_size or (1 if len(paths) < MANY_IMAGES else None)
    check_scheduler(scheduler)
    named: list[str | OwnTop] = [inputs[0], *map(str, also or ())]
    if backbone is not None:
        named[0] = _own_top(backbone, weights, preprocess, mean, classes, folder)
    load = partial(
        load_predictor, batch_size=size, engine=engine, device=device, tta=tta,
        combination=combine, equal=weighting == "equal", folder=folder.absolute(),
    )  # fmt: skip
    predictor = load(named)
    if votes := vote_note(predictor.bundles):
        sys.stderr.write(f"probe: {votes}\n")
    if top_k is not None and top_k > len(predictor.classes):
        sys.stderr.write(f"probe: -k {top_k}: all {len(predictor.classes)} classes are told\n")
    watch = _Watch(total=len(paths))
    with workers_called(scheduler) as elsewhere:
        if elsewhere is None:
            found = predict_images(
                predictor, paths, top_k=top_k, workers=workers or default_workers()
            )
        else:
            there = [os.path.abspath(one) if isinstance(one, str) else one for one in named]
            networks = [one for bundle in predictor.bundles for one in bundle.networks]
            engines = {
                default_engine(device, one.spec) if engine == "auto" else engine for one in networks
            }
            task = PredictTask(
                load=partial(load, there), engines=tuple(sorted(engines)), top_k=top_k,
                folder=os.getcwd(),
            )  # fmt: skip
            found = predict_spread(task, paths, elsewhere.scheduler)
        found = _with_columns(found, told.columns)
        if as_json:
            _json_object(watch, found)
        else:
            writers: dict[str, Callable[[Iterable[Prediction]], None]] = {
                "table": _table,
                "csv": partial(_csv, task=predictor.task, columns=list(told.columns)),
                "jsonl": _json_lines,
            }
            writers[form](watch.over(found))
    if watch.first in paths and form == "table" and not as_json:
        after = console.command("explain", Path(inputs[0]), Path(watch.first))
        if backbone is not None:
            after = _bundle_command(backbone, weights, preprocess, mean, classes, folder)
        console.facts(console.stderr(), {"next": after})
    if watch.bad:
        sys.stderr.write(
            f"probe: {len(watch.bad)} of {counted(len(paths), 'image')} could not be read\n"
        )
        raise typer.Exit(1)


def load_predictor(
    bundles: Sequence[str | OwnTop], *, batch_size: int | None, engine: str, device: str,
    folder: Path, **same: Any,
) -> Predictor:  # fmt: skip
    """Return the predictor of bundles by their paths, with the features of a state folder.

    The other arguments are those of `Predictor`.
    """
    from probe.cache.store import Store
    from probe.predict import Predictor

    loaded = [
        _load(one, batch_size, engine, device)
        if isinstance(one, str)
        else one.load(batch_size=batch_size, engine=engine, device=device)
        for one in bundles
    ]
    return Predictor(loaded, store=Store(folder), **same)


def vote_note(bundles: Sequence[Bundle]) -> str:
    """Return what is said of bundles whose heads vote; nothing where none does."""
    votes = sum(bundle.votes for bundle in bundles)
    return (
        f"shares of {votes} votes, not calibrated; no threshold for low confidence" if votes else ""
    )


def _load(path: str, batch_size: int | None, engine: str, device: str) -> Bundle:
    from probe.bundle import Bundle

    return Bundle.load(path, batch_size=batch_size, engine=engine, device=device)


def _own_top(
    backbone: str,
    weights: str,
    preprocess: str | None,
    mean: Path | None,
    classes: str | None,
    folder: Path,
) -> OwnTop:
    from probe.bundle.make import own_top, read_classes

    names = read_classes(classes) if classes is not None else None
    return own_top(
        backbone, cache_dir=folder, weights=weights, preprocess=preprocess, classes=names, mean=mean
    )


def _bundle_command(
    backbone: str,
    weights: str,
    preprocess: str | None,
    mean: Path | None,
    classes: str | None,
    folder: Path,
) -> str:
    """Return the command that makes a bundle of what answered without one."""
    from probe.screen import console

    given = {"--weights": None if weights == "auto" else weights, "--preprocess": preprocess,
             "--mean": mean, "--classes": classes}  # fmt: skip
    words = [word for name, value in given.items() if value for word in (name, value)]
    return console.command("bundle", "--backbone", backbone, *words, cache_dir=folder)


@dataclass
class _Watch:
    """Passes predictions on behind a progress bar; tells of images that cannot be read."""

    total: int
    bad: list[BadImage] = field(default_factory=list, init=False)
    first: str | None = field(default=None, init=False)  # image that was answered

    def over(self, found: Iterable[Prediction | BadImage]) -> Iterator[Prediction]:
        from probe.predict import Prediction
        from probe.screen import console

        bar = console.progress("predict", "images")
        if self.total > MANY_IMAGES and not sys.stdout.isatty():
            bar.start()  # on a terminal the answers themselves are progress
        task = bar.add_task("predict", total=self.total)
        try:
            for one in found:
                bar.advance(task)
                if isinstance(one, Prediction):
                    self.first = self.first or one.image
                    yield one
                else:
                    self.bad.append(one)
                    sys.stderr.write(f"{visible(one.id)}: {visible(one.reason)}\n")
        finally:
            bar.stop()


def _table(found: Iterable[Prediction], out: TextIO | None = None) -> None:
    out = out or sys.stdout
    for one in found:
        nothing = "  no label" if one.given == () else ""
        flags = f"  [{', '.join(one.flags)}]" if one.flags else ""
        out.write(f"{visible(one.image)}{nothing}{flags}\n")
        for label, value in zip(one.labels, one.probabilities, strict=True):
            below = "" if one.given is None or label in one.given else "  (below its threshold)"
            out.write(f"  {100 * value:6.2f} %  {visible(label)}{below}\n")


def _with_columns(
    found: Iterator[Prediction | BadImage], columns: Mapping[str, Column]
) -> Iterator[Prediction | BadImage]:
    """Yield predictions with what a table says of each image; there is one for each."""
    from probe.predict import Prediction

    for row, one in enumerate(found):
        if columns and isinstance(one, Prediction):
            one = replace(one, columns={name: each[row] for name, each in columns.items()})  # noqa: PLW2901
        yield one


def _csv(found: Iterable[Prediction], *, task: Task, columns: Sequence[str] = ()) -> None:
    sheet = Sheet(sys.stdout)
    given = [] if task.exclusive else ["given"]  # whether a label's threshold is reached
    own = ["image", "rank", "label", "probability", "flags", *given]
    sheet.row([*own, *free_names(columns, own).values()])
    for one in found:
        for rank, (label, value) in enumerate(
            zip(one.labels, one.probabilities, strict=True), start=1
        ):
            told = [] if one.given is None else [int(label in one.given)]
            flags = " ".join(one.flags)
            texts = [one.image, label, *(one.columns[name] for name in columns)]
            image, name, *cells = map(visible, texts) if sys.stdout.isatty() else texts
            sheet.row([image, rank, name, f"{value:.6g}", flags, *told, *cells])


def _json_lines(found: Iterable[Prediction]) -> None:
    for one in found:
        sys.stdout.write(visible_json(json.dumps(to_json(one), ensure_ascii=False)) + "\n")


def _json_object(watch: _Watch, found: Iterable[Prediction | BadImage]) -> None:
    from probe.screen import console

    answers = [to_json(one) for one in watch.over(found)]
    bad = [{"image": one.id, "reason": one.reason} for one in watch.bad]
    console.print_json({"images": answers, "unreadable": bad})


def to_json(one: Prediction) -> dict[str, object]:
    """Return the object of one image."""
    answers = [
        {"label": label, "probability": value}
        for label, value in zip(one.labels, one.probabilities, strict=True)
    ]
    given = {} if one.given is None else {"labels": list(one.given)}
    distance = {} if one.distance is None else {"distance": one.distance}
    columns = {"columns": dict(one.columns)} if one.columns else {}
    flags = {"flags": list(one.flags)}
    return {"image": one.image, **given, "predictions": answers, **flags, **distance, **columns}
