"""What a run leaves behind: one `result.json`, from which every table and page is built.

A number that was not measured is absent, never zero. `result.json` is written last, by rename: a
run folder that has one is complete.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from platform import python_version
from typing import Any

from probe.core.plain import from_plain, to_plain
from probe.core.records import read_record, write_record
from probe.core.run_folders import RESULT
from probe.core.short_repr import short_repr
from probe.core.version import __version__, installed_versions
from probe.errors import DataError
from probe.evaluation.scored import PerClass
from probe.evaluation.task import MULTI_LABEL, SINGLE_LABEL, Task

SCHEMA = 1

log = logging.getLogger(__name__)

CHOICE_WORDS = {  # what else a choice may go by
    "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1", "auc": "AUC",
    "log_loss": "log loss",
}  # fmt: skip
METRIC_WORDS = {  # what runs are ranked by, as people write it
    "top1": "top-1", "map": "mAP", "mean_recall": "balanced accuracy", "macro_f1": "macro F1",
    "macro_auc": "AUC", "log_loss": "log loss",
}  # fmt: skip
LOSSES = ("log_loss",)  # in nats, less is better; all others are shares
REPORTED_VERSIONS = ("mxnet", "numpy", "scikit-learn")


@dataclass(frozen=True, kw_only=True)
class FeatureSource:
    """Where the features of a run came from: an entry of the cache, in the words of its key."""

    entry: str
    dataset: str
    backbone: str
    weights: str
    layer: str
    pool: str


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """One fitted head and its figures; the fields are those of the JSON.

    Parameters
    ----------
    command : str
        What was typed.
    params : mapping
        The head's parameters: numbers, text, booleans and None.
    n_train, n_val, n_test : int
        Rows; 0 where there is no such split.
    metrics : mapping of split to mapping of name to float
        Fractions from 0 to 1, log loss in nats.
    seconds : float
        Wall time of fitting.
    versions : mapping of package name to version
    created : str
        UTC, ISO 8601.
    selection : mapping, optional
        How the penalty was chosen: by, fits, penalty, values, top1, top1_error, log_loss (a figure
        a value), chosen, refit, and at_end, parameters whose choice is the first or the last of
        the values tried. With several labels ``map`` stands for top1; so does what
        ``metric`` names, where another figure decided.
    intervals : mapping of split to mapping of metric to (low, high), optional
        95 % intervals over that split's rows, the head staying as it is.
    temperature : float, optional
        Fitted on validation rows; `calibration_error_scaled` is after it.
    test_looks : int, optional
        How often these test rows have been scored, this time included.
    spread : mapping, optional
        Where folds or seeds were fitted and nothing was chosen: ``over`` ("folds" or "seeds"),
        their ``count``, and ``mean`` and ``deviation`` (standard) of the ``metric`` over them.
    multilabel : mapping, optional
        Only where an image may have several labels: ``classes``, a mapping of class name to its
        figures on the split of `per_class` (positives, average_precision, auc, threshold,
        precision, recall, f1), and ``without_positives``, a mapping of split to class names.
        `metrics` has other names then, ``map`` first, and no top-1.
    groups : mapping, optional
        Where rows belong together (`probe.evaluation.units`): ``by`` what, empty where only by
        showing the same picture; and by split ``units``, how many groups its rows are, and
        ``effective``, how many groups of equal size would say as much. Intervals are over groups
        then.
    subgroups : mapping, optional
        Where a list says more of its images: ``split``, and by column ``values``, the figures of
        each with their intervals, the worst first, and ``shortcut``; see `probe.runs.subgroups`.
    baseline : mapping, optional
        What always answering the largest class of the training rows reaches: ``class``, its name,
        and by split ``figures`` (top1, mean_recall).
    two_classes : mapping, optional
        Only of two classes: ``positive``, the name of the positive class, and its
        ``number``; by split ``figures``
        (positives, top1, precision, recall, specificity, f1, auc, average_precision) and their 95 %
        ``intervals``; where a threshold was chosen also ``threshold`` (`Threshold` of
        `probe.evaluation.two_classes`) and ``at_threshold``, with the same by split, and costs
        where it was chosen by them.
    """

    __repr__ = short_repr

    schema: int = SCHEMA
    command: str
    entry: str
    dataset: str
    backbone: str
    weights: str
    layer: str
    pool: str
    head: str
    params: Mapping[str, str | int | float | bool | None]
    seed: int
    n_train: int
    n_val: int
    n_test: int
    metrics: Mapping[str, Mapping[str, float]]
    per_class: PerClass
    seconds: float
    versions: Mapping[str, str]
    created: str
    selection: Mapping[str, Any] | None = None
    intervals: Mapping[str, Mapping[str, tuple[float, float]]] | None = None
    temperature: float | None = None
    test_looks: int | None = None
    spread: Mapping[str, Any] | None = None
    multilabel: Mapping[str, Any] | None = None
    groups: Mapping[str, Any] | None = None
    subgroups: Mapping[str, Any] | None = None
    baseline: Mapping[str, Any] | None = None
    two_classes: Mapping[str, Any] | None = None

    @property
    def task(self) -> Task:
        """Whether an image has one label or may have several."""
        return SINGLE_LABEL if self.multilabel is None else MULTI_LABEL

    @property
    def metric(self) -> str:
        """What it is ranked by: ``top1``, or ``map`` where an image may have several labels."""
        return self.task.metric

    def to_dict(self) -> dict[str, Any]:
        """Return plain containers, as `--json` prints them."""
        plain: dict[str, Any] = to_plain(self)
        # what was not measured is absent
        return {name: value for name, value in plain.items() if value or name not in OPTIONAL}

    @classmethod
    def from_dict(cls, data: object) -> RunResult:
        """Check plain containers and return the result they describe.

        Raises
        ------
        DataError
            A field is missing, unknown or of another type; the message names it.
        """
        found = from_plain(cls, data)
        scratch = found.head == "promoted" and found.params.get("start") == "scratch"
        if scratch and not found.weights.startswith("random"):
            return replace(found, weights="random weights")  # earlier versions named the probe's
        return found


OPTIONAL = {one.name for one in fields(RunResult) if one.default is None}


def finished_runs(runs: Path) -> Iterator[tuple[Path, RunResult]]:
    """Yield the folders and results of finished runs, the newest first; damaged ones are logged."""
    for path in sorted(runs.glob(f"*/{RESULT}"), reverse=True):
        try:
            yield path.parent, read_run(path.parent)
        except DataError as error:
            log.info("%s", error)


def write_run(folder: Path, result: RunResult) -> Path:
    """Write `result.json` by rename and return its path; do it last, it marks a complete run."""
    path = folder / RESULT
    write_record(path, result.to_dict())
    return path


def read_run(folder: Path) -> RunResult:
    """Read a run's result.

    Raises
    ------
    DataError
        There is none, or it is not what `write_run` writes; the message has the path.
    """
    return read_record(
        folder / RESULT, "a result of a run", RunResult.from_dict,
        schema=SCHEMA, absent="no run, or one that did not finish",
    )  # fmt: skip


def figure_text(metric: str, value: float | None) -> str:
    """Return a figure as people write it: in percent, or a log loss in nats."""
    if value is None:
        return "-"
    return f"{value:.4f}" if metric in LOSSES else f"{100 * value:.2f} %"


def difference_text(metric: str, value: float, sign: str = "") -> str:
    """Return by how much one figure is better than another: in points, or in nats."""
    if metric in LOSSES:
        return f"{value:{sign}.4f} nats"
    return f"{100 * value:{sign}.2f} points"


def span_text(metric: str, low: float, high: float, sign: str = "") -> str:
    """Return an interval of such a figure or difference, without its unit."""
    scale, digits = (1, 4) if metric in LOSSES else (100, 2)
    return f"{scale * low:{sign}.{digits}f} to {scale * high:{sign}.{digits}f}"


def versions() -> dict[str, str]:
    """Return the versions of what moves the numbers, without importing any of it."""
    packages = installed_versions(REPORTED_VERSIONS)
    return {"python": python_version(), **packages, "probe": __version__}


def now() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
