"""EfficientNet-Lite0: the names of lukemelas's EfficientNet-PyTorch, and timm's.

timm has two networks with the same names and shapes: TensorFlow's `tf_efficientnet_lite0`, and
`efficientnet_lite0`, which pads symmetrically and was trained with another epsilon. Only the file's
name tells them apart, or timm's ``config.json`` beside it.

References
----------
lukemelas/EfficientNet-PyTorch, efficientnet_pytorch/model.py; timm/models/efficientnet.py.
"""

from __future__ import annotations

from dataclasses import replace

from probe.backbones.spec import BackboneSpec
from probe.preprocess.published import architecture_beside
from probe.weights.families.mobilenet import grouped
from probe.weights.naming import Naming, Shapes, folded_naming, torch_naming
from probe.weights.tensors import TensorFile

EPSILON = 1e-3
TF = "tf_efficientnet_lite0"
GROUPS = (1, 2, 2, 3, 3, 4, 1)
_STEM = {
    "features.0.conv": "_conv_stem", "features.0.bn": "_bn0", "features.17.conv": "_conv_head",
    "features.17.bn": "_bn1", "output": "_fc",
}  # fmt: skip
_TIMM_STEM = {
    "features.0.conv": "conv_stem", "features.0.bn": "bn1", "features.17.conv": "conv_head",
    "features.17.bn": "bn2", "output": "classifier",
}  # fmt: skip
_INNER = {
    "expand.conv": "_expand_conv", "expand.bn": "_bn0", "depthwise.conv": "_depthwise_conv",
    "depthwise.bn": "_bn1", "project.conv": "_project_conv", "project.bn": "_bn2",
}  # fmt: skip
_TIMM_INNER = {
    "expand.conv": "conv_pw", "expand.bn": "bn1", "depthwise.conv": "conv_dw",
    "depthwise.bn": "bn2", "project.conv": "conv_pwl", "project.bn": "bn3",
}  # fmt: skip
_TIMM_FIRST = {
    "depthwise.conv": "conv_dw", "depthwise.bn": "bn1",
    "project.conv": "conv_pw", "project.bn": "bn2",
}  # fmt: skip


def _lukemelas(module: str) -> str | None:
    if module in _STEM:
        return _STEM[module]
    _, block, inner = module.split(".", 2)
    return f"_blocks.{int(block) - 1}.{_INNER[inner]}"


def _timm(module: str) -> str | None:
    if module in _TIMM_STEM:
        return _TIMM_STEM[module]
    _, block, inner = module.split(".", 2)
    names = _TIMM_FIRST if block == "1" else _TIMM_INNER
    return f"{grouped(int(block) - 1, GROUPS)}.{names[inner]}"


def _is_tf(file: TensorFile) -> bool:
    return TF in file.path.name or architecture_beside(file.path) == TF


def namings(backbone: BackboneSpec, shapes: Shapes) -> list[Naming]:  # noqa: ARG001 - one variant
    """Return lukemelas's naming, and timm's for files that are said to be the right network."""
    timm = torch_naming("timm", shapes, _timm)
    timm_folded = folded_naming("timm", shapes, _timm, epsilon=EPSILON)
    refusal = (
        "they do not tell tf_efficientnet_lite0, which fits, from efficientnet_lite0, which pads "
        f"another way and does not; if it is the first, put {TF} into the file's name, or timm's "
        "config.json beside it"
    )
    return [
        torch_naming("lukemelas", shapes, _lukemelas),
        folded_naming("lukemelas", shapes, _lukemelas, epsilon=EPSILON),
        *(replace(one, refusal=refusal, unless=_is_tf) for one in (timm, timm_folded)),
    ]
