"""Map a file's tensor names to the backbone's parameter names, and convert their layouts.

Canonical names and shapes are Gluon's structural ones, as `parameter_shapes` lists them. A `Naming`
says for each canonical parameter which tensors of the file it is made of; a family of backbones has
one naming for each convention (torchvision, Keras, Caffe ...) that its weights are published in.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from probe.core.machine import usable_cores
from probe.core.short_repr import short_repr
from probe.weights.tensors import Float32, LazyTensor, Shape, TensorFile

Convert = Callable[[Sequence[LazyTensor]], Float32]
Shapes = Mapping[str, Shape]

TORCH_FORMATS = frozenset({"torch", "safetensors", "onnx"})
GLUON_FORMATS = frozenset({"gluon", "safetensors", "onnx"})
KERAS_FORMATS = frozenset({"keras"})
CAFFE_FORMATS = frozenset({"caffe"})
ONNX_FORMATS = frozenset({"onnx"})

# A large kernel is transposed in tiles of this many numbers (measured). Without the copy into a
# tile all of its rows would map to the same few lines of the processor's cache.
RUN, TILE = 400, 64
MOST_THREADS = 4
GLUON_EPSILON = 1e-5  # of every BatchNorm in the zoo but Inception's


@dataclass(frozen=True)
class Source:
    """Which tensors of a file one canonical parameter is made of, and how.

    Parameters
    ----------
    names : tuple of str
        The tensors' names in the file; empty for a constant.
    shapes : tuple of shapes
        The shapes that these tensors must have.
    convert : callable
        Computes the parameter from the tensors.
    """

    names: tuple[str, ...]
    shapes: tuple[Shape, ...]
    convert: Convert


@dataclass(frozen=True)
class Omission:
    """Tensors that a file may hold and that the network does not use.

    Parameters
    ----------
    pattern : str
        Regular expression for the whole name.
    label : str
        What the user is told; ``{count}`` stands for the number of such tensors.
    """

    pattern: str
    label: str

    def matches(self, name: str) -> bool:
        """Return whether a tensor of that name is one of these."""
        return re.fullmatch(self.pattern, name) is not None


@dataclass(frozen=True, kw_only=True)
class Naming:
    """The tensor names that one publisher uses for the weights of a backbone.

    Parameters
    ----------
    name : str
        The publisher: ``torchvision``, ``timm``, ``keras`` ...
    formats : frozenset of str
        File formats in which these names occur.
    sources : mapping of canonical name to Source
    refusal : str, optional
        Why weights with these names are recognised but must not be loaded.
    unless : callable, optional
        Returns True for a file to which the refusal does not apply.
    key : callable
        Turns a tensor's name in the file into the name that `sources` has.
    note : str
        What else is done to such a file's tensors, for messages.
    """

    __repr__ = short_repr

    name: str
    formats: frozenset[str]
    sources: Mapping[str, Source]
    omissions: tuple[Omission, ...] = ()
    refusal: str | None = None
    unless: Callable[[TensorFile], bool] | None = None
    key: Callable[[str], str] = str
    note: str = ""
    known: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        names = {name for source in self.sources.values() for name in source.names}
        object.__setattr__(self, "known", frozenset(names))


BATCH_COUNTERS = Omission(r".*\.num_batches_tracked", "{count} batch counters left out")


def plain(name: str, shape: Shape, stored: Shape | None = None) -> Source:
    """Return the tensor itself, reshaped from `stored` where that is given."""
    if stored is not None and math.prod(stored) != math.prod(shape):
        raise ValueError(f"{name}: {stored} does not hold as many numbers as {shape}")
    return Source((name,), (stored or shape,), lambda tensors: tensors[0].read().reshape(shape))


def reversed_channels(name: str, shape: Shape) -> Source:
    """Return a convolution on the image with its input channels reversed (BGR to RGB or back)."""

    def convert(tensors: Sequence[LazyTensor]) -> Float32:
        return np.ascontiguousarray(tensors[0].read()[:, ::-1])

    return Source((name,), (shape,), convert)


def constant(value: Float32) -> Source:
    """Return a parameter that has no tensor in the file because that network lacks the layer."""
    return Source((), (), lambda _: value.copy())


def filled(value: float, shape: Shape) -> Source:
    """Return a constant with one value everywhere."""
    return Source((), (), lambda _: np.full(shape, value, np.float32))


def hwio(name: str, shape: Shape) -> Source:
    """Transpose a Keras convolution kernel, (H, W, in, out) -> (out, in, H, W)."""
    out, entered, height, width = shape
    positions = height * width

    def convert(tensors: Sequence[LazyTensor]) -> Float32:
        kernel = tensors[0].read().reshape(positions, entered, out)
        result = np.empty((out, entered * positions), np.float32)
        step = max(1, RUN // positions)
        for first in range(0, entered, step):
            rows = kernel[:, first : first + step].transpose(1, 0, 2)
            _transpose(rows, result[:, first * positions : (first + step) * positions])
        return result.reshape(shape)

    return Source((name,), ((height, width, entered, out),), convert)


def rotated(name: str, shape: Shape) -> Source:
    """Rotate a kernel of Theano's convolution, (out, in, H, W), by 180 degrees."""
    return Source((name,), (shape,), lambda t: np.ascontiguousarray(np.flip(t[0].read(), (2, 3))))


