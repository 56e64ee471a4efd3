"""Which rows a head learns from, which it is watched on, and which it meets once, at the end.

Functions that fit or choose take training and validation rows only; the test rows come in where
the finished head is scored.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from probe.errors import UsageError
from probe.metrics import Metrics, score
from probe.results import FeatureSource, PerClass, RunResult, now, plain_params, versions

Labels = NDArray[np.integer[Any]]
RowNumbers = NDArray[np.intp]


class Head(Protocol):
    """What `run_head` needs of a head; every estimator of the heads' catalog has it."""

    classes_: NDArray[Any]

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        validation: tuple[Any, Any] | None = None,
        on_epoch: Callable[[Any], None] | None = None,
    ) -> Any: ...

    def predict_proba(self, X: Any) -> NDArray[np.float64]: ...

    def get_params(self, deep: bool = True) -> dict[str, Any]: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Rows of features with their labels and ids.

    Parameters
    ----------
    X : float, (n_rows, n_features)
        An array or a memory map.
    y : int, (n_rows,)
        Indices into the classes.
    ids : sequence of str, (n_rows,)
    """

    X: NDArray[Any]
    y: Labels
    ids: Sequence[str]

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: RowNumbers) -> Part:
        """Return a copy of those rows."""
        return Part(X=self.X[rows], y=self.y[rows], ids=[self.ids[row] for row in rows])


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadData:
    """What one head is fitted, watched and scored on."""

    train: Part
    val: Part | None
    test: Part | None
    classes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Rows of one of the dataset's splits; all of them where `rows` is None."""

    split: str
    rows: RowNumbers | None = None

    def of(self, splits: Mapping[str, Part]) -> Part:
        """Return these rows; all of a split are not copied."""
        part = splits[self.split]
        return part if self.rows is None else part.take(self.rows)


