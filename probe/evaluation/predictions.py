"""Predictions of a run on rows it was not trained on, for paired tests, report and ensembles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.columns import Column, decode_columns, encode_columns
from probe.core.files import replacing
from probe.core.records import in_one_line, read_npz
from probe.core.short_repr import short_repr
from probe.errors import DataError
from probe.evaluation.logits import softmax
from probe.evaluation.task import Task, task_of

FILE_NAME = "predictions.npz"
UNITS = "units"  # absent where each row is alone, and in files of older versions
BY_ROW = ("ids", "labels", "probabilities", "logits", UNITS, "classes", "scaled")


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """Probabilities of rows that the head did not see.

    Parameters
    ----------
    ids : str, (n_rows,)
        As in the entry.
    labels : int64, (n_rows,), or uint8, (n_rows, n_classes)
        Indices into the entry's classes; where a row may have several, 1 for each, else 0.
    probabilities : float64, (n_rows, n_classes)
        Columns in the order of the entry's classes; 0 for a class without training rows. Rows sum
        to 1 unless they may have several labels. Runs of older versions kept float32.
    units : int, (n_rows,), optional
        Rows of one unit belong together (`probe.evaluation.units`): they show one picture, are of
        one group, or predict one image in several repeats.
    logits : float64, (n_rows, n_classes), optional
        Their logarithms, or log odds of several labels, from the head's scores: what the file
        keeps, and what every figure of the run comes from. None in runs of older versions.
    repeats : int
        Of ``oof``: how often each row was predicted. The rows come so often, one repeat after the
        other, each in the same order.
    classes : int32, (n_rows, n_kept), optional
        Of rows of many classes (`probe.evaluation.many`): which classes the columns of
        `probabilities` and `logits` are, row by row, the answer first. The rows' sums are below 1
        then.
    n_classes : int, optional
        How many the entry has; beside `classes`.
    scaled : float64, (n_rows,), optional
        Beside `classes`: the highest probability at the run's temperature.
    columns : mapping of name to Column, (n_rows,)
        What a table says of each row's image, as a patient or a site; empty without a table.
    """

    __repr__ = short_repr

    ids: NDArray[np.str_]
    labels: NDArray[Any]
    probabilities: NDArray[np.floating[Any]]
    units: NDArray[np.intp] | None = None
    logits: NDArray[np.float64] | None = None
    repeats: int = 1
    classes: NDArray[np.int32] | None = None
    n_classes: int | None = None
    scaled: NDArray[np.float64] | None = None
    columns: Mapping[str, Column] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        ids: Sequence[str],
        labels: NDArray[Any],
        logits: NDArray[np.float64],
        units: NDArray[np.intp] | None = None,
        repeats: int = 1,
    ) -> Predictions:
        """Return predictions with these logits."""
        task = task_of(labels)
        return cls(
            ids=np.asarray(ids, dtype=np.str_),
            labels=labels.astype(task.kept_dtype),
            probabilities=task.probabilities_of(logits),
            units=units,
            logits=logits,
            repeats=repeats,
        )

    @property
    def task(self) -> Task:
        """Whether a row has one label or may have several."""
        return task_of(self.labels)

    @property
    def label_columns(self) -> NDArray[np.integer[Any]]:
        """Which column each row's label is, (n_rows,); of several labels the labels themselves."""
        if self.classes is None:
            return self.labels
        columns: NDArray[np.intp] = (self.classes == self.labels[:, None]).argmax(axis=1)
        return columns

    @property
    def answers(self) -> NDArray[np.int64]:
        """The class that is answered, (n_rows,): the first of the likeliest."""
        if self.classes is not None:
            return self.classes[:, 0].astype(np.int64)
        answers: NDArray[np.int64] = self.probabilities.argmax(axis=1).astype(np.int64)
        return answers

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each row's answer is its label, (n_rows,)."""
        right: NDArray[np.bool_] = self.answers == self.labels
        return right

    def confidence_at(
        self, temperature: float | None, answers: NDArray[Any] | None = None
    ) -> NDArray[np.float64]:
        """Return each row's highest probability, (n_rows,), after scaling by the run's temperature.

        As it is where that is None.

        Parameters
        ----------
        answers : intp, (n_rows,), optional
            Class numbers whose probability is returned instead, as those of a threshold.
        """
        if self.classes is not None:  # the likeliest is answered
            many = self.probabilities.max(axis=1).astype(np.float64)
            return many if temperature is None or self.scaled is None else self.scaled
        wanted = self.answers if answers is None else answers
        if temperature is None:
            plain: NDArray[np.float64] = self.probabilities[np.arange(len(self)), wanted]
            return plain.astype(np.float64)
        logits, rows = self.scores, 4096
        found = np.empty(len(self))
        for start in range(0, len(logits), rows):
            p = softmax(logits[start : start + rows] / temperature)
            found[start : start + rows] = p[np.arange(len(p)), wanted[start : start + rows]]
        return found

    @property
    def scores(self) -> NDArray[np.float64]:
        """Their logits, (n_rows, n_classes); of older runs what float32 probabilities still tell.

        Those that float32 rounded to 0 count as the smallest number that it has.
        """
        if self.logits is not None:
            return self.logits
        p = self.probabilities.astype(np.float64)
        float32 = np.finfo(np.float32)
        least, most = float(float32.smallest_subnormal), 1 - float(float32.epsneg) / 2
        if not self.task.exclusive:
            return self.task.logits_of(p.clip(least, most))
        known = (p > 0).any(axis=0)  # elsewhere a class without training rows
        return self.task.logits_of(np.where(known, np.maximum(p, least), 0))

    @property
    def compared(self) -> NDArray[np.floating[Any]]:
        """What heads are compared by, (n_rows, n_classes): probabilities; of several labels ranks.

        See `Task.compared`.
        """
        return self.task.compared(self.probabilities, self.logits)

    def first(self) -> Predictions:
        """Return each row once, as the first repeat has it: for pictures and lists of images."""
        if self.repeats == 1:
            return self
        rows = len(self) // self.repeats
        own = {name: getattr(self, name) for name in BY_ROW}
        own = {name: value[:rows] for name, value in own.items() if value is not None}
        columns = {name: one[:rows] for name, one in self.columns.items()}
        return replace(self, repeats=1, columns=columns, **own)

    def __len__(self) -> int:
        return len(self.labels)


