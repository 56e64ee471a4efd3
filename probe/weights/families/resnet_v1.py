"""The zoo's ResNet v1: Keras's weights, and torchvision's where the blocks are basic ones."""

from __future__ import annotations

from dataclasses import replace

from probe.backbones.spec import BackboneSpec
from probe.weights.families.keras_order import by_order
from probe.weights.families.keras_resnet import (
    keras_onnx_naming,
    keras_v1_naming,
    listed,
)
from probe.weights.families.resnet_v1b import (
    depth,
    folded_namings,
    headless_name,
    torchvision_name,
    transformers_name,
)
from probe.weights.naming import Naming, Shapes, torch_naming


def namings(backbone: BackboneSpec, shapes: Shapes) -> list[Naming]:
    """Return the namings, those of v1b's bottlenecks with the reason to refuse them."""
    other = backbone.name.removesuffix("_v1")
    torch = [
        torch_naming("torchvision", shapes, torchvision_name),
        torch_naming("transformers", shapes, transformers_name),
        torch_naming("transformers (no classifier)", shapes, headless_name),
    ]
    if depth(backbone) < 50:  # without bottlenecks v1 and v1b are the same network
        return [*torch, *folded_namings(shapes)]
    refusal = (
        "its ResNet strides in the 3x3 convolution of a block and has no biases, where "
        f"{backbone.name} strides in the first 1x1 and has some; it is the backbone {other}"
    )
    keras = keras_v1_naming(shapes)
    return [
        *(replace(one, refusal=refusal) for one in torch),
        keras,
        by_order(keras, listed(keras)),
        keras_onnx_naming(shapes),
    ]
