"""The training features that a bundle keeps, and the distance of an image to them.

It is the distance to the k-th nearest training row, with features scaled to length one.
Out-of-distribution images are further away than held-out images of the training distribution.

References
----------
Sun, Ming, Zhu, Li, "Out-of-distribution detection with deep nearest neighbors", ICML 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.nearest import nearest
from probe.core.short_repr import short_repr
from probe.errors import BundleError
from probe.evaluation.task import task_of

K = 10
MOST_ROWS, MOST_BYTES = 2000, 32 << 20  # kept at most, whichever is less


@dataclass(frozen=True, kw_only=True, eq=False)
class Neighbours:
    """Features, labels and maybe names and pictures of training rows.

    Parameters
    ----------
    features : float16, (n_rows, n_features)
        Each of length one.
    labels : int32, (n_rows,), or multi-label uint8, (n_rows, n_classes)
        Indices into the bundle's classes, or 1 for each label that a row has, else 0.
    ids : tuple of str
        Empty unless they are kept.
    pictures : tuple of bytes
        A small JPEG for each row; empty unless they are kept.
    """

    __repr__ = short_repr

    features: NDArray[np.float16]
    labels: NDArray[np.int32] | NDArray[np.uint8]
    ids: tuple[str, ...] = ()
    pictures: tuple[bytes, ...] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def _rows(self) -> NDArray[np.float32]:
        return self.features.astype(np.float32)

    def nearest(
        self, features: NDArray[Any], k: int
    ) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """Find the k nearest rows of each image.

        Parameters
        ----------
        features : float, (n, n_features)

        Returns
        -------
        distances : float64, (n, k), ascending, from 0 to 2
        rows : intp, (n, k)
        """
        k = min(k, len(self))
        cosines, rows = nearest(self._rows, unit(features), k)
        # |a - b|^2 = 2 - 2 a.b for vectors of length one; rounding may pass 1
        return np.sqrt(np.maximum(2 - 2 * cosines.astype(np.float64), 0)), rows

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return what `from_arrays` takes, for a file."""
        arrays: dict[str, NDArray[Any]] = {"features": self.features, "labels": self.labels}
        if self.ids:
            arrays |= _packed("ids", [one.encode() for one in self.ids])
        if self.pictures:
            arrays |= _packed("pictures", self.pictures)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]], n_classes: int, where: str) -> Neighbours:
        """Read what `to_arrays` gave.

        Raises
        ------
        BundleError
            Shapes, types or values are inconsistent.
        """
        try:
            features, labels = arrays["features"], arrays["labels"]
            task = task_of(labels)
            fits = features.ndim == 2 and len(features) > 0 and labels.dtype == task.dtype
            if not fits or features.dtype != np.float16:
                raise ValueError("features and labels do not go together")
            valid = task.valid(labels, len(features), n_classes)
            if not valid or not np.isfinite(features).all():
                raise ValueError("a feature is not finite, or a label is of no class")
            ids = tuple(one.decode() for one in _unpacked("ids", arrays))
            pictures = tuple(_unpacked("pictures", arrays))
            if any(many and len(many) != len(labels) for many in (ids, pictures)):
                raise ValueError("ids or pictures are not one a row")
        except (ValueError, KeyError) as error:
            raise BundleError(f"{where}: its neighbours cannot be read ({error})") from error
        return cls(features=features, labels=labels, ids=ids, pictures=pictures)


def unit(features: NDArray[Any]) -> NDArray[np.float32]:
    """Return rows scaled to length one, float32; a row of zeros stays."""
    rows = features.astype(np.float32)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = rows / np.where(norms == 0, 1, norms)
    return scaled


def rows_to_remember(labels: NDArray[Any], width: int) -> NDArray[np.intp]:
    """Choose rows at random, each class in proportion and at least one row of each.

    Multi-label rows are drawn with equal probability.
    """
    limit = max(min(MOST_ROWS, MOST_BYTES // (2 * width)), 10 * K)
    if len(labels) <= limit:
        return np.arange(len(labels))
    rng, chosen = np.random.default_rng(0), []
    strata, _ = task_of(labels).strata(labels, ())
    for stratum in np.unique(strata):
        own = np.flatnonzero(strata == stratum)
        count = max(round(limit * len(own) / len(labels)), 1)
        chosen.append(rng.choice(own, min(count, len(own)), replace=False))
    return np.sort(np.concatenate(chosen))


def _packed(name: str, values: Sequence[bytes]) -> dict[str, NDArray[Any]]:
    ends = np.cumsum([len(one) for one in values]).astype(np.int64)
    return {name: np.frombuffer(b"".join(values), np.uint8), f"{name}.ends": ends}


def _unpacked(name: str, arrays: dict[str, NDArray[Any]]) -> list[bytes]:
    if name not in arrays:
        return []
    data, ends = arrays[name].tobytes(), arrays[f"{name}.ends"].tolist()
    starts = [0, *ends[:-1]]
    if sorted(ends) != ends or (ends and (ends[0] < 0 or ends[-1] != len(data))):
        raise ValueError(f"{name} end where they should not")
    return [data[start:end] for start, end in zip(starts, ends, strict=True)]
