"""`probe promote`: fine-tune the network behind a run.

Shown are the start, the epochs as they come, and what was gained.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from probe.cli import complete
from probe.cli.commands import was_typed
from probe.cli.options import AsJson, CacheDir, Group, LogTo, Seed, cache_folder
from probe.core.options import default_workers
from probe.core.urls import typed_command
from probe.errors import UsageError
from probe.finetune.options import BatchNorm, OptimizerName, Sampling, ScheduleName, Start

if TYPE_CHECKING:
    from probe.finetune.compare import Course
    from probe.finetune.finish import Gain, Promoted
    from probe.finetune.forecast import Forecast
    from probe.finetune.promotion import Begun
    from probe.screen.training import Trained


START, LEARNS, STEPS = "Where it starts", "What learns, and how fast", "Steps"
IMAGES, WATCH = "Images", "Watching, comparing, resuming"

Run = Annotated[
    Path | None,
    typer.Argument(
        help="A run's folder, its name or the beginning of its name.",
        show_default="the newest run, or the winner of a bench made after it",
        autocompletion=complete.runs,
    ),
]
StartName = Annotated[
    Start,
    typer.Option(
        "--start", rich_help_panel=START,
        help="probe: the fitted head on its backbone's weights; zeros: a head of zeros on them; "
        "fresh: one of random weights (Xavier); scratch: random weights everywhere.",
    ),
]  # fmt: skip
Weights = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=START,
        help="Where the weights are now.",
        show_default="where extract found them",
    ),
]
Root = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel=START,
        help="Where the images are now.",
        show_default="where extract found them",
    ),
]
Freeze = Annotated[
    str,
    typer.Option(
        rich_help_panel=LEARNS,
        help="What does not learn: none, backbone (the head alone learns), or a layer, with all "
        "layers below it.",
    ),
]
Unfreeze = Annotated[
    str,
    typer.Option(
        rich_help_panel=LEARNS, metavar="EPOCH:LAYER,...", show_default=False,
        help="Freeze less from an epoch on, as in --freeze backbone --unfreeze 2:pool4,4:none.",
    ),
]  # fmt: skip
BackboneMult = Annotated[
    float,
    typer.Option(
        min=0, rich_help_panel=LEARNS, help="Factor on the learning rate of the backbone."
    ),
]
HeadMult = Annotated[
    float,
    typer.Option(min=0, rich_help_panel=LEARNS, help="Factor on the learning rate of the head."),
]
LayerDecay = Annotated[
    float,
    typer.Option(
        rich_help_panel=LEARNS,
        help="Another factor on the learning rate for each layer further from the head, above 0 to "
        "1.",
    ),
]
LrMult = Annotated[
    list[str] | None,
    typer.Option(
        rich_help_panel=LEARNS, metavar="PATTERN=FACTOR",
        help="Factor on the learning rate of layers or parameters whose name matches, as in "
        "'conv1_*=0'; repeatable.",
    ),
]  # fmt: skip
Bn = Annotated[
    BatchNorm | None,
    typer.Option(
        rich_help_panel=LEARNS,
        help="Statistics that BatchNorm uses: frozen (the stored ones) or moving (the batch's).",
        show_default="frozen; moving from scratch",
    ),
]
Epochs = Annotated[
    int,
    typer.Option(
        min=1, rich_help_panel=STEPS,
        help="Passes over the training images. With --resume a run goes on to so many.",
    ),
]  # fmt: skip
Length = Annotated[
    int | None,
    typer.Option(
        "--steps", min=1, rich_help_panel=STEPS, show_default=False,
        help="Steps of the optimizer, in place of --epochs. Validation images are watched after "
        "each epoch and at the end; the warmup has an eighth of the steps at most.",
    ),
]  # fmt: skip
BatchSize = Annotated[
    int, typer.Option("--batch-size", "-b", min=1, rich_help_panel=STEPS, help="Images in a batch.")
]
Accumulate = Annotated[
    int,
    typer.Option(
        min=1, rich_help_panel=STEPS, help="Batches whose gradients are added up for one step."
    ),
]
Optimizer = Annotated[
    OptimizerName,
    typer.Option(
        rich_help_panel=STEPS,
        help="sgd has MXNet's momentum rule, in which past gradients keep the "
        "learning rate of their step; torch's differs while a schedule changes it.",
    ),
]
Lr = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=STEPS, metavar="0.001,0.01",
        help="Highest learning rate. Of several each is trained, and validation images choose: "
        "test images are scored for the best one alone.",
        show_default="0.001 for sgd, 0.0001 for adam and adamw",
    ),
]  # fmt: skip
Momentum = Annotated[float, typer.Option(rich_help_panel=STEPS, help="SGD momentum.")]
Wd = Annotated[
    float,
    typer.Option(
        min=0,
        rich_help_panel=STEPS,
        help="Weight decay; biases and normalisation layers have none.",
    ),
]
Schedule = Annotated[
    ScheduleName,
    typer.Option(
        rich_help_panel=STEPS, help="How the learning rate falls; step: to a tenth at 1/2 and 3/4."
    ),
]
Warmup = Annotated[
    float,
    typer.Option(
        min=0, rich_help_panel=STEPS, help="Epochs over which the learning rate rises from 0."
    ),
]
Clip = Annotated[
    float,
    typer.Option(
        min=0, rich_help_panel=STEPS, help="Largest norm of the gradient; 0 does not clip it."
    ),
]
Ema = Annotated[
    float,
    typer.Option(
        rich_help_panel=STEPS,
        help="Decay per step of an exponential moving average of the weights, which is then scored "
        "and kept; 0 keeps none.",
    ),
]
Smoothing = Annotated[
    float,
    typer.Option(
        rich_help_panel=STEPS, help="Share of each target that is spread over all classes."
    ),
]
Augment = Annotated[
    str,
    typer.Option(
        rich_help_panel=IMAGES,
        help="auto (flip, unless the probe errs on mirrored images), none, light (flip,crop), "
        "medium (+ jitter), strong (flip,crop,rand,erase), or a list of flip, crop=P, "
        "resized-crop=A, jitter=S, hue=H, lighting=S, rand=NxM, erase=P. "
        "Training images only.",
    ),
]
Mixup = Annotated[
    float,
    typer.Option(
        min=0, rich_help_panel=IMAGES, help="Alpha of mixup's Beta distribution; 0 mixes nothing."
    ),
]
TrainSizes = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=IMAGES, metavar="28,32,36", show_default="that of the features",
        help="Sides that training images are drawn from, one for a batch.",
    ),
]  # fmt: skip
SamplingOption = Annotated[
    Sampling,
    typer.Option(
        rich_help_panel=IMAGES,
        help="How training images are drawn; balanced: all classes equally often; weighted: by "
        "--sampling-weights.",
    ),
]
SamplingWeights = Annotated[
    Path | None,
    typer.Option(
        "--sampling-weights",
        rich_help_panel=IMAGES, help="CSV of `id,weight` for --sampling weighted.", dir_okay=False,
        exists=True,
    ),
]  # fmt: skip
Ohem = Annotated[
    float,
    typer.Option(
        rich_help_panel=IMAGES,
        help="Online hard example mining: the share of each batch, its images of highest loss, "
        "that is learnt from; 1 for all.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers", "-j", min=1, rich_help_panel=IMAGES, help="Threads that decode images.",
        show_default="cores, at most 8",
    ),
]  # fmt: skip
MaxMemory = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=IMAGES,
        help="What the process may take, as 1GB or 2GiB: a batch that does not fit is computed in "
        "parts whose gradients are added up, which is the same step.",
        show_default="as much as whole batches take",
    ),
]
ShowBatch = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel=IMAGES, metavar="FILE.png", dir_okay=False,
        help="Draw the first batch as the network sees it, and stop.",
    ),
]  # fmt: skip
Patience = Annotated[
    int,
    typer.Option(
        min=0,
        rich_help_panel=WATCH,
        help="Stop after so many epochs without a better one; 0 never stops early.",
    ),
]
Compare = Annotated[
    str,
    typer.Option(
        rich_help_panel=WATCH, metavar="zeros,fresh,scratch,last-layer", show_default=False,
        help="Train these controls too, on the same images in the same order.",
    ),
]  # fmt: skip
FoldCount = Annotated[
    int | None,
    typer.Option(
        "--folds", min=2, rich_help_panel=WATCH, show_default=False,
        help="Fine-tune so many networks, each watched on a fold of the images that the others "
        "learn from; they answer together, and so does a bundle of the run.",
    ),
]  # fmt: skip
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        rich_help_panel=WATCH,
        help="Check the network, estimate time and memory, give advice, and stop.",
    ),
]
Foretell = Annotated[
    bool,
    typer.Option(
        "--forecast",
        rich_help_panel=WATCH,
        help="Train on an eighth of the images, say what training on all of them will probably "
        "gain and cost, and stop.",
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume", rich_help_panel=WATCH,
        help="Go on with an interrupted run: RUN, or the newest such. Its own options hold, but "
        "with --epochs (or --steps) it goes on longer; a finished run does so as a new one.",
    ),
]  # fmt: skip
Out = Annotated[
    Path | None,
    typer.Option(rich_help_panel=WATCH, help="Folder of the run.", show_default="CACHE/runs/ID"),
]


def promote(
    context: typer.Context,
    run: Run = None,
    start: StartName = "probe",
    weights: Weights = None,
    dataset_root: Root = None,
    group: Group = None,
    freeze: Freeze = "none",
    unfreeze: Unfreeze = "",
    backbone_lr_mult: BackboneMult = 1.0,
    head_lr_mult: HeadMult = 1.0,
    layer_decay: LayerDecay = 1.0,
    lr_mult: LrMult = None,
    bn: Bn = None,
    epochs: Epochs = 8,
    steps: Length = None,
    batch_size: BatchSize = 32,
    accumulate: Accumulate = 1,
    optimizer: Optimizer = "adamw",
    lr: Lr = None,
    momentum: Momentum = 0.9,
    wd: Wd = 1e-4,
    schedule: Schedule = "cosine",
    warmup: Warmup = 1.0,
    clip: Clip = 5.0,
    ema: Ema = 0.0,
    label_smoothing: Smoothing = 0.0,
    augment: Augment = "auto",
    mixup: Mixup = 0.0,
    train_sizes: TrainSizes = None,
    sampling: SamplingOption = "shuffle",
    sampling_weights: SamplingWeights = None,
    ohem: Ohem = 1.0,
    workers: Workers = None,
    max_memory: MaxMemory = None,
    show_batch: ShowBatch = None,
    patience: Patience = 0,
    compare: Compare = "",
    folds: FoldCount = None,
    dry_run: DryRun = False,
    forecast: Foretell = False,
    resume: Resume = False,
    out: Out = None,
    log: LogTo = None,
    seed: Seed = 42,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Fine-tune the network behind a run, from where its probe ended.

    Images that the run held out are watched after each epoch and choose the best one; the test
    images are scored once, at the end. A run that was stopped goes on with --resume.
    """
    from probe.bench.find import default_run, find_run
    from probe.finetune.options import Options
    from probe.finetune.request import PromoteRequest
    from probe.finetune.source import PROMOTED
    from probe.runs.listeners import listeners_of, names_of
    from probe.screen import console
    from probe.screen.training import (
        draw_first_batch,
        foretell_shown,
        go_on,
        look_ahead,
        open_asked,
        train_new,
    )

    folder, workers = cache_folder(cache_dir), workers or default_workers()
    if resume:
        _check_resume(context)
        target = None if run is None else find_run(folder / "runs", run)
        with _resumable(folder, as_json=as_json):
            made = go_on(
                target, folder, workers=workers, log=log, command=typed_command(),
                epochs=epochs if was_typed(context, "epochs") else None,
                steps=steps if was_typed(context, "steps") else None,
            )  # fmt: skip
            _show(made, folder, as_json=as_json)
        return
    listeners = listeners_of(log)
    if was_typed(context, "epochs"):
        steps = None  # what a configuration file has comes second
    options = Options.of(
        epochs=epochs, steps=steps, batch_size=batch_size, start=start, freeze=freeze,
        unfreeze=unfreeze, optimizer=optimizer, lr=lr, momentum=momentum, wd=wd,
        backbone_lr_mult=backbone_lr_mult, head_lr_mult=head_lr_mult, layer_decay=layer_decay,
        lr_mult=lr_mult, schedule=schedule, warmup=warmup, bn=bn,
        label_smoothing=label_smoothing, mixup=mixup, accumulate=accumulate, clip=clip, ema=ema,
        augment=augment, train_sizes=train_sizes, sampling=sampling, ohem=ohem,
        patience=patience, seed=seed,
    )  # fmt: skip
    if run is not None:
        chosen = find_run(folder / "runs", run)
    else:
        chosen = console.chosen(default_run(folder, but=(PROMOTED,)))
    asked = PromoteRequest.of(
        chosen, options, dataset_root=dataset_root, weights=weights,
        sampling_weights=sampling_weights, compare=compare, lr=lr, group=group,
        log=names_of(log), folds=folds,
        max_memory=max_memory,
        command=typed_command(),
    )  # fmt: skip
    source = open_asked(asked, folder)
    if show_batch is not None:
        draw_first_batch(source, asked, show_batch)
        console.facts(console.stdout(), {"batch": console.place(show_batch)})
    elif dry_run:
        look_ahead(source, asked, workers=workers)
    elif forecast:
        with console.quiet(as_json, warnings=True):
            found = foretell_shown(source, asked, workers=workers)
        if as_json:
            console.print_json(found.to_dict())
        else:
            show_forecast(found, folder)
    else:
        with _resumable(folder, as_json=as_json):
            made = train_new(source, asked, folder, out, workers=workers, listeners=listeners)
            _show(made, folder, as_json=as_json)


