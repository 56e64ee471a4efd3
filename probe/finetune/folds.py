"""Fine-tune a network for each fold: each image is held out once, and all networks answer together.

All training images are dealt into folds. For each fold the run's head is fitted again on the
features of the others, and the network behind it is fine-tuned on their images, watched on the
fold's. So each training image has an answer of a network that did not learn from it (``oof``), and
whatever else is held out, the dataset's own validation and test images, is answered by the mean of
the networks' probabilities, as in a bundle of the run. No temperature is fitted: out of fold it
would be that of one network, and the mean of several is less sure than each.

Each fold has a folder `folds/N` in the run's folder, which is a complete fine-tuning when its
`result.json` is written, so that a killed run goes on with the fold that it was in.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from probe.core.files import make_folder
from probe.core.indexing import rows_of_ids
from probe.core.records import read_record, write_record
from probe.core.run_folders import FOLDS, RESULT, fold_folder
from probe.core.short_repr import short_repr
from probe.datasets import Split
from probe.engines import Parameters, make_engine
from probe.errors import DataError, HeadError, UsageError
from probe.evaluation.many import are_many
from probe.evaluation.parts import Part
from probe.evaluation.predictions import Predictions, load_predictions, save_predictions
from probe.evaluation.scored import (
    Scored,
    describe_labels,
    figures_of,
    groups_of,
    intervals_of,
    measure_logits,
    per_class_of,
    thresholds_of,
)
from probe.evaluation.splitting import RowNumbers, fold_split, warn_of_unknown
from probe.evaluation.task import task_of
from probe.evaluation.units import Units, beyond_single
from probe.extraction.forward import Pictures, forward_rows
from probe.figures.classes import draw_classes
from probe.finetune.checkpoint import FOLDER, remove_leftovers
from probe.finetune.compare import Course, load_course, save_comparison, save_course
from probe.finetune.finish import (
    BACKBONE,
    GAINED,
    Promoted,
    finish,
    gains_of,
    origin_of,
    params_of,
    predictions_of,
)
from probe.finetune.planning import Limit
from probe.finetune.promotion import Begun, begin, course_of, run
from probe.finetune.request import SCHEMA, PromoteRequest, read_sample_weights
from probe.finetune.source import PROMOTED, Opened, Places, Source, describe, open_run
from probe.finetune.train import Observer
from probe.heads import load_head
from probe.runs.columns import columns_of
from probe.runs.fit import HEAD, related_rows
from probe.runs.grouping import groups_of_entry, read_weights
from probe.runs.ledger import record_test_evaluation
from probe.runs.memory import Fitting, parts_of
from probe.runs.results import RunResult, now, read_run, versions, write_run
from probe.runs.selection import out_of_fold

if TYPE_CHECKING:
    from probe.heads.base import BaseHead, LinearHead

DEALT = "dealt.json"

Array64 = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Folds:
    """A run whose network is fine-tuned once a fold.

    Parameters
    ----------
    sources : tuple of Source
        The run as each fold sees it: its head fitted on the other folds' images, these to train
        on, and the fold's to watch. They know nothing of other splits.
    opened : Opened
        The run as it is.
    rows : tuple of intp
        The training images that each fold holds out.
    units : mapping of split to int, (n_rows,), or None
        Which images belong together; None where each is alone.
    """

    __repr__ = short_repr

    sources: tuple[Source, ...]
    opened: Opened
    rows: tuple[RowNumbers, ...]
    units: Mapping[str, Units | None]

    @property
    def train(self) -> Split:
        """The images of all folds."""
        return self.opened.splits["train"]

    @property
    def others(self) -> dict[str, Split]:
        """Images that no fold has: the dataset's own validation and test images, if any."""
        known = self.opened.predictions
        return {
            name: self.opened.splits[name]
            for name in ("val", "test")
            if name in self.opened.splits and name in known
        }

    def probe(self, name: str) -> Predictions:
        """Return what the probe's heads say: of ``oof`` each of its fold, of others all together.

        Those of test images are computed here, so that is an evaluation of them.
        """
        if name != "oof":
            part = _parts(self.opened, 1)[name]
            each = [
                part.predict_logits(source.head, len(source.classes)) for source in self.sources
            ]
            split = self.others[name]
            logits = task_of(split.labels).mean_logits(np.stack(each))
            return Predictions.of(split.ids, split.labels, logits, self.units[name])
        logits = np.empty((len(self.train), len(self.sources[0].classes)))
        for rows, source in zip(self.rows, self.sources, strict=True):
            logits[rows] = source.predictions["val"].scores
        return Predictions.of(self.train.ids, self.train.labels, logits, self.units["train"])

    @property
    def digest(self) -> str:
        """A digest of which images each fold holds out."""
        dealt = [[self.train.ids[row] for row in rows] for rows in self.rows]
        return hashlib.blake2b(json.dumps(dealt).encode(), digest_size=16).hexdigest()


