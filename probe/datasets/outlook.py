"""What cannot be done with the features of a dataset, said before they are computed."""

from __future__ import annotations

import numpy as np

from probe.datasets.spec import Dataset
from probe.errors import UsageError
from probe.splitting import VAL_SIZE, validation_split

_FEW = 10  # images a class, below which it may be that none can be held out


def outlook(dataset: Dataset) -> str | None:
    """Say in one line why no head can be fitted to a dataset; None where one can."""
    use = "features can be extracted, searched and exported, but no head fitted to them"
    if "train" not in dataset.splits:
        return f"there are no training images, only {', '.join(dataset.splits)}: {use}"
    labels = dataset.splits["train"].labels
    if not len(labels):
        return f"there are no training images: {use}"
    if (labels == labels[:1]).all():
        what = (
            "have the same labels"
            if labels.ndim == 2
            else f"are of one class, {dataset.classes[labels[0]]!r}"
        )
        return f"all {len(labels):,} training images {what}: {use}"
    n_classes = labels.shape[1] if labels.ndim == 2 else len(np.unique(labels))
    if "val" in dataset.splits or len(labels) >= _FEW * n_classes:
        return None
    try:
        validation_split(labels, VAL_SIZE, 0)
    except UsageError as error:
        return f"{len(labels):,} training images are too few for `probe head` as it stands: {error}"
    return None
