"""`probe head`: fit a head on an entry and look at it."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from probe.cli import head_options as of
from probe.cli.options import AsJson, CacheDir, Group, Seed, cache_folder
from probe.errors import UsageError
from probe.heads.catalog import HEADS, names_that, read_options

log = logging.getLogger(__name__)


@of.WithHeadOptions
def head(
    *,
    entry: of.Entry = None,
    solver: of.Solver = "dense",
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
    given: Mapping[str, Any],
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
    from probe.core.options import read_bytes, read_curve
    from probe.evaluation.mistakes import read_costs
    from probe.runs.fit import HeadRequest
    from probe.screen import console
    from probe.screen.heads import fit_shown, groups_named

    if draws and not learning_curve:
        raise UsageError("--draws is about a learning curve: add --learning-curve 5,10,20")
    params, grids = read_options(solver, given)
    request = HeadRequest(
        solver=solver,
        params=params,
        val_size=val_size,
        grids=grids,
        seeds=seeds or 1,
        folds=folds,
        repeats=repeats,
        refit=refit,
        ensemble=ensemble,
        jobs=jobs or usable_cores(),
        max_memory=read_bytes(max_memory),
        per_class=read_curve(learning_curve),
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
    notes = []
    if jobs is not None and not HEADS[solver].one_by_one:
        able = names_that("one_by_one")
        notes.append(f"-j {jobs} is for --head {able}; {solver} uses all cores for its one fit")
    run, path = fit_shown(
        joined, request, folder=out, runs=folder / "runs", ledger=folder / "ledger", notes=notes
    )
    if as_json:
        console.print_json({"run": str(path), **run.result.to_dict()})
    else:
        show(run, path, joined.entry.classes)
