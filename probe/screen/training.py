"""What fine-tuning looks like on the terminal: the start, and the epochs as they come."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from probe.core.run_folders import RESULT, held_alone
from probe.core.text import counted
from probe.errors import UsageError
from probe.finetune.advice import advice, mirror_words
from probe.finetune.batches import draw_batch, first_batch
from probe.finetune.checkpoint import remove_leftovers
from probe.finetune.choice import place_of, train_rates
from probe.finetune.compare import Course, control_options, load_course
from probe.finetune.finish import finish, told_of
from probe.finetune.folds import (
    Folds,
    begin_fold,
    finish_folds,
    is_done,
    keep_dealt,
    open_folds,
    train_folds,
)
from probe.finetune.forecast import draw_rows, foretell
from probe.finetune.longer import lengthened, planned_anew
from probe.finetune.mirror import settle
from probe.finetune.planning import Limit, estimate, memory_words
from probe.finetune.promotion import begin, run, train_controls
from probe.finetune.request import PromoteRequest, newest, read_sample_weights
from probe.finetune.source import open_source
from probe.finetune.start import make_training
from probe.runs.fit import run_folder
from probe.runs.listeners import heard_by, listeners_of
from probe.runs.results import METRIC_WORDS
from probe.screen import console

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from probe.finetune.finish import Promoted
    from probe.finetune.forecast import Forecast
    from probe.finetune.options import Options
    from probe.finetune.planning import Estimate
    from probe.finetune.promotion import Begun
    from probe.finetune.source import Source
    from probe.finetune.train import Training
    from probe.heads.history import Epoch
    from probe.runs.listeners import Listener, Log

log = logging.getLogger(__name__)

HEADS = {"probe": "from the probe", "zeros": "of zeros", "fresh": "fresh", "scratch": "fresh"}
PIPED_EVERY = 30.0  # seconds between lines where there is no bar


def show_start(
    begun: Begun, asked: PromoteRequest, needed: Estimate | None, sentences: Sequence[str]
) -> None:
    """Tell stderr what is about to be trained, how long it takes and what to expect."""
    source, options, training = begun.source, begun.training.options, begun.training
    word = METRIC_WORDS[source.result.metric]
    head = HEADS[options.start]
    network = f"{source.backbone.name} to {source.layer.name}, {source.result.weights}"
    if options.start == "scratch":
        network = f"{source.backbone.name} to {source.layer.name}, random weights"
    frozen = "" if options.freeze == "none" else f", frozen: {options.freeze}"
    rates = " and ".join(f"{one:g}" for one in asked.rates or (options.rate,))
    length = f"{options.length} of {counted(training.updates, 'step')}"
    if options.steps is not None:
        length = f"{options.length}, {training.updates} an epoch"
    images = f"{len(source.train):,} to train on, {len(source.val):,} held out by the run"
    watched = "validation"
    if asked.folds:
        watched = "the images of one fold"
        whole = len(source.train) + len(source.val)
        images = f"{whole:,}, each held out from one of {asked.folds} networks"
    facts = {
        "run": console.place(source.folder),
        "network": f"{network}; head {head}{frozen}",
        "images": images,
        "start": f"{word} {f'{100 * begun.score:.2f} %'} on {watched}, loss {begun.loss:.4f}",
        "steps": f"{options.optimizer}, lr {rates}, {options.schedule}, batches of "
        f"{training.feed.batch_size}, {length}, augment {options.augment}",
    }
    if begun.mirror is not None:
        lost = "10 points or more" if begun.mirror.harmful else "less than 10 points"
        facts["mirror"] = (
            f"{mirror_words(begun.mirror, training.feed.task)}: {lost} "
            f"lost, so --augment auto is {options.augment}"
        )
    if begun.difference is not None:
        facts["check"] = (
            f"the probe's {len(source.val):,} validation predictions from pixels, within "
            f"{begun.difference:.1g}"
        )
    if text := planned_anew(asked, training.updates):
        facts["longer"] = text
    if training.progress.updates:
        at = training.progress
        epoch = min(at.epoch, training.epochs)
        facts["resumed"] = f"epoch {epoch}, after {counted(at.updates, 'step')}"
    if needed is not None:
        batch = f"{1000 * needed.batch_seconds:.0f} ms a batch"
        facts["time"] = (
            f"about {console.duration(needed.seconds)} ({batch}, "
            f"{console.duration(needed.epoch_seconds)} an epoch)"
        )
        if needed.memory is not None:
            size = training.feed.batch_size
            facts["memory"] = memory_words(
                needed.memory, options, size, limit=asked.max_memory,
                part=training.network.part, whole=begun.plan.whole if begun.plan else 0,
            )  # fmt: skip
    facts["advice"] = ". ".join(one[0].upper() + one[1:] for one in sentences)
    console.facts(console.stderr(), facts)


class Live:
    """A bar with loss, rate and time left, and a line at the end; with ``-v``, a line an epoch.

    Where there is no terminal for a bar, a line says every PIPED_EVERY seconds how far it is.

    Parameters
    ----------
    title : str
        Of a control; empty for the run itself.
    """

    def __init__(self, training: Training, *, title: str = "") -> None:
        self._console = console.stderr()
        self._batch, self._task = training.feed.batch_size, training.feed.task
        self._bar = Progress(
            BarColumn(bar_width=20),
            TextColumn("{task.completed}/{task.total} batches"),
            TextColumn("{task.fields[epoch]}"),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=self._console, disable=not console.has_bars(self._console), transient=True,
        )  # fmt: skip
        self._row = self._bar.add_task(
            "", total=training.total, completed=len(training.log), figures="", epoch=""
        )
        self._last = time.perf_counter()
        self._said = self._last
        if title:
            self._console.print()
            self._console.print(title, style="bold")
        self._each = log.isEnabledFor(logging.DEBUG)
        self._last_epoch: Epoch | None = None
        self._best_epoch: Epoch | None = None
        if self._each:
            top1 = "      top-1" if self._task.exclusive else ""
            value = f"val {self._task.metric_label}".rjust(9)
            self._console.print(
                f"epoch      loss{top1}   val loss  {value}   mean lr      time", style="bold cyan"
            )
        for epoch in training.progress.history:
            self._note(epoch, best=epoch.epoch == training.progress.best_epoch)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._bar.stop()
        last, best = self._last_epoch, self._best_epoch
        if last is None or kind is not None or self._each:
            return
        epochs = counted(last.epoch, "epoch")
        told = f"{epochs}; at the last one loss {last.train_loss:.4f}, {self._val(last)}"
        if best is not None:
            told += f"; the best is epoch {best.epoch}, {self._val(best)}"
        console.facts(self._console, {"fit": f"{told} (-v shows each)"})

    def _val(self, epoch: Epoch) -> str:
        return f"val {self._task.metric_label} {100 * epoch.val_score:.2f} %"

    def stepped(self, done: int, total: int, loss: float, top1: float, lr: float) -> None:
        """See Observer."""
        now = time.perf_counter()
        speed = self._batch / max(now - self._last, 1e-9)
        self._last = now
        right = self._task.watched(top1)
        text = f"loss {loss:.3f}  {right}  {console.rate(speed)} images/s"
        self._bar.update(self._row, completed=done, figures=text)
        if not self._console.is_terminal and now - self._said > PIPED_EVERY:
            self._said = now
            self._console.print(f"       batch {done:,} of {total:,}, {text}, lr {lr:.2g}")

    def epoch_done(self, epoch: Epoch, best: bool) -> None:
        """See Observer."""
        self._last = self._said = time.perf_counter()
        self._note(epoch, best=best)

    def _note(self, epoch: Epoch, *, best: bool) -> None:
        self._last_epoch = epoch
        if best:
            self._best_epoch = epoch
        self._bar.update(self._row, epoch=f"epoch {epoch.epoch}: {self._val(epoch)}")
        if self._each:
            self._line(epoch, best=best)

    def _line(self, epoch: Epoch, *, best: bool) -> None:
        assert epoch.val_loss is not None
        top1 = "" if epoch.train_top1 is None else f"  {100 * epoch.train_top1:>7.2f} %"
        self._console.print(
            f"{epoch.epoch:>5}  {epoch.train_loss:>8.4f}{top1}"
            f"   {epoch.val_loss:>8.4f}  {100 * epoch.val_score:>7.2f} %  {epoch.lr or 0:>8.2g}"
            f"  {console.duration(epoch.seconds):>8}{' *' if best else ''}"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """A fine-tuning that is complete, and the controls that were trained beside it."""

    done: Promoted
    begun: Begun
    courses: Sequence[Course]


def open_asked(asked: PromoteRequest, cache: Path) -> Source | Folds:
    """Find the run's images, weights and head again; with folds, as each of them sees it."""
    run, places = Path(asked.run), asked.places(cache)
    if asked.folds:
        return open_folds(run, places, asked.folds, asked.options.seed)
    return open_source(run, places)


