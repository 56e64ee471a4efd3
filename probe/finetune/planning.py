"""What a training takes at its peak, planned before anything is computed, and how it takes less.

A batch is computed in equal parts whose gradients are added up. The step is that of the batch: each
part's loss is a mean over as many images, and what is drawn is drawn for the batch as a whole. Two
things need the batch in one piece: BatchNorm with its statistics, and choosing its hardest images.

What MXNet plans for a graph is known once it is bound, before a page is touched; what oneDNN adds
in its own layouts is not. Seen on VGG16, ResNet-18 and EfficientNet-Lite0 at 128 and 224 pixels,
4 to 24 images: 1.04 to 1.7 times the plan, so `FACTOR` lies above.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from probe.errors import UsageError
from probe.finetune.kept import KeptImages
from probe.finetune.optimizers import STATES
from probe.finetune.options import Options
from probe.finetune.train import AT_ONCE
from probe.runs.memory import resident

if TYPE_CHECKING:
    from probe.finetune.train import Training

FACTOR = 1.8  # of what MXNet plans
RESERVE = 150_000_000  # pictures, figures, images on their way
SHARE = 8  # of the limit that a run which goes on gives to decoded images, and to frozen maps
SAMPLE = 8  # images that the plan of a graph is read from; it grows in proportion


@dataclass(frozen=True, kw_only=True)
class Limit:
    """What a training may take, and what was made of it.

    Parameters
    ----------
    bytes : int or None
        Of the process; None for any number.
    part : int or None
        Images computed at a time, decided before, 0 for whole batches; None decides by the bytes.
    controls : tuple of Options
        Of trainings that follow in the same process, in the same parts.
    """

    bytes: int | None = None
    part: int | None = None
    controls: tuple[Options, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a training stays within its limit.

    Parameters
    ----------
    limit : int
        Bytes.
    part : int or None
        Images computed at a time, while training and predicting; None: as without a limit.
    needed, whole : int
        Bytes at the peak, so and with whole batches.
    """

    limit: int
    part: int | None
    needed: int
    whole: int


def make_plan(training: Training, limit: int, controls: tuple[Options, ...] = ()) -> Plan:
    """Return the largest parts of a batch that fit; see `Limit` on `controls`.

    Raises
    ------
    UsageError
        Not even one image at a time fits, or the batch cannot be divided.
    """
    batch, network = training.feed.batch_size, training.network
    train, predict = training.planned(SAMPLE)
    weights = 4 * len(network.state.weights)
    moments = STATES[training.options.optimizer]
    copies = max(2 * (1 + moments), 3)  # as a checkpoint is written
    copies += (2 + moments) if controls else 0  # the run's own numbers stay beside a control's
    fixed = resident() + (2 + copies) * weights + RESERVE

    def need(trained: int, predicted: int) -> int:
        return int(fixed + FACTOR * (train * trained + predict * predicted) / SAMPLE)

    at_once = min(AT_ONCE, max(1, len(training.val)))
    whole = need(batch, at_once)
    if whole <= limit:
        return Plan(limit=limit, part=None, needed=whole, whole=whole)
    parts = [one for one in range(batch, 0, -1) if batch % one == 0]
    moves = bool(training.network.state.aux.places)
    indivisible = _indivisible(training.options, moves)
    for one in controls:
        if not indivisible and (found := _indivisible(one, moves)):
            indivisible = f"a control of --compare with {found}"
    for part in parts[:1] if indivisible else parts:
        needed = need(part, min(part, at_once))
        if needed <= limit:
            return Plan(limit=limit, part=part, needed=needed, whole=whole)
    least = need(batch, min(batch, at_once)) if indivisible else need(1, 1)
    network_words = f"{network.arch.spec.name} at {max(training.feed.sizes)} pixels"
    told = f"--max-memory {in_units(limit)} is too little: {network_words} takes about "
    if indivisible and need(1, 1) <= limit:
        raise UsageError(
            f"{told}{in_units(least, up=True)} with batches of {batch}, which {indivisible} needs "
            "in one piece; take a smaller --batch-size"
        )
    raise UsageError(f"{told}{in_units(need(1, 1), up=True)} with one image at a time")


def follow(training: Training, limit: Limit) -> Plan | None:
    """Let a training compute so many images at a time as its limit allows."""
    if limit.bytes is None:
        return None
    images = training.feed.split.images
    plan, share, part = None, limit.bytes // SHARE, limit.part
    if part is None:
        plan = make_plan(training, limit.bytes, limit.controls)
        share, part = (limit.bytes - plan.needed) // 2, plan.part
    training.network.part = part or None  # a run that goes on computes as it did
    if isinstance(images, KeptImages):
        images.limit(share)
    training.cached_bytes = min(training.cached_bytes, share)
    return plan


def _indivisible(options: Options, moves: bool) -> str:
    """Return the option that needs batches in one piece; empty if none does.

    Parameters
    ----------
    moves : bool
        The network has running statistics.
    """
    if options.ohem < 1:
        return "--ohem"
    return "--bn moving" if moves and options.batch_norm == "moving" else ""


def in_units(count: int, *, up: bool = False) -> str:
    """Return bytes as ``2.5GB`` or ``400MB``, as `--max-memory` takes them; `up` rounds up."""
    unit, name, step = (1e9, "GB", 10) if count >= 1e9 else (1e6, "MB", 0.1)
    number = math.ceil(count / unit * step) / step if up else count / unit
    return f"{number:.3g}{name}"
