"""Describe the differences between the keys of two entries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from probe.cache.checksum import SplitTable
from probe.cache.features import FeatureSet
from probe.cache.filling import as_bytes
from probe.cache.key import FeatureKey
from probe.cache.store import Store
from probe.core.records import loads_json
from probe.core.text import counted

_WORDS = {
    "parameters": "weights",
    "dtype": "stored dtype",
    "compute": "precision of the forward pass",
    "format": "format version",
}


@dataclass(frozen=True, kw_only=True)
class Near:
    """An entry that is similar to a wanted one.

    Parameters
    ----------
    recipe, rows : tuple of str
        Differences of the recipe and of the images, one field a line.
    """

    name: str
    recipe: tuple[str, ...]
    rows: tuple[str, ...]


def recipe_differences(
    there: FeatureKey, here: FeatureKey, *, weights: tuple[str, str] = ("", "")
) -> tuple[str, ...]:
    """Return a line for each field of the recipe that differs.

    Parameters
    ----------
    there, here : FeatureKey
        The entry's and the wanted one.
    weights : tuple of str
        Names of the weights of each.
    """
    old, new = there.to_json(), here.to_json()
    lines = []
    for field, value in old.items():
        if field == "rows" or value == new[field]:
            continue
        if field == "preprocess":
            lines += _fields(loads_json(there.preprocess), loads_json(here.preprocess))
            continue
        pair = value, new[field]
        if field == "parameters":
            pair = _named(weights[0], value), _named(weights[1], new[field])
        lines.append(f"{_WORDS.get(field, field)} is {pair[0]} there and {pair[1]} here")
    return tuple(lines)


def row_differences(
    entry: FeatureSet, key: FeatureKey, tables: Mapping[str, SplitTable]
) -> tuple[str, ...]:
    """Return a line for each split whose images differ, with how many are the same."""
    more = [split for split in entry.splits if split not in dict(key.rows)]
    lines = [f"split {split} is there and not asked for here" for split in more]
    for split, digest in key.rows:
        if split not in entry:
            lines.append(f"split {split} is not there")
        elif dict(entry.key.rows)[split] != digest:
            there = Counter(as_bytes(entry[split].content))
            here = Counter(as_bytes(tables[split].content))
            same = (there & here).total()
            order = ", in another order" if same == there.total() == here.total() else ""
            lines.append(
                f"{split} has {counted(there.total(), 'image')} there and {here.total():,} here, "
                f"{same:,} of them the same{order}"
            )
    return tuple(lines)


def nearest(
    store: Store,
    key: FeatureKey,
    tables: Mapping[str, SplitTable],
    *,
    weights: str,
    most: int = 3,
) -> list[Near]:
    """Return the entries that differ from a key in the fewest fields, with the differences."""
    ranked = []
    for entry in store.entries():
        named = str(entry.provenance.get("weights", "")), weights
        recipe = recipe_differences(entry.key, key, weights=named)
        splits = len(set(entry.key.rows) ^ set(key.rows))
        ranked.append((len(recipe), splits, entry, recipe))
    ranked.sort(key=lambda one: one[:2])
    found = []
    for _, _, entry, recipe in ranked[:most]:
        rows = row_differences(FeatureSet.open(entry.path), key, tables)
        found.append(Near(name=entry.name, recipe=recipe, rows=rows))
    return found


def _fields(there: Mapping[str, object], here: Mapping[str, object]) -> list[str]:
    return [
        f"preprocessing: {name} is {there.get(name, 'unset')} there and "
        f"{here.get(name, 'unset')} here"
        for name in sorted({*there, *here})
        if there.get(name) != here.get(name)
    ]


def _named(name: str, digest: object) -> str:
    return f"{name or 'unnamed'} (parameters {str(digest)[:12]})"
