"""`probe promote`: fine-tune the network behind a run."""

from __future__ import annotations

import shlex
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from probe.cli import promote_options as of
from probe.cli.options import AsJson, CacheDir, Group, Seed, cache_folder
from probe.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from probe.finetune.asked import Asked
    from probe.finetune.finish import Promoted
    from probe.finetune.options import (
        BatchNorm,
        OptimizerName,
        Options,
        Sampling,
        ScheduleName,
        Start,
    )
    from probe.finetune.promotion import Begun
    from probe.finetune.source import Source


def promote(
    context: typer.Context,
    run: of.Run = None,
    head: of.Head = "probe",
    from_scratch: of.FromScratch = False,
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
    sizes: of.Sizes = None,
    sampling: of.SamplingOption = "shuffle",
    sample_weights: of.SampleWeights = None,
    ohem: of.Ohem = 1.0,
    workers: of.Workers = 2,
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
    from probe.cli.head_texts import read_bytes
    from probe.finetune.asked import Asked
    from probe.finetune.options import Options, parse_multiplier, parse_sizes, parse_unfreeze
    from probe.finetune.source import choose_run, open_source

    folder = cache_folder(cache_dir)
    if resume:
        _check_resume(context)
        _resume(run, folder, workers=workers, quiet=as_json)
        return
    if from_scratch and head != "probe":
        raise UsageError("--from-scratch has random weights everywhere; leave --head out")
    options = Options(
        epochs=epochs, batch_size=batch_size, start=_start(head, from_scratch), freeze=freeze,
        unfreeze=parse_unfreeze(unfreeze), optimizer=cast("OptimizerName", optimizer), lr=lr,
        momentum=momentum, wd=wd, backbone_lr_mult=backbone_lr_mult, head_lr_mult=head_lr_mult,
        layer_decay=layer_decay, lr_mult=tuple(parse_multiplier(one) for one in lr_mult or ()),
        schedule=cast("ScheduleName", schedule), warmup=warmup, bn=cast("BatchNorm | None", bn),
        label_smoothing=label_smoothing, mixup=mixup, accumulate=accumulate, clip=clip, ema=ema,
        augment=augment, sizes=parse_sizes(sizes) if sizes else (),
        sampling=cast("Sampling", sampling), ohem=ohem, patience=patience, seed=seed,
    )  # fmt: skip
    chosen = choose_run(folder, run)
    asked = Asked(
        run=str(chosen.resolve()), options=options,
        dataset_root=str(dataset_root.resolve()) if dataset_root else None, weights=weights,
        sample_weights=str(sample_weights.resolve()) if sample_weights else None,
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


def _start(head: str, from_scratch: bool) -> Start:
    if head not in ("probe", "fresh"):
        raise UsageError(f"--head {head}: expected probe or fresh")
    return "scratch" if from_scratch else cast("Start", head)


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
    from probe.cli import console
    from probe.finetune.mirror import settle
    from probe.finetune.picture import draw_batch, first_batch
    from probe.finetune.start import make_training

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
    from probe.finetune.source import choose_run, open_source

    target = unfinished(cache / "runs") if run is None else choose_run(cache, run)
    asked = Asked.read(target)
    remove_leftovers(target)
    source = open_source(Path(asked.run), asked.places(cache))
    begun = _begin(source, asked, target, workers=workers, quiet=quiet)
    _train(begun, asked, cache, quiet=quiet)


def _begin(source: Source, asked: Asked, target: Path, *, workers: int, quiet: bool) -> Begun:
    from probe.cli import console
    from probe.cli.promote_show import show_start
    from probe.finetune.advice import advice, estimate
    from probe.finetune.compare import control_options
    from probe.finetune.planning import Limit
    from probe.finetune.promotion import begin

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
    from probe.cli import console
    from probe.cli.promote_show import Live, show_comparison, show_promoted
    from probe.finetune.finish import finish
    from probe.finetune.promotion import run, train_controls

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
