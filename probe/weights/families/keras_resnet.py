"""Keras's ResNet 50, 101 and 152: v1, and what tells v2.

Every convolution of v1 has a bias, the zoo's only the 1x1 ones of a block's body; the others go
into the running mean of the BatchNorm that follows. Epsilon is 1.001e-5 there and 1e-5 here; the
difference goes into the running variance. Both are exact.

References
----------
keras/src/applications/resnet.py: residual_block_v1, residual_block_v2.
"""

from __future__ import annotations

from probe.weights.naming import (
    GLUON_EPSILON,
    KERAS_FORMATS,
    Naming,
    Omission,
    Shapes,
    Source,
    dense,
    hwio,
    mean_less_bias,
    plain,
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
