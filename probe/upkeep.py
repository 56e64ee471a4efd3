"""Keeping entries true: explaining what a request would find, syncing, forwarding samples again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.cache.compare import Near, nearest, recipe_differences, row_differences
from probe.cache.features import FeatureSet
from probe.cache.filling import as_bytes, locate, relabelled, row_sources, splits_of
from probe.cache.pack import pack
from probe.cache.store import Store
from probe.errors import CacheError
from probe.extract import Cut, Job, Observer, extract_features, forward_rows
from probe.request import Prepared

TOLERANCE = {"float32": 1e-4, "float16": 1e-3}  # of a row's norm; engines agree to the first


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What `probe extract` would do about one (layer, pool).

    Parameters
    ----------
    found : str or None
        Name of the entry that has exactly these features.
    relabelled : bool
        It has other labels, ids or class names, and would be written anew without forwarding.
    copied, forwarded : int
        Rows that other entries of the recipe hold, and rows that none holds.
    near : list of Near
        The nearest other entries, where none is found.
    """

    cut: Cut
    found: str | None
    relabelled: bool
    copied: int
    forwarded: int
    near: list[Near]


def explain(prepared: Prepared, store: Store) -> list[Explanation]:
    """Say for each cut of a request why an entry would or would not be reused."""
    job, made = prepared.job, []
    content = np.concatenate([table.content for table in job.tables.values()])
    for cut in job.cuts:
        entry = store.find(cut.key, job.dataset.name)
        if entry is not None:
            other = relabelled(entry, job.tables, job.dataset.classes)
            made.append(
                Explanation(
                    cut=cut, found=entry.name, relabelled=other, copied=job.count, forwarded=0,
                    near=[],
                )
            )  # fmt: skip
            continue
        where = locate(row_sources(store, cut.key), content)
        known = int((where[:, 0] >= 0).sum())
        near = nearest(store, cut.key, job.tables, weights=prepared.weights.name)
        made.append(
            Explanation(
                cut=cut, found=None, relabelled=False, copied=known, forwarded=job.count - known,
                near=near,
            )
        )  # fmt: skip
    return made


@dataclass(frozen=True, kw_only=True)
class SyncPlan:
    """How an entry differs from its dataset as it is now.

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
    """Compare an entry with its dataset; touch nothing.

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
    named = str(entry.provenance.get("weights", "")), prepared.weights.name
    if differences := recipe_differences(entry.key, key, weights=named):
        raise CacheError(
            f"{entry.path}: {differences[0]}, so no row can be kept; `probe extract` makes another "
            "entry, or name the weights it was made with (--weights)"
        )
    content = np.concatenate([table.content for table in job.tables.values()])
    where = locate(splits_of([entry]), content)
    kept = int((where[:, 0] >= 0).sum())
    here = set(as_bytes(content))
    gone = sum(
        one not in here for split in entry.splits.values() for one in as_bytes(split.content)
    )
    changes = list(row_differences(entry, key, job.tables))
    if not changes and relabelled(entry, job.tables, job.dataset.classes):
        changes.append("labels, ids or class names")
    if entry.provenance.get("request") != job.provenance["request"]:
        changes.append("where the images or the weights lie")
    if repair and (damage := entry.damage()):
        rows = sum(bad.stop - bad.start for bad in damage)
        changes.append(f"{rows:,} rows in damaged blocks")
    return SyncPlan(kept=kept, new=job.count - kept, gone=gone, changes=tuple(changes))


