"""Build the graphs of a fine-tuning, and bind them to given arrays.

A step of Gluon's record / backward / Trainer.step dispatches each parameter's update apart and
keeps every parameter in an array of its own. Here the graph is composed once and the executor works
on slices of one buffer of weights and one of gradients (`probe.finetune.state`), so that an
optimizer's step, a norm or an average is one operator whatever the depth.

The frozen part is a graph of its own, in which BatchNorm takes its stored statistics and Dropout is
left out, as when the features were extracted. In the part that learns, Dropout is a product with a
mask that is fed in, since MXNet's generator cannot be saved.

Every graph is run with ``is_train=True``, predictions too; where Dropout and moving statistics must
not act, they are left out of the graph. In predict mode MXNet would reorder the weights of
convolutions in place, which for a slice of a buffer overwrites its neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from probe.backbones.cut import pixels, reduction
from probe.backbones.network import INPUT, Node
from probe.backbones.spec import BackboneSpec, Layer, Pool
from probe.core.machine import environment_variable
from probe.engines import load_mxnet
from probe.evaluation.multilabel import HALF
from probe.evaluation.task import SINGLE_LABEL, Task
from probe.preprocess.spec import PreprocessSpec

mxnet = load_mxnet("fine-tuning")
mx = mxnet.mx

Shape = tuple[int, ...]
DATA, TARGET = "data", "target"
MEAN, INVERSE = "head.mean", "head.inverse_scale"
UNUSED = "unused"
MASK = "mask"  # with the number of the block: the name of a Dropout mask's input


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The structure of the network and its head, without parameters.

    Parameters
    ----------
    spec, layer, pool
        The backbone, and the layer and pooling of the features.
    normalize : {"standard", "l2", "none"}
        Normalisation of the features before the head.
    widths : tuple of int
        Outputs of each layer of the head; the last is the number of classes.
    global_bn : bool
        BatchNorm uses its stored statistics in training, too.
    hardest : int
        Images of highest loss in a batch that are learnt from; 0 for all.
    task : Task
        Whether classes share a softmax, or have a sigmoid each.
    """

    spec: BackboneSpec
    layer: Layer
    pool: Pool
    preprocess: PreprocessSpec
    normalize: str
    widths: tuple[int, ...]
    global_bn: bool
    hardest: int = 0
    task: Task = SINGLE_LABEL


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """A symbol and the canonical names of its inputs.

    Parameters
    ----------
    symbol : mx.sym.Symbol
    names : mapping of the symbol's argument or auxiliary state to canonical name
        Without the data and the target.
    masks : tuple of str
        Inputs that are Dropout masks.
    """

    symbol: Any
    names: Mapping[str, str]
    masks: tuple[str, ...] = ()


def frozen_graph(arch: Architecture, size: int, blocks: int) -> Graph:
    """Return the graph of the first `blocks` blocks, from pixels to a map."""
    symbol, names = _backbone(arch, size, last=blocks, stored=True)
    return Graph(symbol=symbol, names=names)


def training_graph(arch: Architecture, size: int, first: int) -> Graph:
    """Return the graph of the loss, from pixels or from the map after `first` frozen blocks.

    Its outputs are the mean loss, and (2,): the mean loss and the share of right images. With
    multi-label images the loss is the sum over labels, as in the heads, and the figures are means
    over single decisions.
    """
    graph = _logits(arch, size, first, stored=arch.global_bn, masked=True)
    loss_of = _single_label_loss if arch.task.exclusive else _multi_label_loss
    losses, figures = loss_of(graph.symbol)
    learnt = losses
    if arch.hardest:
        hard = mx.sym.topk(mx.sym.BlockGrad(losses), axis=0, k=arch.hardest, ret_typ="mask")
        learnt = losses * mx.sym.BlockGrad(hard)
    loss = mx.sym.sum(learnt) / arch.hardest if arch.hardest else mx.sym.mean(learnt)
    outputs = mx.sym.Group([mx.sym.MakeLoss(loss), mx.sym.BlockGrad(figures)])
    return Graph(symbol=outputs, names=graph.names, masks=graph.masks)


def _single_label_loss(scores: Any) -> tuple[Any, Any]:
    """Return each image's cross-entropy, (N,), and the figures, (2,)."""
    target = mx.sym.var(TARGET)
    log_p = mx.sym.log_softmax(scores)  # (N, K)
    losses = -mx.sym.sum(target * log_p, axis=1)
    right = mx.sym.argmax(log_p, axis=1) == mx.sym.argmax(target, axis=1)
    return losses, mx.sym.concat(mx.sym.mean(losses), mx.sym.mean(right), dim=0)


def _multi_label_loss(scores: Any) -> tuple[Any, Any]:
    """Return each image's binary cross-entropy, summed over labels, (N,), and the figures, (2,)."""
    target = mx.sym.var(TARGET)
    each = mx.sym.Activation(scores, act_type="softrelu") - target * scores  # (N, K)
    right = (scores > 0) == (target > HALF)
    return mx.sym.sum(each, axis=1), mx.sym.concat(mx.sym.mean(each), mx.sym.mean(right), dim=0)


def prediction_graph(arch: Architecture, size: int) -> Graph:
    """Return the whole network, pixels to [features, probabilities]."""
    graph = _logits(arch, size, 0, stored=True, with_features=True)
    features, logits = graph.symbol
    p = getattr(mx.sym, arch.task.activation)(logits)
    return Graph(symbol=mx.sym.Group([features, p]), names=graph.names)


