"""CaffeNet: AlexNet with two groups and local response normalisation, as Caffe trained it.

Each norm comes after its pool, where AlexNet's comes before, and pools round their output up.

References
----------
Krizhevsky et al., ImageNet classification with deep convolutional neural networks (2012);
BVLC/caffe, models/bvlc_reference_caffenet/train_val.prototxt.
"""

from __future__ import annotations

from typing import Any

from probe.engines.mxnet.mx import mx

nn = mx.gluon.nn

CONVS = (  # width, kernel, stride, padding, groups, pooled, normalised
    (96, 11, 4, 0, 1, True, True), (256, 5, 1, 2, 2, True, True), (384, 3, 1, 1, 1, False, False),
    (384, 3, 1, 1, 2, False, False), (256, 3, 1, 1, 2, True, False),
)  # fmt: skip
LAST_MAP = 256 * 6 * 6


class ResponseNorm(mx.gluon.HybridBlock):  # type: ignore[misc]
    """x / (1 + 1e-4 / 5 * sum of the squares of 5 neighbouring channels) ** 0.75."""

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return F.LRN(x, nsize=5, alpha=1e-4, beta=0.75, knorm=1)


class CaffeNet(mx.gluon.HybridBlock):  # type: ignore[misc]
    """`features` up to fc7 with its dropout, then `output`."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.HybridSequential(prefix="")
        entered = 3
        for width, kernel, stride, padding, groups, pooled, normalised in CONVS:
            self.features.add(
                nn.Conv2D(
                    width, kernel, stride, padding, groups=groups, activation="relu",
                    in_channels=entered,
                )
            )  # fmt: skip
            if pooled:
                self.features.add(nn.MaxPool2D(3, 2, ceil_mode=True))
            if normalised:
                self.features.add(ResponseNorm())
            entered = width
        for units in (LAST_MAP, 4096):
            self.features.add(nn.Dense(4096, activation="relu", in_units=units), nn.Dropout(0.5))
        self.output = nn.Dense(1000, in_units=4096)

    def hybrid_forward(self, F: Any, x: Any) -> Any:  # noqa: ARG002
        return self.output(self.features(x))


def caffenet(size: int) -> CaffeNet:  # noqa: ARG001 - pads symmetrically at any size
    """Build the network."""
    return CaffeNet()
