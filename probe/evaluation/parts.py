"""Divide rows of features into those for training, validation and the final test."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.short_repr import short_repr
from probe.errors import UsageError
from probe.evaluation.many import BLOCK
from probe.evaluation.splitting import Labels, RowNumbers, validation_split
from probe.evaluation.streaming import StreamedRows
from probe.evaluation.task import Task, task_of
from probe.evaluation.units import Related, Units, beyond_single, count_units

log = logging.getLogger(__name__)

SCORED = 1 << 15  # images at a time, of those whose rows stay in their file


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Images with their features, labels and ids.

    An image may have several views: its rows stand next to each other in X, so that a part of
    the images always has all rows of each.

    Parameters
    ----------
    X : float, (n_images * views, n_features)
        An array, a memory map, or rows that stay in their file.
    y : int, (n_images,), or (n_images, n_classes)
        Indices into the classes; where an image may have several, 1 for each of them, else 0.
    ids : sequence of str, (n_images,)
    views : int
        Rows an image has.
    units : int, (n_images,), optional
        Images of one unit belong together, see `probe.evaluation.units`; without it each is alone.
    weights : float64, (n_images,), optional
        What each counts where a head is fitted; without it all count alike.
    """

    __repr__ = short_repr

    X: NDArray[Any] | StreamedRows
    y: Labels
    ids: Sequence[str]
    views: int = 1
    units: Units | None = None
    weights: NDArray[np.float64] | None = None

    @property
    def task(self) -> Task:
        """Whether an image has one label or may have several."""
        return task_of(self.y)

    def __len__(self) -> int:
        return len(self.y)

    def xy(self) -> tuple[Any, Labels]:
        """Return what a head is fitted on: all rows, each with its image's label."""
        return self.X, self.y if self.views == 1 else np.repeat(self.y, self.views, axis=0)

    def fit_options(self) -> dict[str, Any]:
        """Return what a head's `fit` takes beside `xy`: what rows count, where they differ."""
        if self.weights is None:
            return {}
        return {"sample_weight": np.repeat(self.weights, self.views)}

    def take(self, images: RowNumbers) -> Part:
        """Return those images; their rows are copied, unless they stay in their file."""
        if isinstance(self.X, StreamedRows):
            X: NDArray[Any] | StreamedRows = self.X.take(images)
        else:
            X = self.X.reshape(len(self), self.views, -1)[images].reshape(-1, self.X.shape[1])
        ids = [self.ids[image] for image in images]
        units = None if self.units is None else self.units[images]
        weights = None if self.weights is None else self.weights[images]
        return Part(
            X=X, y=self.y[images], ids=ids, views=self.views, units=units, weights=weights
        )  # fmt: skip

    def joined(self, other: Part | None) -> Part:
        """Return these images and then the other's; a copy, unless there are no others."""
        if other is None or not len(other):
            return self
        if isinstance(self.X, StreamedRows) and isinstance(other.X, StreamedRows):
            X: NDArray[Any] | StreamedRows = self.X.joined(other.X)
        else:
            X = np.concatenate([self.X, other.X])
        y, ids = np.concatenate([self.y, other.y]), [*self.ids, *other.ids]
        units = None
        if self.units is not None and other.units is not None:
            units = np.concatenate([self.units, other.units])
        weights = None
        if self.weights is not None and other.weights is not None:
            weights = np.concatenate([self.weights, other.weights])
        return Part(X=X, y=y, ids=ids, views=self.views, units=units, weights=weights)

    def predict_logits(self, head: Any, n_classes: int) -> NDArray[np.float64]:
        """Return a head's log-probabilities, (n_images, n_classes), or log odds of several labels.

        They are those of the mean probability over an image's views. A class that the head was not
        trained on gets minus infinity, and no other does.
        """
        step = SCORED if isinstance(self.X, StreamedRows) else max(1, len(self))
        found = np.full((len(self), n_classes), -np.inf)
        for images, logits in self._logits(head, step):
            found[images[0] : images[-1] + 1, head.classes_] = logits
        return found

    def logit_blocks(
        self, head: Any, n_classes: int
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
        """Yield (image numbers, `predict_logits` of these), so many that they fit in memory."""
        for images, logits in self._logits(head, max(1, BLOCK // (n_classes * self.views))):
            found = np.full((len(images), n_classes), -np.inf)
            found[:, head.classes_] = logits
            yield images, found

    def _logits(
        self, head: Any, step: int
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
        for start in range(0, len(self), step):
            images = np.arange(start, min(start + step, len(self)))
            if isinstance(self.X, StreamedRows):
                X: NDArray[Any] | StreamedRows = self.X.take(images)
            else:
                X = self.X[start * self.views : (start + step) * self.views]
            logits = head.predict_logits(X).reshape(len(images), self.views, -1)
            yield images, self.task.mean_logits(np.moveaxis(logits, 1, 0))

    def predict_proba(self, head: Any, n_classes: int) -> NDArray[np.float64]:
        """Return the probabilities of `predict_logits`, (n_images, n_classes)."""
        return self.task.probabilities_of(self.predict_logits(head, n_classes))


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadData:
    """The rows one head is fitted, validated and tested on.

    `grouped_by` says what images were grouped by, beside their content.
    """

    __repr__ = short_repr

    train: Part
    val: Part | None
    test: Part | None
    classes: tuple[str, ...]
    grouped_by: str = ""


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
    """Which rows are used for what, and the reason in one sentence for the user.

    `units` says which rows of each split belong together; it is empty where each is alone.
    """

    __repr__ = short_repr

    train: Rows
    val: Rows | None
    test: Rows | None
    why: str
    units: Mapping[str, Units] = field(default_factory=dict)
    grouped_by: str = ""

    def apply(self, splits: Mapping[str, Part], classes: Sequence[str]) -> HeadData:
        """Return the splits with these rows."""
        splits = {
            name: replace(part, units=self.units[name]) if name in self.units else part
            for name, part in splits.items()
        }
        return HeadData(
            train=self.train.of(splits),
            val=self.val.of(splits) if self.val else None,
            test=self.test.of(splits) if self.test else None,
            classes=tuple(classes),
            grouped_by=self.grouped_by,
        )


def plan_splits(
    labels: Mapping[str, Labels],
    *,
    val_size: float,
    seed: int,
    related: Related | None = None,
) -> SplitPlan:
    """Decide which rows of which split a head is trained, validated and tested on.

    The dataset's own validation split is used where there is one; else `val_size` of the training
    rows are held out, stratified; rows that belong together stay on one side. Its test split, where
    there is one, is the test split.

    Parameters
    ----------
    labels : mapping of split name to int, (n_rows,) or (n_rows, n_classes)
        The splits that there are.
    val_size : float
        A fraction below 1, a whole number of rows, or 0 to hold nothing out.
    related : Related, optional
        Which rows belong together; without it each is alone.

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
    units, by = _units(related)
    own = units.get("train")
    if "val" in labels:
        val, why = Rows(split="val"), "validation is the dataset's own val split"
    elif val_size == 0:
        why = f"all {n_rows:,} training rows are trained on, nothing is held out"
    else:
        train_rows, val_rows = validation_split(labels["train"], val_size, seed, own)
        train, val = Rows(split="train", rows=train_rows), Rows(split="train", rows=val_rows)
        why = (
            f"validation is {len(val_rows):,} of the {n_rows:,} training rows, "
            f"stratified, seed {seed}"
        )
        if own is None and 0 < val_size < 1 and len(val_rows) > round(val_size * n_rows):
            why += f": more than {val_size:g} of them, so that every class has one"
        if own is not None and by:
            n_units, n_val = count_units(own, n_rows), count_units(own[val_rows], len(val_rows))
            why += f", {n_val:,} of {n_units:,} groups by {by}, each on one side"
    if related is not None:
        why += _copies(related.pictures["train"])
    if "test" not in labels:
        test, why = None, f"{why}; there is no test split"
    else:
        test, why = Rows(split="test"), f"{why}; the test split is scored once, at the end"
    return SplitPlan(train=train, val=val, test=test, why=why, units=units, grouped_by=by)


def _units(related: Related | None) -> tuple[Mapping[str, Units], str]:
    """Return which rows belong together, and by what; nothing where each row is alone."""
    if related is None or not any(map(beyond_single, related.units.values())):
        return {}, ""
    return related.units, related.by


def _copies(pictures: Units) -> str:
    """Say how many training rows are of a picture that others are of, too."""
    count = len(pictures) - count_units(pictures, len(pictures))
    if not count:
        return ""
    one = "1 training row is an exact copy" if count == 1 else (
        f"{count:,} training rows are exact copies"
    )  # fmt: skip
    return f"; {one} of others, and copies stay on one side"


def warn_of_shared(related: Related, labels: Mapping[str, Labels]) -> None:
    """Log how many rows of the dataset's own splits are in train, too: they cannot be moved.

    For whoever made the splits: a bench has the same ones for all its heads.
    """
    for split in ("val", "test"):
        if split not in labels or "train" not in labels:
            continue
        own, theirs = related.pictures[split], related.pictures["train"]
        copies = np.isin(own, theirs)
        if count := int(copies.sum()):
            _, first = np.unique(theirs, return_index=True)
            other = labels["train"][first[np.searchsorted(theirs[first], own[copies])]]
            contrary = int(task_of(other).differ(other, labels[split][copies]).sum())
            log.warning(
                "%s of %s %s images %s also in train, the same picture%s: figures on %s are too "
                "good by as much; `probe audit` lists them",
                f"{count:,}", f"{len(own):,}", split, "is" if count == 1 else "are",
                f" ({contrary:,} with another label)" if contrary else "", split,
            )  # fmt: skip
        grouped = np.isin(related.units[split], related.units["train"]) & ~copies
        if count := int(grouped.sum()):
            log.warning(
                "%s of %s %s images are of groups (%s) that are in train, too: the dataset's own "
                "splits divide them, so figures on %s are those of known groups",
                f"{count:,}", f"{len(own):,}", split, related.by, split,
            )  # fmt: skip
