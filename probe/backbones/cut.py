"""A backbone cut at some layers: its network from pixels to features, its shapes, its cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from probe.backbones.foreign import ForeignBackbone
from probe.backbones.network import GAIN, INPUT, SHIFT, NetworkGraph, Node, Shape, is_statistic
from probe.backbones.spec import IMAGENET, BackboneSpec, Layer, NetworkCost, Pool, classes_of
from probe.preprocess.spec import TORCHVISION, PreprocessSpec

Cuts = Sequence[tuple[Layer, Pool]]


def cut_network(spec: BackboneSpec, cuts: Cuts, preprocess: PreprocessSpec) -> NetworkGraph:
    """Return the network that computes features: (N, S, S, 3) uint8 in, one value a cut out.

    Parameters
    ----------
    cuts : sequence of (Layer, Pool)
        Where it ends, and how the map there is reduced.
    preprocess : PreprocessSpec
        Its arithmetic half becomes the first step.
    """
    network = spec.network(preprocess.size, classes_of(cuts))
    measured = spec.measured([layer for layer, _ in cuts], preprocess.size)
    values = [spec.value(layer, network) for layer, _ in cuts]
    nodes, outputs = list(with_pixels(network, values, preprocess).nodes), list[str]()
    for number, (value, (layer, pool)) in enumerate(zip(values, cuts, strict=True)):
        count = measured[value][0] if layer.kind == "tokens" else 0
        tail = reduction(value, layer, pool, f"cut{number}", tokens=count)
        if network.terms is not None:
            tail.append(_step("cast", tail[-1].output if tail else value, f"cut{number}.cast"))
        nodes += tail
        outputs.append(tail[-1].output if tail else value)
    return NetworkGraph(
        nodes=tuple(nodes), outputs=tuple(outputs), measured=measured, terms=network.terms
    )


def with_pixels(
    network: NetworkGraph, values: Sequence[str], preprocess: PreprocessSpec = TORCHVISION
) -> NetworkGraph:
    """Return the part of a network that leads to some values, behind the preprocessing."""
    front = pixels(preprocess)
    nodes = [front]
    for node in network.leading_to(values):
        inputs = (front.output if one == INPUT else one for one in node.inputs)
        nodes.append(replace(node, inputs=tuple(inputs)))
    return NetworkGraph(nodes=tuple(nodes), outputs=tuple(values), terms=network.terms)


def pixels(preprocess: PreprocessSpec) -> Node:
    """Return the first step: (N, S, S, 3) uint8 -> (N, 3, S, S) float32 as the weights want it."""
    return Node(
        op="pixels", inputs=(INPUT,), output="pixels", name="pixels", tensors=(GAIN, SHIFT),
        settings={"reverse": preprocess.channels == "BGR"},
    )  # fmt: skip


def reduction(value: str, layer: Layer, pool: Pool, name: str, *, tokens: int = 0) -> list[Node]:
    """Return the operations that make features of a layer's value: average, maximum or flatten.

    Parameters
    ----------
    tokens : int
        Of a layer of tokens, how many there are. Their average and maximum are of the patches'.
    """
    steps: list[tuple[str, dict[str, Any]]] = []
    if layer.channels_last:
        steps.append(("permute", {"order": (0, 3, 1, 2)}))
    if layer.kind == "tokens" and pool in ("avg", "max", "cls"):
        places = range(1) if pool == "cls" else range(layer.own_tokens, tokens)
        steps += [("take", {"places": tuple(places)}), ("permute", {"order": (0, 2, 1)})]
    if layer.kind == "gap" or (layer.kind in ("map", "tokens") and pool == "avg"):
        steps.append(("mean", {}))
    elif layer.kind in ("map", "tokens") and pool == "max":
        steps.append(("peak", {}))
    if layer.kind in ("gap", "vector") or pool != "none":
        steps.append(("flatten", {}))
    nodes = []
    for op, settings in steps:
        nodes.append(_step(op, value, f"{name}.{op}", **settings))
        value = nodes[-1].output
    return nodes


def _step(op: str, value: str, output: str, **settings: Any) -> Node:
    return Node(op=op, inputs=(value,), output=output, name=output, settings=settings)


def parameter_shapes(spec: BackboneSpec, classes: int = IMAGENET) -> dict[str, Shape]:
    """Return the shape of every parameter and running statistic by name, the classifier's too."""
    side = spec.input_size
    return spec.network(classes=classes).shapes((1, 3, side, side))[1]


def feature_shapes(spec: BackboneSpec, cuts: Cuts, preprocess: PreprocessSpec) -> list[Shape]:
    """Return the shape of one image's features at each cut, (D,) or (C, H, W).

    Raises
    ------
    ValueError
        A window is larger than the map that it moves over: the images are too small.
    """
    network, side = cut_network(spec, cuts, preprocess), preprocess.size
    values, _ = network.shapes((1, side, side, 3))
    return [values[name][1:] for name in network.outputs]


@lru_cache(maxsize=256)
def network_cost(
    spec: BackboneSpec, cuts: tuple[tuple[Layer, Pool], ...], size: int | None = None
) -> NetworkCost | None:
    """Count parameters and multiply-adds up to the cuts; without cuts, of the whole network.

    None for a network from outside the catalog that nobody can look into.

    Parameters
    ----------
    size : int, optional
        Side of the input in pixels. Default: the native one.
    """
    side = size or spec.input_size
    network = spec.network(side)
    values = [spec.value(layer, network) for layer, _ in cuts] or network.outputs
    network = replace(network, nodes=network.leading_to(values))
    if isinstance(spec, ForeignBackbone):
        return spec.cost(network.nodes, side)
    data = (1, 3, side, side)
    _, shapes = network.shapes(data)
    return NetworkCost(
        parameters=sum(math.prod(s) for name, s in shapes.items() if not is_statistic(name)),
        multiply_adds=network.multiply_adds(data),
    )
