"""ResNet v1, v1b and v2: the names of torchvision, timm, transformers, GluonCV and Keras.

v1 and v1b have the same names. With bottlenecks (50 layers and more) they are different networks:
v1 strides in the first 1x1 convolution of a block and has some biases, v1b strides in the 3x3 one
and has none. Without bottlenecks they are the same network.

Every convolution of Keras's v1 has a bias. The zoo's v1 has one only in the 1x1 convolutions of a
block's body; each other bias goes into the running mean of the BatchNorm that follows. Keras's
epsilon is 1.001e-5 and the zoo's 1e-5; the difference goes into the running variance. Both are
exact. Keras's v2 is another network than Gluon's, so it is recognised and refused.

timm's resnetblur and resnetaa have torchvision's names and shapes and blur before they stride. Only
the file's name tells them, or timm's ``config.json`` beside it. In the same way the ``config.json``
of transformers can say that a network strides as v1 does, which it then is, with biases of 0; or
that it strides elsewhere or has another activation.

References
----------
torchvision/models/resnet.py; transformers/models/resnet/modeling_resnet.py;
gluoncv/model_zoo/resnetv1b.py; keras/src/applications/resnet.py: residual_block_v1,
residual_block_v2.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np

from probe.backbones.spec import BackboneSpec
from probe.preprocess.published import architecture_beside, config_beside
from probe.weights.naming import (
    GLUON_EPSILON,
    GLUON_FORMATS,
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
    mean_less_bias,
    negated,
    plain,
    renamed,
    scaled,
    shifted_variance,
    torch_naming,
)
from probe.weights.tensors import Shape, TensorFile

_BLURRED = re.compile(r"resnet(blur|aa)\d")
KERAS_EPSILON = 1.001e-5
_BODY = {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2", "6": "conv3", "7": "bn3"}
_STEM = {"features.0": "conv1", "features.1": "bn1", "output": "fc"}
_TRANSFORMERS_STEM = {
    "features.0": "resnet.embedder.embedder.convolution",
    "features.1": "resnet.embedder.embedder.normalization",
    "output": "classifier.1",
}
# fields of transformers' configuration that change the network, and no name or shape: as usual
_TRANSFORMERS_CONFIG = {
    "downsample_in_bottleneck": False, "downsample_in_first_stage": False, "hidden_act": "relu",
}  # fmt: skip
_KERAS_BODY = {"0": "1_conv", "1": "1_bn", "3": "2_conv", "4": "2_bn", "6": "3_conv", "7": "3_bn"}
_KERAS_ROLE = {"gamma": "gamma", "beta": "beta", "running_mean": "moving_mean"}
_KERAS_ORDER = ("1_conv", "1_bn", "2_conv", "2_bn", "0_conv", "3_conv", "0_bn", "3_bn")


def _torchvision(module: str) -> str | None:
    """Canonical module path -> torchvision's, the same for v1 and v1b."""
    if module in _STEM:
        return _STEM[module]
    stage, block, part, index = module.split(".")[1:]
    inner = _BODY[index] if part == "body" else f"downsample.{index}"
    return f"layer{int(stage) - 3}.{block}.{inner}"


def _transformers(module: str) -> str | None:
    """Canonical module path -> that of Hugging Face's ResNetForImageClassification."""
    if module in _TRANSFORMERS_STEM:
        return _TRANSFORMERS_STEM[module]
    stage, block, part, index = module.split(".")[1:]
    where = f"resnet.encoder.stages.{int(stage) - 4}.layers.{block}"
    kind = ("convolution", "normalization")[int(index) % 3]
    return (
        f"{where}.layer.{int(index) // 3}.{kind}" if part == "body" else f"{where}.shortcut.{kind}"
    )


def _transformers_headless(module: str) -> str | None:
    """Canonical module path -> that of Hugging Face's ResNetModel, which has no classifier."""
    name = _transformers(module)
    return name and name.removeprefix("resnet.") if module != "output" else None


