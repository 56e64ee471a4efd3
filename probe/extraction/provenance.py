"""What was asked for, what an entry records of it, and asking for the same again."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from probe.cache.key import FeatureKey
from probe.core.version import __version__
from probe.datasets import DATASETS, Dataset
from probe.errors import CacheError
from probe.preprocess.spec import PreprocessSpec
from probe.weights import ResolvedWeights


@dataclass(frozen=True, kw_only=True)
class Request:
    """What `probe extract` was asked for; the options of the same names say what each means.

    Parameters
    ----------
    strict : bool
        Hash images and weights again, whatever the memo remembers of them.
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
    views: str = "none"
    strict: bool = False
    command: str = ""


def provenance_of(
    request: Request,
    dataset: Dataset,
    weights: ResolvedWeights,
    preprocess: PreprocessSpec,
    batch_size: int,
) -> dict[str, Any]:
    """Return what an entry records of where its features came from."""
    return {
        "command": request.command,
        "dataset": dataset.name,
        "root": _absolute(dataset.root) if dataset.root else None,
        "skipped": [one.id for one in dataset.skipped][:100],
        "n_skipped": len(dataset.skipped),
        "backbone": request.backbone,
        "weights": weights.name,
        "weights_path": str(weights.path) if weights.path else None,
        "preprocess": preprocess.name,
        "size": preprocess.size,
        "batch_size": batch_size,
        "request": _repeatable(request, dataset, weights),
        "versions": {
            "python": platform.python_version(),
            **_installed("numpy", "pillow", *MXNET_BUILDS),
            "probe": __version__,
        },
    }


# the GPU wheels are packages of their own names
MXNET_BUILDS = ("mxnet", *(f"mxnet-cu{cuda}" for cuda in (101, 102, 110, 112, 113, 116, 117)))


def _installed(*packages: str) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _repeatable(request: Request, dataset: Dataset, weights: ResolvedWeights) -> dict[str, Any]:
    """Return what `repeat` needs to ask for the same again, from any working directory."""
    named = request.dataset in DATASETS
    preprocess = request.preprocess
    if preprocess is not None and os.path.isfile(preprocess):
        preprocess = os.path.abspath(preprocess)
    return {
        "dataset": request.dataset if named else _absolute(Path(request.dataset)),
        "dataset_root": _absolute(dataset.root) if named and dataset.root else None,
        "weights": _absolute(weights.path) if weights.path else weights.name,
        "preprocess": preprocess,
        "mean": _absolute(Path(request.mean)) if request.mean else None,
        "size": request.size,
        "splits": list(request.splits),
        "per_class": request.per_class,
        "limit": request.limit,
        "coarse": request.coarse,
        "skip_bad": request.skip_bad,
        "seed": request.seed,
    }


def _absolute(path: Path) -> str:
    return os.path.abspath(path.expanduser())


def repeat(
    key: FeatureKey,
    provenance: Mapping[str, Any],
    *,
    cache_dir: Path,
    dataset_root: Path | None = None,
    weights: str | None = None,
) -> Request:
    """Return the request that an entry answers.

    Parameters
    ----------
    key, provenance
        Of the entry.
    dataset_root, weights : optional
        Where the images or the weights lie now, if elsewhere than recorded.

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
    if not isinstance(recorded, dict):
        raise CacheError(
            "the entry does not record what it was made from (an older probe made it); "
            "`probe extract --overwrite` makes one that does"
        )
    values = dict(recorded)
    if dataset_root is not None:
        values["dataset_root" if values["dataset"] in DATASETS else "dataset"] = str(dataset_root)
    root = values["dataset_root"]
    return Request(
        backbone=key.backbone,
        dataset=values["dataset"],
        cache_dir=cache_dir,
        dataset_root=None if root is None else Path(root),
        weights=weights or values["weights"],
        preprocess=values["preprocess"],
        mean=values.get("mean"),
        layers=(key.layer,),
        pool=key.pool,
        size=values["size"],
        splits=tuple(values["splits"]),
        per_class=values["per_class"],
        limit=values["limit"],
        coarse=values["coarse"],
        skip_bad=values["skip_bad"],
        seed=values["seed"],
        dtype=key.dtype,
        views=key.views,
    )
