"""The heads there are. A new one is an entry here and a file beside this one.

Classes are named, not imported: a listing, or a cache hit, pays for neither scikit-learn nor MXNet.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from probe.core.registry import Registry

if TYPE_CHECKING:
    from probe.heads.base import BaseHead


@dataclass(frozen=True, kw_only=True)
class HeadSpec:
    """One kind of head.

    Parameters
    ----------
    name : str
    estimator : str
        ``module:class``, a scikit-learn estimator with the interface of BaseHead.
    summary : str
        One line for a listing.
    epochs : bool
        Whether it is fitted epoch by epoch, and so has a training curve.
    """

    name: str
    estimator: str
    summary: str
    epochs: bool

    def load(self) -> type[BaseHead]:
        """Import and return the estimator's class."""
        module, _, name = self.estimator.partition(":")
        loaded: type[BaseHead] = getattr(importlib.import_module(module), name)
        return loaded


HEADS = Registry(
    "head",
    [
        HeadSpec(
            name="dense",
            estimator="probe.heads.dense:DenseHead",
            summary="a Gluon Dense layer and softmax cross-entropy, by mini-batches",
            epochs=True,
        ),
        HeadSpec(
            name="logistic",
            estimator="probe.heads.logistic:LogisticHead",
            summary="scikit-learn's LogisticRegression, to convergence",
            epochs=False,
        ),
        HeadSpec(
            name="path",
            estimator="probe.heads.path_head:PathHead",
            summary="the same model by our own solver: a whole grid of C in one go",
            epochs=False,
        ),
        HeadSpec(
            name="ridge",
            estimator="probe.heads.ridge:RidgeHead",
            summary="least squares on one-hot targets, in closed form",
            epochs=False,
        ),
        HeadSpec(
            name="prototype",
            estimator="probe.heads.prototype:PrototypeHead",
            summary="class means: linear discriminant analysis, or the nearest mean",
            epochs=False,
        ),
        HeadSpec(
            name="knn",
            estimator="probe.heads.knn:KNNHead",
            summary="the most similar training rows vote, by cosine",
            epochs=False,
        ),
    ],
)
