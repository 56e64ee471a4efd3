"""Turn a request into a decided pass: dataset, weights, layers and keys.

`prepare` makes of a `Request`, the options of `probe extract`, what `probe.extraction.extract`
runs. MXNet is not imported unless a row has to be forwarded or weights were never seen. The entry
records the request, and `repeat` returns it, so that the same pass can be run again.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from probe.backbones.catalog import BACKBONES
from probe.backbones.foreign import CallableBackbone
from probe.backbones.spec import (
    POOLS,
    BackboneSpec,
    Layer,
    Pool,
    last_of,
    pool_called,
    resolve_pool,
)
from probe.cache.filling import rows_by_engine
from probe.cache.key import FeatureKey
from probe.cache.store import SAMPLE_OF, Store
from probe.cache.unfinished import finished_rows
from probe.core.download import Progress
from probe.core.memo import Memo
from probe.core.options import Words, default_workers, words
from probe.core.reading import AS_IT_IS, ReadOptions
from probe.core.short_repr import short_repr
from probe.core.urls import absolute, is_url, text_of
from probe.core.version import __version__, installed_versions
from probe.datasets import DATASETS, Dataset, chosen_images, load_dataset, require_dataset
from probe.datasets.forms.listed import listed_folders
from probe.datasets.split_names import split_called
from probe.datasets.tables.table import is_table
from probe.engines import (
    BUILDS,
    Engine,
    check_device_name,
    check_engine,
    check_engine_name,
    default_engine,
    engine_is_installed,
    rival_engines,
)
from probe.errors import (
    CacheError,
    ProbeError,
    UsageError,
    WeightsError,
    WeightsNotFoundError,
)
from probe.extraction.forward import Network
from probe.extraction.job import Job, decide
from probe.preprocess.load import load_preprocess
from probe.preprocess.spec import PreprocessSpec, resize_text
from probe.preprocess.views import VIEWS
from probe.schedulers import check_scheduler
from probe.weights import (
    Loaded,
    ResolvedWeights,
    backbone_called,
    check_first_use,
    default_layer,
    open_network,
    resolve_weights,
    with_mean,
)

DTYPES = ("float32", "float16")


@dataclass(frozen=True, kw_only=True)
class Request:
    """The options of `probe extract`, under their names on the command line.

    Parameters
    ----------
    strict : bool
        Hash images and weights again, whatever the memo remembers of them.
    images : Dataset, optional
        The images, where they are read already; `dataset` is what they are called then.
    network : BackboneSpec, optional
        The backbone, where it is given as an object; `backbone` is what it is called then.
    """

    backbone: str
    dataset: str
    cache_dir: Path
    dataset_root: Path | None = None
    weights: str = "auto"
    preprocess: str | None = None
    mean: str | None = None
    layers: tuple[str, ...] = ()
    pool: str | None = None
    size: int | None = None
    resize: str | None = None
    splits: tuple[str, ...] = ()
    per_class: int | None = None
    limit: int | None = None
    coarse: bool = False
    skip_bad: bool = False
    reading: ReadOptions = AS_IT_IS
    seed: int = 42
    batch_size: int | None = None
    workers: int = 2
    engine: str = "auto"
    device: str = "auto"
    scheduler: str | None = None
    dtype: str = "float32"
    views: str = "none"
    strict: bool = False
    command: str = ""
    images: Dataset | None = field(default=None, repr=False, compare=False)
    network: BackboneSpec | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        *,
        layer: Words = None,
        split: Words = None,
        dataset_root: str | Path | None = None,
        mean: str | Path | None = None,
        resize: str | int | None = None,
        workers: int | None = None,
        **same: Any,
    ) -> Request:
        """Return a request from the options of `probe extract`, as text or as Python's values.

        Parameters
        ----------
        layer, split
            ``a,b``, or a sequence of names.
        workers : int, optional
            Default: one a core, at most 8.
        **same
            The other fields.
        """
        return cls(
            layers=words(layer),
            splits=tuple(dict.fromkeys(map(split_called, words(split)))),
            dataset_root=None if dataset_root is None else Path(dataset_root),
            mean=None if mean is None else str(mean),
            resize=resize_text(resize),
            workers=workers or default_workers(),
            **same,
        )


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A request with everything decided: dataset, weights, layers and keys.

    Parameters
    ----------
    rivals : tuple of str
        Engines that may be taken in the place of the job's, if they are faster.
    """

    __repr__ = short_repr

    request: Request
    dataset: Dataset
    backbone: BackboneSpec
    weights: ResolvedWeights
    preprocess: PreprocessSpec
    job: Job
    rivals: tuple[str, ...] = ()

    @property
    def resize(self) -> str | None:
        """The resize policy, or None where it is the weights' own."""
        return _named_resize(self.weights, self.preprocess)

    def load(self, cuts: Sequence[tuple[Layer, Pool]]) -> Loaded:
        """Read the parameters that the deepest of some cuts uses.

        Raises
        ------
        WeightsError
            They are not those that the keys name: features of others would get their name.
        """
        deepest = last_of(cuts)
        loaded = self.weights.load(self.backbone, deepest)
        self.weights.last_read.forget()
        named = {cut.key.parameters for cut in self.job.cuts if cut.layer == deepest}
        if named and loaded.digest not in named:
            place = self.weights.path or self.weights.name
            memo = Memo(self.request.cache_dir / "memo.sqlite")
            memo.forget_if_possible(os.path.realpath(place))
            raise WeightsError(
                f"{place}: was changed since this command looked at it; run the same command again"
            )
        return loaded

    def network_for(
        self, cuts: Sequence[tuple[Layer, Pool]], loaded: Loaded | None = None
    ) -> Network:
        """Return all that the engine for some of the job's cuts is made of."""
        return Network(
            spec=self.backbone,
            parameters=(loaded or self.load(cuts)).parameters,
            cuts=cuts,
            preprocess=self.preprocess,
            batch_size=self.request.batch_size,
            views=self.job.views,
            engine=str(self.job.provenance["engine"]),
            device=self.request.device,
        )

    def by(self, engine: str) -> Prepared:
        """Return the same pass by some engine."""
        job = replace(self.job, provenance={**self.job.provenance, "engine": engine})
        return replace(self, job=job, rivals=())

    def engine_for(self, cuts: Sequence[tuple[Layer, Pool]]) -> Engine:
        """Return the engine for some of the job's cuts."""
        return self.network_for(cuts).open()


