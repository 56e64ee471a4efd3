"""Compare the network that a weight file describes with that of a backbone.

A stride, a pool, an epsilon or a missing ReLU changes every feature, but no name and no shape of a
parameter. Where a format describes the network (ONNX's graph, Caffe's layers, Keras's model config,
MXNet's symbol), its reader returns that as a `Graph`. The backbone's network becomes one too, and
the two are compared by value numbering: the key of a node is its operation, its settings, its
parameters and its inputs, so that equal computations get the same number. The backbone's nodes are
numbered first; the first node of the file that has no number among them is the difference.

Before that, equivalent forms are made equal on both sides: padding as a separate node, a ReLU
before or after a max pool, an average over the whole map and a global one, norms that an exporter
folded, nested concatenations, dropout and other nodes that change nothing.

References
----------
Alpern, Wegman, Zadeck, Detecting equality of variables in programs, POPL 1988.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from probe.backbones.network import Node
from probe.core.short_repr import short_repr

MAX_NODES = 20_000  # the largest network here has 2,000
_EPSILON_TOLERANCE = 0.01  # Keras's 1.001e-5 instead of 1e-5 changes features less than rounding
NHWC, NCHW = (0, 2, 3, 1), (0, 3, 1, 2)
# torchvision's Inception rescales images normalised for ImageNet to [-1, 1] inside the network
_TRANSFORM = ((0.458, -0.03), (0.448, -0.088), (0.45, -0.188))
_ACTIVATIONS = ("clip", "norm")
_PASSING = ("pad", "permute", "flatten", "channel", "scale", "shift", "times")  # reported last


@dataclass(frozen=True, kw_only=True)
class Graph:
    """The network that a file describes.

    Parameters
    ----------
    nodes : tuple of Node
        Each after the nodes whose outputs it uses.
    rounding : bool, default=True
        Whether pools that round their size up or down differ even if both give the same size at
        the native input size. False for Caffe, which always rounds up.
    flatten : {"chw", "hwc"}
        The format's order of a dense kernel that follows a flattened map.
    ones : frozenset of str
        Tensors that are 1 whatever is stored: gammas of MXNet's norms with ``fix_gamma``.
    """

    __repr__ = short_repr

    nodes: tuple[Node, ...]
    rounding: bool = True
    flatten: str = "chw"
    ones: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Value:
    op: str
    inputs: tuple[int, ...]
    settings: tuple[tuple[str, Any], ...]
    module: str
    side: int | None  # of the map at the native input size; None for a vector

    def get(self, name: str) -> Any:
        return dict(self.settings).get(name)


class _Numbering:
    """The values of both graphs; equal computations have one number."""

    def __init__(self, size: int, rounding: bool) -> None:
        self.values: list[_Value] = []
        self._known: dict[tuple[Any, ...], int] = {}
        self.epsilons: dict[str, float] = {}
        self._rounding = rounding
        self.input = self._number("input", (), {}, "", size)

    def _number(
        self, op: str, inputs: tuple[int, ...], settings: Mapping[str, Any], module: str,
        side: int | None,
    ) -> int:  # fmt: skip
        given = tuple(sorted(settings.items()))
        key = (op, inputs, given, module)
        if key not in self._known:
            self._known[key] = len(self.values)
            self.values.append(_Value(op, inputs, given, module, side))
        return self._known[key]

    def side(self, value: int) -> int | None:
        return self.values[value].side

    def make(
        self, op: str, inputs: tuple[int, ...], settings: Mapping[str, Any], module: str
    ) -> int:
        """Return the number of a computation after bringing it to its canonical form."""
        if op == "same" and len(inputs) == 1:
            return inputs[0]
        firsts = [self.values[one] for one in inputs]
        turned = {one.get("order") for one in firsts if one.op == "permute"}
        if op in ("clip", "add", "concat") and len(turned) == 1 and all(
            one.op == "permute" for one in firsts
        ):  # fmt: skip
            order = next(iter(turned))
            moved = dict(settings)
            if op == "concat":
                moved["axis"] = order[moved["axis"]]
            inner = self.make(op, tuple(one.inputs[0] for one in firsts), moved, module)
            return self.make("permute", (inner,), {"order": order}, "")
        canonical: dict[str, Callable[..., int]] = {
            "clip": self._clip, "pad": self._pad, "conv": self._conv, "pool": self._pool,
            "mean": self._mean, "flatten": self._flatten, "dense": self._dense, "norm": self._norm,
            "plus": self._plus, "permute": self._permute, "concat": self._concat,
        }  # fmt: skip
        if op in canonical and inputs:
            return canonical[op](inputs, dict(settings), module)
        side = self.side(inputs[0]) if inputs else None
        ordered = tuple(sorted(inputs)) if op == "add" else inputs
        return self._number(op, ordered, settings, module, side)

    def _clip(self, inputs: tuple[int, ...], settings: dict[str, Any], module: str) -> int:
        before = self.values[inputs[0]]
        low, high = settings["low"], settings["high"]
        if before.op == "clip" and low <= before.get("high") and before.get("low") <= high:
            low, high = max(low, before.get("low")), min(high, before.get("high"))
            return self.make("clip", before.inputs, {"low": low, "high": high}, module)
        if (low, high) == (-math.inf, math.inf):
            return inputs[0]
        if before.op == "pool" and before.get("kind") == "max":  # a max pool and a clip commute
            inner = self.make("clip", before.inputs, settings, module)
            return self.make("pool", (inner,), dict(before.settings), "")
        return self._number("clip", inputs, {"low": low, "high": high}, "", before.side)

    def _pad(self, inputs: tuple[int, ...], settings: dict[str, Any], module: str) -> int:
        before, pads = self.values[inputs[0]], settings["pads"]
        if not any(pads):
            return inputs[0]
        if before.op == "pad":
            pads = tuple(a + b for a, b in zip(pads, before.get("pads"), strict=True))
            return self.make("pad", before.inputs, {"pads": pads}, module)
        side = before.side and before.side + pads[0] + pads[2]
        return self._number("pad", inputs, {"pads": pads}, "", side)

    def _padded(self, value: int, pads: Any) -> tuple[int, tuple[int, int, int, int]]:
        """Return the value before a padding node, and the sum of both paddings."""
        before = self.values[value]
        if before.op == "pad":
            pads = tuple(a + b for a, b in zip(pads, before.get("pads"), strict=True))
            return before.inputs[0], pads
        return value, pads

    def _window(self, value: int, settings: dict[str, Any]) -> dict[str, Any]:
        """Return the settings with ``same_upper`` or ``same_lower`` pads as numbers."""
        pads, side = settings["pads"], self.side(value)
        if not isinstance(pads, str):
            return settings
        whole = []
        for axis in range(2):
            kernel, stride = settings["kernel"][axis], settings["stride"][axis]
            reach = (kernel - 1) * settings.get("dilation", (1, 1))[axis] + 1
            if stride == 1:
                whole.append(reach - 1)
            elif side is None:
                return settings
            else:
                whole.append(max((-(-side // stride) - 1) * stride + reach - side, 0))
        half = [one // 2 for one in whole]
        rest = [one - part for one, part in zip(whole, half, strict=True)]
        first, last = (half, rest) if pads == "same_upper" else (rest, half)
        return settings | {"pads": (*first, *last)}

    def _conv(self, inputs: tuple[int, ...], settings: dict[str, Any], module: str) -> int:
        settings = self._window(inputs[0], settings)
        if isinstance(settings["pads"], str):
            return self._number("conv", inputs, settings, module, None)
        value, pads = self._padded(inputs[0], settings["pads"])
        kernel, stride, side = settings["kernel"], settings["stride"], self.side(value)
        dilation = tuple(
            d if k > 1 else 1 for d, k in zip(settings["dilation"], kernel, strict=True)
        )
        settings = settings | {"pads": pads, "dilation": dilation}
        if kernel == (side, side) and not any(pads) and settings["groups"] == 1 and (
            dilation == (1, 1)
        ):  # fmt: skip
            return self._dense((self._flatten((value,), {}, ""),), {}, module, side=1)
        after = None
        if side is not None:
            reach = (kernel[0] - 1) * dilation[0] + 1
            after = max((side + pads[0] + pads[2] - reach) // stride[0] + 1, 0)
        return self._number("conv", (value,), settings, module, after)

    def _pool(self, inputs: tuple[int, ...], settings: dict[str, Any], module: str) -> int:
        settings = self._window(inputs[0], settings)
        kernel, stride, ceil = settings["kernel"], settings["stride"], settings["ceil"]
        if isinstance(settings["pads"], str):
            return self._number("pool", inputs, settings, module, None)
        value, pads, before = inputs[0], settings["pads"], self.values[inputs[0]]
        counted = settings.get("include_pad", True)
        positive = before.op == "pad" and self._positive(before.inputs[0])
        if before.op == "pad" and (
            positive if settings["kind"] == "max" else counted or not any(pads)
        ):
            counted = True
            value, pads = self._padded(value, pads)
        side = self.side(value)
        if kernel == stride == (1, 1) and not any(pads):
            return value
        if settings["kind"] == "avg" and kernel == (side, side) and not any(pads):
            return self._mean((value,), {"axes": (2, 3)}, module)
        if settings["kind"] == "max" or (not any(pads) and not ceil):
            counted = True
        after = None
        if side is not None:
            span = side + pads[0] + pads[2] - kernel[0]
            floor, up = span // stride[0] + 1, -(-span // stride[0]) + 1
            if (up - 1) * stride[0] >= side + pads[0]:
                up -= 1  # no window begins in the padding after the map
            after = max(up if ceil else floor, 0)
            if floor == up and not self._rounding:
                ceil = False
        made = settings | {"pads": pads, "ceil": ceil, "include_pad": counted}
        return self._number("pool", (value,), made, "", after)

    def _positive(self, value: int) -> bool:
        """Return whether all numbers are at least 0, so that padding 0 changes no max pool."""
        one = self.values[value]
        if one.op == "clip":
            return bool(one.get("low") >= 0)
        return one.op in ("pool", "concat") and all(map(self._positive, one.inputs))

    def _mean(self, inputs: tuple[int, ...], settings: dict[str, Any], _: str) -> int:
        before, axes = self.values[inputs[0]], settings["axes"]
        value = inputs[0]
        if before.op == "permute":
            order = before.get("order")
            value, axes = before.inputs[0], tuple(sorted(order[axis] for axis in axes))
        if axes != (2, 3):
            return self._number("mean", inputs, {"axes": axes}, "", None)
        if self.side(value) == 1:
            return value
        return self._number("mean", (value,), {"axes": axes}, "", 1)

    def _flatten(self, inputs: tuple[int, ...], _: dict[str, Any], __: str) -> int:
        before, value, order = self.values[inputs[0]], inputs[0], "chw"
        if before.op == "permute" and before.get("order") == NHWC:
            value, order = before.inputs[0], "hwc"
        if self.side(value) in (1, None):
            return value
        return self._number("flatten", (value,), {"order": order}, "", None)

    def _dense(
        self, inputs: tuple[int, ...], settings: dict[str, Any], module: str, side: int | None = 1
    ) -> int:
        return self._number("dense", (self._flatten(inputs, {}, ""),), settings, module, side)

    def _norm(self, inputs: tuple[int, ...], settings: dict[str, Any], module: str) -> int:
        epsilon = settings.pop("epsilon", None)
        usual = self.epsilons.setdefault(module, epsilon or 0.0)
        if epsilon is not None and abs(epsilon - usual) > _EPSILON_TOLERANCE * usual:
            settings["epsilon"] = epsilon
        return self._number("norm", inputs, settings, module, self.side(inputs[0]))

    def _plus(self, inputs: tuple[int, ...], settings: dict[str, Any], module: str) -> int:
        """Make an added bias part of its dense layer, and a factor and a summand a norm."""
        before = self.values[inputs[0]]
        if settings["leaf"] == "bias" and before.op == "dense" and before.module == module:
            return inputs[0]
        if settings["leaf"] == "beta" and before.op == "times" and before.module == module:
            return self._norm(before.inputs, {}, module)
        return self._number("plus", inputs, settings, module, before.side)

    def _permute(self, inputs: tuple[int, ...], settings: dict[str, Any], _: str) -> int:
        before, order = self.values[inputs[0]], settings["order"]
        if before.op == "input" and order == NCHW:
            return inputs[0]  # images may be given with channels last
        if before.op == "permute" and len(order) == len(before.get("order")):
            inner = before.get("order")
            return self._permute(before.inputs, {"order": tuple(inner[i] for i in order)}, "")
        if order == tuple(range(len(order))):
            return inputs[0]
        return self._number("permute", inputs, {"order": order}, "", before.side)

    def _concat(self, inputs: tuple[int, ...], settings: dict[str, Any], _: str) -> int:
        parts: list[int] = []
        for one in inputs:
            value = self.values[one]
            nested = value.op == "concat" and value.get("axis") == settings["axis"]
            parts += value.inputs if nested else (one,)
        if len(parts) == 1:
            return parts[0]
        return self._number("concat", tuple(parts), settings, "", self.side(parts[0]))


def difference(
    graph: Graph, *, backbone: str, own: Graph, size: int, canonical: Mapping[str, str],
    absent: frozenset[str],
) -> str | None:  # fmt: skip
    """Return where a file's network differs from a backbone's, or None.

    Parameters
    ----------
    graph : Graph
        The network of the file.
    backbone : str
        The backbone's name, for the message.
    own : Graph
        The network of the backbone, its tensors under canonical names.
    size : int
        Side of the backbone's images, in pixels.
    canonical : mapping of str to str
        The file's tensors -> canonical names, for those that the backbone uses.
    absent : frozenset of str
        Canonical names of modules that the file's network does not have: norms that were folded,
        and convolutions that are the identity.

    Returns
    -------
    str or None
        A message with the node, its operation and what the backbone has in its place.
    """
    numbering = _Numbering(size, graph.rounding)
    _number_own(numbering, own, absent, graph.flatten)
    count = len(numbering.values)
    numbers: dict[str, int | None] = {}  # None: computed with weights that the backbone lacks
    suspects: list[tuple[Node, int]] = []
    foreign: tuple[str, ...] = ()
    other: set[str] = set()  # values that are computed otherwise, with the backbone's parameters
    for node in graph.nodes:
        inputs = [numbers.get(one, numbering.input) for one in node.inputs]
        known = [canonical[one] for one in node.tensors if one in canonical]
        if (node.tensors and not known) or any(one is None for one in inputs):
            if known:  # other layers may follow those of the backbone, but not come between them
                return (
                    f"{node.name} (with {known[0]}) takes the result of a layer that {backbone} "
                    f"does not have ({', '.join(foreign)})"
                )
            foreign += node.tensors[: max(0, 3 - len(foreign))]
            numbers[node.output] = None
            continue
        given = tuple(one for one in inputs if one is not None)
        modules = {one.rpartition(".")[0] for one in known}
        module = next(iter(modules), "")
        settings = dict(node.settings)
        if node.op == "plus":
            settings["leaf"] = known[0].rpartition(".")[2]
        if len(modules) > 1 or (node.op == "norm" and not _in_order(known)):
            settings["parameters"] = ", ".join(known)
        value = numbering.make(node.op, given, settings, module)
        value = _without_transform(numbering, value, backbone)
        numbers[node.output] = value
        if value >= count:
            if known and node.op != "times":  # a factor alone, which the next node makes a norm
                other.add(node.output)
            if all(one < count for one in numbering.values[value].inputs):
                suspects.append((node, value))
    wanted = _leading_to(graph, other)
    consumers: dict[int, list[_Value]] = {}
    for one in numbering.values[:count]:
        for taken in one.inputs:
            consumers.setdefault(taken, []).append(one)
    found = [
        (node, value)
        for node, value in suspects
        if node.output in wanted or _skips_activation(numbering.values[value], consumers)
    ]
    found.sort(key=lambda pair: numbering.values[pair[1]].op in _PASSING)
    if not found:
        return None
    node, value = found[0]
    return _message(
        numbering, node=node, value=value, count=count, consumers=consumers, backbone=backbone
    )


def _skips_activation(value: _Value, consumers: Mapping[int, list[_Value]]) -> bool:
    """Return whether it uses a value that the backbone only uses after a norm or a ReLU.

    After the last parameters a file may have other layers, but it may not leave out an activation.
    """
    ahead = [one for place in value.inputs for one in consumers.get(place, [])]
    return bool(ahead) and value.op not in _PASSING and all(one.op in _ACTIVATIONS for one in ahead)


def _in_order(known: list[str]) -> bool:
    """Return whether the known parameters of a norm are in the usual order."""
    leaves = [one.rpartition(".")[2] for one in known]
    order = ["gamma", "beta", "running_mean", "running_var"]
    return leaves == [leaf for leaf in order if leaf in leaves]


def _leading_to(graph: Graph, ends: set[str]) -> set[str]:
    """Return some values and all values from which they are computed."""
    wanted = set(ends)
    for node in reversed(graph.nodes):
        if node.output in wanted:
            wanted.update(node.inputs)
    return wanted


def _number_own(numbering: _Numbering, own: Graph, absent: frozenset[str], flatten: str) -> None:
    """Number the backbone's network as a file without the `absent` modules describes it."""
    numbers: dict[str, int] = {}
    for node in own.nodes:
        inputs = tuple(numbers.get(one, numbering.input) for one in node.inputs)
        module = node.tensors[0].rpartition(".")[0] if node.tensors else ""
        if module and module in absent:
            numbers[node.output] = inputs[0]
            continue
        if node.op == "dense":
            shown = inputs[0]
            if flatten == "hwc" and numbering.values[shown].op == "flatten":
                shown = numbering.values[shown].inputs[0]
            if flatten == "hwc" and numbering.side(shown) not in (1, None):
                turned = numbering.make("permute", (shown,), {"order": NHWC}, "")
                shown = numbering.make("flatten", (turned,), {}, "")
            inputs = (shown,)
        numbers[node.output] = numbering.make(node.op, inputs, dict(node.settings), module)


