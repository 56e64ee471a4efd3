"""The training loop: steps, epochs, the best epoch, checkpoints, and the files it keeps up to date.

    history.csv   a row per epoch
    steps.csv     a row per batch: step, epoch as in history.csv, loss, top1, lr

Both are written anew after each epoch from what the checkpoint has, so that a resumed run has each
row once.
"""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from probe.core.files import write_text
from probe.core.short_repr import short_repr
from probe.datasets import Split
from probe.datasets.images.prefetch import load_batches
from probe.engines import filled
from probe.errors import DivergedError, PromoteError
from probe.evaluation.task import Task
from probe.finetune.batches import Batch, Feed
from probe.finetune.checkpoint import LOG, Progress, load_last, save_best, save_last
from probe.finetune.network import Network
from probe.finetune.randomness import DROPOUT, generator
from probe.finetune.rates import rates, schedule_of, stages
from probe.heads.history import Epoch, save_history
from probe.preprocess.resize import resize_image
from probe.preprocess.spec import UInt8Image
from probe.runs.listeners import Heard

KEEP = 0.5  # share of units that Dropout keeps, as in every backbone here that has one
CACHED_BYTES = 1 << 30  # of the frozen blocks' outputs, kept in memory
CHECKPOINT_SECONDS = 120.0  # between checkpoints within an epoch
AT_ONCE = 64  # images a forward pass in prediction, unless memory is limited
STEPS = "steps.csv"


