"""The description of a network: its operations, one after another, as plain data.

Every backbone is described once (`probe.backbones.architectures`), and all else follows from the
description: shapes of parameters and features, multiply-adds, the graph that an engine runs, the
comparison with the network that a weight file describes. Nothing here computes a feature or knows
an inference framework.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from typing import Any

Shape = tuple[int, ...]
INPUT = "data"  # the images: (N, S, S, 3) in front of ``pixels``, else (N, 3, S, S)
FOREIGN = ("onnx", "callable")  # operations that only the engine knows
GAIN, SHIFT = "gain", "shift"  # the preprocessing's arithmetic, (1, 3, 1, 1) each
STATISTICS = ("running_mean", "running_var")  # of a norm, behind its gamma and beta


def is_statistic(parameter: str) -> bool:
    """Whether a parameter of that canonical name is a running statistic."""
    return parameter.endswith(STATISTICS)


@dataclass(frozen=True, kw_only=True)
class Node:
    """One operation of a graph.

    Parameters
    ----------
    op : str
        ``conv``, ``dense`` (flattens what it takes), ``norm``, ``clip``, ``pool``, ``mean`` and
        ``peak`` (the largest value) over a whole map, ``add``, ``concat``, ``flatten``, ``pad``,
        ``lrn``, ``dropout``, ``pixels`` (the arithmetic of the preprocessing), ``same`` (changes
        nothing), ``permute`` (another order of axes), ``take`` (some tokens), ``cast`` (another
        number format), ``onnx`` (a node of an ONNX file), ``callable`` (a function of Python). In a
        head also ``subtract`` and ``divide`` (by a stored tensor), ``over`` (a number), ``l2``,
        ``softmax`` and ``sigmoid``. In a weight file's graph also ``times`` and ``plus`` (with a
        stored tensor), ``scale`` and ``shift`` (with a number), ``channel``, or the format's own
        word for what no backbone here does.
    inputs : tuple of str
        Names of the values it takes; one that no node gives is the network's input.
    output : str
        Name of the value it gives.
    name : str
        For people: its place in the network, or what its file calls it.
    settings : mapping of str to object
        All that decides what it computes: sides as pairs, pads as (top, left, bottom, right).
    tensors : tuple of str
        Its parameters in the operation's order, under their canonical names or those of a file.
    width : int, default=0
        Channels that a convolution gives, units of a dense layer; 0 in a file's graph.
    others : tuple of str, default=()
        Names of further values that it gives: nodes of an ONNX file may have several.
    """

    op: str
    inputs: tuple[str, ...]
    output: str
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    tensors: tuple[str, ...] = ()
    width: int = 0
    others: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class OnnxTerms:
    """What the nodes of an ONNX file mean, and how many images they take.

    Parameters
    ----------
    opsets : mapping of domain to version
        Of the operators; the standard ones have the domain "".
    functions : tuple of FunctionProto
        Operators that the file defines.
    ir_version : int
        Of the file format.
    batch : int or None
        The only number of images in a batch that they can take; None for any.
    """

    opsets: Mapping[str, int]
    functions: tuple[Any, ...] = ()
    ir_version: int
    batch: int | None = None


@dataclass(frozen=True, kw_only=True)
class NetworkGraph:
    """A network as a list of operations, each after those whose values it takes.

    Parameters
    ----------
    outputs : tuple of str
        Names of the values that it is run for.
    measured : mapping of str to tuple of int, default={}
        Shapes of one image's values that no rule here gives: those of an ONNX file's nodes.
    terms : OnnxTerms, optional
        Where nodes of an ONNX file are among them.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    measured: Mapping[str, Shape] = field(default_factory=dict)
    terms: OnnxTerms | None = None

    @cached_property
    def blocks(self) -> tuple[int, ...]:
        """The number of nodes up to the end of each block of ``features``.

        The last node of a block gives its value.
        """
        ends: dict[str, int] = {}
        for number, node in enumerate(self.nodes, start=1):
            part, _, rest = node.name.partition(".")
            if part == "features":
                ends[rest.partition(".")[0]] = number
        return tuple(ends.values())

    def block_value(self, blocks: int) -> str:
        """Return the name of the value after so many blocks of ``features``; the input's for 0."""
        return self.nodes[self.blocks[blocks - 1] - 1].output if blocks else INPUT

    def shapes(self, data: Shape) -> tuple[dict[str, Shape], dict[str, Shape]]:
        """Return the shape of each value and of each parameter or running statistic, by name.

        Parameters
        ----------
        data : tuple of int
            Of the input: (N, S, S, 3) where the first node is ``pixels``, else (N, 3, S, S).

        Raises
        ------
        ValueError
            A window is larger than the map that it moves over.
        """
        values, parameters = {INPUT: data}, dict[str, Shape]()
        values |= {name: (data[0], *shape) for name, shape in self.measured.items()}
        for node in self.nodes:
            if node.op in FOREIGN:
                continue
            given = [values[name] for name in node.inputs]
            values[node.output] = _shape(node, given)
            parameters.update(_parameters(node, given[0]))
        return values, parameters

    def leading_to(self, outputs: Iterable[str]) -> tuple[Node, ...]:
        """Return the nodes that some values depend on, in order."""
        wanted, kept = set(outputs), list[Node]()
        for node in reversed(self.nodes):
            if not wanted.isdisjoint((node.output, *node.others)):
                wanted.update(node.inputs)
                kept.append(node)
        return tuple(reversed(kept))

    def part(self, first: int, last: int) -> tuple[Node, ...]:
        """Return the nodes of blocks `first` to `last` of ``features``, the last left out."""
        ends = (0, *self.blocks)
        return self.nodes[ends[first] : ends[last]]

    def multiply_adds(self, data: Shape) -> int:
        """Count the multiply-adds of convolutions and dense layers, as papers do.

        Norms, activations, pools and biases are left out. There are twice as many floating point
        operations.
        """
        values, parameters = self.shapes(data)
        return sum(
            # (C_out, C_in / groups, k, k): every output value takes one product a weight of its row
            math.prod(values[node.output]) * math.prod(parameters[node.tensors[0]][1:])
            for node in self.nodes
            if node.op in ("conv", "dense")
        )


