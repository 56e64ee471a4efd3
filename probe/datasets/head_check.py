"""Check whether a head can be fitted to a dataset, before and after its features are computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from probe.datasets.classes import has_labels
from probe.datasets.spec import Dataset
from probe.errors import UsageError
from probe.evaluation.splitting import VAL_SIZE, Labels, validation_split
from probe.evaluation.task import task_of
from probe.evaluation.units import beyond_single, relate

Content = NDArray[np.uint8]

NO_LABELS = "the images have no labels"
_FEW = 10  # images a class; with fewer it may be impossible to hold any out


def require_labels(classes: Sequence[str], name: str, what: str) -> None:
    """Refuse what needs labels, for images without, before any work.

    Parameters
    ----------
    name : str
        The dataset's or the entry's.
    what : str
        What needs them, as "a head".

    Raises
    ------
    UsageError
    """
    if not has_labels(classes):
        raise UsageError(
            f"{name}: {NO_LABELS}, and {what} needs them; `probe audit` finds duplicates among "
            "such images, `probe report ENTRY` maps them, `probe predict BUNDLE FOLDER` names them"
        )


def why_no_head(dataset: Dataset, content: Mapping[str, Content] | None = None) -> str | None:
    """Return in one line why no head can be fitted to a dataset, or None.

    Parameters
    ----------
    content : mapping of split name to uint8, (n_images, 16), optional
        Hashes of the images: copies of an image cannot be split into training and validation rows.
    """
    labels = {name: split.labels for name, split in dataset.splits.items()}
    return why_no_head_for(labels, dataset.classes, content)


def why_no_head_for(
    every: Mapping[str, Labels], classes: Sequence[str], content: Mapping[str, Content] | None
) -> str | None:
    """Return the same for each split's labels, (n_images,) or (n_images, n_classes)."""
    if not has_labels(classes):
        return (
            f"{NO_LABELS}, so no head can be fitted to them; an audit finds duplicates, a report "
            "shows them on a map"
        )
    return _why_none(every, classes, content)


def _why_none(
    every: Mapping[str, Labels], classes: Sequence[str], content: Mapping[str, Content] | None
) -> str | None:
    use = "features can be extracted, searched and exported, but no head fitted to them"
    if "train" not in every:
        return f"there are no training images, only {', '.join(every)}: {use}"
    labels, task = every["train"], task_of(every["train"])
    if not len(labels):
        return f"there are no training images: {use}"
    if (alike := task.alike(labels, classes)) is not None:
        return f"all {len(labels):,} training images {alike}: {use}"
    units = None
    if content is not None:
        units = relate({"train": content["train"]}, ()).units["train"]
        units = units if beyond_single(units) else None
    if "val" in every or (units is None and len(labels) >= _FEW * task.n_learnt(labels)):
        return None
    try:
        validation_split(labels, VAL_SIZE, 0, units)
    except UsageError as error:
        return f"{len(labels):,} training images are too few for `probe head` as it stands: {error}"
    return None