class Observer(Protocol):
    """What a training reports to; the command line shows it."""

    def stepped(self, done: int, total: int, loss: float, top1: float, lr: float) -> None:
        """Called after a batch: `done` of `total`, with its loss, top-1 and learning rate."""

    def epoch_done(self, epoch: Epoch, best: bool) -> None:
        """Called after an epoch was validated; `best` if it is the best so far."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Figures:
    """The progress of a training and the figures of its batches.

    Parameters
    ----------
    log : float32, (n_batches, 3)
        Loss, top-1 (with multi-label images: the share of right decisions) and learning rate of
        each batch, measured before its step.
    """

    __repr__ = short_repr

    progress: Progress
    log: NDArray[np.float32]


class Training:
    """Trains a network on its images and writes checkpoints.

    Parameters
    ----------
    feed : Feed
        Batches of the training images.
    val : Split
        The validation images.
    classes : int, (K,)
        The label of each output.
    folder : Path
        The run's folder.
    """

    def __init__(
        self, network: Network, feed: Feed, val: Split, classes: NDArray[np.integer[Any]],
        folder: Path,
    ) -> None:  # fmt: skip
        self.network, self.feed, self.val, self.folder = network, feed, val, folder
        self.options, self._classes = feed.options, classes
        self.progress = Progress()
        self._log: list[tuple[float, float, float]] = []
        self._stages = stages(network.arch.spec, self.options, network.arch.layer.after)
        self._stage: int | None = None
        self._lower: NDArray[np.float32] | None = None
        self._clock, self._ended = time.perf_counter(), 0
        self.cached_bytes = CACHED_BYTES
        per_step = self.options.accumulate
        self.updates = -(-feed.batches // per_step)  # an epoch
        self.steps = self.options.steps or self.options.epochs * self.updates  # all epochs
        self.epochs = -(-self.steps // self.updates)  # the last one may be a part
        self.schedule = schedule_of(self.options, self.updates)
        self.network.state.learn(self._rates(0))  # refuses a pattern that matches nothing
        for _, frozen in self._stages:
            self._rates(frozen)

    def settle_augment(self, augment: str) -> None:
        """Set the augmentation that ``auto`` stands for, before the first step."""
        self.options = replace(self.options, augment=augment)
        self.feed = replace(self.feed, options=self.options)

    @property
    def log(self) -> NDArray[np.float32]:
        """Loss, top-1 and learning rate of each batch so far, (n, 3)."""
        return np.array(self._log, np.float32).reshape(-1, 3)

    def resume(self) -> bool:
        """Load the last checkpoint if there is one, and return whether there was.

        Raises
        ------
        PromoteError
            The checkpoint is damaged or of another network.
        """
        found = load_last(self.folder)
        if found is None:
            return False
        self.progress, arrays = found
        self._log = [tuple(row) for row in arrays.pop(LOG).tolist()]
        if len(self.progress.ends) < len(self.progress.history):  # 0.1.0 kept none
            passes = range(1, len(self.progress.history) + 1)
            ends = tuple(min(one * self.feed.batches, len(self._log)) for one in passes)
            self.progress = replace(self.progress, ends=ends)
        try:
            self.network.state.restore(arrays, self.progress.updates)
        except ValueError as error:
            raise PromoteError(f"{self.folder}: the checkpoint cannot be used: {error}") from error
        return True

    @property
    def total(self) -> int:
        """Number of batches of the whole training."""
        whole, rest = divmod(self.steps, self.updates)
        batches = self.feed.batches
        return whole * batches + min(rest * self.options.accumulate, batches)

    @property
    def done(self) -> bool:
        """Whether all epochs are trained, or training stopped early."""
        return self.progress.stopped or self.progress.updates >= self.steps

    def run(self, observer: Observer) -> Figures:
        """Train until the last step, or until `patience` ends it; validate after each epoch.

        Where the last epoch is a part, the end of that is validated. A training that goes on
        longer from there has the rest of that pass as its next epoch.

        Raises
        ------
        PromoteError
            Training diverged, or a checkpoint cannot be written.
        """
        while not self.done:
            self._clock = time.perf_counter() - self._seconds_of_epoch()
            self._train_epoch(observer)
            self._close_epoch(observer)
        return Figures(progress=self.progress, log=self.log)

    def run_unwatched(self, observer: Observer) -> None:
        """Train all epochs and validate none: the last one's parameters stay in the network.

        Raises
        ------
        PromoteError
            Training diverged.
        """
        while not self.done:
            self._train_epoch(observer)
            self.progress = replace(self.progress, epoch=self.progress.epoch + 1, batch=0)

    def _seconds_of_epoch(self) -> float:
        """Return the seconds already spent on the epoch that a checkpoint interrupted."""
        return self.progress.seconds - sum(one.seconds for one in self.progress.history)

    def _train_epoch(self, observer: Observer) -> None:
        saved, accumulate = time.perf_counter(), self.options.accumulate
        state, (passes, first) = self.network.state, divmod(len(self._log), self.feed.batches)
        self.enter_stage(passes + 1)
        with closing(self.batches(passes + 1, first)) as batches:
            for batch in batches:
                figures = self.forward(batch, passes + 1)
                rate = self.options.rate * self.schedule.factor(state.steps + 1)
                whole = (batch.step + 1) % accumulate == 0
                if whole or batch.step + 1 == self.feed.batches:
                    self._update(batch.step % accumulate + 1)
                loss, top1 = figures.asnumpy().tolist()
                self._log.append((loss, top1, rate))
                observer.stepped(len(self._log), self.total, *self._log[-1])
                self.progress = replace(
                    self.progress, batch=self.progress.batch + 1, updates=state.steps
                )
                if batch.step + 1 == self.feed.batches or state.steps == self.steps:
                    break
                if whole and time.perf_counter() - saved > CHECKPOINT_SECONDS:
                    self.checkpoint()
                    saved = time.perf_counter()

    def forward(self, batch: Batch, epoch: int) -> Any:
        """Compute the gradient of a batch and return its figures; see `Network.step`."""
        seed = self.options.seed

        def masks(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
            number = int(name.removeprefix("mask"))
            drawn = generator(seed, DROPOUT, epoch, batch.step, number).random(shape, np.float32)
            return (drawn < KEEP).astype(np.float32) / KEEP

        size = self.feed.size_of(epoch, batch.step)
        return self.network.step(batch.images, batch.targets, masks, size=size)

    def _update(self, batches: int) -> None:
        state, options = self.network.state, self.options
        batches *= self.network.parts
        norm = state.norm() / batches
        if not math.isfinite(norm):
            raise DivergedError(
                f"epoch {self.progress.epoch}, batch {self.progress.batch + 1}: the gradient is no "
                f"number any more; take a smaller --lr than {options.rate:g}"
                + ("" if options.clip else ", or --clip 5")
            )
        scale = min(1.0, options.clip / norm) if options.clip and norm else 1.0
        lr = options.rate * self.schedule.factor(state.steps + 1)
        state.update(lr=lr, wd=options.wd, momentum=options.momentum, rescale=scale / batches)
        if self.network.adds:
            state.gradients[:] = 0

    def _close_epoch(self, observer: Observer) -> None:
        epoch = self.progress.epoch
        rows = self.log_of_epoch().astype(np.float64)
        loss, value = self.feed.task.loss_and_figure(
            self.predict(self.val)[1], self._targets(self.val)
        )
        seconds = time.perf_counter() - self._clock
        done = Epoch(
            epoch=epoch, train_loss=float(rows[:, 0].mean()), val_loss=loss,
            lr=float(rows[:, 2].mean()), seconds=seconds,
        )  # fmt: skip
        if self.feed.task.exclusive:
            done = replace(done, train_top1=float(rows[:, 1].mean()), val_top1=value)
        else:
            done = replace(done, val_map=value)
        progress = self.progress.with_epoch(done, self.options.patience)
        best = progress.best_epoch == epoch
        if best:  # before the checkpoint, so that a kill in between repeats the epoch
            save_best(self.folder, epoch, self.network.state.best_values())
        self._ended = len(rows)
        self.progress = progress
        try:  # told before the checkpoint, so that one who is killed in between tells it again
            observer.epoch_done(done, best)
        finally:  # one who is stopped meanwhile goes on after this epoch
            self._clock = time.perf_counter()
            self.checkpoint()

    def log_of_epoch(self) -> NDArray[np.float32]:
        """Return the rows of `log` that belong to this epoch, or to the one that just ended."""
        return self.log[-(self.progress.batch or self._ended) :]

    def checkpoint(self) -> None:
        """Write a checkpoint."""
        behind = sum(one.seconds for one in self.progress.history)
        self.progress = replace(self.progress, seconds=behind + time.perf_counter() - self._clock)
        save_last(self.folder, self.progress, self.network.state.snapshot(), self.log)

    def predict(self, split: Split) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return features, (n, D), and probabilities, (n, K), of images without augmentation."""
        spec = self.network.arch.preprocess

        def load(row: int) -> UInt8Image:
            return resize_image(split.images.image(row), spec)

        size = min(self.network.part or AT_ONCE, max(1, len(split)))
        starts = np.split(np.arange(len(split)), range(size, len(split), size))
        loaded = load_batches(load, starts, workers=self.feed.workers)
        # MXNet's network is compiled for one size
        found = list(self.network.predict((rows, filled(batch, size)) for rows, batch in loaded))
        return np.concatenate([one[1] for one in found]), np.concatenate([one[2] for one in found])

    def _targets(self, split: Split) -> NDArray[np.intp]:
        return self.feed.task.encode(split.labels, self._classes)

    def _rates(self, frozen: int) -> Any:
        names = list(self.network.state.weights.places)
        return rates(names, self.network.arch.spec, self.options, frozen)

    def planned(self, images: int) -> tuple[int, int]:
        """Return the bytes that MXNet plans for training on so many images and for predicting them.

        Training counts in the stage of unfreezing that needs most.
        """
        size, found = max(self.feed.sizes), []
        for _, frozen in self._stages:
            self.network.learn(self._rates(frozen), frozen)
            found.append(self.network.planned(images, size))
        self._stage = None
        return max(learnt for learnt, _ in found), found[0][1]

    def enter_stage(self, epoch: int) -> None:
        """Unfreeze the layers that learn in this epoch."""
        stage = sum(epoch >= first for first, _ in self._stages) - 1
        if stage == self._stage:
            return
        self._stage, frozen = stage, self._stages[stage][1]
        self.feed.prepare()
        self.network.learn(self._rates(frozen), frozen)
        self._lower = self._cached() if self._can_cache() else None

    def _can_cache(self) -> bool:
        """Whether the frozen blocks give the same output for an image in every epoch."""
        same = self.options.policy().changes_nothing and not self.options.mixup
        return bool(self.network.frozen) and same and len(self.feed.sizes) == 1

    def _cached(self) -> NDArray[np.float32] | None:
        """Return the frozen blocks' output of all training images, (n, ...); None if too large."""
        split, policy, size = self.feed.split, self.options.policy(), self.feed.sizes[0]
        step, rows = self.network.part or self.feed.batch_size, np.arange(len(self.feed.split))

        def load(row: int) -> UInt8Image:
            return self.feed.load(row, size, policy, (0, 0))

        batches = np.split(rows, range(step, len(rows), step))
        found: NDArray[np.float32] | None = None
        for some, images in load_batches(load, batches, workers=self.feed.workers):
            lower = self.network.lower(filled(images, step))[: len(some)]
            if found is None:
                if lower[0].nbytes * len(split) > self.cached_bytes:
                    return None
                found = np.empty((len(split), *lower.shape[1:]), np.float32)
            found[some] = lower
        return found

    def batches(self, epoch: int, first: int) -> Generator[Batch, None, None]:
        """Yield an epoch's batches from `first` on: images, or the frozen blocks' outputs."""
        if self._lower is None:
            yield from self.feed.epoch(epoch, first)
            return
        for step, rows in list(enumerate(self.feed.order(epoch)))[first:]:
            targets = self.feed.target_rows(rows)
            yield Batch(step=step, rows=rows, images=self._lower[rows], targets=targets)


