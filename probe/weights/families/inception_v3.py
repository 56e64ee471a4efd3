"""Inception v3: the names of torchvision and timm, and Keras's, whose network is another one.

References
----------
torchvision/models/inception.py; keras/src/applications/inception_v3.py.
"""

from __future__ import annotations

import math
from dataclasses import replace

from probe.backbones.spec import BackboneSpec
from probe.weights.naming import (
    KERAS_FORMATS,
    ONNX_FORMATS,
    Naming,
    Omission,
    Shapes,
    Source,
    counted_naming,
    dense,
    filled,
    folded_naming,
    hwio,
    layers_of,
    plain,
    torch_naming,
)

_STEM = {
    "0": "Conv2d_1a_3x3", "1": "Conv2d_2a_3x3", "2": "Conv2d_2b_3x3", "4": "Conv2d_3b_1x1",
    "5": "Conv2d_4a_3x3",
}  # fmt: skip
_MIXED = {str(7 + i): f"Mixed_{name}" for i, name in enumerate(
    ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")
)}  # fmt: skip
_A = {
    "0.0": "branch1x1", "1.0": "branch5x5_1", "1.1": "branch5x5_2", "2.0": "branch3x3dbl_1",
    "2.1": "branch3x3dbl_2", "2.2": "branch3x3dbl_3", "3.1": "branch_pool",
}  # fmt: skip
_B = {"0.0": "branch3x3", "1.0": "branch3x3dbl_1", "1.1": "branch3x3dbl_2", "1.2": "branch3x3dbl_3"}
_C = {
    "0.0": "branch1x1", "1.0": "branch7x7_1", "1.1": "branch7x7_2", "1.2": "branch7x7_3",
    "2.0": "branch7x7dbl_1", "2.1": "branch7x7dbl_2", "2.2": "branch7x7dbl_3",
    "2.3": "branch7x7dbl_4", "2.4": "branch7x7dbl_5", "3.1": "branch_pool",
}  # fmt: skip
_D = {
    "0.0": "branch3x3_1", "0.1": "branch3x3_2", "1.0": "branch7x7x3_1", "1.1": "branch7x7x3_2",
    "1.2": "branch7x7x3_3", "1.3": "branch7x7x3_4",
}  # fmt: skip
_E = {
    "0.0": "branch1x1", "1.0.0": "branch3x3_1", "1.1.0.0": "branch3x3_2a",
    "1.1.1.0": "branch3x3_2b",
    "2.0.0": "branch3x3dbl_1", "2.0.1": "branch3x3dbl_2", "2.1.0.0": "branch3x3dbl_3a",
    "2.1.1.0": "branch3x3dbl_3b", "3.1": "branch_pool",
}  # fmt: skip
_BLOCKS = {
    "5": {"b": _A, "c": _A, "d": _A},
    "6": dict.fromkeys("bcde", _C) | {"a": _B},
    "7": {"a": _D, "b": _E, "c": _E},
}

STEM_CONVS = 5
# for each mixed block: the order of its convolutions in Keras's list of layers
_A_ORDER, _B_ORDER, _C_ORDER = (3, 1, 4, 0, 2, 5, 6), (1, 2, 0, 3), (4, 5, 1, 6, 2, 7, 0, 3, 8, 9)
_D_ORDER, _E_ORDER = (2, 3, 0, 4, 1, 5), (4, 1, 5, 2, 3, 6, 7, 0, 8)
_KERAS_ORDER = (*[_A_ORDER] * 3, _B_ORDER, *[_C_ORDER] * 4, _D_ORDER, *[_E_ORDER] * 2)
_KERAS_ROLES = {"beta": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}

EPSILON = 1e-3
AUXILIARY = Omission(r"AuxLogits\..*", "the auxiliary head left out")


def _torchvision(module: str) -> str | None:
    if module == "output":
        return "fc"
    _, index, *inner, last = module.split(".")
    step = "conv" if last == "0" else "bn"
    if index in _STEM:
        return f"{_STEM[index]}.{step}"
    mixed = _MIXED[index]
    branches = _BLOCKS[mixed[-2]][mixed[-1]]
    return f"{mixed}.{branches['.'.join(inner)]}.{step}"


