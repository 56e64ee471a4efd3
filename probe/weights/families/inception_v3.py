"""Inception v3: torchvision's and timm's names; Keras's are recognised and refused.

References
----------
torchvision/models/inception.py; keras/src/applications/inception_v3.py.
"""

from __future__ import annotations

from probe.backbones.spec import BackboneSpec
from probe.weights.naming import (
    KERAS_FORMATS,
    Naming,
    Omission,
    Shapes,
    hwio,
    torch_naming,
)

_STEM = {
    "0": "Conv2d_1a_3x3", "1": "Conv2d_2a_3x3", "2": "Conv2d_2b_3x3", "4": "Conv2d_3b_1x1",
    "5": "Conv2d_4a_3x3",
}  # fmt: skip
_MIXED = {str(7 + i): f"Mixed_{name}" for i, name in enumerate(
    ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")
)}  # fmt: skip
_A = {
    "0.0": "branch1x1", "1.0": "branch5x5_1", "1.1": "branch5x5_2", "2.0": "branch3x3dbl_1",
    "2.1": "branch3x3dbl_2", "2.2": "branch3x3dbl_3", "3.1": "branch_pool",
}  # fmt: skip
_B = {"0.0": "branch3x3", "1.0": "branch3x3dbl_1", "1.1": "branch3x3dbl_2", "1.2": "branch3x3dbl_3"}
_C = {
    "0.0": "branch1x1", "1.0": "branch7x7_1", "1.1": "branch7x7_2", "1.2": "branch7x7_3",
    "2.0": "branch7x7dbl_1", "2.1": "branch7x7dbl_2", "2.2": "branch7x7dbl_3",
    "2.3": "branch7x7dbl_4", "2.4": "branch7x7dbl_5", "3.1": "branch_pool",
}  # fmt: skip
_D = {
    "0.0": "branch3x3_1", "0.1": "branch3x3_2", "1.0": "branch7x7x3_1", "1.1": "branch7x7x3_2",
    "1.2": "branch7x7x3_3", "1.3": "branch7x7x3_4",
}  # fmt: skip
_E = {
    "0.0": "branch1x1", "1.0.0": "branch3x3_1", "1.1.0.0": "branch3x3_2a",
    "1.1.1.0": "branch3x3_2b",
    "2.0.0": "branch3x3dbl_1", "2.0.1": "branch3x3dbl_2", "2.1.0.0": "branch3x3dbl_3a",
    "2.1.1.0": "branch3x3dbl_3b", "3.1": "branch_pool",
}  # fmt: skip
_BLOCKS = {
    "5": {"b": _A, "c": _A, "d": _A},
    "6": dict.fromkeys("bcde", _C) | {"a": _B},
    "7": {"a": _D, "b": _E, "c": _E},
}

AUXILIARY = Omission(r"AuxLogits\..*", "the auxiliary head left out")


def _torchvision(module: str) -> str | None:
    if module == "output":
        return "fc"
    _, index, *inner, last = module.split(".")
    step = "conv" if last == "0" else "bn"
    if index in _STEM:
        return f"{_STEM[index]}.{step}"
    mixed = _MIXED[index]
    branches = _BLOCKS[mixed[-2]][mixed[-1]]
    return f"{mixed}.{branches['.'.join(inner)]}.{step}"


def namings(backbone: BackboneSpec, shapes: Shapes) -> list[Naming]:  # noqa: ARG001 - one variant
    """Return torchvision's naming, and Keras's with the reason to refuse it."""
    return [
        torch_naming("torchvision", shapes, _torchvision, AUXILIARY),
        *map(_keras, ["", "_1"], [shapes] * 2),
    ]


def _keras(first: str, shapes: Shapes) -> Naming:
    # layers are counted over the whole session, the first being conv2d or conv2d_1
    name = "features.0.0.weight"
    return Naming(
        name="keras",
        formats=KERAS_FORMATS,
        sources={name: hwio(f"conv2d{first}/kernel", shapes[name])},
        refusal="its InceptionV3 leaves the padding out of its average pools, Gluon's counts it: "
        "another network, which no backbone here has",
    )
