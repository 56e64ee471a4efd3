"""Find the network that a run's features were computed with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from probe.backbones.catalog import BACKBONES
from probe.backbones.foreign import ForeignBackbone, OnnxBackbone
from probe.backbones.spec import BackboneSpec, Layer, Pool
from probe.bundle import WEIGHTS, NetworkAbout
from probe.bundle.network import NETWORK, ForeignParameters
from probe.cache.features import FeatureSet
from probe.cache.key import FeatureKey, preprocess_identity
from probe.core.memo import Memo
from probe.core.run_folders import FOLDS, fold_folder
from probe.engines import Parameters
from probe.errors import BundleError, UsageError, WeightsError
from probe.preprocess.spec import PreprocessSpec
from probe.runs.results import RunResult
from probe.weights import Loaded, ResolvedWeights, open_network, resolve_weights
from probe.weights.resolve import NO_TERMS, is_random

PROMOTED, TUNED_WEIGHTS = "promoted", "backbone.safetensors"


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """The network of a run: its recipe, weights and preprocessing."""

    key: FeatureKey
    backbone: BackboneSpec
    preprocess: PreprocessSpec
    weights: ResolvedWeights
    loaded: Loaded
    licence: str

    @property
    def cut(self) -> tuple[Layer, Pool]:
        """The layer and pooling of the features."""
        return self.backbone.cut(self.key.layer, self.key.pool)

    @property
    def parameters(self) -> Parameters:
        """What a file of the bundle holds: its arrays, with the network if it is foreign."""
        if isinstance(self.backbone, OnnxBackbone):
            data = self.backbone.part(self.cut[0], self.loaded.parameters, self.preprocess.size)
            return ForeignParameters(data, self.key.backbone)
        return self.loaded.parameters

    def about(self, file: str) -> NetworkAbout:
        """Return the description for `bundle.json`, with the parameters in `file`."""
        return NetworkAbout(
            backbone=self.key.backbone,
            layer=self.key.layer,
            pool=self.key.pool,
            preprocess=self.preprocess.to_json(),
            parameters=self.loaded.digest,
            weights=self.weights.name,
            licence=self.licence,
            file=file,
        )


def weights_of(given: Sequence[str], backbones: Sequence[str]) -> list[str | None]:
    """Return the path of each backbone's weights that the user gave, None where none was given.

    Parameters
    ----------
    given : sequence of str
        ``BACKBONE=FILE``, or ``FILE`` for the only backbone.

    Raises
    ------
    UsageError
        It is not clear which backbone a file is for.
    """
    found: dict[str, str] = {}
    for text in given:
        name, equals, place = text.partition("=")
        if equals and name in backbones:
            found[name] = place
        elif len(set(backbones)) == 1:
            found[backbones[0]] = text
        else:
            raise UsageError(
                f"--weights {text}: the run has {', '.join(backbones)}; say which of them, as "
                f"{backbones[0]}={text}"
            )
    return [found.get(name) for name in backbones]


def share_parameters(every: Sequence[Source]) -> tuple[list[str], dict[str, Parameters]]:
    """Return each network's file, and what is in each file.

    Networks share a file if one has all parameters of the other: another layer of the same
    backbone, or another input size.
    """
    kept: list[int] = []
    for number in sorted(range(len(every)), key=lambda n: -len(every[n].loaded.parameters)):
        if not any(_holds(every[other], every[number]) for other in kept):
            kept.append(number)
    kept.sort()
    names = []
    for place, number in enumerate(kept, start=1):
        stem, dot, ending = (NETWORK if _is_foreign(every[number]) else WEIGHTS).partition(".")
        names.append(stem + (f"-{place}" if len(kept) > 1 else "") + dot + ending)
    held = {name: every[number] for name, number in zip(names, kept, strict=True)}
    files = [next(name for name in names if _holds(held[name], source)) for source in every]
    return files, {name: source.parameters for name, source in held.items()}


def _holds(one: Source, other: Source) -> bool:
    """Whether `one` has all parameters of `other`, which has the same backbone."""
    if one.key.backbone != other.key.backbone:
        return False
    if _is_foreign(one):  # a file ends at one layer
        return one.loaded.digest == other.loaded.digest
    mine, its = one.loaded.parameters, other.loaded.parameters
    return all(name in mine and np.array_equal(mine[name], its[name]) for name in its)


def _is_foreign(source: Source) -> bool:
    return isinstance(source.backbone, ForeignBackbone)


def members_of(run: Path, result: RunResult) -> list[Path]:
    """Return the folders of the networks that answer together: those of the folds, or the run."""
    count = result.params.get(FOLDS) if result.head == PROMOTED else None
    if not isinstance(count, int):
        return [run]
    return [fold_folder(run, number) for number in range(1, count + 1)]


def source_of(
    run: Path, result: RunResult, entry: FeatureSet, weights: str | None, cache_dir: Path
) -> Source:
    """Return the network that an entry of a run was made with.

    Raises
    ------
    BundleError
        The weights are missing or have changed.
    """
    tuned = run / TUNED_WEIGHTS
    if result.head == PROMOTED or tuned.is_file():
        return _tuned_source(tuned, result, entry, cache_dir)
    if "imported" in entry.provenance:
        raise BundleError(
            f"{run.name}: its features were imported ({entry.name}), so the network that a bundle "
            "needs is not here; bundle a run on features that `probe extract` made"
        )
    if entry.provenance.get("function"):
        raise BundleError(
            f"{run.name}: its network {entry.key.backbone} is a function of Python, which no file "
            "can hold; export it to ONNX and extract with --backbone FILE.onnx"
        )
    key, memo = entry.key, Memo(cache_dir / "memo.sqlite")
    preprocess = _preprocess(key, str(entry.provenance.get("preprocess", "")))
    place = str(weights or entry.provenance.get("weights_path") or entry.provenance["weights"])
    if key.backbone in BACKBONES:
        backbone = BACKBONES[key.backbone]
    else:
        backbone, place = _opened(place, memo), "auto"
    resolved = _resolve(place, backbone, preprocess, cache_dir)
    loaded = resolved.load(backbone, backbone.layer(key.layer))
    if loaded.digest != key.parameters:
        raise BundleError(
            f"{resolved.path or place}: not the weights that {entry.name} was made with; name "
            "those with --weights"
        )
    return Source(
        key=key,
        backbone=backbone,
        preprocess=preprocess,
        weights=resolved,
        loaded=loaded,
        licence=resolved.terms,
    )


def _tuned_source(tuned: Path, result: RunResult, entry: FeatureSet, cache_dir: Path) -> Source:
    """Return a promoted run's own network; its file records the preprocessing."""
    backbone = BACKBONES[result.backbone]
    resolved = _resolve(str(tuned), backbone, None, cache_dir)
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
    if is_random(result.weights):
        resolved = replace(resolved, name=f"{result.weights}, trained on {result.dataset}")
        terms = NO_TERMS
    return Source(
        key=key,
        backbone=backbone,
        preprocess=resolved.preprocess,
        weights=resolved,
        loaded=loaded,
        licence=terms,
    )


def _opened(place: str, memo: Memo) -> BackboneSpec:
    try:
        return open_network(Path(place), memo)
    except WeightsError as error:
        raise BundleError(f"{error}; name the network's file with --weights") from error


def _preprocess(key: FeatureKey, name: str) -> PreprocessSpec:
    fields = key.to_json()["preprocess"]
    return PreprocessSpec.from_json({**fields, "name": name or "recorded"}, "cache key")


def _resolve(
    source: str, spec: BackboneSpec, preprocess: PreprocessSpec | None, cache_dir: Path
) -> ResolvedWeights:
    def resolve(asked: PreprocessSpec | None) -> ResolvedWeights:
        memo = Memo(cache_dir / "memo.sqlite")
        return resolve_weights(spec, source, cache_dir=cache_dir, memo=memo, preprocess=asked)

    try:
        return resolve(None)
    except UsageError:  # the file does not record its preprocessing; the key does
        if preprocess is None:
            raise
        return resolve(preprocess)
    except WeightsError as error:
        raise BundleError(f"{error}; name the weights with --weights") from error
