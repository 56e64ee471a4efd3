"""What fitting a head looks like on the terminal."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from probe.core.options import texts
from probe.core.text import counted
from probe.datasets.head_check import require_labels
from probe.errors import UsageError
from probe.evaluation.parts import warn_of_shared
from probe.evaluation.splitting import warn_of_unknown
from probe.heads.catalog import HEADS, names_that
from probe.runs import grouping
from probe.runs.columns import columns_of, ids_of
from probe.runs.fit import fit_head, keep_run, plan_head, related_rows, run_folder, told_of
from probe.runs.listeners import heard_by
from probe.schedulers import fitting_on, workers_called
from probe.screen import console

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from probe.cache.joining import Joined
    from probe.evaluation.units import Groups
    from probe.heads import BaseHead, Epoch
    from probe.runs.fit import HeadRequest
    from probe.runs.listeners import Listener
    from probe.runs.selection import HeadRun

log = logging.getLogger(__name__)

UNSAID = (None, "", 0.0, "all", "constant")  # parameters that leave something out


def groups_named(group: Sequence[str], joined: Joined, request: HeadRequest) -> tuple[Groups, ...]:
    """Return the groups that ``--group`` names; say on stderr where a column might be one."""
    if grouping.names_no_column(group):
        line = grouping.hint(columns_of(joined), ids_of(joined))
        if line is not None:
            log.warning("%s", line)
    if not group:
        return ()
    request.check()
    return grouping.groups_of_entry(
        group, joined, fitting=request.fitting(), max_memory=request.max_memory
    )


def fit_named(
    joined: Joined,
    request: HeadRequest,
    *,
    group: str | Sequence[str] | None,
    jobs: int | None,
    scheduler: str | None = None,
    cache_dir: Path,
    folder: Path | None,
    listeners: Sequence[Listener] = (),
) -> tuple[HeadRun, Path]:
    """Fit and keep a head as `probe head` does: with groups by their names, counted in the ledger.

    Parameters
    ----------
    jobs : int, optional
        As it was asked for: some heads have no use for it, which is noted.
    scheduler : str, optional
        Whose workers fit, where heads are fitted one by one.
    folder : Path, optional
        Of the run; a new one among the runs by default.
    listeners : sequence of Listener
        Who hears of it.
    """
    require_labels(joined.entry.classes, joined.entry.name, "a head")
    groups = texts(group)
    request = replace(request, groups=groups_named(groups, joined, request))
    notes = [request.why] if request.why else []
    if jobs is not None and not HEADS[request.solver].one_by_one:
        able = names_that("one_by_one")
        notes.append(
            f"--jobs {jobs} is for --head {able}; {request.solver} uses all cores for its one fit"
        )
    if scheduler is not None and not HEADS[request.solver].one_by_one:
        able = names_that("one_by_one")
        raise UsageError(
            f"--scheduler {scheduler} is for --head {able}; {request.solver} uses all cores of "
            "this machine for its one fit"
        )
    with workers_called(scheduler) as workers, fitting_on(workers) as at_once:
        return fit_shown(
            joined, replace(request, jobs=at_once or request.jobs), folder=folder,
            runs=cache_dir / "runs", ledger=cache_dir / "ledger", notes=notes,
            listeners=listeners,
        )  # fmt: skip


def fit_shown(
    joined: Joined,
    request: HeadRequest,
    *,
    folder: Path | None,
    runs: Path,
    ledger: Path | None = None,
    notes: Sequence[str] = (),
    listeners: Sequence[Listener] = (),
) -> tuple[HeadRun, Path]:
    """Fit, score and keep a head; tell stderr about it."""
    plan, estimator, err = plan_head(joined, request), request.estimator(), console.stderr()
    labels = {name: split.labels for name, split in joined.splits.items()}
    warn_of_shared(related_rows(joined.splits, request.groups), labels)
    name = joined.entry.name
    others = sorted(set(joined.sources.values()) - {name})
    params = {k: v for k, v in estimator.get_params().items() if v not in UNSAID}
    for searched, values in request.searched().items():
        params[searched] = f"the best of {len(values)}"
    facts = {
        "entry": name + (f", joined with {', '.join(others)}" if others else ""),
        "head": f"{request.solver}, " + ", ".join(f"{k} {v}" for k, v in params.items()),
        "rows": plan.why,
    }
    n_train = len(joined.splits["train"].labels if plan.train.rows is None else plan.train.rows)
    notes = [*notes, *estimator.remarks(request.greatest(), n_train)]
    with run_folder(folder, runs) as target:
        console.facts(err, facts | ({"note": "; ".join(notes)} if notes else {}))
        with heard_by(listeners, told_of(joined, request, target)) as heard:
            bars = console.progress("{task.description}", "")
            with bars as bar, _Epochs(bar, estimator) as epochs:
                fits = len(request.per_class) * request.draws
                task = bar.add_task("learning curve", total=fits, visible=False)

                def on_epoch(epoch: Epoch) -> None:
                    epochs(epoch)
                    heard.epoch(epoch)

                run = fit_head(
                    joined, request, plan, on_epoch=on_epoch, ledger=ledger,
                    on_point=lambda _: bar.update(task, advance=1, visible=True),
                    on_folds=warn_of_unknown,
                )  # fmt: skip
            keep_run(target, run, joined.entry.classes)
            heard.finished(target, run.result, run.train_head.history_)
    return run, target


class _Epochs:
    """A bar over the epochs and a line about the last one; where ``-v`` is given, a line each."""

    def __init__(self, bar: Progress, estimator: BaseHead) -> None:
        self._console, self._bar = bar.console, bar
        self._total = estimator.get_params().get("epochs")
        self._task: TaskID | None = None
        self._last: Epoch | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        last = self._last
        if last is None or kind is not None or log.isEnabledFor(logging.DEBUG):
            return
        told = (
            f"{counted(last.epoch, 'epoch')}; at the last one loss {_loss(last.train_loss).strip()}"
        )
        if last.train_top1 is not None:
            told += f", top-1 {100 * last.train_top1:.2f} %"
        if last.val_loss is not None:
            told += f", on validation rows {_loss(last.val_loss).strip()}"
        if last.val_top1 is not None:
            told += f", {100 * last.val_top1:.2f} %"
        console.facts(self._console, {"fit": f"{told} (-v shows each)"})

    def __call__(self, epoch: Epoch) -> None:
        self._last = epoch
        if log.isEnabledFor(logging.DEBUG):
            self._line(epoch)
            return
        if self._task is None:
            self._task = self._bar.add_task("epochs", total=self._total)
        self._bar.update(self._task, completed=epoch.epoch)

    def _line(self, epoch: Epoch) -> None:
        several = epoch.train_top1 is None  # labels an image: no top-1
        if epoch.epoch == 1:
            header = "epoch      loss" + ("" if several else "      top-1")
            if epoch.val_loss is not None:
                header += "   val loss" + ("" if several else "  val top-1")
            self._console.print(header, style="bold cyan")
        line = f"{epoch.epoch:>5}  {_loss(epoch.train_loss)}"
        if epoch.train_top1 is not None:
            line += f"  {100 * epoch.train_top1:>7.2f} %"
        if epoch.val_loss is not None:
            line += f"   {_loss(epoch.val_loss)}"
        if epoch.val_top1 is not None:
            line += f"  {100 * epoch.val_top1:>7.2f} %"
        self._console.print(line)


def _loss(value: float) -> str:
    return f"{value:>8.4f}" if value < 1000 else f"{value:>8.2e}"  # of a fit that diverged
