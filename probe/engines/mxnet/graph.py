"""A cut network written down: MXNet's graph in JSON, with what it needs to be fed.

Built from the architecture by MXNet's Python package once; run from the text without it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from probe.backbones.spec import BackboneSpec, Layer, Pool
from probe.core.records import loads_json
from probe.engines.mxnet.operators import check_symbol
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