@contextmanager
def _resumable(cache_dir: Path, *, as_json: bool) -> Iterator[None]:
    """Say how a run that Ctrl-C stops goes on, and exit with 130; JSON is shown alone."""
    from probe.screen import console

    try:
        with console.quiet(as_json, warnings=True):
            yield
    except KeyboardInterrupt as stop:
        if stop.args:  # the folder, once there is something in it to go on from
            run = console.run_name(Path(stop.args[0]), cache_dir)
            again = console.command("promote", "--resume", run, cache_dir=cache_dir)
            sys.stderr.write(f"probe: stopped; `{again}` goes on\n")
            raise typer.Exit(130) from None
        raise


def _show(made: Trained, cache_dir: Path, *, as_json: bool) -> None:
    from probe.screen import console

    if as_json:
        console.print_json(made.done.to_dict())
        return
    if made.courses:
        show_comparison(made.courses, made.done.folder)
    show_promoted(made.done, made.begun, cache_dir)


RESUMABLE = {"run", "resume", "cache_dir", "as_json", "workers", "log", "epochs", "steps"}


def _check_resume(context: typer.Context) -> None:
    """Refuse options that a run which goes on could not follow."""
    for name in context.params:
        if name not in RESUMABLE and was_typed(context, name):
            raise UsageError(
                f"--{name.replace('_', '-')}: a run that is resumed keeps its options, so that it "
                "ends as if it had never stopped; leave it out"
            )