def draw_first_batch(opened: Source | Folds, asked: PromoteRequest, path: Path) -> None:
    """Draw the first batch as the network sees it, with folds that of the first one."""
    sources = opened.sources if isinstance(opened, Folds) else [opened]
    source = sources[0]
    training = make_training(source, asked.options, path.parent, weights=_weights(source, asked))
    settle(sources, training)
    names = [source.classes[int(one)] for one in source.head.classes_]
    draw_batch(first_batch(training.feed), names, path, training.feed.task)


def look_ahead(source: Source | Folds, asked: PromoteRequest, *, workers: int) -> None:
    """Check and estimate a training and show that; nothing is kept."""
    with tempfile.TemporaryDirectory() as place:
        _begin(source, asked, Path(place), workers=workers)


def foretell_shown(source: Source | Folds, asked: PromoteRequest, *, workers: int) -> Forecast:
    """Show what is about to be trained, try it on a draw and foretell the rest; see `foretell`.

    Nothing is kept.
    """
    if isinstance(source, Folds):
        raise UsageError("--forecast is of one network: leave --folds out")
    if asked.rates:
        raise UsageError("--forecast is of one recipe: give one --lr")
    rows = draw_rows(source, asked.options)
    with tempfile.TemporaryDirectory() as place:
        begun = _checked(source, asked, Path(place), workers=workers, beside=(asked.options,))
        cost = estimate(begun.training, begun.predict_seconds)
        if not console.stderr().quiet:
            show_start(begun, asked, cost, advice(begun))
        title = f"tried on {len(rows):,} training images"
        return foretell(
            begun, cost, rows, lambda training: Live(training, title=title),
            max_memory=asked.max_memory,
        )  # fmt: skip


