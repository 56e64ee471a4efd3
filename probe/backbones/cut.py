"""A backbone cut at some layers: its network from pixels to features, its shapes, its cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from probe.backbones.catalog import BACKBONES
from probe.backbones.network import GAIN, INPUT, SHIFT, NetworkGraph, Node, Shape, is_statistic
from probe.backbones.spec import IMAGENET, BackboneSpec, Layer, Pool, classes_of, is_logits, last_of
from probe.preprocess.spec import PreprocessSpec

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
    front = pixels(preprocess)
    whole = any(is_logits(layer.name) for layer, _ in cuts)
    kept = network.nodes if whole else network.part(0, last_of(cuts).after)
    nodes = [front]
    for node in kept:
        inputs = (front.output if one == INPUT else one for one in node.inputs)
        nodes.append(replace(node, inputs=tuple(inputs)))
    outputs = []
    for number, (layer, pool) in enumerate(cuts):
        logits = is_logits(layer.name)
        value = network.outputs[0] if logits else network.block_value(layer.after)
        tail = reduction(value, layer, pool, f"cut{number}")
        nodes += tail
        outputs.append(tail[-1].output if tail else value)
    return NetworkGraph(nodes=tuple(nodes), outputs=tuple(outputs))


def pixels(preprocess: PreprocessSpec) -> Node:
    """Return the first step: (N, S, S, 3) uint8 -> (N, 3, S, S) float32 as the weights want it."""
    return Node(
        op="pixels", inputs=(INPUT,), output="pixels", name="pixels", tensors=(GAIN, SHIFT),
        settings={"reverse": preprocess.channels == "BGR"},
    )  # fmt: skip


def reduction(value: str, layer: Layer, pool: Pool, name: str) -> list[Node]:
    """Return the operations that make features of a layer's value: average, maximum or flatten."""
    ops = ["flatten"]
    if layer.kind == "gap" or (layer.kind == "map" and pool == "avg"):
        ops = ["mean", "flatten"]
    elif layer.kind == "map" and pool != "flatten":
        ops = ["peak", "flatten"] if pool == "max" else []
    nodes = []
    for op in ops:
        output = f"{name}.{op}"
        nodes.append(Node(op=op, inputs=(value,), output=output, name=output))
        value = output
    return nodes


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


@dataclass(frozen=True, kw_only=True)
class NetworkCost:
    """The cost of one image.

    Parameters
    ----------
    parameters : int
        Without running statistics.
    multiply_adds : int
        Of convolutions and fully connected layers, as papers count them: norms, activations, pools
        and biases are left out. Twice as many floating point operations.
    """

    parameters: int
    multiply_adds: int


@lru_cache(maxsize=256)
def network_cost(
    backbone: str, cuts: tuple[tuple[Layer, Pool], ...], size: int | None = None
) -> NetworkCost:
    """Count parameters and multiply-adds up to the deepest cut; without cuts, of the whole network.

    Parameters
    ----------
    size : int, optional
        Side of the input in pixels. Default: the native one.
    """
    spec = BACKBONES[backbone]
    side = size or spec.input_size
    network = spec.network(side)
    if cuts and not any(is_logits(layer.name) for layer, _ in cuts):
        network = replace(network, nodes=network.part(0, last_of(cuts).after))
    data = (1, 3, side, side)
    _, shapes = network.shapes(data)
    return NetworkCost(
        parameters=sum(math.prod(s) for name, s in shapes.items() if not is_statistic(name)),
        multiply_adds=network.multiply_adds(data),
    )
