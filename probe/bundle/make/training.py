"""What a bundle keeps of its training rows."""

from __future__ import annotations

import io
import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones.cut import feature_shapes
from probe.bundle import Neighbours
from probe.bundle.make.source import Source
from probe.bundle.neighbours import rows_to_remember, unit
from probe.bundle.reject import LEAST_HELD_OUT
from probe.cache.features import FeatureSet, FeatureSplit
from probe.cache.joining import Joined, matching_rows
from probe.cache.store import Store
from probe.core.machine import usable_cores
from probe.datasets import Split
from probe.datasets.images.notes import warn_of_unusual
from probe.datasets.images.prefetch import load_batches
from probe.engines import make_engine
from probe.errors import BundleError, DataError, ProbeError
from probe.evaluation.predictions import Predictions
from probe.evaluation.task import task_of
from probe.evaluation.units import ALONE, Groups, Units, dealt, relate
from probe.extraction.request import Request, images_of_entry, repeat
from probe.heads.projection import Projection
from probe.preprocess.resize import resize_image

log = logging.getLogger(__name__)

THUMBNAIL = 96  # pixels of the longer side
MOST_HELD_OUT = 20_000  # rows of the cache that choose the distance threshold
MOST_FORWARDED = 2000  # the same if features are computed: at a rate of 5 % it rests on 100

OnRows = Callable[[int, int], None]  # (images done, images in all)


@dataclass(frozen=True, kw_only=True, eq=False)
class Training:
    """Training rows with features of the bundle's networks.

    Parameters
    ----------
    entry : FeatureSet
        The entry that lists the images.
    split : FeatureSplit
        Labels, ids and content of the rows.
    width : int
        Number of features.
    read : callable
        From row numbers to features of the plain view, float32, (n, width).
    most_held_out : int
        Most rows to read for choosing a threshold.
    """

    entry: FeatureSet
    split: FeatureSplit
    width: int
    read: Callable[[NDArray[np.intp]], NDArray[np.float32]]
    most_held_out: int = MOST_HELD_OUT

    @property
    def labels(self) -> NDArray[Any]:
        """Label of each row, (n_rows,)."""
        return self.split.labels

    @property
    def ids(self) -> Sequence[str]:
        """Id of each row."""
        return self.split.ids


def joined_training(every: Sequence[Training], projection: Projection | None) -> Training:
    """Return rows with the features of several networks concatenated, and after the PCA if any.

    Raises
    ------
    DataError
        A network lacks features of an image that the first has.
    """
    first, *others = every
    matched = [
        (one, matching_rows(first.split, one.split, name=one.entry.name, split_name="train"))
        for one in others
    ]

    def read(rows: NDArray[np.intp]) -> NDArray[np.float32]:
        blocks = [first.read(rows), *(one.read(place[rows]) for one, place in matched)]
        found = np.concatenate(blocks, axis=1)
        return found if projection is None else projection.apply(found)

    width = sum(one.width for one in every) if projection is None else projection.width
    return replace(first, width=width, read=read)


def cached_training(source: Source, joined: Joined, store: Store) -> Training | None:
    """Return the training rows of one of the bundle's networks from the cache; None without any.

    Those of a promoted run are there only if they were extracted with its weights.
    """
    entry, splits = joined.entry, joined.splits
    if source.key.recipe != entry.key.recipe and source.key.views == "none":
        others = [one for one in store.donors(source.key) if "train" in one]
        if not others or others[0].classes != entry.classes:
            return None
        entry, splits = others[0], others[0].splits
    if "train" not in splits:
        return None
    split = splits["train"]
    several = entry.key.views != "none"

    def read(rows: NDArray[np.intp]) -> NDArray[np.float32]:
        found = split.rows(rows)
        plain = found[:, 0] if several else found  # the plain view comes first
        return plain.reshape(len(rows), -1).astype(np.float32)

    width = read(np.zeros(1, np.intp)).shape[1]
    return Training(entry=entry, split=split, width=width, read=read)


def forwarded_training(
    source: Source, joined: Joined, cache_dir: Path, on_rows: OnRows, *, engine: str = "auto",
    device: str = "auto",
) -> Training | None:  # fmt: skip
    """Return training rows whose features are computed when they are read.

    None, with a warning that says what to run, if the images were moved or have changed.
    """
    if "train" not in joined.splits:
        return None
    request: Request | None = None
    try:
        request = repeat(joined.entry.key, joined.entry.provenance, cache_dir=cache_dir)
        known = joined.splits["train"]
        there = images_of_entry(request)
        if "train" not in there.splits:
            raise DataError("the dataset has no training images any more")
        images = there.splits["train"].same_images(known.ids, known.content, f"{there.name}: train")
    except ProbeError as error:
        log.warning(
            "no flag `out-of-distribution`: %s. %s, then make the bundle again",
            str(error).rstrip("."), _extract_advice(source, request),
        )  # fmt: skip
        return None

    def read(rows: NDArray[np.intp]) -> NDArray[np.float32]:
        split = images.take(rows)
        return _compute_features(source, split, on_rows, engine=engine, device=device)

    return Training(
        entry=joined.entry, split=known, width=_feature_width(source), read=read,
        most_held_out=MOST_FORWARDED,
    )  # fmt: skip