def _is_plain(file: TensorFile) -> bool:
    return not any(map(_BLURRED.search, (file.path.name, architecture_beside(file.path))))


def _is_usual(file: TensorFile) -> bool:
    return not _unusual(file)


def _strides_first(file: TensorFile) -> bool:
    """Whether config.json says that the first 1x1 convolution of a block strides, as in v1."""
    return _unusual(file) == {"downsample_in_bottleneck": True}


def _unusual(file: TensorFile) -> dict[str, Any]:
    """Return what config.json says beside a file of transformers' that makes another network."""
    config = config_beside(file.path)
    if config.get("model_type") != "resnet":
        return {}
    stated = {field: config.get(field, usual) for field, usual in _TRANSFORMERS_CONFIG.items()}
    return {field: value for field, value in stated.items() if value != _TRANSFORMERS_CONFIG[field]}


def _told_apart(torchvision: Naming, *transformers: Naming) -> list[Naming]:
    """Refuse files that by their name, or by what stands beside them, are another network."""
    blurs = "by its name, or by config.json beside it, it is timm's network that blurs"
    other = f"by config.json beside it one of {', '.join(_TRANSFORMERS_CONFIG)} is not as usual"
    return [
        replace(torchvision, refusal=blurs, unless=_is_plain),
        *(replace(one, refusal=other, unless=_is_usual) for one in transformers),
    ]


def _torch(shapes: Shapes) -> list[Naming]:
    return _told_apart(
        torch_naming("torchvision", shapes, _torchvision),
        torch_naming("transformers", shapes, _transformers),
        torch_naming("transformers (no classifier)", shapes, _transformers_headless),
    )


def _folded(shapes: Shapes) -> list[Naming]:
    """Return the namings of ONNX files whose exporter folded the norms."""
    return _told_apart(
        folded_naming("torchvision", shapes, _torchvision),
        folded_naming("transformers", shapes, _transformers),
    )


def v1b_namings(backbone: BackboneSpec, shapes: Shapes) -> list[Naming]:
    """Return the namings of a ResNet v1b, among them Keras's v1, which is refused."""
    gluoncv = Naming(
        name="gluoncv", formats=GLUON_FORMATS, sources=renamed(shapes, _torchvision, leaves={})
    )
    found = [*_torch(shapes), gluoncv, *_folded(shapes)]
    if _depth(backbone) >= 50:
        found.append(
            _keras_v1(
                shapes,
                refusal="its ResNet strides in the first 1x1 convolution of a block and has bias; "
                f"it is the backbone {backbone.name}_v1",
            )
        )
    return found


def _depth(backbone: BackboneSpec) -> int:
    """Return the number in the backbone's name."""
    return int(re.findall(r"\d+", backbone.name)[0])


def v1_namings(backbone: BackboneSpec, shapes: Shapes) -> list[Naming]:
    """Return the namings of the zoo's ResNet v1, among them v1b's, which are refused."""
    other = backbone.name.removesuffix("_v1")
    torch = _torch(shapes)
    if _depth(backbone) < 50:  # without bottlenecks v1 and v1b are the same network
        return [*torch, *_folded(shapes)]
    refusal = (
        "its ResNet strides in the 3x3 convolution of a block and has no biases, where "
        f"{backbone.name} strides in the first 1x1 and has some; it is the backbone {other}"
    )
    keras = _keras_v1(shapes)
    torchvision, *transformers = torch
    return [
        replace(torchvision, refusal=refusal, unless=None),
        *(_without_biases(one, shapes, refusal) for one in transformers),
        keras,
        counted_naming(keras, _listed(keras)),
        _keras_v1_onnx(shapes),
    ]


def _without_biases(naming: Naming, shapes: Shapes, refusal: str) -> Naming:
    """Return a naming of v1 for files whose convolutions have no biases: they are 0."""
    biases = {
        name: _zeros(shape)
        for name, shape in shapes.items()
        if name.endswith(".bias") and not name.startswith("output.")
    }
    sources = {**naming.sources, **biases}
    return replace(naming, sources=sources, refusal=refusal, unless=_strides_first)


