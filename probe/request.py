"""From what a person asks for to a pass that is decided: dataset, weights, layers, keys.

The command line and the comparison of backbones start here; `probe.extract` does the rest.
MXNet is not imported unless a row has to be forwarded or weights were never seen.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from probe import __version__
from probe.backbones.catalog import BACKBONES
from probe.backbones.spec import POOLS, BackboneSpec, Layer, Pool, resolve_pool
from probe.datasets import Dataset, load_dataset
from probe.errors import UsageError
from probe.extract import Job, decide, default_batch_size
from probe.memo import Memo
from probe.preprocess import PreprocessSpec, load_preprocess
from probe.weights import ResolvedWeights, default_layer, resolve_weights

DTYPES = ("float32", "float16")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What `probe extract` was asked for; the options of the same names say what each means."""

    backbone: str
    dataset: str
    cache_dir: Path
    dataset_root: Path | None = None
    weights: str = "auto"
    preprocess: str | None = None
    layers: tuple[str, ...] = ()
    pool: str | None = None
    size: int | None = None
    splits: tuple[str, ...] = ()
    per_class: int | None = None
    limit: int | None = None
    coarse: bool = False
    skip_bad: bool = False
    seed: int = 42
    batch_size: int | None = None
    workers: int = 2
    device: str = "auto"
    dtype: str = "float32"
    command: str = ""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A request with all its questions answered."""

    request: Request
    dataset: Dataset
    backbone: BackboneSpec
    weights: ResolvedWeights
    preprocess: PreprocessSpec
    batch_size: int
    job: Job

    def engine_for(self, cuts: list[tuple[Layer, Pool]]) -> Any:
        """Return the engine for some of the job's cuts; this is where MXNet comes in."""
        from probe.engines.gluon import GluonEngine

        deepest = max((layer for layer, _ in cuts), key=lambda layer: layer.after)
        loaded = self.weights.load(self.backbone, deepest)
        return GluonEngine(
            self.backbone,
            loaded.parameters,
            cuts,
            self.preprocess,
            batch_size=self.batch_size,
            device=self.request.device,
        )


def prepare(request: Request) -> Prepared:
    """Answer every question a request leaves open, and refuse it before anything runs.

    Raises
    ------
    ProbeError
        A name is unknown, files are missing, weights do not fit, a size or a layer cannot be had.
    """
    backbone = BACKBONES[request.backbone]
    if request.dtype not in DTYPES:
        raise UsageError(f"--dtype {request.dtype}: expected {' or '.join(DTYPES)}")
    if request.pool not in (None, *POOLS):
        raise UsageError(f"--pool {request.pool}: expected {', '.join(POOLS)}")
    named = [backbone.layer(name) for name in request.layers]  # a typing mistake shows at once
    memo = Memo(request.cache_dir / "memo.sqlite")
    given = load_preprocess(request.preprocess) if request.preprocess else None
    weights = resolve_weights(
        backbone, request.weights, cache_dir=request.cache_dir, memo=memo, preprocess=given
    )
    preprocess = (
        weights.preprocess if request.size is None else weights.preprocess.with_size(request.size)
    )
    layers = named or [default_layer(backbone, weights.held(backbone, memo), preprocess.size)]
    for layer in layers:
        backbone.check_size(layer, preprocess.size)
    pool: Pool | None = next((one for one in POOLS if one == request.pool), None)
    cuts = [
        (layer, resolve_pool(layer, pool), weights.digest(backbone, layer, memo))
        for layer in layers
    ]
    dataset = load_dataset(
        request.dataset,
        root=request.dataset_root,
        cache_dir=request.cache_dir,
        splits=request.splits or None,
        per_class=request.per_class,
        limit=request.limit,
        seed=request.seed,
        skip_bad=request.skip_bad,
        coarse=request.coarse,
        workers=request.workers,
    )
    batch_size = request.batch_size or default_batch_size(preprocess.size)
    job = decide(
        dataset,
        backbone,
        preprocess,
        cuts,
        dtype=request.dtype,
        provenance=_provenance(request, dataset, weights, preprocess, batch_size),
    )
    return Prepared(
        request=request,
        dataset=dataset,
        backbone=backbone,
        weights=weights,
        preprocess=preprocess,
        batch_size=batch_size,
        job=job,
    )


def _provenance(
    request: Request,
    dataset: Dataset,
    weights: ResolvedWeights,
    preprocess: PreprocessSpec,
    batch_size: int,
) -> dict[str, Any]:
    return {
        "command": request.command,
        "dataset": dataset.name,
        "root": str(dataset.root) if dataset.root else None,
        "skipped": [one.id for one in dataset.skipped][:100],
        "n_skipped": len(dataset.skipped),
        "backbone": request.backbone,
        "weights": weights.name,
        "weights_path": str(weights.path) if weights.path else None,
        "preprocess": preprocess.name,
        "size": preprocess.size,
        "batch_size": batch_size,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("mxnet", "numpy", "pillow")},
            "probe": __version__,
        },
    }
