"""Sentences of advice before and after a fine-tuning: whether it is likely to help, what to try."""

from __future__ import annotations

from collections.abc import Sequence
from math import isclose

from probe.errors import DataError
from probe.evaluation.learning_curve import load_learning_curve
from probe.evaluation.task import Task
from probe.finetune.mirror import MirrorTest, mirror_test
from probe.finetune.options import LEARNING_RATES, NONE, Options
from probe.finetune.promotion import Begun
from probe.finetune.source import Source
from probe.heads.history import Epoch
from probe.runs.results import METRIC_WORDS

FEW, LITTLE_LEFT = 20, 0.02  # images per class; error of the probe


def advice(begun: Begun, *, folds: bool = False) -> list[str]:
    """Return sentences on what is known before the first step and what follows from it."""
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
            f"--freeze and a lower layer's name{'' if folds else ', or --compare last-layer'}"
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
    """Describe the recipe in a few words, since a verdict on it is no verdict on fine-tuning."""
    frozen = "" if options.freeze == NONE else f", frozen: {options.freeze}"
    return (
        f"one recipe: {options.optimizer}, lr {options.rate:g}, warmup {options.warmup:g}, "
        f"batches of {options.batch_size}, {options.length}, augment {options.augment}{frozen}"
    )


def other_recipes(
    options: Options, history: Sequence[Epoch], start: float, rates: Sequence[float] = ()
) -> list[str]:
    """Return options that may do better than a recipe without a clear gain, the likeliest first.

    Parameters
    ----------
    options : Options
        The recipe that was tried.
    history : sequence of Epoch
        Its epochs.
    start : float
        Top-1 or mAP on validation before the first step, 0 to 1.
    rates : sequence of float
        Learning rates that were tried, too, and are no advice.

    Returns
    -------
    list of str
        Options of `probe promote`, each with its reason.
    """
    found = []
    gentle = f"--lr {options.rate / 10:.2g} --warmup {max(1.0, options.warmup):g}"
    shorter = not any(isclose(options.rate / 10, one) for one in rates)
    fell = 100 * (start - history[0].val_score) if history else 0.0
    if fell > 0 and shorter:
        found.append(f"{gentle} (the first epoch lost {fell:.2f} points: shorter steps)")
    if options.optimizer != "adamw":
        found.append(f"--optimizer adamw --lr {LEARNING_RATES['adamw']:g} (steps of even length)")
    if fell <= 0 and shorter:
        found.append(f"{gentle} (shorter steps)")
    if history and len(history) > 1 and max(history, key=lambda one: one.rank) is history[-1]:
        longer = f"--epochs {2 * options.epochs}"
        if options.steps is not None:
            longer = f"--steps {2 * options.steps}"
        found.append(f"{longer} (the last epoch was the best)")
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
    """Return a warning if augmentation mirrors images that the probe then gets wrong."""
    options = begun.training.options
    if begun.mirror is not None:
        return []
    if not options.policy().flip or options.start != "probe" or begun.training.progress.updates:
        return []
    test = mirror_test([begun.source], begun.training)
    if not test.harmful:
        return []
    text = mirror_words(test, begun.training.feed.task)
    return [f"{text}: a mirror changes what they show, so train without it, as with --augment crop"]


def mirror_words(test: MirrorTest, task: Task) -> str:
    """Describe the probe's accuracy on images and their mirror images."""
    text = f"of {test.n} validation images the probe gets {_percent(test.plain)} right"
    if not task.exclusive:
        figure = f"{task.metric_label} {_percent(test.plain)}"
        text = f"on {test.n} validation images the probe has {figure}"
    return f"{text}, mirrored {_percent(test.mirrored)}"


def _curve(source: Source) -> list[str]:
    """Return what the learning curve says of more training images, as a comparison."""
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
