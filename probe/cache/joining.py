"""Splits of one dataset that were extracted apart, as if they were one entry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from probe.cache.features import FeatureSet, FeatureSplit
from probe.cache.key import SPLIT_ORDER
from probe.cache.store import Entry, Store


@dataclass(frozen=True, kw_only=True)
class Joined:
    """The splits of an entry and of those that were extracted apart from it.

    Attributes
    ----------
    entry : FeatureSet
        The one that was asked for.
    splits : mapping of split name to FeatureSplit
    sources : mapping of split name to entry name
    """

    entry: FeatureSet
    splits: Mapping[str, FeatureSplit]
    sources: Mapping[str, str]


def join(store: Store, entry: Entry) -> Joined:
    """Open an entry, and take splits that it lacks from others of its recipe and dataset.

    The newest other entry that has a split gives it. Another dataset never does, whatever its
    recipe: name, folder and class names have to agree.
    """
    opened = FeatureSet.open(entry.path)
    store.note_use(entry.path)
    splits, sources = dict(opened.splits), dict.fromkeys(opened.splits, opened.name)
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
    ordered = [name for name in SPLIT_ORDER if name in splits]
    return Joined(
        entry=opened,
        splits={n: splits[n] for n in ordered},
        sources={n: sources[n] for n in ordered},
    )
