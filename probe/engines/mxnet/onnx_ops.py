"""MXNet's operators in ONNX's words: those that the backbones and the heads are made of.

MXNet's own exporter does not run with an onnx newer than 1.18 and lacks some of these; a graph of
twenty operators is translated in less code than it takes to make that one run.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.short_repr import short_repr
from probe.errors import BundleError


@dataclass(kw_only=True, eq=False)
class Translation:
    """ONNX nodes and initialisers in the making."""

    __repr__ = short_repr

    nodes: list[Any] = field(default_factory=list)
    values: dict[str, NDArray[Any]] = field(default_factory=dict)

    def add(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Append a node with one output and return the output's name."""
        from onnx import helper

        self.nodes.append(helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Add an array and return its name."""
        self.values[name] = value
        return name


@dataclass(frozen=True, kw_only=True, eq=False)
class Node:
    """One operator of the graph.

    Parameters
    ----------
    name : str
        Also that of its output.
    inputs : list of str
    attributes : mapping of str to text
        As MXNet writes them.
    """

    name: str
    inputs: list[str]
    attributes: Mapping[str, str]

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute as a value: numbers, tuples and booleans are read as such."""
        text = self.attributes.get(name)
        if text is None or text == "None":
            return default
        try:
            return ast.literal_eval(text)  # literals only: nothing is run
        except (ValueError, SyntaxError):
            return text


def translate(op: str, node: Node, made: Translation) -> None:
    """Append what stands for one operator.

    Raises
    ------
    BundleError
        There is no translation.
    """
    if op in SIMPLE:
        made.add(SIMPLE[op], node.inputs, node.name)
    elif op in OPERATORS:
        OPERATORS[op](node, made)
    else:
        raise BundleError(f"operator {op} has no translation to ONNX; export to mxnet instead")


def _convolution(node: Node, made: Translation) -> None:
    kernel, pad = node.get("kernel"), node.get("pad", (0, 0))
    made.add(
        "Conv", node.inputs, node.name, kernel_shape=kernel, pads=[*pad, *pad],
        strides=node.get("stride", (1, 1)), dilations=node.get("dilate", (1, 1)),
        group=node.get("num_group", 1),
    )  # fmt: skip


def _batch_norm(node: Node, made: Translation) -> None:
    inputs = list(node.inputs)
    if node.get("fix_gamma", True):  # MXNet takes 1, whatever the array says
        ones = np.ones_like(made.values[inputs[1]])
        inputs[1] = made.constant(f"{node.name}_ones", ones)
    made.add("BatchNormalization", inputs, node.name, epsilon=node.get("eps", 1e-3))


def _pooling(node: Node, made: Translation) -> None:
    kind = {"max": "Max", "avg": "Average"}[node.get("pool_type", "max")]
    if node.get("global_pool", False):
        made.add(f"Global{kind}Pool", node.inputs, node.name)
        return
    pad = node.get("pad", (0, 0))
    attributes: dict[str, Any] = {
        "kernel_shape": node.get("kernel"),
        "strides": node.get("stride", (1, 1)),
        "pads": [*pad, *pad],
        "ceil_mode": int(node.get("pooling_convention", "valid") == "full"),
    }
    if kind == "Average":
        attributes["count_include_pad"] = int(node.get("count_include_pad", True))
    made.add(f"{kind}Pool", node.inputs, node.name, **attributes)


def _dense(node: Node, made: Translation) -> None:
    flat = node.inputs[0]
    if node.get("flatten", True):
        flat = made.add("Flatten", [flat], f"{node.name}_flat", axis=1)
    made.add("Gemm", [flat, *node.inputs[1:]], node.name, transB=1)


def _pad(node: Node, made: Translation) -> None:
    width = node.get("pad_width")  # before and after, an axis at a time
    pads = made.constant(f"{node.name}_pads", np.array([*width[::2], *width[1::2]], np.int64))
    value = made.constant(f"{node.name}_value", np.array(node.get("constant_value", 0), np.float32))
    made.add("Pad", [*node.inputs, pads, value], node.name, mode=node.get("mode", "constant"))


def _clip(node: Node, made: Translation) -> None:
    low = made.constant(f"{node.name}_min", np.array(node.get("a_min"), np.float32))
    high = made.constant(f"{node.name}_max", np.array(node.get("a_max"), np.float32))
    made.add("Clip", [*node.inputs, low, high], node.name)


def _reverse(node: Node, made: Translation) -> None:  # of three channels
    order = made.constant(f"{node.name}_order", np.array([2, 1, 0], np.int64))
    made.add("Gather", [*node.inputs, order], node.name, axis=node.get("axis"))


def _l2(node: Node, made: Translation) -> None:
    norm = made.add("ReduceL2", node.inputs, f"{node.name}_norm", axes=[1], keepdims=1)
    least = made.constant(f"{node.name}_least", np.array(1e-10, np.float32))
    made.add("Div", [*node.inputs, made.add("Max", [norm, least], f"{norm}_max")], node.name)


def _activation(node: Node, made: Translation) -> None:
    name = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh"}[node.get("act_type")]
    made.add(name, node.inputs, node.name)


def _by_scalar(op: str) -> Callable[[Node, Translation], None]:
    def add(node: Node, made: Translation) -> None:
        value = np.array(float(node.get("scalar")), np.float32)
        made.add(op, [*node.inputs, made.constant(f"{node.name}_scalar", value)], node.name)

    return add


SIMPLE = {
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "elemwise_add": "Add",
    "broadcast_add": "Add",
    "broadcast_sub": "Sub",
    "broadcast_mul": "Mul",
    "broadcast_div": "Div",
    "Dropout": "Identity",
    "identity": "Identity",
    "_copy": "Identity",
}
OPERATORS: dict[str, Callable[[Node, Translation], None]] = {
    "Activation": _activation,
    "BatchNorm": _batch_norm,
    "Cast": lambda node, made: made.nodes.append(_cast(node)),
    "Concat": lambda node, made: _with_axis("Concat", node, made, node.get("dim", 1)),
    "Convolution": _convolution,
    "Flatten": lambda node, made: _with_axis("Flatten", node, made, 1),
    "FullyConnected": _dense,
    "L2Normalization": _l2,
    "LRN": lambda node, made: made.nodes.append(_lrn(node)),
    "Pad": _pad,
    "Pooling": _pooling,
    "_div_scalar": _by_scalar("Div"),
    "_mul_scalar": _by_scalar("Mul"),
    "clip": _clip,
    "reverse": _reverse,
    "softmax": lambda node, made: _with_axis("Softmax", node, made, node.get("axis", -1)),
    "transpose": lambda node, made: made.nodes.append(_transpose(node)),
}


def _with_axis(op: str, node: Node, made: Translation, axis: int) -> None:
    made.add(op, node.inputs, node.name, axis=axis)


def _cast(node: Node) -> Any:
    from onnx import TensorProto, helper

    return helper.make_node("Cast", node.inputs, [node.name], name=node.name, to=TensorProto.FLOAT)


def _lrn(node: Node) -> Any:
    from onnx import helper

    return helper.make_node(
        "LRN", node.inputs, [node.name], name=node.name, size=node.get("nsize"),
        alpha=float(node.get("alpha", 1e-4)), beta=float(node.get("beta", 0.75)),
        bias=float(node.get("knorm", 2)),
    )  # fmt: skip


def _transpose(node: Node) -> Any:
    from onnx import helper

    return helper.make_node(
        "Transpose", node.inputs, [node.name], name=node.name, perm=node.get("axes")
    )
