"""CaffeNet: Caffe's names.

References
----------
BVLC/caffe, models/bvlc_reference_caffenet/deploy.prototxt.
"""

from __future__ import annotations

from collections.abc import Callable

from probe.backbones.spec import BackboneSpec
from probe.weights.naming import CAFFE_FORMATS, Naming, Shapes, plain
from probe.weights.tensors import TensorFile

_LAYERS = {
    "features.0": "conv1", "features.3": "conv2", "features.6": "conv3", "features.7": "conv4",
    "features.8": "conv5", "features.10": "fc6", "features.12": "fc7", "output": "fc8",
}  # fmt: skip


def namings(backbone: BackboneSpec, shapes: Shapes) -> list[Naming]:  # noqa: ARG001 - one variant
    """Return Caffe's naming, refused for BVLC's AlexNet."""
    refusal = (
        "its norms come before its pools: BVLC's AlexNet, another network, which no backbone "
        "here has"
    )
    return [caffe_naming(shapes, _LAYERS, refusal=refusal, unless=_pools_first)]


def caffe_naming(
    shapes: Shapes,
    layers: dict[str, str],
    refusal: str | None = None,
    unless: Callable[[TensorFile], bool] | None = None,
) -> Naming:
    """Return a naming for layers with two blobs, the weights and the biases."""
    sources = {}
    for canonical, shape in shapes.items():
        module, _, leaf = canonical.rpartition(".")
        sources[canonical] = plain(f"{layers[module]}/{'01'[leaf == 'bias']}", shape)
    return Naming(
        name="caffe", formats=CAFFE_FORMATS, sources=sources, refusal=refusal, unless=unless
    )


def _pools_first(file: TensorFile) -> bool:
    order = file.metadata.get("caffe.layers", "").split()
    return not {"pool1", "norm1"} <= set(order) or order.index("pool1") < order.index("norm1")
