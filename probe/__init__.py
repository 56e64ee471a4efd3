"""Run a frozen, pretrained CNN over an image dataset once; make everything after that cheap.

The names here load what they need on first use; importing `probe` loads neither MXNet nor
scikit-learn nor matplotlib.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from probe.core.version import __version__ as __version__

if TYPE_CHECKING:
    from probe.backbones.catalog import BACKBONES
    from probe.bench.record import load_bench
    from probe.bundle import Bundle
    from probe.cache.features import FeatureSet
    from probe.cache.key import FeatureKey
    from probe.cache.store import Store
    from probe.datasets import DATASETS, Dataset, load_dataset
    from probe.errors import ProbeError
    from probe.extraction.extract import extract_features
    from probe.extraction.request import Request, prepare
    from probe.extraction.transformer import FrozenBackbone
    from probe.heads import (
        DenseHead,
        KNNHead,
        LogisticHead,
        PathHead,
        PrototypeHead,
        RidgeHead,
    )
    from probe.preprocess.spec import PreprocessSpec
    from probe.weights import WEIGHTS

_HOME = {
    "BACKBONES": "probe.backbones.catalog",
    "Bundle": "probe.bundle",
    "DATASETS": "probe.datasets",
    "Dataset": "probe.datasets",
    "DenseHead": "probe.heads",
    "FeatureKey": "probe.cache.key",
    "FeatureSet": "probe.cache.features",
    "FrozenBackbone": "probe.extraction.transformer",
    "KNNHead": "probe.heads",
    "LogisticHead": "probe.heads",
    "PathHead": "probe.heads",
    "PreprocessSpec": "probe.preprocess.spec",
    "ProbeError": "probe.errors",
    "PrototypeHead": "probe.heads",
    "Request": "probe.extraction.request",
    "RidgeHead": "probe.heads",
    "Store": "probe.cache.store",
    "WEIGHTS": "probe.weights",
    "extract_features": "probe.extraction.extract",
    "load_bench": "probe.bench.record",
    "load_dataset": "probe.datasets",
    "prepare": "probe.extraction.request",
}

__all__ = [
    "BACKBONES",
    "DATASETS",
    "WEIGHTS",
    "Bundle",
    "Dataset",
    "DenseHead",
    "FeatureKey",
    "FeatureSet",
    "FrozenBackbone",
    "KNNHead",
    "LogisticHead",
    "PathHead",
    "PreprocessSpec",
    "ProbeError",
    "PrototypeHead",
    "Request",
    "RidgeHead",
    "Store",
    "extract_features",
    "load_bench",
    "load_dataset",
    "prepare",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'probe' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
