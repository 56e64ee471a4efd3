"""Rows of features, and which of them train a head, are watched, and are met once, at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.errors import UsageError
from probe.splitting import Labels, RowNumbers, validation_split
from probe.streaming import StreamedRows

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
    """

    X: NDArray[Any] | StreamedRows
    y: Labels
    ids: Sequence[str]
    views: int = 1

    def __len__(self) -> int:
        return len(self.y)

    def xy(self) -> tuple[Any, Labels]:
        """Return what a head is fitted on: all rows, each with its image's label."""
        return self.X, self.y if self.views == 1 else np.repeat(self.y, self.views, axis=0)

    def take(self, images: RowNumbers) -> Part:
        """Return those images; their rows are copied, unless they stay in their file."""
        if isinstance(self.X, StreamedRows):
            X: NDArray[Any] | StreamedRows = self.X.take(images)
        else:
            X = self.X.reshape(len(self), self.views, -1)[images].reshape(-1, self.X.shape[1])
        ids = [self.ids[image] for image in images]
        return Part(X=X, y=self.y[images], ids=ids, views=self.views)

    def joined(self, other: Part | None) -> Part:
        """Return these images and then the other's; a copy, unless there are no others."""
        if other is None or not len(other):
            return self
        if isinstance(self.X, StreamedRows) and isinstance(other.X, StreamedRows):
            X: NDArray[Any] | StreamedRows = self.X.joined(other.X)
        else:
            X = np.concatenate([self.X, other.X])
        y, ids = np.concatenate([self.y, other.y]), [*self.ids, *other.ids]
        return Part(X=X, y=y, ids=ids, views=self.views)

    def predict_proba(self, head: Any, n_classes: int) -> NDArray[np.float64]:
        """Return a head's probabilities, (n_images, n_classes), averaged over an image's views.

        A class that the head was not trained on gets 0.
        """
        found = np.zeros((len(self), n_classes))
        step = SCORED if isinstance(self.X, StreamedRows) else max(1, len(self))
        for start in range(0, len(self), step):
            images = np.arange(start, min(start + step, len(self)))
            X = self.X.take(images) if isinstance(self.X, StreamedRows) else self.X
            p = head.predict_proba(X).reshape(len(images), self.views, -1).mean(axis=1)
            found[start : start + step, head.classes_] = p
        return found


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


def plan_splits(labels: Mapping[str, Labels], *, val_size: float, seed: int) -> SplitPlan:
    """Decide which rows of which split a head is trained, watched and tested on.

    The dataset's own validation split is used where there is one; else `val_size` of the training
    rows are held out, stratified. Its test split, where there is one, is the test split.

    Parameters
    ----------
    labels : mapping of split name to int, (n_rows,) or (n_rows, n_classes)
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
        if 0 < val_size < 1 and len(val_rows) > round(val_size * n_rows):
            why += f": more than {val_size:g} of them, so that every class has one"
    if "test" not in labels:
        return SplitPlan(train=train, val=val, test=None, why=f"{why}; there is no test split")
    why += "; the test split is scored once, at the end"
    return SplitPlan(train=train, val=val, test=Rows(split="test"), why=why)
