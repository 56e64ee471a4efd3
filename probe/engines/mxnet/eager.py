"""Compute a network's operations through MXNet, one by one, or compose them of its symbols."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from probe.backbones.network import Node
from probe.engines.mxnet.graph import operators_of
from probe.engines.mxnet.mx import mx


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