def prepare(request: Request, *, progress: Progress | None = None, keep: bool = False) -> Prepared:
    """Find the dataset and the weights of a request and decide layers, sizes and keys.

    Parameters
    ----------
    progress : callable, optional
        Gives the bar that follows a dataset's download; see `load_dataset`.
    keep : bool, default=False
        Whether parameters that had to be read stay in memory until `Prepared.load`, where a pass
        follows at once.

    Raises
    ------
    ProbeError
        A name is unknown, files are missing, weights do not fit, a size or a layer cannot be had.
    """
    _check_words(request)
    memo = Memo(request.cache_dir / "memo.sqlite")
    if request.strict:
        _forget(request, memo)
    backbone = request.network or backbone_called(request.backbone, memo)
    # a typing mistake shows at once, and a name given twice is one entry
    named = [backbone.layer(name) for name in dict.fromkeys(request.layers)]
    given = load_preprocess(request.preprocess) if request.preprocess else None
    weights = _weights(request, backbone, memo, given)
    if request.mean is not None:
        weights = with_mean(weights, Path(request.mean).expanduser())
    preprocess = weights.preprocess.with_size(request.size, request.resize)
    layers = named or [default_layer(backbone, weights.held(backbone, memo), preprocess.size)]
    for layer in layers:
        backbone.check_size(layer, preprocess.size)
    pool = pool_called(request.pool)
    # the check has all it needs, and runs beside the hashing of the images
    with weights.last_read.keeping(beyond=keep), ThreadPoolExecutor(1, "check") as beside:
        cuts = [
            (layer, resolve_pool(layer, pool), weights.digest(backbone, layer, memo))
            for layer in layers
        ]
        checked = beside.submit(
            check_first_use, weights, backbone, cache_dir=request.cache_dir, memo=memo
        )
        dataset = requested_dataset(request, progress=progress)
        job = decide(
            dataset,
            backbone,
            preprocess,
            cuts,
            dtype=request.dtype,
            views=request.views,
            provenance=provenance_of(request, backbone, dataset, weights, preprocess),
        )
        engine, rivals = _engines_of(request, job)
        checked.result()
    return Prepared(
        request=request,
        dataset=dataset,
        backbone=backbone,
        weights=weights,
        preprocess=preprocess,
        job=replace(job, provenance={**job.provenance, "engine": engine}),
        rivals=rivals,
    )


def _weights(
    request: Request, backbone: BackboneSpec, memo: Memo, preprocess: PreprocessSpec | None
) -> ResolvedWeights:
    """Find the weights; where the dataset is missing too, the error says both."""
    missing: ProbeError | None = None
    try:
        if request.images is None:
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
    check_engine_name(request.engine)
    check_device_name(request.device)
    check_scheduler(request.scheduler)
    if request.pool not in (None, *POOLS):
        raise UsageError(f"--pool {request.pool}: expected {', '.join(POOLS)}")