def _zeros(shape: Shape) -> Source:
    return Source((), (), lambda _: np.zeros(shape, np.float32))


def v2_namings(backbone: BackboneSpec, shapes: Shapes) -> list[Naming]:
    """Return Keras's naming of ResNet v2, which is refused; Gluon's own are added elsewhere."""
    return [_keras_v2(shapes)] if _depth(backbone) >= 50 else []


def _keras_name(module: str) -> str:
    """Canonical module path -> Keras's layer."""
    simple = {"features.0": "conv1_conv", "features.1": "conv1_bn", "output": "predictions"}
    if module in simple:
        return simple[module]
    stage, block, part, index = module.split(".")[1:]
    inner = _KERAS_BODY[index] if part == "body" else ("0_conv", "0_bn")[int(index)]
    return f"conv{int(stage) - 2}_block{int(block) + 1}_{inner}"


def _keras_v1(shapes: Shapes, refusal: str | None = None) -> Naming:
    """Return Keras's naming of a ResNet v1 with bottlenecks."""
    sources: dict[str, Source] = {}
    for canonical, shape in shapes.items():
        module, _, leaf = canonical.rpartition(".")
        name = _keras_name(module)
        if leaf == "weight":
            sources[canonical] = _kernel(f"{name}/kernel", shape)
        elif leaf == "bias":
            sources[canonical] = plain(f"{name}/bias", shape)
        elif leaf == "running_var":
            sources[canonical] = shifted_variance(
                f"{name}/moving_variance", shape, KERAS_EPSILON, GLUON_EPSILON
            )
        elif leaf == "running_mean" and not _has_bias(shapes, module):
            bias = name.removesuffix("bn") + "conv/bias"
            sources[canonical] = mean_less_bias(f"{name}/moving_mean", bias, shape)
        else:
            sources[canonical] = plain(f"{name}/{_KERAS_ROLE[leaf]}", shape)
    tops = Omission(r"(probs|fc1000)/(kernel|bias)", "the classifier is called by an older name")
    return Naming(
        name="keras", formats=KERAS_FORMATS, sources=sources, omissions=(tops,), refusal=refusal
    )


def _keras_v1_onnx(shapes: Shapes) -> Naming:
    """Return the naming of what Keras's ONNX exporter makes of a ResNet v1.

    The exporter writes a norm as a multiplication (gamma) and an addition (beta).
    """
    sources: dict[str, Source] = {}
    for canonical, shape in shapes.items():
        module, _, leaf = canonical.rpartition(".")
        name, across = _keras_name(module), (1, *shape, 1, 1)
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
    return Naming(name="keras", formats=ONNX_FORMATS, sources=sources)


def _listed(naming: Naming) -> list[str]:
    """Return Keras's layers in the order of `model.layers`: shortcuts at the end of each block."""
    stem: list[str] = []
    blocks: dict[str, list[str]] = {}
    for layer in layers_of(naming):
        block, _, inner = layer.partition("_block")
        if inner:
            blocks.setdefault(f"{block}_block{inner.partition('_')[0]}", []).append(layer)
        else:
            stem.append(layer)
    inside = [
        layer
        for block in blocks.values()  # they come in the order of the network
        for layer in sorted(block, key=lambda one: _KERAS_ORDER.index(one.split("_", 2)[2]))
    ]
    return stem[:-1] + inside + stem[-1:]  # the classifier is last


def _has_bias(shapes: Shapes, norm: str) -> bool:
    """Return whether the convolution before a norm has a bias in Gluon's network."""
    parent, _, index = norm.rpartition(".")
    return f"{parent}.{int(index) - 1}.bias" in shapes


def _keras_v2(shapes: Shapes) -> Naming:
    """Return the few names that are enough to recognise Keras's ResNet v2 and refuse it."""
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