def _logits(
    arch: Architecture, size: int, first: int, *, stored: bool, masked: bool = False,
    with_features: bool = False,
) -> Graph:  # fmt: skip
    last = arch.layer.after
    x, names = _backbone(arch, size, first=first, last=last, stored=stored, masked=masked)
    masks = tuple(name for name in names if name.startswith(MASK))
    names = {name: one for name, one in names.items() if name not in masks}
    values = {"map": x}
    tail = reduction("map", arch.layer, arch.pool, "features")
    mxnet.add_symbols(tail, values)
    features = mx.sym.flatten(values[tail[-1].output if tail else "map"])
    x = features
    if arch.normalize == "standard":
        x = mx.sym.broadcast_sub(x, mx.sym.var(MEAN))
        x = mx.sym.broadcast_mul(x, mx.sym.var(INVERSE))
        names |= {MEAN: MEAN, INVERSE: INVERSE}
    elif arch.normalize == "l2":
        x = mx.sym.L2Normalization(x, mode="instance")
    for number, width in enumerate(arch.widths):
        if number:
            x = mx.sym.relu(x)
        weight, bias = f"head.{number}.weight", f"head.{number}.bias"
        names |= {weight: weight, bias: bias}
        x = mx.sym.FullyConnected(x, mx.sym.var(weight), mx.sym.var(bias), num_hidden=width)
    symbol = (features, x) if with_features else x
    return Graph(symbol=symbol, names=names, masks=masks)


def _backbone(
    arch: Architecture, size: int, *, first: int = 0, last: int, stored: bool, masked: bool = False
) -> tuple[Any, dict[str, str]]:
    """Return the value after block `last` and what its inputs are called.

    It begins with pixels, or with the map after `first` blocks.

    Parameters
    ----------
    stored : bool
        BatchNorm takes its stored statistics.
    masked : bool
        Each Dropout is a product with an input; else it is left out.
    """
    network = arch.spec.network(size)
    values: dict[str, Any] = {INPUT: mx.sym.var(DATA)}
    names: dict[str, str] = {}

    def apply(node: Node) -> None:
        names.update({name: name for name in node.tensors})
        values.update(mxnet.variables([node]))
        mxnet.add_symbols([node], values)

    if first == 0:
        front = pixels(arch.preprocess)
        apply(front)
        values[INPUT] = values[front.output]
    else:
        values[network.block_value(first)] = values[INPUT]
    for node in network.part(first, last):
        if node.op == "norm":
            apply(replace(node, settings={**node.settings, "stored": stored}))
        elif node.op != "dropout":
            apply(node)
        elif masked:
            mask = MASK + node.name.rpartition(".")[2]
            names[mask] = mask
            values[node.output] = values[node.inputs[0]] * mx.sym.var(mask)
        else:
            values[node.output] = values[node.inputs[0]]
    return values[network.block_value(last)], names


def bind(
    graph: Graph,
    arrays: Mapping[str, Any],
    inputs: Mapping[str, tuple[Shape, str]],
    *,
    gradients: Mapping[str, Any] | None = None,
    add: bool = False,
    shared: Any = None,
) -> Any:
    """Return an executor of a graph on given arrays.

    Parameters
    ----------
    arrays : mapping of canonical name to NDArray
        Parameters and running statistics; others are ignored.
    inputs : mapping of name to (shape, dtype)
        Arrays that the executor allocates: data, target, masks.
    gradients : mapping of canonical name to NDArray, optional
        Gradients of the parameters that learn. Without them the executor is for prediction.
    add : bool
        Gradients are added to those in the arrays.
    shared : executor, optional
        An executor for another input size, whose working memory is shared.
    """
    symbol, gradients = graph.symbol, dict(gradients or {})
    own = {name: mx.nd.zeros(shape, dtype=dtype) for name, (shape, dtype) in inputs.items()}
    names = {**graph.names, UNUSED: UNUSED}
    if not gradients:
        # In graphs without gradients MXNet uses fused operators, which fold BatchNorm into weights
        # and do not notice that these change. One unused gradient prevents it.
        symbol = mx.sym.Group([*symbol, mx.sym.MakeLoss(mx.sym.var(UNUSED))])
        arrays = {**arrays, UNUSED: mx.nd.zeros(1)}
        gradients = {UNUSED: mx.nd.zeros(1)}
    args = {n: own[n] if n in own else arrays[names[n]] for n in symbol.list_arguments()}
    found = {n: gradients.get(names.get(n, "")) for n in args}
    with environment_variable("MXNET_SUBGRAPH_VERBOSE", "0"):  # else it writes to stderr
        return symbol.bind(
            mx.cpu(),
            args,
            args_grad={n: g for n, g in found.items() if g is not None},
            grad_req={
                n: "null" if g is None else "add" if add else "write" for n, g in found.items()
            },
            aux_states={n: arrays[names[n]] for n in symbol.list_auxiliary_states()},
            shared_exec=shared,
        )


def mask_shapes(
    graph: Graph, arrays: Mapping[str, Any], data: Shape, target: Shape
) -> dict[str, Shape]:
    """Return the shapes of a training graph's masks."""
    if not graph.masks:
        return {}
    known = {n: arrays[name].shape for n, name in graph.names.items() if name in arrays}
    names = graph.symbol.list_arguments()
    given = {n: shape for n, shape in known.items() if n in names}
    shapes, _, _ = graph.symbol.infer_shape(**given, **{DATA: data, TARGET: target})
    return {name: shapes[names.index(name)] for name in graph.masks}


def head_shapes(features: int, widths: Sequence[int]) -> dict[str, Shape]:
    """Return the shapes of a head's parameters by canonical name."""
    found: dict[str, Shape] = {}
    for number, width in enumerate(widths):
        found |= {f"head.{number}.weight": (width, features), f"head.{number}.bias": (width,)}
        features = width
    return found
