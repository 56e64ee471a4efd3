"""ResNet v1b: the variant that torchvision and timm ship, which the Gluon zoo lacks.

It strides in the 3x3 convolution of a bottleneck instead of the first 1x1 and has no biases in
its convolutions. Loading its weights into the zoo's v1 fits every shape and is wrong.

References
----------
He et al., Deep residual learning for image recognition, arXiv:1512.03385; the stride's place:
Goyal et al., Accurate, large minibatch SGD, arXiv:1706.02677, section 5.1.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from probe.engines.mxnet.mx import mx

nn = mx.gluon.nn

DEPTHS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


def _conv(channels: int, kernel: int, stride: int, in_channels: int) -> Any:
    return nn.Conv2D(channels, kernel, stride, kernel // 2, use_bias=False, in_channels=in_channels)


class Residual(mx.gluon.HybridBlock):  # type: ignore[misc]
    """relu(body(x) + x), or + downsample(x) where the shape changes."""

    def __init__(self, steps: list[tuple[int, int, int]], in_channels: int) -> None:
        super().__init__()
        channels, stride, entered = steps[-1][0], max(step[2] for step in steps), in_channels
        self.body = nn.HybridSequential(prefix="")
        for i, (width, kernel, step) in enumerate(steps):
            self.body.add(_conv(width, kernel, step, entered), nn.BatchNorm(in_channels=width))
            if i + 1 < len(steps):
                self.body.add(nn.Activation("relu"))
            entered = width
        self.downsample = None
        if stride != 1 or channels != in_channels:
            self.downsample = nn.HybridSequential(prefix="")
            self.downsample.add(
                _conv(channels, 1, stride, in_channels), nn.BatchNorm(in_channels=channels)
            )

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(self.body(x) + shortcut)


class ResNetV1b(mx.gluon.HybridBlock):  # type: ignore[misc]
    """Children as in the zoo: `features` up to the global pool, then `output`."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.features = nn.HybridSequential(prefix="")
        self.features.add(
            _conv(64, 7, 2, 3),
            nn.BatchNorm(in_channels=64),
            nn.Activation("relu"),
            nn.MaxPool2D(3, 2, 1),
        )
        entered = 64
        for stage, count in enumerate(DEPTHS[depth]):
            blocks = nn.HybridSequential(prefix="")
            width = 64 * 2**stage
            for i in range(count):
                stride = 2 if i == 0 and stage > 0 else 1
                steps = [(width, 3, stride), (width, 3, 1)]
                if depth >= 50:
                    steps = [(width, 1, 1), (width, 3, stride), (4 * width, 1, 1)]
                blocks.add(Residual(steps, entered))
                entered = steps[-1][0]
            self.features.add(blocks)
        self.features.add(nn.GlobalAvgPool2D())
        self.output = nn.Dense(1000, in_units=entered)

    def hybrid_forward(self, F: Any, x: Any) -> Any:  # noqa: ARG002
        return self.output(self.features(x))


def _build(depth: int, size: int) -> ResNetV1b:  # noqa: ARG001 - pads symmetrically at any size
    return ResNetV1b(depth)


resnet18, resnet34, resnet50, resnet101, resnet152 = (partial(_build, depth) for depth in DEPTHS)
