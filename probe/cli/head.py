"""`probe head`: fit a head on an entry and look at it."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, cast

from probe.cli import head_options as of
from probe.cli import head_texts as texts
from probe.cli.options import AsJson, CacheDir, Group, Seed, cache_folder
from probe.errors import UsageError

log = logging.getLogger(__name__)

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
    learning_curve: of.Curve = None,
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
    sampling: of.SamplingName = None,
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
    learning curve are scored on it too. Each evaluation on test rows is counted.
    """
    from probe.cache.joining import join
    from probe.cache.store import Store
    from probe.cli.head_figures import show
    from probe.core.machine import usable_cores
    from probe.evaluation.mistakes import read_costs
    from probe.heads import HEADS
    from probe.runs.fit import HeadRequest
    from probe.screen import console
    from probe.screen.heads import fit_shown, groups_named

    given = {
        "epochs": epochs, "batch_size": batch_size, "optimizer": optimizer, "lr": lr, "wd": wd,
        "momentum": momentum, "schedule": schedule, "hidden": hidden, "dropout": dropout,
        "label_smoothing": label_smoothing, "class_weight": class_weight,
        "sampling": "all" if sampling == "shuffle" else sampling,
        "patience": patience, "seeds": seeds, "C": c,
        "max_iter": max_iter, "alpha": alpha, "distance": distance, "shrinkage": shrinkage, "k": k,
        "temperature": temperature,
    }  # fmt: skip
    if draws and not learning_curve:
        raise UsageError("--draws is about a learning curve: add --learning-curve 5,10,20")
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
        per_class=tuple(texts.read_counts(learning_curve)) if learning_curve else (),
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
    request = replace(request, groups=groups_named(group or (), joined, request))
    notes = [] if jobs is None or HEADS[solver].load().one_by_one else [texts.no_jobs(solver, jobs)]
    run, path = fit_shown(
        joined, request, folder=out, runs=folder / "runs", ledger=folder / "ledger", notes=notes
    )
    if as_json:
        console.print_json({"run": str(path), **run.result.to_dict()})
    else:
        show(run, path, joined.entry.classes)


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
    return params, grids
