"""Read all that the page is made of: runs, their entries, benches, audits and curves."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from probe.audit.record import FILE_NAME as AUDIT
from probe.audit.record import Audit, load_audit
from probe.bench.find import find_run
from probe.bench.record import FILE_NAME as BENCH
from probe.bench.record import Bench, Comparison, Row
from probe.cache.features import FeatureSet
from probe.cache.joining import Joined, join, parse_features_name
from probe.cache.store import Entry, Store
from probe.core.run_folders import FOLDS, RESULT
from probe.core.short_repr import short_repr
from probe.errors import ProbeError, UnknownNameError, UsageError
from probe.evaluation.learning_curve import FILE_NAME as LEARNING_CURVE
from probe.evaluation.learning_curve import LearningCurve, load_learning_curve
from probe.evaluation.task import Task, task_by_metric, task_of_splits
from probe.report.markup import DASH
from probe.report.ranking import CHOOSING, Run, ranked
from probe.runs.ledger import read_test_evaluations
from probe.runs.results import METRIC_WORDS, RunResult, figure_text, read_run
from probe.runs.same_classes import require_same_classes, same_classes

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """All that the page shows of one dataset.

    Parameters
    ----------
    rows : tuple of Row
        The leaderboard: ranked rows, best first, then the others. None where the page is about an
        entry that has no runs.
    runs : mapping of Row.id to Run
        Without runs whose folder no longer exists.
    why : str
        How the runs were chosen, for the user.
    entries : mapping of entry name to Joined
        The entries that are still in the cache.
    audits : tuple of Audit
        The newest of each entry.
    test_evaluations : list of mapping
        Recorded evaluations on the test rows, oldest first.
    notes : list of str
        What could not be read, for the page.
    tested : Comparison, optional
        The tests of runs that no bench compared; see `probe.report.pairing`.
    """

    __repr__ = short_repr

    dataset: str
    rows: tuple[Row, ...]
    runs: Mapping[str, Run]
    bench: Bench | None
    why: str
    entries: Mapping[str, Joined]
    curves: tuple[LearningCurve, ...]
    audits: tuple[Audit, ...]
    test_evaluations: Sequence[Mapping[str, Any]]
    notes: list[str]
    tested: Comparison | None = None

    @property
    def metric(self) -> str:
        """Return the metric of the ranking: that of the bench, or else of the runs."""
        if self.bench is not None:
            return self.bench.protocol.metric
        labels = [one.labels for joined in self.entries.values() for one in joined.splits.values()]
        usual = task_of_splits(labels).metric if labels else "top1"
        return next((run.result.metric for run in self.runs.values()), usual)

    @property
    def task(self) -> Task:
        """Return the task of the runs."""
        return task_by_metric(self.metric)

    def figure(self, value: float | None) -> str:
        """Return a value of the metric as text."""
        return DASH if value is None else figure_text(self.metric, value)

    @property
    def word(self) -> str:
        """Return the metric's name."""
        return METRIC_WORDS[self.metric]

    @property
    def comparison(self) -> Comparison | None:
        """Return the bench's comparison on this dataset, or the tests made without a bench."""
        if self.tested is not None:
            return self.tested
        found = self.bench.comparisons if self.bench else ()
        return next((one for one in found if one.dataset == self.dataset), None)

    @property
    def leader(self) -> Row | None:
        """Return the winner of the tests, or without tests the best row on held-out rows.

        None if no rows were held out.
        """
        winner = self.comparison.winner if self.comparison else None
        found = next((row for row in self.rows if row.id == winner), None)
        return found or next((row for row in self.rows if row.rank is not None), None)

    @property
    def flattered(self) -> tuple[str, ...]:
        """Return the labels of rows whose epoch was chosen on the images of the ranking."""
        found = []
        for row in self.rows:
            watched = _watched(self.runs[row.id].result) if row.id in self.runs else None
            if watched is not None and watched == self.choosing(row):
                found.append(self.labels[row.id])
        return tuple(found)

    def choosing(self, row: Row) -> str | None:
        """Return the split by which a row is ranked; None if no rows were held out."""
        splits = (self.bench.protocol.split,) if self.bench else CHOOSING
        return next((split for split in splits if split in row.metrics), None)

    @cached_property
    def labels(self) -> dict[str, str]:
        """Return a short unique name for each row, by its id."""
        short = {row.id: f"{row.name} {row.head}" for row in self.rows}
        counts = Counter(short.values())
        return {
            row.id: short[row.id]
            + ("" if counts[short[row.id]] == 1 else f" ({row.run or row.id})")
            for row in self.rows
        }


def _watched(result: RunResult) -> str | None:
    """Return the split whose images chose a run's best epoch; None where none did."""
    if result.params.get(FOLDS) is not None:  # each fold those of its own
        return "oof"
    chose = ("best_epoch", "patience")
    return "val" if any(result.params.get(name) is not None for name in chose) else None


