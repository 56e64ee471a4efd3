"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation, with ReLU6.

Convolutions pad as TensorFlow's SAME does: at stride 2 the extra row and column of an even input
go to the bottom and right, so the padding depends on the input size and is fixed when building.

References
----------
Tan and Le, EfficientNet, arXiv:1905.11946, table 1. The Lite variant: the README of
`efficientnet/lite` in TensorFlow's TPU repository (2020).
"""

from __future__ import annotations

from typing import Any

from probe.engines.mxnet.mx import mx

nn = mx.gluon.nn

GROUPS = (  # blocks, kernel, stride, expansion, width
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320),
)  # fmt: skip
EPSILON = 1e-3


class ConvNorm(mx.gluon.HybridBlock):  # type: ignore[misc]
    """SAME-padded convolution, batch norm and, where asked for, ReLU6."""

    def __init__(
        self,
        entered: int,
        width: int,
        kernel: int,
        stride: int,
        size: int,
        *,
        groups: int = 1,
        relu6: bool = True,
    ) -> None:
        super().__init__()
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        self._before, self._after = total // 2, total - total // 2
        self._relu6 = relu6
        even = self._before == self._after
        self.conv = nn.Conv2D(
            width,
            kernel,
            stride,
            self._before if even else 0,
            groups=groups,
            use_bias=False,
            in_channels=entered,
        )
        self.bn = nn.BatchNorm(epsilon=EPSILON, in_channels=width)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        if self._before != self._after:
            sides = (self._before, self._after) * 2
            x = F.pad(x, mode="constant", pad_width=(0, 0, 0, 0, *sides), constant_value=0)
        x = self.bn(self.conv(x))
        return F.clip(x, 0, 6) if self._relu6 else x


class InvertedResidual(mx.gluon.HybridBlock):  # type: ignore[misc]
    """Expand 1x1, depthwise, project 1x1 without activation; added to x where shapes agree."""

    def __init__(
        self, entered: int, width: int, kernel: int, stride: int, expansion: int, *, size: int
    ) -> None:
        super().__init__()
        wide = entered * expansion
        self._residual = stride == 1 and entered == width
        self.expand = ConvNorm(entered, wide, 1, 1, size) if expansion != 1 else None
        self.depthwise = ConvNorm(wide, wide, kernel, stride, size, groups=wide)
        self.project = ConvNorm(wide, width, 1, 1, -(-size // stride), relu6=False)

    def hybrid_forward(self, F: Any, x: Any) -> Any:  # noqa: ARG002
        inner = x if self.expand is None else self.expand(x)
        inner = self.project(self.depthwise(inner))
        return inner + x if self._residual else inner


class EfficientNetLite0(mx.gluon.HybridBlock):  # type: ignore[misc]
    """`features`: stem, 16 blocks, head, global pooling; then `output`."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.features = nn.HybridSequential(prefix="")
        self.features.add(ConvNorm(3, 32, 3, 2, size))
        entered, size = 32, -(-size // 2)
        for count, kernel, group_stride, expansion, width in GROUPS:
            for i in range(count):
                stride = group_stride if i == 0 else 1
                self.features.add(
                    InvertedResidual(entered, width, kernel, stride, expansion, size=size)
                )
                entered, size = width, -(-size // stride)
        self.features.add(ConvNorm(entered, 1280, 1, 1, size))
        self.features.add(nn.GlobalAvgPool2D())
        self.output = nn.Dense(1000, in_units=1280)

    def hybrid_forward(self, F: Any, x: Any) -> Any:  # noqa: ARG002
        return self.output(self.features(x))


def efficientnet_lite0(size: int) -> EfficientNetLite0:
    """Build for square inputs of `size` pixels."""
    return EfficientNetLite0(size)
