"""Training batches: the order of images, their size and augmentation, loaded ahead on threads.

An epoch is ``n // batch_size`` whole batches, so that shapes stay fixed; the images left over
differ in each epoch. A dataset smaller than a batch is one batch of all its images.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.files import replacing
from probe.core.short_repr import short_repr
from probe.datasets import Split
from probe.datasets.images.decode import OneImage
from probe.datasets.images.notes import Notes
from probe.datasets.spec import Images
from probe.evaluation.task import Task, task_of
from probe.finetune.augment import Augment, augmented
from probe.finetune.options import Options, Sampling
from probe.finetune.randomness import IMAGE, MIXUP, ORDER, SIZE, generator
from probe.preprocess.spec import PreprocessSpec, UInt8Image

Rows = NDArray[np.intp]
KEPT_BYTES = 512 << 20  # of decoded images
AHEAD = 3  # batches in memory beyond the one in the network


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Images of one forward pass and their targets.

    Parameters
    ----------
    step : int
        Number of the batch within the epoch, from 0.
    rows : intp, (N,)
        Row of each image in the training split.
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
    """Return the order of an epoch's rows, (n,).

    Parameters
    ----------
    sampling : {"shuffle", "balanced", "weighted"}
        ``shuffle`` takes each row once; ``balanced`` each class equally often, its rows in turn;
        ``weighted`` draws rows with replacement.
    weights : float64, (n,), optional
        Weights of ``weighted`` sampling, from 0 up.
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


