"""Names and shapes of published networks, written down from their publishers' module definitions.

Independent of the mappings: each function lists the parameters in the order in which the modules
are defined, `convolution` and `norm` adding what torch's layers hold.
"""

from __future__ import annotations

from collections.abc import Iterable

Names = dict[str, tuple[int, ...]]


def convolution(
    name: str, entered: int, out: int, kernel: tuple[int, int] | int, bias: bool = False
) -> Names:
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    return {f"{name}.weight": (out, entered, *sides)} | ({f"{name}.bias": (out,)} if bias else {})


def linear(name: str, entered: int, out: int) -> Names:
    return {f"{name}.weight": (out, entered), f"{name}.bias": (out,)}


def norm(name: str, width: int) -> Names:
    leaves = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{leaf}": (width,) for leaf in leaves} | {f"{name}.num_batches_tracked": ()}


def joined(parts: Iterable[Names]) -> Names:
    whole: Names = {}
    for part in parts:
        assert not set(whole) & set(part)
        whole |= part
    return whole


VGG = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def vgg(backbone: str) -> Names:
    normed, index, entered, parts = backbone.endswith("_bn"), 0, 3, []
    for count, width in zip(VGG[int(backbone[3:5])], (64, 128, 256, 512, 512), strict=True):
        for _ in range(count):
            parts.append(convolution(f"features.{index}", entered, width, 3, bias=True))
            if normed:
                parts.append(norm(f"features.{index + 1}", width))
            index, entered = index + (3 if normed else 2), width
        index += 1
    tops = (("0", 25088, 4096), ("3", 4096, 4096), ("6", 4096, 1000))
    return joined([*parts, *(linear(f"classifier.{i}", a, b) for i, a, b in tops)])


RESNET = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


def resnet(depth: int) -> Names:
    parts = [convolution("conv1", 3, 64, 7), norm("bn1", 64)]
    entered = 64
    for stage, count in enumerate(RESNET[depth], start=1):
        width = 32 * 2**stage
        for block in range(count):
            at = f"layer{stage}.{block}"
            steps = (
                [(width, 3), (width, 3)] if depth < 50 else [(width, 1), (width, 3), (4 * width, 1)]
            )
            inner = entered
            for i, (out, kernel) in enumerate(steps, start=1):
                parts += [
                    convolution(f"{at}.conv{i}", inner, out, kernel),
                    norm(f"{at}.bn{i}", out),
                ]
                inner = out
            if block == 0 and (stage > 1 or depth >= 50):
                parts += [convolution(f"{at}.downsample.0", entered, inner, 1)]
                parts += [norm(f"{at}.downsample.1", inner)]
            entered = inner
    return joined([*parts, linear("fc", entered, 1000)])


def alexnet() -> Names:
    convs = ((0, 3, 64, 11), (3, 64, 192, 5), (6, 192, 384, 3), (8, 384, 256, 3), (10, 256, 256, 3))
    tops = ((1, 9216, 4096), (4, 4096, 4096), (6, 4096, 1000))
    return joined(
        [convolution(f"features.{i}", a, b, k, bias=True) for i, a, b, k in convs]
        + [linear(f"classifier.{i}", a, b) for i, a, b in tops]
    )


