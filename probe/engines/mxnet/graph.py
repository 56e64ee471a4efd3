"""A cut network written down: MXNet's graph in JSON, with what it needs to be fed.

Built from the architecture by MXNet's Python package once; run from the text without it.

MXNet's native code checks most of what a graph tells it, not all: `num_group` 0 is a division by
zero and an output of an operator that has no such output is read from anywhere, and both end the
process. So of a graph from elsewhere each operator may say only what the backbones say, in the
same words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from probe.backbones.spec import BackboneSpec, Layer, Pool
from probe.core.records import loads_json
from probe.errors import WeightsError
from probe.preprocess.spec import PreprocessSpec

SCHEMA = 1
INPUT, GAIN, SHIFT = "data", "gain", "shift"  # GAIN and SHIFT: the preprocessing's arithmetic
Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class FrozenGraph:
    """A network cut at one or more layers: (N, S, S, 3) pixels in, features out.

    Parameters
    ----------
    symbol : str
        MXNet's JSON; variables have the parameters' canonical names.
    arguments, states : mapping of name to shape
        What it has to be given beside the pixels: parameters and the preprocessing's arithmetic;
        running statistics.
    outputs : int
        One a cut, in their order.
    made_of : str
        Backbone, cuts and input, for people and for telling two apart.
    """

    made_of: str
    symbol: str
    arguments: Mapping[str, Shape]
    states: Mapping[str, Shape]
    outputs: int

    @property
    def parameters(self) -> dict[str, Shape]:
        """Name and shape of each parameter and running statistic."""
        known = {name: shape for name, shape in self.arguments.items() if "." in name}
        return known | dict(self.states)

    def to_json(self) -> str:
        """Return all of it as one text, the same for the same network."""
        data = {
            "schema": SCHEMA, "made_of": self.made_of, "outputs": self.outputs,
            "arguments": dict(self.arguments), "states": dict(self.states),
            "symbol": loads_json(self.symbol),
        }  # fmt: skip
        return json.dumps(data, separators=(",", ":")) + "\n"

    @classmethod
    def from_json(cls, text: bytes) -> FrozenGraph:
        """Read what `to_json` wrote.

        Raises
        ------
        WeightsError
            It is something else, or says what no backbone's graph does; see `check_symbol`.
        """
        try:
            data = loads_json(text)
            symbol = data["symbol"]
            graph = cls(
                made_of=str(data["made_of"]),
                symbol=json.dumps(symbol),
                arguments=_shapes(data["arguments"]),
                states=_shapes(data["states"]),
                outputs=len(symbol["heads"]),
            )
            right = data["schema"] == SCHEMA and data["outputs"] == graph.outputs > 0
            check_symbol(symbol, {INPUT: None, **graph.arguments, **graph.states})
        except (ValueError, TypeError, LookupError, RecursionError, AttributeError) as error:
            raise WeightsError(f"a network's graph cannot be read: {error}") from None
        if not right:
            raise WeightsError("a network's graph is of another version or contradicts itself")
        return graph


def described(
    spec: BackboneSpec, cuts: Sequence[tuple[Layer, Pool]], preprocess: PreprocessSpec
) -> str:
    """Return what a graph is made of: all that its text depends on."""
    places = ", ".join(f"{layer.name} ({pool})" for layer, pool in cuts)
    return f"{spec.name} to {places}, {preprocess.size} px, {preprocess.channels}"


def _shapes(data: Mapping[str, Any]) -> dict[str, Shape]:
    return {str(name): tuple(map(int, shape)) for name, shape in data.items()}


MOST_CHANNELS = 9999
COUNT = "[1-9][0-9]{0,3}"  # of channels or groups
SIDES = r"\([1-9][0-9]?, [1-9][0-9]?\)"
MARGINS = r"\([0-9], [0-9]\)"
FLAG = "True|False"
ATTRIBUTES: Mapping[str, Mapping[str, str]] = {
    "Activation": {"act_type": "relu"},
    "BatchNorm": {
        "axis": "1", "eps": "0.001|1e-05", "fix_gamma": FLAG, "momentum": "0.9",
        "use_global_stats": "False",
    },
    "Cast": {"dtype": "float32"},
    "Concat": {"dim": "1", "num_args": "[2-4]"},
    "Convolution": {
        "dilate": r"\(1, 1\)", "kernel": SIDES, "layout": "NCHW", "no_bias": FLAG,
        "num_filter": COUNT, "num_group": COUNT, "pad": MARGINS, "stride": SIDES,
    },
    "Dropout": {"axes": r"\(\)", "cudnn_off": "False", "p": "0.5"},
    "Flatten": {},
    "FullyConnected": {"flatten": "True", "no_bias": "False", "num_hidden": COUNT},
    "LRN": {"alpha": "0.0001", "beta": "0.75", "knorm": "1", "nsize": "5"},
    "Pad": {
        "constant_value": "0", "mode": "constant",
        "pad_width": r"\(0, 0, 0, 0, [0-9], [0-9], [0-9], [0-9]\)",
    },
    "Pooling": {
        "count_include_pad": FLAG, "global_pool": FLAG, "kernel": SIDES, "layout": "NCHW",
        "pad": MARGINS, "pool_type": "avg|max", "pooling_convention": "full|valid",
        "stride": SIDES,
    },
    "broadcast_mul": {},
    "broadcast_sub": {},
    "clip": {"a_max": "6", "a_min": "0"},
    "elemwise_add": {},
    "null": {},  # a variable; see `_check_variable`
    "relu": {},
    "reverse": {"axis": "1"},
    "transpose": {"axes": r"\(0, 3, 1, 2\)"},
}  # fmt: skip
INPUTS = {
    "BatchNorm": (5,), "Concat": (2, 3, 4), "Convolution": (2, 3), "FullyConnected": (3,),
    "broadcast_mul": (2,), "broadcast_sub": (2,), "elemwise_add": (2,), "null": (0,),
}  # fmt: skip
ONE = (1,)  # of all other operators
KEYS = {"nodes", "arg_nodes", "node_row_ptr", "heads", "attrs"}
NODE_KEYS = {"op", "name", "inputs", "attrs"}


def check_symbol(symbol: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...] | None]) -> None:
    """Raise unless a graph says nothing but what the backbones' graphs say.

    Parameters
    ----------
    symbol : mapping
        MXNet's JSON.
    shapes : mapping of name to shape
        Of all variables; None where it is not written down, as that of the pixels.

    Raises
    ------
    ValueError
    TypeError, LookupError, AttributeError
        A part is of another kind.
    """
    nodes = symbol["nodes"]
    variables = [number for number, node in enumerate(nodes) if node["op"] == "null"]
    names = [nodes[number]["name"] for number in variables]
    _require(set(symbol) <= KEYS, "it has parts that no graph has")
    _require(symbol["arg_nodes"] == variables, "its list of variables is another")
    _require(sorted(names) == sorted(shapes), "its variables are not those it names")
    widths: list[int] = []
    for number, node in enumerate(nodes):
        op = node["op"]
        _require(op in ATTRIBUTES, f"an operator of no backbone: {op}")
        _require(set(node) <= NODE_KEYS, f"{op} has parts that no node has")
        _check_sources(node["inputs"], number, op)
        _require(len(node["inputs"]) in INPUTS.get(op, ONE), f"{op} has too many inputs or too few")
        attributes = node.get("attrs", {})
        if op == "null":
            _check_variable(node["name"], attributes, shapes[node["name"]])
        else:
            _check_attributes(op, attributes)
        widths.append(_width(attributes, [widths[source] for source, *_ in node["inputs"]], op))
        _require(widths[-1] <= MOST_CHANNELS, f"{op} gives too many channels")
    _check_sources(symbol["heads"], len(nodes), "the end")


def _check_sources(sources: Any, before: int, what: str) -> None:
    """Allow the first output of earlier nodes alone."""
    for node, output, version in sources:  # version 1: of a state, which training would change
        first = type(node) is int and 0 <= node < before and output == 0 and version in (0, 1)
        _require(first, f"{what} takes what no earlier node gives")


def _check_attributes(op: str, attributes: Mapping[str, Any]) -> None:
    for name, value in attributes.items():
        allowed = ATTRIBUTES[op].get(name)
        told = allowed is not None and isinstance(value, str) and re.fullmatch(allowed, value)
        _require(bool(told), f"{op} with {name} {value!s:.40}, as in no backbone")


def _width(attributes: Mapping[str, str], inputs: list[int], op: str) -> int:
    """Return how many channels an operator gives: a few that double them ask for terabytes."""
    own = attributes.get("num_filter") or attributes.get("num_hidden")
    if own is not None:
        return int(own)
    return sum(inputs) if op == "Concat" else max(inputs, default=3)


def _check_variable(name: str, attributes: Mapping[str, Any], shape: object) -> None:
    expected = {} if shape is None else {"__shape__": str(shape)}
    _require(attributes == expected, f"{name} has another shape than it is said to have")


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(what)
