"""`probe promote`: fine-tune the network behind a run.

Shown are the start, the epochs as they come, and what was gained.
"""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from probe.cli import promote_options as of
from probe.cli.options import AsJson, CacheDir, Group, Seed, cache_folder
from probe.cli.pass_options import default_workers
from probe.errors import UsageError
from probe.runs.results import METRIC_WORDS
from probe.screen import console

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from probe.finetune.asked import Asked
    from probe.finetune.compare import Course
    from probe.finetune.finish import Gain, Promoted
    from probe.finetune.options import (
        Options,
    )
    from probe.finetune.promotion import Begun
    from probe.finetune.source import Source


def promote(
    context: typer.Context,
    run: of.Run = None,
    start: of.StartName = "probe",
    weights: of.Weights = None,
    dataset_root: of.Root = None,
    group: Group = None,
    freeze: of.Freeze = "none",
    unfreeze: of.Unfreeze = "",
    backbone_lr_mult: of.BackboneMult = 1.0,
    head_lr_mult: of.HeadMult = 1.0,
    layer_decay: of.LayerDecay = 1.0,
    lr_mult: of.LrMult = None,
    bn: of.Bn = None,
    epochs: of.Epochs = 8,
    batch_size: of.BatchSize = 32,
    accumulate: of.Accumulate = 1,
    optimizer: of.Optimizer = "adamw",
    lr: of.Lr = None,
    momentum: of.Momentum = 0.9,
    wd: of.Wd = 1e-4,
    schedule: of.Schedule = "cosine",
    warmup: of.Warmup = 1.0,
    clip: of.Clip = 5.0,
    ema: of.Ema = 0.0,
    label_smoothing: of.Smoothing = 0.0,
    augment: of.Augment = "auto",
    mixup: of.Mixup = 0.0,
    train_sizes: of.TrainSizes = None,
    sampling: of.SamplingOption = "shuffle",
    sampling_weights: of.SamplingWeights = None,
    ohem: of.Ohem = 1.0,
    workers: of.Workers = None,
    max_memory: of.MaxMemory = None,
    show_batch: of.ShowBatch = None,
    patience: of.Patience = 0,
    compare: of.Compare = "",
    tensorboard: of.Tensorboard = False,
    dry_run: of.DryRun = False,
    resume: of.Resume = False,
    out: of.Out = None,
    seed: Seed = 42,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Fine-tune the network behind a run, from where its probe ended.

    Images that the run held out are watched after each epoch and choose the best one; the test
    images are scored once, at the end. A run that was stopped goes on with --resume.
    """
    from probe.bench.find import default_run
    from probe.cli.head_texts import read_bytes
    from probe.finetune.asked import Asked
    from probe.finetune.options import Options, parse_multiplier, parse_sizes, parse_unfreeze
    from probe.finetune.source import PROMOTED, open_source
    from probe.runs.find import find_run
    from probe.screen import console

    folder, workers = cache_folder(cache_dir), workers or default_workers()
    if resume:
        _check_resume(context)
        _resume(run, folder, workers=workers, quiet=as_json)
        return
    options = Options(
        epochs=epochs, batch_size=batch_size, start=start, freeze=freeze,
        unfreeze=parse_unfreeze(unfreeze), optimizer=optimizer, lr=lr,
        momentum=momentum, wd=wd, backbone_lr_mult=backbone_lr_mult, head_lr_mult=head_lr_mult,
        layer_decay=layer_decay, lr_mult=tuple(parse_multiplier(one) for one in lr_mult or ()),
        schedule=schedule, warmup=warmup, bn=bn,
        label_smoothing=label_smoothing, mixup=mixup, accumulate=accumulate, clip=clip, ema=ema,
        augment=augment, sizes=parse_sizes(train_sizes) if train_sizes else (),
        sampling=sampling, ohem=ohem, patience=patience, seed=seed,
    )  # fmt: skip
    if run is not None:
        chosen = find_run(folder / "runs", run)
    else:
        chosen = console.chosen(default_run(folder, but=(PROMOTED,)))
    asked = Asked(
        run=str(chosen.resolve()), options=options,
        dataset_root=str(dataset_root.resolve()) if dataset_root else None, weights=weights,
        sample_weights=str(sampling_weights.resolve()) if sampling_weights else None,
        compare=_controls(compare, options), tensorboard=tensorboard,
        group=tuple(_absolute(one) for one in group or ()),
        max_memory=read_bytes(max_memory) if max_memory else None,
        command="probe " + shlex.join(sys.argv[1:]),
    )  # fmt: skip
    source = open_source(chosen, asked.places(folder))
    if show_batch is not None:
        _show_batch(source, asked, show_batch)
    elif dry_run:
        with tempfile.TemporaryDirectory() as place:
            _begin(source, asked, Path(place), workers=workers, quiet=False)
    else:
        _new(source, asked, folder, out, workers=workers, quiet=as_json)


def _absolute(group: str) -> str:
    """Return a file's whole path, so that a run can be resumed from elsewhere; else the text."""
    return str(Path(group).resolve()) if Path(group).is_file() else group


def _controls(text: str, options: Options) -> tuple[str, ...]:
    from probe.finetune.compare import control_options

    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for name in names:
        control_options(name, options)  # what cannot be compared is refused before anything runs
    return names


RESUMABLE = {"run", "resume", "cache_dir", "as_json", "workers"}


def _check_resume(context: typer.Context) -> None:
    """Refuse options that a run which goes on could not follow."""
    for name in context.params:
        source = context.get_parameter_source(name)
        given = source is not None and source.name == "COMMANDLINE"
        if given and name not in RESUMABLE:
            raise UsageError(
                f"--{name.replace('_', '-')}: a run that is resumed keeps its options, so that it "
                "ends as if it had never stopped; leave it out"
            )


def _show_batch(source: Source, asked: Asked, path: Path) -> None:
    from probe.finetune.mirror import settle
    from probe.finetune.picture import draw_batch, first_batch
    from probe.finetune.start import make_training
    from probe.screen import console

    training = make_training(source, asked.options, path.parent, weights=_weights(source, asked))
    settle(source, training)
    names = [source.classes[int(one)] for one in source.head.classes_]
    draw_batch(first_batch(training.feed), names, path, several=training.feed.several)
    console.facts(console.stdout(), {"batch": str(path)})


def _new(
    source: Source, asked: Asked, cache: Path, out: Path | None, *, workers: int, quiet: bool
) -> None:
    from probe.runs.fit import run_folder

    with run_folder(out, cache / "runs") as target:
        begun = _begin(source, asked, target, workers=workers, quiet=quiet)
        part = None if begun.plan is None else begun.plan.part or 0
        settled = begun.training.options  # augmentation is
        asked = replace(asked, options=settled, part=part)
        asked.save(target)
        _train(begun, asked, cache, quiet=quiet)


def _resume(run: Path | None, cache: Path, *, workers: int, quiet: bool) -> None:
    from probe.finetune.asked import Asked, unfinished
    from probe.finetune.checkpoint import remove_leftovers
    from probe.finetune.source import open_source
    from probe.runs.find import find_run

    target = unfinished(cache / "runs") if run is None else find_run(cache / "runs", run)
    asked = Asked.read(target)
    remove_leftovers(target)
    source = open_source(Path(asked.run), asked.places(cache))
    begun = _begin(source, asked, target, workers=workers, quiet=quiet)
    _train(begun, asked, cache, quiet=quiet)


def _begin(source: Source, asked: Asked, target: Path, *, workers: int, quiet: bool) -> Begun:
    from probe.finetune.advice import advice, estimate
    from probe.finetune.compare import control_options
    from probe.finetune.planning import Limit
    from probe.finetune.promotion import begin
    from probe.screen import console
    from probe.screen.training import show_start

    if not quiet:
        console.stderr().print(f"checking the network on {len(source.val):,} validation images ...")
    begun = begin(
        source, asked.options, target, weights=_weights(source, asked), workers=workers,
        limit=Limit(
            bytes=asked.max_memory, part=asked.part,
            controls=tuple(control_options(one, asked.options) for one in asked.compare),
        ),
    )  # fmt: skip
    begun.training.resume()
    if not quiet:
        needed = None if begun.training.done else estimate(begun)
        show_start(begun, asked, needed, advice(begun))
    return begun


def _weights(source: Source, asked: Asked) -> NDArray[np.float64] | None:
    from probe.finetune.asked import read_sample_weights

    if asked.sample_weights is None:
        return None
    return read_sample_weights(Path(asked.sample_weights), list(source.train.ids))


def _train(begun: Begun, asked: Asked, cache: Path, *, quiet: bool) -> None:
    from probe.finetune.finish import finish
    from probe.finetune.promotion import run, train_controls
    from probe.screen import console
    from probe.screen.training import Live

    target = begun.training.folder
    try:
        with Live(begun, quiet=quiet) as live:
            run(begun, live, tensorboard=asked.tensorboard)
        courses = train_controls(
            begun, asked, lambda name, other: Live(other, quiet=quiet, title=name)
        )
    except KeyboardInterrupt:
        sys.stderr.write(f"probe: stopped; `probe promote --resume {target}` goes on\n")
        raise typer.Exit(130) from None
    done: Promoted = finish(begun, asked, ledger=cache / "ledger")
    if quiet:
        console.print_json(done.to_dict())
        return
    if courses:
        show_comparison(courses, target)
    show_promoted(done, begun)


CERTAIN = 0.05


def show_comparison(courses: Sequence[Course], folder: Path) -> None:
    """Print a row a training."""
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
    console.facts(out, {"picture": str(folder / "comparison.png")})
    out.print()


def show_promoted(done: Promoted, begun: Begun) -> None:
    """Print what was gained, image by image, what it cost, and what to do next."""
    from probe.finetune.advice import other_recipes, tried

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
    last = done.gains[-1]
    facts = {
        "verdict": _verdict(last) if done.better else _kept(done.gains[0]),
        "cost": f"{console.duration(done.seconds)} of training; the probe's head took "
        f"{console.duration(source.result.seconds)}",
    }
    if not done.better or last.p >= CERTAIN or last.after < last.before:
        recipe = replace(options, batch_size=begun.training.feed.batch_size)
        facts["tried"] = f"{tried(recipe)}; another may do better"
        start = done.gains[0].before
        facts["try"] = "; or ".join(other_recipes(options, history, start))
    if last.split == "val" and done.better:
        facts["caution"] = "the best epoch was chosen on these images, so its figure flatters"
    if done.result.test_looks:
        facts["test"] = f"this was evaluation {done.result.test_looks} of these test rows"
    best = done.result.params["best_epoch"]
    facts["run"] = f"{done.folder} (epoch {best} is kept)"
    facts["next"] = (
        f"probe bundle {shlex.quote(str(done.folder if done.better else source.folder))}"
    )
    console.facts(out, facts)


def _kept(gain: Gain) -> str:
    """Say so where the network was best before the first step."""
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
