"""Write weights in a format of this project's own, with their preprocessing inside."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from probe.backbones.spec import BackboneSpec
from probe.core.files import replacing
from probe.errors import UsageError, WeightsError
from probe.weights.caffe_file import mean_of_channels
from probe.weights.digest import parameter_digest
from probe.weights.fit import Fit, fit_file, holds_layers, refuse, shapes_of
from probe.weights.gluon_file import write_gluon
from probe.weights.load import read_parameter, strangers
from probe.weights.open_file import open_tensors
from probe.weights.resolve import BACKBONE_KEY, PREPROCESS_KEY, SOURCE_KEY, ResolvedWeights
from probe.weights.safetensors_file import write_safetensors
from probe.weights.tensors import Float32

log = logging.getLogger(__name__)

SUFFIXES = (".params", ".safetensors")


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What came of a conversion.

    Parameters
    ----------
    path : Path
    parameters : int
        Arrays written.
    layer : str
        The last layer that they reach.
    omitted : tuple of str
        What the source lacks or holds beside them, for people.
    digest : str
        Of the parameters, as `parameter_digest` gives it for the source and for the copy.
    """

    path: Path
    parameters: int
    layer: str
    omitted: tuple[str, ...]
    digest: str


def convert_weights(
    weights: ResolvedWeights, backbone: BackboneSpec, target: Path, *, overwrite: bool = False
) -> Converted:
    """Write everything that the backbone uses as float32 under Gluon's structural names.

    One array is in memory at a time. The copy is read again and compared before it gets its name.

    Parameters
    ----------
    weights : ResolvedWeights
        With the preprocessing that goes into the copy, as `probe.preprocess`.
    target : Path
        ``.params`` (Gluon reads it) or ``.safetensors``.

    Raises
    ------
    UsageError
        The target has another suffix, or is there and `overwrite` was not given.
    WeightsError
        The source does not fit the backbone.
    """
    if target.suffix not in SUFFIXES:
        raise UsageError(f"{target}: the name has to end in {' or '.join(SUFFIXES)}")
    if weights.path is None:
        raise UsageError(f"{weights.name}: random weights are in no file that could be converted")
    if target.exists() and not overwrite:
        raise UsageError(f"{target} is there already; --overwrite replaces it")
    file = open_tensors(weights.path)
    fit = fit_file(file, backbone)
    held = holds_layers(file, backbone)
    if fit is None or not held or fit.unknown:
        problems = fit.problems(backbone, backbone.layers[0]) if fit else [strangers(file)]
        raise refuse(file, backbone, problems)
    bad = {*fit.missing, *fit.misshapen}
    names = [name for name in fit.naming.sources if name not in bad]
    source = _Lazy(weights.path, fit, names)
    metadata = {
        PREPROCESS_KEY: json.dumps(weights.preprocess.to_json()),
        BACKBONE_KEY: backbone.name,
        SOURCE_KEY: file.metadata.get(SOURCE_KEY, weights.name),  # a copy of a copy is the same
    }
    with replacing(target) as temporary:
        if target.suffix == ".params":
            write_gluon(temporary, source, metadata)
        else:
            shapes = {name: shapes_of(backbone.name)[name] for name in names}
            write_safetensors(temporary, source, shapes, metadata)
        digest = parameter_digest(source)
        if _digest_of(temporary, backbone, names) != digest:
            raise WeightsError(
                f"{target}: what was written is not what was read; is the disk well?"
            )
    return Converted(
        path=target, parameters=len(names), layer=held[-1], omitted=fit.omitted, digest=digest
    )


def with_mean(weights: ResolvedWeights, mean: Path) -> ResolvedWeights:
    """Return weights whose preprocessing has the channel means of Caffe's mean image.

    Raises
    ------
    UsageError
        Their preprocessing is not on BGR from 0 to 255, as such a mean is.
    WeightsError, UnsafeFileError
        The file holds no mean image.
    """
    spec = weights.preprocess
    if spec.channels != "BGR" or spec.scale != 1:
        raise UsageError(
            f"{mean}: a mean of BGR from 0 to 255 does not go with {spec.describe()}; "
            "give --preprocess caffe_bgr or a file of your own"
        )
    channels = mean_of_channels(mean)
    log.warning(
        "%s: of a mean image the means of its channels are taken off, %s (BGR)", mean,
        ", ".join(f"{value:.4g}" for value in channels),
    )  # fmt: skip
    changed = replace(spec, name=mean.stem, mean=channels)
    return replace(weights, preprocess=changed, decided_by="asked for")


def _digest_of(path: Path, backbone: BackboneSpec, names: list[str]) -> str:
    fit = fit_file(open_tensors(path), backbone)
    if fit is None:
        return ""
    return parameter_digest(_Lazy(path, fit, names))


class _Lazy(Mapping[str, Float32]):
    """Canonical parameters, each read and converted whenever it is asked for."""

    def __init__(self, path: Path, fit: Fit, names: list[str]) -> None:
        self._path, self._fit, self._names = path, fit, names

    def __getitem__(self, name: str) -> Float32:
        source = self._fit.naming.sources[name]
        fixed = name in self._fit.ones
        return read_parameter(self._path, name, source, self._fit.tensors, fixed=fixed)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
