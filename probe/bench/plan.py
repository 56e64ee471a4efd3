"""Plan a bench before anything runs: rows to forward, time and disk space."""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.backbones.catalog import BACKBONES
from probe.backbones.cut import feature_shapes
from probe.backbones.spec import Layer, Pool
from probe.bench.candidates import Candidate, feature_name
from probe.bench.given import Reference, given_source
from probe.bench.sources import Source
from probe.cache.features import FeatureSet
from probe.cache.joining import join
from probe.cache.key import FeatureKey
from probe.cache.pending import unfinished_files
from probe.cache.store import Store
from probe.cache.unfinished import progress
from probe.core.short_repr import short_repr
from probe.engines import default_batch_size
from probe.errors import ProbeError, UsageError
from probe.extraction.extract import find_entries
from probe.extraction.forward import Pictures, forward_rows
from probe.extraction.job import Cut, Job
from probe.extraction.request import Prepared, Request, prepare

log = logging.getLogger(__name__)

TIMED_BATCHES = 2  # on each device, after one that also allocates
PATIENCE = 20.0  # seconds after which one timed batch has to do
RESERVE = 200_000_000  # bytes that a disk keeps for everybody else
BESIDE_ROWS = 1.05  # ids, labels, hashes and checksums stand beside the rows


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One backbone over one dataset: the entries it fills, and what that takes.

    Parameters
    ----------
    request : Request
        What `probe extract` would be asked for.
    names : tuple of str
        Of the features, one a cut; the candidate's text where it cannot be prepared.
    entries : tuple of FeatureSet or None
        Those that are complete.
    images, missing : int
        In all splits; those to be forwarded.
    disk : int
        Bytes to be written.
    rate, seconds : float, optional
        Images a second, as measured, and what the missing ones take; None where nothing, or next
        to nothing, is missing.
    reason : str, optional
        Why it cannot be done.
    source : Source, optional
        The features, where an entry was named: there is nothing to forward.
    prepared : Prepared, optional
        The request with everything decided, for all that follows: the dataset is read and the
        weights are resolved and digested once. Parameters are read when a network is built, since
        those of all passes may not fit into memory together.
    """

    __repr__ = short_repr

    candidate: Candidate
    request: Request
    names: tuple[str, ...]
    cuts: tuple[tuple[Layer, Pool], ...] = ()
    entries: tuple[FeatureSet | None, ...] = ()
    images: int = 0
    missing: int = 0
    disk: int = 0
    rate: float | None = None
    seconds: float | None = None
    reason: str | None = None
    source: Source | None = None
    size: int | None = None
    weights: str = ""
    imagenet: tuple[float, str] | None = None
    prepared: Prepared | None = None

    @property
    def complete(self) -> bool:
        """Whether all its entries are there."""
        return self.reason is None and None not in self.entries


def plan_pass(
    candidate: Candidate, request: Request, store: Store, *, measure: bool = True
) -> Pass:
    """Plan one pass; an error becomes the reason why it cannot run.

    Parameters
    ----------
    measure : bool
        Time a few real batches where rows are missing; this loads the weights.
    """
    planned = Pass(candidate=candidate, request=request, names=(candidate.text,))
    try:
        prepared = prepare(request)
        entries = find_entries(prepared.job, store)
        missing = missing_rows(prepared, store, entries)
        planned = _described(planned, prepared, store, entries, missing)
        if planned.missing and measure and request.scheduler is None:  # else nobody can tell
            planned = _timed(planned, prepared, np.flatnonzero(missing))
    except ProbeError as error:
        log.info("%s: %s", candidate.text, error)
        return replace(planned, reason=" ".join(str(error).split()))
    return planned


def plan_given(candidate: Candidate, request: Request, store: Store, reference: Reference) -> Pass:
    """Plan the use of an entry that was named: nothing is forwarded, but its rows have to fit."""
    planned = Pass(candidate=candidate, request=request, names=(candidate.text,))
    try:
        joined = join(store, store.choose(candidate.text))
        source = given_source(joined, reference)
    except ProbeError as error:
        return replace(planned, reason=" ".join(str(error).split()))
    key = joined.entry.key
    cuts: tuple[tuple[Layer, Pool], ...] = ()
    if source.kind != "imported" and key.backbone in BACKBONES:
        cuts = (BACKBONES[key.backbone].cut(key.layer, key.pool),)
    return replace(
        planned,
        source=source,
        cuts=cuts,
        entries=(joined.entry,),
        images=sum(map(len, source.splits.values())),
        size=source.size,
        weights=str(joined.entry.provenance.get("weights", "")),
    )


def _described(
    planned: Pass,
    prepared: Prepared,
    store: Store,
    entries: Sequence[FeatureSet | None],
    missing: NDArray[np.bool_],
) -> Pass:
    job, spec = prepared.job, prepared.weights.spec
    names = tuple(
        feature_name(job.backbone.name, cut.layer.name, cut.pool, job.preprocess.size,
                     prepared.weights.name, resize=prepared.resize)
        for cut in job.cuts
    )  # fmt: skip
    return replace(
        planned,
        prepared=prepared,
        names=names,
        cuts=tuple((cut.layer, cut.pool) for cut in job.cuts),
        entries=tuple(entries),
        images=job.count,
        missing=min(int(missing.sum()), job.count - _finished(job, store, entries)),
        disk=sum(
            _bytes(job, cut) for cut, entry in zip(job.cuts, entries, strict=True) if entry is None
        ),
        size=job.preprocess.size,
        weights=prepared.weights.name,
        imagenet=(spec.top1, spec.top1_by) if spec is not None and spec.top1 is not None else None,
    )


def missing_rows(
    prepared: Prepared, store: Store, entries: Sequence[FeatureSet | None]
) -> NDArray[np.bool_]:
    """Return which images of a job no complete entry of the same recipes holds, bool, (count,)."""
    job = prepared.job
    content = np.concatenate([table.content for table in job.tables.values()])
    open_cuts = [cut.key for cut, one in zip(job.cuts, entries, strict=True) if one is None]
    return lacking(store, open_cuts, content)


def lacking(
    store: Store, keys: Sequence[FeatureKey], content: NDArray[np.uint8]
) -> NDArray[np.bool_]:
    """Return which images, by their hashes, (n, 16), some recipe's complete entries do not hold."""
    hashes = np.ascontiguousarray(content).view("V16")[:, 0]
    missing = np.zeros(len(hashes), bool)
    for key in keys:
        known = [
            np.ascontiguousarray(split.content).view("V16")[:, 0]
            for donor in store.donors(key)
            for split in donor.splits.values()
        ]
        missing |= ~np.isin(hashes, np.concatenate(known)) if known else True
    return missing