def train_new(
    source: Source | Folds,
    asked: PromoteRequest,
    cache: Path,
    out: Path | None,
    *,
    workers: int,
    listeners: Sequence[Listener],
) -> Trained:
    """Fine-tune the network behind a run, in a folder of its own.

    Raises
    ------
    KeyboardInterrupt
        It was stopped; the argument is the folder in which it can go on.
    ProbeError
        It cannot be trained.
    """
    with run_folder(out, cache / "runs") as target:
        begun = _begin(source, asked, target, workers=workers)
        part = None if begun.plan is None else begun.plan.part or 0
        settled = begun.training.options  # augmentation is
        asked = replace(asked, options=settled, part=part)
        asked.save(target)
        if isinstance(source, Folds):
            keep_dealt(source, target)
        return _train(source, begun, asked, target, cache, workers=workers, listeners=listeners)


def go_on(
    run: Path | None,
    cache: Path,
    *,
    workers: int,
    log: Log,
    epochs: int | None = None,
    steps: int | None = None,
    command: str = "",
) -> Trained:
    """Go on with a training that was interrupted, or on to a length; see `train_new`.

    Parameters
    ----------
    run : Path, optional
        Its folder; by default the newest.
    log : str, Listener or several, optional
        Who hears of it; None for those that it began with, as far as they have names.
    epochs, steps : int, optional
        See `probe.finetune.longer.lengthened`; a finished one goes on, too.

    Raises
    ------
    UsageError
        It cannot go on, or another process trains in its folder. Nothing was changed.
    """
    longer = (epochs, steps) != (None, None)
    target = run or newest(cache / "runs", finished=longer)
    with ExitStack() as held:
        if not (target / RESULT).exists():
            held.enter_context(_alone(target))
        asked = PromoteRequest.read(target, finished=longer)
        listeners = listeners_of(asked.log if log is None else log)
        source = open_asked(asked, cache)
        if longer:  # from here on folders change
            first = target
            target = lengthened(first, cache / "runs", epochs=epochs, steps=steps, command=command)
            if target != first:
                held.enter_context(_alone(target))
            asked = PromoteRequest.read(target)
        remove_leftovers(target)
        if isinstance(source, Folds):
            keep_dealt(source, target)
        begun = _begin(source, asked, target, workers=workers)
        return _train(source, begun, asked, target, cache, workers=workers, listeners=listeners)


