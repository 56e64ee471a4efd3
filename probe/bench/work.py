"""Run a bench: extract what is missing, fit the heads, compare. It may be interrupted anywhere.

What was finished lies in the cache and among the runs, and is found there the next time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol as Interface
from typing import cast

import numpy as np

from probe.bench.candidates import dataset_labels, matching
from probe.bench.compare import compare_rows, make_matrix
from probe.bench.fitting import Fitted, Runs, head_request, plan_rows
from probe.bench.plan import Pass, Plan
from probe.bench.race import RaceOptions, Racing, discard_samples
from probe.bench.race_record import Race, RaceStage, dropped_words
from probe.bench.record import (
    DROPPED,
    LEFT_OUT,
    Bench,
    Comparison,
    Protocol,
    Row,
    Score,
    save_bench,
)
from probe.bench.rows import done_row, failed_row, row_cost
from probe.bench.scores import score_features
from probe.bench.sources import Source, of_entry, reduced, side_by_side
from probe.bench.table import write_table
from probe.cache.features import FeatureSet
from probe.cache.joining import Joined
from probe.cache.store import Store
from probe.core.plain import to_plain
from probe.core.run_folders import new_run_folder
from probe.core.version import __version__
from probe.errors import CacheError, DataError, ProbeError, UsageError
from probe.extraction.extract import Observer, extract_features
from probe.extraction.fastest import take_fastest
from probe.extraction.forward import Elsewhere
from probe.extraction.job import Job
from probe.heads.history import load_history
from probe.runs.grouping import groups_of_entry
from probe.runs.listeners import Heard, Listener, RunEnd, RunStart, heard_by, tags_of
from probe.runs.results import now, versions
from probe.schedulers import Workers, workers_called

log = logging.getLogger(__name__)


class Watcher(Interface):
    """Callbacks for the progress of a bench."""

    def extracting(self, dataset: str, one: Pass) -> AbstractContextManager[Observer]:
        """Called when a pass begins; returns the observer of its progress."""

    def fitting(self, dataset: str, name: str, head: str) -> None:
        """Called before a head is fitted."""

    def fitted(self, fitted: Fitted) -> None:
        """Called when a head was fitted, or its run was found."""

    def failed(self, dataset: str, name: str, reason: str) -> None:
        """Called when a row fails; the others go on."""

    def left_out(self, dataset: str, name: str, reason: str) -> None:
        """Called when a combination is left out because it makes no sense."""

    def stage(self, dataset: str, stage: RaceStage, left: int) -> None:
        """Called when all that are left in a race were compared on a sample."""

    def raced(self, dataset: str, race: Race) -> None:
        """Called when a race is over."""


@dataclass(frozen=True, kw_only=True)
class BenchRequest:
    """The options of `probe bench`, except those of its passes.

    Parameters
    ----------
    concat : tuple of tuple of str
        Candidates, by their text, whose features are put side by side; a tuple a row. An empty
        tuple means all.
    pca : tuple of int
        Widths; every features wider than that get a row of their own.
    group : tuple of str
        What images belong together by, see `probe.runs.grouping`. Near-duplicates are those of the
        first features, so that all features are compared on the same rows.
    scheduler : str, optional
        Whose workers forward images, and fit heads that are fitted one by one.
    race : RaceOptions, optional
        Drop on samples what can no longer win, see `probe.bench.race`.
    """

    cache_dir: Path
    protocol: Protocol
    concat: tuple[tuple[str, ...], ...] = ()
    pca: tuple[int, ...] = ()
    group: tuple[str, ...] = ()
    scheduler: str | None = None
    race: RaceOptions | None = None
    command: str = ""


def check_request(request: BenchRequest, plan: Plan) -> None:
    """Refuse impossible requests before anything runs.

    Raises
    ------
    UsageError
        A concat speaks of features that are not compared, or folds and a PCA meet, or a race has
        nothing to save.
    """
    if request.race is not None:
        _check_race(request, plan)
    if request.pca and request.protocol.folds:
        raise UsageError(
            "--pca and --folds: rows that a fold holds out would have a part in the projection; "
            "leave --folds out"
        )
    for passes in plan.passes:
        sound = [name for one in passes if one.reason is None for name in one.names]
        broken = [
            one.candidate.entry or one.candidate.backbone
            for one in passes
            if one.reason is not None
        ]
        for texts in request.concat:
            if len(texts) == 1 or (not texts and len(sound) + len(broken) < 2):
                raise UsageError("--concat: name two candidates or more, as vgg16@64+resnet50")
            for text in texts:
                if text.partition("/")[0].partition("@")[0] not in broken:
                    matching(text, sound)


def _check_race(request: BenchRequest, plan: Plan) -> None:
    if request.concat:
        raise UsageError(
            "--concat and --race: features side by side need all images of each, which a race "
            "does not forward; leave one of them out"
        )
    for passes in plan.passes:
        if all(one.source is not None for one in passes):
            raise UsageError(
                "--race: entries hold the features of all images already, so that nothing would "
                "be saved; leave it out"
            )


def run_bench(
    request: BenchRequest, plan: Plan, watcher: Watcher, listeners: Iterable[Listener] = ()
) -> tuple[Path, Bench]:
    """Run the plan and write `bench.json` and `results.csv`.

    Parameters
    ----------
    listeners : iterable of Listener
        They hear of the bench as of a run, and within it of the run of each row that is done.

    Returns
    -------
    folder : Path
    bench : Bench
        With a row for everything that failed, and why.

    Raises
    ------
    UsageError
        Nothing would be held out to compare on.
    CacheError
        The state folder cannot be written.
    """
    labels = dataset_labels([passes[0].request.dataset for passes in plan.passes])
    with heard_by(listeners, _told_of(request, labels)) as heard:
        folder, bench = _run(request, plan, watcher, labels, heard)
        heard.ended(_end_of(folder, bench))
    return folder, bench


def _run(
    request: BenchRequest, plan: Plan, watcher: Watcher, labels: Sequence[str], heard: Heard
) -> tuple[Path, Bench]:
    started, runs = time.perf_counter(), Runs(request.cache_dir)
    rows: list[Row] = []
    comparisons: list[Comparison] = []
    races: list[Race] = []
    with workers_called(request.scheduler) as workers:
        for number, (label, passes) in enumerate(zip(labels, plan.passes, strict=True)):
            one = _Dataset(
                label, request, passes, runs=runs, watcher=watcher, workers=workers, heard=heard
            )
            if request.race is not None:
                races += one.race(request.race, share=1 / (len(labels) - number))
            own, comparison = one.compare(first=len(rows) + 1)
            rows += own
            comparisons.append(comparison)
    benches = request.cache_dir / "benches"
    try:
        folder = new_run_folder(benches)
    except OSError as error:
        raise CacheError(
            f"{benches}: cannot be written ({error.strerror or error}); make room, or name another "
            "place with --cache-dir"
        ) from error
    bench = Bench(
        id=folder.name,
        command=request.command,
        created=now(),
        seconds=time.perf_counter() - started,
        protocol=request.protocol,
        rows=tuple(rows),
        comparisons=tuple(comparisons),
        matrix=make_matrix(rows, request.protocol),
        races=tuple(races),
        versions=versions(),
    )
    write_table(folder, bench)
    save_bench(folder, bench)
    return folder, bench


def _told_of(request: BenchRequest, labels: Sequence[str]) -> RunStart:
    params = {name: ",".join(one) if isinstance(one, list) else one
              for name, one in to_plain(request.protocol).items()}  # fmt: skip
    tags = {"dataset": ",".join(labels), "command": request.command, "probe": __version__}
    return RunStart(kind="bench", name="bench", folder=None, params=params, tags=tags)


def _end_of(folder: Path, bench: Bench) -> RunEnd:
    protocol, figures = bench.protocol, {"seconds": bench.seconds}
    for one in bench.comparisons:
        if one.winner is not None:
            value = bench.row(one.winner).metrics[protocol.split][protocol.metric]
            figures[f"{one.dataset}/{protocol.metric}"] = value
    note = "\n".join(f"{one.dataset}: {one.verdict}" for one in bench.comparisons)
    return RunEnd(status="finished", folder=folder, figures=figures, note=note)


class _Dataset:
    """The part of a bench that one dataset is."""

    def __init__(
        self, label: str, request: BenchRequest, passes: Sequence[Pass], *, runs: Runs,
        watcher: Watcher, workers: Workers | None, heard: Heard,
    ) -> None:  # fmt: skip
        self._workers, self._heard = workers, heard
        self._request, self._passes, self._runs, self._watcher = request, passes, runs, watcher
        self._store = Store(request.cache_dir)
        self._dataset = label
        self._rows: list[Row] = []
        self._scores: list[Score] = []

    def race(self, options: RaceOptions, *, share: float) -> list[Race]:
        """Race, and keep the passes that are left for all images; none where all have failed.

        Parameters
        ----------
        share : float
            Part of the time that is left, which this dataset may take.
        """
        if not any(one.prepared is not None and one.reason is None for one in self._passes):
            return []
        self._passes = [_by_fastest(one) for one in self._passes]
        racing = Racing(
            self._dataset, self._passes, protocol=self._request.protocol,
            group=self._request.group, options=options, store=self._store,
            forward=self._forwarded, watcher=self._watcher, until=options.until(share),
        )  # fmt: skip
        left, race = racing.run()
        of = {name: one for one in self._passes for name in one.names}
        why = {
            name: (dropped_words(stage, one, race.metric), DROPPED)
            for name, (stage, one) in race.dropped.items()
        } | {name: (reason, LEFT_OUT) for name, reason in race.left_out.items()}
        self._rows += [
            failed_row(
                self._dataset, name, race.head, reason, status=status,
                backbone=of[name].candidate.backbone, weights=of[name].weights,
            )
            for name, (reason, status) in why.items()
        ]  # fmt: skip
        self._passes = left
        Plan(passes=(tuple(left),)).check_disk(self._request.cache_dir)
        return [race]

    def compare(self, *, first: int) -> tuple[list[Row], Comparison]:
        made: list[tuple[Pass, Source]] = []
        for one in self._passes:
            made += self._extracted(one)
        made = self._grouped(made)
        for one, source in made:
            self._fit(source, [one])
            self._score(one, source)
        for parts in self._concats(made):
            self._side_by_side(parts)
        images, n_classes = {}, 0
        if made:
            source = made[0][1]
            images = {name: len(split) for name, split in source.splits.items()}
            n_classes = len(source.entry.classes)
        rows = [replace(row, id=f"r{first + i:02d}") for i, row in enumerate(self._rows)]
        return compare_rows(
            rows, self._runs.folder, self._request.protocol, n_classes=n_classes, images=images,
            scores=self._scores,
        )  # fmt: skip

    def _grouped(self, made: list[tuple[Pass, Source]]) -> list[tuple[Pass, Source]]:
        """Return the features with what their images are grouped by."""
        if not (made and self._request.group):
            return made
        first, protocol = made[0][1], self._request.protocol
        fitting = head_request(protocol.heads[0], protocol, "").fitting()
        groups = groups_of_entry(self._request.group, cast("Joined", first), fitting=fitting)
        return [(one, replace(source, groups=groups)) for one, source in made]

    def _extracted(self, one: Pass) -> list[tuple[Pass, Source]]:
        """Return the features of a pass, forwarding what is missing."""
        if one.source is not None:
            return [(one, one.source)]
        if one.reason is None:
            try:
                entries = self._entries(one)
                return [
                    (replace(one, cuts=(cut,)), of_entry(name, entry))
                    for name, cut, entry in zip(one.names, one.cuts, entries, strict=True)
                ]
            except ProbeError as error:
                one = replace(one, reason=" ".join(str(error).split()))
                self._watcher.failed(self._dataset, ", ".join(one.names), one.reason or "")
        for name in one.names:  # what the plan said already is not said again
            self._add_failed(
                name, one.reason or "", backbone=one.candidate.backbone, weights=one.weights
            )
        return []

    def _entries(self, one: Pass) -> list[FeatureSet]:
        if one.complete:
            return [entry for entry in one.entries if entry is not None]
        assert one.prepared is not None  # a pass without has a reason or an entry
        if self._request.race is None:
            fastest = take_fastest(one.prepared).prepared
            return self._forwarded(replace(one, prepared=fastest), fastest.job)
        entries = self._forwarded(one, one.prepared.job)
        for entry in entries:
            content = np.concatenate([each.content for each in entry.splits.values()])
            discard_samples(self._store, entry.key, content)
        return entries

    def _forwarded(self, one: Pass, job: Job) -> list[FeatureSet]:
        """Return the entries of a job, which is a pass or a sample of it."""
        prepared, workers = one.prepared, self._workers
        assert prepared is not None
        with self._watcher.extracting(self._dataset, one) as observer:
            return list(
                extract_features(
                    job, self._store, prepared.engine_for, observer,
                    workers=one.request.workers,
                    elsewhere=Elsewhere(workers, prepared.network_for) if workers else None,
                )
            )  # fmt: skip

    def _concats(self, made: Sequence[tuple[Pass, Source]]) -> Iterator[list[tuple[Pass, Source]]]:
        names = [source.name for _, source in made]
        for texts in self._request.concat:
            try:
                wanted = [matching(text, names) for text in texts] if texts else names
            except UsageError as error:  # it was there in the plan: its pass failed since
                self._fail("+".join(texts), error, kind="concat")
                continue
            if len(wanted) > 1:
                yield [made[names.index(name)] for name in wanted]

    def _side_by_side(self, parts: list[tuple[Pass, Source]]) -> None:
        name = "+".join(source.name for _, source in parts)
        try:
            joined = side_by_side([source for _, source in parts])
        except ProbeError as error:
            self._fail(name, error, kind="concat")
        else:
            self._fit(joined, [one for one, _ in parts])

    def _fit(self, source: Source, passes: Sequence[Pass]) -> None:
        """Make the rows of some features: each head, and again after each PCA."""
        self._fit_heads(source, passes)
        for width in self._request.pca:
            if width >= source.width:
                reason = f"it has {source.width:,} features, no more than --pca {width}"
                self._watcher.left_out(self._dataset, source.name, reason)
            else:
                try:
                    plan = plan_rows(source, self._request.protocol)
                    narrow = reduced(source, width, plan.train)
                except ProbeError as error:
                    self._fail(f"{source.name}-pca{width}", error, kind="pca")
                else:
                    self._fit_heads(narrow, passes)

    def _fit_heads(self, source: Source, passes: Sequence[Pass]) -> None:
        request, dataset = self._request, self._dataset
        for head in request.protocol.heads:
            try:
                fitted = self._runs.fit(
                    source, head, request.protocol, request.command,
                    on_fit=partial(self._watcher.fitting, dataset, source.name, head),
                    workers=self._workers,
                )  # fmt: skip
            except ProbeError as error:
                self._fail(source.name, error, kind=source.kind, heads=(head,))
                continue
            self._watcher.fitted(fitted)
            self._tell(f"{source.name} {head}", fitted)
            cost = row_cost(source, passes, self._store, fitted.result)
            self._rows.append(done_row(dataset, source, head, fitted, cost))

    def _tell(self, name: str, fitted: Fitted) -> None:
        if not self._heard:
            return
        folder, result = self._runs.folder / fitted.run, fitted.result
        tags = tags_of(result, result.head, result.command)
        self._heard.started(
            RunStart(kind="head", name=name, folder=folder, params=result.params, tags=tags)
        )
        try:
            history = load_history(folder)
        except DataError as error:
            log.warning("%s: its epochs are not told", error)
            history = []
        self._heard.finished(folder, result, history)

    def _score(self, one: Pass, source: Source) -> None:
        protocol = self._request.protocol
        try:
            self._scores += score_features(
                source, plan_rows(source, protocol), one.prepared,
                seed=protocol.seed, folder=self._request.cache_dir / "benches" / ".scores",
            )  # fmt: skip
        except ProbeError as error:  # the row has failed with the same reason
            log.info("%s: no scores without training: %s", source.name, error)

    def _fail(self, name: str, error: ProbeError, *, kind: str, heads: Sequence[str] = ()) -> None:
        reason = " ".join(str(error).split())
        self._watcher.failed(self._dataset, name, reason)
        self._add_failed(name, reason, kind=kind, heads=heads)

    def _add_failed(
        self, name: str, reason: str, *, kind: str = "backbone", heads: Sequence[str] = (),
        backbone: str = "", weights: str = "",
    ) -> None:  # fmt: skip
        for head in heads or self._request.protocol.heads:
            self._rows.append(
                failed_row(
                    self._dataset, name, head, reason, kind=kind, backbone=backbone, weights=weights
                )
            )


def _by_fastest(one: Pass) -> Pass:
    """Return a pass by its fastest engine, so that a race's samples and all images have one."""
    if one.reason is not None or one.prepared is None or one.complete:
        return one
    try:
        return replace(one, prepared=take_fastest(one.prepared).prepared)
    except ProbeError:  # its pass fails alike, and says so
        return one
