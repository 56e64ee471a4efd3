"""The frozen pass: every image through the backbone once, its features into the cache.

`decide` finds out what there is to do and touches nothing; `extract_features` does it. This is
the only loop that forwards images. Rows that some entry of the same recipe holds are copied, so
a new split, a larger sample or other labels forward only images that were never seen.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from probe.backbones.spec import BackboneSpec, Layer, Pool
from probe.cache.features import FeatureSet
from probe.cache.file import SplitTable, encode_strings
from probe.cache.key import FeatureKey, digest_rows, preprocess_identity
from probe.cache.store import Draft, PendingEntry, Store, locate, relabelled
from probe.datasets.spec import Dataset
from probe.engines import Engine
from probe.errors import CorruptEntryError, DataError
from probe.loader import load_batches
from probe.preprocess import PreprocessSpec, UInt8Image, resize_image

log = logging.getLogger(__name__)


class Observer(Protocol):
    """Told what happens during a pass; the command line draws it."""

    def copied(self, rows: int, left: int) -> None:
        """Rows came from other entries or an interrupted run; `left` are to be forwarded."""

    def estimated(self, rows: int, seconds: float, device: str) -> None:
        """The first batches were timed: this many rows remain and will take about this long."""

    def advanced(self, rows: int) -> None:
        """Rows were forwarded and written."""

    def waiting(self) -> None:
        """Another process is writing the same entry."""


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One (layer, pool) and the key of its entry."""

    layer: Layer
    pool: Pool
    key: FeatureKey


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that is decided before anything runs.

    Parameters
    ----------
    cuts : tuple of Cut
        One entry each, filled by one pass.
    provenance : mapping
        Where things came from; recorded, and no part of the key.
    """

    dataset: Dataset
    backbone: BackboneSpec
    preprocess: PreprocessSpec
    cuts: tuple[Cut, ...]
    provenance: Mapping[str, Any]

    @property
    def count(self) -> int:
        """Images in all splits."""
        return sum(map(len, self.dataset.splits.values()))


def decide(
    dataset: Dataset,
    backbone: BackboneSpec,
    preprocess: PreprocessSpec,
    cuts: Sequence[tuple[Layer, Pool, str]],
    *,
    dtype: str,
    provenance: Mapping[str, Any],
) -> Job:
    """Work out the keys of a pass.

    Parameters
    ----------
    cuts : sequence of (Layer, Pool, digest of the parameters that this cut uses)
    dtype : {"float32", "float16"}
        What is stored.

    Raises
    ------
    UsageError
        A layer cannot be computed at the preprocessing's size.
    DataError
        There is no image.
    """
    if not any(map(len, dataset.splits.values())):
        raise DataError(f"{dataset.name}: no images; nothing to extract")
    rows = tuple(
        (name, digest_rows(split.images.content())) for name, split in dataset.splits.items()
    )
    made = []
    for layer, pool, parameters in cuts:
        backbone.check_size(layer, preprocess.size)
        key = FeatureKey(
            backbone=backbone.name,
            layer=layer.name,
            pool=pool,
            parameters=parameters,
            preprocess=preprocess_identity(preprocess),
            rows=rows,
            dtype=dtype,
        )
        made.append(Cut(layer=layer, pool=pool, key=key))
    return Job(
        dataset=dataset,
        backbone=backbone,
        preprocess=preprocess,
        cuts=tuple(made),
        provenance=dict(provenance),
    )


def find_entries(job: Job, store: Store) -> list[FeatureSet | None]:
    """Return for each cut its complete entry with the dataset's labels and ids, or None."""
    tables = _tables(job.dataset)
    found = [store.find(cut.key, job.dataset.name) for cut in job.cuts]
    return [
        None if entry is None or relabelled(entry, tables, job.dataset.classes) else entry
        for entry in found
    ]


