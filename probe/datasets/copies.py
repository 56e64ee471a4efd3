"""Images that a dataset holds more than once, byte for byte or pixel for pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.datasets.spec import SPLITS
from probe.evaluation.task import task_of
from probe.evaluation.units import Units


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Images with the same content.

    Parameters
    ----------
    ids, splits, labels : tuple of str
        Of each image; its labels joined as ``cat, dog`` if it is multi-label.
    """

    ids: tuple[str, ...]
    splits: tuple[str, ...]
    labels: tuple[str, ...]

    @property
    def contradicting(self) -> bool:
        """Whether the images differ in their labels."""
        return len(set(self.labels)) > 1


def find_copies(
    pictures: Mapping[str, Units],
    ids: Mapping[str, Sequence[str]],
    labels: Mapping[str, NDArray[np.integer[Any]]],
    classes: Sequence[str],
) -> list[Copies]:
    """Return images that occur more than once, those with contradicting labels first.

    Parameters
    ----------
    pictures : mapping of split name to int, (n_images,)
        The number of each image's content, over all splits together.
    ids, labels : mappings of split name to the images' ids and labels
    """
    names = list(pictures)
    numbers = np.concatenate([pictures[name] for name in names])
    split = np.repeat(np.arange(len(names)), [len(pictures[name]) for name in names])
    row = np.concatenate([np.arange(len(pictures[name])) for name in names])
    order = np.argsort(numbers, kind="stable")
    order = order[np.bincount(numbers)[numbers[order]] > 1] if len(order) else order
    found = []
    for same in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1) if len(order) else ():
        places = [(names[split[one]], int(row[one])) for one in same]
        found.append(
            Copies(
                ids=tuple(ids[name][at] for name, at in places),
                splits=tuple(name for name, _ in places),
                labels=tuple(
                    task_of(labels[name]).text(labels[name][at], classes) for name, at in places
                ),
            )
        )
    return sorted(found, key=lambda one: (not one.contradicting, -len(set(one.splits))))


def copies_in_words(found: Sequence[Copies]) -> str:
    """Say how many images are exact copies, and how many pictures have several labels."""
    within = sum(one.splits.count(split) - 1 for one in found for split in set(one.splits))
    contrary = sum(one.contradicting for one in found)
    copies = _some(within, "image is an exact copy", "images are exact copies")
    parts = [f"{copies} of others in their split"] * bool(within)
    for at, split in enumerate(SPLITS):
        for before in SPLITS[:at]:
            if across := sum(
                one.splits.count(split) for one in found if {split, before} <= set(one.splits)
            ):
                shared = _some(across, f"{split} image is", f"{split} images are")
                parts.append(f"{shared} in {before}, too")
    parts += [f"{_some(contrary, 'picture has', 'pictures have')} more than one label"] * bool(
        contrary
    )
    count = len(found)
    parts += [f"{_some(count, 'picture is', 'pictures are')} there more than once"] * (not parts)
    return "; ".join(parts)


def _some(count: int, one: str, several: str) -> str:
    return f"{count:,} {one if count == 1 else several}"
