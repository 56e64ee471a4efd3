"""The images that a page shows: the points of the map, and those that lists and galleries name."""

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
        The split is the dataset's own: rows that a head held out are ``train``.
    parts : list of str
        What a row was to the best run: ``train``, ``val`` or ``test``.
    n_points : int
        So many of the first are points of the map.
    """

    keys: list[tuple[str, str]] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    n_points: int = 0
    numbers: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, split: str, name: str, part: str | None = None) -> int:
        """Return the number of an image, a new one where it was not there."""
        number = self.numbers.setdefault((split, name), len(self.keys))
        if number == len(self.keys):
            self.keys.append((split, name))
            self.parts.append(part or split)
        return number

    def __len__(self) -> int:
        return len(self.keys)


def origin(split: str, splits: Iterable[str]) -> str:
    """Return the dataset's own split that held-out rows of a run come from."""
    if split == "oof" or (split == "val" and "val" not in splits):
        return "train"
    return split


def choose_points(
    joined: Joined, views: Mapping[str, AnyView], most: int, wanted: Sequence[str] = ()
) -> Items:
    """Draw the points of the map: an equal share of each part of the dataset, at random.

    Parameters
    ----------
    joined : Joined
    views : mapping of split to SplitView or LabelView
        Of the best run; they tell which training rows it held out.
    most : int
        Points in all.
    wanted : sequence of {"train", "val", "test"}
        Parts to draw from; all where it is empty.
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
    """Divide `most` equally; what a part cannot fill goes to the others."""
    shares: dict[str, int] = {}
    left = most
    for done, name in enumerate(sorted(counts, key=lambda one: counts[one])):
        shares[name] = min(counts[name], left // (len(counts) - done))
        left -= shares[name]
    return shares


def rows_of(items: Items, joined: Joined) -> NDArray[np.intp]:
    """Return each item's row in its split of an entry, (n_items,); NO_ROW where it has none."""
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
    """Return each item's content hash, (n_items, 16); zeros where the entry does not have it."""
    found = np.zeros((len(items), 16), np.uint8)
    for number, (split, _) in enumerate(items.keys):
        if rows[number] != NO_ROW:
            found[number] = joined.splits[split].content[rows[number]]
    return found


def labels_of(items: Items, joined: Joined, rows: NDArray[np.intp]) -> NDArray[np.int64]:
    """Return each item's label, (n_items,), or its labels; -1 where the entry does not have it."""
    (width,) = {split.labels.shape[1:] for split in joined.splits.values()}
    found = np.full((len(items), *width), -1, np.int64)
    for number, (split, _) in enumerate(items.keys):
        if rows[number] != NO_ROW:
            found[number] = joined.splits[split].labels[rows[number]]
    return found


def said_of(
    items: Items, views: Mapping[str, AnyView], splits: Iterable[str]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return what a run predicted for each item, and how sure it was.

    Returns
    -------
    predicted : int64, (n_items,)
        -1 where the run was trained on the image, or kept no prediction of it.
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
    """Return which labels a run gave each item, where an image may have several.

    Returns
    -------
    given : bool, (n_items, n_classes)
    known : bool, (n_items,)
        False where the run was trained on the image, or kept no prediction of it.
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