def namings(backbone: BackboneSpec, shapes: Shapes) -> list[Naming]:
    """Return torchvision's naming and Keras's, each refused for the other's backbone."""
    if backbone.name == "inception_v3":
        refusal = (
            "its InceptionV3 leaves the padding out of its average pools, where torchvision's and "
            "Gluon's count it; it is the backbone inception_v3_keras"
        )
        torch = torch_naming("torchvision", shapes, _torchvision, AUXILIARY)
        folded = folded_naming("torchvision", shapes, _torchvision, epsilon=EPSILON)
        return [torch, folded, *_keras_namings(shapes, refusal)]
    refusal = (
        "its average pools count the padding, where Keras's leave it out; it is the backbone "
        "inception_v3"
    )
    torch = replace(torch_naming("torchvision", shapes, _torchvision, AUXILIARY), refusal=refusal)
    return [torch, *_keras_namings(shapes)]


def _keras_namings(shapes: Shapes, refusal: str | None = None) -> list[Naming]:
    named = _keras(shapes, 0, refusal)
    return [
        named,
        _keras(shapes, 1, refusal),
        counted_naming(named, _listed(named)),
        _keras_onnx(shapes, refusal),
    ]


def _keras_onnx(shapes: Shapes, refusal: str | None) -> Naming:
    """Return the naming of Keras's ONNX exporter, which folds the norms and numbers the layers."""
    sources: dict[str, Source] = {
        "output.weight": dense("predictions/weight", shapes["output.weight"]),
        "output.bias": plain("predictions/bias", shapes["output.bias"]),
    }
    convs = [name for name, shape in shapes.items() if len(shape) == 4]
    for number, conv in enumerate(convs):
        layer, norm = (
            f"conv2d_{number}" if number else "conv2d",
            conv.removesuffix("0.weight") + "1",
        )
        width = (shapes[conv][0],)
        sources[conv] = plain(f"{layer}/weight", shapes[conv])
        sources[f"{norm}.gamma"] = filled(math.sqrt(1 + EPSILON), width)
        sources[f"{norm}.beta"] = plain(f"{layer}/bias", width)
        sources[f"{norm}.running_mean"] = filled(0, width)
        sources[f"{norm}.running_var"] = filled(1, width)
    return Naming(name="keras", formats=ONNX_FORMATS, sources=sources, refusal=refusal)


def _listed(naming: Naming) -> list[str]:
    """Return Keras's layers in the order of `model.layers`: ends of long branches come first."""
    layers = [one for one in layers_of(naming) if one.startswith("conv2d")]
    convs, rest = layers[:STEM_CONVS], layers[STEM_CONVS:]
    for order in _KERAS_ORDER:
        block, rest = rest[: len(order)], rest[len(order) :]
        convs += [block[place] for place in order]
    norms = (conv.replace("conv2d", "batch_normalization") for conv in convs)
    return [*convs, *norms, "predictions"]


def _keras(shapes: Shapes, first: int, refusal: str | None = None) -> Naming:
    """Return Keras's naming: layers numbered in network order from 0 or, in Keras 2, from 1."""
    convs = [name for name, shape in shapes.items() if len(shape) == 4]
    sources: dict[str, Source] = {
        "output.weight": dense("predictions/kernel", shapes["output.weight"]),
        "output.bias": plain("predictions/bias", shapes["output.bias"]),
    }
    for number, conv in enumerate(convs, start=first):
        counted = f"_{number}" if number else ""
        norm = conv.removesuffix("0.weight") + "1"
        width = (shapes[conv][0],)
        sources[conv] = hwio(f"conv2d{counted}/kernel", shapes[conv])
        sources[f"{norm}.gamma"] = filled(1, width)  # its norms have no scale
        for leaf, role in _KERAS_ROLES.items():
            sources[f"{norm}.{leaf}"] = plain(f"batch_normalization{counted}/{role}", width)
    return Naming(name="keras", formats=KERAS_FORMATS, sources=sources, refusal=refusal)