def squeezenet(backbone: str) -> Names:
    first, kernel, places = {
        "squeezenet1_0": (96, 7, (3, 4, 5, 7, 8, 9, 10, 12)),
        "squeezenet1_1": (64, 3, (3, 4, 6, 7, 9, 10, 11, 12)),
    }[backbone]
    parts, entered = [convolution("features.0", 3, first, kernel, bias=True)], first
    for i, place in enumerate(places):
        squeeze = 16 * (1 + i // 2)
        at = f"features.{place}"
        parts.append(convolution(f"{at}.squeeze", entered, squeeze, 1, bias=True))
        parts.append(convolution(f"{at}.expand1x1", squeeze, 4 * squeeze, 1, bias=True))
        parts.append(convolution(f"{at}.expand3x3", squeeze, 4 * squeeze, 3, bias=True))
        entered = 8 * squeeze
    return joined([*parts, convolution("classifier.1", 512, 1000, 1, bias=True)])


DENSENET = {
    "densenet121": ((6, 12, 24, 16), 64, 32),
    "densenet161": ((6, 12, 36, 24), 96, 48),
    "densenet169": ((6, 12, 32, 32), 64, 32),
    "densenet201": ((6, 12, 48, 32), 64, 32),
}


def densenet(backbone: str, *, old: bool = False) -> Names:
    blocks, width, growth = DENSENET[backbone]
    dot = "." if old else ""
    parts = [convolution("features.conv0", 3, width, 7), norm("features.norm0", width)]
    for b, count in enumerate(blocks, start=1):
        for i in range(1, count + 1):
            at = f"features.denseblock{b}.denselayer{i}"
            parts += [norm(f"{at}.norm{dot}1", width)]
            parts += [convolution(f"{at}.conv{dot}1", width, 4 * growth, 1)]
            parts += [norm(f"{at}.norm{dot}2", 4 * growth)]
            parts += [convolution(f"{at}.conv{dot}2", 4 * growth, growth, 3)]
            width += growth
        if b < 4:
            parts += [norm(f"features.transition{b}.norm", width)]
            parts += [convolution(f"features.transition{b}.conv", width, width // 2, 1)]
            width //= 2
    return joined([*parts, norm("features.norm5", width), linear("classifier", width, 1000)])


def mobilenet_v2() -> Names:
    groups = ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1))
    parts = [convolution("features.0.0", 3, 32, 3), norm("features.0.1", 32)]
    entered, index = 32, 1
    for expansion, width, count in groups:
        for _ in range(count):
            at, wide, step = f"features.{index}.conv", entered * expansion, 0
            if expansion != 1:
                parts += [convolution(f"{at}.0.0", entered, wide, 1), norm(f"{at}.0.1", wide)]
                step = 1
            parts += [convolution(f"{at}.{step}.0", 1, wide, 3), norm(f"{at}.{step}.1", wide)]
            parts += [
                convolution(f"{at}.{step + 1}", wide, width, 1),
                norm(f"{at}.{step + 2}", width),
            ]
            entered, index = width, index + 1
    parts += [convolution("features.18.0", 320, 1280, 1), norm("features.18.1", 1280)]
    return joined([*parts, linear("classifier.1", 1280, 1000)])


def efficientnet_lite0() -> Names:
    groups = (
        (1, 3, 1, 16),
        (2, 3, 6, 24),
        (2, 5, 6, 40),
        (3, 3, 6, 80),
        (3, 5, 6, 112),
        (4, 5, 6, 192),
        (1, 3, 6, 320),
    )
    parts = [convolution("_conv_stem", 3, 32, 3), norm("_bn0", 32)]
    entered, index = 32, 0
    for count, kernel, expansion, width in groups:
        for _ in range(count):
            at, wide = f"_blocks.{index}", entered * expansion
            if expansion != 1:
                parts += [
                    convolution(f"{at}._expand_conv", entered, wide, 1),
                    norm(f"{at}._bn0", wide),
                ]
            parts += [
                convolution(f"{at}._depthwise_conv", 1, wide, kernel),
                norm(f"{at}._bn1", wide),
            ]
            parts += [convolution(f"{at}._project_conv", wide, width, 1), norm(f"{at}._bn2", width)]
            entered, index = width, index + 1
    return joined(
        [
            *parts,
            convolution("_conv_head", 320, 1280, 1),
            norm("_bn1", 1280),
            linear("_fc", 1280, 1000),
        ]
    )


def inception_v3() -> Names:
    def unit(name: str, entered: int, out: int, kernel: tuple[int, int] | int) -> Names:
        return convolution(f"{name}.conv", entered, out, kernel) | norm(f"{name}.bn", out)

    def mixed_a(at: str, c: int, pool: int) -> list[Names]:
        rows = (
            ("branch1x1", c, 64, 1),
            ("branch5x5_1", c, 48, 1),
            ("branch5x5_2", 48, 64, 5),
            ("branch3x3dbl_1", c, 64, 1),
            ("branch3x3dbl_2", 64, 96, 3),
            ("branch3x3dbl_3", 96, 96, 3),
            ("branch_pool", c, pool, 1),
        )
        return [unit(f"{at}.{n}", a, b, k) for n, a, b, k in rows]

    def mixed_c(at: str, w: int) -> list[Names]:
        row, column = (1, 7), (7, 1)
        rows = (
            ("branch1x1", 768, 192, 1),
            ("branch7x7_1", 768, w, 1),
            ("branch7x7_2", w, w, row),
            ("branch7x7_3", w, 192, column),
            ("branch7x7dbl_1", 768, w, 1),
            ("branch7x7dbl_2", w, w, column),
            ("branch7x7dbl_3", w, w, row),
            ("branch7x7dbl_4", w, w, column),
            ("branch7x7dbl_5", w, 192, row),
            ("branch_pool", 768, 192, 1),
        )
        return [unit(f"{at}.{n}", a, b, k) for n, a, b, k in rows]  # type: ignore[arg-type]

    def mixed_e(at: str, c: int) -> list[Names]:
        row, column = (1, 3), (3, 1)
        rows = (
            ("branch1x1", c, 320, 1),
            ("branch3x3_1", c, 384, 1),
            ("branch3x3_2a", 384, 384, row),
            ("branch3x3_2b", 384, 384, column),
            ("branch3x3dbl_1", c, 448, 1),
            ("branch3x3dbl_2", 448, 384, 3),
            ("branch3x3dbl_3a", 384, 384, row),
            ("branch3x3dbl_3b", 384, 384, column),
            ("branch_pool", c, 192, 1),
        )
        return [unit(f"{at}.{n}", a, b, k) for n, a, b, k in rows]  # type: ignore[arg-type]

    stem = (
        ("Conv2d_1a_3x3", 3, 32, 3),
        ("Conv2d_2a_3x3", 32, 32, 3),
        ("Conv2d_2b_3x3", 32, 64, 3),
        ("Conv2d_3b_1x1", 64, 80, 1),
        ("Conv2d_4a_3x3", 80, 192, 3),
    )
    six_a = (
        ("branch3x3", 288, 384, 3),
        ("branch3x3dbl_1", 288, 64, 1),
        ("branch3x3dbl_2", 64, 96, 3),
        ("branch3x3dbl_3", 96, 96, 3),
    )
    seven_a = (
        ("branch3x3_1", 768, 192, 1),
        ("branch3x3_2", 192, 320, 3),
        ("branch7x7x3_1", 768, 192, 1),
        ("branch7x7x3_2", 192, 192, (1, 7)),
        ("branch7x7x3_3", 192, 192, (7, 1)),
        ("branch7x7x3_4", 192, 192, 3),
    )
    return joined(
        [unit(*row) for row in stem]
        + mixed_a("Mixed_5b", 192, 32)
        + mixed_a("Mixed_5c", 256, 64)
        + mixed_a("Mixed_5d", 288, 64)
        + [unit(f"Mixed_6a.{n}", a, b, k) for n, a, b, k in six_a]
        + mixed_c("Mixed_6b", 128)
        + mixed_c("Mixed_6c", 160)
        + mixed_c("Mixed_6d", 160)
        + mixed_c("Mixed_6e", 192)
        + [unit("AuxLogits.conv0", 768, 128, 1), unit("AuxLogits.conv1", 128, 768, 5)]
        + [linear("AuxLogits.fc", 768, 1000)]
        + [unit(f"Mixed_7a.{n}", a, b, k) for n, a, b, k in seven_a]  # type: ignore[arg-type]
        + mixed_e("Mixed_7b", 1280)
        + mixed_e("Mixed_7c", 2048)
        + [linear("fc", 2048, 1000)]
    )


def torchvision(backbone: str) -> Names:
    """State dict of the network that torchvision (for Lite0: lukemelas) calls so."""
    if backbone.startswith("vgg"):
        return vgg(backbone)
    if backbone.startswith("resnet"):
        return resnet(int(backbone.removeprefix("resnet")))
    if backbone.startswith("squeezenet"):
        return squeezenet(backbone)
    if backbone.startswith("densenet"):
        return densenet(backbone)
    return {
        "alexnet": alexnet,
        "mobilenet_v2": mobilenet_v2,
        "inception_v3": inception_v3,
        "efficientnet_lite0": efficientnet_lite0,
    }[backbone]()


def keras_vgg(backbone: str) -> Names:
    entered, names = 3, {}
    for block, (count, width) in enumerate(
        zip(VGG[int(backbone[3:])], (64, 128, 256, 512, 512), strict=True), start=1
    ):
        for conv in range(1, count + 1):
            at = f"block{block}_conv{conv}"
            names |= {f"{at}/kernel": (3, 3, entered, width), f"{at}/bias": (width,)}
            entered = width
    for at, a, b in (("fc1", 25088, 4096), ("fc2", 4096, 4096), ("predictions", 4096, 1000)):
        names |= {f"{at}/kernel": (a, b), f"{at}/bias": (b,)}
    return names


def keras_resnet(depth: int) -> Names:
    def unit(name: str, entered: int, out: int, kernel: int) -> Names:
        norms = {
            f"{name}_bn/{r}": (out,) for r in ("gamma", "beta", "moving_mean", "moving_variance")
        }
        return {
            f"{name}_conv/kernel": (kernel, kernel, entered, out),
            f"{name}_conv/bias": (out,),
        } | norms

    names, entered = unit("conv1", 3, 64, 7), 64
    for stage, count in enumerate(RESNET[depth], start=2):
        width = 16 * 2**stage
        for block in range(1, count + 1):
            at = f"conv{stage}_block{block}_"
            if block == 1:
                names |= unit(f"{at}0", entered, 4 * width, 1)
            names |= unit(f"{at}1", entered, width, 1) | unit(f"{at}2", width, width, 3)
            names |= unit(f"{at}3", width, 4 * width, 1)
            entered = 4 * width
    return names | {"predictions/kernel": (entered, 1000), "predictions/bias": (1000,)}
