"""`probe audit`: find duplicates and doubtful labels from cached features."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from probe.cli import complete
from probe.cli.head_options import Entry, MaxMemory
from probe.cli.options import AsJson, CacheDir, Group, Seed, cache_folder
from probe.core.options import read_bytes
from probe.errors import ProbeError, UsageError

if TYPE_CHECKING:
    from probe.audit.record import Audit
    from probe.cache.joining import Joined
    from probe.datasets import Dataset
    from probe.report.contact_sheet import Cell

log = logging.getLogger(__name__)

LOOSER = (0.9, 0.85, 0.8)  # cosines whose pairs are counted too: what is alike depends on features
LISTED = 10  # of each kind on the terminal; audit.json has all
PICTURED = 36


def audit(
    entry: Entry = None,
    threshold: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Cosine of standardised features from which images are duplicates."
        ),
    ] = 0.95,
    folds: Annotated[
        int, typer.Option(min=2, help="Folds of the cross-validation that doubts labels.")
    ] = 5,
    c: Annotated[
        float, typer.Option("--C", help="Inverse of the penalty of its logistic regression.")
    ] = 0.01,
    run: Annotated[
        str | None,
        typer.Option(
            help="A run whose test accuracy is told with and without leaked images.",
            autocompletion=complete.runs,
            show_default="the newest of the entry",
        ),
    ] = None,
    group: Group = None,
    max_memory: MaxMemory = None,
    seed: Seed = 42,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to.", show_default="CACHE/runs/ID")
    ] = None,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Look for test images that are in train, and for labels worth a second look.

    Both come from the cached features: no image is forwarded. Nothing is changed; audit.json lists
    the images, and two sheets show the first of them where the dataset is still at hand.
    """
    from probe.cache.joining import join
    from probe.cache.store import Store
    from probe.runs.fit import run_folder
    from probe.screen import console

    folder = cache_folder(cache_dir)
    store = Store(folder)
    joined = join(store, store.choose(entry))
    scored = _scored_run(folder / "runs", joined.entry.name, run)
    with run_folder(out, folder / "runs") as target:
        found = _find(
            joined, threshold, folds, c, group=group or (), seed=seed, scored=scored, folder=folder,
            limit=read_bytes(max_memory),
        )  # fmt: skip
        _keep(found, target, joined, folder)
    if as_json:
        console.print_json({"folder": str(target), **found.to_dict()})
    else:
        _show(found, target)


def _find(
    joined: Joined, threshold: float, folds: int, c: float, *, group: Sequence[str], seed: int,
    scored: Path | None, folder: Path, limit: int | None,
) -> Audit:  # fmt: skip
    from probe.audit import auditing
    from probe.audit.record import Audit
    from probe.evaluation.parts import warn_of_shared
    from probe.evaluation.predictions import load_predictions
    from probe.runs import duplicates
    from probe.runs.fit import related_rows
    from probe.runs.grouping import groups_of_entry
    from probe.runs.ledger import record_test_evaluation
    from probe.runs.memory import Fitting, parts_of
    from probe.runs.results import now
    from probe.screen import console

    err, entry = console.stderr(), joined.entry
    fitting = Fitting(solver="path", heads=folds)
    groups = groups_of_entry(group, joined, fitting=fitting, max_memory=limit, threshold=threshold)
    related = related_rows(joined.splits, groups)
    parts = parts_of(joined, fitting, max_memory=limit)
    parts = {name: replace(part, units=related.units[name]) for name, part in parts.items()}
    if "train" not in parts:
        raise UsageError(f"{entry.name} has no training rows to audit")
    train, test = parts["train"], parts.get("test")
    command = "probe " + shlex.join(sys.argv[1:])
    pairs, scores = [], {}
    copies = auditing.find_copies(related.pictures, parts, entry.classes)
    if related.by:
        warn_of_shared(related, {name: part.y for name, part in parts.items()})
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
        for looser in (one for one in LOOSER if one < threshold):
            count = sum(pair.similarity >= looser for pair in close)
            scores[f"n_from_{looser:.2f}"] = float(count)
    pairs += duplicates.contradictions(train, entry.classes, threshold=threshold)
    err.print(f"doubting labels by {folds} folds")
    p = auditing.out_of_fold_probabilities(train, len(entry.classes), folds=folds, seed=seed, C=c)
    scores |= auditing.out_of_fold_scores(p, train.y)
    return Audit(
        entry=entry.name, dataset=entry.dataset, command=command, created=now(),
        threshold=threshold, n_train=len(train), n_test=len(test) if test is not None else 0,
        near_duplicates=tuple(pairs),
        label_errors=tuple(auditing.label_errors(p, train, entry.classes)),
        copies=tuple(copies), scores=scores,
    )  # fmt: skip


