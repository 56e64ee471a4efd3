"""VGG: the names of torchvision, timm, Keras and Caffe.

References
----------
torchvision/models/vgg.py; timm/models/vgg.py (ConvMlp as the first two dense layers);
keras/src/applications/vgg16.py.
"""

from __future__ import annotations

from dataclasses import replace

from probe.backbones.spec import BackboneSpec
from probe.weights.families.caffenet import caffe_namings
from probe.weights.naming import (
    BATCH_COUNTERS,
    KERAS_FORMATS,
    ONNX_FORMATS,
    TORCH_FORMATS,
    Naming,
    Shapes,
    Source,
    counted_naming,
    dense,
    dense_after_map,
    folded_naming,
    hwio,
    layers_of,
    plain,
    rotated,
    torch_naming,
)
from probe.weights.tensors import Shape

LAST_MAP = 512  # channels of the 7 x 7 map before fc6


def namings(backbone: BackboneSpec, shapes: Shapes) -> list[Naming]:
    """Return torchvision's and timm's naming and, without BatchNorm, Keras's and Caffe's."""
    fc6, fc7 = (f"features.{backbone.layer(name).after - 1}" for name in ("fc6", "fc7"))
    tops = {fc6: "classifier.0", fc7: "classifier.3", "output": "classifier.6"}
    found = [
        torch_naming("torchvision", shapes, lambda module: tops.get(module, module)),
        folded_naming("torchvision", shapes, lambda module: tops.get(module, module)),
        *_timm_namings(shapes, {fc6: "pre_logits.fc1", fc7: "pre_logits.fc2", "output": "head.fc"}),
    ]
    if not backbone.name.endswith("_bn"):
        keras = {fc6: "fc1", fc7: "fc2", "output": "predictions"}
        named = _keras(backbone, shapes, keras)
        found += [
            named,
            counted_naming(named, layers_of(named)),
            _keras_onnx(backbone, shapes, keras),
        ]
        found.append(_keras_before_1(shapes))
        found += caffe_namings(
            shapes, _convolutions(backbone) | {fc6: "fc6", fc7: "fc7", "output": "fc8"}
        )
    return found


def _timm_namings(shapes: Shapes, tops: dict[str, str]) -> list[Naming]:
    """Return timm's naming, and that of an ONNX file with its norms folded."""
    unfolded = _timm(shapes, tops)
    kept = {one: unfolded.sources[one] for one in shapes if one.rpartition(".")[0] in tops}
    folded = folded_naming("timm", shapes, str)
    return [unfolded, replace(folded, sources={**folded.sources, **kept})]


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


def _convolutions(backbone: BackboneSpec) -> dict[str, str]:
    """Canonical module path -> the layer's name, which is Caffe's: conv1_1, conv1_2 ..."""
    layers = [layer for layer in backbone.layers if layer.name.startswith("conv")]
    return {f"features.{layer.after - 2}": layer.name for layer in layers}


def _keras_blocks(backbone: BackboneSpec) -> dict[str, str]:
    return {
        module: name.replace("conv", "block").replace("_", "_conv")
        for module, name in _convolutions(backbone).items()
    }


def _keras(backbone: BackboneSpec, shapes: Shapes, tops: dict[str, str]) -> Naming:
    blocks = _keras_blocks(backbone)
    sources: dict[str, Source] = {}
    for canonical, shape in shapes.items():
        module, _, leaf = canonical.rpartition(".")
        name = (blocks | tops)[module]
        if leaf == "bias":
            sources[canonical] = plain(f"{name}/bias", shape)
        elif len(shape) == 4:
            sources[canonical] = hwio(f"{name}/kernel", shape)
        else:
            sources[canonical] = _keras_dense(f"{name}/kernel", shape)
    return Naming(name="keras", formats=KERAS_FORMATS, sources=sources)


def _keras_before_1(shapes: Shapes) -> Naming:
    """Return the naming before Keras 1.0: numbered layers, (out, in, H, W) kernels, rotated."""
    modules = list(dict.fromkeys(one.rpartition(".")[0] for one in shapes))
    sources = {}
    for canonical, shape in shapes.items():
        module, _, leaf = canonical.rpartition(".")
        name = f"layer_{modules.index(module)}/param_{'01'[leaf == 'bias']}"
        make = {4: rotated, 2: dense, 1: plain}[len(shape)]  # the map is flattened as (C, H, W)
        sources[canonical] = make(name, shape)
    note = "kernels turned by 180 degrees, as Theano's before Keras 1.0"
    return Naming(name="keras before 1.0", formats=KERAS_FORMATS, sources=sources, note=note)


def _keras_onnx(backbone: BackboneSpec, shapes: Shapes, tops: dict[str, str]) -> Naming:
    """Return the naming of Keras's ONNX exporter, which transposes convolution kernels only."""
    names = _keras_blocks(backbone) | tops
    sources = {}
    for canonical, shape in shapes.items():
        module, _, leaf = canonical.rpartition(".")
        make = _keras_dense if len(shape) == 2 else plain
        sources[canonical] = make(f"{names[module]}/{leaf}", shape)
    return Naming(name="keras", formats=ONNX_FORMATS, sources=sources)


def _keras_dense(name: str, shape: Shape) -> Source:
    if not name.startswith("fc1/"):
        return dense(name, shape)
    return dense_after_map(name, shape, (shape[1] // LAST_MAP, LAST_MAP))
