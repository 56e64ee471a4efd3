"""A head that is not in the catalog: all that a new one takes is such a file and an entry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probe.heads.base import BaseHead, OnEpoch, RowsLike, Validation
from probe.heads.normalize import Normalization
from probe.heads.spec import NORMALIZE, Option


class ToyHead(BaseHead):
    """The nearest class mean, by a share `toyness` of the squared distance."""

    name = "toy"
    summary = "a toy"
    takes_several = False
    options = (
        NORMALIZE,
        Option(
            name="toyness", kind=float, help="How much of a toy it is", default="1",
            grid=(0.25, 1.0), restraint=-1,
        ),
    )  # fmt: skip

    def __init__(self, *, toyness: float = 1.0, normalize: Normalization = "standard") -> None:
        self.toyness = toyness
        self.normalize = normalize

    def fit(
        self,
        X: RowsLike,
        y: ArrayLike,
        *,
        validation: Validation | None = None,
        on_epoch: OnEpoch | None = None,
    ) -> Self:
        rows, labels, _ = self._prepare(X, y, validation)
        normalized = self.normalizer_.transform(rows)[:]
        self.means_ = np.stack([normalized[labels == c].mean(axis=0) for c in np.unique(labels)])
        return self

    def _logits(self, X: RowsLike) -> NDArray[np.float64]:
        rows = self.normalizer_.apply(self._checked(X))
        apart = rows[:, None, :] - self.means_[None].astype(np.float64)
        return -self.toyness * (apart**2).mean(axis=2)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"means": self.means_}

    def set_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.means_ = arrays["means"]
