"""From the names in a file to the canonical ones: what every family's mapping is written in.

Canonical names and shapes are Gluon's structural ones, as `parameter_shapes` lists them. A naming
says for each of them where it comes from; a family has one naming for each way that its weights
are called in the world.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from probe.core.machine import usable_cores
from probe.weights.tensors import Float32, LazyTensor, Shape, TensorFile

Convert = Callable[[Sequence[LazyTensor]], Float32]
Shapes = Mapping[str, Shape]

TORCH_FORMATS = frozenset({"torch", "safetensors", "onnx"})
GLUON_FORMATS = frozenset({"gluon", "safetensors", "onnx"})
KERAS_FORMATS = frozenset({"keras"})
CAFFE_FORMATS = frozenset({"caffe"})
ONNX_FORMATS = frozenset({"onnx"})

# A large kernel is transposed in tiles of so many numbers either way; measured. Without the copy
# into a tile all of its rows would fall on the same few lines of the processor's cache.
RUN, TILE = 400, 64
MOST_THREADS = 4
GLUON_EPSILON = 1e-5  # of every BatchNorm in the zoo but Inception's


@dataclass(frozen=True)
class Source:
    """Where one canonical parameter comes from.

    Parameters
    ----------
    names : tuple of str
        Tensors of the file that it is made of; none for a constant.
    shapes : tuple of shapes
        What those must have.
    convert : callable
        Makes the parameter of the tensors.
    """

    names: tuple[str, ...]
    shapes: tuple[Shape, ...]
    convert: Convert


@dataclass(frozen=True)
class Omission:
    """Tensors that a file may hold and the network has no use for, or the reverse.

    Parameters
    ----------
    pattern : str
        Regular expression for the whole name.
    label : str
        How the omission is told, with ``{count}`` for how many there are.
    """

    pattern: str
    label: str

    def matches(self, name: str) -> bool:
        """Whether a tensor of that name is meant."""
        return re.fullmatch(self.pattern, name) is not None


@dataclass(frozen=True, kw_only=True)
class Naming:
    """One way in which the weights of a backbone are called.

    Parameters
    ----------
    name : str
        Who calls them so: ``torchvision``, ``timm``, ``keras`` ...
    formats : frozenset of str
        File formats in which these names occur.
    sources : mapping of canonical name to Source
    omissions : tuple of Omission
    refusal : str, optional
        Why weights of these names must not be loaded although they can be recognised.
    unless : callable, optional
        Looks at a file for what takes the refusal back.
    key : callable
        What to make of a file's name before looking it up in `sources`.
    note : str
        What else is done to such a file's tensors, for people.
    """

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
    """The tensor as it is, or reshaped from `stored` where only ones or a flattening differ."""
    if stored is not None and math.prod(stored) != math.prod(shape):
        raise ValueError(f"{name}: {stored} does not hold as many numbers as {shape}")
    return Source((name,), (stored or shape,), lambda tensors: tensors[0].read().reshape(shape))


def other_way_round(name: str, shape: Shape) -> Source:
    """A convolution on the image whose input channels are stored the other way round."""

    def convert(tensors: Sequence[LazyTensor]) -> Float32:
        return np.ascontiguousarray(tensors[0].read()[:, ::-1])

    return Source((name,), (shape,), convert)


def constant(value: Float32) -> Source:
    """A parameter that the file does not hold, since its network has nothing there."""
    return Source((), (), lambda _: value.copy())


def filled(value: float, shape: Shape) -> Source:
    """A constant with the same value everywhere."""
    return Source((), (), lambda _: np.full(shape, value, np.float32))


def hwio(name: str, shape: Shape) -> Source:
    """A Keras convolution kernel, (H, W, in, out) -> (out, in, H, W)."""
    out, entered, height, width = shape
    positions = height * width

    def convert(tensors: Sequence[LazyTensor]) -> Float32:
        kernel = tensors[0].read().reshape(positions, entered, out)
        result = np.empty((out, entered * positions), np.float32)
        step = max(1, RUN // positions)
        for first in range(0, entered, step):
            rows = kernel[:, first : first + step].transpose(1, 0, 2)
            _turn(rows, result[:, first * positions : (first + step) * positions])
        return result.reshape(shape)

    return Source((name,), ((height, width, entered, out),), convert)


def turned(name: str, shape: Shape) -> Source:
    """A kernel of Theano's convolution, (out, in, H, W), turned by 180 degrees."""
    return Source((name,), (shape,), lambda t: np.ascontiguousarray(np.flip(t[0].read(), (2, 3))))


