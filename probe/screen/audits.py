"""Audit an entry, and keep the audit with sheets of the images that it names."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.audit import auditing
from probe.audit.record import THUMBNAILS, Audit, save_audit
from probe.bench.find import find_run
from probe.cache.joining import Joined, join
from probe.cache.key import SPLIT_ORDER
from probe.cache.store import Store
from probe.core.options import read_bytes
from probe.core.text import counted
from probe.datasets import Dataset
from probe.datasets.classes import has_labels
from probe.datasets.copies import find_copies
from probe.datasets.head_check import NO_LABELS
from probe.errors import ProbeError, UsageError
from probe.evaluation.parts import Part, warn_of_shared
from probe.evaluation.predictions import load_predictions
from probe.evaluation.units import Units
from probe.report.contact_sheet import Cell, draw_contact_sheet
from probe.report.thumbnails import find_images
from probe.runs import duplicates
from probe.runs.duplicates import NearDuplicate
from probe.runs.fit import related_rows, run_folder
from probe.runs.grouping import groups_of_entry
from probe.runs.ledger import record_test_evaluation
from probe.runs.memory import Fitting, parts_of
from probe.runs.results import finished_runs, now, read_run
from probe.screen import console

log = logging.getLogger(__name__)

LOOSER = (0.9, 0.85, 0.8)  # cosines whose pairs are counted too: what is alike depends on features
PICTURED = 36


def audit_shown(
    entry: str | None,
    folder: Path,
    *,
    threshold: float,
    folds: int,
    C: float,
    run: Path | None,
    group: Sequence[str],
    max_memory: str | int | None,
    seed: int,
    out: Path | None,
    command: str,
) -> tuple[Path, Audit]:
    """Audit an entry of a state folder, and return where the audit is kept, and the audit.

    Parameters
    ----------
    entry : str or None
        Its name or the beginning of it; None for the newest.
    run : Path or None
        Name or folder of the run whose test accuracy is told without leaked images. Default: the
        newest of the entry.

    The others are those of `probe audit`.

    Raises
    ------
    UsageError
        There are labels and no training rows, or the run has no test predictions.
    """
    if not 0 <= threshold <= 1:
        raise UsageError(f"--threshold {threshold:g}: give a cosine from 0 to 1")
    store = Store(folder)
    chosen = store.choose(entry)
    if entry is None:
        what = "random weights; nothing else is there" if chosen.untrained else "the newest"
        console.facts(console.stderr(), {"entry": f"{chosen.name}, {what}"})
    joined = join(store, chosen)
    scored = _scored_run(folder / "runs", joined.entry.name, run)
    with run_folder(out, folder / "runs") as target:
        found = _find(
            joined, threshold, folds, C, group=group, seed=seed, scored=scored, folder=folder,
            limit=read_bytes(max_memory), command=command,
        )  # fmt: skip
        _keep(found, target, joined, folder)
    return target, found


def _find(
    joined: Joined, threshold: float, folds: int, C: float, *, group: Sequence[str], seed: int,
    scored: Path | None, folder: Path, limit: int | None, command: str,
) -> Audit:  # fmt: skip
    err, entry = console.stderr(), joined.entry
    fitting = Fitting(solver="path", heads=folds)
    groups = groups_of_entry(group, joined, fitting=fitting, max_memory=limit, threshold=threshold)
    related = related_rows(joined.splits, groups)
    parts = parts_of(joined, fitting, max_memory=limit)
    parts = {name: replace(part, units=related.units[name]) for name, part in parts.items()}
    labels = {name: part.y for name, part in parts.items()}
    ids = {name: part.ids for name, part in parts.items()}
    counts = {name: len(parts.get(name, ())) for name in SPLIT_ORDER}
    copies = find_copies(related.pictures, ids, labels, entry.classes)
    if related.by:
        warn_of_shared(related, labels)
    found = Audit(
        entry=entry.name, dataset=entry.dataset, command=command, created=now(),
        threshold=threshold, copies=tuple(copies),
        n_train=counts["train"], n_val=counts["val"], n_test=counts["test"],
    )  # fmt: skip
    train, test = parts.get("train"), parts.get("test")
    if (why := _telling_nothing(train, entry.classes)) is not None:
        return _without_labels(found, parts, related.pictures, entry.classes, why)
    if train is None:
        raise UsageError(f"{entry.name} has no training rows to audit")
    pairs, scores = [], {}
    err.print(f"comparing {len(train):,} training images with each other and the test images")
    if test is not None:
        low = min(threshold, *LOOSER)
        close = duplicates.leaks(train, test, entry.classes, threshold=low)
        pairs = [pair for pair in close if pair.similarity >= threshold]
        if scored is not None:
            look = joined.splits["test"].content
            record_test_evaluation(folder / "ledger", look, command=command, entry=entry.name)
            scores = auditing.leak_scores(load_predictions(scored)["test"], pairs)
        scores["n_leaked"] = float(len(pairs))
        scores |= _looser(close, threshold)
    pairs += duplicates.contradictions(train, entry.classes, threshold=threshold)
    err.print(f"doubting labels by {folds} folds")
    found = replace(found, near_duplicates=tuple(pairs), scores=scores)
    n_classes = len(entry.classes)
    try:
        p = auditing.out_of_fold_probabilities(train, n_classes, folds=folds, seed=seed, C=C)
    except UsageError as error:  # duplicates are worth telling without it
        return replace(found, undoubted=str(error))
    return replace(
        found,
        label_errors=tuple(auditing.label_errors(p, train, entry.classes)),
        scores=scores | auditing.out_of_fold_scores(p, train.y),
    )


def _telling_nothing(train: Part | None, classes: Sequence[str]) -> str | None:
    """Return why labels tell no images apart; None where they do."""
    if not has_labels(classes):
        return NO_LABELS
    alike = None if train is None else train.task.alike(train.y, classes)
    return None if train is None or alike is None else f"all {len(train):,} training images {alike}"


def _without_labels(
    found: Audit, parts: Mapping[str, Part], pictures: Mapping[str, Units], classes: Sequence[str],
    why: str,
) -> Audit:  # fmt: skip
    """Return an audit of images that labels do not tell apart: of duplicates alone."""
    total = sum(len(part) for part in parts.values())
    console.stderr().print(f"comparing {counted(total, 'image')} with each other")
    low = min(found.threshold, *LOOSER)
    close = duplicates.near_pairs(parts, pictures, classes, threshold=low)
    pairs = [pair for pair in close if pair.similarity >= found.threshold]
    if len(pairs) == duplicates.MOST:
        log.warning("%d pairs are kept, the most alike; raise the threshold", len(pairs))
    return replace(
        found, near_duplicates=tuple(pairs), scores=_looser(close, found.threshold),
        every_pair=True, undoubted=why,
    )  # fmt: skip


def _looser(pairs: Sequence[NearDuplicate], threshold: float) -> dict[str, float]:
    """Return how many pairs lower thresholds would name."""
    return {
        f"n_from_{looser:.2f}": float(sum(pair.similarity >= looser for pair in pairs))
        for looser in LOOSER
        if looser < threshold
    }


def _scored_run(runs: Path, entry: str, wanted: Path | None) -> Path | None:
    """Return the folder of a run of the entry that has test predictions."""
    if wanted is not None:
        folder = find_run(runs, wanted)
        if read_run(folder).entry != entry or "test" not in load_predictions(folder):
            raise UsageError(f"--run {wanted}: it has no test predictions of {entry}")
        return folder
    for folder, result in finished_runs(runs):
        try:
            if result.entry == entry and "test" in load_predictions(folder):
                return folder
        except ProbeError as error:
            log.info("%s", error)
    return None


def _keep(found: Audit, target: Path, joined: Joined, folder: Path) -> None:
    """Write audit.json, and sheets of thumbnails where the images can be had."""
    save_audit(target, found)
    try:
        dataset = find_images(joined.entry.provenance, folder)
    except ProbeError as error:
        log.warning("no thumbnails: %s", error)
        return
    errors, pairs = found.label_errors[:PICTURED], found.near_duplicates[: PICTURED // 2]
    images = _Images(dataset)
    if cells := images.cells(
        [
            (
                [(e.split, e.id)], f"{e.given} → {e.suggested}",
                f"{100 * e.given_probability:.1f} → {100 * e.probability:.1f} %",
            )
            for e in errors
        ]
    ):  # fmt: skip
        about = f"{found.dataset}, given → suggested; {len(found.label_errors):,} in all"
        path = target / THUMBNAILS["label_errors"]
        draw_contact_sheet(cells, path, title="Labels to doubt, the surest first", about=about)
    if cells := images.cells(
        [
            (
                [(p.split_a, p.a), (p.split_b, p.b)],
                f"{p.a} | {p.b}" if found.every_pair else f"{p.label_a} | {p.label_b}",
                f"{p.split_a} | {p.split_b}, {p.similarity:.3f}",
            )
            for p in pairs
        ]
    ):  # fmt: skip
        about = f"{found.dataset}; {len(found.near_duplicates):,} pairs from {found.threshold:g} on"
        path = target / THUMBNAILS["near_duplicates"]
        draw_contact_sheet(cells, path, title="Near-duplicates, the most alike first", about=about)


class _Images:
    """The images of a dataset by split and id; one that is gone leaves its cell out."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._rows = {
            id(split): {one: row for row, one in enumerate(split.ids)}
            for split in dataset.splits.values()
        }

    def cells(self, wanted: Sequence[tuple[list[tuple[str, str]], str, str]]) -> list[Cell]:
        made: list[Cell] = []
        for places, first, second in wanted:
            try:
                made.append(([self._image(split, name) for split, name in places], first, second))
            except (KeyError, OSError, ProbeError) as error:
                log.info("no thumbnail: %s", error)
        return made

    def _image(self, split: str, name: str) -> NDArray[np.uint8]:
        there = self._dataset.images_of(split)
        if there is None:
            raise KeyError(split)
        return there.images.take(np.array([self._rows[id(there)][name]])).image(0)