CERTAIN = 0.05


def show_comparison(courses: Sequence[Course], folder: Path) -> None:
    """Print a row a training."""
    from probe.runs.results import METRIC_WORDS
    from probe.screen import console

    out = console.stdout()
    rows = []
    for one in courses:
        first, best = one.history[0], one.best
        rows.append([
            one.name, _percent(one.score), _percent(first.val_score),
            _percent(best.val_score), str(best.epoch),
            console.duration(sum(epoch.seconds for epoch in one.history)),
        ])  # fmt: skip
    columns = [
        f"val {METRIC_WORDS[courses[0].metric]}",
        "at start",
        "epoch 1",
        "best",
        "epoch",
        "time",
    ]
    console.table(out, columns, rows, right=range(1, 6))
    out.print()
    console.facts(out, {"picture": console.place(folder / "comparison.png")})
    out.print()


def show_promoted(done: Promoted, begun: Begun, cache_dir: Path) -> None:
    """Print what was gained, image by image, what it cost, and what to do next."""
    from probe.finetune.advice import other_recipes, tried
    from probe.finetune.options import parse_rates
    from probe.runs.results import METRIC_WORDS
    from probe.screen import console

    out, source = console.stdout(), begun.source
    options, history = begun.training.options, begun.training.progress.history
    rows = [
        [gain.split, _percent(gain.before), _percent(gain.after),
         f"{100 * (gain.after - gain.before):+.2f}",
         f"{100 * gain.low:+.2f} to {100 * gain.high:+.2f}",
         *([] if gain.repaired is None else [str(gain.repaired), str(gain.broken)])]
        for gain in done.gains
    ]  # fmt: skip
    columns = [METRIC_WORDS[done.result.metric], "probe", "tuned", "points", "95 %"]
    columns += ["repaired", "broken"] if done.gains[0].repaired is not None else []
    console.table(out, columns, rows, right=range(1, len(columns)))
    out.print()
    last, rates = done.gains[-1], done.result.params.get("rates")
    folds = done.result.params.get("folds")
    facts = {
        "verdict": _verdict(last) if done.better else _kept(done.gains[0]),
        "cost": f"{console.duration(done.seconds)} of training; the probe's head took "
        f"{console.duration(source.result.seconds)}",
    }
    if not done.better or last.p >= CERTAIN or last.after < last.before:
        recipe = replace(options, batch_size=begun.training.feed.batch_size)
        facts["tried"] = f"{tried(recipe)}; another may do better"
        start = begun.score if folds else done.gains[0].before
        if history:  # of folds that were done before, none is at hand
            facts["try"] = "; or ".join(other_recipes(options, history, start, parse_rates(rates)))
    if last.split == ("oof" if folds else "val") and done.better:
        what = "learning rate and epoch were" if rates else "epoch was"
        facts["caution"] = f"the best {what} chosen on these images, so the figure flatters"
    if folds:
        facts["oof"] = (
            f"each image by the network that did not see it; a bundle, as on images outside the "
            f"folds, answers with the mean of all {folds}"
        )
    if done.result.test_looks:
        facts["test"] = f"this was evaluation {done.result.test_looks} of these test rows"
    if rates:
        facts["lr"] = f"{options.rate:g} of {rates}, chosen on validation images"
    best = done.result.params.get("best_epoch")
    kept_words = f"epoch {best} is kept" if best else f"{folds} networks, in its folder folds"
    facts["run"] = f"{console.place(done.folder)} ({kept_words})"
    kept = done.folder if done.better else source.folder
    facts["next"] = console.command(
        "bundle", console.run_name(kept, cache_dir), cache_dir=cache_dir
    )
    console.facts(out, facts)


