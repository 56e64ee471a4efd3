"""Whole ONNX graphs for the tests: an exporter's parameters, wired as a backbone's network is.

`benchmarks` and the issue's own writers export real networks; these need NumPy alone, and any node
can be changed on the way.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from probe.backbones.catalog import BACKBONES
from probe.weights import open_tensors
from probe.weights.architecture import Node
from probe.weights.fit import fit_file
from probe.weights.symbol_graph import own_graph
from tests.weights.writers_proto import Arrays, block, number, write_onnx

Change = Callable[[Node], "Node | None"]


def attribute(name: str, value: Any) -> bytes:
    """An AttributeProto of a whole number, a real one, a text or several whole numbers."""
    head = block(1, name.encode())
    if isinstance(value, bool | int):
        return block(5, head, number(3, int(value)), number(20, 2))
    if isinstance(value, float):
        return block(5, head, bytes([2 << 3 | 5]), struct.pack("<f", value), number(20, 1))
    if isinstance(value, str):
        return block(5, head, block(4, value.encode()), number(20, 3))
    return block(5, head, *(number(8, one) for one in value), number(20, 7))


def node(kind: str, name: str, inputs: Sequence[str], output: str, **attributes: Any) -> bytes:
    body = b"".join(block(1, one.encode()) for one in inputs) + block(2, output.encode())
    body += block(3, name.encode()) + block(4, kind.encode())
    return body + b"".join(attribute(key, value) for key, value in attributes.items())


def emitted(  # noqa: PLR0911 - a case an operation
    one: Node, inputs: Sequence[str], output: str, name: str
) -> bytes:
    """A node without parameters, or with those among `inputs`."""
    given: dict[str, Any] = dict(one.settings)
    window = {
        there: given[here]
        for here, there in {
            "kernel": "kernel_shape", "stride": "strides", "pads": "pads", "dilation": "dilations",
        }.items()
        if here in given
    }  # fmt: skip
    match one.op:
        case "conv":
            return node("Conv", name, inputs, output, **window, group=given["groups"])
        case "norm":
            return node("BatchNormalization", name, inputs, output, epsilon=given["epsilon"])
        case "dense":
            return node("Gemm", name, inputs, output, transB=1, **given)
        case "clip" if given["high"] == 6:
            return node("Clip", name, inputs, output, min=0.0, max=6.0)
        case "clip":
            return node("Relu", name, inputs, output)
        case "pool":
            kind = {"max": "MaxPool", "avg": "AveragePool"}[given["kind"]]
            if kind == "AveragePool":
                window["count_include_pad"] = given["include_pad"]
            return node(kind, name, inputs, output, **window, ceil_mode=given["ceil"])
        case "pad":
            top, left, bottom, right = given["pads"]
            return node("Pad", name, inputs, output, pads=(0, 0, top, left, 0, 0, bottom, right))
        case "mean":
            return node("GlobalAveragePool", name, inputs, output)
    kind = {"add": "Add", "concat": "Concat", "flatten": "Flatten", "same": "Dropout"}
    return node(kind.get(one.op, one.op), name, inputs, output, **given)


def wired(
    backbone: str, arrays: Arrays, parameters: Sequence[tuple[str, str, Sequence[str]]],
    folder: Path, *, change: Change = lambda one: one, channels_last: bool = False,
) -> list[bytes]:  # fmt: skip
    """Return the nodes of a whole network.

    Parameters
    ----------
    parameters : sequence of (kind, name, tensors)
        The nodes that hold parameters, in any order: a convolution, a norm, half a norm ...
    change : callable
        Takes a node of the backbone's graph as it will be written; None leaves it out.
    channels_last : bool
        Whether maps are turned before they are flattened, as Keras's are.
    """
    bare = [
        node(kind, name, ["x", *held], f"{i}") for i, (kind, name, held) in enumerate(parameters)
    ]
    file = open_tensors(write_onnx(folder / "bare.onnx", arrays, nodes=bare))
    assert file.graph is not None
    fit = fit_file(file, BACKBONES[backbone])
    assert fit is not None
    modules = {
        source.names[0]: canonical.rpartition(".")[0]
        for canonical, source in fit.naming.sources.items()
        if source.names and not canonical.endswith("running_mean")
    }
    places: dict[str, list[int]] = {}
    for one in file.graph.nodes:
        held = next(modules[fit.naming.key(t)] for t in one.tensors if fit.naming.key(t) in modules)
        places.setdefault(held, []).append(int(one.output))
    out: list[bytes] = []
    values: dict[str, str] = {}
    for own in own_graph(backbone).nodes:
        inputs = [values.get(one, "input") for one in own.inputs]
        changed = change(own)
        if changed is None:
            values[own.output] = inputs[0]
            continue
        module = own.tensors[0].rpartition(".")[0] if own.tensors else ""
        if not module:
            name = f"{changed.op}_{own.output}"
            if own.op == "flatten" and channels_last:
                out.append(node("Transpose", "", inputs, f"{name}_t", perm=(0, 2, 3, 1)))
                inputs = [f"{name}_t"]
            out.append(emitted(changed, inputs, name, name))
            values[own.output] = name
            continue
        for place in places.get(module, []):
            kind, name, held = parameters[place]
            output = f"v{place}"
            shown = replace(changed, op="dense") if kind == "Gemm" else changed
            if kind in ("MatMul", "Mul", "Add"):
                out.append(node(kind, name, [*inputs, *held], output))
            else:
                out.append(emitted(shown, [*inputs, *held], output, name))
            inputs = [output]
        values[own.output] = inputs[0]
    return out