class KeptImages:
    """Images of a dataset, of which `fill` keeps as many in memory as fit a budget of bytes.

    An epoch in shuffled order then costs no decoding: a packed dataset reads a whole file for one
    of its images, and JPEG files are decoded each time. What does not fit is read when needed.
    """

    def __init__(self, images: Images, budget: int = KEPT_BYTES) -> None:
        self._images, self._budget = images, budget
        self._kept: dict[int, UInt8Image] = {}
        self._filled = False

    def __len__(self) -> int:
        return len(self._images)

    @property
    def notes(self) -> Notes:
        """Notes on unusual images among those that were read."""
        found = getattr(self._images, "notes", None)
        return found if isinstance(found, Notes) else Notes()

    def content(self) -> NDArray[np.uint8]:
        """See Images."""
        return self._images.content()

    def image(self, row: int) -> UInt8Image:
        """See Images."""
        kept = self._kept.get(row)
        return self._images.image(row) if kept is None else kept

    def take(self, rows: NDArray[np.intp]) -> Images:
        """See Images."""
        return self._images.take(rows)

    def limit(self, budget: int) -> None:
        """Lower the budget to so many bytes; called before `fill`."""
        self._budget = min(self._budget, budget)

    def fill(self, workers: int) -> None:
        """Decode images in order until the budget is used up; each thread has a range of rows."""
        if self._filled or not len(self):
            return
        self._filled = True
        with ThreadPoolExecutor(max(workers, 1), thread_name_prefix="decode") as pool:
            parts = np.array_split(np.arange(len(self)), max(workers, 1))
            for found in pool.map(self._read, parts):
                self._kept |= found

    def _read(self, rows: NDArray[np.intp]) -> dict[int, UInt8Image]:
        share, found = self._budget * len(rows) // len(self), dict[int, UInt8Image]()
        for row in rows.tolist():
            image = self._images.image(row)
            share -= image.nbytes
            if share < 0:  # images differ in size
                break
            found[row] = image.copy()  # not a view of a whole file
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Feed:
    """Makes the batch of an epoch and a step.

    Parameters
    ----------
    split : Split
        The training images.
    targets : intp, (n,), or of several labels 0 and 1, (n, K)
        The index of each image's class among the head's, or for each class whether it has it.
    weights : float64, (n,), optional
        Weights of weighted sampling.
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
    def task(self) -> Task:
        """Whether an image has one label or may have several."""
        return task_of(self.targets)

    @property
    def batch_size(self) -> int:
        """Number of images in a batch."""
        return min(self.options.batch_size, len(self.targets))

    @property
    def batches(self) -> int:
        """Number of batches in an epoch."""
        return len(self.targets) // self.batch_size

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sides in pixels that training images may have."""
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
        """Return the smoothed targets of some rows, (N, K)."""
        smooth = self.options.label_smoothing
        return self.task.soft_targets(self.targets[rows], self.n_classes, smooth)

    def prepare(self) -> None:
        """Decode the images that fit into memory, before the first epoch."""
        if isinstance(self.split.images, KeptImages):
            self.split.images.fill(self.workers)

    def load(self, row: int, size: int, policy: Augment, where: tuple[int, ...]) -> UInt8Image:
        """Return one image, augmented; `where` is the epoch and how often it was drawn before."""
        spec = self.preprocess
        spec = spec if size == spec.size else replace(spec, size=size)
        rng = generator(self.options.seed, IMAGE, *where, row)
        with OneImage():  # a large one counts until it is resized
            return augmented(self.split.images.image(row), spec, policy, rng)

    def epoch(self, epoch: int, first: int = 0) -> Generator[Batch, None, None]:
        """Yield the batches of an epoch from the step `first` on."""
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
    """Yield the images of each batch in order, loaded on threads while the network computes."""
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
    """Mix each image and its target with those of another image of the batch (mixup).

    One weight holds for the batch. Pixels are rounded, so that batches stay uint8.

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
    """Return how often each entry of `rows` occurs before it, (n,): mostly 0."""
    order = np.argsort(rows, kind="stable")
    ranked = rows[order]
    starts = np.r_[0, np.flatnonzero(np.diff(ranked)) + 1]
    lengths = np.diff(np.r_[starts, len(rows)])
    found = np.empty(len(rows), np.intp)
    found[order] = np.arange(len(rows)) - np.repeat(starts, lengths)
    return found


LEAST = 96  # pixels that a picture is shown at, at the least
LEAST_SHARE = 0.25  # of a label that is named; smoothing gives less, mixing up to a half
GAP, LINE = 6, 14  # pixels between pictures, and of the text below each


def first_batch(feed: Feed) -> Batch:
    """Return the first batch of the first epoch."""
    batches = feed.epoch(1)
    try:
        return next(batches)
    finally:
        batches.close()


def draw_batch(batch: Batch, names: Sequence[str], path: Path, task: Task) -> None:
    """Write a contact sheet of a batch, augmentation included, as PNG, by rename.

    Small images are enlarged by whole pixels, so that what is seen is what the network gets.

    Parameters
    ----------
    names : sequence of str
        Names of the classes, in the order of the targets.
    """
    from PIL import Image, ImageDraw

    count, side = len(batch.images), batch.images.shape[1]
    scale = max(1, -(-LEAST // side))
    columns = min(8, count)
    rows = -(-count // columns)
    step_x, step_y = side * scale + GAP, side * scale + GAP + LINE
    sheet = Image.new("RGB", (columns * step_x + GAP, rows * step_y + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (image, target) in enumerate(zip(batch.images, batch.targets, strict=True)):
        left = GAP + number % columns * step_x
        top = GAP + number // columns * step_y
        large = np.repeat(np.repeat(image, scale, axis=0), scale, axis=1)
        sheet.paste(Image.fromarray(large), (left, top))
        caption = _caption(target, names, step_x, task)
        draw.text((left, top + side * scale), caption, fill="black")
    with replacing(path) as temporary:
        sheet.save(temporary, format="PNG")


def _caption(target: NDArray[np.float32], names: Sequence[str], width: int, task: Task) -> str:
    if not task.exclusive:
        return task.text(target >= LEAST_SHARE, names)[: width // 6]
    best = np.argsort(-target, kind="stable")[:2]
    shares = [(names[int(one)], float(target[one])) for one in best]
    if shares[1][1] < 0.05:
        text = shares[0][0]
    else:  # mixed with another class
        text = " + ".join(f"{name} {share:.1f}" for name, share in shares)
    return text[: width // 6]  # Pillow's own font is 6 pixels wide
