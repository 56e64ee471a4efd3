"""A graph whose parameters fit and whose network is another is refused, and the node is named."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from probe.backbones.catalog import BACKBONES
from probe.errors import WeightsError
from probe.weights import load_parameters, open_tensors
from probe.weights.architecture import Graph, Node, difference
from probe.weights.fit import fit_file, holds_layers, shapes_of
from probe.weights.symbol_graph import own_graph
from tests.weights.onnx_graphs import node, wired
from tests.weights.writers_proto import write_onnx

Arrays = dict[str, NDArray[np.float16]]
Parameters = list[tuple[str, str, list[str]]]
Change = Callable[[Node], "Node | None"]


def parameters(backbone: str) -> tuple[Arrays, Parameters]:
    """A network's tensors under Gluon's names, and the nodes that hold them; all are zeros."""
    arrays = {name: np.zeros(shape, np.float16) for name, shape in shapes_of(backbone).items()}
    kinds = {"conv": "Conv", "norm": "BatchNormalization", "dense": "Gemm"}
    held: Parameters = []
    for one in own_graph(backbone).nodes:
        if one.tensors:
            module = one.tensors[0].rpartition(".")[0]
            leaves = ["gamma", "beta", "running_mean", "running_var", "weight", "bias"]
            names = [f"{module}.{leaf}" for leaf in leaves if f"{module}.{leaf}" in arrays]
            held.append((kinds[one.op], module, names))
    return arrays, held


def verdict(backbone: str, change: Change = lambda one: one) -> str | None:
    """What is said of a file that describes a backbone's own network, but for a change."""
    own = own_graph(backbone)
    left_out: dict[str, str] = {}
    nodes = []
    for one in own.nodes:
        inputs = tuple(left_out.get(taken, taken) for taken in one.inputs)
        changed = change(replace(one, inputs=inputs))
        if changed is None:
            left_out[one.output] = inputs[0]
        else:
            nodes.append(changed)
    names = {name: name for one in own.nodes for name in one.tensors}
    return difference(
        Graph(nodes=tuple(nodes)), backbone=backbone, own=own,
        size=BACKBONES[backbone].input_size, canonical=names, absent=frozenset(),
    )  # fmt: skip


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_backbones_own_graph_is_its_own(backbone: str) -> None:
    assert verdict(backbone) is None


@pytest.mark.parametrize("backbone", ["resnet18", "squeezenet1_0", "mobilenet_v2"])
def test_onnx_says_all_that_is_compared(backbone: str, tmp_path: Path) -> None:
    arrays, held = parameters(backbone)
    nodes = wired(backbone, arrays, held, tmp_path)
    file = open_tensors(write_onnx(tmp_path / "w.onnx", arrays, nodes=nodes))
    fit = fit_file(file, BACKBONES[backbone])
    assert fit is not None
    assert fit.problems(BACKBONES[backbone], BACKBONES[backbone].logits) == []
    stem = place(backbone, "conv")
    strides = wired(backbone, arrays, held, tmp_path, change=other_stride(stem))
    file = open_tensors(write_onnx(tmp_path / "w.onnx", arrays, nodes=strides))
    assert holds_layers(file, BACKBONES[backbone]) == ()
    with pytest.raises(WeightsError, match=r"its network differs from .* has stride 1 where"):
        load_parameters(file.path, BACKBONES[backbone], BACKBONES[backbone].layers[-1])


def other_stride(output: str) -> Change:
    def change(one: Node) -> Node:
        if one.output != output:
            return one
        return replace(one, settings={**one.settings, "stride": (1, 1)})

    return change


def at(op: str, module: str, **settings: Any) -> Change:
    """Change the settings of one node, by its module or, without one, by its place."""

    def change(one: Node) -> Node:
        here = one.output == module or (one.tensors and one.tensors[0].startswith(f"{module}."))
        return replace(one, settings={**one.settings, **settings}) if here and one.op == op else one

    return change


def left_out(output: str) -> Change:
    return lambda one: None if one.output == output else one


def place(backbone: str, op: str, number: int = 0) -> str:
    return [one.output for one in own_graph(backbone).nodes if one.op == op][number]


def other(output: str, op: str, **settings: Any) -> Change:
    return lambda one: replace(one, op=op, settings=settings) if one.output == output else one


