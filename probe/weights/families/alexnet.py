"""AlexNet, the one-tower variant: torchvision's names.

References
----------
torchvision/models/alexnet.py.
"""

from __future__ import annotations

from probe.backbones.spec import BackboneSpec
from probe.weights.naming import Naming, Shapes, torch_naming

_MODULES = {
    "features.0": "features.0", "features.2": "features.3", "features.4": "features.6",
    "features.5": "features.8", "features.6": "features.10", "features.9": "classifier.1",
    "features.11": "classifier.4", "output": "classifier.6",
}  # fmt: skip


def namings(backbone: BackboneSpec, shapes: Shapes) -> list[Naming]:  # noqa: ARG001 - one variant
    """Return torchvision's naming."""
    return [torch_naming("torchvision", shapes, _MODULES.get)]
