"""DenseNet: torchvision's and timm's names, and those of the files from before 2018.

References
----------
torchvision/models/densenet.py, whose `_load_state_dict` removes the old dots.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from probe.backbones.spec import BackboneSpec
from probe.weights.naming import Naming, Shapes, folded_naming, torch_naming

_STEM = {
    "features.0": "features.conv0", "features.1": "features.norm0", "features.11": "features.norm5",
    "output": "classifier",
}  # fmt: skip
_LAYER = {"0": "norm1", "2": "conv1", "3": "norm2", "5": "conv2"}
_TRANSITION = {"0": "norm", "2": "conv"}


def _torchvision(module: str) -> str | None:
    if module in _STEM:
        return _STEM[module]
    index, *inner = module.split(".")[1:]
    number = int(index) // 2 - 1
    if len(inner) == 1:
        return f"features.transition{number}.{_TRANSITION[inner[0]]}"
    layer, _, step = inner  # in between stands the index of Gluon's branch beside the identity
    return f"features.denseblock{number}.denselayer{int(layer) + 1}.{_LAYER[step]}"


def _old(module: str) -> str | None:
    new = _torchvision(module)
    return new and re.sub(r"(denselayer\d+\.(?:norm|conv))", r"\1.", new)


def namings(backbone: BackboneSpec, shapes: Shapes) -> list[Naming]:  # noqa: ARG001 - by shapes alone
    """Return torchvision's naming, new and old."""
    variants: dict[str, Callable[[str], str | None]] = {
        "torchvision": _torchvision,
        "torchvision (old)": _old,
    }
    folded = folded_naming("torchvision", shapes, _torchvision)
    return [*(torch_naming(name, shapes, rename) for name, rename in variants.items()), folded]