def read_runs(folder: Path) -> list[Run]:
    """Return the complete runs of a folder, oldest first; log those that cannot be read."""
    found = []
    for path in sorted(folder.glob(f"*/{RESULT}")):
        try:
            found.append(Run(folder=path.parent, result=read_run(path.parent)))
        except ProbeError as error:
            log.warning("%s", error)
    return found


def named_runs(names: Sequence[str], folder: Path) -> list[Run]:
    """Return the runs of those names, beginnings of names, or folders.

    Raises
    ------
    UnknownNameError
        No run has that name, or several begin with it.
    DataError
        The run did not finish.
    """
    chosen: dict[Path, Run] = {}
    for name in names:
        path = find_run(folder, Path(name))
        chosen[path.resolve()] = Run(folder=path, result=read_run(path))
    return list(chosen.values())


def newest_dataset(runs: Sequence[Run]) -> list[Run]:
    """Return all runs on the dataset of the newest one, ranked by the same metric."""
    newest = max(runs, key=lambda run: (run.result.created, run.id)).result
    wanted = newest.dataset, newest.metric
    return [run for run in runs if (run.result.dataset, run.result.metric) == wanted]


def on_other_classes(cache_dir: Path, runs: Sequence[Run]) -> list[Run]:
    """Return the runs whose classes, or their order, are not those of the newest one.

    Classes are those of a run's entry; where that is gone or has others since, what is known is
    which of them had rows to be scored on.

    Raises
    ------
    DataError
        The newest run's entry was written anew with other classes.
    """
    newest = max(runs, key=lambda run: (run.result.created, run.id))
    names = {run.id: parse_features_name(run.result.entry)[0][0] for run in runs}
    there = {entry.name: entry.path for entry in Store(cache_dir).entries()}
    known: dict[str, tuple[str, ...]] = {}
    for name in {*names.values()} & there.keys():
        try:
            known[name] = FeatureSet.open(there[name]).classes
        except ProbeError as error:
            log.info("%s", error)

    def classes_of(run: Run) -> tuple[str, ...] | None:
        found = known.get(names[run.id])
        return found if found is not None and same_classes(run.result, found) else None

    if (now := known.get(names[newest.id])) is not None:
        require_same_classes(newest.folder, newest.result, now)
    whole = classes_of(newest)
    scored = set(newest.result.per_class.recall)

    def differs(run: Run) -> bool:
        own, rows = classes_of(run), set(run.result.per_class.recall)
        if own is not None and whole is not None:
            return own != whole
        if own is None and whole is None:
            return not (rows <= scored or scored <= rows)
        return not (rows <= set(whole or ()) if own is None else scored <= set(own))

    return [run for run in runs if differs(run)]


def without_repeats(runs: Sequence[Run]) -> list[Run]:
    """Return the runs; of several with the same settings and figures only the newest."""
    newest: dict[str, Run] = {}
    for run in sorted(runs, key=lambda one: (one.result.created, one.id)):
        one = run.result
        fit = (one.entry, one.head, sorted(one.params.items(), key=str), one.seed, one.n_train)
        newest[repr((*fit, one.n_val, one.metrics))] = run
    return list(newest.values())


def newest_bench(folder: Path) -> Path | None:
    """Return the folder of the newest complete bench."""
    return max((path.parent for path in folder.glob(f"*/{BENCH}")), default=None)


def of_bench(cache_dir: Path, bench: Bench, dataset: str | None, why: str) -> Material:
    """Read all that belongs to a bench on one of its datasets, by default the first.

    Raises
    ------
    UnknownNameError
        The bench did not use that dataset.
    """
    datasets = list(dict.fromkeys(row.dataset for row in bench.rows))
    if not datasets:
        raise UsageError(f"the bench {bench.id} has no rows; run `probe bench` again")
    if dataset is not None and dataset not in datasets:
        raise UnknownNameError(f"the bench {bench.id} is of {', '.join(datasets)}, not {dataset}")
    chosen, notes, runs = dataset or datasets[0], list[str](), dict[str, Run]()
    rows = [row for row in bench.rows if row.dataset == chosen]
    compared = next((one.rows for one in bench.comparisons if one.dataset == chosen), ())
    place = {name: number for number, name in enumerate(compared)}
    rows.sort(key=lambda row: place.get(row.id, len(place)))
    for row in rows:
        if row.run is None:
            continue
        try:
            folder = cache_dir / "runs" / row.run
            runs[row.id] = Run(folder=folder, result=read_run(folder))
        except ProbeError as error:
            notes.append(
                f"Of {row.name}, {row.head}, there are only the figures in the table: {error}"
            )
    if len(datasets) > 1:
        others = ", ".join(one for one in datasets if one != chosen)
        notes.append(f"This page is about {chosen}. The bench also used {others}: see --dataset.")
    return _material(cache_dir, rows, runs, bench=bench, why=why, notes=notes)


