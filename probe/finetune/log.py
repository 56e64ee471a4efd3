"""What a training writes down while it runs: epochs, steps, and TensorBoard's events.

    history.csv   a row an epoch
    steps.csv     a row a batch: step, epoch, loss, top1, lr

Both are written anew after each epoch from what the checkpoint has, so a run that was taken up
has each row once.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.files import write_text
from probe.errors import UsageError
from probe.finetune.train import Observer, Training
from probe.heads.history import Epoch, save_history

STEPS, EVENTS = "steps.csv", "tensorboard"


def save_steps(
    folder: Path, log: NDArray[np.float32], batches: int, *, several: bool = False
) -> None:
    """Write `steps.csv` by rename.

    Parameters
    ----------
    log : float32, (n, 3)
        Loss, top-1 and step size of each batch.
    batches : int
        Of an epoch.
    several : bool
        An image may have several labels: the part of decisions that are right stands for top-1.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("step", "epoch", "loss", "decisions" if several else "top1", "lr"))
    for number, row in enumerate(log):
        figures = [f"{value:.6g}" for value in row.tolist()]
        writer.writerow((number + 1, number // batches + 1, *figures))
    write_text(folder / STEPS, text.getvalue())


class Recorder:
    """Keeps the files of a run up to date and tells somebody else.

    Parameters
    ----------
    training : Training
    observer : Observer
        Told after the files are written.
    tensorboard : bool
        Write events as well.

    Raises
    ------
    UsageError
        tensorboardX is not installed.
    """

    def __init__(self, training: Training, observer: Observer, *, tensorboard: bool) -> None:
        self._training, self._observer = training, observer
        self._events = _writer(training.folder / EVENTS) if tensorboard else None

    def stepped(self, done: int, total: int, loss: float, top1: float, lr: float) -> None:
        """See Observer."""
        self._observer.stepped(done, total, loss, top1, lr)

    def epoch_done(self, epoch: Epoch, best: bool) -> None:
        """See Observer."""
        training = self._training
        save_history(training.folder, training.progress.history)
        feed = training.feed
        save_steps(training.folder, training.log, feed.batches, several=feed.several)
        if self._events is not None:
            _add(self._events, epoch, training.log[-feed.batches :].tolist(), feed.several)
        self._observer.epoch_done(epoch, best)

    def close(self) -> None:
        """Finish TensorBoard's file."""
        if self._events is not None:
            self._events.close()


def _writer(folder: Path) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise UsageError(
            "--tensorboard needs tensorboardX: pip install 'probe[tensorboard]'"
        ) from None
    return SummaryWriter(str(folder))


def _add(events: Any, epoch: Epoch, rows: Sequence[Sequence[float]], several: bool) -> None:
    """Write an epoch's events at its end, so that one that was repeated is there once."""
    first = (epoch.epoch - 1) * len(rows)
    for number, (loss, top1, lr) in enumerate(rows, start=first + 1):
        right = "decisions" if several else "top1"
        for name, value in (("loss", loss), (right, top1), ("lr", lr)):
            events.add_scalar(f"step/{name}", value, number)
    for name in ("train_loss", "train_top1", "val_loss", "val_top1", "val_map"):
        value = getattr(epoch, name)
        if value is not None:
            events.add_scalar(f"epoch/{name}", value, epoch.epoch)
    events.flush()
