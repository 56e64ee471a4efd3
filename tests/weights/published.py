"""Names and shapes of published networks, written from their publishers' module definitions.

They are independent of the product's namings: each function lists the parameters in the order in
which the modules are defined; `convolution` and `norm` add the parameters of torch's layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

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
VGG_TOPS = ((25088, 4096), (4096, 4096), (4096, 1000))


def vgg_convolutions(backbone: str) -> Iterator[tuple[int, int, int, int]]:
    """Yield (block, number, input channels, output channels) of each convolution, from 1."""
    entered = 3
    for block, count in enumerate(VGG[int(backbone[3:5])], start=1):
        width = min(32 * 2**block, 512)
        for number in range(1, count + 1):
            yield block, number, entered, width
            entered = width


def vgg(backbone: str) -> Names:
    step, index, before, parts = (3 if backbone.endswith("_bn") else 2), 0, 1, []
    for block, _, entered, width in vgg_convolutions(backbone):
        index += block - before  # a pool between two blocks
        before = block
        parts.append(convolution(f"features.{index}", entered, width, 3, bias=True))
        if step == 3:
            parts.append(norm(f"features.{index + 1}", width))
        index += step
    tops = zip((0, 3, 6), VGG_TOPS, strict=True)
    return joined([*parts, *(linear(f"classifier.{i}", *sides) for i, sides in tops)])


def keras_vgg(backbone: str) -> Names:
    names = {}
    for block, number, entered, width in vgg_convolutions(backbone):
        at = f"block{block}_conv{number}"
        names |= {f"{at}/kernel": (3, 3, entered, width), f"{at}/bias": (width,)}
    for at, (a, b) in zip(("fc1", "fc2", "predictions"), VGG_TOPS, strict=True):
        names |= {f"{at}/kernel": (a, b), f"{at}/bias": (b,)}
    return names


def caffe_vgg(backbone: str) -> Names:
    """Layer/0 is the weights, layer/1 the bias."""
    names = {}
    for block, number, entered, width in vgg_convolutions(backbone):
        at = f"conv{block}_{number}"
        names |= {f"{at}/0": (width, entered, 3, 3), f"{at}/1": (width,)}
    return names | _caffe_tops(25088)


def caffenet() -> Names:
    convs = ((96, 3, 11), (256, 48, 5), (384, 256, 3), (384, 192, 3), (256, 192, 3))
    names = {}
    for number, (out, entered, kernel) in enumerate(convs, start=1):
        names |= {f"conv{number}/0": (out, entered, kernel, kernel), f"conv{number}/1": (out,)}
    return names | _caffe_tops(9216)


def _caffe_tops(entered: int) -> Names:
    rows = (("fc6", entered, 4096), ("fc7", 4096, 4096), ("fc8", 4096, 1000))
    return {
        f"{at}/{blob}": shape
        for at, a, b in rows
        for blob, shape in (("0", (b, a)), ("1", (b,)))
    }  # fmt: skip


CAFFENET_ORDER = [
    "conv1", "relu1", "pool1", "norm1", "conv2", "relu2", "pool2", "norm2", "conv3", "relu3",
    "conv4", "relu4", "conv5", "relu5", "pool5", "fc6", "relu6", "drop6", "fc7", "relu7", "drop7",
    "fc8",
]  # fmt: skip


TIMM_TOPS = {
    "classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2", "classifier.6": "head.fc",
}  # fmt: skip


def timm_vgg(backbone: str) -> Names:
    """As torchvision's, but the first two dense layers are convolutions."""
    names = {}
    for one, shape in vgg(backbone).items():
        module, _, leaf = one.rpartition(".")
        if leaf == "weight" and module in ("classifier.0", "classifier.3"):
            side = 7 if module == "classifier.0" else 1
            shape = (4096, shape[1] // side**2, side, side)  # noqa: PLW2901
        names[f"{TIMM_TOPS.get(module, module)}.{leaf}"] = shape
    return names


RESNET = {
    18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3),
}  # fmt: skip


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


def transformers_resnet(depth: int) -> Names:
    """State dict of ResNetForImageClassification."""

    def rename(one: str) -> str:
        module, _, leaf = one.rpartition(".")
        if module in ("conv1", "bn1"):
            kind = {"conv1": "convolution", "bn1": "normalization"}[module]
            return f"resnet.embedder.embedder.{kind}.{leaf}"
        if module == "fc":
            return f"classifier.1.{leaf}"
        stage, block, *inner = module.split(".")
        at = f"resnet.encoder.stages.{int(stage[-1]) - 1}.layers.{block}"
        if inner[0] == "downsample":
            return f"{at}.shortcut.{('convolution', 'normalization')[int(inner[1])]}.{leaf}"
        kind = "convolution" if inner[0].startswith("conv") else "normalization"
        return f"{at}.layer.{int(inner[0][-1]) - 1}.{kind}.{leaf}"

    return {rename(one): shape for one, shape in resnet(depth).items()}


