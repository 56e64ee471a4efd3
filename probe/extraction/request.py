"""From what a person asks for to a pass that is decided: dataset, weights, layers, keys.

The command line and the comparison of backbones start here; `probe.extraction.extract` does the
rest. MXNet is not imported unless a row has to be forwarded or weights were never seen.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from probe.backbones.catalog import BACKBONES
from probe.backbones.spec import POOLS, BackboneSpec, Layer, Pool, pool_called, resolve_pool
from probe.cache.key import VIEWS, view_count
from probe.core.memo import Memo
from probe.datasets import DATASETS, Dataset, load_dataset, require_dataset
from probe.datasets.fetch import Progress
from probe.datasets.listed import listed_folders
from probe.datasets.table import is_table
from probe.engines import Engine, check_device_name
from probe.errors import ProbeError, UsageError, WeightsError
from probe.extraction.extract import Job, decide, default_batch_size
from probe.extraction.provenance import Request, provenance_of, repeat
from probe.preprocess.spec import PreprocessSpec, load_preprocess
from probe.weights import (
    Loaded,
    ResolvedWeights,
    check_first_use,
    default_layer,
    resolve_weights,
    with_mean,
)

__all__ = ["Prepared", "Request", "prepare", "repeat", "requested_dataset"]

DTYPES = ("float32", "float16")


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

    def load(self, cuts: Sequence[tuple[Layer, Pool]]) -> Loaded:
        """Read the parameters that the deepest of some cuts uses.

        Raises
        ------
        WeightsError
            They are not those that the keys name: features of others would get their name.
        """
        deepest = max((layer for layer, _ in cuts), key=lambda layer: layer.after)
        loaded = self.weights.load(self.backbone, deepest)
        named = {cut.key.parameters for cut in self.job.cuts if cut.layer == deepest}
        if named and loaded.digest not in named:
            place = self.weights.path or self.weights.name
            memo = Memo(self.request.cache_dir / "memo.sqlite")
            memo.forget_if_possible(os.path.realpath(place))
            raise WeightsError(
                f"{place}: was changed since this command looked at it; run the same command again"
            )
        return loaded

    def engine_for(
        self, cuts: Sequence[tuple[Layer, Pool]], loaded: Loaded | None = None
    ) -> Engine:
        """Return the engine for some of the job's cuts; this is where MXNet comes in."""
        from probe.engines.mxnet.gluon import GluonEngine

        return GluonEngine(
            self.backbone,
            (loaded or self.load(cuts)).parameters,
            cuts,
            self.preprocess,
            batch_size=self.batch_size,
            device=self.request.device,
        )


def prepare(request: Request, *, progress: Progress | None = None) -> Prepared:
    """Answer every question a request leaves open, and refuse it before anything runs.

    Parameters
    ----------
    request : Request
    progress : callable, optional
        Gives the bar that follows a dataset's download; see `load_dataset`.

    Raises
    ------
    ProbeError
        A name is unknown, files are missing, weights do not fit, a size or a layer cannot be had.
    """
    backbone = BACKBONES[request.backbone]
    _check_words(request)
    # a typing mistake shows at once, and a name given twice is one entry
    named = [backbone.layer(name) for name in dict.fromkeys(request.layers)]
    memo = Memo(request.cache_dir / "memo.sqlite")
    if request.strict:
        _forget(request, memo)
    given = load_preprocess(request.preprocess) if request.preprocess else None
    weights = _weights(request, backbone, memo, given)
    if request.mean is not None:
        weights = with_mean(weights, Path(request.mean).expanduser())
    preprocess = (
        weights.preprocess if request.size is None else weights.preprocess.with_size(request.size)
    )
    layers = named or [default_layer(backbone, weights.held(backbone, memo), preprocess.size)]
    for layer in layers:
        backbone.check_size(layer, preprocess.size)
    pool = pool_called(request.pool)
    cuts = [
        (layer, resolve_pool(layer, pool), weights.digest(backbone, layer, memo))
        for layer in layers
    ]
    dataset = requested_dataset(request, progress=progress)
    batch_size = _batch_size(request, preprocess.size)
    job = decide(
        dataset,
        backbone,
        preprocess,
        cuts,
        dtype=request.dtype,
        views=request.views,
        provenance=provenance_of(request, dataset, weights, preprocess, batch_size),
    )
    check_first_use(weights, backbone, cache_dir=request.cache_dir, memo=memo)
    return Prepared(
        request=request,
        dataset=dataset,
        backbone=backbone,
        weights=weights,
        preprocess=preprocess,
        batch_size=batch_size,
        job=job,
    )


def _weights(
    request: Request, backbone: BackboneSpec, memo: Memo, preprocess: PreprocessSpec | None
) -> ResolvedWeights:
    """Find the weights, and see whether the dataset is there: neither mistake hides the other."""
    missing: ProbeError | None = None
    try:
        require_dataset(request.dataset, root=request.dataset_root, coarse=request.coarse)
    except ProbeError as error:
        missing = error
    try:
        weights = resolve_weights(
            backbone, request.weights, cache_dir=request.cache_dir, memo=memo, preprocess=preprocess
        )
    except ProbeError as error:
        if missing is None:
            raise
        raise UsageError(f"{missing}; and of the weights: {error}") from error
    if missing is not None:
        raise missing
    return weights


def _check_words(request: Request) -> None:
    if request.dtype not in DTYPES:
        raise UsageError(f"--dtype {request.dtype}: expected {' or '.join(DTYPES)}")
    if request.views not in VIEWS:
        raise UsageError(f"--views {request.views}: expected {', '.join(VIEWS)}")
    check_device_name(request.device)
    if request.pool not in (None, *POOLS):
        raise UsageError(f"--pool {request.pool}: expected {', '.join(POOLS)}")


def requested_dataset(request: Request, *, progress: Progress | None = None) -> Dataset:
    """Return the images that a request speaks of; see `load_dataset`."""
    return load_dataset(
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
        progress=progress,
    )


def _forget(request: Request, memo: Memo) -> None:
    named = request.dataset in DATASETS
    beside = request.cache_dir / "datasets" / request.dataset if named else Path(request.dataset)
    place = (request.dataset_root or beside).expanduser()
    for one in listed_folders(place) if not named and is_table(place) else [place]:
        memo.forget(one)
    if os.path.exists(request.weights):
        memo.forget(Path(os.path.realpath(request.weights)))


def _batch_size(request: Request, size: int) -> int:
    """Return how many images a forward pass takes: all views of an image stay together."""
    views = view_count(request.views)
    asked = request.batch_size or default_batch_size(size)
    return max(asked // views, 1) * views