def _without_transform(numbering: _Numbering, value: int, backbone: str) -> int:
    """Return the input itself for torchvision's rescaling inside Inception; else the value."""
    one = numbering.values[value]
    if one.op != "concat" or backbone != "inception_v3" or len(one.inputs) != len(_TRANSFORM):
        return value
    for channel, (place, (factor, summand)) in enumerate(zip(one.inputs, _TRANSFORM, strict=True)):
        shift = numbering.values[place]
        scale = numbering.values[shift.inputs[0]] if shift.inputs else shift
        taken = numbering.values[scale.inputs[0]] if scale.inputs else scale
        if (shift.op, scale.op, taken.op) != ("shift", "scale", "channel"):
            return value
        near = math.isclose(scale.get("by"), factor, abs_tol=1e-4) and math.isclose(
            shift.get("by"), summand, abs_tol=1e-4
        )
        if not near or taken.get("index") != channel or taken.inputs != (numbering.input,):
            return value
    return numbering.input


def _message(
    numbering: _Numbering,
    *, node: Node, value: int, count: int,
    consumers: Mapping[int, list[_Value]], backbone: str,
) -> str:  # fmt: skip
    found = numbering.values[value]
    where = f"{node.name or node.output} ({_described(found)})"
    same = [
        one
        for one in numbering.values[:count]
        if found.module and (one.op, one.module) == (found.op, found.module)
    ]
    if same and same[0].inputs == found.inputs:
        return f"{where} has {_differing_settings(numbering, found, same[0], backbone)}"
    if same:
        theirs, ours = (
            " and ".join(_described(numbering.values[place]) for place in one.inputs)
            for one in (found, same[0])
        )
        if theirs == ours:
            theirs, ours = "the result of another layer", f"that of {_origin(numbering, same[0])}"
        return f"{where} takes {theirs}, where {backbone} takes {ours}"
    ahead = [_described(one) for place in found.inputs for one in consumers.get(place, [])]
    behind = " and ".join(dict.fromkeys(ahead)) or "nothing more"
    advice = (
        "; preprocessing inside a graph is not read, export the network without it"
        if found.inputs == (numbering.input,)
        else ""
    )
    return f"{where} stands where {backbone} has {behind}{advice}"


