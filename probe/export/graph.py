"""Build the graph of a whole bundle, from pixels to features and probabilities.

    data (N, S, S, 3) uint8 -> arithmetic of the preprocessing -> network -> features
         -> normaliser -> layers with ReLU between -> scores / temperature -> softmax, or for
         multi-label bundles a sigmoid

Networks share an input if their images are resized in the same way; their features are
concatenated, and may go through a PCA; in an ensemble each has a head of its own. The probabilities
of several heads are averaged.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones.cut import cut_network
from probe.backbones.network import GAIN, INPUT, SHIFT, Builder, NetworkGraph, OnnxTerms
from probe.bundle import Bundle, Network
from probe.core.short_repr import short_repr
from probe.engines import Parameters
from probe.errors import BundleError
from probe.export.check import input_names, linear_heads
from probe.heads import LayeredHead
from probe.heads.projection import Projection

LEAST_OPSET = 13  # of ONNX's operators
NEVER = -1e30  # score of a class without training rows, so that its probability is exactly 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """The graph of a bundle and its parameters.

    Parameters
    ----------
    network : NetworkGraph
        Two outputs: ``probabilities`` (N, n_classes) and ``features`` (N, n_features).
    arrays : mapping of name to array
        Parameters and running statistics, float32 but for some of an ONNX file's.
    """

    __repr__ = short_repr

    network: NetworkGraph
    arrays: dict[str, NDArray[Any]]


def build_graph(bundle: Bundle) -> Graph:
    """Return the graph of a bundle that was loaded from disk.

    Raises
    ------
    BundleError
        The head has no layers.
    """
    heads, names = linear_heads(bundle), input_names(bundle)
    net, values = Builder(), dict[str, NDArray[Any]]()
    found: dict[int, str] = {}
    for number, members in enumerate(bundle.passes):
        own = [bundle.networks[member] for member in members]
        data, parameters = names[bundle.fed_by[members[0]]], bundle.parameters(members[0])
        prefix = f"network{number + 1}." if len(bundle.passes) > 1 else ""
        found |= zip(
            members, _pass(net, own, parameters, data, values=values, prefix=prefix), strict=True
        )
    every = [found[number] for number in range(len(bundle.networks))]
    features = every[0] if len(every) == 1 else net.concat("side_by_side", *every)
    if bundle.projection is not None:
        features = _projected(net, features, bundle.projection, values)
    temperature = bundle.about.temperature or 1.0
    taken = every if bundle.about.ensemble else [features] * len(heads)
    answers = [
        _head(
            net, taken[number], head, name=f"head{number}", n_classes=len(bundle.about.classes),
            temperature=temperature, values=values,
        )
        for number, head in enumerate(heads)
    ]  # fmt: skip
    if answers:
        mean = answers[0]
        for number, other in enumerate(answers[1:], start=1):
            mean = net.add(f"sum{number}", mean, other)
        if len(answers) > 1:
            mean = net.add_node("over", "mean", [mean], by=float(len(answers)))
    else:
        net.add_node("over", "scores", [features], by=temperature)
        mean = net.add_node("softmax", "softmax")
    net.add_node("same", "probabilities", [mean])
    net.add_node("same", "features", [features])
    terms = _terms(bundle)
    network = replace(net.network(), outputs=("probabilities", "features"), terms=terms)
    used = {name for node in network.nodes for name in node.tensors}
    arrays = {name: _single(value) for name, value in values.items() if name in used}
    return Graph(network=network, arrays=arrays)


def _single(value: NDArray[Any]) -> NDArray[Any]:
    """Return float64 as float32; an ONNX file's arrays have the types that its nodes take."""
    return np.asarray(value, np.float32) if value.dtype == np.float64 else value


