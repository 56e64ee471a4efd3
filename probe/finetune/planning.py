"""Memory and time of a training: what it needs, planned before it starts, and how it needs less.

To need less, a batch is computed in equal parts whose gradients are added up. The step is the same:
each part's loss is a mean over as many images, and random numbers are drawn for the whole batch.
BatchNorm with the batch's statistics and choosing the hardest images need the batch in one piece.

The memory that MXNet plans for a graph is known once it is bound, before any is used; what oneDNN
adds for its own layouts is not. Measured on VGG16, ResNet-18 and EfficientNet-Lite0
at 128 and 224 pixels with 4 to 24 images: 1.04 to 1.7 times the plan, so `FACTOR` lies above.
"""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from probe.errors import UsageError
from probe.finetune.batches import KeptImages
from probe.finetune.optimizers import STATES
from probe.finetune.options import Options
from probe.finetune.train import AT_ONCE
from probe.runs.memory import resident

if TYPE_CHECKING:
    from probe.finetune.train import Training

FACTOR = 1.8  # of what MXNet plans
RESERVE = 150_000_000  # bytes for decoding, drawing and the like
SHARE = 8  # a resumed run gives an eighth of the limit to decoded images, and to frozen outputs
STATUS = Path("/proc/self/status")
MUCH = 2_000_000_000  # bytes, from which on an option that needs less is named
MEASURED = 3  # batches that are timed, after a first one that also allocates
SAMPLE = 8  # images that a graph is bound for; its memory grows in proportion


@dataclass(frozen=True, kw_only=True)
class Limit:
    """How much memory a training may use, and in which parts its batches are computed.

    Parameters
    ----------
    bytes : int or None
        Limit on the whole process; None for no limit.
    part : int or None
        Images computed at a time if that was decided before, 0 for whole batches; None decides.
    controls : tuple of Options
        Options of further trainings in the same process, computed in the same parts.
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
        Images computed at a time in training and prediction; None as without a limit.
    needed, whole : int
        Bytes at the peak, with these parts and with whole batches.
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
        Not even one image at a time fits, or a batch that must not be divided does not.
    """
    batch, network = training.feed.batch_size, training.network
    train, predict = training.planned(SAMPLE)
    weights = 4 * len(network.state.weights)
    moments = STATES[training.options.optimizer]
    copies = max(2 * (1 + moments), 3)  # as a checkpoint is written
    copies += (
        (2 + moments) if controls else 0
    )  # the run's own weights stay in memory beside a control's
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
    text = f"--max-memory {in_units(limit)} is too little: {network_words} takes about "
    if indivisible and need(1, 1) <= limit:
        raise UsageError(
            f"{text}{in_units(least, up=True)} with batches of {batch}, which {indivisible} needs "
            "in one piece; take a smaller --batch-size"
        )
    raise UsageError(f"{text}{in_units(need(1, 1), up=True)} with one image at a time")


def follow(training: Training, limit: Limit) -> Plan | None:
    """Set how many images a training computes at a time, and return the plan if one was made."""
    if limit.bytes is None:
        return None
    images = training.feed.split.images
    plan, share, part = None, limit.bytes // SHARE, limit.part
    if part is None:
        plan = make_plan(training, limit.bytes, limit.controls)
        share, part = (limit.bytes - plan.needed) // 2, plan.part
    training.network.part = part or None  # a resumed run keeps its parts
    if isinstance(images, KeptImages):
        images.limit(share)
    training.cached_bytes = min(training.cached_bytes, share)
    return plan


def _indivisible(options: Options, moves: bool) -> str:
    """Return the option that forbids to divide a batch; empty if none does.

    Parameters
    ----------
    moves : bool
        The network has running statistics, which move with the batch's.
    """
    if options.ohem < 1:
        return "--ohem"
    return "--bn moving" if moves and options.batch_norm == "moving" else ""


def in_units(count: int, *, up: bool = False) -> str:
    """Return bytes as ``2.5GB`` or ``400MB``, as `--max-memory` takes them; `up` rounds up."""
    unit, name, step = (1e9, "GB", 10) if count >= 1e9 else (1e6, "MB", 0.1)
    number = math.ceil(count / unit * step) / step if up else count / unit
    return f"{number:.3g}{name}"


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """How long a training takes, from a few measured batches.

    Parameters
    ----------
    batch_seconds : float
        Seconds of one batch without the optimizer's step.
    epoch_seconds : float
        All batches and the validation images.
    seconds : float
        All epochs that are left.
    memory : int or None
        Bytes of the process at its peak: the most so far, with prediction and a few batches
        behind it, and the copies for a checkpoint. None where the system does not tell.
    """

    batch_seconds: float
    epoch_seconds: float
    seconds: float
    memory: int | None = None


def estimate(training: Training, predict_seconds: float) -> Estimate:
    """Measure a few batches in the last stage of unfreezing, without an optimizer step.

    Parameters
    ----------
    predict_seconds : float
        Seconds per validation image.
    """
    state, options = training.network.state, training.options
    training.enter_stage(training.epochs)
    kept, times = state.aux.array.copy(), list[float]()
    batches = training.batches(1, 0)
    started = time.perf_counter()
    for number, batch in enumerate(batches):
        training.forward(batch, 1).wait_to_read()
        state.norm()  # waits for the gradient
        times.append(time.perf_counter() - started)
        if number >= MEASURED:
            break
        started = time.perf_counter()
    batches.close()
    state.aux.array[:] = kept  # running statistics moved with each batch
    state.gradients[:] = 0
    each = float(np.median(times[1:] or times))  # the first one allocates, too
    watching = predict_seconds * len(training.val)
    steps = training.steps - training.progress.updates
    left = each * (training.total - len(training.log)) + watching * -(-steps // training.updates)
    held, copied = peak(), 4 * len(state.weights) * (1 + STATES[options.optimizer])
    return Estimate(
        batch_seconds=each, epoch_seconds=each * training.feed.batches + watching, seconds=left,
        memory=None if held is None else held + copied,
    )  # fmt: skip


def peak() -> int | None:
    """Return the largest memory of this process so far in bytes; None if it is not known."""
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
    """Describe the memory needed and, where it is much, name an option that needs less.

    Parameters
    ----------
    memory : int
        Measured bytes.
    limit : int or None
        Bytes of `--max-memory`.
    part : int or None
        Images computed at a time; None for whole batches.
    whole : int
        Bytes planned for whole batches; 0 if there was no plan.
    """
    text = f"about {memory / 1e9:.1f} GB at the peak"
    if limit is not None:
        option = f"--max-memory {in_units(limit)}"
        text += f", within {option}" if memory <= limit else f", MORE than {option}"
        if part is None:
            return text
        instead = f" (whole ones would take up to {in_units(whole, up=True)})" if whole else ""
        each = "an image" if part == 1 else f"{part} images"
        return f"{text}: batches of {batch_size} are computed {each} at a time{instead}"
    half = batch_size // 2
    if memory < MUCH or not half:
        return text
    if options.batch_norm == "moving" or options.ohem < 1:
        return f"{text}; --batch-size {half} takes less, and is another training"
    return f"{text}; --max-memory {in_units(memory // 2, up=True)} takes the same steps within less"