def open_folds(folder: Path, places: Places, count: int, seed: int) -> Folds:
    """Deal a run's training images into folds and fit its head for each of them.

    Images that belong together are held out together: copies, and those of one group.

    Parameters
    ----------
    seed : int
        Of the folds, as in `probe head --folds`.

    Raises
    ------
    UsageError
        The run cannot be fine-tuned, its images cannot be dealt into so many folds, or rows times
        classes are too many for their scores to be kept.
    ProbeError
        See `open_run`.
    """
    opened = open_run(folder, places, held_out=False)
    train, classes = opened.splits["train"], opened.joined.entry.classes
    most = max(map(len, opened.splits.values()))
    if are_many(most, len(classes)):
        raise UsageError(
            f"--folds: {most:,} images of {len(classes):,} classes have too many scores to be "
            "kept; leave it out"
        )
    units, by = _units(opened, places)
    own = units["train"]
    dealt = fold_split(train.labels, count, seed, units=own, classes=classes)
    warn_of_unknown(train.labels, dealt)
    heads, scored = _heads(opened, dealt)
    sources = []
    for head, (learnt, held) in zip(heads, dealt, strict=True):
        together = None if own is None or not beyond_single(own[held]) else own[held]
        logits, val = scored.logits[held], train.take(held)
        known = Predictions.of(val.ids, val.labels, logits, together)
        figures = figures_of({"val": measure_logits(logits, val.labels, together)}, None, None)
        result = replace(
            opened.result, n_train=len(learnt), n_val=len(held), n_test=0, metrics=figures,
            intervals=None, groups={"by": by} if by else None,
        )  # fmt: skip
        own_fold = opened.source(
            result=result, head=head, predictions={"val": known}, train=train.take(learnt),
            val=val, test=None,
        )  # fmt: skip
        sources.append(own_fold)
    rows = tuple(held for _, held in dealt)
    return Folds(sources=tuple(sources), opened=opened, rows=rows, units=units)


def _units(opened: Opened, places: Places) -> tuple[dict[str, Units | None], str]:
    """Return which images of each split belong together, None for none, and by what."""
    by = (opened.result.groups or {}).get("by", "")
    if by and not places.group:
        raise UsageError(
            f"{opened.folder}: the run kept the images of one group together ({by}); name the "
            "groups again with --group, so that folds keep them together, too"
        )
    fitting = Fitting(solver=opened.result.head)
    groups = groups_of_entry(places.group, opened.joined, fitting=fitting)
    related = related_rows(opened.joined.splits, groups)
    units = {
        name: np.unique(one, return_inverse=True)[1] if beyond_single(one) else None
        for name, one in related.units.items()
    }
    return units, related.by


def _parts(opened: Opened, heads: int) -> dict[str, Part]:
    """Return the features of each split as rows."""
    fitting = Fitting(solver=opened.result.head, heads=heads, hidden=opened.head.units())
    return parts_of(opened.joined, fitting, max_memory=None)


def _heads(
    opened: Opened, folds: Sequence[tuple[RowNumbers, RowNumbers]]
) -> tuple[list[LinearHead], Scored]:
    """Return the run's head as fitted on the images outside each fold, and its scores in them."""
    head, joined = opened.head, opened.joined
    part = _parts(opened, len(folds))["train"]
    if column := opened.result.params.get("sample_weight"):
        ids = {"train": part.ids}
        weights = read_weights(str(column), ids, {"train": columns_of(joined)["train"]})
        part = replace(part, weights=weights["train"])
    found = []
    for learnt, _ in folds:
        rows = part.take(learnt)
        found.append(head.for_refit().fit(*rows.xy(), **rows.fit_options()))
    return found, out_of_fold(part, found, folds, len(joined.entry.classes))


def is_done(folder: Path, number: int) -> bool:
    """Whether a fold's fine-tuning is complete."""
    place = fold_folder(folder, number)
    return (place / RESULT).exists() and load_course(place) is not None


