"""Keras's Inception v3: the zoo's, whose 3x3 average pools leave the padding out of the average.

The difference is in the border of every map alone, no parameter tells it, and features move by
several percent; so it is a backbone with a name of its own, which a cache key then holds.

References
----------
Szegedy et al., Rethinking the Inception architecture, arXiv:1512.00567;
keras/src/applications/inception_v3.py: AveragePooling2D(padding="same"), as TensorFlow averages.
"""

from __future__ import annotations

from typing import Any

from probe.engines.mxnet.mx import mx


def inception_v3_keras(size: int) -> Any:  # noqa: ARG001 - pads symmetrically at any size
    """Build the network."""
    net = mx.gluon.model_zoo.vision.get_model("inceptionv3")
    net.features.apply(_leave_padding_out)
    return net


def _leave_padding_out(block: Any) -> None:
    if isinstance(block, mx.gluon.nn.AvgPool2D):
        block._kwargs["count_include_pad"] = False
