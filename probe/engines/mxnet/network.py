"""From a spec to a Gluon network: built whole, cut at the layers asked for."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones.spec import IMAGENET, BackboneSpec, Layer, Pool, classes_of, is_logits
from probe.engines.mxnet.graph import GAIN, INPUT, SHIFT, FrozenGraph, described
from probe.engines.mxnet.mx import mx
from probe.preprocess.spec import PreprocessSpec

Shape = tuple[int, ...]
Parameters = Mapping[str, NDArray[np.float32]]


def build(spec: BackboneSpec, size: int | None = None, classes: int = IMAGENET) -> Any:
    """Return the whole network, parameters not yet allocated.

    Parameters
    ----------
    size : int, optional
        Side of the input in pixels; some architectures pad by it. Default: the native one.
    classes : int
        Outputs of the classifier.
    """
    module, _, function = spec.builder.partition(":")
    if module == "zoo":
        return mx.gluon.model_zoo.vision.get_model(function, classes=classes)
    net = getattr(importlib.import_module(module), function)(size=size or spec.input_size)
    if classes != IMAGENET:  # of those here it is a dense layer always
        with net.name_scope():
            net.output = mx.gluon.nn.Dense(classes, in_units=net.output._in_units)
    return net


def parameter_shapes(spec: BackboneSpec, classes: int = IMAGENET) -> dict[str, Shape]:
    """Return canonical name -> shape of every parameter and running statistic, top included."""
    net = build(spec, classes=classes)
    side = spec.input_size
    arguments, states = _inferred(net(mx.sym.var(INPUT)), (1, 3, side, side))
    found, named = arguments | states, net._collect_params_with_prefix()
    return {name: found[parameter.name] for name, parameter in named.items()}


def _inferred(symbol: Any, data: Shape) -> tuple[dict[str, Shape], dict[str, Shape]]:
    """Return the shape of each argument and of each auxiliary state, by their names in a symbol."""
    arguments, _, states = symbol.infer_shape(**{INPUT: data})
    return (
        dict(zip(symbol.list_arguments(), map(tuple, arguments), strict=True)),
        dict(zip(symbol.list_auxiliary_states(), map(tuple, states), strict=True)),
    )


class CutNetwork(mx.gluon.HybridBlock):  # type: ignore[misc]
    """The frozen part of a backbone: (N, S, S, 3) uint8 in, one float32 array a cut out.

    Parameters
    ----------
    net : gluon.HybridBlock
        A network from `build`.
    cuts : sequence of (Layer, Pool)
    preprocess : PreprocessSpec
        Its arithmetic half becomes the first step.
    """

    def __init__(
        self, net: Any, cuts: Sequence[tuple[Layer, Pool]], preprocess: PreprocessSpec
    ) -> None:
        super().__init__()
        self._cuts = list(cuts)
        last = max(layer.after for layer, _ in cuts)
        self.features = mx.gluon.nn.HybridSequential(prefix="")
        with self.features.name_scope():
            for block in list(net.features)[:last]:
                self.features.add(block)
        self.output = net.output if any(is_logits(layer.name) for layer, _ in cuts) else None
        gain, shift = preprocess.arithmetic()
        self._reverse = preprocess.channels == "BGR"
        self.gain = self.params.get_constant("gain", mx.nd.array(gain))
        self.shift = self.params.get_constant("shift", mx.nd.array(shift))

    def hybrid_forward(self, F: Any, x: Any, gain: Any, shift: Any) -> Any:
        x = F.transpose(F.cast(x, "float32"), (0, 3, 1, 2))  # (N, S, S, 3) -> (N, 3, S, S)
        if self._reverse:
            x = F.reverse(x, axis=1)
        x = F.broadcast_sub(F.broadcast_mul(x, gain), shift)
        taken: dict[int, Any] = {}
        wanted = {layer.after for layer, _ in self._cuts}
        for i, block in enumerate(self.features._children.values(), start=1):
            x = block(x)
            if i in wanted:
                taken[i] = x
        if self.output is not None:
            taken[last_of(self._cuts).after] = self.output(x)
        return [reduce_map(F, taken[layer.after], layer, pool) for layer, pool in self._cuts]


def freeze(
    spec: BackboneSpec, cuts: Sequence[tuple[Layer, Pool]], preprocess: PreprocessSpec
) -> FrozenGraph:
    """Write down the network cut at some layers, for images of the preprocessing's size."""
    net = build(spec, preprocess.size, classes_of(cuts))
    network = CutNetwork(net, cuts, preprocess)
    outputs = mx.sym.Group(network(mx.sym.var(INPUT)))
    names = {
        parameter.name: name for name, parameter in net._collect_params_with_prefix().items()
    } | {network.gain.name: GAIN, network.shift.name: SHIFT}
    side = preprocess.size
    given, kept = _inferred(outputs, (1, side, side, 3))
    symbol, shapes = json.loads(outputs.tojson()), given | kept
    for number, node in enumerate(symbol["nodes"]):
        if node["op"] != "null":
            node["name"] = f"{node['op'].lower()}{number}"  # Gluon counts what a process has built
        elif node["name"] != INPUT:  # how it is trained is left out
            node["attrs"] = {"__shape__": str(shapes[node["name"]])}
            node["name"] = names[node["name"]]
    return FrozenGraph(
        made_of=described(spec, cuts, preprocess),
        symbol=json.dumps(symbol),
        arguments={names[name]: shape for name, shape in given.items() if name != INPUT},
        states={names[name]: shape for name, shape in kept.items()},
        outputs=len(cuts),
    )


