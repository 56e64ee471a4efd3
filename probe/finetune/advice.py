"""Before: how long it will take, and whether it is likely to be worth it."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from probe.errors import DataError
from probe.evaluation.learning_curve import load_learning_curve
from probe.finetune.mirror import MirrorTest, mirror_test
from probe.finetune.optimizers import STATES
from probe.finetune.options import LEARNING_RATES, NONE, Options
from probe.finetune.planning import in_units
from probe.finetune.promotion import Begun
from probe.finetune.source import Source
from probe.heads.history import Epoch
from probe.runs.results import METRIC_WORDS

STATUS = Path("/proc/self/status")
MUCH = 2_000_000_000  # bytes, from which on a smaller batch is named
MEASURED = 3  # batches that are timed, after one that also allocates
FEW, LITTLE_LEFT = 20, 0.02  # images a class; error


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """How long a training takes, from a few measured batches.

    Parameters
    ----------
    batch_seconds : float
        Of one batch, its update left out.
    epoch_seconds : float
        All batches and the validation images.
    seconds : float
        All epochs that are left.
    memory : int or None
        Bytes that the process holds at its peak: the most it held while validation images were
        predicted and these batches were learnt from, and a checkpoint's copy. None where the
        system does not say.
    """

    batch_seconds: float
    epoch_seconds: float
    seconds: float
    memory: int | None = None


def estimate(begun: Begun) -> Estimate:
    """Time a few batches, as the last stage of unfreezing has them; nothing learns from them."""
    training = begun.training
    state, options = training.network.state, training.options
    training.enter_stage(options.epochs)
    kept, times = state.aux.array.copy(), list[float]()
    batches = training.batches(1, 0)
    started = time.perf_counter()
    for number, batch in enumerate(batches):
        training.forward(batch).wait_to_read()
        state.norm()  # waits for the gradient
        times.append(time.perf_counter() - started)
        if number >= MEASURED:
            break
        started = time.perf_counter()
    batches.close()
    state.aux.array[:] = kept  # statistics that move with each batch
    state.gradients[:] = 0
    each = float(np.median(times[1:] or times))  # the first one allocates, too
    epoch = each * training.feed.batches + begun.predict_seconds * len(begun.source.val)
    left = options.epochs + 1 - training.progress.epoch
    held, copied = peak(), 4 * len(state.weights) * (1 + STATES[options.optimizer])
    return Estimate(
        batch_seconds=each, epoch_seconds=epoch, seconds=epoch * left,
        memory=None if held is None else held + copied,
    )  # fmt: skip


def peak() -> int | None:
    """Return the most bytes that this process held so far; None where the system does not say."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text(encoding="utf-8"))
    except OSError:
        return None
    return 1024 * int(found[1]) if found else None


def memory_words(
    memory: int,
    options: Options,
    batch_size: int,
    *,
    limit: int | None = None,
    part: int | None = None,
    whole: int = 0,
) -> str:
    """Return the need in words, and what needs less where it is much.

    Parameters
    ----------
    memory : int
        Bytes, measured.
    limit : int or None
        Bytes that were asked for.
    part : int or None
        Images that are computed at a time; None for whole batches.
    whole : int
        Bytes that whole batches were planned to take; 0 where nothing was planned.
    """
    told = f"about {memory / 1e9:.1f} GB at the peak"
    if limit is not None:
        asked = f"--max-memory {in_units(limit)}"
        told += f", within {asked}" if memory <= limit else f", MORE than {asked}"
        if part is None:
            return told
        instead = f" (whole ones would take up to {in_units(whole, up=True)})" if whole else ""
        each = "an image" if part == 1 else f"{part} images"
        return f"{told}: batches of {batch_size} are computed {each} at a time{instead}"
    half = batch_size // 2
    if memory < MUCH or not half:
        return told
    if options.batch_norm == "moving" or options.ohem < 1:
        return f"{told}; --batch-size {half} takes less, and is another training"
    return f"{told}; --max-memory {in_units(memory // 2, up=True)} takes the same steps within less"


def advice(begun: Begun) -> list[str]:
    """Return what is known before the first step, a sentence each, and what follows from it."""
    source, freeze = begun.source, begun.training.options.freeze
    figures, metric = source.result.metrics, source.result.metric
    val, train = figures["val"][metric], figures.get("train", {}).get(metric)
    each = len(source.train) / len(source.head.classes_)
    found = [_figures(source, val, train)]
    if column := source.result.params.get("sample_weight"):
        found.append(f"the probe's fit counted images by {column}; fine-tuning counts each once")
    if 1 - val < LITTLE_LEFT:
        wrong = (
            "one image in fifty or fewer is wrong" if metric == "top1" else "mAP is 98 % or more"
        )
        found.append(f"little is left to gain: {wrong}")
    elif each < FEW and freeze == NONE:
        found.append(
            f"{each:.0f} images a class are few for training every layer: compare with "
            "--freeze and a lower layer's name, or --compare last-layer"
        )
    elif train is not None and train < 0.5 * (1 + val):
        found.append(
            "the probe does not fit its training images either: the features are the limit, "
            "unless the head was trained too briefly; training all layers is likely to help"
        )
    else:
        found.append(
            "the probe fits its training images better than new ones: training all layers helps "
            "where its images look unlike those of the weights, and overfits where they are few"
        )
    return [*found, *_curve(source), *_mirror(begun)]


