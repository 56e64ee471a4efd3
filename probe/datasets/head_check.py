"""What cannot be done with the features of a dataset, said before they are computed, and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from probe.datasets.spec import Dataset
from probe.errors import UsageError
from probe.evaluation.splitting import VAL_SIZE, Labels, validation_split
from probe.evaluation.units import beyond_single, relate

Content = NDArray[np.uint8]

_FEW = 10  # images a class, below which it may be that none can be held out


def why_no_head(dataset: Dataset, content: Mapping[str, Content] | None = None) -> str | None:
    """Say in one line why no head can be fitted to a dataset; None where one can.

    Parameters
    ----------
    content : mapping of split name to uint8, (n_images, 16), optional
        Hashes of the images: copies of one picture cannot be divided.
    """
    labels = {name: split.labels for name, split in dataset.splits.items()}
    return why_no_head_for(labels, dataset.classes, content)


def why_no_head_for(
    every: Mapping[str, Labels], classes: Sequence[str], content: Mapping[str, Content] | None
) -> str | None:
    """Say the same of labels, (n_images,) or (n_images, n_classes), split by split."""
    use = "features can be extracted, searched and exported, but no head fitted to them"
    if "train" not in every:
        return f"there are no training images, only {', '.join(every)}: {use}"
    labels = every["train"]
    if not len(labels):
        return f"there are no training images: {use}"
    if (labels == labels[:1]).all():
        what = (
            "have the same labels"
            if labels.ndim == 2
            else f"are of one class, {classes[labels[0]]!r}"
        )
        return f"all {len(labels):,} training images {what}: {use}"
    n_classes = labels.shape[1] if labels.ndim == 2 else len(np.unique(labels))
    units = None
    if content is not None:
        units = relate({"train": content["train"]}, ()).units["train"]
        units = units if beyond_single(units) else None
    if "val" in every or (units is None and len(labels) >= _FEW * n_classes):
        return None
    try:
        validation_split(labels, VAL_SIZE, 0, units)
    except UsageError as error:
        return f"{len(labels):,} training images are too few for `probe head` as it stands: {error}"
    return None