def dense(name: str, shape: Shape) -> Source:
    """A Keras dense kernel, (in, out) -> (out, in)."""
    return dense_after_map(name, shape, (1, shape[1]))


def dense_after_map(name: str, shape: Shape, map_shape: tuple[int, int]) -> Source:
    """A Keras dense kernel behind a flattened map: rows in HWC order -> columns in CHW order.

    A few channels are gathered at a time from every position and turned around in tiles: VGG's
    first one, 411 MB, is then in memory once only, and a tile stays in the processor's cache.

    Parameters
    ----------
    map_shape : (positions, channels)
    """
    out, entered = shape
    positions, channels = map_shape

    def convert(tensors: Sequence[LazyTensor]) -> Float32:
        result = np.empty(shape, np.float32)
        step = max(1, RUN // positions)

        def turn(first: int) -> None:
            last = min(first + step, channels)
            rows = np.empty((positions, last - first, out), np.float32)
            for p in range(positions):
                tensors[0].rows_into(p * channels + first, rows[p])
            _turn(rows.transpose(1, 0, 2), result[:, first * positions : last * positions])

        with ThreadPoolExecutor(min(usable_cores(), MOST_THREADS)) as pool:
            for _ in pool.map(turn, range(0, channels, step)):  # copying lets the interpreter go
                pass
        return result

    return Source((name,), ((entered, out),), convert)


def _turn(rows: Float32, into: Float32) -> None:
    """Write (C, P, out) as (out, C * P)."""
    for first in range(0, rows.shape[2], TILE):
        tile = np.ascontiguousarray(rows[:, :, first : first + TILE])
        into[first : first + TILE] = tile.reshape(into.shape[1], -1).T


def shifted_variance(name: str, shape: Shape, stored_epsilon: float, epsilon: float) -> Source:
    """A running variance for a BatchNorm with another epsilon: var + eps stays what it was."""
    difference = stored_epsilon - epsilon

    def convert(tensors: Sequence[LazyTensor]) -> Float32:
        return (tensors[0].read().astype(np.float64) + difference).astype(np.float32)

    return Source((name,), (shape,), convert)


def mean_less_bias(mean: str, bias: str, shape: Shape) -> Source:
    """A running mean that takes in the bias of the convolution before: BN(x + b) by mean - b."""
    return Source((mean, bias), (shape, shape), lambda t: t[0].read() - t[1].read())


def negated(name: str, shape: Shape) -> Source:
    """The tensor times -1."""
    return Source((name,), (shape,), lambda tensors: -tensors[0].read())


def scaled(name: str, shape: Shape, stored: Shape, factor: float) -> Source:
    """The tensor times a number, reshaped."""

    def convert(tensors: Sequence[LazyTensor]) -> Float32:
        whole = tensors[0].read().astype(np.float64) * factor
        return whole.astype(np.float32).reshape(shape)

    return Source((name,), (stored,), convert)


_TORCH_LEAF = {"gamma": "weight", "beta": "bias"}


def renamed(
    shapes: Shapes, rename: Callable[[str], str | None], leaves: Mapping[str, str] = _TORCH_LEAF
) -> dict[str, Source]:
    """Return plain sources where only the module's and the parameter's names differ.

    Parameters
    ----------
    rename : callable
        Canonical module path -> the file's, or None where the file has no such module.
    leaves : mapping of str to str
        Names of the parameters themselves, where they differ.
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
    """Return a naming for torch's parameter names, BatchNorm's included."""
    return Naming(
        name=name, formats=TORCH_FORMATS, sources=renamed(shapes, rename),
        omissions=(BATCH_COUNTERS, *omissions),
    )  # fmt: skip
