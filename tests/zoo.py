"""Gluon's model zoo, as it comes with MXNet: networks that were not built from our descriptions."""

from __future__ import annotations

from typing import Any

OTHERWISE = {
    "inception_v3": "inceptionv3",
    "mobilenet_v1": "mobilenet1.0", "mobilenet_v2": "mobilenetv2_1.0",
    "squeezenet1_0": "squeezenet1.0", "squeezenet1_1": "squeezenet1.1",
    "resnet18": "resnet18_v1", "resnet34": "resnet34_v1",  # without bottlenecks they are the same
}  # fmt: skip
LACKING = (
    "caffenet", "efficientnet_lite0", "inception_v3_keras", "resnet50", "resnet101", "resnet152",
)  # fmt: skip


def zoo_network(mx: Any, backbone: str) -> Any:
    """Return the zoo's network of that backbone's name, its parameters not yet allocated."""
    return mx.gluon.model_zoo.vision.get_model(OTHERWISE.get(backbone, backbone))
