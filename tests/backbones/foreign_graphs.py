"""Small networks that no catalog knows, as ONNX models, and what they answer in NumPy.

`transformer` has a class token, registers and patches, as DINOv2 has; `convolutions` is a
convolution, norm, ReLU, average and classifier, in either layout. Each comes with a function that
computes its values in float64, so a test compares rows with arithmetic, not with another runtime.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = dict[str, NDArray[Any]]
Truth = Callable[[NDArray[Any]], Values]  # from what the network is fed
SIZE, WIDTH, PATCH, HEADS, DEPTH, CLASSES = 32, 24, 8, 2, 2, 5
EPSILON = 1e-6


class Graph:
    """Nodes and arrays in the making."""

    def __init__(self, seed: int, dtype: Any = np.float32) -> None:
        self.nodes: list[Any] = []
        self.arrays: Values = {}
        self.dtype = np.dtype(dtype)
        self._draw = np.random.default_rng(seed)

    def parameter(self, name: str, *shape: int, scale: float = 1.0, around: float = 0.0) -> str:
        """Draw an array, of matrices one that keeps the length of rows."""
        unit = self._draw.standard_normal(shape) / math.sqrt(shape[0] if len(shape) == 2 else 1)
        return self.constant(name, around + scale * unit)

    def constant(self, name: str, value: Any) -> str:
        array = np.asarray(value)
        self.arrays[name] = array.astype(self.dtype) if array.dtype.kind == "f" else array
        return name

    def add(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def model(self, image: str, shape: Sequence[Any], outputs: Sequence[str]) -> Any:
        from onnx import ValueInfoProto, helper, numpy_helper

        kind = helper.np_dtype_to_tensor_dtype(self.dtype)
        graph = helper.make_graph(
            self.nodes,
            "elsewhere",
            [helper.make_tensor_value_info(image, kind, shape)],
            [ValueInfoProto(name=one) for one in outputs],
            [numpy_helper.from_array(array, name) for name, array in self.arrays.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def weight(self, name: str) -> NDArray[np.float64]:
        return self.arrays[name].astype(np.float64)


def transformer(*, registers: int = 0, batch: Any = "batch", seed: int = 0) -> tuple[Any, Truth]:
    """Return a vision transformer: tokens, of which the first goes to a classifier."""
    net, side = Graph(seed), SIZE // PATCH
    count = 1 + registers + side * side

    def norm(value: str, name: str) -> str:
        scale = net.parameter(f"{name}.scale", WIDTH, scale=0.2, around=1)
        shift = net.parameter(f"{name}.shift", WIDTH, scale=0.2)
        return net.add("LayerNormalization", [value, scale, shift], name, epsilon=EPSILON)

    def dense(value: str, name: str, width: int, units: int) -> str:
        product = net.add(
            "MatMul", [value, net.parameter(f"{name}.weight", width, units)], f"{name}.product"
        )
        return net.add("Add", [product, net.parameter(f"{name}.bias", units, scale=0.1)], name)

    def heads(value: str, name: str, order: Sequence[int]) -> str:
        split = net.add("Reshape", [value, "heads.shape"], f"{name}.split")
        return net.add("Transpose", [split], f"{name}.heads", perm=order)

    kernel = net.parameter("patch.weight", WIDTH, 3, PATCH, PATCH, scale=0.1)
    value = net.add(
        "Conv", ["pixel_values", kernel, net.parameter("patch.bias", WIDTH, scale=0.1)],
        "patches", strides=[PATCH, PATCH],
    )  # fmt: skip
    value = net.add(
        "Reshape", [value, net.constant("patches.shape", np.int64([0, WIDTH, -1]))], "columns"
    )
    value = net.add("Transpose", [value], "patch_tokens", perm=[0, 2, 1])
    shape = net.add("Shape", ["pixel_values"], "shape")
    shape = net.add("Gather", [shape, net.constant("axis", np.int64([0]))], "images")
    rest = net.constant("own.rest", np.int64([1 + registers, WIDTH]))
    shape = net.add("Concat", [shape, rest], "own.shape", axis=0)
    own = net.add("Expand", [net.parameter("own", 1, 1 + registers, WIDTH), shape], "own_tokens")
    value = net.add("Concat", [own, value], "joined", axis=1)
    value = net.add("Add", [value, net.parameter("position", 1, count, WIDTH)], "tokens_0")
    net.constant("heads.shape", np.int64([0, count, HEADS, WIDTH // HEADS]))
    net.constant("tokens.shape", np.int64([0, count, WIDTH]))
    net.constant("root", math.sqrt(WIDTH // HEADS))
    for number in range(DEPTH):
        at = f"block{number}"
        inner = norm(value, f"{at}.norm1")
        query, key, content = (
            heads(dense(inner, f"{at}.{one}", WIDTH, WIDTH), f"{at}.{one}", order)
            for one, order in (("q", (0, 2, 1, 3)), ("k", (0, 2, 3, 1)), ("v", (0, 2, 1, 3)))
        )
        inner = net.add("Div", [net.add("MatMul", [query, key], f"{at}.qk"), "root"], f"{at}.score")
        inner = net.add("Softmax", [inner], f"{at}.attention", axis=-1)
        inner = net.add("MatMul", [inner, content], f"{at}.mixed")
        inner = net.add("Transpose", [inner], f"{at}.turned", perm=[0, 2, 1, 3])
        inner = net.add("Reshape", [inner, "tokens.shape"], f"{at}.merged")
        value = net.add("Add", [value, dense(inner, f"{at}.out", WIDTH, WIDTH)], f"{at}.half")
        inner = dense(norm(value, f"{at}.norm2"), f"{at}.fc1", WIDTH, 2 * WIDTH)
        inner = net.add("Relu", [inner], f"{at}.relu")
        inner = dense(inner, f"{at}.fc2", 2 * WIDTH, WIDTH)
        value = net.add("Add", [value, inner], f"tokens_{number + 1}")
    value = norm(value, "last_hidden_state")
    first = net.add("Gather", [value, net.constant("first", np.int64(0))], "class_token", axis=1)
    weight = net.parameter("head.weight", WIDTH, CLASSES)
    net.add("Gemm", [first, weight, net.parameter("head.bias", CLASSES)], "logits")

    model = net.model("pixel_values", [batch, 3, SIZE, SIZE], ["last_hidden_state", "logits"])
    return model, partial(_rows_of_transformer, net, 1 + registers)


def _rows_of_transformer(net: Graph, own_tokens: int, fed: NDArray[Any]) -> Values:
    images, side, w = len(fed), SIZE // PATCH, net.weight
    count = own_tokens + side * side

    def norm(rows: NDArray[Any], name: str) -> NDArray[Any]:
        centred = rows - rows.mean(-1, keepdims=True)
        deviation = np.sqrt(rows.var(-1, keepdims=True) + EPSILON)
        return centred / deviation * w(f"{name}.scale") + w(f"{name}.shift")

    def dense(rows: NDArray[Any], name: str) -> NDArray[Any]:
        return rows @ w(f"{name}.weight") + w(f"{name}.bias")

    cells = fed.astype(np.float64).reshape(images, 3, side, PATCH, side, PATCH)
    patches = cells.transpose(0, 2, 4, 1, 3, 5).reshape(images, side * side, -1)
    patches = patches @ w("patch.weight").reshape(WIDTH, -1).T + w("patch.bias")
    own = np.broadcast_to(w("own"), (images, own_tokens, WIDTH))
    rows = np.concatenate([own, patches], axis=1) + w("position")
    for number in range(DEPTH):
        at = f"block{number}"
        inner = norm(rows, f"{at}.norm1")
        query, key, content = (
            dense(inner, f"{at}.{one}").reshape(images, count, HEADS, -1).swapaxes(1, 2)
            for one in "qkv"
        )
        scores = np.exp(query @ key.swapaxes(2, 3) / math.sqrt(WIDTH // HEADS))
        mixed = scores / scores.sum(-1, keepdims=True) @ content
        merged = mixed.swapaxes(1, 2).reshape(images, count, WIDTH)
        rows = rows + dense(merged, f"{at}.out")
        inner = np.maximum(dense(norm(rows, f"{at}.norm2"), f"{at}.fc1"), 0)
        rows = rows + dense(inner, f"{at}.fc2")
    rows = norm(rows, "last_hidden_state")
    return {
        "last_hidden_state": rows, "class_token": rows[:, 0],
        "logits": dense(rows[:, 0], "head"),
    }  # fmt: skip


def convolutions(
    *,
    channels_last: bool = False,
    batch: Any = "batch",
    side: Any = SIZE,
    channels: int = 3,
    dtype: Any = np.float32,
    classifier: Sequence[str] = ("Gemm",),
    training: bool = False,
    seed: int = 0,
) -> tuple[Any, Truth]:
    """Return convolution, norm, ReLU, average and a classifier.

    Parameters
    ----------
    classifier : sequence of str
        ``Gemm``, or ``MatMul`` and then any of ``Add``, ``Cast``, ``Softmax``, in order.
    training : bool
        The norm takes the statistics of its batch, so that a row depends on its neighbours.
    """
    from onnx import helper

    net = Graph(seed, dtype)
    value = "input"
    if channels_last:
        value = net.add("Transpose", [value], "channels_first", perm=[0, 3, 1, 2])
    kernel = net.parameter("kernel", WIDTH, channels, 3, 3, scale=0.3)
    value = net.add("Conv", [value, kernel], "conv", strides=[2, 2], pads=[1, 1, 1, 1])
    norms = [
        net.parameter("scale", WIDTH, scale=0.2, around=1), net.parameter("shift", WIDTH),
        net.parameter("mean", WIDTH, scale=0.2),
        net.constant("variance", np.linspace(0.5, 1.5, WIDTH)),
    ]  # fmt: skip
    if training:
        outputs = ["norm", "next_mean", "next_variance"]
        net.nodes.append(
            helper.make_node("BatchNormalization", [value, *norms], outputs, training_mode=1)
        )
    else:
        net.add("BatchNormalization", [value, *norms], "norm")
    value = net.add("Relu", ["norm"], "map")
    value = net.add("Flatten", [net.add("GlobalAveragePool", [value], "average")], "features")
    net.parameter("weight", WIDTH, CLASSES), net.parameter("bias", CLASSES)
    attributes: dict[str, dict[str, Any]] = {
        "Cast": {"to": helper.np_dtype_to_tensor_dtype(net.dtype)}, "Softmax": {"axis": -1},
    }  # fmt: skip
    for number, kind in enumerate(classifier, 1):
        more = {"Gemm": ["weight", "bias"], "MatMul": ["weight"], "Add": ["bias"]}.get(kind, [])
        name = "scores" if number == len(classifier) else f"top_{number}"
        value = net.add(kind, [value, *more], name, **attributes.get(kind, {}))
    if {"Gemm", "Add"}.isdisjoint(classifier):
        net.arrays["bias"][:] = 0

    def truth(fed: NDArray[Any]) -> Values:
        w = {name: array.astype(np.float64) for name, array in net.arrays.items()}
        images = fed.astype(np.float64)
        images = images.transpose(0, 3, 1, 2) if channels_last else images
        padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
        cells = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
        rows = np.einsum("nchwij,ocij->nhwo", cells[:, :, ::2, ::2], w["kernel"])
        rows = (rows - w["mean"]) / np.sqrt(w["variance"] + 1e-5) * w["scale"] + w["shift"]
        rows = np.maximum(rows, 0).transpose(0, 3, 1, 2)
        features = rows.mean((2, 3))
        scores = features @ w["weight"] + w["bias"]
        if "Softmax" in classifier:
            scores = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        return {"map": rows, "features": features, "scores": scores}

    sides = [side, side, channels] if channels_last else [channels, side, side]
    model = net.model("input", [batch, *sides], ["scores"])
    return model, truth


def saved(model: Any, place: Path) -> Path:
    """Write a model to a file, and return the file."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(model.SerializeToString())
    return place