def _alone(folder: Path) -> AbstractContextManager[None]:
    return held_alone(
        folder, f"{folder}: another process trains in it; let it end, or stop it, and try again"
    )


def _begin(source: Source | Folds, asked: PromoteRequest, target: Path, *, workers: int) -> Begun:
    if isinstance(source, Folds):
        left = _left(source, target)
        ahead = len(left)
        _say_checked(source.sources[0])
        begun = begin_fold(source, left[0] if left else 1, asked, target, workers=workers)
    else:
        ahead = sum(load_course(place_of(target, one)) is None for one in asked.rates)
        beside = tuple(replace(asked.options, lr=one) for one in asked.rates)
        begun = _checked(source, asked, target, workers=workers, beside=beside)
        begun.training.resume()
    if not console.stderr().quiet:
        needed = None if begun.training.done else estimate(begun.training, begun.predict_seconds)
        if needed is not None and (asked.rates or asked.folds):
            needed = replace(needed, seconds=ahead * needed.seconds)
        show_start(begun, asked, needed, advice(begun, folds=bool(asked.folds)))
    return begun


def _left(folds: Folds, target: Path) -> list[int]:
    """Return the folds that are not done yet, counted from 1."""
    return [one for one in range(1, len(folds.sources) + 1) if not is_done(target, one)]


def _say_checked(source: Source) -> None:
    console.stderr().print(f"checking the network on {len(source.val):,} validation images ...")


def _checked(
    source: Source,
    asked: PromoteRequest,
    target: Path,
    *,
    workers: int,
    beside: tuple[Options, ...] = (),
) -> Begun:
    """Build the network and check it; `beside` are further trainings in the same process."""
    _say_checked(source)
    return begin(
        source, asked.options, target, weights=_weights(source, asked), workers=workers,
        limit=Limit(
            bytes=asked.max_memory, part=asked.part,
            controls=(*beside, *(control_options(one, asked.options) for one in asked.compare)),
        ),
    )  # fmt: skip


def _weights(source: Source, asked: PromoteRequest) -> NDArray[np.float64] | None:
    if asked.sample_weights is None:
        return None
    return read_sample_weights(Path(asked.sample_weights), list(source.train.ids))


def _train(
    source: Source | Folds, begun: Begun, asked: PromoteRequest, folder: Path, cache: Path, *,
    workers: int, listeners: Sequence[Listener],
) -> Trained:  # fmt: skip
    def live(name: str, one: Begun) -> Live:
        return Live(one.training, title=name)

    others, ledger = list[Course](), cache / "ledger"
    with heard_by(listeners, told_of(begun, asked, folder)) as heard:
        try:
            if isinstance(source, Folds):
                courses = train_folds(
                    source, begun if _left(source, folder) else None, asked, folder, live,
                    workers=workers, ledger=ledger,
                )  # fmt: skip
                done = finish_folds(source, asked, folder, courses, ledger=ledger, workers=workers)
                heard.finished(done.folder, done.result, ())
                return Trained(done=done, begun=begun, courses=courses)
            if asked.rates:
                begun, others = train_rates(begun, asked, live)
                asked = replace(asked, options=begun.training.options)
                asked.save(folder)  # from here on it is the run of that rate
            else:
                with live("", begun) as watching:
                    run(begun, watching, heard)
            courses = train_controls(begun, asked, live, others)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(str(folder)) from None
        spent = sum(epoch.seconds for one in others for epoch in one.history)
        done = finish(begun, asked, ledger=ledger, spent=spent)
        told = begun.training.progress.history if asked.rates else ()  # the others' no one hears
        heard.finished(done.folder, done.result, told)
    return Trained(done=done, begun=begun, courses=courses)
