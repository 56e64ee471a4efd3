"""Translate a network to an ONNX model: nodes and the arrays that they take."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones.network import NetworkGraph, Node, OnnxTerms

Arrays = Mapping[str, NDArray[Any]]
OPSET, IR_VERSION = 13, 8  # read by runtimes from 2021 on
SMALL = 1024  # bytes; such arrays stay in a model, where shape inference sees them


def onnx_nodes(network: NetworkGraph, arrays: Arrays) -> tuple[list[Any], dict[str, NDArray[Any]]]:
    """Return ONNX's nodes for a network, in order, and the arrays that they take, by name.

    Parameters
    ----------
    arrays : mapping of name to array
        The network's parameters; more is ignored.
    """
    made = _Translation(arrays, network.terms.opsets[""] if network.terms else OPSET)
    for node in network.nodes:
        _TRANSLATIONS[node.op](node, made)
    used = {name for node in made.nodes for name in node.input}
    return made.nodes, {name: value for name, value in made.values.items() if name in used}


def onnx_model(
    name: str, nodes: Sequence[Any], inputs: Mapping[str, Sequence[Any]],
    outputs: Mapping[str, Sequence[Any] | None], initializers: Sequence[Any], *,
    terms: OnnxTerms | None = None,
) -> Any:  # fmt: skip
    """Return an ONNX model of some nodes.

    Parameters
    ----------
    name : str
        Of the graph.
    inputs : mapping of name to shape
        Each is uint8; a side that is text is free.
    outputs : mapping of name to shape
        Each is float32; None where the runtime works type and shape out.
    initializers : sequence of TensorProto
    terms : OnnxTerms, optional
        Of the nodes of an ONNX file among them. What this module writes for a cut is the same in
        every version from 7 on, and for a head from 13 on.
    """
    from onnx import TensorProto, ValueInfoProto, helper

    terms = terms or OnnxTerms(opsets={"": OPSET}, ir_version=IR_VERSION)
    graph = helper.make_graph(
        list(nodes),
        name,
        [helper.make_tensor_value_info(one, TensorProto.UINT8, s) for one, s in inputs.items()],
        [
            ValueInfoProto(name=one)
            if shape is None
            else helper.make_tensor_value_info(one, TensorProto.FLOAT, shape)
            for one, shape in outputs.items()
        ],
        list(initializers),
    )
    return helper.make_model(
        graph,
        producer_name="probe",
        opset_imports=[helper.make_opsetid(one, version) for one, version in terms.opsets.items()],
        functions=list(terms.functions),
        ir_version=terms.ir_version,
    )


class _Translation:
    """Nodes and arrays in the making."""

    def __init__(self, arrays: Arrays, opset: int) -> None:
        self.opset = opset
        self.nodes: list[Any] = []
        self.values: dict[str, NDArray[Any]] = dict(arrays)

    def add(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Append a node with one output and return the output's name."""
        from onnx import helper

        self.nodes.append(helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: Any, kind: Any = np.float32) -> str:
        """Add an array and return its name."""
        self.values[name] = np.array(value, kind)
        return name


def _conv(node: Node, made: _Translation) -> None:
    given = node.settings
    made.add(
        "Conv", (*node.inputs, *node.tensors), node.output, kernel_shape=given["kernel"],
        pads=given["pads"], strides=given["stride"], dilations=given["dilation"],
        group=given["groups"],
    )  # fmt: skip


def _norm(node: Node, made: _Translation) -> None:
    tensors = list(node.tensors)
    if node.settings["fixed"]:  # gamma counts as 1, whatever the array says
        ones = np.ones_like(made.values[tensors[0]])
        tensors[0] = made.constant(f"{node.output}_ones", ones)
    made.add(
        "BatchNormalization", (*node.inputs, *tensors), node.output,
        epsilon=node.settings["epsilon"],
    )  # fmt: skip


def _pool(node: Node, made: _Translation) -> None:
    given = node.settings
    attributes: dict[str, Any] = {
        "kernel_shape": given["kernel"], "strides": given["stride"], "pads": given["pads"],
        "ceil_mode": int(given["ceil"]),
    }  # fmt: skip
    if given["kind"] == "avg":
        attributes["count_include_pad"] = int(given["include_pad"])
    op = "AveragePool" if given["kind"] == "avg" else "MaxPool"
    made.add(op, node.inputs, node.output, **attributes)


def _dense(node: Node, made: _Translation) -> None:
    flat = made.add("Flatten", node.inputs, f"{node.output}_flat", axis=1)
    made.add("Gemm", (flat, *node.tensors), node.output, transB=1)