def _finished(job: Job, store: Store, entries: Sequence[FeatureSet | None]) -> int:
    """Return how many images an interrupted pass got through, in all of its open entries."""
    partials = [
        unfinished_files(store.path_of(cut.key, job.dataset.name))[0]
        for cut, entry in zip(job.cuts, entries, strict=True)
        if entry is None
    ]
    return min((progress(partial)[0] for partial in partials), default=0)


def _bytes(job: Job, cut: Cut) -> int:
    """Return about how large the entry of a cut will be."""
    (shape,) = feature_shapes(job.backbone, [(cut.layer, cut.pool)], job.preprocess)
    width = math.prod(shape) * np.dtype(cut.key.dtype).itemsize
    return int(job.count * job.views * width * BESIDE_ROWS)


def _timed(planned: Pass, prepared: Prepared, rows: NDArray[np.intp]) -> Pass:
    """Forward a few of the missing rows and see how long that takes; nothing is kept."""
    usual = prepared.request.batch_size or default_batch_size(prepared.preprocess.size)
    if len(rows) * prepared.job.views <= usual * TIMED_BATCHES:  # the measurement would be the work
        return planned
    cuts = [cut for cut, one in zip(planned.cuts, planned.entries, strict=True) if one is None]
    engine = prepared.engine_for(cuts)
    per_batch = engine.batch_size // prepared.job.views
    count = (TIMED_BATCHES + 1) * engine.devices
    batches = [rows[i * per_batch : (i + 1) * per_batch] for i in range(count)]
    since, done, taken = time.perf_counter(), 0, []
    for number, (forwarded, _) in enumerate(
        forward_rows(
            Pictures.of(prepared.job), engine, [one for one in batches if len(one)],
            workers=prepared.request.workers,
        ),
        start=1,
    ):  # fmt: skip
        done += len(forwarded)
        if number % engine.devices:  # batches of several devices end together
            continue
        taken.append((time.perf_counter() - since) / done)
        since, done = time.perf_counter(), 0
        if len(taken) > 1 and sum(taken) * per_batch * engine.devices > PATIENCE:
            break
    if not taken:
        return planned
    each = min(taken[1:] or taken)  # the first also allocates
    return replace(planned, rate=1 / each, seconds=len(rows) * each)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All passes of a bench, dataset by dataset."""

    __repr__ = short_repr

    passes: tuple[tuple[Pass, ...], ...]

    @property
    def disk(self) -> int:
        """Bytes to be written."""
        return sum(one.disk for passes in self.passes for one in passes)

    @property
    def seconds(self) -> float:
        """What forwarding takes, as far as it was measured."""
        return sum(one.seconds or 0.0 for passes in self.passes for one in passes)

    def check_disk(self, cache_dir: Path) -> None:
        """Refuse what does not fit.

        Raises
        ------
        UsageError
            Says how much is missing and what would make it less.
        """
        there = cache_dir
        while not there.exists():
            there = there.parent
        free = shutil.disk_usage(there).free
        if self.disk + RESERVE > free:
            raise UsageError(
                f"{cache_dir}: the features take {self.disk / 1e9:.2f} GB and {free / 1e9:.2f} GB "
                "are free; name fewer backbones or layers, take --dtype float16 or --per-class N, "
                "or another --cache-dir"
            )


def make_plan(
    wanted: Sequence[Sequence[tuple[Candidate, Request]]],
    store: Store,
    *,
    references: Sequence[Reference | None] | None = None,
    measure: bool = True,
    on_pass: Callable[[str, str], None] | None = None,
) -> Plan:
    """Plan every pass; two candidates that mean the same features are planned once.

    Parameters
    ----------
    wanted : sequence of sequence of (Candidate, Request)
        A sequence a dataset.
    references : sequence of Reference or None, optional
        The rows of each dataset, where entries were named.
    on_pass : callable, optional
        Told dataset and candidate before each.
    """
    found = []
    for requests, rows in zip(wanted, references or [None] * len(wanted), strict=True):
        passes: list[Pass] = []
        for candidate, request in requests:
            if on_pass is not None:
                on_pass(request.dataset, candidate.text)
            if candidate.entry is None:
                passes.append(plan_pass(candidate, request, store, measure=measure))
            else:
                assert rows is not None
                passes.append(plan_given(candidate, request, store, rows))
        found.append(tuple(_distinct(passes)))
    return Plan(passes=tuple(found))


def _distinct(passes: Sequence[Pass]) -> list[Pass]:
    """Drop passes that repeat an earlier one, and give those with other weights distinct names."""
    kept: dict[tuple[object, ...], Pass] = {}
    for one in passes:
        keys = tuple(cut.key.digest for cut in one.prepared.job.cuts) if one.prepared else ()
        kept.setdefault((one.names, keys, one.reason), one)
    alike: dict[str, list[Pass]] = {}
    for one in kept.values():
        for name in one.names:
            alike.setdefault(name, []).append(one)

    def told_apart(name: str, one: Pass) -> str:
        if len(alike[name]) == 1:
            return name
        if len({other.weights for other in alike[name]}) == len(alike[name]):
            return f"{name}={one.weights}"
        return f"{name}={one.candidate.place or one.candidate.weights or one.weights}"

    return [
        replace(one, names=tuple(told_apart(name, one) for name in one.names))
        for one in kept.values()
    ]
