"""More published networks, see `published`: Keras's Inception and timm's Lite0."""

from __future__ import annotations

from tests.weights.published import (
    VGG,
    Names,
    convolution,
    joined,
    linear,
    norm,
    resnet,
    torchvision,
    vgg,
)

# (entered, out, kernel) in the order in which Keras's InceptionV3 builds its convolutions
_ROW, _COLUMN = (1, 7), (7, 1)
Unit = tuple[int, int, tuple[int, int]]


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


def keras_inception_v3(first: int = 0) -> Names:
    """Layer/role -> shape; Keras 2 counted from 1, Keras 3 counts from 0."""
    units = [
        *_square((3, 32, 3), (32, 32, 3), (32, 64, 3), (64, 80, 1), (80, 192, 3)),
        *_mixed_5(192, 32), *_mixed_5(256, 64), *_mixed_5(288, 64),
        *_square((288, 384, 3), (288, 64, 1), (64, 96, 3), (96, 96, 3)),
        *_mixed_6(128), *_mixed_6(160), *_mixed_6(160), *_mixed_6(192),
        *_square((768, 192, 1), (192, 320, 3), (768, 192, 1)),
        (192, 192, _ROW), (192, 192, _COLUMN), (192, 192, (3, 3)),
        *_mixed_7(1280), *_mixed_7(2048),
    ]  # fmt: skip
    names: Names = {}
    for number, (entered, out, kernel) in enumerate(units, start=first):
        counted = f"_{number}" if number else ""
        names[f"conv2d{counted}/kernel"] = (*kernel, entered, out)
        for role in ("beta", "moving_mean", "moving_variance"):
            names[f"batch_normalization{counted}/{role}"] = (out,)
    return names | {"predictions/kernel": (2048, 1000), "predictions/bias": (1000,)}


LITE0 = ((1, 3, 1, 16), (2, 3, 6, 24), (2, 5, 6, 40), (3, 3, 6, 80), (3, 5, 6, 112), (4, 5, 6, 192),
         (1, 3, 6, 320))  # fmt: skip
MOBILENET_V2 = ((1, 3, 1, 16), (2, 3, 6, 24), (3, 3, 6, 32), (4, 3, 6, 64), (3, 3, 6, 96),
                (3, 3, 6, 160), (1, 3, 6, 320))  # fmt: skip


def timm_lite0() -> Names:
    """State dict of timm's efficientnet_lite0, tf_ or not."""
    return _timm_inverted(LITE0)


def timm_mobilenet_v2() -> Names:
    """State dict of timm's mobilenetv2_100."""
    return _timm_inverted(MOBILENET_V2)


def _timm_inverted(groups: tuple[tuple[int, int, int, int], ...]) -> Names:
    """Inverted residuals, a group (blocks, kernel, expansion, width)."""
    parts = [convolution("conv_stem", 3, 32, 3), norm("bn1", 32)]
    entered = 32
    for stage, (count, kernel, expansion, width) in enumerate(groups):
        for block in range(count):
            at, wide = f"blocks.{stage}.{block}", entered * expansion
            names = iter(("bn1", "bn2", "bn3"))
            if expansion != 1:
                parts += [convolution(f"{at}.conv_pw", entered, wide, 1), norm(f"{at}.bn1", wide)]
                next(names)
            parts += [convolution(f"{at}.conv_dw", 1, wide, kernel)]
            parts += [norm(f"{at}.{next(names)}", wide)]
            last = "conv_pw" if expansion == 1 else "conv_pwl"
            parts += [convolution(f"{at}.{last}", wide, width, 1)]
            parts += [norm(f"{at}.{next(names)}", width)]
            entered = width
    parts += [convolution("conv_head", 320, 1280, 1), norm("bn2", 1280)]
    return joined([*parts, linear("classifier", 1280, 1000)])


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


def timm(backbone: str) -> Names:
    """State dict of the network that timm calls so, or alike."""
    if backbone.startswith("vgg"):
        return timm_vgg(backbone)
    own = {"mobilenet_v2": timm_mobilenet_v2, "efficientnet_lite0": timm_lite0}
    names = own[backbone]() if backbone in own else torchvision(backbone)
    return {one: shape for one, shape in names.items() if not one.startswith("AuxLogits")}


def caffe_vgg(backbone: str) -> Names:
    """Layer/0 is the weights, layer/1 the bias."""
    names, entered = {}, 3
    for block, (count, width) in enumerate(
        zip(VGG[int(backbone[3:])], (64, 128, 256, 512, 512), strict=True), start=1
    ):
        for conv in range(1, count + 1):
            names |= {f"conv{block}_{conv}/0": (width, entered, 3, 3)}
            names |= {f"conv{block}_{conv}/1": (width,)}
            entered = width
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
