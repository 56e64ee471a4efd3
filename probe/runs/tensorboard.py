"""TensorBoard hears of runs: event files in ``RUN/tensorboard``, a piece an epoch.

    step/loss step/top1 step/lr      a batch of a fine-tuning
    epoch/train_loss epoch/val_top1  and so on, an epoch
    val/top1 test/top1               and so on, at the end, with the parameters beside them

tensorboardX encodes them. Its own writer has a thread that nobody hears of where the disk is full,
so that the files are written here.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from probe.heads.history import Epoch
from probe.runs.listeners import Listener as Interface
from probe.runs.listeners import RunEnd, RunStart, Value, figures_of_epoch

FOLDER = "tensorboard"


class Listener(Interface):
    """Writes an event file for each run; a bench's lie in the folders of its rows."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._epoch = 0

    def started(self, run: RunStart) -> None:
        """See `probe.Listener`."""
        self._path, self._epoch = None, 0
        if run.folder is None:
            return
        folder = run.folder / FOLDER
        if run.kind == "head" and folder.is_dir():  # a bench's row that an earlier bench told
            return
        self._path = folder / f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}"

    def epoch(self, epoch: Epoch, steps: Sequence[Mapping[str, float]]) -> None:
        """See `probe.Listener`; at the end of an epoch, so that a repeated one is there once."""
        self._epoch = epoch.epoch
        events = [
            _scalar(f"step/{name}", value, int(step["step"]))
            for step in steps
            for name, value in step.items()
            if name != "step"
        ]
        own = figures_of_epoch(epoch)
        self._write([*events, *(_scalar(f"epoch/{name}", own[name], epoch.epoch) for name in own)])

    def ended(self, end: RunEnd) -> None:
        """See `probe.Listener`."""
        if end.status == "finished":
            figures = [_scalar(name, end.figures[name], self._epoch) for name in end.figures]
            self._write([*figures, *_parameters(end.params, end.figures)])
        self._path = None

    def _write(self, events: Sequence[Any]) -> None:
        if self._path is None or not events:
            return
        self._path.parent.mkdir(exist_ok=True)
        with self._path.open("ab", buffering=0) as file:
            if file.tell() == 0:
                events = [_event(file_version="brain.Event:2"), *events]
            file.write(b"".join(_record(one.SerializeToString()) for one in events))


def _event(**fields: Any) -> Any:
    from tensorboardX.proto.event_pb2 import Event

    return Event(wall_time=time.time(), **fields)


def _scalar(name: str, value: float, step: int) -> Any:
    from tensorboardX.proto.summary_pb2 import Summary

    values = [Summary.Value(tag=name, simple_value=value)]
    return _event(step=step, summary=Summary(value=values))


def _parameters(params: Mapping[str, Value], figures: Mapping[str, float]) -> list[Any]:
    """Return the events behind TensorBoard's table of runs by their parameters."""
    from tensorboardX.summary import hparams

    known = {name: value for name, value in params.items() if value is not None}
    return [_event(summary=one) for one in hparams(known, dict(figures))]


def _record(data: bytes) -> bytes:
    """Return a record as TensorFlow frames it: length and content, each with a checksum."""
    from tensorboardX.record_writer import masked_crc32c

    length = struct.pack("<Q", len(data))
    sums = [struct.pack("<I", masked_crc32c(one)) for one in (length, data)]
    return length + sums[0] + data + sums[1]
