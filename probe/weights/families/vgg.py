"""VGG: torchvision's, timm's and Keras's names.

References
----------
torchvision/models/vgg.py; timm/models/vgg.py (ConvMlp as the first two dense layers);
keras/src/applications/vgg16.py.
"""

from __future__ import annotations

from probe.backbones.spec import BackboneSpec
from probe.weights.naming import (
    BATCH_COUNTERS,
    KERAS_FORMATS,
    TORCH_FORMATS,
    Naming,
    Shapes,
    Source,
    dense,
    dense_after_map,
    hwio,
    plain,
    torch_naming,
)

LAST_MAP = 512  # channels of the 7 x 7 map before fc6


def namings(backbone: BackboneSpec, shapes: Shapes) -> list[Naming]:
    """Return torchvision's, timm's and, without BatchNorm, Keras's naming."""
    fc6, fc7 = (f"features.{backbone.layer(name).after - 1}" for name in ("fc6", "fc7"))
    tops = {fc6: "classifier.0", fc7: "classifier.3", "output": "classifier.6"}
    found = [
        torch_naming("torchvision", shapes, lambda module: tops.get(module, module)),
        _timm(shapes, {fc6: "pre_logits.fc1", fc7: "pre_logits.fc2", "output": "head.fc"}),
    ]
    if not backbone.name.endswith("_bn"):
        found.append(_keras(backbone, shapes, {fc6: "fc1", fc7: "fc2", "output": "predictions"}))
    return found


def _timm(shapes: Shapes, tops: dict[str, str]) -> Naming:
    sources = {}
    for canonical, shape in shapes.items():
        module, _, leaf = canonical.rpartition(".")
        name = f"{tops.get(module, module)}.{ {'gamma': 'weight', 'beta': 'bias'}.get(leaf, leaf) }"
        stored = None
        if leaf == "weight" and tops.get(module, "").startswith(
            "pre_logits"
        ):  # a convolution there
            side = 7 if module == next(iter(tops)) else 1
            stored = (shape[0], shape[1] // side**2, side, side)
        sources[canonical] = plain(name, shape, stored)
    return Naming(name="timm", formats=TORCH_FORMATS, sources=sources, omissions=(BATCH_COUNTERS,))


def _keras(backbone: BackboneSpec, shapes: Shapes, tops: dict[str, str]) -> Naming:
    blocks = {
        f"features.{layer.after - 2}": layer.name.replace("conv", "block").replace("_", "_conv")
        for layer in backbone.layers
        if layer.name.startswith("conv")
    }
    sources: dict[str, Source] = {}
    for canonical, shape in shapes.items():
        module, _, leaf = canonical.rpartition(".")
        name = (blocks | tops)[module]
        if leaf == "bias":
            sources[canonical] = plain(f"{name}/bias", shape)
        elif name == "fc1":
            positions = shape[1] // LAST_MAP
            sources[canonical] = dense_after_map(f"{name}/kernel", shape, (positions, LAST_MAP))
        else:
            sources[canonical] = (hwio if len(shape) == 4 else dense)(f"{name}/kernel", shape)
    return Naming(name="keras", formats=KERAS_FORMATS, sources=sources)
