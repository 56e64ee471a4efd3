"""From a run to something that stands alone."""

from __future__ import annotations

from pathlib import Path

from probe.backbones.catalog import BACKBONES
from probe.bundle import Bundle, write_bundle
from probe.cache.features import FeatureSet
from probe.cache.key import FeatureKey
from probe.cache.store import Store
from probe.card import About
from probe.errors import BundleError, UsageError, WeightsError
from probe.heads import load_head
from probe.memo import Memo
from probe.preprocess import PreprocessSpec
from probe.results import read_run
from probe.runs import HEAD
from probe.weights import ResolvedWeights, resolve_weights


def newest_run(runs: Path) -> Path:
    """Return the newest complete run's folder.

    Raises
    ------
    BundleError
        There is none.
    """
    complete = sorted(path.parent for path in runs.glob("*/result.json"))
    if not complete:
        raise BundleError(f"{runs}: no runs yet; `probe head` makes one")
    return complete[-1]


def bundle_run(run: Path, out: Path, *, cache_dir: Path, weights: str | None = None) -> Bundle:
    """Make a bundle of a head run: network, weights, head, classes and what the run measured.

    Parameters
    ----------
    run : Path
        The folder of a run.
    out : Path
        A folder that is not there yet.
    weights : str, optional
        Where the weights are now, if not where the pass found them.

    Raises
    ------
    BundleError
        The run's entry or weights are gone or other than they were, or `out` cannot be written.
    """
    result = read_run(run)
    entry = FeatureSet.open(Store(cache_dir).choose(result.entry).path)
    key, backbone = entry.key, BACKBONES[entry.key.backbone]
    if key.views != "none":
        raise BundleError(f"{entry.name}: features of several views make no bundle")
    preprocess = _preprocess(key, str(entry.provenance.get("preprocess", "")))
    source = weights or entry.provenance.get("weights_path") or entry.provenance["weights"]
    resolved = _resolve(str(source), key, preprocess, cache_dir)
    loaded = resolved.load(backbone, backbone.layer(key.layer))
    if loaded.digest != key.parameters:
        raise BundleError(
            f"{source}: not the weights that {entry.name} was made with; name those with --weights"
        )
    about = About(
        backbone=key.backbone,
        layer=key.layer,
        pool=key.pool,
        preprocess=preprocess.to_json(),
        classes=entry.classes,
        parameters=key.parameters,
        weights=resolved.name,
        licence=resolved.spec.licence if resolved.spec else "terms not known",
        dataset=result.dataset,
        head=result.head,
        run=run.name,
        metrics=result.metrics,
        files={},
    )
    return write_bundle(out, about, loaded.parameters, load_head(run / HEAD))


def _preprocess(key: FeatureKey, name: str) -> PreprocessSpec:
    fields = key.to_json()["preprocess"]
    return PreprocessSpec.from_json({**fields, "name": name or "recorded"}, "cache key")


def _resolve(
    source: str, key: FeatureKey, preprocess: PreprocessSpec, cache_dir: Path
) -> ResolvedWeights:
    def resolve(asked: PreprocessSpec | None) -> ResolvedWeights:
        backbone, memo = BACKBONES[key.backbone], Memo(cache_dir / "memo.sqlite")
        return resolve_weights(backbone, source, cache_dir=cache_dir, memo=memo, preprocess=asked)

    try:
        return resolve(None)
    except UsageError:  # a file that does not know its preprocessing; the key does
        return resolve(preprocess)
    except WeightsError as error:
        raise BundleError(f"{error}; name the weights with --weights") from error
