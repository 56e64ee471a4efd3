"""The runs of a state folder: listing, tagging and comparing them, and who still needs one."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from probe.core.files import write_text
from probe.core.records import read_record
from probe.core.regular import read_regular
from probe.core.run_folders import RESULT
from probe.core.text import visible
from probe.errors import DataError, ProbeError, UsageError
from probe.evaluation.pairs import Pair, compare_all, evidence_of
from probe.evaluation.predictions import Predictions, load_predictions
from probe.runs.results import RunResult, read_run

log = logging.getLogger(__name__)

TAG = "tag.txt"
LONGEST_TAG = 200
OTHERS = {"audit.json": "an audit", "promote.json": "a fine-tuning that is not finished"}
HELD_OUT = ("val", "oof", "test")  # on which runs are compared: test comes last


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A folder among the runs.

    Parameters
    ----------
    result : RunResult, optional
        Of a run that finished and can be read.
    problem : str
        What else the folder is, or why it cannot be read; empty of a run.
    tag : str
        What `probe runs tag` noted.
    """

    folder: Path
    result: RunResult | None
    problem: str = ""
    tag: str = ""


def kept_runs(runs: Path) -> list[Kept]:
    """Return the folders of a folder of runs, the newest first; damaged ones are among them."""
    if not runs.is_dir():
        return []
    folders = [one for one in runs.iterdir() if one.is_dir() and not one.name.startswith(".")]
    return [_kept(one) for one in sorted(folders, key=lambda one: one.name, reverse=True)]


def _kept(folder: Path) -> Kept:
    try:
        if (folder / RESULT).exists():
            return Kept(folder=folder, result=read_run(folder), tag=read_tag(folder))
        files = {one.name for one in folder.iterdir()}
    except (ProbeError, OSError) as error:
        return Kept(folder=folder, result=None, problem=f"damaged: {' '.join(str(error).split())}")
    other = next((words for name, words in OTHERS.items() if name in files), "not finished")
    return Kept(folder=folder, result=None, problem=other, tag=read_tag(folder))


def read_tag(folder: Path) -> str:
    """Return what was noted of a run; empty where nothing was, or it cannot be read."""
    try:
        text = read_regular(folder / TAG)[:LONGEST_TAG].decode("utf-8", "replace")
    except OSError:
        return ""
    return " ".join(text.split())


def write_tag(folder: Path, text: str) -> None:
    """Note something of a run, in place of what was noted before; nothing removes it.

    Raises
    ------
    UsageError
        It is longer than LONGEST_TAG bytes.
    """
    text = visible(" ".join(text.split()))
    if len(text.encode()) > LONGEST_TAG:
        raise UsageError(f"a tag has at most {LONGEST_TAG} bytes; shorten it")
    if text:
        write_text(folder / TAG, text + "\n")
    else:
        (folder / TAG).unlink(missing_ok=True)


def needed_runs(cache_dir: Path) -> Mapping[str, Sequence[str]]:
    """Return run name -> the benches, and the fine-tunings that can go on, that were made of it.

    A bench without a run has no bundle, no report and no winner to go on from. A bundle has all of
    a run that it needs.
    """
    found: dict[str, list[str]] = {}
    for path in sorted((cache_dir / "benches").glob("*/bench.json"), reverse=True):
        rows = _field(path, "rows")
        for row in rows if isinstance(rows, list) else ():
            if isinstance(row, dict) and isinstance(row.get("run"), str):
                found.setdefault(row["run"], []).append(f"benches/{path.parent.name}")
    for path in sorted((cache_dir / "runs").glob("*/promote.json"), reverse=True):
        source = _field(path, "run")
        if isinstance(source, str) and not (path.parent / RESULT).exists():
            found.setdefault(Path(source).name, []).append(f"runs/{path.parent.name}")
    return {name: list(dict.fromkeys(by)) for name, by in found.items()}


def _field(path: Path, name: str) -> object:
    """Return a field of a JSON file; None where the file cannot be read or has it not."""
    try:
        return read_record(path, "a record of a run", lambda data: data.get(name))
    except DataError as error:
        log.info("%s", error)
        return None


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Paired tests of runs on the rows of one split.

    Parameters
    ----------
    metric : str
        What decides: ``top1``, or ``map`` where an image may have several labels.
    pairs : tuple of Pair
        With Holm's correction for all of them.
    """

    split: str
    metric: str
    pairs: tuple[Pair, ...]


def compare_runs(folders: Mapping[str, Path]) -> tuple[list[Compared], dict[str, str]]:
    """Return paired tests on each split whose rows all runs predicted.

    Nothing is scored again, so no test evaluation is counted.

    Parameters
    ----------
    folders : mapping of name to folder

    Returns
    -------
    found : list of Compared
    why_not : mapping of split to str
        Why the runs cannot be compared on a split that some of them have.
    """
    said = {name: load_predictions(folder) for name, folder in folders.items()}
    found, why_not = [], {}
    for split in HELD_OUT:
        of = {name: splits[split] for name, splits in said.items() if split in splits}
        if not of:
            continue
        if missing := [name for name in said if name not in of]:
            why_not[split] = f"{', '.join(missing)} has no predictions of it"
            continue
        try:
            found.append(_compared(split, of))
        except (DataError, UsageError) as error:
            why_not[split] = str(error)
    return found, why_not


def _compared(split: str, of: Mapping[str, Predictions]) -> Compared:
    orders = {name: np.argsort(one.ids, kind="stable") for name, one in of.items()}
    first, *others = of
    for other in others:
        a, b = of[first], of[other]
        if not np.array_equal(a.ids[orders[first]], b.ids[orders[other]]):
            raise UsageError(f"{first} and {other} predicted other images ({len(a)} and {len(b)})")
        if not np.array_equal(a.labels[orders[first]], b.labels[orders[other]]):
            raise UsageError(f"{first} and {other} have other labels of the same images")
    metric = of[first].task.metric
    evidence = {name: evidence_of(one, metric, order=orders[name]) for name, one in of.items()}
    return Compared(split=split, metric=metric, pairs=tuple(compare_all(evidence)))
