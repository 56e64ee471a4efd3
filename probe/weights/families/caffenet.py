"""CaffeNet: Caffe's names.

References
----------
BVLC/caffe, models/bvlc_reference_caffenet/deploy.prototxt.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from probe.backbones.spec import BackboneSpec
from probe.weights.naming import CAFFE_FORMATS, Naming, Shapes, plain, reversed_channels
from probe.weights.tensors import TensorFile

COLOURS = 3
CONVERTED = "caffe, converted to MXNet"
_LAYERS = {
    "features.0": "conv1", "features.3": "conv2", "features.6": "conv3", "features.7": "conv4",
    "features.8": "conv5", "features.10": "fc6", "features.12": "fc7", "output": "fc8",
}  # fmt: skip


def namings(backbone: BackboneSpec, shapes: Shapes) -> list[Naming]:  # noqa: ARG001 - one variant
    """Return Caffe's naming, which is refused for BVLC's AlexNet."""
    refusal = (
        "its norms come before its pools: BVLC's AlexNet, another network, which no backbone "
        "here has"
    )
    return caffe_namings(shapes, _LAYERS, refusal=refusal, unless=_pools_first)


def caffe_namings(
    shapes: Shapes,
    layers: dict[str, str],
    refusal: str | None = None,
    unless: Callable[[TensorFile], bool] | None = None,
) -> list[Naming]:
    """Return the naming of Caffe's files, and that of MXNet's tools/caffe_converter.

    The converter gives parameters MXNet's names and reverses the first convolution from BGR to RGB.
    That is reversed again, so that the parameters and the preprocessing are those of Caffe.
    """
    own = Naming(
        name="caffe", formats=CAFFE_FORMATS, refusal=refusal, unless=unless,
        sources={
            name: plain(f"{layers[name.rpartition('.')[0]]}/{int(name.endswith('.bias'))}", shape)
            for name, shape in shapes.items()
        },
    )  # fmt: skip
    sources = {}
    for canonical, source in own.sources.items():
        layer, _, number = source.names[0].rpartition("/")
        name = f"{re.sub('[-/]', '_', layer)}_{'bias' if number == '1' else 'weight'}"
        shape = source.shapes[0]
        make = reversed_channels if len(shape) == 4 and shape[1] == COLOURS else plain
        sources[canonical] = make(name, shape)
    converted = Naming(
        name=CONVERTED, formats=frozenset({"gluon"}), sources=sources, refusal=refusal,
        unless=unless,
        note="its first convolution takes RGB, as MXNet's Caffe converter writes it; turned back "
        "to BGR",
    )  # fmt: skip
    return [own, converted]


def _pools_first(file: TensorFile) -> bool:
    order = file.metadata.get("caffe.layers", "").split()
    return not {"pool1", "norm1"} <= set(order) or order.index("pool1") < order.index("norm1")