def of_runs(cache_dir: Path, runs: Sequence[Run], why: str) -> Material:
    """Read all that belongs to some runs of one dataset.

    Raises
    ------
    UsageError
        The runs are of several datasets or classes, or of single-label and multi-label tasks.
    """
    datasets = sorted({run.result.dataset for run in runs})
    if len(datasets) > 1:
        raise UsageError(
            f"a page is about one dataset, and these runs are of {', '.join(datasets)}; "
            "name runs of one"
        )
    if len({run.result.metric for run in runs}) > 1:
        raise UsageError(
            f"{datasets[0]}: some of these runs are single-label and others multi-label, which are "
            "ranked by different metrics; name runs of one task"
        )
    if strange := on_other_classes(cache_dir, runs):
        raise UsageError(
            f"{datasets[0]}: {len(strange)} of these {len(runs)} runs are on other classes, or on "
            f"classes in another order, than the newest, first {strange[0].id}; name runs on the "
            "same classes"
        )
    made = {run.id: run for run in runs}
    return _material(cache_dir, [], made, bench=None, why=why, notes=[])


def of_entry(cache_dir: Path, entry: Entry, why: str) -> Material:
    """Read all runs on an entry, or where there are none, what shows its images.

    Parameters
    ----------
    why : str
        How the entry was chosen.
    """
    runs = [run for run in read_runs(cache_dir / "runs") if run.result.entry == entry.name]
    if runs:
        return of_runs(cache_dir, without_repeats(runs), f"all runs on {entry.name}")
    found, notes = {entry.name: join(Store(cache_dir), entry)}, list[str]()
    return _material(cache_dir, [], {}, found=found, bench=None, why=why, notes=notes)


def entry_named(cache_dir: Path, name: str) -> Entry | None:
    """Return the entry that a name means where it means no run; None where it means none.

    Raises
    ------
    UnknownNameError
        More than one entry is called so.
    """
    with suppress(UnknownNameError):
        if (find_run(cache_dir / "runs", Path(name)) / RESULT).is_file():
            return None
    store = Store(cache_dir)
    return store.choose(name) if store.close(name) else None


def _material(
    cache_dir: Path,
    rows: Sequence[Row],
    runs: Mapping[str, Run],
    *,
    found: dict[str, Joined] | None = None,
    bench: Bench | None,
    why: str,
    notes: list[str],
) -> Material:
    names = [name for row in rows for name in row.entries]
    names += [run.result.entry for run in runs.values() if not rows]
    entries = found or _entries(Store(cache_dir), dict.fromkeys(names), notes)
    names += entries
    there = rows or ranked(runs.values(), entries)
    first = there[0].dataset if there else next(iter(entries.values())).entry.dataset
    folder = cache_dir / "runs"
    return Material(
        dataset=first,
        rows=tuple(there),
        runs=runs,
        bench=bench,
        why=why,
        entries=entries,
        curves=_curves(folder, runs.values(), set(names), notes),
        audits=_audits(folder, set(names), notes),
        test_evaluations=_test_evaluations(cache_dir / "ledger", entries),
        notes=notes,
    )


def _entries(store: Store, names: Iterable[str], notes: list[str]) -> dict[str, Joined]:
    there = {entry.name: entry for entry in store.entries()}
    found: dict[str, Joined] = {}
    for name in names:
        if name not in there:
            notes.append(f"The entry {name} is no longer in the cache: no map of its features.")
            continue
        try:
            found[name] = join(store, there[name])
        except ProbeError as error:
            notes.append(f"The entry {name} cannot be read: {error}")
    return found


def _curves(
    folder: Path, runs: Iterable[Run], names: set[str], notes: list[str]
) -> tuple[LearningCurve, ...]:
    found: dict[tuple[str, str, str], LearningCurve] = {}
    folders = {path.parent for path in folder.glob(f"*/{LEARNING_CURVE}")}
    for place in sorted(folders | {run.folder for run in runs}):
        try:
            curve = load_learning_curve(place)
        except ProbeError as error:
            notes.append(str(error))
            continue
        if curve is not None and curve.entry in names:  # a newer one replaces it
            found[curve.entry, curve.head, curve.split] = curve
    return tuple(found.values())


def _audits(folder: Path, names: set[str], notes: list[str]) -> tuple[Audit, ...]:
    found: dict[str, Audit] = {}
    for path in sorted(folder.glob(f"*/{AUDIT}")):
        try:
            audit = load_audit(path.parent)
        except ProbeError as error:
            notes.append(str(error))
            continue
        if audit.entry in names:
            found[audit.entry] = audit
    return tuple(found.values())


def _test_evaluations(ledger: Path, entries: Mapping[str, Joined]) -> list[dict[str, Any]]:
    """Return the recorded evaluations on each distinct set of test rows of these entries."""
    contents = {
        joined.splits["test"].content.tobytes(): joined.splits["test"].content
        for joined in entries.values()
        if "test" in joined.splits
    }
    found = [one for content in contents.values() for one in read_test_evaluations(ledger, content)]
    return sorted(found, key=lambda one: str(one.get("time", "")))