def extract_features(
    job: Job, store: Store, engine_for: Any, observer: Observer, *, workers: int
) -> list[FeatureSet]:
    """Run a frozen backbone over a dataset, in dataset order, and return the entries.

    BatchNorm uses its stored statistics, so row i depends on image i alone and the batch size
    changes only memory and speed. A killed run is taken up where it stopped.

    Parameters
    ----------
    job : Job
    engine_for : callable
        (cuts) -> Engine; called only if there is a row to forward.
    workers : int
        Threads that decode and resize, at least 1.

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

    References
    ----------
    Donahue et al., DeCAF, arXiv:1310.1531: late activations as generic features.
    """
    with ExitStack() as stack:
        for cut in sorted(job.cuts, key=lambda cut: cut.key.digest):  # one order: no deadlock
            stack.enter_context(store.lock(cut.key, on_wait=observer.waiting))
        entries = find_entries(job, store)  # again: the process we waited for may have made them
        open_cuts = [cut for cut, entry in zip(job.cuts, entries, strict=True) if entry is None]
        if open_cuts:
            made = iter(
                _fill(replace(job, cuts=tuple(open_cuts)), store, engine_for, observer, workers)
            )
            return [next(made) if entry is None else entry for entry in entries]
        return [entry for entry in entries if entry is not None]


def _fill(
    job: Job, store: Store, engine_for: Any, observer: Observer, workers: int
) -> list[FeatureSet]:
    shapes = _row_shapes(job)
    fillings = [
        _Filling(job, cut, shape, store) for cut, shape in zip(job.cuts, shapes, strict=True)
    ]
    try:
        for filling in fillings:
            filling.copy()
        started = time.perf_counter()
        forwarded = _forward(job, fillings, engine_for, observer, workers)
        seconds = time.perf_counter() - started if forwarded else 0.0
        return [
            filling.pending.publish(seconds=seconds, forwarded=forwarded) for filling in fillings
        ]
    finally:
        for filling in fillings:
            filling.pending.close()


def _row_shapes(job: Job) -> list[tuple[int, ...]]:
    if all(cut.layer.kind != "map" or cut.pool in ("avg", "max") for cut in job.cuts):
        return [(cut.layer.width,) for cut in job.cuts]
    from probe.backbones.network import feature_shapes

    return feature_shapes(job.backbone, [(cut.layer, cut.pool) for cut in job.cuts], job.preprocess)


def _forward(
    job: Job, fillings: list[_Filling], engine_for: Any, observer: Observer, workers: int
) -> int:
    """Forward what is missing and return how many rows that was.

    The batches are those of a run that was never interrupted, so that a resumed one gives the
    same bits.
    """
    stream = np.flatnonzero(np.any([filling.unknown for filling in fillings], axis=0))
    missing = np.any([filling.missing for filling in fillings], axis=0)
    observer.copied(job.count - int(missing.sum()), int(missing.sum()))
    if not missing.any():
        return 0
    engine: Engine = engine_for([(cut.layer, cut.pool) for cut in job.cuts])
    batches = [stream[i : i + engine.batch_size] for i in range(0, len(stream), engine.batch_size)]
    batches = [batch for batch in batches if missing[batch].any()]
    pace = _Pace(observer, engine, sum(map(len, batches)))
    images = load_batches(_loader(job), batches, batch_size=engine.batch_size, workers=workers)
    ticket: tuple[NDArray[np.intp], Any] | None = None
    for rows, batch in images:
        following = rows, engine.submit(batch)
        if ticket is not None:
            _keep(job, fillings, engine, *ticket)
            pace.done(len(ticket[0]))
        ticket = following
    if ticket is not None:
        _keep(job, fillings, engine, *ticket)
        pace.done(len(ticket[0]))
    return sum(map(len, batches))


def _keep(
    job: Job, fillings: list[_Filling], engine: Engine, rows: NDArray[np.intp], ticket: Any
) -> None:
    for filling, output in zip(fillings, engine.collect(ticket), strict=True):
        features = output[: len(rows)]
        _check_finite(job, filling.cut, rows, features)
        filling.write(rows, features)


def _check_finite(
    job: Job, cut: Cut, rows: NDArray[np.intp], features: NDArray[np.float32]
) -> None:
    with np.errstate(over="ignore"):
        stored = features.astype(cut.key.dtype, copy=False)
    if np.isfinite(stored).all():
        return
    bad = int(np.flatnonzero(~np.isfinite(stored.reshape(len(stored), -1)).all(axis=1))[0])
    one = _ids(job.dataset)[int(rows[bad])]
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
    """Times the second batch, since the first one also allocates, and tells the observer."""

    def __init__(self, observer: Observer, engine: Engine, rows: int) -> None:
        self._observer, self._device, self._left = observer, engine.device, rows
        self._batches, self._since = 0, time.perf_counter()

    def done(self, rows: int) -> None:
        self._batches, self._left = self._batches + 1, self._left - rows
        now = time.perf_counter()
        if self._batches == 2:
            self._observer.estimated(
                self._left, self._left * (now - self._since) / rows, self._device
            )
        if self._batches <= 2:
            self._since = now
        self._observer.advanced(rows)


