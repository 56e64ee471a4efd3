"""One file a family: how its weights are called in the world."""

from __future__ import annotations

from collections.abc import Callable

from probe.backbones.spec import BackboneSpec
from probe.weights.families import (
    alexnet,
    caffenet,
    densenet,
    efficientnet_lite0,
    gluon,
    inception_v3,
    keras_mobilenet,
    mobilenet_v2,
    resnet_v1,
    resnet_v1b,
    resnet_v2,
    squeezenet,
    vgg,
)
from probe.weights.naming import Naming, Shapes

_NAMINGS: dict[str, Callable[[BackboneSpec, Shapes], list[Naming]]] = {
    "alexnet": alexnet.namings,
    "caffenet": caffenet.namings,
    "densenet": densenet.namings,
    "efficientnet_lite0": efficientnet_lite0.namings,
    "inception_v3": inception_v3.namings,
    "inception_v3_keras": inception_v3.namings,
    "mobilenet_v1": lambda _, shapes: [keras_mobilenet.keras_v1(shapes)],
    "mobilenet_v2": mobilenet_v2.namings,
    "resnet_v1": resnet_v1.namings,
    "resnet_v1b": resnet_v1b.namings,
    "resnet_v2": resnet_v2.namings,
    "squeezenet": squeezenet.namings,
    "vgg": vgg.namings,
}


def namings(backbone: BackboneSpec, shapes: Shapes) -> list[Naming]:
    """Return every way in which the backbone's weights are known to be called.

    Parameters
    ----------
    shapes : mapping of canonical name to shape
        What `probe.engines.mxnet.network.parameter_shapes` lists.
    """
    own = _NAMINGS.get(backbone.family)
    return [*gluon.namings(backbone, shapes), *(own(backbone, shapes) if own else [])]