def images_of_entry(request: Request) -> Dataset:
    """Load the dataset that an entry was made from, undivided and whole.

    A split may have been stored or removed since, so that the entry's images are told by their ids:
    `Dataset.images_of` has them.
    """
    wanted = request.splits
    if request.dataset in DATASETS:  # reading others may want files that are not there
        own = DATASETS[request.dataset].splits
        wanted = tuple(dict.fromkeys(one if one in own else "train" for one in wanted))
    else:
        wanted = ()
    whole = replace(request, splits=wanted, per_class=None, limit=None)
    return requested_dataset(whole, stored_split=False)


def requested_dataset(
    request: Request, *, stored_split: bool = True, progress: Progress | None = None
) -> Dataset:
    """Return the dataset of a request; see `load_dataset`."""
    if request.images is not None:
        if request.images.in_memory and (request.dataset_root or request.coarse):
            option = "--coarse" if request.coarse else "--dataset-root"
            raise UsageError(f"{option} is for datasets with a name; leave it out for these images")
        return chosen_images(
            request.images,
            splits=request.splits or None,
            per_class=request.per_class,
            limit=request.limit,
            seed=request.seed,
        )
    return load_dataset(
        request.dataset,
        root=request.dataset_root,
        cache_dir=request.cache_dir,
        splits=request.splits or None,
        per_class=request.per_class,
        limit=request.limit,
        seed=request.seed,
        skip_bad=request.skip_bad,
        reading=request.reading,
        coarse=request.coarse,
        stored_split=stored_split,
        strict=request.strict,
        workers=request.workers,
        progress=progress,
    )


def _engines_of(request: Request, job: Job) -> tuple[str, tuple[str, ...]]:
    """Return the engine of a pass, and those that may take its place if they are faster.

    It is the one that is named, else the one that began this pass before it was interrupted, else
    the one that made at least half of its rows, else the default one.

    An entry's rows all come from one engine, and rows that are at hand are only taken from an entry
    of the same one.
    """
    check_engine(job.backbone, request.engine)
    if request.engine != "auto":
        return request.engine, ()
    usual = default_engine(request.device, job.backbone)
    rivals = rival_engines(request.device, job.backbone)
    keys, store = [cut.key for cut in job.cuts], Store(request.cache_dir)
    made = store.engines(keys)
    if not made or (made == {usual} and not rivals):
        return usual, rivals
    at_hand = rows_by_engine(store, keys, job.tables)
    begun = {one.engine for key in keys for one in finished_rows(store, key, others=False)}
    for engine, rows in at_hand.most_common():
        enough = engine in begun or rows * 2 >= job.count * len(keys)
        if enough and engine_is_installed(engine):
            return engine, ()
    return usual, rivals


def _forget(request: Request, memo: Memo) -> None:
    for given in (request.weights, request.backbone):
        if os.path.exists(given):
            memo.forget(Path(os.path.realpath(given)))
    if request.images is not None and request.images.in_memory:
        return
    named = request.dataset in DATASETS
    if named:
        beside = request.cache_dir / "datasets" / request.dataset
        memo.forget((request.dataset_root or beside).expanduser())
        return
    if is_url(request.dataset):
        return  # what is fetched again is another file
    place = Path(text_of(request.dataset)).expanduser()
    folders = [place]
    if is_table(place):
        folders = listed_folders(place, request.dataset_root, request.reading)
    for one in folders:
        memo.forget(one)


def provenance_of(
    request: Request, backbone: BackboneSpec, dataset: Dataset, weights: ResolvedWeights,
    preprocess: PreprocessSpec,
) -> dict[str, Any]:  # fmt: skip
    """Return the provenance that an entry records: command, dataset, weights and versions."""
    return {
        "command": request.command,
        "dataset": dataset.name,
        "root": dataset.url or (absolute(dataset.root) if dataset.root else None),
        "skipped": [one.id for one in dataset.skipped][:100],
        "n_skipped": len(dataset.skipped),
        "backbone": backbone.name,
        "weights": weights.name,
        "weights_path": str(weights.path) if weights.path else None,
        "preprocess": preprocess.name,
        "size": preprocess.size,
        "resize": _named_resize(weights, preprocess),
        "batch_size": request.batch_size,  # None: by input size and device
        **({"function": True} if isinstance(backbone, CallableBackbone) else {}),
        **(
            {"in_memory": True}
            if dataset.in_memory
            else {"request": _repeatable(request, dataset, weights)}
        ),
        "versions": {
            "python": platform.python_version(),
            **installed_versions(("numpy", "pillow", *chain(*BUILDS.values()))),
            "probe": __version__,
        },
    }