def _terms(bundle: Bundle) -> OnnxTerms | None:
    """Return what the nodes of ONNX files among the networks mean; None without such nodes.

    Raises
    ------
    BundleError
        They are of too old a version of the operators, of several, or take one image at a time.
    """
    every = [one.spec.network(one.preprocess.size).terms for one in bundle.networks]
    found = [one for one in every if one is not None]
    if not found:
        return None
    if any((one.opsets, one.functions) != (found[0].opsets, found[0].functions) for one in found):
        raise BundleError(
            "its networks come from ONNX files with other versions of the operators, or functions "
            "of their own; one file cannot hold both"
        )
    if found[0].opsets[""] < LEAST_OPSET:
        raise BundleError(
            f"its network comes from an ONNX file of version {found[0].opsets['']} of the "
            f"operators, and a head needs {LEAST_OPSET}; export that file again with a newer opset"
        )
    if any(one.batch is not None for one in found):
        raise BundleError(
            "its network comes from an ONNX file that takes a fixed number of images; export that "
            "file again with a free batch"
        )
    return found[0]


def _pass(
    net: Builder, networks: list[Network], parameters: Parameters, data: str, *,
    values: dict[str, NDArray[Any]], prefix: str,
) -> list[str]:  # fmt: skip
    """Return the names of the features of networks that share a pass, (N, d) each.

    Its parameters are added to `values`; all its names begin with `prefix`.
    """
    preprocess = networks[0].preprocess
    cut = cut_network(networks[0].spec, [one.cut for one in networks], preprocess)
    gain, shift = preprocess.arithmetic()
    given = {**parameters, GAIN: gain, SHIFT: shift}
    values |= {prefix + name: value for name, value in given.items()}
    for node in cut.nodes:
        inputs = tuple(data if name == INPUT else prefix + name for name in node.inputs)
        net.append(
            replace(
                node, inputs=inputs, output=prefix + node.output, name=prefix + node.name,
                tensors=tuple(prefix + name for name in node.tensors),
                others=tuple(prefix + name for name in node.others),
            )
        )  # fmt: skip
    return [
        net.add_node("flatten", f"{prefix}features{number}", [prefix + name])
        for number, name in enumerate(cut.outputs)
    ]


def _projected(
    net: Builder, rows: str, projection: Projection, values: dict[str, NDArray[Any]]
) -> str:
    """Return the features after the PCA; the mean is subtracted first, for float32 precision."""
    values |= {"pca.mean": projection.mean.reshape(1, -1), "pca.weight": projection.basis.T}
    net.add_node("subtract", "pca.centred", [rows], tensors=["pca.mean"])
    return net.add_node("dense", "pca", tensors=["pca.weight"], width=projection.width)


def _head(
    net: Builder, rows: str, head: LayeredHead, *, name: str, n_classes: int, temperature: float,
    values: dict[str, NDArray[Any]],
) -> str:  # fmt: skip
    """Return the probabilities of one head; its numbers go into `values`."""
    normalizer = head.normalizer_
    net.value = rows
    if normalizer.kind == "standard":
        mean, scale = f"{name}.mean", f"{name}.scale"
        values |= {mean: normalizer.mean.reshape(1, -1), scale: normalizer.scale.reshape(1, -1)}
        net.add_node("subtract", f"{name}.centred", tensors=[mean])
        net.add_node("divide", f"{name}.standard", tensors=[scale])
    elif normalizer.kind == "l2":
        net.add_node("l2", f"{name}.unit")
    *hidden, (coef, intercept) = head.layers()
    for number, (weight, bias) in enumerate(hidden):
        net.relu(_dense(net, weight, bias, f"{name}.hidden{number}", values) + ".act")
    labels = head.classes_.astype(np.intp)
    weight, bias = np.zeros((n_classes, coef.shape[1])), np.full(n_classes, NEVER)
    weight[labels], bias[labels] = coef / temperature, intercept / temperature
    _dense(net, weight, bias, name, values)
    return net.add_node(head.task_.activation, f"{name}.probabilities")


def _dense(
    net: Builder, weight: NDArray[Any], bias: NDArray[Any], name: str,
    values: dict[str, NDArray[Any]],
) -> str:  # fmt: skip
    values |= {f"{name}.weight": weight, f"{name}.bias": bias}
    return net.dense(name, len(weight))
