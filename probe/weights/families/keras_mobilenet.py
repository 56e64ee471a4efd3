"""Keras's MobileNet and MobileNetV2: recognised, and refused with the reason.

Both pad below and on the right alone where they stride, Gluon's on all sides, so that every map
from the first on sees other pixels; no change of the parameters makes up for that.

References
----------
keras/src/applications/mobilenet.py, mobilenet_v2.py: ZeroPadding2D before strided convolutions.
"""

from __future__ import annotations

from probe.weights.naming import KERAS_FORMATS, Naming, Omission, Shapes, hwio

_PADS = "pads below and on the right alone where it strides, and Gluon's on all sides"
_OTHER = "another architecture, which no backbone here has"
REFUSAL_V1 = f"its MobileNet has ReLU6 where Gluon's has ReLU, and {_PADS}: {_OTHER}"
REFUSAL_V2 = f"its MobileNetV2 {_PADS}: {_OTHER}"


def keras_v1(shapes: Shapes) -> Naming:
    """Return enough of Keras's MobileNet names to recognise it."""
    convs = [name for name, shape in shapes.items() if len(shape) == 4]
    pointwise = [name for name in convs[1:] if shapes[name][2:] == (1, 1)]
    called = {convs[0]: "conv1"}
    called |= {name: f"conv_pw_{number}" for number, name in enumerate(pointwise, start=1)}
    return _refused(shapes, called, REFUSAL_V1)


def keras_v2(shapes: Shapes) -> Naming:
    """Return enough of Keras's MobileNetV2 names to recognise it."""
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
