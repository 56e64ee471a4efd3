"""The images that the page shows: points of the map, and images of lists and galleries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from probe.cache.joining import Joined
from probe.report.analysis import AnyView, SplitView
from probe.report.label_views import LabelView

NO_ROW = -1
SEED = 0


@dataclass(kw_only=True, eq=False)
class Items:
    """Images by (split, id), numbered in the order in which they were added.

    Attributes
    ----------
    keys : list of (split, id)
        The split is that of the dataset, so validation rows drawn from training rows are ``train``.
    parts : list of str
        How the best run used the row: ``train``, ``val`` or ``test``.
    n_points : int
        The number of points of the map, which are the first images.
    """

    keys: list[tuple[str, str]] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    n_points: int = 0
    numbers: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, split: str, name: str, part: str | None = None) -> int:
        """Return the number of an image, which is added if it is new."""
        number = self.numbers.setdefault((split, name), len(self.keys))
        if number == len(self.keys):
            self.keys.append((split, name))
            self.parts.append(part or split)
        return number

    def __len__(self) -> int:
        return len(self.keys)


def origin(split: str, splits: Iterable[str]) -> str:
    """Return the dataset's split from which held-out rows of a run come."""
    if split == "oof" or (split == "val" and "val" not in splits):
        return "train"
    return split


def choose_points(
    joined: Joined, views: Mapping[str, AnyView], most: int, wanted: Sequence[str] = ()
) -> Items:
    """Draw the points of the map at random, equally many of each part of the dataset.

    Parameters
    ----------
    views : mapping of split to SplitView or LabelView
        Of the best run; they show which training rows it held out.
    most : int
        The largest number of points.
    wanted : sequence of {"train", "val", "test"}
        Parts to draw from; empty for all.
    """
    parts = {
        name: rows
        for name, rows in _parts(joined, views).items()
        if len(rows[1]) and (not wanted or name in wanted)
    }
    shares = equal_shares({name: len(rows) for name, (_, rows) in parts.items()}, most)
    items, random = Items(), np.random.default_rng(SEED)
    for part, (split, rows) in parts.items():
        drawn = np.sort(random.permutation(rows)[: shares[part]])
        for name in joined.splits[split].table.ids[drawn].tolist():
            items.add(split, name.decode(), part)
    items.n_points = len(items)
    return items


def _parts(joined: Joined, views: Mapping[str, AnyView]) -> dict[str, tuple[str, NDArray[np.intp]]]:
    parts = {name: (name, np.arange(len(split))) for name, split in joined.splits.items()}
    if "val" in views and "val" not in parts and "train" in parts:
        ids = joined.splits["train"].table.ids
        held_out = np.isin(ids, np.char.encode(views["val"].ids, "utf-8"))
        parts["val"] = ("train", np.flatnonzero(held_out))
        parts["train"] = ("train", np.flatnonzero(~held_out))
    return {name: parts[name] for name in ("train", "val", "test") if name in parts}


def equal_shares(counts: Mapping[str, int], most: int) -> dict[str, int]:
    """Divide `most` equally; a part with fewer rows leaves the rest to the others."""
    shares: dict[str, int] = {}
    left = most
    for done, name in enumerate(sorted(counts, key=lambda one: counts[one])):
        shares[name] = min(counts[name], left // (len(counts) - done))
        left -= shares[name]
    return shares


def rows_of(items: Items, joined: Joined) -> NDArray[np.intp]:
    """Return each item's row in its split of an entry, (n_items,); NO_ROW if it has none."""
    found = np.full(len(items), NO_ROW, np.intp)
    for split, there in joined.splits.items():
        numbers = [number for number, (one, _) in enumerate(items.keys) if one == split]
        if not numbers:
            continue
        ids = there.table.ids
        names = np.array([items.keys[number][1].encode() for number in numbers], np.bytes_)
        rows = np.flatnonzero(np.isin(ids, names))
        row_of = dict(zip(ids[rows].tolist(), rows.tolist(), strict=True))
        for number, name in zip(numbers, names.tolist(), strict=True):
            found[number] = row_of.get(name, NO_ROW)
    return found


def content_of(items: Items, joined: Joined, rows: NDArray[np.intp]) -> NDArray[np.uint8]:
    """Return each item's content hash, (n_items, 16); zeros if it is not in the entry."""
    found = np.zeros((len(items), 16), np.uint8)
    for number, (split, _) in enumerate(items.keys):
        if rows[number] != NO_ROW:
            found[number] = joined.splits[split].content[rows[number]]
    return found


def labels_of(items: Items, joined: Joined, rows: NDArray[np.intp]) -> NDArray[np.int64]:
    """Return each item's label, (n_items,), or labels; -1 if it is not in the entry."""
    (width,) = {split.labels.shape[1:] for split in joined.splits.values()}
    found = np.full((len(items), *width), -1, np.int64)
    for number, (split, _) in enumerate(items.keys):
        if rows[number] != NO_ROW:
            found[number] = joined.splits[split].labels[rows[number]]
    return found


def said_of(
    items: Items, views: Mapping[str, AnyView], splits: Iterable[str]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return a run's prediction for each item, and its confidence.

    Returns
    -------
    predicted : int64, (n_items,)
        -1 if the run was trained on the image or has no prediction of it.
    confidence : float32, (n_items,)
    """
    predicted = np.full(len(items), -1, np.int64)
    confidence = np.zeros(len(items), np.float32)
    for view, rows, numbers in _where(items, views, splits):
        if isinstance(view, SplitView):
            predicted[numbers] = view.predicted[rows]
            confidence[numbers] = view.confidence[rows]
    return predicted, confidence


def given_to(
    items: Items, views: Mapping[str, AnyView], splits: Iterable[str], n_classes: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the labels that a multi-label run predicted for each item.

    Returns
    -------
    given : bool, (n_items, n_classes)
    known : bool, (n_items,)
        False if the run was trained on the image or has no prediction of it.
    """
    given = np.zeros((len(items), n_classes), np.bool_)
    known = np.zeros(len(items), np.bool_)
    for view, rows, numbers in _where(items, views, splits):
        if isinstance(view, LabelView):
            given[numbers], known[numbers] = view.given[rows], True
    return given, known


def _where(
    items: Items, views: Mapping[str, AnyView], splits: Iterable[str]
) -> Iterator[tuple[AnyView, list[int], list[int]]]:
    """Yield each view with those of its rows that are items, and the items' numbers."""
    there = tuple(splits)
    for split, view in views.items():
        own = origin(split, there)
        found = [items.numbers.get((own, name)) for name in view.ids.tolist()]
        rows = [row for row, number in enumerate(found) if number is not None]
        yield view, rows, [number for number in found if number is not None]
