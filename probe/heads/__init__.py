"""Classifiers on features, by scikit-learn's estimator rules: plain `X, y`, no files.

    from probe.heads import DenseHead
    head = DenseHead(epochs=50, random_state=0).fit(X, y)
    head.predict_proba(X_new)

Importing this package loads neither NumPy, scikit-learn nor MXNet; naming an estimator loads the
first two.

catalog, spec            the heads there are, and what each can be given
base, checks, normalize  what all heads share: input, labels, normalisation of features
dense, path, logistic, ridge, knn, prototype   one head a file
network, softmax, schedule   training by mini-batches, for the dense head
polish, products         float64 descent and matrix products, for path, ridge and knn
grid                     choose among values of a parameter, such as C
fitted, io, ensemble     predict with a fitted head, keep it in a file, combine several
history, projection      the course of a training; a PCA in front of a head
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from probe.heads.catalog import HEADS
from probe.heads.spec import HeadSpec

if TYPE_CHECKING:
    from probe.heads.base import BaseHead, LinearHead
    from probe.heads.dense import DenseHead
    from probe.heads.ensemble import EnsembleHead
    from probe.heads.fitted import FittedHead, LayeredHead
    from probe.heads.history import Epoch
    from probe.heads.io import load_fitted, load_head, save_head
    from probe.heads.knn import KNNHead
    from probe.heads.logistic import LogisticHead
    from probe.heads.path import PathHead
    from probe.heads.prototype import PrototypeHead
    from probe.heads.ridge import RidgeHead

__all__ = [
    "HEADS",
    "BaseHead",
    "DenseHead",
    "EnsembleHead",
    "Epoch",
    "FittedHead",
    "HeadSpec",
    "KNNHead",
    "LayeredHead",
    "LinearHead",
    "LogisticHead",
    "PathHead",
    "PrototypeHead",
    "RidgeHead",
    "load_fitted",
    "load_head",
    "save_head",
]

_LAZY = {
    "BaseHead": "probe.heads.base",
    "DenseHead": "probe.heads.dense",
    "EnsembleHead": "probe.heads.ensemble",
    "Epoch": "probe.heads.history",
    "FittedHead": "probe.heads.fitted",
    "KNNHead": "probe.heads.knn",
    "LayeredHead": "probe.heads.fitted",
    "LinearHead": "probe.heads.base",
    "LogisticHead": "probe.heads.logistic",
    "PathHead": "probe.heads.path",
    "PrototypeHead": "probe.heads.prototype",
    "RidgeHead": "probe.heads.ridge",
    "load_fitted": "probe.heads.io",
    "load_head": "probe.heads.io",
    "save_head": "probe.heads.io",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)
