"""Cached entries as candidates of a bench, such as those that `probe cache import` makes.

Beside backbones they are compared on the images of the dataset; alone, on the rows of the first.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from probe.backbones.catalog import BACKBONES
from probe.bench.candidates import SPEC
from probe.bench.sources import Source, SplitRows, of_entry
from probe.cache.joining import Joined, matching_rows
from probe.cache.store import Entry, Store
from probe.core.columns import Column
from probe.core.indexing import rows_of_ids
from probe.core.short_repr import short_repr
from probe.datasets import Dataset
from probe.errors import DataError
from probe.evaluation.task import task_of
from probe.evaluation.units import Related, relate
from probe.runs.columns import columns_of
from probe.runs.grouping import find_groups

log = logging.getLogger(__name__)

Labels: TypeAlias = "NDArray[np.int32] | NDArray[np.uint8]"
NAMED = 3  # classes that a message lists


@dataclass(frozen=True, kw_only=True)
class KnownRows:
    """What is known of one split's rows before there are features."""

    __repr__ = short_repr

    labels: Labels
    ids: Sequence[str]
    content: NDArray[np.uint8]
    columns: Mapping[str, Column]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The rows that all features of a bench are compared on.

    Parameters
    ----------
    name : str
        Of the dataset or the entry that says so, for messages.
    splits : mapping of split name to KnownRows
    """

    __repr__ = short_repr

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, KnownRows]


def named_entry(text: str, store: Store) -> Entry | None:
    """Return the entry that a candidate's text names, as `probe head` takes it.

    None where it names a backbone, whose names come first, or no entry.

    Raises
    ------
    UnknownNameError
        Several entries are called so.
    """
    found = SPEC.fullmatch(text.strip())
    if (
        (found is not None and found["backbone"] in BACKBONES)
        or "/" in text
        or not store.close(text.strip())
    ):
        return None
    return store.choose(text.strip())


def reference_of_images(dataset: Dataset) -> Reference:
    """Return the rows of a dataset of images, in its order."""
    return Reference(
        name=dataset.name,
        classes=dataset.classes,
        splits={
            name: KnownRows(
                labels=one.labels, ids=one.ids, content=one.images.content(),
                columns={column: Column.of(cells) for column, cells in one.columns.items()},
            )
            for name, one in dataset.splits.items()
        },
    )  # fmt: skip


def reference_of_entry(joined: Joined) -> Reference:
    """Return the rows of an entry."""
    columns = columns_of(joined)
    return Reference(
        name=joined.entry.name,
        classes=joined.entry.classes,
        splits={
            name: KnownRows(
                labels=one.labels, ids=one.ids, content=one.content, columns=columns[name]
            )
            for name, one in joined.splits.items()
        },
    )


def related_given(reference: Reference, wanted: Sequence[str]) -> Related:
    """Return which rows belong together; near-duplicates are not known yet."""
    ids = {name: one.ids for name, one in reference.splits.items()}
    columns = {name: one.columns for name, one in reference.splits.items()}
    groups = find_groups(wanted, ids, columns)
    return relate({name: one.content for name, one in reference.splits.items()}, groups)


def given_source(joined: Joined, reference: Reference) -> Source:
    """Return an entry's features in the order of the reference, each row's image told by its id.

    Raises
    ------
    DataError
        Classes, ids or labels are others, or the images of an extracted entry have changed. The
        message says how many and what to do.
    """
    entry = joined.entry
    imported = "imported" in entry.provenance
    source = replace(of_entry(entry.name, entry), kind="imported" if imported else "backbone",
                     beside=_beside(joined))  # fmt: skip
    _check_classes(joined, reference)
    splits: dict[str, Any] = {}
    same = True
    if imported and entry.name != reference.name and _are_numbers(joined):
        log.warning(
            "%s holds no ids: its row k is taken for row k of %s, where labels agree",
            entry.name, reference.name,
        )  # fmt: skip
    for name, known in reference.splits.items():
        split = joined.splits.get(name)
        found = _rows(joined, name, known, reference, imported=imported)
        rows: NDArray[np.intp] | None = found
        assert split is not None
        _check_labels(split.labels[found], known, name, reference)
        whole = len(split) == len(found) and np.array_equal(found, np.arange(len(found)))
        if whole and np.array_equal(split.content, known.content):
            if split.columns == known.columns:
                splits[name] = split
                continue
            rows = None
        same = False
        splits[name] = SplitRows(
            make=partial(_taken, split, rows), labels=cast("Any", known.labels), ids=known.ids,
            content=known.content, columns=known.columns,
        )  # fmt: skip
    if same and len(splits) == len(joined.splits):
        return replace(source, splits=joined.splits)
    return replace(source, splits=splits)


def _are_numbers(joined: Joined) -> bool:
    """Whether ids are the numbers that an import without ids gives."""
    return all(
        one == f"{name}/{row:05d}"
        for name, split in joined.splits.items()
        for row, one in enumerate(split.ids)
    )


def _beside(joined: Joined) -> tuple[Any, ...]:
    """Return what stands for the entries that other splits were taken from: name and rows."""
    name = joined.entry.name
    return tuple(
        (source, split) for split, source in joined.sources.items() if source != name
    )  # an entry's name ends with its digest


def _taken(split: Any, rows: NDArray[np.intp] | None) -> NDArray[Any]:
    """Return some rows, a copy, or all of them as they are."""
    found: NDArray[Any] = split.features if rows is None else split.features[rows]
    return found


def _check_classes(joined: Joined, reference: Reference) -> None:
    own = joined.entry.classes
    if own == reference.classes:
        return
    how = "import it again with --classes in that order"
    if set(own) != set(reference.classes) or "imported" not in joined.entry.provenance:
        how = "import it again with --classes, or with the names as labels"
    raise DataError(
        f"its {len(own):,} classes are {_first(own)} and those of {reference.name} are "
        f"{_first(reference.classes)} ({len(reference.classes):,}); {how}"
    )


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")


def _rows(
    joined: Joined, name: str, known: KnownRows, reference: Reference, *, imported: bool
) -> NDArray[np.intp]:
    """Return which rows of the entry are the reference's."""
    split = joined.splits.get(name)
    if not imported and split is not None:
        return matching_rows(known, split, name=joined.entry.name, split_name=name)
    rows, lacking = rows_of_ids(known.ids, () if split is None else split.ids)
    if split is None:
        raise DataError(
            f"it has no {name} rows, and {reference.name} has {len(known.ids):,}: import them "
            "together, with --split"
        )
    if lacking:
        raise DataError(
            f"it has no features of {len(lacking):,} of the {len(known.ids):,} {name} images, "
            f"first {lacking[0]!r} (its own ids begin with {split.ids[0]!r}): import it with "
            f"the ids of {reference.name}"
        )
    return rows


def _check_labels(labels: Labels, known: KnownRows, name: str, reference: Reference) -> None:
    task = task_of(labels)
    if task is not task_of(known.labels):
        raise DataError(f"it has {task.gives} an image, and {reference.name} does not")
    rows = np.flatnonzero(task.differ(labels, known.labels))
    if len(rows):
        row = int(rows[0])
        own, other = (task.text(one[row], reference.classes) for one in (labels, known.labels))
        said = f", {own!r} for {other!r}"
        raise DataError(
            f"it has other labels than {reference.name} for {len(rows):,} of the "
            f"{len(labels):,} {name} images, first {known.ids[row]!r}{said}: its rows are in "
            "another order, or its ids are wrong"
        )
