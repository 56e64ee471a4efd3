"""MobileNet v1 and v2: the names of torchvision and timm, and Keras's, which are refused.

The first bottleneck of Gluon's v2 expands by 1 with a 1x1 convolution, which the others leave out.
It is set to the identity: a unit kernel, a BatchNorm that undoes its epsilon, and a ReLU6 after a
ReLU6. Gluon's classifier has no bias, so the others' classifiers cannot be used.

Where they stride, Keras's MobileNets pad only below and on the right, and Gluon's on all sides.
Every map from the first on sees other pixels, which no change of the parameters makes up for.

References
----------
torchvision/models/mobilenetv2.py; timm/models/efficientnet.py: mobilenetv2_100;
keras/src/applications/mobilenet.py, mobilenet_v2.py: ZeroPadding2D before strided convolutions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from probe.backbones.spec import BackboneSpec
from probe.weights.naming import (
    BATCH_COUNTERS,
    GLUON_EPSILON,
    KERAS_FORMATS,
    TORCH_FORMATS,
    Naming,
    Omission,
    Shapes,
    Source,
    constant,
    filled,
    folded_naming,
    hwio,
    renamed,
)

FIRST = 3  # index of the first bottleneck in Gluon's `features`
GROUPS = (1, 2, 3, 4, 3, 3, 1)  # blocks a stage, as timm groups them
_IDENTITY = f"features.{FIRST}.out.0", f"features.{FIRST}.out.1"
_PADS = "pads below and on the right alone where it strides, and Gluon's on all sides"
_OTHER = "another architecture, which no backbone here has"
REFUSAL_V1 = f"its MobileNet has ReLU6 where Gluon's has ReLU, and {_PADS}: {_OTHER}"
REFUSAL_V2 = f"its MobileNetV2 {_PADS}: {_OTHER}"


def _renamer(
    stem: Mapping[str, str], inner: Mapping[int, str], first: Mapping[int, str],
    block_path: Callable[[int], str],
) -> Callable[[str], str | None]:  # fmt: skip
    """Return a function from canonical module paths to a publisher's.

    Parameters
    ----------
    stem : mapping of str to str
        The modules around the blocks.
    inner, first : mapping of int to str
        Index in a block's `out` -> name within the block. `first` is for the first block, which
        the publishers build without the expansion.
    block_path : callable
        Number of a block, from 0 -> its path.
    """

    def rename(module: str) -> str | None:
        if module in stem or module in _IDENTITY:
            return stem.get(module)
        block, step = (int(part) for part in module.split(".")[1::2])
        names = first if block == FIRST else inner
        return f"{block_path(block - FIRST)}.{names[step]}"

    return rename


def grouped(index: int, groups: tuple[int, ...]) -> str:
    """Return timm's ``blocks.STAGE.BLOCK`` of the block with that number in the whole network."""
    for stage, count in enumerate(groups):
        if index < count:
            return f"blocks.{stage}.{index}"
        index -= count
    raise ValueError("there are no more blocks")


_torchvision = _renamer(
    {
        "features.0": "features.0.0", "features.1": "features.0.1", "features.20": "features.18.0",
        "features.21": "features.18.1", "output.0": "classifier.1",
    },
    {0: "conv.0.0", 1: "conv.0.1", 3: "conv.1.0", 4: "conv.1.1", 6: "conv.2", 7: "conv.3"},
    {3: "conv.0.0", 4: "conv.0.1", 6: "conv.1", 7: "conv.2"},
    lambda number: f"features.{number + 1}",
)  # fmt: skip
_timm = _renamer(
    {
        "features.0": "conv_stem", "features.1": "bn1", "features.20": "conv_head",
        "features.21": "bn2", "output.0": "classifier",
    },
    {0: "conv_pw", 1: "bn1", 3: "conv_dw", 4: "bn2", 6: "conv_pwl", 7: "bn3"},
    {3: "conv_dw", 4: "bn1", 6: "conv_pw", 7: "bn2"},
    lambda number: grouped(number, GROUPS),
)  # fmt: skip


def v2_namings(backbone: BackboneSpec, shapes: Shapes) -> list[Naming]:  # noqa: ARG001 - one variant
    """Return torchvision's and timm's naming, each also with its norms folded, and Keras's."""
    found = [_keras_v2(shapes)]
    for name, rename, top in (
        ("torchvision", _torchvision, "classifier.1"),
        ("timm", _timm, "classifier"),
    ):
        unfolded = Naming(name=name, formats=TORCH_FORMATS, sources=renamed(shapes, rename))
        folded = folded_naming(name, shapes, rename)
        found += [_completed(one, top, shapes) for one in (unfolded, folded)]
    return found


def _completed(naming: Naming, top: str, shapes: Shapes) -> Naming:
    """Add the first block's identity and leave out the classifier, since Gluon's has no bias."""
    sources = {**naming.sources, **_identity(shapes)}
    del sources["output.0.weight"]  # without its bias it would be another classifier
    left_out = Omission(
        rf"{top}\.(weight|bias)", "the classifier left out, since Gluon's has no bias"
    )
    return replace(naming, sources=sources, omissions=(BATCH_COUNTERS, left_out))


def _identity(shapes: Shapes) -> dict[str, Source]:
    conv, norm = _IDENTITY
    width = shapes[f"{conv}.weight"][0]
    values = {
        "gamma": math.sqrt(1 + GLUON_EPSILON),
        "beta": 0.0,
        "running_mean": 0.0,
        "running_var": 1.0,
    }
    unit = np.eye(width, dtype=np.float32).reshape(width, width, 1, 1)
    return {f"{conv}.weight": constant(unit)} | {
        f"{norm}.{leaf}": filled(value, (width,)) for leaf, value in values.items()
    }


def v1_namings(backbone: BackboneSpec, shapes: Shapes) -> list[Naming]:  # noqa: ARG001 - one variant
    """Return the Keras names that are enough to recognise its MobileNet, which is refused."""
    convs = [name for name, shape in shapes.items() if len(shape) == 4]
    pointwise = [name for name in convs[1:] if shapes[name][2:] == (1, 1)]
    called = {convs[0]: "conv1"}
    called |= {name: f"conv_pw_{number}" for number, name in enumerate(pointwise, start=1)}
    return [_refused(shapes, called, REFUSAL_V1)]


def _keras_v2(shapes: Shapes) -> Naming:
    """Return the Keras names that are enough to recognise its MobileNetV2, which is refused."""
    projections = [
        name for name in shapes if name.endswith(".out.6.weight") and len(shapes[name]) == 4
    ]
    called = {"features.0.weight": "Conv1", "features.20.weight": "Conv_1"}
    called |= {name: f"block_{i}_project" for i, name in enumerate(projections) if i}
    return _refused(shapes, called, REFUSAL_V2)


def _refused(shapes: Shapes, called: dict[str, str], refusal: str) -> Naming:
    sources = {name: hwio(f"{layer}/kernel", shapes[name]) for name, layer in called.items()}
    rest = Omission(r"[^/]+/.*", "{count} tensors left out")
    return Naming(
        name="keras", formats=KERAS_FORMATS, sources=sources, omissions=(rest,), refusal=refusal
    )
