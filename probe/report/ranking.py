"""Rank runs by their figures on rows that were held out from training."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from probe.bench.record import DONE, Cost, Row, Subgroups
from probe.cache.joining import Joined
from probe.errors import DataError
from probe.evaluation.predictions import Predictions, load_predictions
from probe.heads.history import Epoch, load_history
from probe.runs.results import RunResult

METRICS = ("map", "top1")  # a row has one of them

log = logging.getLogger(__name__)

CHOOSING = ("oof", "val")  # splits by which runs are ranked; the one with more rows comes first


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """A complete run; its history and predictions are read when they are needed."""

    folder: Path
    result: RunResult

    @property
    def id(self) -> str:
        return self.folder.name

    @cached_property
    def history(self) -> list[Epoch]:
        try:
            return load_history(self.folder)
        except DataError as error:  # the page is made without it
            log.warning("%s", error)
            return []

    def predictions(self) -> dict[str, Predictions]:
        """Read its predictions of held-out rows, which are not kept in memory."""
        return load_predictions(self.folder)


def ranked(runs: Iterable[Run], entries: Mapping[str, Joined]) -> list[Row]:
    """Return runs as rows of a leaderboard, best first on held-out rows."""
    rows = [_row(run, entries.get(run.result.entry)) for run in sorted(runs, key=lambda r: r.id)]

    def score(row: Row) -> float:
        split = next((split for split in CHOOSING if split in row.metrics), None)
        found = [row.metrics[split].get(one) for one in METRICS] if split else []
        return next((one for one in found if one is not None), -1.0)

    rows.sort(key=score, reverse=True)
    scores = [score(row) for row in rows]
    return [  # equal scores share a rank, as in a bench
        replace(row, rank=1 + sum(other > own for other in scores) if own >= 0 else None)
        for row, own in zip(rows, scores, strict=True)
    ]


def _row(run: Run, joined: Joined | None) -> Row:
    one = run.result
    size = joined.entry.provenance.get("size") if joined else None
    penalty = one.selection["penalty"] if one.selection else None
    chosen = one.params.get(penalty) if penalty else None
    return Row(
        id=run.id,
        dataset=one.dataset,
        name=f"{one.backbone}/{one.layer}" + (f"@{size}" if size else ""),
        kind="backbone",
        head=one.head,
        status=DONE,
        backbone=one.backbone,
        weights=one.weights,
        layer=one.layer,
        pool=one.pool,
        entries=(one.entry,),
        metrics=one.metrics,
        intervals=one.intervals or {},
        cost=_cost(one, joined),
        size=size if isinstance(size, int) else None,
        run=run.id,
        feature_dim=joined.entry.width if joined else None,
        penalty=penalty,
        best=chosen if isinstance(chosen, int | float) else None,
        n_train=one.n_train,
        n_val=one.n_val,
        n_test=one.n_test,
        groups=(one.groups or {}).get("units"),
        subgroups=Subgroups.of(one.subgroups),
    )


def _cost(result: RunResult, joined: Joined | None) -> Cost:
    if joined is None:
        return Cost(head_seconds=result.seconds)
    seconds, forwarded = joined.entry.seal
    rate = forwarded / seconds if seconds > 0 and forwarded else None
    images = sum(len(split) for split in joined.splits.values())
    return Cost(
        images_per_second=rate,
        extract_seconds=images / rate if rate else None,
        head_seconds=result.seconds,
        disk=joined.entry.path.stat().st_size,
    )