def last_of(cuts: Sequence[tuple[Layer, Pool]]) -> Layer:
    """Return the deepest of the layers that are cut at."""
    return max((layer for layer, _ in cuts), key=lambda layer: layer.after)


def forward(
    spec: BackboneSpec,
    parameters: Parameters,
    cuts: Sequence[tuple[Layer, Pool]],
    preprocess: PreprocessSpec,
    batch: NDArray[np.uint8],
) -> list[NDArray[np.float32]]:
    """Run a few images on the CPU, operator by operator: slow, nothing fused, nothing kept.

    An engine is for datasets; this is for checks, which should depend on as little as they can.

    Parameters
    ----------
    parameters : mapping of canonical name to float32 array
        All that the deepest cut uses; more is ignored.
    cuts : sequence of (Layer, Pool)
        Layers of `spec`, or its `logits`.
    batch : uint8, (N, S, S, 3), RGB
        Already resized to ``preprocess.size``.

    Returns
    -------
    list of float32 arrays
        One a cut, (N, ...).
    """
    net = build(spec, preprocess.size, classes_of(cuts))
    network = CutNetwork(net, cuts, preprocess)
    set_parameters(net, spec, last_of(cuts), parameters, mx.cpu())
    network.gain.initialize(ctx=mx.cpu())
    network.shift.initialize(ctx=mx.cpu())
    return [output.asnumpy() for output in network(mx.nd.array(batch, dtype="uint8"))]


def first_not_finite(
    spec: BackboneSpec,
    parameters: Parameters,
    layer: Layer,
    preprocess: PreprocessSpec,
    batch: NDArray[np.uint8],
) -> tuple[str, int, int] | None:
    """Run a few images on the CPU and look at what each block gives, as `forward` computes it.

    Returns
    -------
    tuple of (str, int, int) or None
        The first block that gives NaN or infinity, by its path in the network, how many such
        numbers and of how many; None where every number is finite.
    """
    net = build(spec, preprocess.size)
    network = CutNetwork(net, [(layer, "none")], preprocess)
    set_parameters(net, spec, layer, parameters, mx.cpu())
    network.gain.initialize(ctx=mx.cpu())
    network.shift.initialize(ctx=mx.cpu())
    found: list[tuple[str, int, int]] = []

    def look_at(path: str) -> Any:
        def look(_: Any, __: Any, output: Any) -> None:
            if not found and not isinstance(output, list):
                values = output.asnumpy()
                bad = values.size - int(np.isfinite(values).sum())
                if bad:
                    found.append((path, bad, values.size))

        return look

    waiting = [("", network)]
    while waiting:
        path, block = waiting.pop()
        for name, child in block._children.items():
            waiting.append((f"{path}{name}.", child))
            child.register_forward_hook(look_at(f"{path}{name}"))
    outputs = network(mx.nd.array(batch, dtype="uint8"))
    for output in outputs:
        output.wait_to_read()
    return found[0] if found else None


def set_parameters(
    net: Any, spec: BackboneSpec, last: Layer, parameters: Parameters, context: Any
) -> None:
    """Give a network that nobody trains the parameters that it uses up to a layer."""
    for name, parameter in net._collect_params_with_prefix().items():
        if spec.uses(last, name):
            # set_data would keep a deferred shape; giving the shape first allocates exactly it,
            # without a gradient and without drawing random weights that nobody wants
            parameter.shape, parameter.grad_req = parameters[name].shape, "null"
            parameter.initialize(mx.init.Zero(), ctx=context, force_reinit=True)
            parameter.set_data(mx.nd.array(parameters[name], ctx=context))


def reduce_map(F: Any, x: Any, layer: Layer, pool: Pool) -> Any:
    """Return a cut's output as features: averaged, the largest, flat, or the map itself."""
    if layer.kind == "gap" or (layer.kind == "map" and pool == "avg"):
        return F.flatten(F.Pooling(x, global_pool=True, pool_type="avg", kernel=(1, 1)))
    if layer.kind == "map" and pool == "max":
        return F.flatten(F.Pooling(x, global_pool=True, pool_type="max", kernel=(1, 1)))
    return x if layer.kind == "map" and pool == "none" else F.flatten(x)


def feature_shapes(
    spec: BackboneSpec, cuts: Sequence[tuple[Layer, Pool]], preprocess: PreprocessSpec
) -> list[Shape]:
    """Return the shape of one image's features at each cut, (D,) or (C, H, W)."""
    side = preprocess.size
    network = CutNetwork(build(spec, side), cuts, preprocess)
    outputs = mx.sym.Group(network(mx.sym.var("data")))
    _, shapes, _ = outputs.infer_shape(data=(1, side, side, 3))
    return [tuple(shape[1:]) for shape in shapes]