def dense(name: str, shape: Shape) -> Source:
    """Transpose a Keras dense kernel, (in, out) -> (out, in)."""
    return dense_after_map(name, shape, (1, shape[1]))


def dense_after_map(name: str, shape: Shape, map_shape: tuple[int, int]) -> Source:
    """Transpose a Keras dense kernel after a flattened map: HWC rows -> CHW columns.

    A few channels at a time are gathered from every position and transposed in tiles, so that VGG's
    first dense kernel (411 MB) is in memory only once and a tile stays in the processor's cache.

    Parameters
    ----------
    map_shape : (positions, channels)
    """
    out, entered = shape
    positions, channels = map_shape

    def convert(tensors: Sequence[LazyTensor]) -> Float32:
        result = np.empty(shape, np.float32)
        step = max(1, RUN // positions)

        def transpose(first: int) -> None:
            last = min(first + step, channels)
            rows = np.empty((positions, last - first, out), np.float32)
            for p in range(positions):
                tensors[0].rows_into(p * channels + first, rows[p])
            _transpose(rows.transpose(1, 0, 2), result[:, first * positions : last * positions])

        with ThreadPoolExecutor(min(usable_cores(), MOST_THREADS)) as pool:
            for _ in pool.map(transpose, range(0, channels, step)):  # copying releases the GIL
                pass
        return result

    return Source((name,), ((entered, out),), convert)


def _transpose(rows: Float32, into: Float32) -> None:
    """Write (C, P, out) as (out, C * P)."""
    for first in range(0, rows.shape[2], TILE):
        tile = np.ascontiguousarray(rows[:, :, first : first + TILE])
        into[first : first + TILE] = tile.reshape(into.shape[1], -1).T


def shifted_variance(name: str, shape: Shape, stored_epsilon: float, epsilon: float) -> Source:
    """Return a running variance for a BatchNorm with another epsilon: var + eps is unchanged."""
    difference = stored_epsilon - epsilon

    def convert(tensors: Sequence[LazyTensor]) -> Float32:
        return (tensors[0].read().astype(np.float64) + difference).astype(np.float32)

    return Source((name,), (shape,), convert)


def mean_less_bias(mean: str, bias: str, shape: Shape) -> Source:
    """Fold the preceding convolution's bias b into a running mean: mean - b."""
    return Source((mean, bias), (shape, shape), lambda t: t[0].read() - t[1].read())


def negated(name: str, shape: Shape) -> Source:
    """Return the tensor times -1."""
    return Source((name,), (shape,), lambda tensors: -tensors[0].read())


def scaled(name: str, shape: Shape, stored: Shape, factor: float) -> Source:
    """Return the tensor times a number, reshaped from `stored`."""

    def convert(tensors: Sequence[LazyTensor]) -> Float32:
        whole = tensors[0].read().astype(np.float64) * factor
        return whole.astype(np.float32).reshape(shape)

    return Source((name,), (stored,), convert)


_TORCH_LEAF = {"gamma": "weight", "beta": "bias"}


def renamed(
    shapes: Shapes, rename: Callable[[str], str | None], leaves: Mapping[str, str] = _TORCH_LEAF
) -> dict[str, Source]:
    """Return sources for a file that differs from the canonical parameters in names only.

    Parameters
    ----------
    rename : callable
        Canonical module path -> the file's, or None where the file has no such module.
    leaves : mapping of str to str
        Canonical name of a parameter within its module -> the file's, where they differ.
    """
    sources = {}
    for canonical, shape in shapes.items():
        module, _, leaf = canonical.rpartition(".")
        renamed_module = rename(module)
        if renamed_module is not None:
            sources[canonical] = plain(f"{renamed_module}.{leaves.get(leaf, leaf)}", shape)
    return sources


def torch_naming(
    name: str, shapes: Shapes, rename: Callable[[str], str | None], *omissions: Omission
) -> Naming:
    """Return a naming with PyTorch's names of parameters, including those of BatchNorm."""
    return Naming(
        name=name, formats=TORCH_FORMATS, sources=renamed(shapes, rename),
        omissions=(BATCH_COUNTERS, *omissions),
    )  # fmt: skip


# ------------------------------------------------------ norms that an ONNX exporter folded

_SIBLING = {"conv": "bn", "bn": "conv"}  # in blocks that name their children


def folded_naming(
    name: str,
    shapes: Shapes,
    rename: Callable[[str], str | None],
    *,
    epsilon: float = GLUON_EPSILON,
) -> Naming:
    """Return the naming of an ONNX file whose exporter folded norms into convolutions before them.

    Such a norm becomes the identity with the folded bias as its beta. A norm that comes first in
    its block, as in DenseNet, is not folded.

    Parameters
    ----------
    rename : callable
        Canonical module path -> the file's, or None where the file has no such module.
    epsilon : float
        Of the network's norms.
    """
    identity = {"gamma": math.sqrt(1 + epsilon), "running_mean": 0.0, "running_var": 1.0}
    sources: dict[str, Source] = {}
    for canonical, shape in shapes.items():
        module, _, leaf = canonical.rpartition(".")
        conv = _neighbour(module, -1)
        folded = f"{conv}.weight" in shapes and f"{module}.gamma" in shapes
        renamed_module = rename(conv if folded else module)
        if renamed_module is None:
            continue
        if folded and leaf in identity:
            sources[canonical] = filled(identity[leaf], shape)
        elif leaf == "bias" and f"{_neighbour(module, 1)}.gamma" in shapes:
            sources[canonical] = filled(0, shape)  # it is part of the folded bias
        else:
            sources[canonical] = plain(f"{renamed_module}.{_TORCH_LEAF.get(leaf, leaf)}", shape)
    return Naming(name=f"{name} (folded)", formats=ONNX_FORMATS, sources=sources)


def _neighbour(module: str, step: int) -> str:
    """Return the path of the module after (1) or before (-1) one in its block."""
    parent, _, last = module.rpartition(".")
    return f"{parent}.{int(last) + step}" if last.isdigit() else f"{parent}.{_SIBLING.get(last)}"


# ------------------------------------------------------ Keras files that number their layers

UNNAMED = "layers/"  # the reader puts this before the number of a layer without a name


def layers_of(naming: Naming) -> list[str]:
    """Return the layers of a Keras naming in the order of the network's parameters."""
    names = (name for source in naming.sources.values() for name in source.names)
    return list(dict.fromkeys(name.rpartition("/")[0] for name in names))


def counted_naming(naming: Naming, layers: Iterable[str]) -> Naming:
    """Return a Keras naming for files that number their layers instead of naming them.

    Until Keras 3.3 a `.weights.h5` or `.keras` file calls a layer by its class and by how many
    layers of that class come before it in `model.layers`. That list is sorted by the distance to
    the network's output, and then by the order in which the layers were created.

    Parameters
    ----------
    naming : Naming
        The naming of files that name their layers.
    layers : iterable of str
        All layers with weights, in the order of `model.layers`.

    References
    ----------
    keras/src/saving/saving_lib.py: _save_container_state; keras/src/ops/function.py: map_graph.
    """
    kinds = {}
    for source in naming.sources.values():
        for name, shape in zip(source.names, source.shapes, strict=True):
            layer, _, role = name.rpartition("/")
            if role == "kernel":
                kinds[layer] = "conv2d" if len(shape) == 4 else "dense"
            elif role != "bias":
                kinds[layer] = "batch_normalization"
    seen: Counter[str] = Counter()
    counted = {}
    for layer in layers:
        kind = kinds[layer]
        counted[layer] = f"{UNNAMED}{kind}_{seen[kind]}" if seen[kind] else f"{UNNAMED}{kind}"
        seen[kind] += 1

    def numbered(name: str) -> str:
        layer, _, role = name.rpartition("/")
        return f"{counted[layer]}/{role}"

    sources = {
        canonical: replace(source, names=tuple(map(numbered, source.names)))
        for canonical, source in naming.sources.items()
    }
    return replace(naming, name=f"{naming.name} (counted)", sources=sources)
