"""A whole bundle as one MXNet graph: pixels in, features and probabilities out.

    data (N, S, S, 3) uint8 -> arithmetic of the preprocessing -> network -> features
         -> normaliser -> layers with ReLU between -> scores / temperature -> softmax, or
         of several labels an image a sigmoid each

Several networks have an input each, or share one where their images are resized alike; their
features stand side by side, and may go through a PCA. With several heads their probabilities are
averaged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones.spec import classes_of
from probe.bundle import Bundle, Network
from probe.core.short_repr import short_repr
from probe.engines.mxnet.mx import mx
from probe.engines.mxnet.network import CutNetwork, build
from probe.export.check import input_names, linear_heads
from probe.heads import LayeredHead
from probe.heads.projection import Projection

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

    __repr__ = short_repr

    symbol: Any
    arguments: dict[str, NDArray[np.float32]]
    states: dict[str, NDArray[np.float32]]


def build_graph(bundle: Bundle) -> Graph:
    """Return the graph of a bundle that was loaded.

    Raises
    ------
    BundleError
        The head is no stack of layers.
    """
    heads, names = linear_heads(bundle), input_names(bundle)
    inputs = [mx.sym.var(name) for name in names]
    values: dict[str, NDArray[Any]] = {}
    found: dict[int, Any] = {}
    for numbers in bundle.passes:
        own = [bundle.networks[number] for number in numbers]
        data, parameters = inputs[bundle.fed_by[numbers[0]]], bundle.parameters(numbers[0])
        found |= zip(numbers, _pass(own, parameters, data, values), strict=True)
    every = [found[number] for number in range(len(bundle.networks))]
    features = every[0] if len(every) == 1 else mx.sym.concat(*every, dim=1, name="side_by_side")
    if bundle.projection is not None:
        features = _projected(features, bundle.projection, values)
    temperature = bundle.about.temperature or 1.0
    answers = [
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
    mean = answers[0] if answers else mx.sym.softmax(features / temperature)
    for other in answers[1:]:
        mean = mean + other
    if len(answers) > 1:
        mean = mean / float(len(answers))
    symbol = mx.sym.Group(
        [mx.sym.identity(mean, name="probabilities"), mx.sym.identity(features, name="features")]
    )
    states = set(symbol.list_auxiliary_states())
    return Graph(
        symbol=symbol,
        arguments={
            name: np.asarray(values[name], np.float32)
            for name in symbol.list_arguments()
            if name not in names
        },
        states={name: np.asarray(values[name], np.float32) for name in sorted(states)},
    )


def _pass(
    networks: list[Network],
    parameters: dict[str, NDArray[np.float32]],
    data: Any,
    values: dict[str, NDArray[Any]],
) -> list[Any]:
    """Return the features of networks that share a pass, (N, d) each.

    Its numbers go into `values`.
    """
    spec, preprocess = networks[0].about.spec, networks[0].preprocess
    cuts = [one.about.cut for one in networks]
    net = build(spec, preprocess.size, classes_of(cuts))
    cut = CutNetwork(net, cuts, preprocess)
    outputs = cut(data)
    values |= {
        parameter.name: parameters[name]
        for name, parameter in net._collect_params_with_prefix().items()
        if name in parameters
    }
    for constant in (cut.gain, cut.shift):
        values[constant.name] = constant.value.asnumpy()
    outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
    return [mx.sym.Flatten(output) for output in outputs]


def _projected(rows: Any, projection: Projection, values: dict[str, NDArray[Any]]) -> Any:
    """Return the features after the PCA; the mean goes first, for float32's sake."""
    values |= {"pca_mean": projection.mean.reshape(1, -1), "pca_weight": projection.basis.T}
    rows = mx.sym.broadcast_sub(rows, mx.sym.var("pca_mean"))
    return mx.sym.FullyConnected(rows, num_hidden=projection.width, no_bias=True, name="pca")


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
    scores = _dense(rows, weight, bias, name, values)
    return mx.sym.softmax(scores, axis=-1) if head.task_.exclusive else mx.sym.sigmoid(scores)


def _dense(
    rows: Any, weight: NDArray[Any], bias: NDArray[Any], name: str, values: dict[str, NDArray[Any]]
) -> Any:
    values |= {f"{name}_weight": weight, f"{name}_bias": bias}
    return mx.sym.FullyConnected(rows, num_hidden=len(weight), name=name)
