"""Convert weights to Gluon's `.params` or to safetensors, with their preprocessing inside."""

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
from probe.weights.load import no_known_names, read_parameter
from probe.weights.open_file import open_tensors
from probe.weights.resolve import (
    BACKBONE_KEY,
    SOURCE_KEY,
    OwnWeights,
    ResolvedWeights,
)
from probe.weights.safetensors_file import write_safetensors
from probe.weights.tensors import PREPROCESS_KEY, Float32

log = logging.getLogger(__name__)

SUFFIXES = (".params", ".safetensors")


@dataclass(frozen=True, kw_only=True)
class Converted:
    """The result of a conversion.

    Parameters
    ----------
    parameters : int
        Number of arrays written.
    layer : str
        The last layer whose parameters are complete.
    omitted : tuple of str
        What the source lacks or was left out of it, for messages.
    digest : str
        `parameter_digest` of the source, which is that of the copy.
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

    One array is in memory at a time. The copy is read again and compared with the source before it
    gets its final name.

    Parameters
    ----------
    weights : ResolvedWeights
        Their preprocessing is written into the copy as `probe.preprocess`.
    target : Path
        ``.params`` (Gluon reads it) or ``.safetensors``.

    Raises
    ------
    UsageError
        The target has another suffix, or exists and `overwrite` is False.
    WeightsError
        The source does not fit the backbone.
    """
    if target.suffix not in SUFFIXES:
        raise UsageError(f"{target}: the name has to end in {' or '.join(SUFFIXES)}")
    if isinstance(weights, OwnWeights):
        raise UsageError(
            f"{weights.name}: only weights of a backbone of `probe backbones list` can be converted"
        )
    if weights.path is None:
        raise UsageError(f"{weights.name}: random weights are not a file that could be converted")
    if target.exists() and not overwrite:
        raise UsageError(f"{target} exists already; --overwrite replaces it")
    file = open_tensors(weights.path)
    fit = fit_file(file, backbone)
    held = holds_layers(file, backbone)
    if fit is None or not held or fit.unknown:
        problems = fit.problems(backbone, backbone.layers[0]) if fit else [no_known_names(file)]
        raise refuse(file, backbone, problems)
    bad = {*fit.missing, *fit.misshapen}
    names = [name for name in fit.naming.sources if name not in bad]
    source = _Lazy(weights.path, fit, names)
    metadata = {
        PREPROCESS_KEY: json.dumps(weights.preprocess.to_json()),
        BACKBONE_KEY: backbone.name,
        SOURCE_KEY: file.metadata.get(SOURCE_KEY, weights.name),  # of a copy its source
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
                f"{target}: the written file differs from the source; check the disk"
            )
    return Converted(
        path=target, parameters=len(names), layer=held[-1], omitted=fit.omitted, digest=digest
    )


def with_mean(weights: ResolvedWeights, mean: Path) -> ResolvedWeights:
    """Return weights whose preprocessing has the channel means of a Caffe mean image.

    Raises
    ------
    UsageError
        Their preprocessing is not in BGR from 0 to 255, as a mean image is.
    WeightsError, UnsafeFileError
        The file is not a mean image.
    """
    spec = weights.preprocess
    if spec.channels != "BGR" or spec.scale != 1:
        raise UsageError(
            f"{mean}: a mean image is in BGR from 0 to 255, unlike {spec.describe()}; "
            "give --preprocess caffe_bgr or a file of your own"
        )
    channels = mean_of_channels(mean)
    log.warning(
        "%s: only the means of the image's channels are subtracted: %s (BGR)", mean,
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
    """A mapping of canonical parameters that are read and converted at each access."""

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