SURE, LIKELY, OPEN = 0.975, 0.8, 0.5
TOLD = 0.95  # no higher chance is told: 23 fine-tunings that all gained show no more


def show_forecast(found: Forecast, cache_dir: Path) -> None:
    """Print what was seen on a draw, what to expect of all images, and what that costs."""
    from probe.finetune.record import track
    from probe.runs.results import METRIC_WORDS
    from probe.screen import console

    gain, expected, cost, past = found.tried.gain, found.expected, found.cost, track()
    time = console.duration(cost.seconds)
    memory = "" if cost.memory is None else f", {cost.memory / 1e9:.1f} GB at the peak"
    facts = {
        "tried": f"{found.tried.images:,} of {found.images:,} training images: held-out "
        f"{METRIC_WORDS[found.metric]} {_percent(gain.before)} to {_percent(gain.after)}, by "
        f"{_points(gain.low)} to {_points(gain.high)} points",
        "gain": f"{_points(expected.gain)} points expected of all, on new images; 95 %: "
        f"{_points(expected.low)} to {_points(expected.high)}",
        "cost": f"about {time} ({console.duration(cost.epoch_seconds)} an epoch){memory}",
        "verdict": _worth(expected.chance, time),
        "record": f"of {past.count} small networks {past.held} gained on test images what the "
        f"interval said; {100 * past.error:.1f} points off (root mean square)",
    }
    if found.unlike:
        facts["caution"] = f"unlike those: {'; '.join(found.unlike)}"
        facts["next"] = "the same command without --forecast"
    else:
        facts["next"] = console.command("promote", found.run, cache_dir=cache_dir)
    console.facts(console.stdout(), facts)