def _repeatable(request: Request, dataset: Dataset, weights: ResolvedWeights) -> dict[str, Any]:
    """Return what `repeat` needs to make the same request again, from any working directory."""
    named = request.dataset in DATASETS
    root = dataset.root if named else request.dataset_root
    preprocess = request.preprocess
    if preprocess is not None and os.path.isfile(preprocess):
        preprocess = os.path.abspath(preprocess)
    return {
        "dataset": request.dataset if named else absolute(request.dataset),
        "dataset_root": absolute(root) if root else None,
        "weights": absolute(weights.path) if weights.path else weights.name,
        "preprocess": preprocess,
        "mean": absolute(request.mean) if request.mean else None,
        "size": request.size,
        "resize": request.resize,
        "splits": list(request.splits),
        "per_class": request.per_class,
        "limit": request.limit,
        "coarse": request.coarse,
        "skip_bad": request.skip_bad,
        **({"reading": recorded} if (recorded := request.reading.to_record()) else {}),
        "seed": request.seed,
    }


def repeat(
    key: FeatureKey,
    provenance: Mapping[str, Any],
    *,
    cache_dir: Path,
    dataset_root: Path | None = None,
    weights: str | None = None,
) -> Request:
    """Return the request that made an entry, to make it again.

    Parameters
    ----------
    key, provenance
        Of the entry.
    dataset_root, weights : optional
        Where the images or the weights lie now, if elsewhere than recorded. Of images it may be a
        URL, as one that is signed: signatures are not recorded.

    Raises
    ------
    CacheError
        The entry does not say what it was made from.
    """
    recorded = provenance.get("request")
    if "imported" in provenance:
        raise CacheError(
            "the entry's features were imported: there is no network and there are no images to "
            "go back to; `probe extract` makes an entry that has both"
        )
    if SAMPLE_OF in provenance:
        raise CacheError(
            "the entry is what a race of `probe bench` forwarded before it dropped these features; "
            "`probe extract` makes the whole entry and forwards only the other images"
        )
    if provenance.get("in_memory"):
        raise CacheError(
            "the entry's images were given in memory, from Python, and cannot be read again; save "
            "them as files and extract those"
        )
    if provenance.get("function"):
        raise CacheError(
            f"the entry's network {key.backbone} is a function of Python: call `probe.extract` "
            "with it again"
        )
    if not isinstance(recorded, dict):
        raise CacheError(
            "the entry does not record what it was made from (an older probe made it); "
            "`probe extract --overwrite` makes one that does"
        )
    values = dict(recorded)
    if dataset_root is not None:
        place = "dataset_root" if values["dataset"] in DATASETS else "dataset"
        values[place] = text_of(dataset_root)
    root = values["dataset_root"]
    backbone, source = key.backbone, weights or values["weights"]
    if backbone not in BACKBONES:  # its file has network and weights
        backbone, source = source, "auto"
    return Request(
        backbone=backbone,
        dataset=values["dataset"],
        cache_dir=cache_dir,
        dataset_root=None if root is None else Path(root),
        weights=source,
        preprocess=values["preprocess"],
        mean=values.get("mean"),
        layers=(key.layer,),
        pool=key.pool,
        size=values["size"],
        resize=_recorded_resize(values, key),
        splits=tuple(values["splits"]),
        per_class=values["per_class"],
        limit=values["limit"],
        coarse=values["coarse"],
        skip_bad=values["skip_bad"],
        reading=ReadOptions.from_record(values.get("reading")),
        seed=values["seed"],
        dtype=key.dtype,
        views=key.views,
    )


def with_recorded_name(request: Request, key: FeatureKey) -> Request:
    """Return a repeated request whose network is called as in the key, whatever its file is now.

    Raises
    ------
    WeightsError
        The file is gone, or no network.
    """
    if key.backbone in BACKBONES:
        return request
    try:
        found = open_network(Path(request.backbone), Memo(request.cache_dir / "memo.sqlite"))
    except WeightsNotFoundError as error:
        raise WeightsNotFoundError(f"{error}; name the network's file with --weights") from error
    return replace(request, network=replace(found, name=key.backbone))


def _named_resize(weights: ResolvedWeights, preprocess: PreprocessSpec) -> str | None:
    own = weights.preprocess.with_size(preprocess.size)
    if preprocess == own:
        return None
    return preprocess.resize if preprocess.crop_fraction == 1 else str(preprocess.short_side)


def _recorded_resize(values: Mapping[str, Any], key: FeatureKey) -> str | None:
    """Return the resize policy; entries of older versions record none.

    To those versions the weights' own size, named, meant "without the crop fraction": the key holds
    the policy, and naming it means the same today.
    """
    if "resize" not in values and values["size"] is not None:
        return str(json.loads(key.preprocess)["resize"])
    return values.get("resize")
