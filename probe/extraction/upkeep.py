"""Explain, sync and repair cache entries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from probe.cache.compare import Near, nearest, recipe_differences, row_differences
from probe.cache.features import FeatureSet
from probe.cache.file import engine_of
from probe.cache.filling import (
    as_bytes,
    differing,
    locate,
    row_sources,
    rows_made_by,
    splits_of,
)
from probe.cache.needed import needed_entries
from probe.cache.pack import pack
from probe.cache.store import Entry, Store
from probe.cache.unfinished import proven_rows
from probe.core.text import counted
from probe.errors import CacheError, CorruptEntryError
from probe.extraction.extract import Observer, extract_features
from probe.extraction.job import Cut
from probe.extraction.request import Prepared


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What `probe extract` would do for one layer and pooling.

    Parameters
    ----------
    found : str or None
        Name of the entry that has exactly these features.
    differing : tuple of str
        Which of its labels, ids, class names and columns are others: it would be written anew,
        without forwarding.
    copied, forwarded : int
        Rows that other entries of the recipe hold, and rows that none holds.
    near : list of Near
        The nearest other entries, where none is found.
    """

    cut: Cut
    found: str | None
    differing: tuple[str, ...]
    copied: int
    forwarded: int
    near: list[Near]


def explain(prepared: Prepared, store: Store) -> list[Explanation]:
    """Explain for each layer of a request why an entry would or would not be reused."""
    job, made = prepared.job, []
    content = np.concatenate([table.content for table in job.tables.values()])
    for cut in job.cuts:
        entry = store.find(cut.key, job.dataset.name)
        if entry is not None:
            other = differing(entry, job.tables, job.dataset.classes)
            made.append(
                Explanation(
                    cut=cut, found=entry.name, differing=tuple(other), copied=job.count,
                    forwarded=0, near=[],
                )
            )  # fmt: skip
            continue
        rows = rows_made_by(row_sources(store, cut.key), engine_of(job.provenance))
        where = locate(rows, content)
        known = int((where[:, 0] >= 0).sum())
        near = nearest(store, cut.key, job.tables, weights=prepared.weights.name)
        made.append(
            Explanation(
                cut=cut, found=None, differing=(), copied=known, forwarded=job.count - known,
                near=near,
            )
        )  # fmt: skip
    return made


@dataclass(frozen=True, kw_only=True)
class SyncPlan:
    """The differences between an entry and its dataset today.

    Parameters
    ----------
    kept, new, gone : int
        Images: still there, never seen, no longer there.
    changes : tuple of str
        In words; empty where the entry is in step.
    """

    kept: int
    new: int
    gone: int
    changes: tuple[str, ...]


def plan_sync(entry: FeatureSet, prepared: Prepared, *, repair: bool = False) -> SyncPlan:
    """Compare an entry with its dataset; nothing is changed.

    Parameters
    ----------
    repair : bool, default=False
        Read all rows, and count damaged ones as a change.

    Raises
    ------
    CacheError
        The recipe is another one than the entry's, most often since the weight file changed.
    """
    job = prepared.job
    key = job.cuts[0].key
    _check_recipe(entry, prepared)
    content = np.concatenate([table.content for table in job.tables.values()])
    where = locate(rows_made_by(splits_of([entry]), engine_of(job.provenance)), content)
    kept = int((where[:, 0] >= 0).sum())
    here = set(as_bytes(content))
    gone = sum(
        one not in here for split in entry.splits.values() for one in as_bytes(split.content)
    )
    changes = list(row_differences(entry, key, job.tables))
    if not changes and (others := differing(entry, job.tables, job.dataset.classes)):
        changes.append(" and ".join(others))
    if entry.provenance.get("request") != job.provenance["request"]:
        changes.append("where the images or the weights lie")
    if engine_of(entry.provenance) != engine_of(job.provenance):
        changes.append(
            f"the engine: its rows are {engine_of(entry.provenance)}'s, those of this command "
            f"{engine_of(job.provenance)}'s"
        )
    if repair and (damage := entry.damage()):
        rows = sum(bad.stop - bad.start for bad in damage)
        changes.append(f"{counted(rows, 'row')} in damaged blocks")
    if repair and entry.opened.folds_damaged:
        changes.append("the folds of the rows")
    return SyncPlan(kept=kept, new=job.count - kept, gone=gone, changes=tuple(changes))


def plan_mend(entry: Entry, prepared: Prepared, error: CorruptEntryError) -> SyncPlan:
    """Find the sound rows of an entry that cannot be opened; nothing is changed.

    Parameters
    ----------
    error : CorruptEntryError
        What opening it raised.

    Raises
    ------
    CacheError
        As `plan_sync`.
    """
    _check_recipe(entry, prepared)
    content = np.concatenate([table.content for table in prepared.job.tables.values()])
    proven = rows_made_by(proven_rows(entry.path), engine_of(prepared.job.provenance))
    kept = int((locate(proven, content)[:, 0] >= 0).sum())
    return SyncPlan(
        kept=kept, new=prepared.job.count - kept, gone=0, changes=(f"damage: {error.what}",)
    )


def _check_recipe(entry: FeatureSet | Entry, prepared: Prepared) -> None:
    named = str(entry.provenance.get("weights", "")), prepared.weights.name
    if differences := recipe_differences(entry.key, prepared.job.cuts[0].key, weights=named):
        raise CacheError(
            f"{entry.path}: {differences[0]}, so no row can be kept; `probe extract` makes another "
            "entry, or name the weights it was made with (--weights)"
        )


def sync(
    entry: FeatureSet | Entry,
    prepared: Prepared,
    plan: SyncPlan,
    store: Store,
    observer: Observer,
) -> FeatureSet:
    """Update an entry to its dataset: forward new images, copy the other rows.

    The old entry goes after the new one is in place, unless a kept run or bench was made from it;
    processes that read it are not disturbed.

    Parameters
    ----------
    entry : FeatureSet or Entry
        An Entry where it is too damaged to be opened.
    plan : SyncPlan
        By `plan_sync` or `plan_mend`.

    Raises
    ------
    ProbeError
        As `extract_features`. The old entry is still there then.
    """
    if not plan.changes and isinstance(entry, FeatureSet):
        return entry
    same_images = entry.key == prepared.job.cuts[0].key
    (made,) = extract_features(
        prepared.job,
        store,
        prepared.engine_for,
        observer,
        workers=prepared.request.workers,
        reuse="rows" if same_images else "entry",
    )
    if entry.packed and not made.packed:
        made = pack(made, store).entry
    if made.path == entry.path:
        return made
    if same_images:  # the folder has another name now; the entry keeps its own
        made.path.replace(entry.path)
        return FeatureSet.open(entry.path)
    if not needed_entries(store.folder.parent).get(entry.name):
        store.discard(entry.path)
    return made