def keep_dealt(folds: Folds, folder: Path) -> None:
    """Write down which images each fold holds out, or check that they are still those.

    Checkpoints of folds that are done are removed, if a kill left some.

    Raises
    ------
    UsageError
        Other images are held out than when the run began.
    """
    path = folder / FOLDS / DEALT
    if path.exists():
        known = read_record(path, "which images folds hold out", lambda plain: plain["digest"])
        if known != folds.digest:
            raise UsageError(
                f"{folder}: its folds would hold out other images than when it began, for groups "
                "or images have changed; start again with `probe promote`"
            )
    else:
        make_folder(path.parent)
        write_record(path, {"schema": SCHEMA, "digest": folds.digest})
    for number in range(1, len(folds.sources) + 1):
        if is_done(folder, number):
            shutil.rmtree(fold_folder(folder, number) / FOLDER, ignore_errors=True)


def begin_fold(
    folds: Folds, number: int, asked: PromoteRequest, folder: Path, *, workers: int
) -> Begun:
    """Build the network of a fold, after its last checkpoint if there is one; see `begin`."""
    place, source = fold_folder(folder, number), folds.sources[number - 1]
    weights = None
    if asked.sample_weights is not None:  # of all images, so that a missing one is told at once
        every = read_sample_weights(Path(asked.sample_weights), list(folds.train.ids))
        weights = np.delete(every, folds.rows[number - 1])
    begun = begin(
        source, asked.options, place, weights=weights, workers=workers,
        limit=Limit(bytes=asked.max_memory, part=asked.part), folds=folds.sources,
    )  # fmt: skip
    begun.training.resume()
    return begun


def train_folds(
    folds: Folds,
    first: Begun | None,
    asked: PromoteRequest,
    folder: Path,
    observer_for: Callable[[str, Begun], AbstractContextManager[Observer]],
    *,
    workers: int,
    ledger: Path,
) -> list[Course]:
    """Fine-tune the networks of all folds that are not done, and return the figures of all.

    Parameters
    ----------
    first : Begun or None
        The first fold that is not done; None where all are.
    folder : Path
        The run's folder.

    Raises
    ------
    PromoteError
        Training diverged, or a file cannot be written.
    """
    courses = []
    for number in range(1, len(folds.sources) + 1):
        place, name = fold_folder(folder, number), f"fold {number}"
        course = load_course(place) if is_done(folder, number) else None
        if course is None:
            place.mkdir(parents=True, exist_ok=True)
            remove_leftovers(place)
            begun = first or begin_fold(folds, number, asked, folder, workers=workers)
            first = None
            try:
                with observer_for(f"fold {number} of {len(folds.sources)}", begun) as observer:
                    run(begun, observer)
                course = course_of(name, begun)
                save_course(place, course)
                finish(begun, replace(asked, folds=0), ledger=ledger)  # one network of its own
            finally:
                begun.training.network.release()
            shutil.rmtree(place / FOLDER, ignore_errors=True)
        courses.append(course)
    return courses


def finish_folds(
    folds: Folds,
    asked: PromoteRequest,
    folder: Path,
    courses: Sequence[Course],
    *,
    ledger: Path,
    workers: int,
) -> Promoted:
    """Score all networks together, on test images once, and write the files of the run.

    Raises
    ------
    UsageError
        The ledger of test evaluations cannot be written.
    DataError
        A file of a fold is damaged.
    """
    opened, before = folds.opened, {"oof": folds.probe("oof")}
    places = [fold_folder(folder, number) for number in range(1, len(folds.sources) + 1)]
    own, networks = [read_run(place) for place in places], [_network(place) for place in places]
    known = _out_of_fold(folds, places)
    scored = {"oof": measure_logits(known, folds.train.labels, folds.units["train"])}
    looks, splits = None, {"oof": folds.train}
    for name, split in folds.others.items():
        if name == "test":  # by the networks, and by the heads that they started from
            looks = record_test_evaluation(
                ledger, opened.joined.splits["test"].content, command=asked.command,
                entry=opened.result.entry, count=2,
            )  # fmt: skip
        before[name], splits[name] = folds.probe(name), split
        each = [
            _logits(folds, *network, split, batch_size=asked.part or None, workers=workers)
            for network in networks
        ]
        logits = task_of(split.labels).mean_logits(np.stack(each))
        scored[name] = measure_logits(logits, split.labels, folds.units[name])
    predictions = {
        name: predictions_of(splits[name], one, one.units) for name, one in scored.items()
    }
    gains = gains_of(before, predictions)
    result = _result(folds, asked, own, scored, looks)
    save_predictions(folder, predictions)
    about = f"{result.backbone} to {result.layer} on {result.dataset}"
    save_comparison(folder, courses, title=f"{about}: the networks of {len(own)} folds")
    shown = result.per_class.split
    draw_classes(
        folder, scored[shown].metrics, result.multilabel, folds.sources[0].classes,
        n_rows=len(scored[shown].labels), title=f"{about}, {len(own)} networks: {shown}",
    )  # fmt: skip
    plain = {
        "schema": SCHEMA, "from": describe(replace(folds.sources[0], result=opened.result)),
        "options": asked.options.to_json(), "folds": len(own), "seconds": result.seconds,
        "gain": {one.split: one.to_json() for one in gains},
    }  # fmt: skip
    write_record(folder / GAINED, plain)
    write_run(folder, result)
    return Promoted(folder=folder, result=result, gains=gains, seconds=result.seconds)