class _Filling:
    """One entry on its way: which rows are still unknown, and where rows go.

    Rows are numbered through all splits of the dataset.

    Attributes
    ----------
    unknown : bool, (n,)
        No other entry holds the row's features.
    missing : bool, (n,)
        It still has to be forwarded: unknown, and in no finished block.
    """

    def __init__(self, job: Job, cut: Cut, row_shape: tuple[int, ...], store: Store) -> None:
        self.cut = cut
        self._starts = _starts(job.dataset)
        content = np.concatenate([split.images.content() for split in job.dataset.splits.values()])
        self._where, self._sources = locate(store.donors(cut.key), content)
        draft = Draft(
            key=cut.key,
            dataset=job.dataset.name,
            tables=_tables(job.dataset),
            row_shape=row_shape,
            classes=job.dataset.classes,
            provenance={**job.provenance, "layer": cut.layer.name, "pool": cut.pool},
        )
        self.pending = PendingEntry(store, draft)
        self._writer = self.pending.writer
        self.unknown = self._where[:, 0] < 0
        self.missing = self.unknown.copy()
        for split, block, rows in self._blocks():
            if self._writer.done[split][block]:
                self.missing[rows] = False

    def _blocks(self) -> list[tuple[str, int, slice]]:
        header = self._writer.header
        return [
            (split, block, slice(start + where.start, start + where.stop))
            for split, start in self._starts.items()
            for block in range(header.block_count(split))
            for where in [header.block_slice(split, block)]
        ]

    def copy(self) -> None:
        """Take known rows from the entries that hold them; finish blocks that need no more."""
        for split, block, rows in self._blocks():
            if self._writer.done[split][block]:
                continue
            where = self._where[rows]
            for number in np.unique(where[where[:, 0] >= 0, 0]):
                donor, source = self._sources[number]
                here = np.flatnonzero(where[:, 0] == number)
                try:
                    features = donor[source].rows(where[here, 1])
                except CorruptEntryError as error:
                    log.warning("not reused: %s", error)
                    self.missing[rows.start + here] = True
                    self.unknown[rows.start + here] = True
                    continue
                self._writer.write(split, rows.start - self._starts[split] + here, features)
            if not self.missing[rows].any():
                self._writer.finish_block(split, block)

    def write(self, rows: NDArray[np.intp], features: NDArray[np.float32]) -> None:
        """Store forwarded rows that were missing, and finish the blocks they complete."""
        wanted = self.missing[rows]
        rows, features = rows[wanted], features[wanted]
        for split, start in self._starts.items():
            count = self._writer.header.features[split].shape[0]
            here = (rows >= start) & (rows < start + count)
            if not here.any():
                continue
            local = rows[here] - start
            self._writer.write(split, local, features[here])
            self.missing[rows[here]] = False
            for block in np.unique(local // self._writer.header.block_rows):
                where = self._writer.header.block_slice(split, int(block))
                if not self.missing[start + where.start : start + where.stop].any():
                    self._writer.finish_block(split, int(block))


def _starts(dataset: Dataset) -> dict[str, int]:
    starts, total = {}, 0
    for name, split in dataset.splits.items():
        starts[name], total = total, total + len(split)
    return starts


def _ids(dataset: Dataset) -> list[str]:
    return [one for split in dataset.splits.values() for one in split.ids]


def _tables(dataset: Dataset) -> dict[str, SplitTable]:
    return {
        name: SplitTable(
            labels=np.asarray(split.labels, np.int32),
            ids=encode_strings(split.ids),
            content=split.images.content(),
        )
        for name, split in dataset.splits.items()
    }


def _loader(job: Job) -> Any:
    starts = _starts(job.dataset)
    names, firsts = list(starts), np.array(list(starts.values()))

    def load(row: int) -> UInt8Image:
        number = int(np.searchsorted(firsts, row, side="right")) - 1
        image = job.dataset.splits[names[number]].images.image(row - int(firsts[number]))
        return resize_image(image, job.preprocess)

    return load


def default_batch_size(size: int) -> int:
    """Return a batch size that keeps a batch at about 32 images of 224 x 224, from 8 to 256."""
    images = max(32 * 224 * 224 // (size * size), 1)
    return min(max(1 << (images.bit_length() - 1), 8), 256)