def sync(
    entry: FeatureSet, prepared: Prepared, plan: SyncPlan, store: Store, observer: Observer
) -> FeatureSet:
    """Bring an entry in step with its dataset: forward new content, copy the rest.

    The old entry goes after the new one is in place; processes that read it are not disturbed.

    Raises
    ------
    ProbeError
        As `extract_features`. The old entry is still there then.
    """
    if not plan.changes:
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
    if entry.header.packed and not made.header.packed:
        made = pack(made, store).entry
    if made.path == entry.path:
        return made
    if same_images:  # the folder has another name now; the entry keeps its own
        made.path.replace(entry.path)
        return FeatureSet.open(entry.path)
    store.discard(entry.path)
    return made


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How far rows that were forwarded again are from those that are stored.

    Parameters
    ----------
    rows : int
        How many were compared.
    gone : int
        How many more were drawn whose images are no longer there.
    largest : float
        Largest absolute difference of a feature.
    relative : float
        Largest norm of a row's difference, as a part of the row's norm.
    worst : str
        Id of the image where that is.
    tolerance : float
        What `relative` may be.
    recipe : tuple of str
        What differs in how they were made, for example the parameters of the weight file.
    """

    rows: int
    gone: int
    largest: float
    relative: float
    worst: str
    tolerance: float
    recipe: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Whether the entry can still be had from its dataset and weights."""
        return self.relative <= self.tolerance and not self.recipe


def measure_drift(entry: FeatureSet, prepared: Prepared, *, count: int, seed: int) -> Drift:
    """Forward some random rows of an entry again and compare.

    Parameters
    ----------
    prepared : Prepared
        Of the request that made the entry, see `probe.request.repeat`.
    count : int
        How many rows, of all splits together.

    Raises
    ------
    CacheError
        None of the images drawn is there any more.
    """
    job, cut = prepared.job, prepared.job.cuts[0]
    drawn = _draw(entry, count, seed)
    content = np.concatenate([table.content for table in job.tables.values()])
    row_of = {one: row for row, one in enumerate(as_bytes(content))}
    hashes = [entry[split].content[row].tobytes() for split, row in drawn]
    pairs = [
        (place, row_of[one]) for place, one in zip(drawn, hashes, strict=True) if one in row_of
    ]
    if not pairs:
        raise CacheError(
            f"{entry.path}: none of {len(drawn)} images drawn is in {job.dataset.name} any more; "
            "`probe cache sync` brings the entry in step"
        )
    stored = np.stack([entry[split].rows([row])[0] for (split, row), _ in pairs])
    again = _forward(job, prepared, np.array([row for _, row in pairs], np.intp))
    difference = _flat(again.astype(entry.key.dtype)) - _flat(stored)
    norms = np.maximum(np.linalg.norm(_flat(stored), axis=1), np.finfo(np.float32).tiny)
    relative = np.linalg.norm(difference, axis=1) / norms
    split, row = pairs[int(relative.argmax())][0]
    named = str(entry.provenance.get("weights", "")), prepared.weights.name
    return Drift(
        rows=len(pairs),
        gone=len(drawn) - len(pairs),
        largest=float(np.abs(difference).max()),
        relative=float(relative.max()),
        worst=entry[split].ids[row],
        tolerance=TOLERANCE[entry.key.dtype],
        recipe=recipe_differences(entry.key, cut.key, weights=named),
    )


def _draw(entry: FeatureSet, count: int, seed: int) -> list[tuple[str, int]]:
    places = [(split, row) for split, one in entry.splits.items() for row in range(len(one))]
    chosen = np.random.default_rng(seed).permutation(len(places))[:count]
    return [places[number] for number in sorted(chosen.tolist())]


def _forward(job: Job, prepared: Prepared, rows: NDArray[np.intp]) -> NDArray[np.float32]:
    cut = job.cuts[0]
    engine = prepared.engine_for([(cut.layer, cut.pool)])
    size = engine.batch_size // job.views
    batches = [rows[i : i + size] for i in range(0, len(rows), size)]
    outputs = forward_rows(job, engine, batches, workers=prepared.request.workers)
    return np.concatenate([output for _, (output,) in outputs])


def _flat(rows: NDArray[Any]) -> NDArray[np.float64]:
    return rows.reshape(len(rows), -1).astype(np.float64)