def save_predictions(folder: Path, splits: Mapping[str, Predictions]) -> None:
    """Write `predictions.npz` in a run's folder, by rename.

    Parameters
    ----------
    splits : mapping of str to Predictions
        ``val`` by the head fitted on training rows alone, ``test`` by the final one, ``oof``: each
        training row by the fold head that did not see it.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for split, one in splits.items():
        without = "logits" if one.logits is None else "probabilities"
        for name in (*BY_ROW, "n_classes"):
            if name != without and getattr(one, name) is not None:
                arrays[f"{split}_{name}"] = np.asarray(getattr(one, name))
        if one.repeats > 1:
            arrays[f"{split}_repeats"] = np.array(one.repeats)
        if one.columns:
            codes, values = encode_columns(one.columns, len(one))
            arrays[f"{split}_columns"], arrays[f"{split}_column_values"] = codes, values
    with replacing(folder / FILE_NAME) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load_predictions(folder: Path) -> dict[str, Predictions]:
    """Read a run's predictions by split; empty where the run kept none.

    Raises
    ------
    DataError
        The file is damaged.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return {}
    try:
        arrays = read_npz(path)
        splits = {name.removesuffix("_ids") for name in arrays if name.endswith("_ids")}
        found = {split: _read(arrays, split) for split in sorted(splits)}
        for split, one in found.items():
            _check(split, one)
    except (OSError, TypeError, ValueError, KeyError) as error:
        reason = in_one_line(error).removeprefix(f"{path}: ")
        raise DataError(f"{path}: damaged ({reason}); fit the head again") from error
    return found


def _check(split: str, one: Predictions) -> None:
    """Raise ValueError where arrays do not belong together: none of it would be found later."""
    ids, labels, probabilities = one.ids, one.labels, one.probabilities
    units = ids if one.units is None else one.units
    kinds = ids.dtype.kind, labels.dtype.kind in "iu", probabilities.dtype.kind
    if kinds != ("U", True, "f") or (ids.ndim, probabilities.ndim, units.ndim) != (1, 2, 1):
        raise ValueError(f"{split} has arrays of another kind")
    others = {len(cells) for cells in one.columns.values()} - {len(ids)}
    if not len(ids) == len(labels) == len(probabilities) == len(units) or others:
        raise ValueError(f"{split} has arrays of different lengths")
    wide = probabilities.shape[1]
    if one.classes is not None:
        _check_classes(split, one)
        wide = one.n_classes or 0
    if labels.shape != one.task.shape(len(labels), wide) or not np.isfinite(probabilities).all():
        raise ValueError(f"{split} has no probabilities")
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < max(wide, 2):
        raise ValueError(f"{split} has labels that are none of {wide} classes")
    if one.repeats < 1 or len(one) % one.repeats:
        raise ValueError(f"{split} has {one.repeats} repeats of {len(one)} rows")


def _check_classes(split: str, one: Predictions) -> None:
    classes, n_classes = one.classes, one.n_classes or 0
    assert classes is not None
    if classes.dtype.kind not in "iu" or classes.shape != one.probabilities.shape:
        raise ValueError(f"{split} has classes of another kind")
    if not one.task.exclusive or (
        classes.size and not 0 <= int(classes.min()) <= int(classes.max()) < n_classes
    ):
        raise ValueError(f"{split} has classes that are none of {n_classes}")
    if not (classes == one.labels[:, None]).any(axis=1).all():
        raise ValueError(f"{split} lacks the classes of its labels")
    scaled = one.scaled
    if scaled is not None and not (
        scaled.dtype.kind == "f" and scaled.shape == one.labels.shape and np.isfinite(scaled).all()
    ):
        raise ValueError(f"{split} has scaled confidences of another kind")


def _read(arrays: Mapping[str, NDArray[Any]], split: str) -> Predictions:
    ids, labels = arrays[f"{split}_ids"], arrays[f"{split}_labels"]
    units, columns = arrays.get(f"{split}_{UNITS}"), {}
    if f"{split}_columns" in arrays:
        codes, values = arrays[f"{split}_columns"], arrays[f"{split}_column_values"]
        columns = decode_columns(codes, values)
    if f"{split}_logits" not in arrays:  # of an older version
        return Predictions(
            ids=ids,
            labels=labels,
            probabilities=arrays[f"{split}_probabilities"],
            units=units,
            columns=columns,
        )
    logits = arrays[f"{split}_logits"]
    repeats = int(arrays.get(f"{split}_repeats", np.array(1)))
    with np.errstate(over="ignore"):  # of numbers that are none; they are refused
        probabilities = task_of(labels).probabilities_of(logits)
    classes = arrays.get(f"{split}_classes")
    return Predictions(
        ids=ids, labels=labels, probabilities=probabilities,
        units=units, logits=logits, repeats=repeats, classes=classes,
        n_classes=None if classes is None else int(arrays[f"{split}_n_classes"]),
        scaled=arrays.get(f"{split}_scaled"), columns=columns,
    )  # fmt: skip
