"""Images through the network, in this process or on a scheduler's workers.

Rows are numbered through all splits of a dataset. A batch holds the same images wherever it is
computed, so that the rows have the same bits.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones.cut import Cuts
from probe.backbones.spec import BackboneSpec, Layer, Pool
from probe.core.machine import computing_threads
from probe.core.version import installed_versions
from probe.datasets.images.decode import WithinMemory
from probe.datasets.images.notes import Notes, collected
from probe.datasets.images.prefetch import load_batches
from probe.datasets.spec import Images, Split
from probe.engines import Engine, Parameters, batch_of, engine_version, make_engine
from probe.extraction.job import Job
from probe.preprocess.spec import PreprocessSpec, UInt8Image
from probe.preprocess.views import image_views, view_count
from probe.schedulers import Rate, Scheduler, Workers, spread

BLOCK_SECONDS = 2.0  # what a block of a scheduler should take, as far as was measured
MOST_BATCHES = 64  # of a block

Watch = Callable[[Mapping[str, Rate]], None]  # told the rate of each worker, images a second
Batch = tuple[NDArray[np.intp], list[NDArray[np.float32]]]  # rows, and an output a cut


@dataclass(frozen=True, kw_only=True)
class Network:
    """All that an engine is made of, so that another process can make the same one.

    The fields are the arguments of `probe.engines.make_engine`.
    """

    spec: BackboneSpec
    parameters: Parameters
    cuts: Cuts
    preprocess: PreprocessSpec
    batch_size: int | None
    views: int = 1
    engine: str = "auto"
    device: str = "auto"

    @property
    def batch(self) -> int:
        """How many views stand in a batch, if the device is what its name says."""
        kind, _, _ = self.device.partition(":")
        return batch_of(
            self.batch_size, self.preprocess.size, views=self.views,
            gpu=kind not in ("auto", "cpu"),
        )  # fmt: skip

    def open(self, *, ahead: bool = False) -> Engine:
        """Return the engine; `ahead` as of `make_engine`."""
        return make_engine(
            self.spec, self.parameters, self.cuts, self.preprocess, batch_size=self.batch_size,
            views=self.views, engine=self.engine, device=self.device, ahead=ahead,
        )  # fmt: skip


class Pictures:
    """The images of several splits as views of the network's size, each by one number.

    View v of row r is number ``r * views + v``.

    Parameters
    ----------
    splits : sequence of Split or _Some
    views : str
        See `probe.preprocess.views`.
    """

    def __init__(self, splits: Sequence[Split | _Some], preprocess: PreprocessSpec, views: str):
        self._splits, self._preprocess, self._views = splits, preprocess, views
        self._firsts = list(accumulate((len(one.ids) for one in splits[:-1]), initial=0))
        self.views = view_count(views)
        self._others = Notes()  # of images that workers read
        self._kept = threading.local()  # the views of the row that this thread decoded last

    @classmethod
    def of(cls, job: Job) -> Pictures:
        """Return all images of a job."""
        return cls(list(job.dataset.splits.values()), job.preprocess, job.cuts[0].key.views)

    def __reduce__(self) -> tuple[Any, ...]:
        return Pictures, (self._splits, self._preprocess, self._views)

    def load(self, number: int) -> UInt8Image:
        """Return one view, uint8, (S, S, 3)."""
        row, view = divmod(number, self.views)
        if getattr(self._kept, "row", None) != row:
            split = bisect_right(self._firsts, row) - 1
            here, place = self._splits[split], row - self._firsts[split]
            with WithinMemory(here.ids[place]):
                image = here.images.image(place)
                self._kept.views = image_views(image, self._preprocess, self._views)
            self._kept.row = row
        one: UInt8Image = self._kept.views[view]
        return one

    def take(self, rows: NDArray[np.intp]) -> Pictures:
        """Return the images of ascending rows, numbered from 0."""
        taken = []
        for first, split in zip(self._firsts, self._splits, strict=True):
            here = rows[(rows >= first) & (rows < first + len(split.ids))] - first
            if len(here):
                ids = [split.ids[row] for row in here.tolist()]
                taken.append(_Some(ids, split.images.take(here)))
        return Pictures(taken, self._preprocess, self._views)

    def notes(self) -> Notes:
        """Return what was noted of the images that were read since the last call."""
        notes = collected(split.images for split in self._splits)
        notes.absorb(self._others)
        return notes

    def add_notes(self, notes: Notes) -> None:
        """Add what workers noted."""
        self._others.absorb(notes)


@dataclass(frozen=True)
class _Some:
    """Some images of a split."""

    ids: Sequence[str]
    images: Images


def forward_rows(
    pictures: Pictures, engine: Engine, batches: Sequence[NDArray[np.intp]], *, workers: int
) -> Iterator[Batch]:
    """Forward batches of rows, the next ones decoded while others are in the network.

    Each device computes one batch while another waits for it.

    Parameters
    ----------
    batches : sequence of intp arrays
        At most ``engine.batch_size // pictures.views`` rows each.
    workers : int
        Threads that decode and resize, at least 1.

    Yields
    ------
    rows : intp, (n,)
    outputs : list of float32, (n, ...) or with views (n, views, ...)
        One a cut.
    """
    views = pictures.views
    # a row and a view as one number: the loader knows of images only
    images = ((batch[:, None] * views + np.arange(views)).reshape(-1) for batch in batches)
    loaded = load_batches(pictures.load, images, workers=workers)
    submitted: deque[tuple[NDArray[np.intp], Any]] = deque()
    for rows, (_, batch) in zip(batches, loaded, strict=True):
        submitted.append((rows, engine.submit(batch)))
        if len(submitted) == 2 * engine.devices:
            yield _collected(engine, *submitted.popleft(), views)
    while submitted:
        yield _collected(engine, *submitted.popleft(), views)


def _collected(engine: Engine, rows: NDArray[np.intp], ticket: Any, views: int) -> Batch:
    outputs = engine.collect(ticket)
    if views > 1:
        outputs = [output.reshape(len(rows), views, *output.shape[1:]) for output in outputs]
    return rows, outputs


Noted = tuple[dict[str, int], dict[str, str]]  # see `Notes`


@dataclass(frozen=True)
class ForwardTask:
    """The part of a pass that workers do; see `probe.schedulers.Task`.

    A block is the pictures of some batches, and how many each batch has; what comes back is one
    array a cut, and what was noted of the images.
    """

    network: Network

    def versions(self) -> dict[str, str]:
        """Return the versions of what decodes images and of what runs the network."""
        return installed_versions(("pillow",)) | engine_version(self.network.engine)

    def open(self) -> Callable[[tuple[Pictures, list[int]]], tuple[list[Any], Noted]]:
        """Return the function of a block."""
        # whatever device is found there, batches are as the others'
        engine = replace(self.network, batch_size=self.network.batch).open()
        threads = computing_threads()

        def forward(block: tuple[Pictures, list[int]]) -> tuple[list[Any], Noted]:
            pictures, sizes = block
            batches = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
            done = [made for _, made in forward_rows(pictures, engine, batches, workers=threads)]
            notes = pictures.notes()
            outputs = [np.concatenate(one) for one in zip(*done, strict=True)]
            return outputs, (notes.counts, notes.first)

        return forward


def forward_spread(
    pictures: Pictures,
    network: Network,
    batches: Sequence[NDArray[np.intp]],
    scheduler: Scheduler,
    *,
    watch: Watch,
) -> Iterator[Batch]:
    """Forward batches of rows on a scheduler's workers; they come back in any order.

    The first blocks are one batch each; later ones have as many as take about two seconds.

    Raises
    ------
    ProbeError
        See `probe.schedulers.spread`.
    """
    waiting, size = deque(batches), 1
    handed: dict[int, list[NDArray[np.intp]]] = {}

    def blocks() -> Iterator[tuple[Any, int]]:
        for number in count():
            if not waiting:
                return
            here = [waiting.popleft() for _ in range(min(size, len(waiting)))]
            handed[number] = here
            rows = np.concatenate(here)
            yield (pictures.take(rows), list(map(len, here))), len(rows)

    done = spread(scheduler, ForwardTask(network), blocks(), watch=watch)
    for number, (outputs, (counts, first)), seconds in done:
        here = handed.pop(number)
        left = len(waiting) // (2 * scheduler.workers)  # so that no worker is the last for long
        size = max(min(int(BLOCK_SECONDS * len(here) / seconds), MOST_BATCHES, left), 1)
        pictures.add_notes(Notes(counts, first))
        ends = np.cumsum(list(map(len, here)))[:-1]
        parts = zip(*(np.split(one, ends) for one in outputs), strict=True)
        yield from zip(here, map(list, parts), strict=True)


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A network that is ready to forward batches.

    Parameters
    ----------
    batch_size : int
        The most views that a batch may have.
    device : str
        For people: what it runs on.
    devices : int
        How many batches are computed at a time.
    forward : callable
        (pictures, batches) -> iterator of `Batch`.
    """

    batch_size: int
    device: str
    devices: int
    forward: Callable[[Pictures, Sequence[NDArray[np.intp]]], Iterator[Batch]]


