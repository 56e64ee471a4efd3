"""Graphs to compare: the backbones' own networks, and MXNet's `-symbol.json` beside weights."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from probe.backbones.catalog import BACKBONES
from probe.backbones.network import Node
from probe.weights.architecture import MAX_NODES, Graph

_SAME = ("identity", "_copy", "BlockGrad")
_FLOATS = ("float16", "float32", "float64", "bfloat16")
_LAYOUTS = (None, "None", "NCHW")
_OUTPUTS = ("SoftmaxOutput", "softmax", "log_softmax", "SoftmaxActivation")


@lru_cache(maxsize=64)
def own_graph(backbone: str) -> Graph:
    """Return what a backbone computes, its tensors under canonical names."""
    nodes, ones = [], set()
    for node in BACKBONES[backbone].network().nodes:
        settings, tensors = dict(node.settings), node.tensors
        if settings.pop("fixed", False):
            ones.add(tensors[0])
        if node.op in ("conv", "dense"):
            tensors = tensors[:1]  # the bias belongs to it whatever it is called
        inputs, op = node.inputs, "same" if node.op == "dropout" else node.op
        if op == "dense":
            flat = f"{node.output}.flat"
            nodes.append(Node(op="flatten", inputs=inputs, output=flat, name=node.name))
            inputs = (flat,)
        nodes.append(replace(node, op=op, inputs=inputs, settings=settings, tensors=tensors))
    return Graph(nodes=tuple(nodes), ones=frozenset(ones))


def symbol_graph(text: str) -> Graph:
    """Return the graph that a symbol's JSON describes.

    Parameters
    ----------
    text : str
        What `Symbol.tojson` writes.

    Raises
    ------
    ValueError, LookupError, TypeError
        The text is not a symbol.
    """
    listed = json.loads(text)["nodes"]
    if len(listed) > MAX_NODES:
        raise ValueError(f"more than {MAX_NODES} nodes")
    nodes: list[Node] = []
    ones: set[str] = set()
    parameters = {
        number: one["name"]
        for number, one in enumerate(listed)
        if one["op"] == "null" and one["name"] not in ("data", "softmax_label")
    }
    for number, one in enumerate(listed):
        if one["op"] == "null":
            continue
        taken = [entry[0] for entry in one["inputs"]]
        stored = [parameters[place] for place in taken if place in parameters]
        given = tuple(str(place) for place in taken if place not in parameters)
        tensors = tuple(stored)
        attributes = {key: _value(v) for key, v in _attributes(one).items()}
        op, settings = _translated(one["op"], attributes)
        if op == "norm" and attributes.get("fix_gamma", True):
            ones.update(tensors[:1])
        if op == "dense" and attributes.get("flatten", True):
            nodes.append(Node(op="flatten", inputs=given, output=f"{number}f", name=one["name"]))
            given = (f"{number}f",)
        if op in ("conv", "dense"):
            tensors = tensors[:1]  # the bias is not compared
        nodes.append(
            Node(
                op=op, inputs=given, output=str(number), name=one["name"], settings=settings,
                tensors=tensors,
            )
        )  # fmt: skip
    return Graph(nodes=tuple(nodes), ones=frozenset(ones))


def _attributes(node: Mapping[str, Any]) -> Mapping[str, str]:
    """Return a node's attributes, whose key depends on MXNet's version."""
    return node.get("attrs") or node.get("attr") or node.get("param") or {}


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _translated(  # noqa: PLR0911, PLR0912 - a case an operation
    op: str, given: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    if op in _SAME or op in _OUTPUTS:
        return "same" if op in _SAME else op, {}
    if op == "Dropout":
        usual = given.get("mode", "training") == "training"
        return "same" if usual else "Dropout that stays on at prediction", {}
    if op in ("Cast", "amp_cast") and given.get("dtype") in _FLOATS:
        return "same", {}
    if given.get("layout") not in _LAYOUTS:
        return f"{op} of layout {given['layout']}", {}
    if op in ("Convolution", "Convolution_v1"):
        return "conv", {
            "kernel": given["kernel"],
            "stride": _pair(given.get("stride")),
            "dilation": _pair(given.get("dilate")),
            "pads": _both(given.get("pad")),
            "groups": given.get("num_group", 1),
        }
    if op == "BatchNorm":
        axis = {} if given.get("axis", 1) == 1 else {"axis": given["axis"]}
        return "norm", {"epsilon": float(given.get("eps", 1e-3)), **axis}
    if op in ("relu", "Activation"):
        kind = given.get("act_type", "relu")
        return ("clip", {"low": 0, "high": math.inf}) if kind == "relu" else (str(kind), {})
    if op == "clip":
        return "clip", {"low": given["a_min"], "high": given["a_max"]}
    if op in ("Pooling", "Pooling_v1"):
        return _pooling(given)
    if op == "FullyConnected":
        return "dense", {}
    if op == "Flatten":
        return "flatten", {}
    if op in ("elemwise_add", "_Plus", "_plus", "broadcast_add", "ElementWiseSum", "add_n"):
        return "add", {}
    if op == "Concat":
        return "concat", {"axis": given.get("dim", 1)}
    if op in ("Pad", "pad") and given.get("mode") == "constant":
        _, _, _, _, top, bottom, left, right = given["pad_width"]
        return "pad", {"pads": (top, left, bottom, right)}
    if op == "LRN":
        return "lrn", {
            "size": given["nsize"], "alpha": float(given.get("alpha", 1e-4)),
            "beta": float(given.get("beta", 0.75)), "bias": float(given.get("knorm", 2)),
        }  # fmt: skip
    return op, {name: str(value) for name, value in given.items()}


def _pooling(given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    kind = given.get("pool_type", "max")
    if given.get("global_pool", False) and kind == "avg":
        return "mean", {"axes": (2, 3)}
    if given.get("global_pool", False):
        return f"global {kind} pool", {}
    convention = given.get("pooling_convention", "valid")
    if convention not in ("valid", "full"):
        return f"{kind} pool of the convention {convention!r}", {}
    return "pool", {
        "kind": kind,
        "kernel": given["kernel"],
        "stride": _pair(given.get("stride")),
        "pads": _both(given.get("pad")),
        "ceil": convention == "full",
        "include_pad": given.get("count_include_pad", True) is not False,
    }


def _pair(value: Any) -> tuple[int, int]:
    return tuple(value) if value else (1, 1)


def _both(value: Any) -> tuple[int, int, int, int]:
    """Return symmetric pads as (top, left, bottom, right)."""
    pads = value or (0, 0)
    return (pads[0], pads[1], pads[0], pads[1])
