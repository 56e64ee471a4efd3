"""The frozen pass: every image through the backbone once, its features into the cache.

What is to be done was decided before, see `probe.extraction.job`. `extract_features` returns an
entry that is there (`find_entries`); else it writes one, copies the rows that other entries of the
same recipe hold, and forwards the rest. So a new split, a larger sample or other labels forward
only images that were never seen.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from probe.backbones.cut import feature_shapes
from probe.backbones.spec import Layer, Pool
from probe.cache.features import FeatureSet
from probe.cache.file import engine_of
from probe.cache.filling import Filling, differing
from probe.cache.locks import Holder
from probe.cache.needed import in_words, needed_entries
from probe.cache.pending import Draft, unfinished_files
from probe.cache.store import Store
from probe.cache.unfinished import progress
from probe.core.machine import give_back_memory
from probe.core.urls import is_url
from probe.datasets.forms.shards import is_there
from probe.datasets.named.catalog import DATASETS
from probe.engines import Engine
from probe.errors import DataError, EngineError
from probe.extraction.forward import Elsewhere, Here, Pictures
from probe.extraction.job import Cut, Job
from probe.schedulers import Rate

log = logging.getLogger(__name__)

Reuse = Literal["entry", "rows", "nothing"]


class Observer(Protocol):
    """Callbacks for the progress of a pass; none is called where all entries are there."""

    def copied(self, rows: int, left: int) -> None:
        """Rows came from other entries or an interrupted run; `left` are to be forwarded."""

    def estimated(self, rows: int, seconds: float, device: str) -> None:
        """The first batches were timed: this many rows remain and will take about this long."""

    def advanced(self, rows: int) -> None:
        """Rows were forwarded and written."""

    def spread(self, rates: Mapping[str, Rate]) -> None:
        """Workers are at work, ``host:pid``; called whenever one of them has returned images."""

    def waiting(self, holder: Holder | None, done: int, rows: int) -> None:
        """Another process is writing the same entry; told again every few seconds.

        `done` of `rows` images are in its finished blocks; both are 0 where nobody knows.
        """


def find_entries(job: Job, store: Store) -> list[FeatureSet | None]:
    """Return for each cut its complete entry, in step with the dataset's table, or None.

    One whose images are not any more where it says, while the job has them elsewhere, is None, too:
    written anew from its own rows, it says where they are now. Not where the job's engine is
    another, as where that of the entry is not installed: its rows would be forwarded again.
    """
    found = [_in_step(job, store.find(cut.key, job.dataset.name)) for cut in job.cuts]
    return [None if entry is None or _moved(entry, job) else entry for entry in found]


def _in_step(job: Job, entry: FeatureSet | None) -> FeatureSet | None:
    known = entry is not None and not differing(entry, job.tables, job.dataset.classes)
    return entry if known else None


def _moved(entry: FeatureSet, job: Job) -> bool:
    then, now = entry.provenance.get("request"), job.provenance.get("request")
    if not isinstance(then, dict) or not isinstance(now, dict):
        return False
    if engine_of(entry.provenance) != engine_of(job.provenance):
        return False
    return any(
        isinstance(place := then.get(name), str)
        and place != now.get(name)
        and not (place in DATASETS or is_url(place) or is_there(place))
        for name in ("dataset", "dataset_root")
    )


def extract_features(
    job: Job,
    store: Store,
    engine_for: Callable[[list[tuple[Layer, Pool]]], Engine],
    observer: Observer,
    *,
    workers: int,
    reuse: Reuse = "entry",
    elsewhere: Elsewhere | None = None,
) -> list[FeatureSet]:
    """Run a frozen backbone over a dataset, in dataset order, and return the entries.

    BatchNorm uses its stored statistics, so row i depends on image i alone and the batch size
    changes only memory and speed. A killed run is taken up where it stopped.

    Parameters
    ----------
    engine_for : callable
        (cuts) -> Engine; called only if there is a row to forward.
    workers : int
        Threads that decode and resize, at least 1.
    reuse : {"entry", "rows", "nothing"}, default="entry"
        ``entry`` returns what is complete as it is; ``rows`` writes the entry anew from rows that
        are at hand, with what the job says of labels and provenance; ``nothing`` forwards all.
    elsewhere : Elsewhere, optional
        Workers that decode and forward in place of this process, which writes what they return.

    Returns
    -------
    list of FeatureSet
        One a cut, in the job's order.

    Raises
    ------
    DataError
        A feature is NaN or infinite, or an image cannot be read (both name the image).
    CacheError
        The entry cannot be written.
    EngineError
        The network fails, or its rows have another width than before.

    References
    ----------
    Donahue et al., DeCAF, arXiv:1310.1531: late activations as generic features.
    """
    if reuse == "entry" and None not in (found := find_entries(job, store)):
        return cast("list[FeatureSet]", found)
    with ExitStack() as stack:
        for cut in sorted(job.cuts, key=lambda cut: cut.key.digest):  # one order: no deadlock
            stack.enter_context(store.lock(cut.key, on_wait=_waiter(job, cut, store, observer)))
        # again: a process that had the lock may have made them
        entries = find_entries(job, store) if reuse == "entry" else [None] * len(job.cuts)
        open_cuts = [cut for cut, entry in zip(job.cuts, entries, strict=True) if entry is None]
        if open_cuts:
            if reuse != "rows":  # of a sync, the command itself says so
                _warn_of_runs(job, open_cuts, store)
            rest = replace(job, cuts=tuple(open_cuts))
            place = elsewhere or Here(engine_for, workers)
            fillings = _start(rest, store, forget=reuse == "nothing")
            made = iter(_fill(rest, fillings, place, observer))
            return [next(made) if entry is None else entry for entry in entries]
        return [entry for entry in entries if entry is not None]


def _warn_of_runs(job: Job, cuts: Sequence[Cut], store: Store) -> None:
    """Warn about runs made from an entry that is about to be replaced."""
    there = [
        path
        for cut in cuts
        if (path := store.path_of(cut.key, job.dataset.name)).exists()
        and _in_step(job, store.find(cut.key, job.dataset.name)) is None
    ]
    needed = needed_entries(store.folder.parent) if there else {}
    for path in there:
        if needs := needed.get(path.stem):
            log.warning(
                "%s is written anew; %s: made from it as it was", path.stem, in_words(needs)
            )


def _waiter(
    job: Job, cut: Cut, store: Store, observer: Observer
) -> Callable[[Holder | None], None]:
    partial, _ = unfinished_files(store.path_of(cut.key, job.dataset.name))
    return lambda holder: observer.waiting(holder, *progress(partial))


def _start(job: Job, store: Store, *, forget: bool) -> list[Filling]:
    return [
        Filling(
            store,
            Draft(
                key=cut.key,
                dataset=job.dataset.name,
                tables=job.tables,
                row_shape=shape,
                classes=job.dataset.classes,
                provenance={**job.provenance, "layer": cut.layer.name, "pool": cut.pool},
            ),
            fresh=forget,
        )
        for cut, shape in zip(job.cuts, _row_shapes(job), strict=True)
    ]


def _fill(
    job: Job, fillings: list[Filling], place: Here | Elsewhere, observer: Observer
) -> list[FeatureSet]:
    try:
        for filling in fillings:
            filling.copy()
        started = time.perf_counter()
        forwarded = _forward(job, fillings, place, observer)
        seconds = time.perf_counter() - started if forwarded else 0.0
        give_back_memory()  # of the network, before the tables are read for their checksums
        return [
            filling.pending.publish(seconds=seconds, forwarded=forwarded) for filling in fillings
        ]
    finally:
        for filling in fillings:
            filling.pending.close()


def _row_shapes(job: Job) -> list[tuple[int, ...]]:
    views = () if job.views == 1 else (job.views,)
    cuts = [(cut.layer, cut.pool) for cut in job.cuts]
    return [(*views, *shape) for shape in feature_shapes(job.backbone, cuts, job.preprocess)]


def _forward(job: Job, fillings: list[Filling], place: Here | Elsewhere, observer: Observer) -> int:
    """Forward the missing rows and return how many were forwarded.

    The batches are those of a run that was never interrupted, so that a resumed one gives the
    same bits.
    """
    stream = np.flatnonzero(np.any([filling.unknown for filling in fillings], axis=0))
    missing = np.any([filling.missing for filling in fillings], axis=0)
    observer.copied(job.count - int(missing.sum()), int(missing.sum()))
    if not missing.any():
        return 0
    give_back_memory()  # of the listing and the hashing, before the network needs some
    pictures, shapes = Pictures.of(job), _row_shapes(job)
    cuts = [(cut.layer, cut.pool) for cut in job.cuts]

    begun = place.begin(cuts, observer.spread)
    per_batch = begun.batch_size // job.views
    batches = [stream[i : i + per_batch] for i in range(0, len(stream), per_batch)]
    batches = [batch for batch in batches if missing[batch].any()]
    pace = _Pace(observer, sum(map(len, batches)), device=begun.device, devices=begun.devices)

    def keep(rows: NDArray[np.intp], outputs: list[NDArray[np.float32]]) -> None:
        for cut, filling, shape, features in zip(job.cuts, fillings, shapes, outputs, strict=True):
            if features.shape != (len(rows), *shape):
                raise EngineError(
                    f"{cut.layer.name} of {len(rows)} images is {features.shape}, and was "
                    f"{shape} an image before; rows of one width are needed"
                )
            _check_finite(job, cut, rows, features)
            filling.write(rows, features)
        pace.done(len(rows))

    for rows, outputs in begun.forward(pictures, batches):
        keep(rows, outputs)
    pictures.notes().warn()
    return sum(map(len, batches))


def _check_finite(
    job: Job, cut: Cut, rows: NDArray[np.intp], features: NDArray[np.float32]
) -> None:
    with np.errstate(over="ignore"):
        stored = features.astype(cut.key.dtype, copy=False)
    if np.isfinite(stored).all():
        return
    bad = int(np.flatnonzero(~np.isfinite(stored.reshape(len(stored), -1)).all(axis=1))[0])
    one = [one for split in job.dataset.splits.values() for one in split.ids][int(rows[bad])]
    if np.isfinite(features[bad]).all():
        raise DataError(
            f"{one}: a feature of {cut.layer.name} is {np.abs(features[bad]).max():.6g}, "
            "beyond float16; store float32 (leave --dtype out)"
        )
    raise DataError(
        f"{one}: a feature of {cut.layer.name} is NaN or infinite; check the image and the weights "
        "(`probe weights check`)"
    )


class _Pace:
    """Tell the observer of progress; the estimate is from each device's second batch.

    The first also allocates.

    Parameters
    ----------
    rows : int
        To be forwarded.
    device : str
        For people: what they are forwarded on.
    devices : int
        How many batches are computed at a time.
    """

    def __init__(self, observer: Observer, rows: int, *, device: str, devices: int) -> None:
        self._observer, self._left = observer, rows
        self._device, self._devices = device, devices
        self._batches, self._timed, self._since = 0, 0, time.perf_counter()

    def done(self, rows: int) -> None:
        self._batches, self._left = self._batches + 1, self._left - rows
        self._timed += rows
        now = time.perf_counter()
        if self._batches == self._devices:
            self._timed, self._since = 0, now
        elif self._batches == 2 * self._devices:
            seconds = self._left * (now - self._since) / self._timed
            self._observer.estimated(self._left, seconds, self._device)
        self._observer.advanced(rows)
