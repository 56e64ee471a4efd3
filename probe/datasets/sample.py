"""Choose a reproducible sample of a split's images.

Each image has a rank within its class: the order of a hash of the seed, the split, the class
and its id. `per_class` keeps the lowest ranks of each class. So a sample of five a class is part of
that of ten, another class changes nothing, and an added image displaces at most one other. No
random generator is used, whose stream could change between versions of NumPy.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.datasets.spec import Split
from probe.evaluation.task import task_of

log = logging.getLogger(__name__)


def sample(
    name: str,
    split: Split,
    classes: Sequence[str],
    *,
    per_class: int | None = None,
    limit: int | None = None,
    seed: int = 42,
) -> Split:
    """Return some images of a split, in the order they had.

    Parameters
    ----------
    name : str
        The split's name.
    per_class : int or None
        At most that many of each class; a class that has fewer keeps all.
    limit : int or None
        At most that many in all, after `per_class`: one of each class in the classes' order,
        then a second of each, and so on. So class counts differ by at most one, unless a class
        has fewer images, and a smaller limit takes a part of a larger one's sample. In a
        multi-label dataset classes are ignored.

    Raises
    ------
    UsageError
        `per_class` in a multi-label dataset.
    """
    if per_class is None and limit is None:
        return split
    task = task_of(split.labels)
    if per_class is not None:
        task.require_one_label(
            "--per-class counts images of one label each", "--limit takes a part of them"
        )
    strata, names = task.strata(split.labels, classes)
    ranks = _ranks(name, split.ids, strata, names, seed)
    keep = np.ones(len(split), bool)
    if per_class is not None:
        keep &= ranks < per_class
        _log_small(name, split, classes, per_class)
    if limit is not None:
        turn = np.lexsort((strata, ranks))  # all of rank 0 by class, then of rank 1, ...
        keep[turn[keep[turn]][limit:]] = False
    return split.take(np.flatnonzero(keep))


def _ranks(
    name: str, ids: Sequence[str], labels: NDArray[Any], classes: Sequence[str], seed: int
) -> NDArray[np.intp]:
    """Return each image's rank in the shuffled order of its class, (n_images,)."""
    prefixes = [f"{seed}\0{name}\0{each}\0" for each in classes]
    keys = [
        hashlib.blake2b((prefixes[label] + id_).encode(), digest_size=16).digest()
        for id_, label in zip(ids, labels.tolist(), strict=True)
    ]
    words = np.frombuffer(b"".join(keys), ">u8").reshape(-1, 2)
    order = np.lexsort((words[:, 1], words[:, 0], labels))
    counts = np.bincount(labels, minlength=len(classes))
    starts = np.cumsum(counts) - counts
    ranks = np.empty(len(ids), np.intp)
    ranks[order] = np.arange(len(ids)) - np.repeat(starts, counts)
    return ranks


def _log_small(name: str, split: Split, classes: Sequence[str], per_class: int) -> None:
    counts = np.bincount(split.labels, minlength=len(classes))
    small = [
        f"{each} ({n})"
        for each, n in zip(classes, counts.tolist(), strict=True)
        if 0 < n < per_class
    ]
    if small:
        log.warning("%s: fewer than %d images, all kept: %s", name, per_class, ", ".join(small))