def _origin(numbering: _Numbering, value: _Value) -> str:
    """Return the last layer with parameters before a value."""
    while value.inputs:
        value = numbering.values[value.inputs[0]]
        if value.module:
            return value.module
    return "the image"


def _differing_settings(numbering: _Numbering, found: _Value, usual: _Value, backbone: str) -> str:
    theirs, ours = dict(found.settings), dict(usual.settings)
    if "epsilon" in theirs:
        ours["epsilon"] = numbering.epsilons[found.module]
    names = [name for name in sorted({*theirs, *ours}) if theirs.get(name) != ours.get(name)]
    return ", ".join(
        f"{name.replace('_', ' ')} {_text(theirs.get(name, 'unset'))} where {backbone} has "
        f"{_text(ours.get(name, 'none'))}"
        for name in names
    )


_WORDS = {
    "conv": "convolution", "dense": "dense layer", "norm": "batch norm", "mean": "global average",
    "add": "addition", "concat": "concatenation", "lrn": "local response norm", "pad": "padding",
    "times": "multiplication", "plus": "addition", "scale": "multiplication", "shift": "addition",
}  # fmt: skip


def _described(value: _Value) -> str:
    if value.op == "clip":
        low, high = value.get("low"), value.get("high")
        known = {(0, math.inf): "ReLU", (0, 6): "ReLU6"}
        return known.get((low, high), f"clipping to [{low:g}, {high:g}]")
    if value.op == "pool":
        kernel = "x".join(map(str, value.get("kernel")))
        stride, pads = _text(value.get("stride")), _text(value.get("pads"))
        text = f"{kernel} {value.get('kind')} pool, stride {stride}, pads {pads}"
        text += ", rounded up" if value.get("ceil") else ""
        return text + ("" if value.get("include_pad") else ", padding not counted")
    word = _WORDS.get(value.op, value.op)
    if value.op in ("pad", "lrn", "scale", "shift", "flatten"):
        return f"{word} {', '.join(f'{name} {_text(one)}' for name, one in value.settings)}"
    return (
        f"{word} {value.module}" if value.module else f"the {word}" * (value.op == "input") or word
    )


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return str(value[0]) if len(set(value)) == 1 else "x".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
