"""Training features that no cache has: those of a network that was fine-tuned."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.backbones.catalog import BACKBONES
from probe.bundle.make.source import Source
from probe.bundle.make.training import Training
from probe.cache.features import FeatureSplit
from probe.cache.joining import Joined
from probe.core.machine import usable_cores
from probe.datasets import Split
from probe.datasets.loader import load_batches
from probe.datasets.notes import warn_of_unusual
from probe.errors import DataError, ProbeError
from probe.extraction.extract import default_batch_size
from probe.extraction.request import Request, repeat, requested_dataset
from probe.preprocess.resize import resize_image

log = logging.getLogger(__name__)

MOST_HELD_OUT = 2000  # images whose distance chooses the threshold: one in 20 of them is 100

OnRows = Callable[[int, int], None]  # (images done, images in all)


def forwarded_training(
    source: Source, joined: Joined, cache_dir: Path, on_rows: OnRows
) -> Training | None:
    """Return training rows that are forwarded when they are asked for.

    None, with a warning that says what to run, where the images are not what or where they were.
    """
    if "train" not in joined.splits:
        return None
    request: Request | None = None
    try:
        request = repeat(joined.entry.key, joined.entry.provenance, cache_dir=cache_dir)
        known = joined.splits["train"]
        images = _same_images(requested_dataset(request).splits.get("train"), known)
    except ProbeError as error:
        log.warning(
            "no flag `stranger`: %s. %s, then make the bundle again",
            str(error).rstrip("."), _advice(source, request),
        )  # fmt: skip
        return None

    def read(rows: NDArray[np.intp]) -> NDArray[np.float32]:
        return _forward(source, images.take(rows), on_rows)

    return Training(
        entry=joined.entry, split=known, width=_width(source), read=read,
        most_held_out=MOST_HELD_OUT,
    )  # fmt: skip


def _same_images(split: Split | None, known: FeatureSplit) -> Split:
    """Return the dataset's training images in the entry's order, if they are still the same."""
    if split is None:
        raise DataError("the dataset has no training images any more")
    place = {one: row for row, one in enumerate(split.ids)}
    if any(one not in place for one in known.ids):
        raise DataError("training images are gone from the dataset")
    found = split.take(np.array([place[one] for one in known.ids], np.intp))
    if not np.array_equal(found.images.content(), known.content):
        raise DataError("training images are others than they were")
    return found


def _advice(source: Source, request: Request | None) -> str:
    dataset = shlex.quote(request.dataset) if request is not None else "DATASET"
    weights = source.weights.path or source.weights.name
    return (
        f"Extract them with `probe extract --backbone {source.key.backbone} --layer "
        f"{source.key.layer} --pool {source.key.pool} --weights {shlex.quote(str(weights))} "
        f"--dataset {dataset}`"
    )


def _width(source: Source) -> int:
    from probe.engines.mxnet.network import feature_shapes

    (shape,) = feature_shapes(BACKBONES[source.key.backbone], [source.cut], source.preprocess)
    return int(np.prod(shape))


def _forward(source: Source, split: Split, on_rows: OnRows) -> NDArray[np.float32]:
    from probe.engines.mxnet.gluon import GluonEngine

    spec, size = BACKBONES[source.key.backbone], default_batch_size(source.preprocess.size)
    engine = GluonEngine(
        spec, source.loaded.parameters, [source.cut], source.preprocess, batch_size=size
    )
    numbers = np.arange(len(split))
    batches = [numbers[start : start + size] for start in range(0, len(split), size)]

    def load(row: int) -> NDArray[np.uint8]:
        return resize_image(split.images.image(row), source.preprocess)

    found: list[NDArray[np.float32]] = []
    for rows, batch in load_batches(load, batches, batch_size=size, workers=usable_cores()):
        features = engine.collect(engine.submit(batch))[0][: len(rows)]
        found.append(features.reshape(len(rows), -1))
        on_rows(int(rows[-1]) + 1, len(split))
    warn_of_unusual([split.images])
    return np.concatenate(found)
