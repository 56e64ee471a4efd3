"""Run a frozen, pretrained CNN over an image dataset once; make everything after that cheap.

The names here load what they need on first use; importing `probe` loads neither MXNet nor
scikit-learn nor matplotlib.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from probe.core.version import __version__ as __version__

if TYPE_CHECKING:
    from probe.api import (
        Audit,
        Backbone,
        Bench,
        ConfusionTable,
        Run,
        audit,
        bench,
        extract,
        extract_layers,
        fit,
        forecast,
        import_features,
        open_bench,
        open_bundle,
        open_features,
        open_run,
        promote,
        report,
    )
    from probe.api.bundles import Bundle, evaluate, explain, export
    from probe.api.datasets import (
        fetch_dataset,
        index_dataset,
        pack_lists,
        show_dataset,
        split_dataset,
    )
    from probe.backbones.catalog import BACKBONES
    from probe.bench.record import load_bench
    from probe.cache.features import FeatureSet
    from probe.cache.key import FeatureKey
    from probe.cache.store import Store
    from probe.core.reading import ReadOptions
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
    from probe.runs.listeners import Listener
    from probe.weights import WEIGHTS

_HOME = {
    "Audit": "probe.api",
    "Backbone": "probe.api",
    "ConfusionTable": "probe.api",
    "Run": "probe.api",
    "Bench": "probe.api",
    "extract": "probe.api",
    "extract_layers": "probe.api",
    "fit": "probe.api",
    "forecast": "probe.api",
    "import_features": "probe.api",
    "audit": "probe.api",
    "bench": "probe.api",
    "evaluate": "probe.api.bundles",
    "explain": "probe.api.bundles",
    "export": "probe.api.bundles",
    "promote": "probe.api",
    "report": "probe.api",
    "open_features": "probe.api",
    "open_run": "probe.api",
    "open_bench": "probe.api",
    "open_bundle": "probe.api",
    "BACKBONES": "probe.backbones.catalog",
    "Bundle": "probe.api.bundles",
    "DATASETS": "probe.datasets",
    "Dataset": "probe.datasets",
    "DenseHead": "probe.heads",
    "FeatureKey": "probe.cache.key",
    "FeatureSet": "probe.cache.features",
    "FrozenBackbone": "probe.extraction.transformer",
    "KNNHead": "probe.heads",
    "Listener": "probe.runs.listeners",
    "LogisticHead": "probe.heads",
    "PathHead": "probe.heads",
    "PreprocessSpec": "probe.preprocess.spec",
    "ProbeError": "probe.errors",
    "PrototypeHead": "probe.heads",
    "ReadOptions": "probe.core.reading",
    "Request": "probe.extraction.request",
    "RidgeHead": "probe.heads",
    "Store": "probe.cache.store",
    "WEIGHTS": "probe.weights",
    "extract_features": "probe.extraction.extract",
    "load_bench": "probe.bench.record",
    "load_dataset": "probe.datasets",
    "prepare": "probe.extraction.request",
    "fetch_dataset": "probe.api.datasets",
    "index_dataset": "probe.api.datasets",
    "pack_lists": "probe.api.datasets",
    "show_dataset": "probe.api.datasets",
    "split_dataset": "probe.api.datasets",
}

__all__ = [
    "BACKBONES",
    "DATASETS",
    "WEIGHTS",
    "Audit",
    "Backbone",
    "Bench",
    "Bundle",
    "ConfusionTable",
    "Dataset",
    "DenseHead",
    "FeatureKey",
    "FeatureSet",
    "FrozenBackbone",
    "KNNHead",
    "Listener",
    "LogisticHead",
    "PathHead",
    "PreprocessSpec",
    "ProbeError",
    "PrototypeHead",
    "ReadOptions",
    "Request",
    "RidgeHead",
    "Run",
    "Store",
    "audit",
    "bench",
    "evaluate",
    "explain",
    "export",
    "extract",
    "extract_features",
    "extract_layers",
    "fetch_dataset",
    "fit",
    "forecast",
    "import_features",
    "index_dataset",
    "load_bench",
    "load_dataset",
    "open_bench",
    "open_bundle",
    "open_features",
    "open_run",
    "pack_lists",
    "prepare",
    "promote",
    "report",
    "show_dataset",
    "split_dataset",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'probe' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """This package, in which a public name is a function where a room has the same name.

    Importing a room would bind its name here to the room. What is in such a room is imported by
    ``from probe.bench.record import ...``: in ``import probe.bench.record as name`` Python looks
    for `record` on the function.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
