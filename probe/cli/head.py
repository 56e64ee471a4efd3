"""`probe head`: fit a head on a cache entry and show its figures."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from typing import Any

from probe.cli import head_options as of
from probe.cli.options import AsJson, CacheDir, Group, Seed, cache_folder


@of.WithHeadOptions
def head(
    *,
    entry: of.Entry = None,
    solver: of.Solver = None,
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
    from probe.runs.fit import HeadRequest
    from probe.screen import console
    from probe.screen.heads import fit_named

    request = HeadRequest.of(
        head=solver, options=given, val_size=val_size, seeds=seeds, folds=folds, repeats=repeats,
        refit=refit, ensemble=ensemble, jobs=jobs, max_memory=max_memory,
        learning_curve=learning_curve, draws=draws, metric=metric, sample_weight=sample_weight,
        positive=positive, recall=recall, cost=cost, seed=seed,
        command="probe " + shlex.join(sys.argv[1:]),
    )  # fmt: skip
    folder = cache_folder(cache_dir)
    store = Store(folder)
    joined = join(store, store.choose(entry))
    run, path = fit_named(joined, request, group=group, jobs=jobs, cache_dir=folder, folder=out)
    if as_json:
        console.print_json({"run": str(path), **run.result.to_dict()})
    else:
        show(run, path, joined.entry.classes, cache_dir=folder)
