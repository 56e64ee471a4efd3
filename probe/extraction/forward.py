"""Batches of images through the network, the next one decoded while one is in it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.cache.filling import starts_of
from probe.datasets.decode import within_memory
from probe.datasets.loader import load_batches
from probe.datasets.notes import warn_of_unusual
from probe.engines import Engine
from probe.extraction.job import Job
from probe.preprocess.spec import UInt8Image
from probe.preprocess.views import image_views


def forward_rows(
    job: Job, engine: Engine, batches: list[NDArray[np.intp]], *, workers: int
) -> Iterator[tuple[NDArray[np.intp], list[NDArray[np.float32]]]]:
    """Forward batches of the dataset's rows, the next one decoded while one is in the network.

    Parameters
    ----------
    batches : list of intp arrays
        Rows numbered through all splits, at most ``engine.batch_size // job.views`` each.

    Yields
    ------
    rows : intp, (n,)
    outputs : list of float32, (n, ...) or with views (n, views, ...)
        One a cut.
    """
    views = job.views
    # a row and a view as one number: the loader knows of images only
    images = [(batch[:, None] * views + np.arange(views)).reshape(-1) for batch in batches]
    loaded = load_batches(_loader(job), images, batch_size=engine.batch_size, workers=workers)
    ticket: tuple[NDArray[np.intp], Any] | None = None
    for rows, (_, batch) in zip(batches, loaded, strict=True):
        following = rows, engine.submit(batch)
        if ticket is not None:
            yield _collected(engine, *ticket, views)
        ticket = following
    if ticket is not None:
        yield _collected(engine, *ticket, views)
    warn_of_unusual(split.images for split in job.dataset.splits.values())


def _collected(
    engine: Engine, rows: NDArray[np.intp], ticket: Any, views: int
) -> tuple[NDArray[np.intp], list[NDArray[np.float32]]]:
    outputs = [output[: len(rows) * views] for output in engine.collect(ticket)]
    if views > 1:
        outputs = [output.reshape(len(rows), views, *output.shape[1:]) for output in outputs]
    return rows, outputs


def _loader(job: Job) -> Callable[[int], UInt8Image]:
    """Return what gives view v of row r, asked for as r * views + v."""
    starts, views = starts_of(job.tables), job.views
    names, firsts = list(starts), np.array(list(starts.values()))
    kept = threading.local()  # the views of the row that this thread decoded last

    def load(number: int) -> UInt8Image:
        row, view = divmod(number, views)
        if getattr(kept, "row", None) != row:
            split = int(np.searchsorted(firsts, row, side="right")) - 1
            here, place = job.dataset.splits[names[split]], row - int(firsts[split])
            with within_memory(here.ids[place]):
                image = here.images.image(place)
                kept.views = image_views(image, job.preprocess, job.cuts[0].key.views)
            kept.row = row
        one: UInt8Image = kept.views[view]
        return one

    return load
