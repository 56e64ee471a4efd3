"""Which images a step sees, in which order and at what size, and how they are loaded ahead of it.

A pass is ``n // batch_size`` whole batches, so that shapes stay fixed; the rest, another one each
epoch, sits out. A dataset smaller than a batch is one batch of all its images.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.short_repr import short_repr
from probe.datasets import Split
from probe.finetune.augment import Augment
from probe.finetune.images import augmented
from probe.finetune.kept import KeptImages
from probe.finetune.options import Options, Sampling
from probe.finetune.randomness import IMAGE, MIXUP, ORDER, SIZE, generator
from probe.preprocess.spec import PreprocessSpec, UInt8Image

Rows = NDArray[np.intp]
AHEAD = 3  # batches in memory beyond the one in the network


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Images of one pass forward and their targets.

    Parameters
    ----------
    step : int
        Within the epoch, from 0.
    rows : intp, (N,)
        Of the training split.
    images : uint8, (N, S, S, 3), RGB
    targets : float32, (N, K)
        Rows sum to 1.
    """

    __repr__ = short_repr

    step: int
    rows: Rows
    images: NDArray[np.uint8]
    targets: NDArray[np.float32]


def epoch_order(
    labels: NDArray[np.integer[Any]],
    sampling: Sampling,
    weights: NDArray[np.float64] | None,
    seed: int,
    epoch: int,
) -> Rows:
    """Return the rows of an epoch in order, (n,).

    Parameters
    ----------
    sampling : {"shuffle", "balanced", "weighted"}
        ``shuffle`` has each row once; ``balanced`` each class equally often, its rows in turn;
        ``weighted`` draws rows with replacement.
    weights : float64, (n,), optional
        Of ``weighted``, from 0 up.
    """
    rng, count = generator(seed, ORDER, epoch), len(labels)
    if sampling == "weighted":
        assert weights is not None
        return rng.choice(count, count, p=weights / weights.sum()).astype(np.intp)
    if sampling == "shuffle":
        return rng.permutation(count).astype(np.intp)
    classes = np.unique(labels)
    each = -(-count // len(classes))
    chosen = []
    for one in classes:
        rows = np.flatnonzero(labels == one)
        turns = [rng.permutation(rows) for _ in range(-(-each // len(rows)))]
        chosen.append(np.concatenate(turns)[:each])
    mixed = np.stack(chosen, axis=1).ravel()[:count]  # one of each class, again and again
    return rng.permutation(mixed).astype(np.intp)


@dataclass(frozen=True, kw_only=True, eq=False)
class Feed:
    """Everything that turns (epoch, step) into a batch.

    Parameters
    ----------
    split : Split
        The training images.
    targets : intp, (n,), or of several labels 0 and 1, (n, K)
        Of each image its place among the head's classes, or which of them it has.
    n_classes : int
    preprocess : PreprocessSpec
    options : Options
    weights : float64, (n,), optional
        Of weighted sampling.
    workers : int
        Threads that decode and augment.
    """

    __repr__ = short_repr

    split: Split
    targets: Rows
    n_classes: int
    preprocess: PreprocessSpec
    options: Options
    weights: NDArray[np.float64] | None = None
    workers: int = 2

    @property
    def several(self) -> bool:
        """Whether an image may have several labels."""
        return self.targets.ndim == 2

    @property
    def batch_size(self) -> int:
        """Images a batch."""
        return min(self.options.batch_size, len(self.targets))

    @property
    def batches(self) -> int:
        """Batches an epoch."""
        return len(self.targets) // self.batch_size

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sides that training images may have."""
        return self.options.sizes or (self.preprocess.size,)

    def order(self, epoch: int) -> NDArray[np.intp]:
        """Return the rows of each batch, (batches, batch_size)."""
        options = self.options
        order = epoch_order(self.targets, options.sampling, self.weights, options.seed, epoch)
        return order[: self.batches * self.batch_size].reshape(self.batches, self.batch_size)

    def size_of(self, epoch: int, step: int) -> int:
        """Return the side of a batch's images."""
        if len(self.sizes) == 1:
            return self.sizes[0]
        return int(generator(self.options.seed, SIZE, epoch, step).choice(self.sizes))

    def target_rows(self, rows: Rows) -> NDArray[np.float32]:
        """Return smoothed targets, (N, K)."""
        smooth = self.options.label_smoothing
        if self.several:
            return ((1 - smooth) * self.targets[rows] + smooth / 2).astype(np.float32)
        found = np.full((len(rows), self.n_classes), smooth / self.n_classes, np.float32)
        found[np.arange(len(rows)), self.targets[rows]] += 1 - smooth
        return found

    def prepare(self) -> None:
        """Read what fits into memory, before the first epoch."""
        if isinstance(self.split.images, KeptImages):
            self.split.images.fill(self.workers)

    def load(self, row: int, size: int, policy: Augment, where: tuple[int, ...]) -> UInt8Image:
        """Return one image; `where` is its epoch and how often it came before in it."""
        spec = self.preprocess
        spec = spec if size == spec.size else replace(spec, size=size)
        rng = generator(self.options.seed, IMAGE, *where, row)
        return augmented(self.split.images.image(row), spec, policy, rng)

    def epoch(self, epoch: int, first: int = 0) -> Generator[Batch, None, None]:
        """Yield the batches of an epoch from the step `first` on, the next ones loaded ahead."""
        order, policy = self.order(epoch), self.options.policy()
        times = _times_before(order.ravel()).reshape(order.shape)
        plans = [
            _Plan(step=step, rows=order[step], times=times[step], size=self.size_of(epoch, step))
            for step in range(first, len(order))
        ]

        def load(plan: _Plan, part: Rows) -> list[UInt8Image]:
            return [
                self.load(int(plan.rows[i]), plan.size, policy, (epoch, int(plan.times[i])))
                for i in part
            ]

        for plan, images in _ahead(plans, load, self.workers):
            batch = Batch(
                step=plan.step, rows=plan.rows, images=images, targets=self.target_rows(plan.rows)
            )
            if self.options.mixup:
                rng = generator(self.options.seed, MIXUP, epoch, plan.step)
                batch = mixed(batch, self.options.mixup, rng)
            yield batch


@dataclass(frozen=True, kw_only=True, eq=False)
class _Plan:
    step: int
    rows: Rows
    times: Rows
    size: int


def _ahead(
    plans: Sequence[_Plan],
    load: Callable[[_Plan, Rows], list[UInt8Image]],
    workers: int,
) -> Iterator[tuple[_Plan, NDArray[np.uint8]]]:
    """Yield each batch's images in order, loaded on threads while the network is busy."""
    pool = ThreadPoolExecutor(max(workers, 1), thread_name_prefix="augment")
    waiting: deque[tuple[_Plan, list[Future[list[UInt8Image]]]]] = deque()
    upcoming = iter(plans)

    def submit() -> None:
        plan = next(upcoming, None)
        if plan is not None:
            parts = np.array_split(np.arange(len(plan.rows)), max(workers, 1))
            waiting.append((plan, [pool.submit(load, plan, part) for part in parts if len(part)]))

    try:
        for _ in range(AHEAD):
            submit()
        while waiting:
            plan, futures = waiting.popleft()
            images = np.stack([image for future in futures for image in future.result()])
            submit()
            yield plan, images
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def mixed(batch: Batch, alpha: float, rng: np.random.Generator) -> Batch:
    """Mix each image and its target with another of the batch; one share for all of them.

    Pixels are rounded, so that batches stay uint8.

    References
    ----------
    Zhang et al., mixup, arXiv:1710.09412.
    """
    images, targets = batch.images, batch.targets
    share, other = np.float32(rng.beta(alpha, alpha)), rng.permutation(len(images))
    blend = images * share + images[other] * (1 - share)
    return replace(
        batch,
        images=(blend + 0.5).astype(np.uint8),
        targets=targets * share + targets[other] * (1 - share),
    )


def _times_before(rows: Rows) -> Rows:
    """Return for each place how often its row came before, (n,): mostly 0."""
    order = np.argsort(rows, kind="stable")
    ranked = rows[order]
    starts = np.r_[0, np.flatnonzero(np.diff(ranked)) + 1]
    lengths = np.diff(np.r_[starts, len(rows)])
    found = np.empty(len(rows), np.intp)
    found[order] = np.arange(len(rows)) - np.repeat(starts, lengths)
    return found
