"""Keras's ResNet 50, 101 and 152: v1, and what tells v2.

Every convolution of v1 has a bias, the zoo's only the 1x1 ones of a block's body; the others go
into the running mean of the BatchNorm that follows. Epsilon is 1.001e-5 there and 1e-5 here; the
difference goes into the running variance. Both are exact.

References
----------
keras/src/applications/resnet.py: residual_block_v1, residual_block_v2.
"""

from __future__ import annotations

import math

from probe.weights.families.keras_order import layers_of
from probe.weights.naming import (
    GLUON_EPSILON,
    KERAS_FORMATS,
    ONNX_FORMATS,
    Naming,
    Omission,
    Shapes,
    Source,
    dense,
    filled,
    hwio,
    mean_less_bias,
    negated,
    plain,
    scaled,
    shifted_variance,
)
from probe.weights.tensors import Shape

EPSILON = 1.001e-5
_PART = {"0": "1_conv", "1": "1_bn", "3": "2_conv", "4": "2_bn", "6": "3_conv", "7": "3_bn"}
_ROLE = {"gamma": "gamma", "beta": "beta", "running_mean": "moving_mean"}


def _name(module: str) -> str:
    simple = {"features.0": "conv1_conv", "features.1": "conv1_bn", "output": "predictions"}
    if module in simple:
        return simple[module]
    stage, block, part, index = module.split(".")[1:]
    inner = _PART[index] if part == "body" else ("0_conv", "0_bn")[int(index)]
    return f"conv{int(stage) - 2}_block{int(block) + 1}_{inner}"


def keras_v1_naming(shapes: Shapes, refusal: str | None = None) -> Naming:
    """Return Keras's naming of a ResNet v1 with bottlenecks."""
    sources: dict[str, Source] = {}
    for canonical, shape in shapes.items():
        module, _, leaf = canonical.rpartition(".")
        name = _name(module)
        if leaf == "weight":
            sources[canonical] = _kernel(f"{name}/kernel", shape)
        elif leaf == "bias":
            sources[canonical] = plain(f"{name}/bias", shape)
        elif leaf == "running_var":
            sources[canonical] = shifted_variance(
                f"{name}/moving_variance", shape, EPSILON, GLUON_EPSILON
            )
        elif leaf == "running_mean" and not _has_bias(shapes, module):
            bias = name.removesuffix("bn") + "conv/bias"
            sources[canonical] = mean_less_bias(f"{name}/moving_mean", bias, shape)
        else:
            sources[canonical] = plain(f"{name}/{_ROLE[leaf]}", shape)
    tops = Omission(r"(probs|fc1000)/(kernel|bias)", "the classifier is called by an older name")
    return Naming(
        name="keras", formats=KERAS_FORMATS, sources=sources, omissions=(tops,), refusal=refusal
    )


def keras_onnx_naming(shapes: Shapes, refusal: str | None = None) -> Naming:
    """Return the naming of what Keras's ONNX exporter makes of a ResNet v1.

    Its norms are a multiplication and an addition: gamma takes the factor, beta the addend.
    """
    sources: dict[str, Source] = {}
    for canonical, shape in shapes.items():
        module, _, leaf = canonical.rpartition(".")
        name, across = _name(module), (1, *shape, 1, 1)
        if leaf == "gamma":
            factor = math.sqrt(1 + GLUON_EPSILON)
            sources[canonical] = scaled(f"{name}/scale", shape, across, factor)
        elif leaf == "beta":
            sources[canonical] = plain(f"{name}/shift", shape, across)
        elif leaf == "running_var":
            sources[canonical] = filled(1, shape)
        elif leaf == "running_mean" and _has_bias(shapes, module):
            sources[canonical] = filled(0, shape)
        elif leaf == "running_mean":
            sources[canonical] = negated(f"{name.removesuffix('bn')}conv/bias", shape)
        elif leaf == "weight" and len(shape) == 2:
            sources[canonical] = dense(f"{name}/weight", shape)
        else:
            sources[canonical] = plain(f"{name}/{leaf}", shape)
    return Naming(name="keras", formats=ONNX_FORMATS, sources=sources, refusal=refusal)


def listed(naming: Naming) -> list[str]:
    """Return the layers in the order of `model.layers`: a shortcut comes beside a block's end."""
    layers = layers_of(naming)
    stem = [layer for layer in layers if "_block" not in layer]
    blocks: dict[str, list[str]] = {}
    for layer in layers:
        if "_block" in layer:
            blocks.setdefault("_".join(layer.split("_")[:2]), []).append(layer)
    place = {"1_conv": 0, "1_bn": 1, "2_conv": 2, "2_bn": 3, "0_conv": 4, "3_conv": 5, "0_bn": 6,
             "3_bn": 7}  # fmt: skip
    inner = [
        layer
        for block in sorted(blocks, key=_number)
        for layer in sorted(blocks[block], key=lambda one: place["_".join(one.split("_")[2:])])
    ]
    return stem[:-1] + inner + stem[-1:]  # the classifier is last


def _number(block: str) -> tuple[int, int]:
    stage, _, number = block.removeprefix("conv").partition("_block")
    return int(stage), int(number)


def _has_bias(shapes: Shapes, norm: str) -> bool:
    """Whether the convolution before a norm keeps its bias in the network here."""
    parent, _, index = norm.rpartition(".")
    return f"{parent}.{int(index) - 1}.bias" in shapes


def keras_v2_naming(shapes: Shapes) -> Naming:
    """Return just enough of Keras's ResNet v2 names to recognise and refuse it."""
    marks = {
        "features.1.weight": "conv1_conv", "features.5.0.conv1.weight": "conv2_block1_1_conv",
        "features.5.0.conv2.weight": "conv2_block1_2_conv", "output.weight": "predictions",
    }  # fmt: skip
    return Naming(
        name="keras",
        formats=KERAS_FORMATS,
        sources={
            canonical: _kernel(f"{name}/kernel", shapes[canonical])
            for canonical, name in marks.items()
        },
        refusal="its ResNet v2 strides in the last block of a stage, Gluon's in the first: another "
        "architecture, which no backbone here has",
    )


def _kernel(name: str, shape: Shape) -> Source:
    return hwio(name, shape) if len(shape) == 4 else dense(name, shape)
