"""Listeners: who hears of a run while it goes on. TensorBoard and MLflow, or any object.

A run starts, has epochs where it is trained in epochs, and ends. A bench is a run, too; the runs of
its rows start and end within it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from probe.core.arguments import nearest
from probe.core.options import words
from probe.core.version import __version__
from probe.errors import UsageError
from probe.heads.history import Epoch
from probe.runs.results import FeatureSource, RunResult

log = logging.getLogger(__name__)

Value = str | int | float | bool | None
NAMED = {  # name -> module of its class `Listener`, package that has to be there, extra that has it
    "tensorboard": ("probe.runs.tensorboard", "tensorboardX", "tensorboard"),
    "mlflow": ("probe.runs.mlflow_client", "mlflow", "mlflow"),
}
MOST_TOLD = 300  # characters of why a listener failed


@dataclass(frozen=True, kw_only=True)
class RunStart:
    """A run that starts.

    Parameters
    ----------
    kind : str
        Which command's: ``head`` (rows of a bench, too), ``promote`` or ``bench``.
    name : str
        Of its folder; of a bench's row, the features and the head.
    folder : Path or None
        Where its files will lie; None of a bench, which gets its folder at the end.
    params : mapping
        Options, without those that are searched: what was chosen comes at the end.
    tags : mapping
        entry, dataset, backbone, weights, layer, pool and head; command and the version of probe.
    """

    kind: Literal["head", "promote", "bench"]
    name: str
    folder: Path | None
    params: Mapping[str, Value]
    tags: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class RunEnd:
    """A run that ends.

    Parameters
    ----------
    status : str
        ``finished``; ``failed``; or ``stopped``, by Ctrl-C.
    folder : Path or None
        Where its files lie, as ``result.json`` or ``bench.json``; None where there are none.
    params : mapping
        All parameters, chosen ones included.
    figures : mapping
        ``val/top1``, ``test/log_loss`` and so on: shares from 0 to 1, log loss in nats; ``seconds``
        of fitting. Of a bench the winner's figure by dataset.
    note : str
        Of a bench its answer in words.
    """

    status: Literal["finished", "failed", "stopped"]
    folder: Path | None = None
    params: Mapping[str, Value] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


@runtime_checkable
class Listener(Protocol):
    """What `log` takes besides names: derive from it, and write the methods that you need.

    They are called in order, in the process and the thread of the run, which waits for them. One
    that raises is called no more, and a warning says why; the run goes on.
    """

    def started(self, run: RunStart) -> None:
        """Called when a run starts; what starts before it ends is part of it."""

    def epoch(self, epoch: Epoch, steps: Sequence[Mapping[str, float]]) -> None:
        """Called after an epoch: its figures, and of a fine-tuning those of its batches.

        A fine-tuning that is killed before it has kept the epoch trains it again when it goes on,
        and then calls this once more.

        A batch has ``step``, its number in the run from 1, ``loss``, ``top1`` (``decisions`` with
        multi-label images) and ``lr``.
        """

    def ended(self, end: RunEnd) -> None:
        """Called when the run that started last ends."""


Log = str | Listener | Iterable[str | Listener] | None  # what commands and functions take


def listeners_of(told: Log) -> tuple[Listener, ...]:
    """Return the listeners that are named, ``tensorboard,mlflow``, and those given as they are.

    Raises
    ------
    UsageError
        There is none of that name, its package is not installed, or an object is no listener.
    """
    found: list[Listener] = []
    for each in _several(told):
        found += map(_named, words(each)) if isinstance(each, str) else [_checked(each)]
    return tuple(found)


def names_of(told: Log) -> tuple[str, ...]:
    """Return the names among what was given, which a record can keep."""
    return words(each for each in _several(told) if isinstance(each, str))


def _several(told: Log) -> list[str | Listener]:
    if told is None:
        return []
    return [told] if isinstance(told, str) or not isinstance(told, Iterable) else list(told)


def _named(name: str) -> Listener:
    if name not in NAMED:
        raise UsageError(f"--log {name}: there is no such listener; {nearest(name, NAMED)}")
    module, package, extra = NAMED[name]
    if find_spec(package) is None:
        raise UsageError(f"--log {name} needs {package}: pip install 'frozen-probe[{extra}]'")
    found: Listener = import_module(module).Listener()
    return found


def _checked(one: object) -> Listener:
    if not isinstance(one, Listener):
        raise UsageError(
            f"log has a {type(one).__name__}, which is no listener: give a name "
            f"({', '.join(NAMED)}) or an object with the methods of probe.Listener"
        )
    return one


class Heard:
    """Several listeners as one; one that fails is told once and hears no more."""

    def __init__(self, listeners: Iterable[Listener]) -> None:
        self._left = list(listeners)
        self.epochs = 0  # of the run that started last

    def __bool__(self) -> bool:
        """Whether anybody listens."""
        return bool(self._left)

    def started(self, run: RunStart) -> None:
        """See Listener."""
        self.epochs = 0
        self._tell("started", run)

    def epoch(self, epoch: Epoch, steps: Sequence[Mapping[str, float]] = ()) -> None:
        """See Listener."""
        self.epochs += 1
        self._tell("epoch", epoch, steps)

    def ended(self, end: RunEnd) -> None:
        """See Listener."""
        self._tell("ended", end)

    def finished(self, folder: Path, result: RunResult, history: Sequence[Epoch] = ()) -> None:
        """Tell the epochs that were not told yet, and what a finished run has reached."""
        for epoch in history[self.epochs :]:
            self.epoch(epoch)
        figures = {
            f"{split}/{name}": value
            for split, own in result.metrics.items()
            for name, value in own.items()
        }
        figures["seconds"] = result.seconds
        self.ended(RunEnd(status="finished", folder=folder, params=result.params, figures=figures))

    def _tell(self, what: str, *said: object) -> None:
        for one in list(self._left):
            try:
                getattr(one, what)(*said)
            except Exception as error:  # whatever a server or a disk comes up with
                self._left.remove(one)
                why = " ".join(f"{type(error).__name__}: {error}".split())
                short = why if len(why) <= MOST_TOLD else f"{why[:MOST_TOLD]} ..."
                log.warning("%s hears no more of this run: %s", _name(one), short)


def _name(one: Listener) -> str:
    known = {module: name for name, (module, *_) in NAMED.items()}
    return known.get(type(one).__module__, type(one).__name__)


@contextmanager
def heard_by(listeners: Iterable[Listener], run: RunStart) -> Iterator[Heard]:
    """Tell listeners that a run starts, and that it ended where it fails or is stopped.

    Whoever comes to its end tells that.
    """
    heard = Heard(listeners)
    heard.started(run)
    try:
        yield heard
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        heard.ended(RunEnd(status="stopped" if stopped else "failed", folder=run.folder))
        raise


def tags_of(source: FeatureSource | RunResult, head: str, command: str) -> dict[str, str]:
    """Return the tags of a head on features."""
    names = FeatureSource.__dataclass_fields__
    own = {name: str(getattr(source, name)) for name in names}
    return {**own, "head": head, "command": command, "probe": __version__}


def figures_of_epoch(epoch: Epoch) -> dict[str, float]:
    """Return what was measured of an epoch, by its names in `history.csv`."""
    return {
        name: float(value)
        for name, value in asdict(epoch).items()
        if value is not None and name != "epoch"
    }