@dataclass(frozen=True)
class Here:
    """This process forwards.

    Parameters
    ----------
    engine_for : callable
        (cuts) -> Engine.
    workers : int
        Threads that decode and resize.
    """

    engine_for: Callable[[list[tuple[Layer, Pool]]], Engine]
    workers: int

    def begin(self, cuts: list[tuple[Layer, Pool]], watch: Watch) -> Begun:
        """Start the engine; `watch` is for workers elsewhere."""
        del watch
        engine = self.engine_for(cuts)
        return Begun(
            batch_size=engine.batch_size, device=engine.device, devices=engine.devices,
            forward=lambda pictures, batches: forward_rows(
                pictures, engine, batches, workers=self.workers
            ),
        )  # fmt: skip


@dataclass(frozen=True)
class Elsewhere:
    """Workers of a scheduler decode and forward.

    Parameters
    ----------
    workers : Workers
    network_for : callable
        (cuts) -> Network.
    """

    workers: Workers
    network_for: Callable[[list[tuple[Layer, Pool]]], Network]

    def begin(self, cuts: list[tuple[Layer, Pool]], watch: Watch) -> Begun:
        """Read the weights and open the scheduler."""
        network, scheduler = self.network_for(cuts), self.workers.scheduler
        return Begun(
            batch_size=network.batch, device=scheduler.name, devices=scheduler.workers,
            forward=lambda pictures, batches: forward_spread(
                pictures, network, batches, scheduler, watch=watch
            ),
        )  # fmt: skip