def save_steps(folder: Path, log: NDArray[np.float32], ends: Sequence[int], task: Task) -> None:
    """Write `steps.csv` by rename.

    Parameters
    ----------
    log : float32, (n, 3)
        Loss, top-1 and learning rate of each batch.
    ends : sequence of int
        Batches that were behind at the end of each epoch.
    task : Task
        Of multi-label images the share of right decisions takes the place of top-1.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("step", "epoch", "loss", task.step_metric, "lr"))
    epochs = np.searchsorted(ends, np.arange(len(log)), side="right") + 1
    for number, (epoch, row) in enumerate(zip(epochs.tolist(), log, strict=True), start=1):
        figures = [f"{value:.6g}" for value in row.tolist()]
        writer.writerow((number, epoch, *figures))
    write_text(folder / STEPS, text.getvalue())


class Recorder:
    """Keeps the files of a run up to date and passes everything on.

    Parameters
    ----------
    observer : Observer
        Called after the files are written.
    heard : Heard
        The listeners of the run, called before it.
    """

    def __init__(self, training: Training, observer: Observer, heard: Heard) -> None:
        self._training, self._observer, self._heard = training, observer, heard

    def stepped(self, done: int, total: int, loss: float, top1: float, lr: float) -> None:
        """See Observer."""
        self._observer.stepped(done, total, loss, top1, lr)

    def epoch_done(self, epoch: Epoch, best: bool) -> None:
        """See Observer."""
        training = self._training
        save_history(training.folder, training.progress.history)
        task = training.feed.task
        save_steps(training.folder, training.log, training.progress.ends, task)
        names, rows = ("loss", task.step_metric, "lr"), training.log_of_epoch().tolist()
        numbered = enumerate(rows, start=len(training.log) - len(rows) + 1)
        steps = [{"step": one, **dict(zip(names, row, strict=True))} for one, row in numbered]
        self._heard.epoch(epoch, steps)
        self._observer.epoch_done(epoch, best)
