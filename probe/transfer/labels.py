"""Labels in any of their usual forms, as class numbers and class names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.datasets import DATASETS
from probe.errors import DataError, UsageError
from probe.transfer.read import Part, text_of


def class_numbers(
    parts: Mapping[str, Part], classes: Sequence[str] | None, dataset: str
) -> tuple[dict[str, NDArray[np.int32]], tuple[str, ...]]:
    """Return class numbers, (n,) each, and class names, for numbers, names or one-hot rows."""
    flat = {name: _flat_labels(part) for name, part in parts.items()}
    if any(one.dtype.kind in "SU" for one in flat.values()):
        texts = {name: [text_of(value) for value in one.tolist()] for name, one in flat.items()}
        known = tuple(classes or sorted({value for one in texts.values() for value in one}))
        place = {name: number for number, name in enumerate(known)}
        strange = sorted({value for one in texts.values() for value in one} - set(place))
        if strange:
            raise UsageError(f"label {strange[0]!r} is not among the classes given")
        return {
            name: np.array([place[value] for value in one], np.int32) for name, one in texts.items()
        }, known
    count = 1 + max(int(one.max()) for one in flat.values())
    if min(int(one.min()) for one in flat.values()) < 0:
        raise DataError(f"{dataset}: a label is negative; number classes from 0")
    spec = dataset.removesuffix("_100")
    usual = DATASETS[spec].classes if spec in DATASETS else ()
    if not classes and len(usual) < count:
        usual = tuple(map(str, range(count)))
    known = tuple(classes or usual)
    if len(known) < count:
        raise UsageError(f"{len(known)} classes are given and labels go up to {count - 1}")
    return {name: one.astype(np.int32) for name, one in flat.items()}, known


def _flat_labels(part: Part) -> NDArray[Any]:
    labels = part.labels
    if labels.ndim == 2 and labels.shape[1] == 1:  # as CIFAR-10's pickles have them
        labels = labels[:, 0]
    if labels.ndim == 2 and ((labels == 0) | (labels == 1)).all() and (labels.sum(1) == 1).all():
        return np.asarray(labels.argmax(axis=1))
    whole = labels.dtype.kind in "iuSU" or (labels == np.round(labels)).all()
    if labels.ndim != 1 or not whole:
        raise DataError(
            f"{part.source}: labels are {labels.dtype} {labels.shape}; expected class numbers, "
            "names or one-hot rows"
        )
    return labels if labels.dtype.kind in "SU" else labels.astype(np.int64)