@dataclass(frozen=True, kw_only=True, eq=False)
class SplitPlan:
    """Which rows play which part, and why in one sentence for the user."""

    train: Rows
    val: Rows | None
    test: Rows | None
    why: str

    def apply(self, splits: Mapping[str, Part], classes: Sequence[str]) -> HeadData:
        """Cut the splits accordingly."""
        return HeadData(
            train=self.train.of(splits),
            val=self.val.of(splits) if self.val else None,
            test=self.test.of(splits) if self.test else None,
            classes=tuple(classes),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadRun:
    """A fitted head, its result, and the metrics of each split with their confusion matrices."""

    head: Head
    result: RunResult
    metrics: Mapping[str, Metrics]


def plan_splits(labels: Mapping[str, Labels], *, val_size: float, seed: int) -> SplitPlan:
    """Decide which rows of which split a head is trained, watched and tested on.

    The dataset's own validation split is used where there is one; else `val_size` of the training
    rows are held out, stratified. Its test split, where there is one, is the test split.

    Parameters
    ----------
    labels : mapping of split name to int, (n_rows,)
        The splits that there are.
    val_size : float
        A fraction below 1, a whole number of rows, or 0 to hold nothing out.
    seed : int

    Raises
    ------
    UsageError
        There is no training split, or `val_size` cannot be had.
    """
    if "train" not in labels:
        raise UsageError(
            f"these features have only {' and '.join(labels) or 'no'} rows; a head is fitted on "
            "train: extract with --split train, or without --split"
        )
    train, val, n_rows = Rows(split="train"), None, len(labels["train"])
    if "val" in labels:
        val, why = Rows(split="val"), "validation is the dataset's own val split"
    elif val_size == 0:
        why = f"all {n_rows:,} training rows are trained on, nothing is held out"
    else:
        train_rows, val_rows = validation_split(labels["train"], val_size, seed)
        train, val = Rows(split="train", rows=train_rows), Rows(split="train", rows=val_rows)
        why = (
            f"validation is {len(val_rows):,} of the {n_rows:,} training rows, "
            f"stratified, seed {seed}"
        )
    if "test" not in labels:
        return SplitPlan(train=train, val=val, test=None, why=f"{why}; there is no test split")
    why += "; the test split is scored once, at the end"
    return SplitPlan(train=train, val=val, test=Rows(split="test"), why=why)


def validation_split(labels: Labels, val_size: float, seed: int) -> tuple[RowNumbers, RowNumbers]:
    """Hold out a stratified part of the training rows.

    Every class gives its share, rounded so that the total is exact (largest remainders first).
    A class of two or more rows has at least one on each side; a class of one is trained on.

    Parameters
    ----------
    labels : int, (n_rows,)
    val_size : float
        A fraction below 1, a whole number of rows, or 0 to hold nothing out.
    seed : int

    Returns
    -------
    train_rows, val_rows : intp
        Ascending, disjoint, together all rows.

    Raises
    ------
    UsageError
        `val_size` is no such number, or leaves a class out of one side.
    """
    classes, encoded, counts = np.unique(labels, return_inverse=True, return_counts=True)
    wanted = _rows_to_hold_out(val_size, len(labels))
    if wanted == 0:
        return np.arange(len(labels)), np.empty(0, np.intp)
    least, most = np.minimum(counts - 1, 1), counts - 1
    if not 0 < int(least.sum()) <= wanted <= int(most.sum()):
        raise UsageError(
            f"--val-size {val_size:g} holds out {wanted} of {len(labels)} rows; with "
            f"{len(classes)} classes it must be from {least.sum()} to {most.sum()} rows, or 0"
        )
    shares = _shares(counts, least, most, wanted)
    random = np.random.default_rng(seed)
    held_out = np.zeros(len(labels), bool)
    for index, share in enumerate(shares):
        rows = np.flatnonzero(encoded == index)
        held_out[random.permutation(rows)[:share]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def run_head(
    data: HeadData,
    head: Head,
    *,
    name: str,
    source: FeatureSource,
    command: str,
    seed: int,
    on_epoch: Callable[[Any], None] | None = None,
) -> HeadRun:
    """Fit a head on the training rows, then score it on every split there is.

    Validation rows are only watched. Test rows are looked at once, after the fit.

    Parameters
    ----------
    data : HeadData
    head : Head
        Not fitted yet; it is fitted here.
    name : str
        The head's name in the catalog.
    source : FeatureSource
    command : str
        What the user typed.
    seed : int
        Of the split and of the head, as recorded in the result.
    on_epoch : callable, optional
        Called with an Epoch after each one, by heads that have epochs.

    Raises
    ------
    HeadError
        The head cannot be fitted on these rows.
    """
    started = time.perf_counter()
    validation = (data.val.X, data.val.y) if data.val is not None else None
    head.fit(data.train.X, data.train.y, validation=validation, on_epoch=on_epoch)
    seconds = time.perf_counter() - started
    parts = {"train": data.train, "val": data.val, "test": data.test}
    there = {split: part for split, part in parts.items() if part is not None and len(part)}
    metrics = {split: _evaluate(head, part, len(data.classes)) for split, part in there.items()}
    result = RunResult(
        command=command,
        **asdict(source),
        head=name,
        params=plain_params(head.get_params(deep=False)),
        seed=seed,
        n_train=len(data.train),
        n_val=len(data.val) if data.val is not None else 0,
        n_test=len(data.test) if data.test is not None else 0,
        metrics={split: figures.summary() for split, figures in metrics.items()},
        per_class=_per_class(metrics, data.classes),
        seconds=seconds,
        versions=versions(),
        created=now(),
    )
    return HeadRun(head=head, result=result, metrics=metrics)


def _evaluate(head: Head, part: Part, n_classes: int) -> Metrics:
    probabilities = np.zeros((len(part), n_classes))  # 0 for a class without training rows
    probabilities[:, head.classes_] = head.predict_proba(part.X)
    return score(probabilities, part.y, n_classes)


def _per_class(metrics: Mapping[str, Metrics], classes: Sequence[str]) -> PerClass:
    split = list(metrics)[-1]  # in the order train, val, test: the most honest one there is
    recall = zip(classes, metrics[split].per_class_recall, strict=True)
    return PerClass(split=split, recall={c: float(r) for c, r in recall if not np.isnan(r)})


def _rows_to_hold_out(val_size: float, n_rows: int) -> int:
    fraction = 0 <= val_size < 1
    if not fraction and not (val_size >= 1 and float(val_size).is_integer()):
        raise UsageError(
            f"--val-size {val_size:g} must be a fraction below 1, a whole number of rows, or 0"
        )
    return max(1, round(val_size * n_rows)) if 0 < val_size < 1 else int(val_size)


def _shares(counts: RowNumbers, least: RowNumbers, most: RowNumbers, wanted: int) -> RowNumbers:
    """Return how many rows each class gives: in proportion, within its bounds, `wanted` in all."""
    exact = counts * (wanted / counts.sum())
    shares: RowNumbers = np.clip(np.floor(exact).astype(np.intp), least, most)
    while (missing := wanted - int(shares.sum())) != 0:
        step = 1 if missing > 0 else -1
        movable = shares < most if missing > 0 else shares > least
        order = np.argsort(-step * (exact - shares), kind="stable")  # the most wronged first
        chosen = order[movable[order]][: abs(missing)]
        shares[chosen] += step
    return shares
