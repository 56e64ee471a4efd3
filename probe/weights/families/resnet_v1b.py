"""ResNet v1b: the names of torchvision and timm, of transformers, and of GluonCV.

References
----------
torchvision/models/resnet.py; transformers/models/resnet/modeling_resnet.py;
gluoncv/model_zoo/resnetv1b.py.
"""

from __future__ import annotations

import re

from probe.backbones.spec import BackboneSpec
from probe.weights.families.keras_resnet import keras_v1_naming
from probe.weights.folding import folded_naming
from probe.weights.naming import GLUON_FORMATS, Naming, Shapes, renamed, torch_naming

_BODY = {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2", "6": "conv3", "7": "bn3"}
_STEM = {"features.0": "conv1", "features.1": "bn1", "output": "fc"}
_TRANSFORMERS_STEM = {
    "features.0": "resnet.embedder.embedder.convolution",
    "features.1": "resnet.embedder.embedder.normalization",
    "output": "classifier.1",
}


def torchvision_name(module: str) -> str | None:
    """Canonical module path -> torchvision's, the same for v1 and v1b."""
    if module in _STEM:
        return _STEM[module]
    stage, block, part, index = module.split(".")[1:]
    inner = _BODY[index] if part == "body" else f"downsample.{index}"
    return f"layer{int(stage) - 3}.{block}.{inner}"


def transformers_name(module: str) -> str | None:
    """Canonical module path -> that of Hugging Face's ResNetForImageClassification."""
    if module in _TRANSFORMERS_STEM:
        return _TRANSFORMERS_STEM[module]
    stage, block, part, index = module.split(".")[1:]
    where = f"resnet.encoder.stages.{int(stage) - 4}.layers.{block}"
    kind = ("convolution", "normalization")[int(index) % 3]
    return (
        f"{where}.layer.{int(index) // 3}.{kind}" if part == "body" else f"{where}.shortcut.{kind}"
    )


def headless_name(module: str) -> str | None:
    """Canonical module path -> that of Hugging Face's ResNetModel, which has no classifier."""
    name = transformers_name(module)
    return name and name.removeprefix("resnet.") if module != "output" else None


def folded_namings(shapes: Shapes) -> list[Naming]:
    """Return the namings of ONNX files whose exporter folded the norms."""
    return [
        folded_naming("torchvision", shapes, lambda module: f"{torchvision_name(module)}."),
        folded_naming("transformers", shapes, lambda module: f"{transformers_name(module)}."),
    ]


def namings(backbone: BackboneSpec, shapes: Shapes) -> list[Naming]:
    """Return the namings of every publisher, Keras's with the reason to refuse it."""
    gluoncv = Naming(
        name="gluoncv", formats=GLUON_FORMATS, sources=renamed(shapes, torchvision_name, leaves={})
    )
    found = [
        torch_naming("torchvision", shapes, torchvision_name),
        torch_naming("transformers", shapes, transformers_name),
        torch_naming("transformers (no classifier)", shapes, headless_name),
        gluoncv,
        *folded_namings(shapes),
    ]
    if depth(backbone) >= 50:
        found.append(
            keras_v1_naming(
                shapes,
                refusal="its ResNet strides in the first 1x1 convolution of a block and has bias; "
                f"it is the backbone {backbone.name}_v1",
            )
        )
    return found


def depth(backbone: BackboneSpec) -> int:
    """Return the number in the backbone's name."""
    return int(re.findall(r"\d+", backbone.name)[0])
