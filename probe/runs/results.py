"""What a run leaves behind: one `result.json`, from which every table and page is built.

A number that was not measured is absent, never zero. `result.json` is written last, by rename: a
run folder that has one is complete.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from types import NoneType
from typing import Any

from probe.core.files import write_text
from probe.core.records import read_json
from probe.core.run_folders import RESULT
from probe.core.short_repr import short_repr
from probe.errors import DataError
from probe.evaluation.scored import PerClass

SCHEMA = 1

FIELD_TYPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("schema", "seed", "n_train", "n_val", "n_test"), int),
    **dict.fromkeys(("command", "entry", "dataset", "backbone", "weights", "layer", "pool"), str),
    **dict.fromkeys(("head", "created"), str),
    **dict.fromkeys(("params", "metrics", "per_class", "versions"), dict),
    "seconds": (int, float),
}
OPTIONAL_TYPES: dict[str, type | tuple[type, ...]] = {
    "selection": dict,
    "intervals": dict,
    "temperature": (int, float),
    "test_looks": int,
    "spread": dict,
    "multilabel": dict,
    "groups": dict,
    "subgroups": dict,
    "baseline": dict,
    "two_classes": dict,
}


def check_fields(data: object) -> dict[str, Any]:
    """Return the object that was read, checked.

    Raises
    ------
    DataError
        A field is missing, unknown or of another type; the message names it.
    """
    if not isinstance(data, dict):
        raise DataError("not an object")
    if data.get("schema") != SCHEMA:
        raise DataError(f"schema is {data.get('schema')!r}, this version reads {SCHEMA}")
    optional = {k: wanted for k, wanted in OPTIONAL_TYPES.items() if k in data}
    _check_object(data, FIELD_TYPES | optional, "")
    _check_object(data["per_class"], {"split": str, "recall": dict}, "per_class.")
    _check_values(data["per_class"]["recall"], (int, float), "per_class.recall.")
    _check_values(data["params"], (str, int, float, bool, NoneType), "params.")
    _check_values(data["metrics"], (dict,), "metrics.")
    for split, figures in data["metrics"].items():
        _check_values(figures, (int, float), f"metrics.{split}.")
    _check_values(data["versions"], (str,), "versions.")
    return data


def read_intervals(data: Mapping[str, Any]) -> dict[str, dict[str, tuple[float, float]]]:
    """Return (low, high) of each split and metric; DataError where one is no pair of numbers."""
    _check_values(data, (dict,), "intervals.")
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for split, figures in data.items():
        found[split] = {}
        for name, bounds in figures.items():
            where = f"intervals.{split}.{name}"
            if not isinstance(bounds, list) or len(bounds) != 2:
                raise DataError(f"{where} is {bounds!r}, not [low, high]")
            _check_values(
                dict(zip(("low", "high"), bounds, strict=True)), (int, float), f"{where}."
            )
            found[split][name] = (float(bounds[0]), float(bounds[1]))
    return found


def _check_object(data: object, types: Mapping[str, type | tuple[type, ...]], prefix: str) -> None:
    if not isinstance(data, dict):
        raise DataError(f"{prefix.rstrip('.')} is not an object")
    for name in types.keys() - data.keys():
        raise DataError(f"{prefix}{name} is missing")
    for name in data.keys() - types.keys():
        raise DataError(f"{prefix}{name} is not a field of schema {SCHEMA}")
    for name, wanted in types.items():
        _check_type(data[name], wanted, prefix + name)


def _check_values(data: Mapping[str, object], wanted: tuple[type, ...], prefix: str) -> None:
    for name, value in data.items():
        _check_type(value, wanted, prefix + name)


def _check_type(value: object, wanted: type | tuple[type, ...], name: str) -> None:
    kinds = wanted if isinstance(wanted, tuple) else (wanted,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise DataError(f"{name} is {value!r}, not {' or '.join(kind.__name__ for kind in kinds)}")


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
REPORTED_VERSIONS = ("probe", "mxnet", "numpy", "scikit-learn")


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
    schema : int
    command : str
        What was typed.
    entry, dataset, backbone, weights, layer, pool : str
    head : str
    params : mapping
        The head's parameters: numbers, text, booleans and None.
    seed : int
    n_train, n_val, n_test : int
        Rows; 0 where there is no such split.
    metrics : mapping of split to mapping of name to float
        Fractions from 0 to 1, log loss in nats.
    per_class : PerClass
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
    params: Mapping[str, Any]
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
    def metric(self) -> str:
        """What it is ranked by: ``top1``, or ``map`` where an image may have several labels."""
        return "top1" if self.multilabel is None else "map"

    def to_dict(self) -> dict[str, Any]:
        """Return plain containers, as `--json` prints them."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        plain["params"] = dict(self.params)
        plain["metrics"] = {split: dict(figures) for split, figures in self.metrics.items()}
        plain["per_class"] = {
            "split": self.per_class.split,
            "recall": dict(self.per_class.recall),
        }
        plain["versions"] = dict(self.versions)
        for name in OPTIONAL_TYPES:
            if not plain[name]:  # not measured: absent
                del plain[name]
        if self.intervals:
            plain["intervals"] = {
                split: {name: list(bounds) for name, bounds in figures.items()}
                for split, figures in self.intervals.items()
            }
        return plain

    def to_json(self) -> str:
        """Return the text of `result.json`; numbers read back exactly.

        Raises
        ------
        ValueError
            A number is NaN or infinite: a figure that could not be measured must be left out.
        """
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_dict(cls, data: object) -> RunResult:
        """Check plain containers and return the result they describe.

        Raises
        ------
        DataError
            A field is missing, unknown or of another type; the message names it.
        """
        found = check_fields(data)
        made = {**found, "per_class": PerClass(**found["per_class"])}
        scratch = found["head"] == "promoted" and found["params"].get("start") == "scratch"
        if scratch and not found["weights"].startswith("random"):
            made["weights"] = "random weights"  # earlier versions named those of the probe
        if "intervals" in found:
            made["intervals"] = read_intervals(found["intervals"])
        return cls(**made)


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
    write_text(path, result.to_json())
    return path


def read_run(folder: Path) -> RunResult:
    """Read a run's result.

    Raises
    ------
    DataError
        There is none, or it is not what `write_run` writes; the message has the path.
    """
    path = folder / RESULT
    try:
        return RunResult.from_dict(read_json(path))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file: no run, or one that did not finish") from None
    except (DataError, ValueError, OSError) as error:
        raise DataError(f"{path}: not a result of a run: {' '.join(str(error).split())}") from error


def figure_text(metric: str, value: float | None, digits: int = 2) -> str:
    """Return a figure as people write it: in percent, or a log loss in nats."""
    if value is None:
        return "-"
    return f"{value:.4f}" if metric in LOSSES else f"{100 * value:.{digits}f} %"


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
    found = {"python": python_version()}
    for package in REPORTED_VERSIONS:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # absent, not "unknown"
            continue
    return found


def now() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