def _out_of_fold(folds: Folds, places: Sequence[Path]) -> Array64:
    """Return each training image's logits by the network of its fold, (n_train, n_classes)."""
    logits: Array64 = np.empty((len(folds.train), len(folds.sources[0].classes)))
    for place, rows in zip(places, folds.rows, strict=True):
        found = load_predictions(place)["val"]
        wanted = [folds.train.ids[row] for row in rows]
        logits[rows] = found.scores[rows_of_ids(wanted, found.ids.tolist())[0]]
    return logits


def _network(place: Path) -> tuple[Parameters, BaseHead]:
    """Return the fine-tuned parameters and the head of a fold."""
    path = place / BACKBONE
    try:
        return load_file(path), load_head(place / HEAD)
    except (SafetensorError, OSError, HeadError) as error:
        raise DataError(
            f"{place}: a file of this fold is damaged ({' '.join(str(error).split())}); remove the "
            "folder, and `probe promote --resume` trains it again"
        ) from error


def _logits(
    folds: Folds, parameters: Parameters, head: BaseHead, split: Split, *, batch_size: int | None,
    workers: int,
) -> Array64:  # fmt: skip
    """Return a fold's logits of images from outside the folds, (n, n_classes)."""
    source = folds.sources[0]
    engine = make_engine(
        source.backbone, parameters, [(source.layer, source.pool)], source.preprocess,
        batch_size=batch_size,
    )  # fmt: skip
    rows, size = np.arange(len(split)), engine.batch_size
    batches = [rows[start : start + size] for start in range(0, len(rows), size)]
    pictures = Pictures([split], source.preprocess, "none")
    found: Array64 = np.full((len(rows), len(source.classes)), -np.inf)
    for some, (features,) in forward_rows(pictures, engine, batches, workers=workers):
        logits = head.predict_logits(features.reshape(len(some), -1))
        found[np.ix_(some, np.asarray(head.classes_))] = logits
    return found


def _result(
    folds: Folds,
    asked: PromoteRequest,
    own: Sequence[RunResult],
    scored: Mapping[str, Scored],
    looks: int | None,
) -> RunResult:
    source, old = folds.sources[0], folds.opened.result
    thresholds = thresholds_of(scored, source.classes)
    values = np.array([one.metrics["val"][one.metric] for one in own])
    rows = {name: len(one) for name, one in folds.others.items()}
    return RunResult(
        command=asked.command, entry=old.entry, dataset=old.dataset, backbone=old.backbone,
        weights=origin_of(source, asked), layer=old.layer, pool=old.pool, head=PROMOTED,
        params=params_of(source, asked),
        seed=asked.options.seed, n_train=len(folds.train), n_val=rows.get("val", 0),
        n_test=rows.get("test", 0),
        metrics=figures_of(scored, None, thresholds),
        per_class=per_class_of(scored, source.classes, thresholds),
        multilabel=describe_labels(scored, source.classes, thresholds),
        seconds=sum(one.seconds for one in own), versions=versions(), created=now(),
        intervals=intervals_of(scored), test_looks=looks,
        groups=groups_of(scored, (source.result.groups or {}).get("by", "")),
        spread={
            "over": FOLDS, "count": len(own), "metric": old.metric, "mean": float(values.mean()),
            "deviation": float(values.std(ddof=1)),
        },
    )  # fmt: skip