def _shape(node: Node, given: list[Shape]) -> Shape:  # noqa: PLR0911 - a case an operation
    first, settings = given[0], node.settings
    match node.op:
        case "conv":
            return (first[0], node.width, *_sides(node, first[2:]))
        case "pool":
            return (*first[:2], *_sides(node, first[2:]))
        case "dense":
            return (first[0], node.width)
        case "mean" | "peak":
            return (*first[:2], *(1 for _ in first[2:]))
        case "flatten":
            return (first[0], math.prod(first[1:]))
        case "concat":
            return (first[0], sum(one[1] for one in given), *first[2:])
        case "pad":
            top, left, bottom, right = settings["pads"]
            return (*first[:2], first[2] + top + bottom, first[3] + left + right)
        case "pixels":
            return (first[0], first[3], *first[1:3])
        case "permute":
            return tuple(first[axis] for axis in settings["order"])
        case "take":
            return (first[0], len(settings["places"]), *first[2:])
    return first


def _sides(node: Node, sides: Shape) -> Iterator[int]:
    settings = node.settings
    for axis, side in enumerate(sides):
        pads = settings["pads"]
        spare = side + pads[axis] + pads[axis + 2] - settings["kernel"][axis]
        if spare < 0:
            raise ValueError(f"{node.name}: a kernel of {settings['kernel']} on a map of {sides}")
        stride = settings["stride"][axis]
        steps = -(-spare // stride) if settings.get("ceil", False) else spare // stride
        yield steps + 1


def _parameters(node: Node, given: Shape) -> Iterator[tuple[str, Shape]]:
    if node.op == "conv":
        weight = (node.width, given[1] // node.settings["groups"], *node.settings["kernel"])
    elif node.op == "dense":
        weight = (node.width, math.prod(given[1:]))
    else:
        for name in node.tensors:
            yield name, (1, 3, 1, 1) if node.op == "pixels" else (given[1],)
        return
    for name, shape in zip(node.tensors, (weight, (node.width,)), strict=False):
        yield name, shape


class Builder:
    """Describe a network operation by operation; each takes the value of the one before.

    A node's path is what Gluon's structural names of its parameters begin with: ``features.0`` for
    the first block of the network, ``output`` for its classifier.

    Attributes
    ----------
    value : str
        The value that the next operation takes. Assign an earlier one to start a second branch.
    """

    def __init__(self) -> None:
        self.value = INPUT
        self._nodes: list[Node] = []

    def network(self) -> NetworkGraph:
        """Return the described network; its output is the last value."""
        return NetworkGraph(nodes=tuple(self._nodes), outputs=(self.value,))

    def append(self, node: Node) -> str:
        """Append an operation and return the name of its value."""
        self._nodes.append(node)
        self.value = node.output
        return node.output

    def add_node(
        self, op: str, path: str, inputs: Sequence[str] = (), *, tensors: Sequence[str] = (),
        width: int = 0, **settings: Any,
    ) -> str:  # fmt: skip
        """Append an operation at a path and return the name of its value, which is the path."""
        return self.append(
            Node(
                op=op, inputs=tuple(inputs) or (self.value,), output=path, name=path,
                settings=settings, tensors=tuple(tensors), width=width,
            )
        )  # fmt: skip

    def conv(
        self, path: str, width: int, kernel: int | tuple[int, int], stride: int = 1,
        pad: int | tuple[int, int] = 0, *, groups: int = 1, bias: bool = True,
    ) -> str:  # fmt: skip
        """Append a convolution."""
        return self.add_node(
            "conv", path, width=width, tensors=_named(path, "weight", *(["bias"] if bias else [])),
            kernel=_pair(kernel), stride=_pair(stride), pads=_pair(pad) * 2, dilation=(1, 1),
            groups=groups,
        )  # fmt: skip

    def dense(self, path: str, width: int) -> str:
        """Append a fully connected layer."""
        return self.add_node("dense", path, width=width, tensors=_named(path, "weight", "bias"))

    def norm(self, path: str, epsilon: float = 1e-5, *, fixed: bool = False) -> str:
        """Append a batch norm over running statistics; `fixed`: gamma counts as 1."""
        tensors = _named(path, "gamma", "beta", *STATISTICS)
        return self.add_node("norm", path, tensors=tensors, epsilon=epsilon, fixed=fixed)

    def relu(self, path: str, high: float = math.inf) -> str:
        """Append a ReLU, or with `high` = 6 a ReLU6."""
        return self.add_node("clip", path, low=0, high=high)

    def pool(
        self, path: str, kind: str, kernel: int, stride: int | None = None, pad: int = 0, *,
        ceil: bool = False, include_pad: bool = True,
    ) -> str:  # fmt: skip
        """Append a ``max`` or ``avg`` pool, by default with the stride of its kernel."""
        return self.add_node(
            "pool", path, kind=kind, kernel=_pair(kernel), stride=_pair(stride or kernel),
            pads=_pair(pad) * 2, ceil=ceil, include_pad=include_pad,
        )  # fmt: skip

    def mean(self, path: str) -> str:
        """Append a global average pool."""
        return self.add_node("mean", path, axes=(2, 3))

    def concat(self, path: str, *values: str) -> str:
        """Append a concatenation of channels."""
        return self.add_node("concat", path, values, axis=1)

    def add(self, path: str, first: str, second: str) -> str:
        """Append a sum of two values."""
        return self.add_node("add", path, (first, second))

    def flatten(self, path: str) -> str:
        """Append the flattening of maps to vectors."""
        return self.add_node("flatten", path)

    def dropout(self, path: str) -> str:
        """Append a dropout of half of the values, which only training applies."""
        return self.add_node("dropout", path, p=0.5)


def places(path: str) -> Iterator[str]:
    """Yield the paths of a block's children: ``path.0``, ``path.1`` ..."""
    return (f"{path}.{number}" for number in count())


def _named(path: str, *leaves: str) -> list[str]:
    return [f"{path}.{leaf}" for leaf in leaves]


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)
