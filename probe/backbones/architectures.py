"""Describe what the networks of the catalog compute; every engine runs these descriptions.

A function here describes one family for square images of `size` pixels and a classifier of
`classes` classes. Paths are those of MXNet's Gluon model zoo, under which parameters are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from probe.backbones.network import Builder, NetworkGraph, places

RESNETS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
DENSENETS = {  # depth: first width, growth, layers of each block
    121: (64, 32, (6, 12, 24, 16)),
    161: (96, 48, (6, 12, 36, 24)),
    169: (64, 32, (6, 12, 32, 32)),
    201: (64, 32, (6, 12, 48, 32)),
}
VGG_WIDTHS = (64, 128, 256, 512, 512)


def vgg(size: int, classes: int, *, convs: tuple[int, ...], norm: bool) -> NetworkGraph:  # noqa: ARG001
    """Describe a VGG: Simonyan and Zisserman, arXiv:1409.1556, table 1."""
    net, at = Builder(), places("features")
    for number, width in zip(convs, VGG_WIDTHS, strict=True):
        for _ in range(number):
            net.conv(next(at), width, 3, pad=1)
            if norm:
                net.norm(next(at))
            net.relu(next(at))
        net.pool(next(at), "max", 2)
    for _ in range(2):
        _dense_and_dropout(net, next(at), next(at))
    net.dense("output", classes)
    return net.network()


def _dense_and_dropout(net: Builder, dense: str, dropout: str) -> None:
    net.dense(dense, 4096)
    net.relu(f"{dense}.act")
    net.dropout(dropout)


def alexnet(size: int, classes: int) -> NetworkGraph:  # noqa: ARG001
    """Describe AlexNet: Krizhevsky, One weird trick, arXiv:1404.5997."""
    net, at = Builder(), places("features")
    for width, kernel, stride, pad, pooled in (
        (64, 11, 4, 2, True), (192, 5, 1, 2, True), (384, 3, 1, 1, False), (256, 3, 1, 1, False),
        (256, 3, 1, 1, True),
    ):  # fmt: skip
        net.relu(net.conv(next(at), width, kernel, stride, pad) + ".act")
        if pooled:
            net.pool(next(at), "max", 3, 2)
    net.flatten(next(at))
    for _ in range(2):
        _dense_and_dropout(net, next(at), next(at))
    net.dense("output", classes)
    return net.network()


def caffenet(size: int, classes: int) -> NetworkGraph:  # noqa: ARG001
    """Describe CaffeNet: AlexNet with two groups and local response norms, as Caffe trained it.

    Each norm comes after its pool, where AlexNet's comes before, and pools round their output up.

    References
    ----------
    Krizhevsky et al., ImageNet classification with deep convolutional neural networks (2012);
    BVLC/caffe, models/bvlc_reference_caffenet/train_val.prototxt.
    """
    net, at = Builder(), places("features")
    for width, kernel, stride, pad, groups, pooled, normalised in (
        (96, 11, 4, 0, 1, True, True), (256, 5, 1, 2, 2, True, True),
        (384, 3, 1, 1, 1, False, False), (384, 3, 1, 1, 2, False, False),
        (256, 3, 1, 1, 2, True, False),
    ):  # fmt: skip
        net.relu(net.conv(next(at), width, kernel, stride, pad, groups=groups) + ".act")
        if pooled:
            net.pool(next(at), "max", 3, 2, ceil=True)
        if normalised:
            net.add_node("lrn", next(at), size=5, alpha=1e-4, beta=0.75, bias=1.0)
    for _ in range(2):
        _dense_and_dropout(net, next(at), next(at))
    net.dense("output", classes)
    return net.network()


def resnet(size: int, classes: int, *, depth: int, variant: str) -> NetworkGraph:  # noqa: ARG001
    """Describe a ResNet of variant ``v1``, ``v1b`` or ``v2``.

    v1b is what torchvision and timm ship. It strides in the 3x3 convolution of a bottleneck instead
    of the first 1x1 and has no biases in its convolutions. Loading its weights into v1 fits every
    shape of the 18 and 34 layers deep and is wrong for the others.

    References
    ----------
    He et al., Deep residual learning for image recognition, arXiv:1512.03385; v1b's stride: Goyal
    et al., Accurate, large minibatch SGD, arXiv:1706.02677, section 5.1; v2: He et al., Identity
    mappings in deep residual networks, arXiv:1603.05027.
    """
    net, at = Builder(), places("features")
    if variant == "v2":
        net.norm(next(at), fixed=True)
    net.conv(next(at), 64, 7, 2, 3, bias=False)
    net.norm(next(at))
    net.relu(next(at))
    net.pool(next(at), "max", 3, 2, 1)
    block = _preactivated if variant == "v2" else _residual
    entered, expansion = 64, 4 if depth >= 50 else 1
    for stage, number in enumerate(RESNETS[depth]):
        place, width = next(at), 64 * 2**stage * expansion
        for index in range(number):
            stride = 2 if index == 0 and stage > 0 else 1
            block(
                net, f"{place}.{index}", width, stride,
                deep=depth >= 50, variant=variant, reshaped=entered != width,
            )  # fmt: skip
            entered = width
    if variant == "v2":
        net.norm(next(at))
        net.relu(next(at))
    net.mean(next(at))
    if variant == "v2":
        net.flatten(next(at))
    net.dense("output", classes)
    return net.network()


def _residual(
    net: Builder, place: str, width: int, stride: int, *, deep: bool, variant: str, reshaped: bool
) -> None:
    """Append a residual block: relu(body(x) + x), or + downsample(x) where the shape changes."""
    x, at = net.value, places(f"{place}.body")
    steps = [(width, 3, stride, False), (width, 3, 1, False)]  # width, kernel, stride, bias
    if deep:
        own = variant == "v1b"
        first, second = (1, stride) if own else (stride, 1)
        inner = width // 4
        steps = [(inner, 1, first, not own), (inner, 3, second, False), (width, 1, 1, not own)]
    for number, (channels, kernel, step, bias) in enumerate(steps, start=1):
        net.conv(next(at), channels, kernel, step, kernel // 2, bias=bias)
        body = net.norm(next(at))
        if number < len(steps):
            net.relu(next(at))
    shortcut = x
    if reshaped:
        net.value = x
        net.conv(f"{place}.downsample.0", width, 1, stride, bias=False)
        shortcut = net.norm(f"{place}.downsample.1")
    first_term, second_term = (body, shortcut) if deep or variant == "v1b" else (shortcut, body)
    net.relu(net.add(f"{place}.sum", first_term, second_term) + ".act")


def _preactivated(
    net: Builder, place: str, width: int, stride: int, *, deep: bool, variant: str, reshaped: bool
) -> None:  # fmt: skip
    """Append a pre-activation block: body(x) + x, norms and ReLUs before the convolutions."""
    del variant
    x = entered = body = net.value
    steps = [(width, 3, stride), (width, 3, 1)]
    if deep:
        steps = [(width // 4, 1, 1), (width // 4, 3, stride), (width, 1, 1)]
    for number, (channels, kernel, step) in enumerate(steps, start=1):
        active = net.relu(net.norm(f"{place}.bn{number}") + ".act")
        entered = active if number == 1 else entered
        body = net.conv(f"{place}.conv{number}", channels, kernel, step, kernel // 2, bias=False)
    shortcut = x
    if reshaped:
        net.value = entered
        shortcut = net.conv(f"{place}.downsample", width, 1, stride, bias=False)
    net.add(f"{place}.sum", body, shortcut)


def densenet(size: int, classes: int, *, depth: int) -> NetworkGraph:  # noqa: ARG001
    """Describe a DenseNet: Huang et al., arXiv:1608.06993, table 1."""
    width, growth, blocks = DENSENETS[depth]
    net, at = Builder(), places("features")
    net.conv(next(at), width, 7, 2, 3, bias=False)
    net.norm(next(at))
    net.relu(next(at))
    net.pool(next(at), "max", 3, 2, 1)
    for number, layers in enumerate(blocks, start=1):
        block = next(at)
        for layer in range(layers):
            place, x = f"{block}.{layer}", net.value
            inner = places(f"{place}.1")
            for channels, kernel in ((4 * growth, 1), (growth, 3)):
                net.norm(next(inner))
                net.relu(next(inner))
                new = net.conv(next(inner), channels, kernel, 1, kernel // 2, bias=False)
            net.concat(f"{place}.join", x, new)
        width += layers * growth
        if number < len(blocks):
            width //= 2
            inner = places(next(at))
            net.norm(next(inner))
            net.relu(next(inner))
            net.conv(next(inner), width, 1, bias=False)
            net.pool(next(inner), "avg", 2)
    net.norm(next(at))
    net.relu(next(at))
    net.pool(next(at), "avg", 7)
    net.flatten(next(at))
    net.dense("output", classes)
    return net.network()


def squeezenet(size: int, classes: int, *, version: str) -> NetworkGraph:  # noqa: ARG001
    """Describe SqueezeNet ``1_0`` or ``1_1``: Iandola et al., arXiv:1602.07360."""
    width, kernel, pooled = (96, 7, (3, 7)) if version == "1_0" else (64, 3, (2, 4))
    net, at = Builder(), places("features")
    net.conv(next(at), width, kernel, 2)
    net.relu(next(at))
    net.pool(next(at), "max", 3, 2, ceil=True)
    for fire, squeezed in enumerate((16, 16, 32, 32, 48, 48, 64, 64)):
        if fire in pooled:
            net.pool(next(at), "max", 3, 2, ceil=True)
        place = next(at)
        x = net.relu(net.conv(f"{place}.0.0", squeezed, 1).removesuffix(".0") + ".1")
        one = net.relu(net.conv(f"{place}.1.0.0", 4 * squeezed, 1).removesuffix(".0") + ".1")
        net.value = x
        net.conv(f"{place}.1.1.0", 4 * squeezed, 3, pad=1)
        net.concat(f"{place}.join", one, net.relu(f"{place}.1.1.1"))
    net.dropout(next(at))
    net.conv("output.0", classes, 1)
    net.relu("output.1")
    net.pool("output.2", "avg", 13)
    net.flatten("output.3")
    return net.network()


# width, kernel, stride, padding
Step = tuple[int, "int | tuple[int, int]", int, "int | tuple[int, int]"]


def inception_v3(size: int, classes: int, *, include_pad: bool) -> NetworkGraph:  # noqa: ARG001
    """Describe Inception v3: Szegedy et al., Rethinking the Inception architecture, 1512.00567.

    Keras's leaves the padding of its 3x3 average pools out of the average, as TensorFlow does. The
    difference is in the border of every map alone, no parameter tells it, and features move by
    several percent; so it is a backbone with a name of its own, which a cache key then holds.

    References
    ----------
    keras/src/applications/inception_v3.py: AveragePooling2D(padding="same").
    """
    net, at = Builder(), places("features")
    for step in ((32, 3, 2, 0), (32, 3, 1, 0), (64, 3, 1, 1)):
        _conv_norm(net, next(at), step)
    net.pool(next(at), "max", 3, 2)
    for step in ((80, 1, 1, 0), (192, 3, 1, 0)):
        _conv_norm(net, next(at), step)
    net.pool(next(at), "max", 3, 2)

    def mixed(*branches: tuple[str | None, Sequence[Step]]) -> None:
        place, x, found = next(at), net.value, []
        for number, (pooled, steps) in enumerate(branches):
            net.value = x
            found.append(_branch(net, f"{place}.{number}", pooled, steps, include_pad=include_pad))
        net.concat(f"{place}.join", *found)

    for pooled in (32, 64, 64):
        mixed(
            (None, [(64, 1, 1, 0)]),
            (None, [(48, 1, 1, 0), (64, 5, 1, 2)]),
            (None, [(64, 1, 1, 0), (96, 3, 1, 1), (96, 3, 1, 1)]),
            ("avg", [(pooled, 1, 1, 0)]),
        )
    mixed(
        (None, [(384, 3, 2, 0)]),
        (None, [(64, 1, 1, 0), (96, 3, 1, 1), (96, 3, 2, 0)]),
        ("max", []),
    )
    wide, tall = ((1, 7), 1, (0, 3)), ((7, 1), 1, (3, 0))
    for w in (128, 160, 160, 192):
        mixed(
            (None, [(192, 1, 1, 0)]),
            (None, [(w, 1, 1, 0), (w, *wide), (192, *tall)]),
            (None, [(w, 1, 1, 0), (w, *tall), (w, *wide), (w, *tall), (192, *wide)]),
            ("avg", [(192, 1, 1, 0)]),
        )
    mixed(
        (None, [(192, 1, 1, 0), (320, 3, 2, 0)]),
        (None, [(192, 1, 1, 0), (192, *wide), (192, *tall), (192, 3, 2, 0)]),
        ("max", []),
    )
    for _ in range(2):
        _split_block(net, next(at), include_pad=include_pad)
    net.pool(next(at), "avg", 8, include_pad=include_pad)
    net.dropout(next(at))
    net.dense("output", classes)
    return net.network()


def _conv_norm(net: Builder, place: str, step: Step) -> str:
    width, kernel, stride, pad = step
    net.conv(f"{place}.0", width, kernel, stride, pad, bias=False)
    net.norm(f"{place}.1", 1e-3)
    return net.relu(f"{place}.2")


def _branch(
    net: Builder, place: str, pooled: str | None, steps: Sequence[Step], *, include_pad: bool
) -> str:
    at = places(place)
    if pooled == "avg":
        net.pool(next(at), "avg", 3, 1, 1, include_pad=include_pad)
    elif pooled == "max":
        net.pool(next(at), "max", 3, 2)
    for step in steps:
        _conv_norm(net, next(at), step)
    return net.value


def _split_block(net: Builder, place: str, *, include_pad: bool) -> None:
    """Append one of the last two blocks, two of whose branches end in a 1x3 beside a 3x1."""
    x = net.value
    found = [_branch(net, f"{place}.0", None, [(320, 1, 1, 0)], include_pad=True)]
    first: list[tuple[int, list[Step]]] = [
        (1, [(384, 1, 1, 0)]), (2, [(448, 1, 1, 0), (384, 3, 1, 1)])
    ]  # fmt: skip
    for number, steps in first:
        net.value = x
        inner = _branch(net, f"{place}.{number}.0", None, steps, include_pad=True)
        halves = []
        for half, (kernel, pad) in enumerate((((1, 3), (0, 1)), ((3, 1), (1, 0)))):
            net.value = inner
            halves.append(_conv_norm(net, f"{place}.{number}.1.{half}.0", (384, kernel, 1, pad)))
        found.append(net.concat(f"{place}.{number}.1.join", *halves))
    net.value = x
    found.append(_branch(net, f"{place}.3", "avg", [(192, 1, 1, 0)], include_pad=include_pad))
    net.concat(f"{place}.join", *found)


def mobilenet_v1(size: int, classes: int) -> NetworkGraph:  # noqa: ARG001
    """Describe MobileNet: Howard et al., arXiv:1704.04861, table 1."""
    net, at = Builder(), places("features")

    def step(width: int, kernel: int, stride: int, groups: int = 1) -> None:
        net.conv(next(at), width, kernel, stride, kernel // 2, groups=groups, bias=False)
        net.norm(next(at))
        net.relu(next(at))

    step(32, 3, 2)
    entered = 32
    widths = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
    for number, width in enumerate(widths):
        step(entered, 3, 2 if number in (1, 3, 5, 11) else 1, entered)
        step(width, 1, 1)
        entered = width
    net.mean(next(at))
    net.flatten(next(at))
    net.dense("output", classes)
    return net.network()


def mobilenet_v2(size: int, classes: int) -> NetworkGraph:  # noqa: ARG001
    """Describe MobileNet v2: Sandler et al., arXiv:1801.04381, table 2.

    As in Gluon's zoo the first block expands too, by 1.
    """
    net, at = Builder(), places("features")

    def step(
        at: Iterator[str], width: int, kernel: int, stride: int, groups: int, *, relu: bool
    ) -> None:
        net.conv(next(at), width, kernel, stride, kernel // 2, groups=groups, bias=False)
        net.norm(next(at))
        if relu:
            net.relu(next(at), 6)

    step(at, 32, 3, 2, 1, relu=True)
    entered = 32
    for expansion, width, number, first_stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):  # fmt: skip
        for index in range(number):
            stride, wide = first_stride if index == 0 else 1, entered * expansion
            place, x = next(at), net.value
            inner = places(f"{place}.out")
            step(inner, wide, 1, 1, 1, relu=True)
            step(inner, wide, 3, stride, wide, relu=True)
            step(inner, width, 1, 1, 1, relu=False)
            if stride == 1 and entered == width:
                net.add(f"{place}.sum", net.value, x)
            entered = width
    step(at, 1280, 1, 1, 1, relu=True)
    net.mean(next(at))
    net.conv("output.0", classes, 1, bias=False)
    net.flatten("output.1")
    return net.network()


def efficientnet_lite0(size: int, classes: int) -> NetworkGraph:
    """Describe EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation, with ReLU6.

    Convolutions pad as TensorFlow's SAME does: at stride 2 the extra row and column of an even
    input go to the bottom and right, so the padding depends on the input size.

    References
    ----------
    Tan and Le, EfficientNet, arXiv:1905.11946, table 1. The Lite variant: the README of
    `efficientnet/lite` in TensorFlow's TPU repository (2020).
    """
    net, at = Builder(), places("features")

    def step(
        place: str, width: int, kernel: int, stride: int, side: int, *, groups: int = 1,
        relu: bool = True,
    ) -> None:  # fmt: skip
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        before, after = total // 2, total - total // 2
        if before != after:
            net.add_node("pad", f"{place}.pad", pads=(before, before, after, after))
        even = before if before == after else 0
        net.conv(f"{place}.conv", width, kernel, stride, even, groups=groups, bias=False)
        net.norm(f"{place}.bn", 1e-3)
        if relu:
            net.relu(f"{place}.act", 6)

    step(next(at), 32, 3, 2, size)
    entered, side = 32, -(-size // 2)
    for number, kernel, first_stride, expansion, width in (
        (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80),
        (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320),
    ):  # fmt: skip
        for index in range(number):
            stride, wide = first_stride if index == 0 else 1, entered * expansion
            place, x = next(at), net.value
            if expansion != 1:
                step(f"{place}.expand", wide, 1, 1, side)
            step(f"{place}.depthwise", wide, kernel, stride, side, groups=wide)
            side_after = -(-side // stride)
            step(f"{place}.project", width, 1, 1, side_after, relu=False)
            if stride == 1 and entered == width:
                net.add(f"{place}.sum", net.value, x)
            entered, side = width, side_after
    step(next(at), 1280, 1, 1, side)
    net.mean(next(at))
    net.dense("output", classes)
    return net.network()
