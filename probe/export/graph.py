"""A whole bundle as one MXNet graph: pixels in, features and probabilities out.

    data (N, S, S, 3) uint8 -> arithmetic of the preprocessing -> network -> features
         -> normaliser -> layers with ReLU between -> scores / temperature -> softmax

With several heads their probabilities are averaged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones.network import CutNetwork, build
from probe.bundle import Bundle
from probe.export.check import linear_heads
from probe.heads import LayeredHead
from probe.mx import mx

NEVER = -1e30  # the score of a class without training rows: its probability is exactly 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """A symbol and its numbers.

    Parameters
    ----------
    symbol : mx.sym.Symbol
        Two outputs: probabilities (N, n_classes) and features (N, n_features).
    arguments, states : mapping of name to float32 array
        Parameters, and running statistics.
    """

    symbol: Any
    arguments: dict[str, NDArray[np.float32]]
    states: dict[str, NDArray[np.float32]]


def build_graph(bundle: Bundle, parameters: dict[str, NDArray[np.float32]]) -> Graph:
    """Return the graph of a bundle.

    Parameters
    ----------
    parameters : mapping of canonical name to float32 array
        The bundle's weights.

    Raises
    ------
    BundleError
        The head is no stack of layers.
    """
    heads = linear_heads(bundle)
    size = bundle.preprocess.size
    net = build(bundle.about.spec, size)
    network = CutNetwork(net, [bundle.about.cut], bundle.preprocess)
    output = network(mx.sym.var("data"))
    features = mx.sym.Flatten(output[0] if isinstance(output, list | tuple) else output)
    values = {
        parameter.name: parameters[name]
        for name, parameter in net._collect_params_with_prefix().items()
        if name in parameters
    }
    for constant in (network.gain, network.shift):
        values[constant.name] = constant.value.asnumpy()
    temperature = bundle.about.temperature or 1.0
    every = [
        _head(
            features,
            head,
            name=f"head{number}",
            n_classes=len(bundle.about.classes),
            temperature=temperature,
            values=values,
        )
        for number, head in enumerate(heads)
    ]
    mean = every[0] if every else mx.sym.softmax(features / temperature)
    for other in every[1:]:
        mean = mean + other
    if len(every) > 1:
        mean = mean / float(len(every))
    symbol = mx.sym.Group(
        [mx.sym.identity(mean, name="probabilities"), mx.sym.identity(features, name="features")]
    )
    states = set(symbol.list_auxiliary_states())
    return Graph(
        symbol=symbol,
        arguments={
            name: np.asarray(values[name], np.float32)
            for name in symbol.list_arguments()
            if name != "data"
        },
        states={name: np.asarray(values[name], np.float32) for name in sorted(states)},
    )


def _head(
    rows: Any,
    head: LayeredHead,
    *,
    name: str,
    n_classes: int,
    temperature: float,
    values: dict[str, NDArray[Any]],
) -> Any:
    """Return the probabilities of one head; its numbers go into `values`."""
    normalizer = head.normalizer_
    if normalizer.kind == "standard":
        values |= {
            f"{name}_mean": normalizer.mean.reshape(1, -1),
            f"{name}_scale": normalizer.scale.reshape(1, -1),
        }
        rows = mx.sym.broadcast_sub(rows, mx.sym.var(f"{name}_mean"))
        rows = mx.sym.broadcast_div(rows, mx.sym.var(f"{name}_scale"))
    elif normalizer.kind == "l2":
        rows = mx.sym.L2Normalization(rows, mode="instance", eps=1e-20)
    *hidden, (coef, intercept) = head.layers()
    for number, (weight, bias) in enumerate(hidden):
        rows = mx.sym.relu(_dense(rows, weight, bias, f"{name}_hidden{number}", values))
    labels = head.classes_.astype(np.intp)
    weight, bias = np.zeros((n_classes, coef.shape[1])), np.full(n_classes, NEVER)
    weight[labels], bias[labels] = coef / temperature, intercept / temperature
    return mx.sym.softmax(_dense(rows, weight, bias, name, values), axis=-1)


def _dense(
    rows: Any, weight: NDArray[Any], bias: NDArray[Any], name: str, values: dict[str, NDArray[Any]]
) -> Any:
    values |= {f"{name}_weight": weight, f"{name}_bias": bias}
    return mx.sym.FullyConnected(rows, num_hidden=len(weight), name=name)
