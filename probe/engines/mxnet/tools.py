"""The parts of MXNet that fine-tuning and export get from `probe.engines.load_mxnet`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from probe.backbones.network import Node
from probe.engines.mxnet.graph import operators_of
from probe.engines.mxnet.mx import mx, threads
from probe.engines.mxnet.threads import limit_threads

__all__ = ["add_symbols", "limit_threads", "mx", "threads", "variables"]


def add_symbols(nodes: Iterable[Node], values: dict[str, Any]) -> None:
    """Add the values of nodes, as MXNet's symbols, to those that there are.

    Parameters
    ----------
    values : dict of name to symbol
        The input and all parameters that the nodes use; each node's value is added.
    """
    for node in nodes:
        for operator in operators_of(node):
            inputs = [values[name] for name in operator.inputs]
            values[operator.output] = getattr(mx.sym, operator.op)(*inputs, **operator.attributes)


def variables(nodes: Iterable[Node]) -> dict[str, Any]:
    """Return a symbol for each parameter of nodes, by its canonical name."""
    return {name: mx.sym.var(name) for node in nodes for name in node.tensors}