BLOCK = "features.5.0.body.0"
VARIANTS: dict[str, tuple[str, Callable[[], Change], str]] = {
    "a stride": ("resnet18", lambda: at("conv", BLOCK, stride=(1, 1)), "stride 1 where .* has 2"),
    "a stride of one axis": ("resnet18", lambda: at("conv", BLOCK, stride=(2, 1)), "stride 2x1"),
    "a dilation": (
        "resnet18", lambda: at("conv", "features.4.0.body.0", dilation=(2, 2), pads=(2, 2, 2, 2)),
        "dilation 2 where .* has 1, pads 2",
    ),
    "pads": ("resnet18", lambda: at("conv", BLOCK, pads=(0, 0, 2, 2)), "pads 0x0x2x2 where"),
    "an epsilon": ("resnet18", lambda: at("norm", "features.1", epsilon=1e-3), "epsilon 0.001"),
    "a smaller epsilon": (
        "resnet18", lambda: at("norm", "features.6.1.body.4", epsilon=1e-6), r"features\.6\.1\.body"
    ),
    "groups": ("mobilenet_v1", lambda: at("conv", "features.3", groups=16), "groups 16 where"),
    "no pool": ("resnet18", lambda: left_out(place("resnet18", "pool")), "takes ReLU, where"),
    "another pool": (
        "resnet18", lambda: at("pool", place("resnet18", "pool"), kind="avg"), "3x3 avg pool",
    ),
    "a pool rounded up": (
        "resnet18",
        lambda: at("pool", place("resnet18", "pool"), ceil=True),
        r"rounded up\) stands",
    ),
    "a pool rounded down": (
        "squeezenet1_0", lambda: at("pool", place("squeezenet1_0", "pool", 1), ceil=False),
        "stands where .* rounded up",
    ),
    "padding not counted": (
        "inception_v3", lambda: at("pool", place("inception_v3", "pool", 2), include_pad=False),
        "padding not counted",
    ),
    "padding counted": (
        "inception_v3_keras",
        lambda: at("pool", place("inception_v3_keras", "pool", 2), include_pad=True),
        "3x3 avg pool",
    ),
    "no relu": ("resnet18", lambda: left_out(place("resnet18", "clip", 1)), "takes batch norm"),
    "no last relu": ("resnet18", lambda: left_out(place("resnet18", "clip", 16)), "global average"),
    "a leaky relu": (
        "resnet18", lambda: other(place("resnet18", "clip", 3), "LeakyRelu", alpha=0.01),
        r"LeakyRelu\) stands where resnet18 has ReLU",
    ),
    "relu for relu6": (
        "mobilenet_v2",
        lambda: other(place("mobilenet_v2", "clip", 4), "clip", low=0, high=math.inf),
        r"ReLU\) stands where mobilenet_v2 has ReLU6",
    ),
    "relu6 for relu": (
        "resnet18", lambda: other(place("resnet18", "clip", 4), "clip", low=0, high=6),
        r"ReLU6\) stands where resnet18 has ReLU",
    ),
    "a sigmoid": (
        "mobilenet_v1", lambda: other(place("mobilenet_v1", "clip", 26), "Sigmoid"), "Sigmoid",
    ),
    "no shortcut": ("resnet18", lambda: left_out(place("resnet18", "add", 2)), "has addition"),
    "a factor before the dense layer": (
        "resnet18", lambda: at("dense", "output", alpha=2.0), "alpha 2 where .* has none",
    ),
    "other parts of a concatenation": (
        "squeezenet1_0",
        lambda: lambda one: replace(one, inputs=one.inputs[::-1]) if one.op == "concat" else one,
        "takes|stands",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", VARIANTS)
def test_each_variant_is_refused_and_told(case: str) -> None:
    backbone, change, message = VARIANTS[case]
    told = verdict(backbone, change())
    assert told is not None
    assert re.search(message, told), told
    assert "\n" not in told


@pytest.mark.parametrize(("backbone", "step"), [("resnet18", 4), ("densenet121", 40)])
def test_every_single_change_of_a_network_is_seen(backbone: str, step: int) -> None:
    """A stride, pad, group, epsilon or a missing node anywhere, one at a time; some of them all."""
    every = [changed for one in own_graph(backbone).nodes for changed in changes(one)]
    assert len(every) > 150

    def with_one(new: Node) -> str | None:
        return verdict(backbone, lambda one: new if one.output == new.output else one)

    for changed in every[::step]:
        assert with_one(changed) is not None, changed


def changes(one: Node) -> list[Node]:
    given = one.settings
    found = []
    if one.op == "conv":
        for key, value in (
            ("stride", tuple(3 - side for side in given["stride"])),
            ("pads", (given["pads"][0] + 1, *given["pads"][1:])),
            ("groups", 3),
        ):
            found.append(replace(one, settings={**given, key: value}))
    if one.op == "norm":
        found.append(replace(one, settings={**given, "epsilon": 1.1e-5}))
        found.append(replace(one, tensors=(one.tensors[1], one.tensors[0], *one.tensors[2:])))
    if one.op in ("clip", "pool", "add"):
        found.append(replace(one, op="same", inputs=one.inputs[:1]))
    if one.op in ("clip", "pool", "add", "mean"):
        found.append(replace(one, op="Sigmoid"))
    return found


def test_an_extra_factor_and_preprocessing_inside_are_refused(tmp_path: Path) -> None:
    arrays, held = parameters("resnet18")
    plain = wired("resnet18", arrays, held, tmp_path)
    scale = {"two": np.array(2, np.float32), "mean": np.zeros((1, 3, 1, 1), np.float32)}
    first = node("Sub", "centre", ["input", "mean"], "shifted")
    path = tmp_path / "w.onnx"

    def told(nodes: list[bytes]) -> str:
        fit = fit_file(
            open_tensors(write_onnx(path, arrays | scale, nodes=nodes)), BACKBONES["resnet18"]
        )
        assert fit is not None
        return ", ".join(fit.problems(BACKBONES["resnet18"], BACKBONES["resnet18"].layer("gap")))

    inside = [first, plain[0].replace(b"\x0a\x05input", b"\x0a\x07shifted"), *plain[1:]]
    assert "1 left over (mean)" in told(inside)
    assert "takes the result of a layer that resnet18 does not have (mean)" in told(inside)
    by_two = [node("Mul", "halve", ["input", "two"], "shifted"), *inside[1:]]
    assert "preprocessing inside a graph is not read" in told(by_two)
    pool = next(i for i, one in enumerate(plain) if b"MaxPool" in one)
    name = f"pool_{place('resnet18', 'pool')}"
    assert name.encode() in plain[pool]
    doubled = [
        one if i <= pool else one.replace(f"\x0a{chr(len(name))}{name}".encode(), b"\x0a\x01d")
        for i, one in enumerate(plain)
    ]
    doubled.insert(pool + 1, node("Mul", "double", [name, "two"], "d"))
    assert "double (multiplication by 2) stands where resnet18 has" in told(doubled)


AFTER_POOL: dict[str, tuple[list[tuple[str, list[str], dict[str, Any]]], str]] = {
    "dropout in training mode": ([("Dropout", ["rate", "on"], {})], "Dropout in training mode"),
    "dropout": ([("Dropout", ["rate", "off"], {})], ""),
    "older dropout": ([("Dropout", [], {"ratio": 0.5})], ""),
    "whole numbers": ([("Cast", [], {"to": 2})], "Cast"),
    "halves": ([("Cast", [], {"to": 10}), ("Cast", [], {"to": 1})], ""),
    "quantised values": (
        [("QuantizeLinear", ["step"], {}), ("DequantizeLinear", ["step"], {})], "QuantizeLinear",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", AFTER_POOL)
def test_what_stands_between_layers_is_named_where_it_changes_values(
    case: str, tmp_path: Path
) -> None:
    added, message = AFTER_POOL[case]
    arrays, held = parameters("resnet18")
    plain = wired("resnet18", arrays, held, tmp_path)
    stored = {
        "rate": np.array(0.5, np.float32), "step": np.array(0.1, np.float32),
        "on": np.array(True), "off": np.array(False),
    }  # fmt: skip
    last = name = f"pool_{place('resnet18', 'pool')}"
    at = next(i for i, one in enumerate(plain) if b"MaxPool" in one)
    between = []
    for number, (kind, inputs, attributes) in enumerate(added):
        end = "d" if number == len(added) - 1 else f"d{number}"
        between.append(node(kind, f"added{number}", [last, *inputs], end, **attributes))
        last = end
    was, now = f"\x0a{chr(len(name))}{name}".encode(), b"\x0a\x01d"
    nodes = [*plain[: at + 1], *between, *(one.replace(was, now) for one in plain[at + 1 :])]
    path = write_onnx(tmp_path / "w.onnx", arrays | stored, nodes=nodes)
    fit = fit_file(open_tensors(path), BACKBONES["resnet18"])
    assert fit is not None
    assert (fit.difference is not None) == bool(message)
    assert message in (fit.difference or "")


def test_harmless_ways_to_write_the_same_are_read() -> None:
    """Padding as a node, a clip between constants, a mean over the map, dropout, 8x8 of 8x8."""

    def spelt(one: Node) -> Node:
        if one.op == "mean":
            return replace(one, op="mean", settings={"axes": (2, 3)})
        return one

    assert verdict("resnet18", spelt) is None
    assert verdict("mobilenet_v2", spelt) is None

    def pooled(one: Node) -> Node:
        window = {"kernel": (7, 7), "stride": (1, 1), "pads": (0, 0, 0, 0)}
        rest = {"kind": "avg", "ceil": False, "include_pad": False}
        return replace(one, op="pool", settings=window | rest) if one.op == "mean" else one

    assert verdict("resnet18", pooled) is None

    def same(one: Node) -> Node:
        odd = one.op == "conv" and one.settings["stride"] == (1, 1)
        return replace(one, settings={**one.settings, "pads": "same_upper"}) if odd else one

    assert verdict("resnet18", same) is None
