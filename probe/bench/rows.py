"""Rows of the leaderboard: figures, and the cost of passes, entries and heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from probe.backbones.catalog import BACKBONES
from probe.backbones.cut import network_cost
from probe.bench.fitting import Fitted
from probe.bench.plan import Pass
from probe.bench.record import DONE, FAILED, Cost, Row, Subgroups
from probe.bench.sources import Source
from probe.cache.features import FeatureSet
from probe.cache.store import Store
from probe.runs.results import RunResult

LEAST_TIMED = 100  # images: fewer time the start of the pass


def done_row(dataset: str, source: Source, head: str, fitted: Fitted, cost: Cost) -> Row:
    """Return the row of a finished run; its id comes later."""
    result = fitted.result
    chosen = result.selection or {}
    return Row(
        id="",
        dataset=dataset,
        name=source.name,
        kind=source.kind,
        head=head,
        status=DONE,
        backbone=result.backbone,
        weights=result.weights,
        layer=result.layer,
        pool=result.pool,
        size=source.size,
        pca=source.pca,
        entries=tuple(entry.name for entry in source.entries),
        run=fitted.run,
        feature_dim=source.width,
        penalty=chosen.get("penalty"),
        best=None if chosen.get("chosen") is None else float(chosen["chosen"]),
        n_train=result.n_train,
        n_val=result.n_val,
        n_test=result.n_test,
        metrics=result.metrics,
        intervals=_intervals(result),
        groups=(result.groups or {}).get("units"),
        subgroups=Subgroups.of(result.subgroups),
        cost=cost,
    )


def _intervals(result: RunResult) -> dict[str, dict[str, tuple[float, float]]]:
    """Return the run's intervals; of two classes that of the area is the mean area's, too."""
    found = {split: dict(bounds) for split, bounds in (result.intervals or {}).items()}
    for split, bounds in (result.two_classes or {}).get("intervals", {}).items():
        if "auc" in bounds and split in found:
            low, high = bounds["auc"]
            found[split]["macro_auc"] = (float(low), float(high))
    return found


def failed_row(
    dataset: str, name: str, head: str, reason: str, *, kind: str = "backbone", backbone: str = "",
    weights: str = "", status: str = FAILED,
) -> Row:  # fmt: skip
    """Return the row of features that failed, or that a race did not run on all images."""
    return Row(
        id="", dataset=dataset, name=name, kind=kind, head=head, status=status, backbone=backbone,
        weights=weights, layer="", pool="", entries=(), metrics={}, intervals={}, cost=Cost(),
        reason=reason,
    )  # fmt: skip


def row_cost(source: Source, passes: Sequence[Pass], store: Store, result: RunResult) -> Cost:
    """Return what some features and a head on them cost; several passes add up."""
    parameters = multiply_adds = 0
    known = all(one.cuts for one in passes)  # imported features have no network
    seconds: float | None = 0.0
    for one, entries in _by_pass(passes, source.entries):
        if known:
            spec = one.prepared.backbone if one.prepared else BACKBONES[one.candidate.backbone]
            network = network_cost(spec, one.cuts, one.size)
            known = known and network is not None
            parameters += network.parameters if network else 0
            multiply_adds += network.multiply_adds if network else 0
        rates = [rate for entry in entries if (rate := forward_rate(entry, store)) is not None]
        seconds = seconds + 1 / min(rates) if rates and seconds is not None else None
    images = sum(len(split) for split in source.splits.values())
    published = passes[0].imagenet if len(passes) == 1 else None
    return Cost(
        parameters=parameters if known else None,
        multiply_adds=multiply_adds if known else None,
        images_per_second=1 / seconds if seconds else None,
        extract_seconds=images * seconds if seconds else None,
        head_seconds=result.seconds,
        disk=sum(entry.path.stat().st_size for entry in source.entries),
        imagenet_top1=published[0] if published else None,
        imagenet_by=published[1] if published else None,
    )


def _by_pass(
    passes: Sequence[Pass], entries: Sequence[FeatureSet]
) -> list[tuple[Pass, list[FeatureSet]]]:
    """Return each pass once, with all its cuts: two layers of one network cost it once."""
    found: dict[tuple[object, ...], tuple[Pass, list[FeatureSet]]] = {}
    for one, entry in zip(passes, entries, strict=True):
        path = one.prepared.weights.path if one.prepared else None
        key = (one.candidate.backbone, one.weights, path, one.size)
        known, own = found.get(key, (replace(one, cuts=()), []))
        found[key] = replace(known, cuts=known.cuts + one.cuts), [*own, entry]
    return list(found.values())


def forward_rate(entry: FeatureSet, store: Store) -> float | None:
    """Return the images a second of the pass that made an entry, or another of its recipe.

    The one that forwarded most tells best; None where none forwarded LEAST_TIMED.
    """
    passes = [entry.seal]
    if entry.seal[1] < LEAST_TIMED:
        passes += [donor.seal for donor in store.donors(entry.key)]
    seconds, forwarded = max(passes, key=lambda one: one[1])
    return forwarded / seconds if forwarded >= LEAST_TIMED and seconds > 0 else None
