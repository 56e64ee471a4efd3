"""Foretell what fine-tuning a run's network will gain and cost, from a small draw of its images.

An eighth of the training images is trained on as all of them would be, from a head of the run's
kind that was fitted on the same eighth. Held-out images, never test images, are scored before and
after. What such a figure is worth says `probe.finetune.record`. A second draw, of a quarter, made
the record no better (`benchmarks/forecast.py`).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.core.short_repr import short_repr
from probe.errors import UsageError
from probe.evaluation.parts import Part
from probe.evaluation.predictions import Predictions
from probe.evaluation.splitting import validation_split
from probe.finetune.finish import Gain, gain_of, units_of
from probe.finetune.options import Options
from probe.finetune.planning import Estimate, Limit, follow
from probe.finetune.promotion import Begun
from probe.finetune.record import Expected, expected, track
from probe.finetune.source import Source
from probe.finetune.start import head_of, make_training
from probe.finetune.train import Observer, Training

if TYPE_CHECKING:
    from probe.heads.base import LinearHead

SHARE = 8  # one in so many training images is drawn
EACH, LEAST = 2, 16  # images of the draw: for each class, and in all
SCORED = 2_000  # held-out images at most: more would make the answer no surer
NORMAL = 1.96  # standard errors that half a 95 % interval has


@dataclass(frozen=True, kw_only=True)
class Try:
    """A fine-tuning on a draw of the training images.

    Parameters
    ----------
    images : int
        Images of the draw.
    gain : Gain
        Over the head that was fitted on the draw, on held-out images.
    seconds : float
        Seconds of training.
    """

    images: int
    gain: Gain
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What fine-tuning on all training images is expected to gain and cost.

    Parameters
    ----------
    run : str
        The run's name.
    metric : {"top1", "map"}
    probe : float
        The run's figure on its held-out images.
    images : int
        Training images in all.
    expected : Expected
        The gain over the probe on new images, with a 95 % interval.
    tried : Try
        What was seen.
    cost : Estimate
        Seconds and memory of the fine-tuning itself.
    unlike : tuple of str
        In what it is unlike the fine-tunings that the record is of; empty where it is alike.
    """

    __repr__ = short_repr

    run: str
    metric: str
    probe: float
    images: int
    expected: Expected
    tried: Try
    cost: Estimate
    unlike: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain containers, as `--json` prints them."""
        tried = {**asdict(self.tried), "gain": self.tried.gain.to_json()}
        return {**asdict(self), "tried": tried, "unlike": list(self.unlike)}


def draw_rows(source: Source, options: Options) -> NDArray[np.intp]:
    """Return the training rows of a draw, ascending; each class has its share.

    Raises
    ------
    UsageError
        They would be too few, or the fine-tuning starts from another head than the probe's.
    """
    if options.start != "probe":
        raise UsageError(
            f"--start {options.start}: --forecast compares with the head that training starts "
            "from, so it is for --start probe"
        )
    labels, n_classes = source.train.labels, len(source.head.classes_)
    needed = max(LEAST, EACH * n_classes) * SHARE
    if len(labels) < needed:
        raise UsageError(
            f"{source.folder}: {len(labels)} training images of {n_classes} classes are too few "
            f"for --forecast, which trains on one in {SHARE} and wants {needed} for that; "
            "`probe promote` itself is quick on so few"
        )
    return validation_split(labels, len(labels) // SHARE, options.seed)[1]


def foretell(
    begun: Begun,
    cost: Estimate,
    rows: NDArray[np.intp],
    observer_for: Callable[[Training], AbstractContextManager[Observer]],
    *,
    max_memory: int | None = None,
) -> Forecast:
    """Fine-tune on a draw and return what to expect of all images.

    Parameters
    ----------
    begun : Begun
        The fine-tuning in question, before its first step.
    cost : Estimate
        Of it.
    rows : intp
        Training rows of the draw, see `draw_rows`.
    observer_for : callable
        From the training on the draw to what watches it.
    max_memory : int, optional
        Bytes that the process may use.

    Raises
    ------
    PromoteError
        The training diverged.
    """
    source = begun.source
    tried = try_draw(begun, rows, observer_for, max_memory=max_memory)
    seen, error = tried.gain.after - tried.gain.before, tried.gain.high - tried.gain.low
    found = expected(seen, error / (2 * NORMAL), len(source.train))
    room = np.clip((found.low, found.gain, found.high), -begun.score, 1 - begun.score)
    low, gain, high = room.tolist()
    return Forecast(
        run=source.name, metric=source.result.metric, probe=begun.score, images=len(source.train),
        expected=replace(found, low=low, gain=gain, high=high), tried=tried, cost=cost,
        unlike=_unlike(begun),
    )  # fmt: skip


def try_draw(
    begun: Begun,
    rows: NDArray[np.intp],
    observer_for: Callable[[Training], AbstractContextManager[Observer]],
    *,
    max_memory: int | None = None,
) -> Try:
    """Fine-tune on some training rows as on all, without watching it; see `foretell`."""
    source, training = begun.source, begun.training
    options, weights = training.options, training.feed.weights
    train = source.train.take(rows)
    features, _ = training.predict(train)
    training.network.release()
    head: LinearHead = source.head.for_draw(options.seed)
    head.fit(features, train.labels)
    scored = np.sort(np.random.default_rng(options.seed).permutation(len(source.val))[:SCORED])
    small = replace(source, train=train, val=source.val.take(scored), head=head)
    added = min(options.accumulate, max(1, len(rows) // options.batch_size))
    steps = options.steps and max(1, round(options.steps * len(rows) / len(source.train)))
    with tempfile.TemporaryDirectory() as place:
        other = make_training(
            small, replace(options, accumulate=added, steps=steps), Path(place),
            weights=None if weights is None else weights[rows], workers=training.feed.workers,
        )  # fmt: skip
        follow(other, Limit(bytes=max_memory, part=training.network.part or 0))
        before = _predictions(small, head, other.predict(small.val)[0])
        started = time.perf_counter()
        with observer_for(other) as observer:
            other.run_unwatched(observer)
        seconds, state = time.perf_counter() - started, other.network.state
        tuned = head_of(small, other.network.arch, state.best_values(), state.fixed)
        after = _predictions(small, tuned, other.predict(small.val)[0])
    return Try(images=len(rows), gain=gain_of("val", before, after), seconds=seconds)


def _predictions(source: Source, head: LinearHead, features: NDArray[np.float32]) -> Predictions:
    """Return a head's predictions of the held-out images."""
    val = source.val
    logits = Part(X=features, y=val.labels, ids=val.ids).predict_logits(head, len(source.classes))
    units = units_of(source.predictions["val"], val)
    return Predictions.of(val.ids, val.labels, logits, units=units)


def _unlike(begun: Begun) -> tuple[str, ...]:
    """Return in what a fine-tuning is unlike those of the record."""
    options, usual, found = begun.training.options, Options(), list[str]()
    if begun.mirror is not None:  # it has settled what `auto` is
        options = replace(options, augment=usual.augment)
    if replace(options, seed=usual.seed, lr=options.rate) != replace(usual, lr=usual.rate):
        found.append("another recipe than the default one")
    if begun.source.result.metric != "top1":
        found.append("mAP, where the record is of top-1")
    count, (least, most) = len(begun.source.train), track().images
    if not least <= count <= most:
        found.append(f"{count:,} training images, where the record is of {least:,} to {most:,}")
    return tuple(found)