def _worth(chance: float, time: str) -> str:
    told = f"over {100 * TOLD:.0f}" if chance > TOLD else f"{100 * chance:.0f}"
    text = f"better than the probe with a chance of {told} %"
    if chance >= SURE:
        return f"worth its {time}: {text}"
    if chance >= LIKELY:
        return f"probably worth its {time}: {text}"
    if chance >= OPEN:
        return f"open, {time} would tell: {text}"
    return f"probably not worth it: {text}"


def _points(part: float) -> str:
    return f"{100 * part:+.1f}"


def _kept(gain: Gain) -> str:
    """Say that the network was best before the first step, where it was."""
    return (
        "keep the probe, unless another recipe does better: on the held-out images, which chose "
        f"the epoch, the best one has {_percent(gain.after)}, the probe {_percent(gain.before)}"
    )


def _verdict(gain: Gain) -> str:
    points = 100 * (gain.after - gain.before)
    p = f"p {gain.p:.2g}, {gain.test}" if gain.p >= 1e-4 else f"p < 0.0001, {gain.test}"
    if gain.p >= CERTAIN:
        return f"no difference that {gain.split} images can show ({points:+.2f} points, {p})"
    what = "better than the probe" if points > 0 else "worse than the probe: keep the probe"
    return f"{what}, by {abs(points):.2f} points on {gain.split} ({p})"


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"
