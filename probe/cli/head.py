"""`probe head`: fit a head on an entry and look at it."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from probe.cli import head_options as of
from probe.cli import head_texts as texts
from probe.cli.options import AsJson, CacheDir, Group, Seed, cache_folder
from probe.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from probe.cache.joining import Joined
    from probe.evaluation.units import Groups
    from probe.heads import Epoch
    from probe.runs.fit import HeadRequest
    from probe.runs.selection import HeadRun

log = logging.getLogger(__name__)

UNSAID = (None, "", 0.0, "all", "constant")  # parameters that leave something out
CHOSEN = ("lr", "wd", "C", "alpha", "k")  # options that take several values


def head(
    entry: of.Entry = None,
    solver: of.Solver = "dense",
    normalize: of.Normalize = None,
    jobs: of.Jobs = None,
    max_memory: of.MaxMemory = None,
    seed: Seed = 42,
    out: of.Out = None,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
    val_size: of.ValSize = None,
    folds: of.Folds = 0,
    repeats: of.Repeats = 1,
    group: Group = None,
    metric: of.Metric = "top1",
    sample_weight: of.SampleWeight = None,
    seeds: of.Seeds = None,
    refit: of.Refit = None,
    ensemble: of.Ensemble = None,
    positive: of.Positive = None,
    recall: of.Recall = None,
    cost: of.Cost = None,
    per_class: of.PerClass = None,
    draws: of.Draws = None,
    c: of.Penalty = None,
    max_iter: of.MaxIter = None,
    epochs: of.Epochs = None,
    batch_size: of.BatchSize = None,
    optimizer: of.OptimizerName = None,
    lr: of.Lr = None,
    wd: of.Wd = None,
    momentum: of.Momentum = None,
    schedule: of.Schedule = None,
    hidden: of.Hidden = None,
    dropout: of.Dropout = None,
    label_smoothing: of.LabelSmoothing = None,
    class_weight: of.ClassWeight = None,
    balanced: of.Balanced = False,
    patience: of.Patience = None,
    alpha: of.Alpha = None,
    distance: of.Distance = None,
    shrinkage: of.Shrinkage = None,
    k: of.Neighbours = None,
    temperature: of.Temperature = None,
) -> None:
    """Fit a head on cached features: seconds, no image is read.

    Validation is the dataset's own, or else a stratified part of the training rows. The test split,
    where there is one, is scored once, at the end; where nothing is held out, the heads of a
    learning curve are scored on it too. Each is a look, and looks are counted.
    """
    from probe.cache.joining import join
    from probe.cache.store import Store
    from probe.cli import console
    from probe.cli.head_figures import show
    from probe.core.machine import usable_cores
    from probe.evaluation.mistakes import read_costs
    from probe.heads import HEADS
    from probe.runs.fit import HeadRequest

    given = {
        "epochs": epochs, "batch_size": batch_size, "optimizer": optimizer, "lr": lr, "wd": wd,
        "momentum": momentum, "schedule": schedule, "hidden": hidden, "dropout": dropout,
        "label_smoothing": label_smoothing, "class_weight": class_weight,
        "balanced": balanced or None, "patience": patience, "seeds": seeds, "C": c,
        "max_iter": max_iter, "alpha": alpha, "distance": distance, "shrinkage": shrinkage, "k": k,
        "temperature": temperature,
    }  # fmt: skip
    if draws and not per_class:
        raise UsageError("--draws is about a learning curve: add --per-class 5,10,20")
    params, grids = _read(solver, given, normalize)
    if class_weight not in {None, "balanced"}:
        raise UsageError(f"--class-weight {class_weight}: it is balanced, or left out")
    if ensemble not in {None, "average", "vote"}:
        raise UsageError(f"--ensemble {ensemble}: it is average or vote")
    request = HeadRequest(
        solver=solver,
        params=params,
        val_size=val_size,
        grids=grids,
        seeds=seeds or 1,
        folds=folds,
        repeats=repeats,
        refit=refit,
        ensemble=cast("Literal['average', 'vote'] | None", ensemble),
        jobs=jobs or usable_cores(),
        max_memory=texts.read_bytes(max_memory) if max_memory else None,
        per_class=tuple(texts.read_counts(per_class)) if per_class else (),
        draws=draws or 5,
        metric=metric,
        sample_weight=sample_weight,
        positive=positive,
        recall=recall,
        cost=read_costs(cost) if cost else None,
        seed=seed,
        command="probe " + shlex.join(sys.argv[1:]),
    )
    folder = cache_folder(cache_dir)
    store = Store(folder)
    joined = join(store, store.choose(entry))
    request = replace(request, groups=groups_of_entry(group or (), joined, request))
    notes = [] if jobs is None or HEADS[solver].load().one_by_one else [texts.no_jobs(solver, jobs)]
    run, path = fit(
        joined, request, folder=out, runs=folder / "runs", ledger=folder / "ledger", notes=notes
    )
    if as_json:
        console.print_json({"run": str(path), **run.result.to_dict()})
    else:
        show(run, path, joined.entry.classes)


def groups_of_entry(
    group: Sequence[str], joined: Joined, request: HeadRequest
) -> tuple[Groups, ...]:
    """Return the groups that ``--group`` names; say on stderr where a column might be one."""
    from probe.runs import grouping

    if grouping.names_no_column(group):
        line = grouping.hint(grouping.list_of(joined.entry.provenance))
        if line is not None:
            log.warning("%s", line)
    if not group:
        return ()
    request.check()
    return grouping.groups_of_entry(
        group, joined, fitting=request.fitting(), max_memory=request.max_memory
    )


def _read(
    solver: str, given: Mapping[str, Any], normalize: str | None
) -> tuple[dict[str, Any], dict[str, tuple[float, ...]]]:
    """Return parameters of the head, and those to choose with their values."""
    options = texts.own_options(solver, given)
    options.pop("seeds", None)
    params: dict[str, Any] = {} if normalize is None else {"normalize": normalize}
    grids = {}
    for name, value in options.items():
        if name not in CHOSEN:
            params[name] = value
            continue
        values = texts.values_of(solver, name, value)
        if len(values) == 1:
            params[name] = values[0]
        else:
            grids[name] = values
    if params.pop("balanced", False):
        params["sampling"] = "balanced"
    return params, grids


def fit(
    joined: Joined,
    request: HeadRequest,
    *,
    folder: Path | None,
    runs: Path,
    ledger: Path | None = None,
    notes: Sequence[str] = (),
) -> tuple[HeadRun, Path]:
    """Fit, score and keep a head; tell stderr about it."""
    from probe.cli import console
    from probe.evaluation.parts import warn_of_shared
    from probe.evaluation.splitting import warn_of_unknown
    from probe.runs.fit import fit_head, keep_run, plan_head, related_rows, run_folder

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
    notes = [*notes, *texts.too_many_neighbours(request, n_train)]
    with run_folder(folder, runs) as target:
        console.facts(err, facts | ({"note": "; ".join(notes)} if notes else {}))
        with console.progress("learning curve", "fits") as bar:
            task = bar.add_task("", total=len(request.per_class) * request.draws, visible=False)
            run = fit_head(
                joined, request, plan, on_epoch=_EpochTable(err), ledger=ledger,
                on_point=lambda _: bar.update(task, advance=1, visible=True),
                on_folds=warn_of_unknown,
            )  # fmt: skip
        keep_run(target, run, joined.entry.classes)
    return run, target


class _EpochTable:
    """One line an epoch: loss and accuracy on the training and the validation rows."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __call__(self, epoch: Epoch) -> None:
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
