"""The zoo's ResNet v2: only Gluon has it; Keras's v2 is recognised and refused."""

from __future__ import annotations

from probe.backbones.spec import BackboneSpec
from probe.weights.families.keras_resnet import keras_v2_naming
from probe.weights.families.resnet_v1b import depth
from probe.weights.naming import Naming, Shapes


def namings(backbone: BackboneSpec, shapes: Shapes) -> list[Naming]:
    """Return the naming that is refused; Gluon's own are added for every family."""
    return [keras_v2_naming(shapes)] if depth(backbone) >= 50 else []
