"""The tensor names that published weights have, one file for each family of backbones."""

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
    mobilenet,
    resnet,
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
    "mobilenet_v1": mobilenet.v1_namings,
    "mobilenet_v2": mobilenet.v2_namings,
    "resnet_v1": resnet.v1_namings,
    "resnet_v1b": resnet.v1b_namings,
    "resnet_v2": resnet.v2_namings,
    "squeezenet": squeezenet.namings,
    "vgg": vgg.namings,
}


def namings(backbone: BackboneSpec, shapes: Shapes) -> list[Naming]:
    """Return the namings of all publishers whose weights the backbone can be given.

    Parameters
    ----------
    shapes : mapping of canonical name to shape
        What `probe.backbones.cut.parameter_shapes` lists.
    """
    own = _NAMINGS.get(backbone.family)
    return [*gluon.namings(backbone, shapes), *(own(backbone, shapes) if own else [])]
