"""Build the network before its first step, and check that it gives the run's predictions."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.engines import forward
from probe.errors import PromoteError, UsageError
from probe.evaluation.task import task_of
from probe.finetune.batches import Feed, KeptImages
from probe.finetune.graph import INVERSE, MEAN, Architecture, head_shapes
from probe.finetune.network import Network
from probe.finetune.options import Options
from probe.finetune.randomness import WEIGHTS, generator
from probe.finetune.source import Source
from probe.finetune.state import State
from probe.finetune.train import Training
from probe.heads.normalize import Normalizer, fit_normalizer
from probe.preprocess.resize import resize_image
from probe.weights import random_parameters

if TYPE_CHECKING:
    from probe.heads.base import LinearHead

TOLERANCE = {"float32": 2e-3, "float16": 2e-2}  # of a probability, by the stored features' type
SAMPLE = 512  # training images that normalise the features of a random network

Float32 = NDArray[np.float32]


def make_training(
    source: Source,
    options: Options,
    folder: Path,
    *,
    weights: NDArray[np.float64] | None = None,
    workers: int = 2,
) -> Training:
    """Build the network at its start, with its batches and the training loop.

    Parameters
    ----------
    folder : Path
        Folder for checkpoints; nothing is written yet.
    weights : float64, (n_train,), optional
        Weights of weighted sampling.

    Raises
    ------
    UsageError
        Options do not fit this network or these images.
    """
    classes = np.asarray(source.head.classes_)
    feed = Feed(
        split=replace(source.train, images=KeptImages(source.train.images)),
        targets=task_of(source.train.labels).encode(source.train.labels, classes),
        n_classes=len(classes), preprocess=source.preprocess, options=options, weights=weights,
        workers=workers,
    )  # fmt: skip
    _check(source, options, feed)
    backbone, head, normalizer = _beginning(source, options)
    fixed = _fixed(source, normalizer)
    state = State(
        parameters=backbone | head, fixed=fixed, optimizer=options.optimizer, ema=options.ema
    )
    hardest = max(1, round(options.ohem * feed.batch_size)) if options.ohem < 1 else 0
    arch = Architecture(
        spec=source.backbone, layer=source.layer, pool=source.pool, preprocess=source.preprocess,
        normalize=normalizer.kind, widths=tuple(len(b) for _, b in source.head.layers()),
        global_bn=options.batch_norm == "frozen", hardest=hardest, task=feed.task,
    )  # fmt: skip
    network = Network(arch, state, batch_size=feed.batch_size, accumulate=options.accumulate > 1)
    return Training(network, feed, source.val, classes, folder)


def _check(source: Source, options: Options, feed: Feed) -> None:
    if (feed.targets < 0).any():
        raise UsageError(f"{source.folder}: a class of the training images is not in the head")
    if (options.sampling == "weighted") != (feed.weights is not None):
        raise UsageError("--sampling weighted and --sampling-weights FILE go together")
    if options.sampling == "balanced":
        feed.task.require_one_label(
            "--sampling balanced draws classes alike, for images of one label each"
        )
    if options.accumulate > feed.batches:
        raise UsageError(
            f"--accumulate {options.accumulate}: an epoch has only {feed.batches} batches"
        )
    own = source.preprocess.size
    for size in feed.sizes:
        source.backbone.check_size(source.layer, size)
        if not own <= 2 * size <= 4 * own:
            raise UsageError(
                f"--train-sizes {size}: the run's own size is {own}, at which every epoch is "
                f"validated; train on sides from {(own + 1) // 2} to {2 * own}"
            )
    fixed_size = source.layer.kind == "vector" or source.pool in ("flatten", "none")
    if feed.sizes != (source.preprocess.size,) and fixed_size and source.layer.kind != "gap":
        raise UsageError(
            f"--train-sizes: features of {source.layer.name} with --pool {source.pool} have "
            "another length at another size; only averaged or largest maps do not"
        )


def _beginning(
    source: Source, options: Options
) -> tuple[dict[str, Float32], dict[str, Float32], Normalizer]:
    """Return the parameters of backbone and head, and the normalisation between them."""
    backbone, normalizer = dict(source.parameters), source.head.normalizer_
    if options.start == "scratch":
        seed = scratch_seed(options.seed)
        backbone = dict(random_parameters(seed, source.backbone, source.layer).parameters)
        moving = options.batch_norm == "moving" and any("running" in name for name in backbone)
        # with the batch's statistics in BatchNorm, features are of order 1 without a normaliser
        normalizer = (
            fit_normalizer("none", np.empty((0, source.head.n_features_in_), np.float32))
            if moving
            else _normalizer_of(source, options, backbone)
        )
    if options.start == "probe":
        head = {
            name: np.asarray(array, np.float32)
            for number, (weight, bias) in enumerate(source.head.layers())
            for name, array in ((f"head.{number}.weight", weight), (f"head.{number}.bias", bias))
        }
    else:
        head = _xavier(source, options.seed)
    if options.start == "zeros":  # hidden layers of zeros would never learn
        last = len(source.head.layers()) - 1
        head |= {
            name: np.zeros_like(head[name]) for name in head if name.startswith(f"head.{last}.")
        }
    return backbone, head, normalizer


def scratch_seed(seed: int) -> int:
    """Return N of the ``random:N`` that a network without pretrained weights starts from."""
    return int(generator(seed, WEIGHTS).integers(2**32))


def _xavier(source: Source, seed: int) -> dict[str, Float32]:
    """Return a Xavier-initialised head: weights uniform in ±sqrt(6 / (in + out)), biases 0.

    References
    ----------
    Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural networks",
    AISTATS 2010, equation 16.
    """
    widths, found = [len(bias) for _, bias in source.head.layers()], {}
    for name, shape in head_shapes(source.head.n_features_in_, widths).items():
        if name.endswith("bias"):
            found[name] = np.zeros(shape, np.float32)
            continue
        bound = np.sqrt(6 / sum(shape))
        rng = generator(seed, WEIGHTS, int(name.split(".")[1]))
        found[name] = rng.uniform(-bound, bound, shape).astype(np.float32)
    return found


def _normalizer_of(source: Source, options: Options, backbone: Mapping[str, Float32]) -> Normalizer:
    """Return mean and deviation of a random network's features on some training images.

    The probe's normaliser is for other features; without any, pixels from 0 to 255 would give
    scores in the hundreds.
    """
    rng = generator(options.seed, WEIGHTS, 1 << 20)
    count = min(SAMPLE, len(source.train))
    rows = np.sort(
        rng.choice(len(source.train), count, replace=False)
    )  # packed files are read in order
    found = []
    for some in np.array_split(rows, -(-count // 32)):
        images = [resize_image(source.train.images.image(int(row)), source.preprocess)
                  for row in some]  # fmt: skip
        cut = (source.layer, source.pool)
        (output,) = forward(source.backbone, backbone, [cut], source.preprocess, np.stack(images))
        found.append(output.reshape(len(some), -1))
    return fit_normalizer("standard", np.concatenate(found))


def _fixed(source: Source, normalizer: Normalizer) -> dict[str, Float32]:
    spec = source.preprocess
    std = np.array(spec.std, np.float64)
    fixed = {
        "gain": (spec.scale / std).reshape(1, 3, 1, 1),
        "shift": (np.array(spec.mean, np.float64) / std).reshape(1, 3, 1, 1),
        MEAN: normalizer.mean[None],
        INVERSE: 1 / normalizer.scale[None],
    }
    return {name: value.astype(np.float32) for name, value in fixed.items()}


def check_start(source: Source, probabilities: Float32) -> float:
    """Return the largest difference to the probe's probabilities on validation images.

    Parameters
    ----------
    probabilities : float32, (n_val, K)
        Those of the network before its first step, from pixels.

    Raises
    ------
    PromoteError
        The network is not that of the run.
    """
    kept_predictions, own = source.predictions["val"], np.asarray(source.head.classes_)
    if kept_predictions.classes is None:
        known = kept_predictions.probabilities[:, own]
    else:  # of many classes only the most probable are kept
        whole = np.zeros((len(kept_predictions), len(source.classes)), probabilities.dtype)
        whole[:, own] = probabilities
        known = kept_predictions.probabilities
        probabilities = np.take_along_axis(whole, kept_predictions.classes.astype(np.intp), axis=1)
    difference = np.abs(known - probabilities).max(axis=1)
    worst = int(difference.argmax())
    if not difference[worst] <= TOLERANCE[source.dtype]:
        wrong = int((difference > TOLERANCE[source.dtype]).sum())
        raise PromoteError(
            f"{source.folder}: from pixels the network does not give the probe's validation "
            f"predictions: {wrong} of {len(known)} differ by more than "
            f"{TOLERANCE[source.dtype]:g}, most by {difference[worst]:.3g} "
            f"({source.val.ids[worst]}). The head, the weights or the predictions in that folder "
            "are not of one run; fit the head again"
        )
    return float(difference[worst])


def head_of(
    source: Source, arch: Architecture, values: Mapping[str, Float32], fixed: Mapping[str, Any]
) -> LinearHead:
    """Return the trained head as an estimator on the trained backbone's features."""
    head: LinearHead = copy.copy(source.head)
    *hidden, (coef, intercept) = [
        (values[f"head.{number}.weight"], values[f"head.{number}.bias"])
        for number in range(len(arch.widths))
    ]
    head.hidden_, head.coef_, head.intercept_ = hidden, coef, intercept
    standard = arch.normalize == "standard"
    mean, scale = fixed[MEAN][0].astype(np.float64), 1 / fixed[INVERSE][0].astype(np.float64)
    head.normalizer_ = Normalizer(
        kind=source.head.normalizer_.kind if not standard else "standard",
        mean=mean if standard else np.zeros_like(mean),
        scale=scale if standard else np.ones_like(scale),
    )
    head.history_ = []
    return head