def _pad(node: Node, made: _Translation) -> None:
    top, left, bottom, right = node.settings["pads"]
    sides = (0, 0, top, left, 0, 0, bottom, right)
    pads = made.constant(f"{node.output}_pads", sides, np.int64)
    value = made.constant(f"{node.output}_value", 0)
    made.add("Pad", (*node.inputs, pads, value), node.output, mode="constant")


def _clip(node: Node, made: _Translation) -> None:
    low, high = node.settings["low"], node.settings["high"]
    if (low, high) == (0, math.inf):
        made.add("Relu", node.inputs, node.output)
        return
    lowest = made.constant(f"{node.output}_min", low)
    highest = made.constant(f"{node.output}_max", high)
    made.add("Clip", (*node.inputs, lowest, highest), node.output)


def _lrn(node: Node, made: _Translation) -> None:
    made.add("LRN", node.inputs, node.output, **node.settings)


def _l2(node: Node, made: _Translation) -> None:
    if made.opset < 18:
        norm = made.add("ReduceL2", node.inputs, f"{node.output}_norm", axes=[1], keepdims=1)
    else:  # the axes became an input
        axes = made.constant(f"{node.output}_axes", [1], np.int64)
        norm = made.add("ReduceL2", (*node.inputs, axes), f"{node.output}_norm", keepdims=1)
    least = made.constant(f"{node.output}_least", 1e-10)
    largest = made.add("Max", [norm, least], f"{norm}_max")
    made.add("Div", (*node.inputs, largest), node.output)


def _over(node: Node, made: _Translation) -> None:
    by = made.constant(f"{node.output}_by", node.settings["by"])
    made.add("Div", (*node.inputs, by), node.output)


def _pixels(node: Node, made: _Translation) -> None:
    """(N, S, S, 3) uint8 -> (N, 3, S, S) float32, times the gain, less the shift."""
    from onnx import TensorProto

    gain, shift = node.tensors
    x = made.add("Cast", node.inputs, f"{node.output}_cast", to=TensorProto.FLOAT)
    x = made.add("Transpose", [x], f"{node.output}_channels", perm=(0, 3, 1, 2))
    if node.settings["reverse"]:
        order = made.constant(f"{node.output}_order", (2, 1, 0), np.int64)
        x = made.add("Gather", [x, order], f"{node.output}_reversed", axis=1)
    x = made.add("Mul", [x, gain], f"{node.output}_scaled")
    made.add("Sub", [x, shift], node.output)


def _permute(node: Node, made: _Translation) -> None:
    made.add("Transpose", node.inputs, node.output, perm=node.settings["order"])


def _take(node: Node, made: _Translation) -> None:
    places = made.constant(f"{node.output}_places", node.settings["places"], np.int64)
    made.add("Gather", (*node.inputs, places), node.output, axis=1)


def _cast(node: Node, made: _Translation) -> None:
    from onnx import TensorProto

    half = node.settings.get("half", False)
    made.add(
        "Cast", node.inputs, node.output, to=TensorProto.FLOAT16 if half else TensorProto.FLOAT
    )


def _foreign(node: Node, made: _Translation) -> None:
    """Append a node of an ONNX file, with the values renamed as in `node`."""
    from onnx import NodeProto

    from probe.backbones.onnx_model import rename

    copy = NodeProto()
    copy.CopyFrom(node.settings["proto"])
    now = (*node.inputs, *node.tensors, node.output, *node.others)
    rename(copy, dict(zip(node.settings["names"], now, strict=True)))
    copy.name = node.output  # its own may be another network's, too
    made.nodes.append(copy)


def _as(op: str, **attributes: Any) -> Callable[[Node, _Translation], None]:
    def add(node: Node, made: _Translation) -> None:
        made.add(op, (*node.inputs, *node.tensors), node.output, **attributes)

    return add


_TRANSLATIONS: dict[str, Callable[[Node, _Translation], None]] = {
    "add": _as("Add"),
    "cast": _cast,
    "clip": _clip,
    "concat": _as("Concat", axis=1),
    "conv": _conv,
    "dense": _dense,
    "divide": _as("Div"),
    "dropout": _as("Identity"),
    "flatten": _as("Flatten", axis=1),
    "l2": _l2,
    "lrn": _lrn,
    "mean": _as("GlobalAveragePool"),
    "norm": _norm,
    "onnx": _foreign,
    "over": _over,
    "pad": _pad,
    "peak": _as("GlobalMaxPool"),
    "permute": _permute,
    "pixels": _pixels,
    "pool": _pool,
    "same": _as("Identity"),
    "sigmoid": _as("Sigmoid"),
    "softmax": _as("Softmax", axis=-1),
    "subtract": _as("Sub"),
    "take": _take,
}
