"""Load the parameters of a network up to a layer from a weight file, or draw random ones.

A file must have all of these parameters; otherwise it is refused.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from probe.backbones.spec import BackboneSpec, Layer, is_logits
from probe.core.memo import Memo, stamp_of
from probe.core.records import loads_json
from probe.core.short_repr import short_repr
from probe.core.text import counted
from probe.errors import WeightsError
from probe.preprocess.published import config_file_of
from probe.weights.digest import parameter_digest, remembered
from probe.weights.fit import (
    Fit,
    fit_classifier,
    fit_file,
    holds_layers,
    refuse,
    shapes_of,
)
from probe.weights.gluon_file import symbol_of
from probe.weights.naming import Source
from probe.weights.open_file import open_tensors
from probe.weights.tensors import Float32, LazyTensor, Shape, TensorFile

CONVERSION = 3  # increase it when the same file gives other parameters than before
VARIANCE = "running_var"  # the end of a variance's canonical name


@dataclass(frozen=True)
class Loaded:
    """The parameters of a network up to a layer.

    Parameters
    ----------
    parameters : mapping of canonical name to float32 array
        Exactly the parameters that the layer needs, sorted by name.
    omitted : tuple of str
        What the file lacks or was left out of it, for messages.
    digest : str
        `parameter_digest` of the parameters.
    """

    __repr__ = short_repr

    parameters: Mapping[str, Float32]
    omitted: tuple[str, ...]
    digest: str


def load_parameters(path: Path, backbone: BackboneSpec, layer: Layer) -> Loaded:
    """Read the parameters of the network up to a layer, converted to Gluon's layouts.

    Parameters
    ----------
    path : Path
        A weight file of any known format.

    Returns
    -------
    Loaded
        parameters : float32, C-contiguous, shapes as `parameter_shapes` lists them.

    Raises
    ------
    WeightsError
        A parameter is missing, has another shape or is not finite, or a tensor is left over. The
        message lists the first few and names the backbones that the file fits.
    UnsafeFileError
        The file asks for code to be run, or describes more data than it holds.
    """
    file = open_tensors(path)
    fit = _fit_to(file, backbone, layer)
    if fit is None:
        raise refuse(file, backbone, [no_known_names(file)])
    if problems := fit.problems(backbone, layer):
        raise refuse(file, backbone, problems)
    parameters = {}
    for canonical in sorted(fit.naming.sources):
        if backbone.uses(layer, canonical):
            source = fit.naming.sources[canonical]
            parameters[canonical] = read_parameter(
                path, canonical, source, fit.tensors, fixed=canonical in fit.ones
            )
    return Loaded(parameters, fit.omitted, parameter_digest(parameters))


def _fit_to(file: TensorFile, backbone: BackboneSpec, layer: Layer) -> Fit | None:
    """Return the fit of a file, with its own classifier if `layer` has that many classes."""
    if is_logits(layer.name):
        found = fit_classifier(file, backbone)
        if found is not None and found[1] == layer.width:
            return found[0]
    return fit_file(file, backbone)


def random_parameters(seed: int, backbone: BackboneSpec, layer: Layer) -> Loaded:
    """Draw random parameters of the network up to a layer."""
    shapes = {
        name: shape
        for name, shape in shapes_of(backbone.name).items()
        if backbone.uses(layer, name)
    }
    parameters = initial_parameters(shapes, seed)
    return Loaded(parameters, ("random parameters",), parameter_digest(parameters))


def weights_digest(
    path: Path, backbone: BackboneSpec, layer: Layer, memo: Memo,
    load: Callable[[], Loaded] | None = None,
) -> str:  # fmt: skip
    """Return the digest of `load_parameters`, from the memo if the file has not changed.

    If it is in the memo, the file is not read and MXNet is not imported.

    Parameters
    ----------
    load : callable, optional
        What `load_parameters` returns; the caller may keep it.

    Raises
    ------
    WeightsError, UnsafeFileError
        As `load_parameters`.
    """
    kind = f"parameters:{backbone.name}:{layer.name}:{CONVERSION}{_beside(path)}"
    load = load or (lambda: load_parameters(path, backbone, layer))
    return remembered(path, kind, memo, lambda: load().digest)


def random_digest(seed: int, backbone: BackboneSpec, layer: Layer, memo: Memo) -> str:
    """Return the digest of `random_parameters`, from the memo if it is there."""
    kind, place = f"parameters:{backbone.name}:{layer.name}:{CONVERSION}", f"random:{seed}"
    stamp = (0, 0, 0, 0)  # there is no file that could change
    known = memo.get_many(kind, {place: stamp}).get(place)
    if known is not None:
        return known.decode()
    digest = random_parameters(seed, backbone, layer).digest
    memo.put_many(kind, [(place, stamp, digest.encode())])
    return digest


def held_layers(path: Path, backbone: BackboneSpec, memo: Memo) -> tuple[str, ...]:
    """Return the complete layers of a file (`require_layers`), from the memo if it is unchanged.

    Raises
    ------
    WeightsError, UnsafeFileError
        As `open_tensors` and `require_layers`.
    """

    def compute() -> str:
        return json.dumps(require_layers(open_tensors(path), backbone))

    kind = f"layers:{backbone.name}:{CONVERSION}{_beside(path)}"
    return tuple(loads_json(remembered(path, kind, memo, compute)))


def require_layers(file: TensorFile, backbone: BackboneSpec) -> tuple[str, ...]:
    """Return the layers whose parameters are complete, of which there must be one.

    Raises
    ------
    WeightsError
        The file holds no layer completely; the message says why.
    """
    held = holds_layers(file, backbone)
    if not held:
        fit = fit_file(file, backbone)
        first = backbone.layers[0]
        raise refuse(
            file, backbone, [no_known_names(file)] if fit is None else fit.problems(backbone, first)
        )
    return held


def _beside(path: Path) -> str:
    """Return the stamps of what is read with a file: MXNet's symbol, and config.json."""
    stamps = ""
    for beside in (symbol_of(path), config_file_of(path)):
        with suppress(OSError):
            stamps += f":{stamp_of(beside)}"
    return stamps


