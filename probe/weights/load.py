"""From a weight file to the parameters of a cut network: all of them, or an error.

Random parameters, for runs that want the architecture alone and for tests, are made here, too.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from probe.backbones.spec import BackboneSpec, Layer, is_logits
from probe.core.memo import Memo, stamp_of
from probe.core.records import loads_json
from probe.errors import WeightsError
from probe.weights.digest import parameter_digest
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

CONVERSION = 3  # to be raised when the same file gives other parameters than before
VARIANCE = "running_var"  # how the canonical name of one ends


@dataclass(frozen=True)
class Loaded:
    """The parameters of a cut network.

    Parameters
    ----------
    parameters : mapping of canonical name to float32 array
        Exactly those that the network uses, sorted by name.
    omitted : tuple of str
        What the file lacks or holds beside them, for people.
    digest : str
        Of the parameters, see `parameter_digest`.
    """

    parameters: Mapping[str, Float32]
    omitted: tuple[str, ...]
    digest: str


def load_parameters(path: Path, backbone: BackboneSpec, layer: Layer) -> Loaded:
    """Read everything that the network cut at `layer` uses, converted to Gluon's layouts.

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
        A parameter is missing, of another shape, not finite, or a tensor is left over; the message
        lists the first few and names the backbone that the file fits, if any.
    UnsafeFileError
        The file wants to run code or claims more than it holds.
    """
    file = open_tensors(path)
    fit = _fit_to(file, backbone, layer)
    if fit is None:
        raise refuse(file, backbone, [strangers(file)])
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
    """Return the fit of a file; of its own classifier where that many classes are asked for."""
    if is_logits(layer.name):
        found = fit_classifier(file, backbone)
        if found is not None and found[1] == layer.width:
            return found[0]
    return fit_file(file, backbone)


def random_parameters(seed: int, backbone: BackboneSpec, layer: Layer) -> Loaded:
    """Draw the parameters that the network cut at `layer` uses, as `load_parameters` reads them."""
    shapes = {
        name: shape
        for name, shape in shapes_of(backbone.name).items()
        if backbone.uses(layer, name)
    }
    parameters = initial_parameters(shapes, seed)
    return Loaded(parameters, ("random parameters",), parameter_digest(parameters))


def weights_digest(path: Path, backbone: BackboneSpec, layer: Layer, memo: Memo) -> str:
    """Return the digest of `load_parameters`, from the memo where the file is as it was.

    A hit neither reads the file nor imports MXNet.

    Raises
    ------
    WeightsError, UnsafeFileError
        As `load_parameters`.
    """
    kind = f"parameters:{backbone.name}:{layer.name}:{CONVERSION}{_beside(path)}"
    return _remembered(path, kind, memo, lambda: load_parameters(path, backbone, layer).digest)


def random_digest(seed: int, backbone: BackboneSpec, layer: Layer, memo: Memo) -> str:
    """Return the digest of `random_parameters`, from the memo where it is known."""
    kind, place = f"parameters:{backbone.name}:{layer.name}:{CONVERSION}", f"random:{seed}"
    stamp = (0, 0, 0, 0)  # there is no file that could change
    known = memo.get_many(kind, {place: stamp}).get(place)
    if known is not None:
        return known.decode()
    digest = random_parameters(seed, backbone, layer).digest
    memo.put_many(kind, [(place, stamp, digest.encode())])
    return digest


def held_layers(path: Path, backbone: BackboneSpec, memo: Memo) -> tuple[str, ...]:
    """Return what `require_layers` says of a file, from the memo where the file is as it was.

    Raises
    ------
    WeightsError, UnsafeFileError
        As `open_tensors` and `require_layers`.
    """

    def look() -> str:
        return json.dumps(require_layers(open_tensors(path), backbone))

    kind = f"layers:{backbone.name}:{CONVERSION}{_beside(path)}"
    return tuple(loads_json(_remembered(path, kind, memo, look)))


def require_layers(file: TensorFile, backbone: BackboneSpec) -> tuple[str, ...]:
    """Return what `holds_layers` says, which must not be nothing.

    Raises
    ------
    WeightsError
        The file holds no layer completely; says why.
    """
    held = holds_layers(file, backbone)
    if not held:
        fit = fit_file(file, backbone)
        first = backbone.layers[0]
        raise refuse(
            file, backbone, [strangers(file)] if fit is None else fit.problems(backbone, first)
        )
    return held


def _beside(path: Path) -> str:
    """What is to be remembered with a file because another one beside it is read, too."""
    try:
        return f":{stamp_of(symbol_of(path))}"
    except OSError:
        return ""


def _remembered(path: Path, kind: str, memo: Memo, compute: Callable[[], str]) -> str:
    place = str(path.resolve())
    try:
        stamp = stamp_of(place)
    except OSError:
        return compute()  # which says what is wrong with the path
    known = memo.get_many(kind, {place: stamp}).get(place)
    if known is not None:
        return known.decode()
    value = compute()
    memo.put_many(kind, [(place, stamp, value.encode())])
    return value


def strangers(file: TensorFile) -> str:
    """Return what to say of a file none of whose names is known."""
    names = ", ".join(list(file.tensors)[:3]) or "nothing"
    return f"none of its {len(file.tensors)} tensors is called as expected ({names} ...)"


def read_parameter(
    path: Path, canonical: str, source: Source, tensors: Mapping[str, LazyTensor], *,
    fixed: bool = False,
) -> Float32:  # fmt: skip
    """Return one parameter, converted, after seeing that a network can have it.

    Parameters
    ----------
    fixed : bool, default=False
        The backbone takes it for 1 whatever is stored, and the file's network does not.

    Raises
    ------
    WeightsError
        It holds NaN or infinity, or is a variance below 0: a square root of that is NaN, and the
        ReLU behind makes it 0, so that nobody would see it in the features. Or it is fixed and
        not 1.
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
            f"{path}: {canonical} holds factors other than 1, with which its network multiplies "
            "and the backbone does not; its network is another"
        )
    if canonical.endswith(VARIANCE):
        for name, tensor in zip(source.names, stored, strict=True):
            below = int((tensor.read() < 0).sum())
            if below:
                raise WeightsError(
                    f"{path}: {name} holds {below} of {array.size} variances below 0, which no "
                    "network has; the file is damaged or was written wrongly"
                )
    return array


def _from(canonical: str, source: Source) -> str:
    """Where a parameter comes from, where its file has another name for it."""
    return "" if source.names in ((), (canonical,)) else f", made of {' and '.join(source.names)}"


_CONSTANT = {"gamma": 1.0, "beta": 0.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}


def initial_parameters(shapes: Mapping[str, Shape], seed: int) -> dict[str, Float32]:
    """Draw He-normal weights, each from a generator of its own, so that a cut changes none.

    BatchNorms start as the identity and biases at 0.

    Parameters
    ----------
    shapes : mapping of canonical name to shape
    seed : int
        From 0 up.

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
