"""Parameters and multiply-adds of a network as it is cut, counted on its graph."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from probe.backbones.catalog import BACKBONES
from probe.backbones.spec import Layer, Pool
from probe.preprocess.spec import TORCHVISION

WEIGHED = ("Convolution", "FullyConnected")


@dataclass(frozen=True, kw_only=True)
class NetworkCost:
    """What one image costs.

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
    """Count a backbone cut at some layers, or whole, with its classifier, where there are none.

    Parameters
    ----------
    size : int, optional
        Side of the input in pixels. Default: the native one.
    """
    from probe.engines.mxnet.mx import mx
    from probe.engines.mxnet.network import CutNetwork, build

    spec = BACKBONES[backbone]
    side = size or spec.input_size
    net, data = build(spec, side), mx.sym.var("data")
    if not cuts:
        return count_graph(net(data), (1, 3, side, side))
    network = CutNetwork(net, cuts, TORCHVISION.with_size(side))
    return count_graph(mx.sym.Group(network(data)), (1, side, side, 3))


def count_graph(symbol: Any, shape: Sequence[int]) -> NetworkCost:
    """Count a symbol whose one input is `data`."""
    arguments, _, _ = symbol.infer_shape(data=tuple(shape))
    shapes = dict(zip(symbol.list_arguments(), arguments, strict=True))
    internals = symbol.get_internals()
    _, outputs, _ = internals.infer_shape(data=tuple(shape))
    produced = dict(zip(internals.list_outputs(), outputs, strict=True))
    nodes = json.loads(symbol.tojson())["nodes"]
    learnt, total = {}, 0
    for node in nodes:
        for index, *_ in node["inputs"]:
            name = nodes[index]["name"]
            if nodes[index]["op"] == "null" and name in shapes and _is_learnt(node, name):
                learnt[name] = math.prod(shapes[name])
        if node["op"] in WEIGHED:
            weight = shapes[nodes[node["inputs"][1][0]]["name"]]
            # (C_out, C_in / groups, k, k): every output value takes one product a weight of its row
            total += math.prod(produced[f"{node['name']}_output"]) * math.prod(weight[1:])
    return NetworkCost(parameters=sum(learnt.values()), multiply_adds=total)


def _is_learnt(node: dict[str, Any], name: str) -> bool:
    """Whether an input of a node is a parameter: not the images, nor preprocessing's constants."""
    return node["op"] in (*WEIGHED, "BatchNorm") and name != "data"
