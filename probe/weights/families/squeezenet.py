"""SqueezeNet 1.0 and 1.1: torchvision's names. Its blocks sit at the same places as Gluon's.

References
----------
torchvision/models/squeezenet.py.
"""

from __future__ import annotations

from probe.backbones.spec import BackboneSpec
from probe.weights.naming import Naming, Shapes, torch_naming

_FIRE = {"0.0": "squeeze", "1.0.0": "expand1x1", "1.1.0": "expand3x3"}


def _torchvision(module: str) -> str | None:
    if module == "output.0":
        return "classifier.1"
    part, index, *inner = module.split(".")
    return f"{part}.{index}.{_FIRE['.'.join(inner)]}" if inner else module


def namings(backbone: BackboneSpec, shapes: Shapes) -> list[Naming]:  # noqa: ARG001 - by shapes alone
    """Return torchvision's naming."""
    return [torch_naming("torchvision", shapes, _torchvision)]
