"""Collect the images of a page: items, their labels, maps and thumbnails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.cache.joining import Joined
from probe.core.columns import Column, names_of
from probe.core.short_repr import short_repr
from probe.core.text import counted
from probe.errors import ProbeError, UsageError
from probe.report.analysis import AnyView
from probe.report.feature_map import FeatureMap, Method, draw_map
from probe.report.items import (
    NO_ROW,
    Items,
    choose_points,
    content_of,
    labels_of,
    origin,
    rows_of,
)
from probe.report.material import Material
from probe.report.thumbnails import Sheets, find_images, make_sheets
from probe.runs.columns import columns_of, ids_of
from probe.runs.subgroups import columns_to_tell

log = logging.getLogger(__name__)

MOST_DETAILED = 12  # runs whose predictions are shown row by row
MOST_MAPS = 4
MOST_LISTED = 60  # label errors, and near-duplicates, with their pictures
SPLITS = ("train", "val", "test")

Views = Mapping[str, Mapping[str, AnyView]]  # by Row.id, then by split
Advance = Callable[[str, int, int], None]  # called with the step, further items done, and all


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the page.

    Parameters
    ----------
    method : {"pca", "tsne"}
        The method of the first map; the others are always PCA.
    max_points : int
        The most points of the map, at least 3.
    splits : tuple of {"train", "val", "test"}
        Parts of the dataset from which points are drawn; empty for all.
    """

    method: Method = "pca"
    max_points: int = 10_000
    splits: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_points < 3:
            raise UsageError(f"--max-points is {self.max_points}; give at least 3")
        unknown = [one for one in self.splits if one not in SPLITS]
        if unknown:
            raise UsageError(f"no split is called {unknown[0]!r}; there are {', '.join(SPLITS)}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Pictures:
    """The images of a page, and what is shown of each.

    Parameters
    ----------
    labels : int64, (n_items,), or for multi-label tasks 0 and 1, (n_items, n_classes)
        -1 where the label is unknown.
    worst : mapping of (Row.id, split) to list of int
        Wrong items with the highest confidence, in descending order; for multi-label tasks an item
        for each of `LabelView.worst`.
    maps : tuple of FeatureMap
        That of the best run comes first.
    notes : tuple of str
        What is missing, and why.
    columns : mapping of name to Column, (n_items,)
        What a table says of each, as far as it has few values; the last one is of unknown cells.
    """

    __repr__ = short_repr

    items: Items
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    worst: Mapping[tuple[str, str], list[int]]
    maps: tuple[FeatureMap, ...]
    sheets: Sheets | None
    notes: tuple[str, ...]
    columns: Mapping[str, Column] = field(default_factory=dict)


def make_pictures(
    material: Material, views: Views, options: Options, *, cache_dir: Path, advance: Advance
) -> Pictures:
    """Choose the images of a page, and draw maps and thumbnails of them.

    Parameters
    ----------
    advance : callable
        Called with (step, number of further items done, number of all) in the slow steps.
    """
    notes: list[str] = []
    base = base_entry(material)
    first = views.get(material.leader.id, {}) if material.leader else {}
    items = choose_points(base, first, options.max_points, options.splits) if base else Items()
    there = tuple(base.splits) if base else ()
    worst = _add_worst(items, views, there)
    if base:
        _add_audits(items, material)
        rows = rows_of(items, base)
        labels = labels_of(items, base, rows)
        maps = _draw_maps(material, base, items, options=options, notes=notes, advance=advance)
        sheets = _sheets(base, items, rows, cache_dir=cache_dir, notes=notes, advance=advance)
    else:
        notes.append(
            "None of the entries is in the cache any more, so there are no maps and no thumbnails."
        )
        shape = material.task.shape(len(items), len(class_names(material)))
        labels, maps, sheets = np.full(shape, -1, np.int64), (), None
    columns = _columns_of(items, base, rows) if base else {}
    for by_split in views.values():
        _fill_labels(labels, items, by_split, there)
    return Pictures(
        items=items,
        labels=labels,
        classes=class_names(material),
        worst=worst,
        maps=maps,
        sheets=sheets,
        notes=tuple(notes),
        columns=columns,
    )


def _columns_of(items: Items, base: Joined, rows: NDArray[np.intp]) -> dict[str, Column]:
    """Return the columns of each item that have few values."""
    told = columns_to_tell(columns_of(base), ids_of(base))
    found = {}
    for name in names_of(told.values()):
        values = next(iter(told.values()))[name].values
        codes = np.full(len(items), len(values) - 1, np.uint32)
        for number, (split, _) in enumerate(items.keys):
            if rows[number] != NO_ROW:
                codes[number] = told[split][name].codes[rows[number]]
        found[name] = Column(values, codes)
    return found


def base_entry(material: Material) -> Joined | None:
    """Return the entry of the best row whose entry is in the cache; images are read from it."""
    names = [name for row in material.rows for name in row.entries] or [*material.entries]
    return next((material.entries[name] for name in names if name in material.entries), None)


def class_names(material: Material) -> tuple[str, ...]:
    """Return the classes in the order of the labels.

    Without an entry they are those of the runs' recalls, which lack classes without rows.
    """
    base = base_entry(material)
    if base:
        return base.entry.classes
    recalls = [tuple(run.result.per_class.recall) for run in material.runs.values()]
    return max(recalls, key=len, default=())


def _add_worst(
    items: Items, views: Views, splits: Sequence[str]
) -> dict[tuple[str, str], list[int]]:
    found = {}
    for one, by_split in views.items():
        for split, view in by_split.items():
            own, part = origin(split, splits), "val" if split == "val" else None
            names = view.ids[view.worst].tolist()
            found[one, split] = [items.add(own, name, part) for name in names]
    return found


def _add_audits(items: Items, material: Material) -> None:
    for audit in material.audits:
        for error in audit.label_errors[:MOST_LISTED]:
            items.add(error.split, error.id)
        for pair in audit.near_duplicates[:MOST_LISTED]:
            items.add(pair.split_a, pair.a)
            items.add(pair.split_b, pair.b)
        for copies in audit.copies[:MOST_LISTED]:
            for split, name in zip(copies.splits[:2], copies.ids[:2], strict=True):
                items.add(split, name)


def _fill_labels(
    labels: NDArray[np.int64],
    items: Items,
    by_split: Mapping[str, AnyView],
    splits: Sequence[str],
) -> None:
    """Set the labels that are not in an entry from the runs' predictions."""
    if not (labels < 0).any():
        return
    for split, view in by_split.items():
        own = origin(split, splits)
        for row, name in enumerate(view.ids.tolist()):
            number = items.numbers.get((own, name))
            if number is not None and np.any(labels[number] < 0):
                labels[number] = view.labels[row]


def _draw_maps(
    material: Material,
    base: Joined,
    items: Items,
    *,
    options: Options,
    notes: list[str],
    advance: Advance,
) -> tuple[FeatureMap, ...]:
    names = dict.fromkeys(name for row in material.rows for name in row.entries)
    wanted = [material.entries[name] for name in names if name in material.entries][:MOST_MAPS]
    if base not in wanted:
        wanted.insert(0, base)
    plans: list[tuple[Joined, Method]] = [(joined, "pca") for joined in wanted]
    if options.method == "tsne":
        plans.insert(0, (base, "tsne"))
    total, splits, found = len(plans) * len(items), [split for split, _ in items.keys], []
    for joined, method in plans:
        try:
            rows = rows_of(items, joined)
            found.append(
                draw_map(joined, splits, rows, lambda n: advance("maps", n, total), method=method)
            )
        except ProbeError as error:
            notes.append(f"No map of {joined.entry.name}: {error}")
    return tuple(found)


def _sheets(
    base: Joined,
    items: Items,
    rows: NDArray[np.intp],
    *,
    cache_dir: Path,
    notes: list[str],
    advance: Advance,
) -> Sheets | None:
    try:
        dataset = find_images(base.entry.provenance, cache_dir)
        content = content_of(items, base, rows)
        sheets = make_sheets(
            dataset, items, content, lambda n: advance("thumbnails", n, len(items))
        )
    except ProbeError as error:
        notes.append(f"No thumbnails: {error}")
        return None
    if missing := int((~sheets.there).sum()):
        notes.append(
            f"{missing:,} of {counted(len(items), 'image')} "
            f"{'has' if missing == 1 else 'have'} no thumbnail: the file is missing, "
            "unreadable, or has changed since the extraction."
        )
    return sheets if sheets.there.any() else None