def _extract_advice(source: Source, request: Request | None) -> str:
    dataset = shlex.quote(request.dataset) if request is not None else "DATASET"
    weights = source.weights.path or source.weights.name
    return (
        f"Extract them with `probe extract --backbone {source.key.backbone} --layer "
        f"{source.key.layer} --pool {source.key.pool} --weights {shlex.quote(str(weights))} "
        f"--dataset {dataset}`"
    )


def _feature_width(source: Source) -> int:
    (shape,) = feature_shapes(source.backbone, [source.cut], source.preprocess)
    return int(np.prod(shape))


def _compute_features(
    source: Source, split: Split, on_rows: OnRows, *, engine: str, device: str
) -> NDArray[np.float32]:
    running = make_engine(
        source.backbone, source.loaded.parameters, [source.cut], source.preprocess,
        batch_size=None, engine=engine, device=device,
    )  # fmt: skip
    size = running.batch_size
    numbers = np.arange(len(split))
    batches = [numbers[start : start + size] for start in range(0, len(split), size)]

    def load(row: int) -> NDArray[np.uint8]:
        return resize_image(split.images.image(row), source.preprocess)

    found: list[NDArray[np.float32]] = []
    for rows, batch in load_batches(load, batches, workers=usable_cores()):
        features = running.collect(running.submit(batch))[0]
        found.append(features.reshape(len(rows), -1))
        on_rows(int(rows[-1]) + 1, len(split))
    warn_of_unusual([split.images])
    return np.concatenate(found)


def remembered(
    training: Training | None,
    predictions: Mapping[str, Predictions],
    remember: str,
    cache_dir: Path,
) -> tuple[Neighbours | None, NDArray[np.float32] | None]:
    """Return the training rows to keep, and features of held-out rows for the distance threshold.

    Held-out rows are the run's validation rows if it had any, else a tenth of the training rows,
    dealt by whole units.
    """
    if training is None:
        return None, None
    validation = predictions.get("val")
    known = set(validation.ids.tolist()) if validation is not None else set()
    own = np.array([one in known for one in training.ids], bool)
    train = np.flatnonzero(~own)
    if not own.any() and len(train) > 4 * LEAST_HELD_OUT:  # a tenth stands in for validation
        held_out = _tenth(len(train), _units(training, predictions.get("oof")))
        rest, train = train[held_out], train[~held_out]
    else:
        rest = np.flatnonzero(own)
    kept = train[rows_to_remember(training.labels[train], training.width)]
    if len(rest) > training.most_held_out:
        rest = np.sort(np.random.default_rng(0).choice(rest, training.most_held_out, replace=False))
    features = training.read(np.concatenate([kept, rest]))
    named = remember != "labels"
    pictures = remember == "pictures"
    neighbours = Neighbours(
        features=unit(features[: len(kept)]).astype(np.float16),
        labels=task_of(training.labels).stored(training.labels[kept]),
        ids=tuple(training.ids[row] for row in kept) if named else (),
        pictures=_thumbnails(training, kept, cache_dir) if pictures else (),
    )
    return neighbours, features[len(kept) :]


def _units(training: Training, oof: Predictions | None) -> Units:
    """Return the unit of each training row: by content, and by the groups of the run's folds."""
    groups = []
    if oof is not None and oof.units is not None:
        unit = dict(zip(oof.ids.tolist(), oof.units.tolist(), strict=True))
        of = np.array([unit.get(one, ALONE) for one in training.ids], np.intp)
        groups = [Groups(by="", of={"train": of})]
    return relate({"train": training.split.content}, groups).units["train"]


def _tenth(n_rows: int, units: Units) -> NDArray[np.bool_]:
    """Return a tenth of the rows, drawn by whole units, (n_rows,)."""
    own = dealt(units, n_rows)
    turn = np.empty(n_rows, np.intp)
    if own is None:
        turn[np.random.default_rng(0).permutation(n_rows)] = np.arange(n_rows)
        return turn < n_rows // 10
    turn = np.random.default_rng(0).permutation(int(own.max()) + 1)[own]
    before = np.concatenate([[0], np.cumsum(np.bincount(turn))])  # rows of earlier units
    return turn < np.searchsorted(before, n_rows // 10, side="right") - 1


def _thumbnails(training: Training, rows: NDArray[np.intp], cache_dir: Path) -> tuple[bytes, ...]:
    """Return small JPEGs of training images, read from the entry's dataset."""
    from PIL import Image

    entry = training.entry
    try:
        dataset = images_of_entry(repeat(entry.key, entry.provenance, cache_dir=cache_dir))
    except ProbeError as error:
        raise BundleError(f"--remember pictures needs the images: {error}") from error
    split = dataset.splits["train"]
    place: Mapping[str, int] = {one: row for row, one in enumerate(split.ids)}
    made = []
    for row in rows.tolist():
        image = Image.fromarray(split.images.image(place[training.ids[row]]))
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=85)
        made.append(stream.getvalue())
    return tuple(made)