def gluoncv_resnet(depth: int) -> Names:
    """Structural names of GluonCV's resnetDEPTH_v1b: torchvision's, with Gluon's leaves."""
    names = {}
    for one, shape in resnet(depth).items():
        module, _, leaf = one.rpartition(".")
        if leaf != "num_batches_tracked":
            normed = len(shape) == 1 and module != "fc"
            leaves = {"weight": "gamma", "bias": "beta"} if normed else {}
            names[f"{module}.{leaves.get(leaf, leaf)}"] = shape
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


DENSENET = {  # layers of each block, width of the stem, growth
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


# groups of blocks, each (blocks, kernel, expansion, width)
LITE0 = ((1, 3, 1, 16), (2, 3, 6, 24), (2, 5, 6, 40), (3, 3, 6, 80), (3, 5, 6, 112), (4, 5, 6, 192),
         (1, 3, 6, 320))  # fmt: skip
MOBILENET_V2 = ((1, 3, 1, 16), (2, 3, 6, 24), (3, 3, 6, 32), (4, 3, 6, 64), (3, 3, 6, 96),
                (3, 3, 6, 160), (1, 3, 6, 320))  # fmt: skip


def _inverted(
    groups: tuple[tuple[int, int, int, int], ...],
    outer: tuple[str, str, str, str, str],
    inner: Callable[[int, int, int], tuple[str, ...]],
) -> Names:
    """Inverted residuals.

    Parameters
    ----------
    outer : tuple of str
        Names of the stem's convolution and norm, the head's, and the classifier.
    inner : callable
        (number of the block, of its group, in its group) -> names of its convolutions and norms in
        turn; the first block has no expansion, and so four of them instead of six.
    """
    parts, entered, index = [convolution(outer[0], 3, 32, 3), norm(outer[1], 32)], 32, 0
    for group, (count, kernel, expansion, width) in enumerate(groups):
        for block in range(count):
            names, wide = iter(inner(index, group, block)), entered * expansion
            steps = [(entered, wide, 1)] * (expansion != 1) + [(1, wide, kernel), (wide, width, 1)]
            for taken, out, side in steps:
                parts += [convolution(next(names), taken, out, side), norm(next(names), out)]
            entered, index = width, index + 1
    parts += [convolution(outer[2], 320, 1280, 1), norm(outer[3], 1280)]
    return joined([*parts, linear(outer[4], 1280, 1000)])


def mobilenet_v2() -> Names:
    outer = ("features.0.0", "features.0.1", "features.18.0", "features.18.1", "classifier.1")
    first, others = ("0.0", "0.1", "1", "2"), ("0.0", "0.1", "1.0", "1.1", "2", "3")
    return _inverted(
        MOBILENET_V2, outer,
        lambda index, *_: tuple(
            f"features.{index + 1}.conv.{one}" for one in (others if index else first)
        ),
    )  # fmt: skip


def efficientnet_lite0() -> Names:
    steps = ("expand_conv", "bn0", "depthwise_conv", "bn1", "project_conv", "bn2")
    return _inverted(
        LITE0, ("_conv_stem", "_bn0", "_conv_head", "_bn1", "_fc"),
        lambda index, *_: tuple(f"_blocks.{index}._{one}" for one in steps[0 if index else 2 :]),
    )  # fmt: skip


def _timm_inverted(groups: tuple[tuple[int, int, int, int], ...]) -> Names:
    first = ("conv_dw", "bn1", "conv_pw", "bn2")
    others = ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")
    return _inverted(
        groups, ("conv_stem", "bn1", "conv_head", "bn2", "classifier"),
        lambda index, group, block: tuple(
            f"blocks.{group}.{block}.{one}" for one in (others if index else first)
        ),
    )  # fmt: skip


def timm_lite0() -> Names:
    """State dict of timm's efficientnet_lite0, tf_ or not."""
    return _timm_inverted(LITE0)


# Inception v3: (input channels, output channels, kernel) in the order of both publishers, and
# torchvision's names of the branches
Unit = tuple[int, int, tuple[int, int]]
_ROW, _COLUMN = (1, 7), (7, 1)
_A = "1x1 5x5_1 5x5_2 3x3dbl_1 3x3dbl_2 3x3dbl_3 _pool"
_B = "3x3 3x3dbl_1 3x3dbl_2 3x3dbl_3"
_C = "1x1 7x7_1 7x7_2 7x7_3 7x7dbl_1 7x7dbl_2 7x7dbl_3 7x7dbl_4 7x7dbl_5 _pool"
_D = "3x3_1 3x3_2 7x7x3_1 7x7x3_2 7x7x3_3 7x7x3_4"
_E = "1x1 3x3_1 3x3_2a 3x3_2b 3x3dbl_1 3x3dbl_2 3x3dbl_3a 3x3dbl_3b _pool"


def _square(*rows: tuple[int, int, int]) -> list[Unit]:
    return [(a, b, (k, k)) for a, b, k in rows]


def _mixed_5(c: int, pool: int) -> list[Unit]:
    return _square(
        (c, 64, 1), (c, 48, 1), (48, 64, 5), (c, 64, 1), (64, 96, 3), (96, 96, 3), (c, pool, 1)
    )


def _mixed_6(w: int) -> list[Unit]:
    return [
        (768, 192, (1, 1)),
        (768, w, (1, 1)), (w, w, _ROW), (w, 192, _COLUMN),
        (768, w, (1, 1)), (w, w, _COLUMN), (w, w, _ROW), (w, w, _COLUMN), (w, 192, _ROW),
        (768, 192, (1, 1)),
    ]  # fmt: skip


def _mixed_7(c: int) -> list[Unit]:
    return [
        (c, 320, (1, 1)),
        (c, 384, (1, 1)), (384, 384, (1, 3)), (384, 384, (3, 1)),
        (c, 448, (1, 1)), (448, 384, (3, 3)), (384, 384, (1, 3)), (384, 384, (3, 1)),
        (c, 192, (1, 1)),
    ]  # fmt: skip


def _inception_units() -> list[tuple[str, Unit]]:
    stem = [f"Conv2d_{one}" for one in ("1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3")]
    stem_units = _square((3, 32, 3), (32, 32, 3), (32, 64, 3), (64, 80, 1), (80, 192, 3))
    six_a = _square((288, 384, 3), (288, 64, 1), (64, 96, 3), (96, 96, 3))
    seven_a = [
        *_square((768, 192, 1), (192, 320, 3), (768, 192, 1)),
        (192, 192, _ROW), (192, 192, _COLUMN), (192, 192, (3, 3)),
    ]  # fmt: skip
    found = list(zip(stem, stem_units, strict=True))
    for block, branches, units in (
        ("5b", _A, _mixed_5(192, 32)), ("5c", _A, _mixed_5(256, 64)), ("5d", _A, _mixed_5(288, 64)),
        ("6a", _B, six_a), ("6b", _C, _mixed_6(128)), ("6c", _C, _mixed_6(160)),
        ("6d", _C, _mixed_6(160)), ("6e", _C, _mixed_6(192)),
        ("7a", _D, seven_a), ("7b", _E, _mixed_7(1280)), ("7c", _E, _mixed_7(2048)),
    ):  # fmt: skip
        names = (f"Mixed_{block}.branch{one}" for one in branches.split())
        found += zip(names, units, strict=True)
    return found


def inception_v3() -> Names:
    units = _inception_units()
    last_6 = next(i for i, (name, _) in enumerate(units) if name.startswith("Mixed_7"))
    auxiliary = _square((768, 128, 1), (128, 768, 5))
    units[last_6:last_6] = zip(("AuxLogits.conv0", "AuxLogits.conv1"), auxiliary, strict=True)
    parts = []
    for name, (entered, out, kernel) in units:
        parts += [convolution(f"{name}.conv", entered, out, kernel), norm(f"{name}.bn", out)]
        if name == "AuxLogits.conv1":
            parts.append(linear("AuxLogits.fc", 768, 1000))
    return joined([*parts, linear("fc", 2048, 1000)])


def keras_inception_v3(first: int = 0) -> Names:
    """Layer/role -> shape; Keras 2 numbered layers from 1, Keras 3 does so from 0."""
    names: Names = {}
    for number, (_, (entered, out, kernel)) in enumerate(_inception_units(), start=first):
        counted = f"_{number}" if number else ""
        names[f"conv2d{counted}/kernel"] = (*kernel, entered, out)
        for role in ("beta", "moving_mean", "moving_variance"):
            names[f"batch_normalization{counted}/{role}"] = (out,)
    return names | {"predictions/kernel": (2048, 1000), "predictions/bias": (1000,)}


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


def timm(backbone: str) -> Names:
    """State dict of the network that timm calls so, or alike."""
    if backbone.startswith("vgg"):
        return timm_vgg(backbone)
    own = {"mobilenet_v2": MOBILENET_V2, "efficientnet_lite0": LITE0}
    names = _timm_inverted(own[backbone]) if backbone in own else torchvision(backbone)
    return {one: shape for one, shape in names.items() if not one.startswith("AuxLogits")}