def tried(options: Options) -> str:
    """Return the recipe in a few words, so that a verdict on it is none on fine-tuning."""
    frozen = "" if options.freeze == NONE else f", frozen: {options.freeze}"
    count = f"{options.epochs} epoch{'' if options.epochs == 1 else 's'}"
    return (
        f"one recipe: {options.optimizer}, lr {options.rate:g}, warmup {options.warmup:g}, "
        f"batches of {options.batch_size}, {count}, augment {options.augment}{frozen}"
    )


def other_recipes(options: Options, history: Sequence[Epoch], start: float) -> list[str]:
    """Return what may do better than a recipe that gained nothing sure, the likeliest first.

    Parameters
    ----------
    options : Options
        What was tried.
    history : sequence of Epoch
        How it went.
    start : float
        Figure on validation before the first step, 0 to 1.

    Returns
    -------
    list of str
        Options of `probe promote` with the reason, each another recipe than the one tried.
    """
    found = []
    gentle = f"--lr {options.rate / 10:.2g} --warmup {max(1.0, options.warmup):g}"
    fell = 100 * (start - history[0].val_score) if history else 0.0
    if fell > 0:
        found.append(f"{gentle} (the first epoch lost {fell:.2f} points: shorter steps)")
    if options.optimizer != "adamw":
        found.append(f"--optimizer adamw --lr {LEARNING_RATES['adamw']:g} (steps of even length)")
    if fell <= 0:
        found.append(f"{gentle} (shorter steps)")
    if history and len(history) > 1 and max(history, key=lambda one: one.rank) is history[-1]:
        found.append(f"--epochs {2 * options.epochs} (the last epoch was the best)")
    if options.optimizer == "adamw":
        found.append(
            f"--optimizer sgd --lr {LEARNING_RATES['sgd']:g} (steps in proportion to the gradient)"
        )
    policy = options.policy()
    if not policy.crop and not policy.resized_crop:
        found.append(f"--augment {'light' if policy.flip else 'crop'} (images are shifted, too)")
    if policy.flip and options.augment != "flip":
        found.append("--augment flip (a mirror alone; shifts cost small images their edges)")
    if options.freeze == NONE:
        found.append("--freeze and a layer's name (fewer layers learn)")
    return found


def _figures(source: Source, val: float, train: float | None) -> str:
    metric = source.result.metric
    if metric == "top1":
        text = f"the frozen probe gets {_percent(val)} of the validation images right"
        return text if train is None else f"{text}, {_percent(train)} of its training images"
    text = f"the frozen probe has {METRIC_WORDS[metric]} {_percent(val)} on the validation images"
    return text if train is None else f"{text}, {_percent(train)} on its training images"


def _mirror(begun: Begun) -> list[str]:
    """Return a warning where augmentation mirrors images that a mirror changes."""
    options = begun.training.options
    if begun.mirror is not None:
        return []
    if not options.policy().flip or options.start != "probe" or begun.training.progress.updates:
        return []
    test = mirror_test(begun.source, begun.training)
    if not test.harmful:
        return []
    told = mirror_words(test, several=begun.training.feed.several)
    return [f"{told}: a mirror changes what they show, so train without it, as with --augment crop"]


def mirror_words(test: MirrorTest, *, several: bool) -> str:
    """Return what the probe made of mirrored images."""
    told = f"of {test.n} validation images the probe gets {_percent(test.plain)} right"
    if several:
        told = f"on {test.n} validation images the probe has mAP {_percent(test.plain)}"
    return f"{told}, mirrored {_percent(test.mirrored)}"


def _curve(source: Source) -> list[str]:
    """Return what the learning curve promises of more images, as a measure of what to expect."""
    try:
        curve = load_learning_curve(source.folder)
    except DataError:
        return []
    bands = sorted(curve.bands().items()) if curve is not None else []
    if len(bands) < 2:
        return []
    (less, low), (more, high) = bands[-2:]
    return [
        f"from {less} to {more} images a class the frozen probe gained "
        f"{100 * (high.mean - low.mean):+.1f} points: collecting as many again may be worth as "
        "much as training the network"
        if high.mean - low.mean >= 0.01
        else f"from {less} to {more} images a class the frozen probe gained "
        f"{100 * (high.mean - low.mean):+.1f} points: more images alone will not help much"
    ]


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"
