"""Use several entries together: splits of one dataset, or features side by side."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.cache.features import FeatureSet, FeatureSplit
from probe.cache.key import SPLIT_ORDER
from probe.cache.store import Entry, Store
from probe.core.indexing import rows_of_ids
from probe.core.short_repr import short_repr
from probe.core.text import counted
from probe.errors import DataError

log = logging.getLogger(__name__)

BESIDE = "+"  # never part of an entry's name
REDUCED = re.compile(r"-pca(\d+)$")  # an entry's name ends with its digest


@dataclass(frozen=True, kw_only=True)
class Joined:
    """The splits of an entry and of entries that were extracted separately.

    Attributes
    ----------
    entry : FeatureSet
        The chosen entry.
    splits : mapping of split name to FeatureSplit
    sources : mapping of split name to entry name
    """

    __repr__ = short_repr

    entry: FeatureSet
    splits: Mapping[str, FeatureSplit]
    sources: Mapping[str, str]


def join(store: Store, entry: Entry) -> Joined:
    """Open an entry, and add the splits that it lacks from entries of its recipe and dataset.

    Of several entries with a split the newest is used. The dataset's name, folder and class names
    must be the same; one of other classes is left out, which is logged.
    """
    opened = FeatureSet.open(entry.path)
    store.note_use(entry.path)
    splits, sources = dict(opened.splits), dict.fromkeys(opened.splits, opened.name)
    strange: dict[str, str] = {}  # splits on other classes, and their entries
    for other in store.entries():
        lacking = set(other.counts) - set(splits)
        if not lacking or other.key.recipe != entry.key.recipe or other.dataset != entry.dataset:
            continue
        if other.provenance.get("root") != entry.provenance.get("root"):
            continue
        candidate = FeatureSet.open(other.path)
        if candidate.classes == opened.classes:
            for name in lacking:
                splits[name], sources[name] = candidate[name], candidate.name
        else:
            strange.update(dict.fromkeys(lacking, candidate.name))
    if apart := {name: other for name, other in strange.items() if name not in splits}:
        log.warning(
            "%s has %s of %s, too, but other classes or in another order: they stay apart from "
            "%s; extract all splits of the dataset as it is now",
            " and ".join(sorted({*apart.values()})), " and ".join(sorted(apart)), entry.dataset,
            opened.name,
        )  # fmt: skip
    ordered = [name for name in SPLIT_ORDER if name in splits]
    return Joined(
        entry=opened,
        splits={n: splits[n] for n in ordered},
        sources={n: sources[n] for n in ordered},
    )


def features_name(entries: Sequence[str], pca: int | None = None) -> str:
    """Return the name of features that lie in several entries, or that a PCA reduced."""
    return BESIDE.join(entries) + (f"-pca{pca}" if pca else "")


def parse_features_name(name: str) -> tuple[tuple[str, ...], int | None]:
    """Return the entries and the width after a PCA; the inverse of `features_name`."""
    found = REDUCED.search(name)
    whole = name[: found.start()] if found else name
    return tuple(whole.split(BESIDE)), int(found[1]) if found else None


def matching_rows(split: Any, other: Any, *, name: str, split_name: str) -> NDArray[np.intp]:
    """Return the rows of another entry's split that have the same images, matched by id.

    Parameters
    ----------
    split, other : FeatureSplit, or an object with its ids and content
        `other` may be None.
    name, split_name : str
        Names of the other features and of the split, for messages.

    Raises
    ------
    DataError
        An image is missing, or has another content hash.
    """
    rows, lacking = rows_of_ids(split.ids, () if other is None else other.ids)
    if other is None or lacking:
        raise DataError(
            f"{name} has no features of {counted(len(lacking), 'image')} of {split_name}"
        )
    if not np.array_equal(other.content[rows], split.content):
        raise DataError(f"{name}: images of {split_name} have the same ids and other contents")
    return rows