def _scored_run(runs: Path, entry: str, wanted: str | None) -> Path | None:
    """Return the folder of a run of the entry that has test predictions."""
    from probe.evaluation.predictions import load_predictions
    from probe.runs.find import find_run
    from probe.runs.results import finished_runs, read_run

    if wanted is not None:
        folder = find_run(runs, Path(wanted))
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
    from probe.audit.record import THUMBNAILS, save_audit
    from probe.report.contact_sheet import draw_contact_sheet
    from probe.report.thumbnails import find_images

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
                [(p.split_a, p.a), (p.split_b, p.b)], f"{p.label_a} | {p.label_b}",
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
        self._splits = dataset.splits
        self._rows = {
            name: {one: row for row, one in enumerate(split.ids)}
            for name, split in self._splits.items()
        }

    def cells(self, wanted: Sequence[tuple[list[tuple[str, str]], str, str]]) -> list[Cell]:
        import numpy as np

        made: list[Cell] = []
        for places, first, second in wanted:
            try:
                pictures = []
                for split, name in places:
                    row = np.array([self._rows[split][name]])
                    pictures.append(self._splits[split].images.take(row).image(0))
                made.append((pictures, first, second))
            except (KeyError, OSError, ProbeError) as error:
                log.info("no thumbnail: %s", error)
        return made


def _looser(found: Audit) -> str:
    """Say how many images lower thresholds would name."""
    counts = {
        name.removeprefix("n_from_"): int(count)
        for name, count in found.scores.items()
        if name.startswith("n_from_")
    }
    return "".join(f"; from {cosine}: {count:,}" for cosine, count in counts.items())


def _doubts(found: Audit) -> str:
    """Say how many labels are doubted, and how far the doubt can be trusted."""
    count = f"{len(found.label_errors):,}"
    if (wrong := found.scores.get("oof_hamming_loss")) is not None:
        return (
            f"{count} decisions (a label is there, or not) worth a look in {found.n_train:,} "
            f"training images, the surest first; out of fold the heads get {100 * wrong:.2f} % of "
            "all decisions wrong themselves, so most are hard images, not wrong labels"
        )
    return (
        f"{count} of {found.n_train:,} training labels worth a look, the surest first; out of fold "
        f"the heads get {100 * (1 - found.scores['oof_top1']):.2f} % wrong themselves, so most are "
        "hard images, not wrong labels"
    )


def copies_in_words(found: Audit) -> str:
    """Say how many images are exact copies, and how many pictures have several labels."""
    within = sum(one.splits.count(split) - 1 for one in found.copies for split in set(one.splits))
    across = sum(
        one.splits.count("test") for one in found.copies if {"train", "test"} <= set(one.splits)
    )
    contrary = sum(one.contradicting for one in found.copies)
    copies = _some(within, "image is an exact copy", "images are exact copies")
    parts = [f"{copies} of others in their split"] * bool(within)
    parts += [f"{_some(across, 'test image is', 'test images are')} in train, too"] * bool(across)
    parts += [f"{_some(contrary, 'picture has', 'pictures have')} more than one label"] * bool(
        contrary
    )
    count = len(found.copies)
    parts += [f"{_some(count, 'picture is', 'pictures are')} there more than once"] * (not parts)
    return "; ".join(parts)


def _some(count: int, one: str, several: str) -> str:
    return f"{count:,} {one if count == 1 else several}"


def _show(found: Audit, target: Path) -> None:
    from probe.screen import console

    out = console.stdout()
    leaked = [pair for pair in found.near_duplicates if pair.split_b == "test"]
    within = [pair for pair in found.near_duplicates if pair.split_b != "test"]
    facts = {"entry": found.entry}
    if found.n_test:
        facts["leaks"] = (
            f"{len(leaked):,} of {found.n_test:,} test images have a near-duplicate in train "
            f"(cosine from {found.threshold:g}{_looser(found)})"
        )
    if found.copies:
        facts["copies"] = copies_in_words(found)
    facts["contradictions"] = f"{len(within):,} near-duplicates in train with other labels"
    facts["labels"] = _doubts(found)
    if "test_top1_without" in found.scores:
        facts["accuracy"] = (
            f"{100 * found.scores['test_top1']:.2f} % of the test images, "
            f"{100 * found.scores['test_top1_without']:.2f} % without those that leaked, "
            f"{100 * found.scores['duplicates_top1']:.2f} % of those"
        )
    elif "test_map_without" in found.scores:
        facts["mAP"] = (
            f"{100 * found.scores['test_map']:.2f} % on the test images, "
            f"{100 * found.scores['test_map_without']:.2f} % without those that leaked"
        )
    console.facts(out, facts)
    if found.near_duplicates:
        out.print()
        rows = [
            [f"{pair.similarity:.3f}", pair.a, pair.label_a, pair.b, pair.label_b]
            for pair in [*leaked[:LISTED], *within[:LISTED]]
        ]
        console.table(out, ["cosine", "image", "label", "and", "label"], rows, right=(0,), fold=1)
    if found.copies:
        out.print()
        rows = [
            [str(len(one.ids)), one.ids[0], one.labels[0], one.ids[at], one.labels[at]]
            for one in found.copies[:LISTED]
            for at in [next((i for i, la in enumerate(one.labels) if la != one.labels[0]), 1)]
        ]
        header = ["copies", "image", "label", "and", "label"]
        console.table(out, header, rows, right=(0,), fold=1)
    if found.label_errors:
        out.print()
        rows = [
            [
                one.id, one.given, f"{100 * one.given_probability:.1f} %", one.suggested,
                f"{100 * one.probability:.1f} %",
            ]
            for one in found.label_errors[:LISTED]
        ]  # fmt: skip
        header = ["image", "given", "", "suggested", ""]
        console.table(out, header, rows, right=(2, 4), fold=0)
    out.print()
    console.facts(out, {"kept": f"{target}: {', '.join(sorted(p.name for p in target.iterdir()))}"})