def no_known_names(file: TensorFile) -> str:
    """Return the message on a file of which no tensor's name is known."""
    names = ", ".join(list(file.tensors)[:3]) or "nothing"
    return f"none of its {counted(len(file.tensors), 'tensor')} has an expected name ({names} ...)"


def read_parameter(
    path: Path, canonical: str, source: Source, tensors: Mapping[str, LazyTensor], *,
    fixed: bool = False,
) -> Float32:  # fmt: skip
    """Read and convert one parameter, and check its numbers.

    Parameters
    ----------
    fixed : bool, default=False
        Whether the backbone fixes this factor to 1 and the file's network does not.

    Raises
    ------
    WeightsError
        It holds NaN or infinity, or a variance below 0, whose square root is NaN; a ReLU would turn
        that into 0, so that the features would not show it. Or it is fixed and not 1.
    """
    stored = [tensors[name] for name in source.names]
    array = source.convert(stored)
    # the extremes of an array with a NaN are NaN; unlike isfinite they need no memory of its size
    with np.errstate(invalid="ignore"):
        finite = array.size == 0 or bool(np.isfinite(array.min()) and np.isfinite(array.max()))
    if not finite:
        bad = array.size - sum(int(np.isfinite(row).sum()) for row in array)
        raise WeightsError(
            f"{path}: {canonical} holds NaN or infinity in {bad} of {array.size} numbers"
            f"{_from(canonical, source)}; training diverged or the file is damaged"
        )
    if fixed and (array != 1).any():
        raise WeightsError(
            f"{path}: {canonical} holds factors other than 1, which the backbone does not have; "
            "the file's network is another"
        )
    if canonical.endswith(VARIANCE):
        for name, tensor in zip(source.names, stored, strict=True):
            below = int((tensor.read() < 0).sum())
            if below:
                raise WeightsError(
                    f"{path}: {name} holds {below} of {array.size} variances below 0; the file is "
                    "damaged or was written wrongly"
                )
    return array


def _from(canonical: str, source: Source) -> str:
    """Return the file's names of a parameter for a message, if they differ."""
    return "" if source.names in ((), (canonical,)) else f", made of {' and '.join(source.names)}"


_CONSTANT = {"gamma": 1.0, "beta": 0.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}


def initial_parameters(shapes: Mapping[str, Shape], seed: int) -> dict[str, Float32]:
    """Draw He-normal weights; BatchNorms are the identity and biases 0.

    Each weight has its own generator, so that it does not depend on which others are drawn.

    Parameters
    ----------
    shapes : mapping of canonical name to shape
    seed : int
        At least 0.

    References
    ----------
    He et al., Delving deep into rectifiers, arXiv:1502.01852, equation 10.
    """
    return {name: _draw(name, shape, seed) for name, shape in sorted(shapes.items())}


def _draw(name: str, shape: Shape, seed: int) -> Float32:
    leaf = name.rpartition(".")[2]
    if leaf in _CONSTANT:
        return np.full(shape, _CONSTANT[leaf], np.float32)
    entropy = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
    generator = np.random.Generator(np.random.PCG64([seed, entropy]))
    deviation = np.float32(math.sqrt(2 / math.prod(shape[1:])))
    return generator.standard_normal(shape, dtype=np.float32) * deviation
