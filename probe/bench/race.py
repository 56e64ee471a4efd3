"""A race before the passes: those that can no longer win on a sample are not run on all images.

The candidates see samples that double: each is part of the next, has its share of each class, and
keeps images together that belong together. A sample has images of the part that the protocol fits
heads on and of the part that it holds out, so that no head is compared on images that the bench
will fit it on; test images have no part in a race. What the samples show decides
`probe.evaluation.racing`.

Features of a sample are an entry of the cache, marked as such, into which the rows of the smaller
sample are copied. The full pass copies them, too, so nothing is forwarded twice, and a race that
was interrupted goes on from what it has.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from typing import Protocol as Interface

import numpy as np
from numpy.typing import NDArray

from probe.bench.fitting import head_request
from probe.bench.plan import Pass, lacking
from probe.bench.race_record import Race, RaceStage
from probe.bench.record import Protocol
from probe.bench.rows import LEAST_TIMED, forward_rate
from probe.cache.features import FeatureSet
from probe.cache.filling import as_bytes
from probe.cache.key import FeatureKey
from probe.cache.store import SAMPLE_OF, Store
from probe.core.options import seconds_text
from probe.core.short_repr import short_repr
from probe.datasets import Dataset
from probe.errors import ProbeError, UsageError
from probe.evaluation.pairs import Evidence, evidence_of
from probe.evaluation.parts import Part, plan_splits
from probe.evaluation.predictions import Predictions
from probe.evaluation.racing import beginning, judge, level_of_race, nested_order
from probe.evaluation.splitting import fold_split
from probe.evaluation.units import Units, relate
from probe.extraction.cached_rows import CachedRows
from probe.extraction.job import Cut, Job, decide
from probe.heads.base import BaseHead
from probe.runs.grouping import find_groups, read_weights
from probe.runs.results import LOSSES, difference_text, span_text
from probe.runs.selection import fit_and_choose

log = logging.getLogger(__name__)

FEWEST, HALVINGS = 300, 6  # images of the smallest sample; it is at least 1/64 of all
ROOM = 1.25  # times what was reckoned has to fit in a budget

Rows = NDArray[np.intp]
Features = Callable[[str, Rows], NDArray[Any]]  # of rows of a split


class Watcher(Interface):
    """Callbacks for the progress of a race, among those of a bench."""

    def stage(self, dataset: str, stage: RaceStage, left: int) -> None:
        """Called when all that are left were compared on a sample."""

    def raced(self, dataset: str, race: Race) -> None:
        """Called when a race is over."""

    def failed(self, dataset: str, name: str, reason: str) -> None:
        """Called when a pass fails; the others go on."""


@dataclass(frozen=True, kw_only=True)
class RaceOptions:
    """What a race is told.

    Parameters
    ----------
    risk : float
        See `Race`.
    budget : float, optional
        Seconds for all of the bench, from `began` on.
    began : float
        `time.monotonic` when the command began.
    """

    risk: float = 0.05
    budget: float | None = None
    began: float = 0.0

    def until(self, share: float) -> float:
        """Return the time by which a part of the bench has to be done, by `time.monotonic`.

        Parameters
        ----------
        share : float
            Of the time that is left now.
        """
        now = time.monotonic()
        return math.inf if self.budget is None else now + share * (self.began + self.budget - now)


class _Track:
    """The rows that a protocol fits and compares heads on, and samples of them."""

    def __init__(self, dataset: Dataset, protocol: Protocol, group: Sequence[str]) -> None:
        splits, seed = dataset.splits, protocol.seed
        self.dataset, self.seed = dataset, seed
        self.labels = {name: split.labels for name, split in splits.items()}
        self.content = {name: split.images.content() for name, split in splits.items()}
        ids = {name: split.ids for name, split in splits.items()}
        columns = {name: split.columns for name, split in splits.items()}
        related = relate(self.content, find_groups(group, ids, columns))
        plan = plan_splits(self.labels, val_size=protocol.val_size, seed=seed, related=related)
        self._units = plan.units
        if plan.val is None:  # the first of the protocol's folds is held out
            self._splits = ("train", "train")
            own = plan.units.get("train")
            self._rows = fold_split(self.labels["train"], protocol.folds, seed, units=own)[0]
        else:
            self._splits = (plan.train.split, plan.val.split)
            fit, held = (
                np.arange(len(self.labels[one.split])) if one.rows is None else one.rows
                for one in (plan.train, plan.val)
            )
            self._rows = (fit, held)
        self._orders = [
            nested_order(
                dataset.task.strata(self.labels[split][rows], dataset.classes)[0],
                seed + number, self._taken(split, rows),
            )
            for number, (split, rows) in enumerate(zip(self._splits, self._rows, strict=True))
        ]  # fmt: skip
        self._weights = None
        if protocol.sample_weight is not None:
            fitted = {name: one for name, one in ids.items() if name != "test"}
            self._weights = read_weights(protocol.sample_weight, fitted, columns)["train"]

    def _taken(self, split: str, rows: Rows) -> Units | None:
        return self._units[split][rows] if split in self._units else None

    @property
    def count(self) -> int:
        """All images that heads are fitted or compared on."""
        return sum(map(len, self._rows))

    @property
    def halvings(self) -> range:
        """How often all images are halved for each sample, the smallest first."""
        most = int(math.log2(max(1.0, self.count / FEWEST)))
        return range(min(HALVINGS, most), 0, -1)

    def sample(self, halvings: int) -> tuple[Rows, Rows]:
        """Return the rows to fit on and those to compare on."""
        found = [
            own[beginning(order, math.ceil(len(own) / 2**halvings))]
            for own, order in zip(self._rows, self._orders, strict=True)
        ]
        return found[0], found[1]

    def images(self, fit: Rows, held: Rows) -> Dataset:
        """Return the images of a sample as a dataset of its own name."""
        wanted: dict[str, Rows] = {}
        for split, rows in zip(self._splits, (fit, held), strict=True):
            wanted[split] = np.union1d(wanted[split], rows) if split in wanted else rows
        return replace(
            self.dataset,
            name=f"{self.dataset.name}-sample",
            splits={name: self.dataset.splits[name].take(rows) for name, rows in wanted.items()},
        )

    def part(self, features: Features, rows: Rows, *, held: bool) -> Part:
        """Return some rows as what a head is fitted or compared on."""
        split = self._splits[held]
        found = features(split, rows)
        return Part(
            X=found.reshape(len(rows), -1), y=self.labels[split][rows],
            ids=[self.dataset.splits[split].ids[row] for row in rows],
            units=self._taken(split, rows),
            weights=None if held or self._weights is None else self._weights[rows],
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class _Runner:
    """One candidate: the features of one cut of a pass, or those of an entry that was named."""

    __repr__ = short_repr

    name: str
    number: int  # of its pass
    one: Pass
    cut: Cut | None

    def features(self, store: Store, track: _Track) -> Features:
        """Return what gives the features of rows that are at hand."""
        if self.cut is None:
            source = self.one.source
            assert source is not None
            return lambda split, rows: source.splits[split].features[rows]
        cached = CachedRows([store], self.cut.key)
        return lambda split, rows: cached.rows(as_bytes(track.content[split][rows]))


class Racing:
    """A race of one dataset's passes.

    Parameters
    ----------
    group : sequence of str
        As of `BenchRequest`; near-duplicates are not known before there are features.
    forward : callable
        (pass, job) -> entries, of a sample of the pass.
    until : float
        `time.monotonic` by which all of the dataset has to be done.
    """

    def __init__(
        self, label: str, passes: Sequence[Pass], *, protocol: Protocol, group: Sequence[str],
        options: RaceOptions, store: Store, forward: Callable[[Pass, Job], list[FeatureSet]],
        watcher: Watcher, until: float = math.inf,
    ) -> None:  # fmt: skip
        self._label, self._passes, self._protocol = label, list(passes), protocol
        self._options, self._store, self._watcher = options, store, watcher
        self._until, self._extract = until, forward
        sound = [one for one in passes if one.prepared is not None and one.reason is None]
        assert sound[0].prepared is not None
        self._track = _Track(sound[0].prepared.dataset, protocol, group)
        self._rates = [_known_rate(one, store) for one in passes]
        self._sampled = [0] * len(passes)  # images of the largest sample
        self._fits: dict[str, float] = {}  # seconds an image, of the last sample
        self._heads: dict[str, BaseHead] = {}  # of the last sample

    def run(self) -> tuple[list[Pass], Race]:
        """Race, and return the passes with what is to be run on all images, and the record.

        Raises
        ------
        UsageError
            The budget is too little for any candidate.
        """
        every = [
            _Runner(name=name, number=number, one=one,
                    cut=one.prepared.job.cuts[place] if one.prepared else None)
            for number, one in enumerate(self._passes) if one.reason is None
            for place, name in enumerate(one.names)
        ]  # fmt: skip
        sizes, stages = self._track.halvings, list[RaceStage]()
        level = level_of_race(self._options.risk, len(every), len(sizes))
        alive, left_out = self._affordable(every, sizes)
        ended = "The last sample was half of the images."
        if not sizes:
            ended = f"{self._track.count:,} images are too few to race on samples of them."
        for size in sizes:
            if len(alive) < 2:
                ended = "One was left."
                break
            if stages and not self._affords(alive, size):
                ended = f"No time was left for more than {stages[-1].images:,} images."
                break
            alive, stage = self._stage(alive, size, level)
            if stage is not None:
                stages.append(stage)
                self._watcher.stage(self._label, stage, len(alive))
        kept, late = self._finishing(alive, stages)
        race = self._record(level, stages, kept, {**left_out, **late}, ended)
        self._watcher.raced(self._label, race)
        names = {one.name for one in kept}
        return [found for one in self._passes if (found := _narrowed(one, names))], race

    def _stage(
        self, alive: list[_Runner], size: int, level: float
    ) -> tuple[list[_Runner], RaceStage | None]:
        """Compare on one sample; return who is left, the best first."""
        started = time.monotonic()
        fit, held = self._track.sample(size)
        alive = self._forwarded(alive, self._track.images(fit, held))
        now, before = dict[str, Evidence](), dict[str, Evidence]()
        for one in alive:
            try:
                now[one.name], before[one.name] = self._compared(one, size)
            except ProbeError as error:  # it stays in the race: the next sample has more
                log.info("%s: not compared on %d images: %s", one.name, len(fit), error)
                self._heads.pop(one.name, None)
        now = {name: one for name, one in now.items() if name in before}
        if not now:
            return alive, None
        standings = judge(now, before, doublings=size, level=level, seed=self._protocol.seed)
        if self._protocol.metric in LOSSES:  # more is better of evidence; people read the loss
            standings = [replace(one, value=-one.value) for one in standings]
        gone = {one.name for one in standings if one.dropped}
        place = {one.name: number for number, one in enumerate(standings)}
        alive = [one for one in alive if one.name not in gone]
        alive.sort(key=lambda one: place.get(one.name, len(place)))
        return alive, RaceStage(
            n_train=len(fit), n_val=len(held), doublings=size, standings=tuple(standings),
            seconds=time.monotonic() - started,
        )  # fmt: skip

    def _forwarded(self, alive: list[_Runner], sample: Dataset) -> list[_Runner]:
        """Forward what is missing of a sample; a pass that fails leaves the race."""
        content = np.concatenate([split.images.content() for split in sample.splits.values()])
        left = []
        for runners in _by_pass(alive):
            number = runners[0].number
            try:
                self._forward(runners, sample, content)
            except ProbeError as error:
                reason = " ".join(str(error).split())
                self._passes[number] = replace(self._passes[number], reason=reason)
                names = ", ".join(self._passes[number].names)
                self._watcher.failed(self._label, names, reason)
            else:
                self._sampled[number] = len(content)
                left += runners
        return left

    def _forward(self, runners: list[_Runner], sample: Dataset, content: NDArray[np.uint8]) -> None:
        one, prepared = runners[0].one, runners[0].one.prepared
        cuts = [
            each.cut for each in runners
            if each.cut is not None and lacking(self._store, [each.cut.key], content).any()
        ]  # fmt: skip
        if prepared is None or not cuts:
            return
        provenance = {
            name: value for name, value in prepared.job.provenance.items() if name != "request"
        }
        job = decide(
            sample, prepared.backbone, prepared.preprocess,
            [(cut.layer, cut.pool, cut.key.parameters) for cut in cuts], dtype=cuts[0].key.dtype,
            provenance={
                **provenance, "dataset": sample.name, SAMPLE_OF: self._track.dataset.name
            },
        )  # fmt: skip
        shown = replace(one, names=tuple(each.name for each in runners))
        entries = self._extract(shown, job)
        seconds, forwarded = entries[0].seal
        if forwarded >= LEAST_TIMED and seconds > 0:
            self._rates[runners[0].number] = forwarded / seconds
        for entry in entries:
            discard_samples(self._store, entry.key, content, but=entry.name)

    def _compared(self, one: _Runner, size: int) -> tuple[Evidence, Evidence]:
        """Fit on a sample; return what that head and the one of half of it did on held-out rows."""
        features, (fit, held) = one.features(self._store, self._track), self._track.sample(size)
        val = self._track.part(features, held, held=True)
        before = self._heads.get(one.name)
        if before is None:
            half, _ = self._track.sample(size + 1)
            before = self._fitted(self._track.part(features, half, held=False), val)
        started = time.monotonic()
        head = self._fitted(self._track.part(features, fit, held=False), val)
        self._fits[one.name] = (time.monotonic() - started) / len(fit)
        self._heads[one.name] = head
        return self._evidence(head, val), self._evidence(before, val)

    def _fitted(self, train: Part, val: Part) -> BaseHead:
        protocol = replace(self._protocol, folds=0, repeats=1)
        request = head_request(protocol.heads[0], protocol, "")
        head, _ = fit_and_choose(
            train, val, request.estimator(), request.search(train, self._track.dataset.classes)
        )
        return head

    def _evidence(self, head: BaseHead, val: Part) -> Evidence:
        logits = val.predict_logits(head, len(self._track.dataset.classes))
        said = Predictions.of(val.ids, val.y, logits, val.units)
        return evidence_of(said, self._protocol.metric, seed=self._protocol.seed)

    # what time allows

    def _left(self) -> float:
        return (self._until - time.monotonic()) / ROOM

    def _fits_in(self, runners: Sequence[_Runner]) -> bool:
        return self._seconds(runners, 0) <= self._left()

    def _seconds(self, runners: Sequence[_Runner], size: int) -> float:
        """Return what forwarding and fitting takes, on a sample or (size 0) on all images."""
        if size:
            images = self._track.images(*self._track.sample(size)).splits
            content = np.concatenate([split.images.content() for split in images.values()])
        else:
            content = np.concatenate(list(self._track.content.values()))
        seconds = 0.0
        for group in _by_pass(runners):
            rate = self._rates[group[0].number]
            keys = [one.cut.key for one in group if one.cut is not None]
            if rate and keys:
                seconds += int(lacking(self._store, keys, content).sum()) / rate
        heads = 1 if size else len(self._protocol.heads) * max(1, self._protocol.folds)
        fits = sum(self._fits.get(one.name, 0.0) for one in runners)
        return float(seconds + fits * heads * self._track.count / 2**size)

    def _affords(self, alive: list[_Runner], size: int) -> bool:
        """Whether there is time for a sample, and for any one of them on all images after it."""
        if self._until == math.inf:
            return True
        most = max(self._seconds([one], 0) for one in alive)
        return self._seconds(alive, size) + most <= self._left()

    def _affordable(
        self, every: list[_Runner], sizes: Sequence[int]
    ) -> tuple[list[_Runner], dict[str, str]]:
        """Return those whose pass over all images fits into the budget, and why others do not."""
        alive, left_out = list(every), dict[str, str]()
        if self._until == math.inf:
            return alive, left_out
        whole = {one.name: self._seconds([one], 0) for one in every}
        while alive:
            first = self._seconds(alive, sizes[0]) if sizes else 0.0
            worst = max(alive, key=lambda one: whole[one.name])
            if first + whole[worst.name] <= self._left():
                return alive, left_out
            alive.remove(worst)
            left_out[worst.name] = (
                f"forwarding all images takes about {seconds_text(whole[worst.name])}, which the "
                "budget leaves no time for"
            )
        least = min(every, key=lambda one: whole[one.name])
        needed = whole[least.name] + (self._seconds([least], sizes[0]) if sizes else 0.0)
        needed = 1.05 * ROOM * needed + (time.monotonic() - self._options.began) + 1
        raise UsageError(
            f"--budget {seconds_text(self._options.budget or 0)}: too little for any of them; "
            f"the quickest, {least.name}, needs about {seconds_text(needed)}: give that or "
            "more, name quicker ones, or leave --budget out"
        )

    def _finishing(
        self, alive: list[_Runner], stages: Sequence[RaceStage]
    ) -> tuple[list[_Runner], dict[str, str]]:
        """Return those to run on all images, the best first, and why others are left out."""
        kept, late = list[_Runner](), dict[str, str]()
        last = {one.name: one for one in stages[-1].standings} if stages else {}
        for one in alive:
            if not kept or self._until == math.inf or self._fits_in([*kept, one]):
                kept.append(one)
                continue
            late[one.name] = "no time was left to run it on all images"
            if (stood := last.get(one.name)) is not None:
                late[one.name] += (
                    f"; on {stages[-1].images:,} it was "
                    f"{difference_text(self._protocol.metric, stood.gap)} behind "
                    f"{stages[-1].standings[0].name} "
                    f"({span_text(self._protocol.metric, stood.low, stood.high)})"
                )
        return kept, late

    def _record(
        self, level: float, stages: Sequence[RaceStage], kept: Sequence[_Runner],
        left_out: Mapping[str, str], ended: str,
    ) -> Race:  # fmt: skip
        whole, full = {one.number for one in kept}, sum(map(len, self._track.content.values()))
        passes = [
            (full if number in whole else self._sampled[number], self._rates[number])
            for number, one in enumerate(self._passes)
            if one.prepared is not None
        ]
        timed = all(rate is not None for _, rate in passes)
        return Race(
            dataset=self._label, head=self._protocol.heads[0], metric=self._protocol.metric,
            risk=self._options.risk, level=level, budget=self._options.budget, images=full,
            stages=tuple(stages), kept=tuple(one.name for one in kept), left_out=left_out,
            ended=ended, rows=sum(rows for rows, _ in passes), all_rows=full * len(passes),
            seconds=sum(rows / rate for rows, rate in passes if rate) if timed else None,
            all_seconds=sum(full / rate for _, rate in passes if rate) if timed else None,
        )  # fmt: skip


def discard_samples(
    store: Store, key: FeatureKey, content: NDArray[np.uint8], *, but: str = ""
) -> None:
    """Remove the samples of a recipe whose rows all are among these images, which an entry holds.

    Parameters
    ----------
    content : uint8, (n, 16)
    but : str
        The name of an entry that stays.
    """
    here = set(as_bytes(content))
    for entry in store.donors(key):
        if SAMPLE_OF not in entry.provenance or entry.name == but:
            continue
        if all(one in here for split in entry.splits.values() for one in as_bytes(split.content)):
            store.discard(entry.path)


def _known_rate(one: Pass, store: Store) -> float | None:
    """Return the images a second that a pass was timed at, now or when its entry was made."""
    entry = next((each for each in one.entries if each is not None), None)
    if one.rate is not None or entry is None:
        return one.rate
    return forward_rate(entry, store)


def _by_pass(runners: Sequence[_Runner]) -> list[list[_Runner]]:
    found: dict[int, list[_Runner]] = {}
    for one in runners:
        found.setdefault(one.number, []).append(one)
    return list(found.values())


def _narrowed(one: Pass, names: set[str]) -> Pass | None:
    """Return a pass with the cuts of some features alone; None where it has none of them."""
    if one.reason is not None:
        return one
    places = [place for place, name in enumerate(one.names) if name in names]
    if not places:
        return None
    if one.prepared is None or len(places) == len(one.names):
        return one
    job = one.prepared.job
    job = replace(job, cuts=tuple(job.cuts[place] for place in places))
    return replace(
        one,
        names=tuple(one.names[place] for place in places),
        cuts=tuple(one.cuts[place] for place in places),
        entries=tuple(one.entries[place] for place in places),
        prepared=replace(one.prepared, job=job),
    )
