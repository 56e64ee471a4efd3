"""Run a network operator by operator, for checks, or compose it of MXNet's symbols, to train it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones.network import GAIN, INPUT, SHIFT, NetworkGraph, Node
from probe.engines.base import Parameters
from probe.engines.mxnet.graph import operators_of
from probe.engines.mxnet.mx import mx
from probe.preprocess.spec import PreprocessSpec


def apply_nodes(F: Any, nodes: Iterable[Node], values: dict[str, Any]) -> None:
    """Add the values of nodes to those that there are.

    Parameters
    ----------
    F : module
        ``mx.nd`` to compute, ``mx.sym`` to compose.
    values : dict of name to array or symbol
        The input and all parameters that the nodes use; each node's value is added.
    """
    for node in nodes:
        for operator in operators_of(node):
            inputs = [values[name] for name in operator.inputs]
            values[operator.output] = getattr(F, operator.op)(*inputs, **operator.attributes)


def variables(nodes: Iterable[Node]) -> dict[str, Any]:
    """Return a symbol for each parameter of nodes, by its canonical name."""
    return {name: mx.sym.var(name) for node in nodes for name in node.tensors}


def forward(
    network: NetworkGraph,
    parameters: Parameters,
    preprocess: PreprocessSpec,
    batch: NDArray[np.uint8],
) -> list[NDArray[np.float32]]:
    """Run a few images on the CPU, nothing fused; see `probe.engines.forward`."""
    values = _given(network, parameters, preprocess, batch)
    apply_nodes(mx.nd, network.nodes, values)
    return [values[name].asnumpy() for name in network.outputs]


def first_not_finite(
    network: NetworkGraph,
    parameters: Parameters,
    preprocess: PreprocessSpec,
    batch: NDArray[np.uint8],
) -> tuple[str, int, int] | None:
    """Look at what each operation gives; see `probe.engines.first_not_finite`."""
    values = _given(network, parameters, preprocess, batch)
    for node in network.nodes:
        apply_nodes(mx.nd, [node], values)
        found = values[node.output].asnumpy()
        bad = found.size - int(np.isfinite(found).sum())
        if bad:
            return node.name, bad, found.size
    return None


def _given(
    network: NetworkGraph,
    parameters: Parameters,
    preprocess: PreprocessSpec,
    batch: NDArray[np.uint8],
) -> dict[str, Any]:
    gain, shift = preprocess.arithmetic()
    given: Mapping[str, Any] = {**parameters, GAIN: gain, SHIFT: shift}
    used = {name for node in network.nodes for name in node.tensors}
    values = {name: mx.nd.array(given[name]) for name in used}
    return {INPUT: mx.nd.array(batch, dtype="uint8"), **values}
