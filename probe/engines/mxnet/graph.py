"""Translate a network to MXNet's operators, and to the JSON that MXNet's library runs.

Nothing here needs MXNet.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from probe.backbones.network import NetworkGraph, Node, Shape, is_statistic

MXNET = ["int", 10901]  # the version that the operators' attributes are written for


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One operator of MXNet.

    Parameters
    ----------
    inputs : tuple of str
        Names of values, parameters and running statistics.
    attributes : mapping of str to text
        As MXNet's JSON has them.
    """

    op: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Symbol:
    """A network as MXNet's JSON.

    Parameters
    ----------
    text : str
        Variables have the parameters' canonical names.
    arguments, states : mapping of name to shape
        What it has to be given beside the images: parameters and the preprocessing's arithmetic;
        running statistics.
    """

    text: str
    arguments: Mapping[str, Shape]
    states: Mapping[str, Shape]
    outputs: int


def symbol_of(network: NetworkGraph, data: Shape) -> Symbol:
    """Return a network in MXNet's JSON, for an input of that shape."""
    _, shapes = network.shapes(data)
    return Symbol(
        text=symbol_json(network, shapes),
        arguments={name: shape for name, shape in shapes.items() if not is_statistic(name)},
        states={name: shape for name, shape in shapes.items() if is_statistic(name)},
        outputs=len(network.outputs),
    )


def symbol_json(network: NetworkGraph, shapes: Mapping[str, Shape]) -> str:
    """Return MXNet's JSON of a network; variables whose shapes are given say them."""
    nodes: list[dict[str, Any]] = []
    numbers: dict[str, int] = {}

    def entry(name: str) -> list[int]:
        if name not in numbers:
            numbers[name] = len(nodes)
            said = {"attrs": {"__shape__": str(shapes[name])}} if name in shapes else {}
            nodes.append({"op": "null", "name": name, "inputs": [], **said})
        return [numbers[name], 0, int(is_statistic(name))]  # 1: what training would change

    for operator in operators(network):
        inputs = [entry(name) for name in operator.inputs]
        numbers[operator.output] = len(nodes)
        nodes.append(
            {
                "op": operator.op, "name": operator.output, "attrs": dict(operator.attributes),
                "inputs": inputs,
            }
        )  # fmt: skip
    return json.dumps(
        {
            "nodes": nodes,
            "arg_nodes": [number for number, node in enumerate(nodes) if node["op"] == "null"],
            "heads": [[numbers[name], 0, 0] for name in network.outputs],
            "attrs": {"mxnet_version": MXNET},
        }
    )


def operators(network: NetworkGraph) -> Iterator[Operator]:
    """Yield MXNet's operators for a network, in order."""
    for node in network.nodes:
        yield from operators_of(node)


def operators_of(node: Node) -> Iterator[Operator]:
    """Yield the operators that stand for a node; the last one gives its value."""
    if node.op == "pixels":
        yield from _pixels(node)
        return
    op, attributes = _TRANSLATIONS[node.op](node)
    yield Operator(
        op=op, inputs=(*node.inputs, *node.tensors), output=node.output,
        attributes={name: str(value) for name, value in attributes.items()},
    )  # fmt: skip


def _pixels(node: Node) -> Iterator[Operator]:
    """(N, S, S, 3) uint8 -> (N, 3, S, S) float32, times the gain, less the shift."""
    gain, shift = node.tensors
    steps: list[tuple[str, tuple[str, ...], dict[str, str]]] = [
        ("Cast", (), {"dtype": "float32"}),
        ("transpose", (), {"axes": "(0, 3, 1, 2)"}),
        ("reverse", (), {"axis": "1"}),
        ("broadcast_mul", (gain,), {}),
        ("broadcast_sub", (shift,), {}),
    ]
    value = node.inputs[0]
    for op, more, attributes in steps:
        if op == "reverse" and not node.settings["reverse"]:
            continue
        output = node.output if op == steps[-1][0] else f"{node.output}.{op.lower()}"
        yield Operator(op=op, inputs=(value, *more), output=output, attributes=attributes)
        value = output


_Attributes = tuple[str, dict[str, Any]]


def _conv(node: Node) -> _Attributes:
    given = node.settings
    return "Convolution", {
        "dilate": given["dilation"], "kernel": given["kernel"], "layout": "NCHW",
        "no_bias": len(node.tensors) == 1, "num_filter": node.width, "num_group": given["groups"],
        "pad": given["pads"][:2], "stride": given["stride"],
    }  # fmt: skip


def _norm(node: Node) -> _Attributes:
    return "BatchNorm", {
        "axis": 1, "eps": node.settings["epsilon"], "fix_gamma": node.settings["fixed"],
        "momentum": 0.9, "use_global_stats": node.settings.get("stored", False),
    }  # fmt: skip


def _pool(node: Node) -> _Attributes:
    given = node.settings
    counted = {"count_include_pad": given["include_pad"]} if given["kind"] == "avg" else {}
    return "Pooling", {
        **counted, "global_pool": False, "kernel": given["kernel"], "layout": "NCHW",
        "pad": given["pads"][:2], "pool_type": given["kind"],
        "pooling_convention": "full" if given["ceil"] else "valid", "stride": given["stride"],
    }  # fmt: skip


def _clip(node: Node) -> _Attributes:
    high = node.settings["high"]
    if high == math.inf:
        return "Activation", {"act_type": "relu"}
    return "clip", {"a_min": node.settings["low"], "a_max": high}


def _whole_map(kind: str) -> _Attributes:
    return "Pooling", {"global_pool": True, "kernel": (1, 1), "pool_type": kind}


def _lrn(node: Node) -> _Attributes:
    given = node.settings
    return "LRN", {
        "alpha": given["alpha"], "beta": given["beta"], "knorm": given["bias"],
        "nsize": given["size"],
    }  # fmt: skip


def _pad(node: Node) -> _Attributes:
    top, left, bottom, right = node.settings["pads"]
    width = (0, 0, 0, 0, top, bottom, left, right)
    return "Pad", {"constant_value": 0, "mode": "constant", "pad_width": width}


_TRANSLATIONS: dict[str, Callable[[Node], _Attributes]] = {
    "add": lambda _: ("elemwise_add", {}),
    "clip": _clip,
    "concat": lambda node: ("Concat", {"dim": 1, "num_args": len(node.inputs)}),
    "conv": _conv,
    "dense": lambda node: (
        "FullyConnected",
        {"flatten": True, "no_bias": len(node.tensors) == 1, "num_hidden": node.width},
    ),
    "divide": lambda _: ("broadcast_div", {}),
    "dropout": lambda node: ("Dropout", {"p": node.settings["p"]}),
    "flatten": lambda _: ("Flatten", {}),
    "l2": lambda _: ("L2Normalization", {"eps": 1e-20, "mode": "instance"}),
    "lrn": _lrn,
    "mean": lambda _: _whole_map("avg"),
    "norm": _norm,
    "over": lambda node: ("_div_scalar", {"scalar": node.settings["by"]}),
    "pad": _pad,
    "peak": lambda _: _whole_map("max"),
    "pool": _pool,
    "same": lambda _: ("identity", {}),
    "sigmoid": lambda _: ("sigmoid", {}),
    "softmax": lambda _: ("softmax", {"axis": -1}),
    "subtract": lambda _: ("broadcast_sub", {}),
}  # fmt: skip
