"""The network that a run's head belongs to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from probe.backbones.catalog import BACKBONES
from probe.backbones.spec import POOLS, Layer, Pool, resolve_pool
from probe.cache.features import FeatureSet
from probe.cache.key import FeatureKey, preprocess_identity
from probe.errors import BundleError, UsageError, WeightsError
from probe.memo import Memo
from probe.preprocess import PreprocessSpec
from probe.results import RunResult
from probe.weights import Loaded, ResolvedWeights, resolve_weights

PROMOTED, TUNED_WEIGHTS = "promoted", "backbone.safetensors"


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """The network of a run: its recipe, weights and preprocessing."""

    key: FeatureKey
    preprocess: PreprocessSpec
    weights: ResolvedWeights
    loaded: Loaded
    licence: str

    @property
    def cut(self) -> tuple[Layer, Pool]:
        """Where the network ends."""
        layer = BACKBONES[self.key.backbone].layer(self.key.layer)
        return layer, resolve_pool(
            layer, next((one for one in POOLS if one == self.key.pool), None)
        )


def source_of(
    run: Path, result: RunResult, entry: FeatureSet, weights: str | None, cache_dir: Path
) -> Source:
    """Return what a run's head was fitted on.

    Raises
    ------
    BundleError
        The weights are gone or other than they were.
    """
    tuned = run / TUNED_WEIGHTS
    if result.head == PROMOTED or tuned.is_file():
        return _tuned_source(tuned, result, entry, cache_dir)
    key, backbone = entry.key, BACKBONES[entry.key.backbone]
    preprocess = _preprocess(key, str(entry.provenance.get("preprocess", "")))
    place = weights or entry.provenance.get("weights_path") or entry.provenance["weights"]
    resolved = _resolve(str(place), key.backbone, preprocess, cache_dir)
    loaded = resolved.load(backbone, backbone.layer(key.layer))
    if loaded.digest != key.parameters:
        raise BundleError(
            f"{place}: not the weights that {entry.name} was made with; name those with --weights"
        )
    terms = resolved.spec.licence if resolved.spec else "terms not known"
    return Source(key=key, preprocess=preprocess, weights=resolved, loaded=loaded, licence=terms)


def _tuned_source(tuned: Path, result: RunResult, entry: FeatureSet, cache_dir: Path) -> Source:
    """Return a promoted run's own network, which carries its preprocessing."""
    backbone = BACKBONES[result.backbone]
    resolved = _resolve(str(tuned), result.backbone, None, cache_dir)
    loaded = resolved.load(backbone, backbone.layer(result.layer))
    key = replace(
        entry.key,
        backbone=result.backbone,
        layer=result.layer,
        pool=result.pool,
        parameters=loaded.digest,
        preprocess=preprocess_identity(resolved.preprocess),
        views="none",
        dtype="float32",
    )
    terms = f"fine-tuned from {result.weights}, whose terms hold"
    return Source(
        key=key, preprocess=resolved.preprocess, weights=resolved, loaded=loaded, licence=terms
    )


def _preprocess(key: FeatureKey, name: str) -> PreprocessSpec:
    fields = key.to_json()["preprocess"]
    return PreprocessSpec.from_json({**fields, "name": name or "recorded"}, "cache key")


def _resolve(
    source: str, backbone: str, preprocess: PreprocessSpec | None, cache_dir: Path
) -> ResolvedWeights:
    def resolve(asked: PreprocessSpec | None) -> ResolvedWeights:
        spec, memo = BACKBONES[backbone], Memo(cache_dir / "memo.sqlite")
        return resolve_weights(spec, source, cache_dir=cache_dir, memo=memo, preprocess=asked)

    try:
        return resolve(None)
    except UsageError:  # a file that does not know its preprocessing; the key does
        if preprocess is None:
            raise
        return resolve(preprocess)
    except WeightsError as error:
        raise BundleError(f"{error}; name the weights with --weights") from error
