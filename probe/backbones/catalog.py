"""The catalog of backbones. A new one is an entry here and a function in `architectures`.

Widths and positions follow from each family's published table; parameter counts and input sizes
stand beside the name. Tests build every network and compare it with Gluon's model zoo; one that the
zoo lacks gets a digest in `tests/backbones/test_architectures.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from probe.backbones import architectures
from probe.backbones.network import NetworkGraph
from probe.backbones.spec import BackboneSpec, Layer
from probe.core.registry import Registry


def _vgg(name: str, convs: tuple[int, ...], parameters: int) -> BackboneSpec:
    per_conv = 3 if name.endswith("_bn") else 2  # conv, (norm,) ReLU
    layers, after = [], 0
    for block, (count, width) in enumerate(
        zip(convs, (64, 128, 256, 512, 512), strict=True), start=1
    ):
        for conv in range(1, count + 1):
            after += per_conv
            layers.append(
                Layer(
                    name=f"conv{block}_{conv}",
                    width=width,
                    after=after,
                    kind="map",
                    min_size=2 ** (block - 1),
                )
            )
        after += 1
        layers.append(
            Layer(name=f"pool{block}", width=width, after=after, kind="map", min_size=2**block)
        )
    for fc in ("fc6", "fc7"):  # dense with its ReLU, then dropout; the 7x7 map pins the size
        layers.append(
            Layer(name=fc, width=4096, after=after + 1, kind="vector", min_size=224, max_size=255)
        )
        after += 2
    return BackboneSpec(
        name=name, family="vgg", parameters=parameters, input_size=224, layers=tuple(layers),
        describe=partial(
            architectures.vgg, convs=convs, norm=name.endswith("_bn")
        ),
        paper="arXiv:1409.1556",
    )  # fmt: skip


def _resnet(name: str, parameters: int) -> BackboneSpec:
    depth = int(name.removeprefix("resnet").split("_")[0])
    variant = name.partition("_")[2] or "v1b"
    widths = (64, 128, 256, 512) if depth < 50 else (256, 512, 1024, 2048)
    first = 6 if variant == "v2" else 5  # v2 opens with a norm of its own
    after = [first, first + 1, first + 2, first + 3]
    if variant == "v2":
        after[3] += 2  # stage 4 ends with the network's last norm and ReLU
    layers = [
        Layer(name=f"stage{i}", width=w, after=a, kind="map")
        for i, (w, a) in enumerate(zip(widths, after, strict=True), start=1)
    ]
    layers.append(Layer(name="gap", width=widths[-1], after=after[3], kind="gap"))
    return BackboneSpec(
        name=name, family=f"resnet_{variant}",
        describe=partial(architectures.resnet, depth=depth, variant=variant),
        parameters=parameters, input_size=224, layers=tuple(layers),
        paper="arXiv:1603.05027" if variant == "v2" else "arXiv:1512.03385",
    )  # fmt: skip


def _squeezenet(
    name: str, pools_before: tuple[int, ...], min_sizes: tuple[int, ...], parameters: int
) -> BackboneSpec:
    widths = (128, 128, 256, 256, 384, 384, 512, 512)
    layers = []
    for i, width in enumerate(widths):
        after = 4 + i + sum(fire <= i for fire in pools_before)
        layers.append(
            Layer(name=f"fire{i + 2}", width=width, after=after, kind="map", min_size=min_sizes[i])
        )
    layers.append(
        Layer(name="gap", width=512, after=layers[-1].after, kind="gap", min_size=min_sizes[-1])
    )
    return BackboneSpec(
        name=name, family="squeezenet",
        describe=partial(architectures.squeezenet, version=name.removeprefix("squeezenet")),
        parameters=parameters, input_size=224, layers=tuple(layers), paper="arXiv:1602.07360",
    )  # fmt: skip


def _densenet(name: str, parameters: int) -> BackboneSpec:
    depth = int(name.removeprefix("densenet"))
    width, growth, blocks = architectures.DENSENETS[depth]
    layers = []
    for i, count in enumerate(blocks, start=1):
        width += count * growth
        after = 3 + 2 * i if i < 4 else 13  # block 4 ends with the network's last norm and ReLU
        layers.append(
            Layer(
                name=f"block{i}",
                width=width,
                after=after,
                kind="map",
                min_size=(1, 5, 13, 29)[i - 1],
            )
        )
        width //= 1 if i == 4 else 2
    layers.append(
        Layer(name="gap", width=width, after=13, kind="gap", min_size=layers[-1].min_size)
    )
    return BackboneSpec(
        name=name, family="densenet", describe=partial(architectures.densenet, depth=depth),
        parameters=parameters, input_size=224, layers=tuple(layers), paper="arXiv:1608.06993",
    )  # fmt: skip


def _inception_v3(name: str, *, include_pad: bool) -> BackboneSpec:
    widths = {
        "5b": 256, "5c": 288, "5d": 288, "6a": 768, "6b": 768, "6c": 768, "6d": 768, "6e": 768,
        "7a": 1280, "7b": 2048, "7c": 2048,
    }  # fmt: skip
    smallest = {"5": 27, "6": 43, "7": 75}
    layers = [
        Layer(
            name=f"mixed_{block}", width=width, after=8 + i, kind="map", min_size=smallest[block[0]]
        )
        for i, (block, width) in enumerate(widths.items())
    ]
    layers.append(Layer(name="gap", width=2048, after=18, kind="gap", min_size=75))
    return BackboneSpec(
        name=name, family=name,
        describe=partial(architectures.inception_v3, include_pad=include_pad),
        parameters=23834568, input_size=299, layers=tuple(layers), paper="arXiv:1512.00567",
    )  # fmt: skip


def _alexnet() -> BackboneSpec:
    maps = (  # name, width, after, smallest input
        ("conv1", 64, 1, 7), ("pool1", 64, 2, 15), ("conv2", 192, 3, 15), ("pool2", 192, 4, 31),
        ("conv3", 384, 5, 31), ("conv4", 256, 6, 31), ("conv5", 256, 7, 31), ("pool5", 256, 8, 63),
    )  # fmt: skip
    layers = [Layer(name=n, width=w, after=a, kind="map", min_size=s) for n, w, a, s in maps]
    for fc, after in (("fc6", 10), ("fc7", 12)):
        layers.append(
            Layer(name=fc, width=4096, after=after, kind="vector", min_size=223, max_size=254)
        )
    return BackboneSpec(
        name="alexnet", family="alexnet", describe=architectures.alexnet, parameters=61100840,
        input_size=224, layers=tuple(layers), paper="arXiv:1404.5997",
    )  # fmt: skip


def _caffenet() -> BackboneSpec:
    maps = (  # name, width, after, smallest input
        ("conv1", 96, 1, 11), ("pool1", 96, 2, 19), ("norm1", 96, 3, 19), ("conv2", 256, 4, 19),
        ("pool2", 256, 5, 31), ("norm2", 256, 6, 31), ("conv3", 384, 7, 31),
        ("conv4", 384, 8, 31), ("conv5", 256, 9, 31), ("pool5", 256, 10, 55),
    )  # fmt: skip
    layers = [Layer(name=n, width=w, after=a, kind="map", min_size=s) for n, w, a, s in maps]
    for fc, after in (("fc6", 11), ("fc7", 13)):
        layers.append(
            Layer(name=fc, width=4096, after=after, kind="vector", min_size=199, max_size=230)
        )
    return BackboneSpec(
        name="caffenet", family="caffenet", describe=architectures.caffenet,
        parameters=60965224, input_size=227, layers=tuple(layers), paper="Caffe, arXiv:1408.5093",
    )  # fmt: skip


def _mobilenet_v1() -> BackboneSpec:
    widths = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
    layers = [
        Layer(name=f"block{i}", width=w, after=3 + 6 * i, kind="map")
        for i, w in enumerate(widths, start=1)
    ]
    layers.append(Layer(name="gap", width=1024, after=81, kind="gap"))
    return BackboneSpec(
        name="mobilenet_v1", family="mobilenet_v1", describe=architectures.mobilenet_v1,
        parameters=4231976, input_size=224, layers=tuple(layers), paper="arXiv:1704.04861",
    )  # fmt: skip


def _inverted_residuals(
    name: str,
    describe: Callable[[int, int], NetworkGraph],
    parameters: int,
    *,
    groups: tuple[tuple[int, int], ...],
    first: int,
    head: int,
    paper: str,
) -> BackboneSpec:
    """Return MobileNet v2 or the like: `groups` is (blocks, width), `first` the first's index."""
    widths = [width for count, width in groups for _ in range(count)]
    layers = [
        Layer(name=f"block{i}", width=w, after=first + i, kind="map")
        for i, w in enumerate(widths, start=1)
    ]
    layers.append(Layer(name="head", width=1280, after=head, kind="map"))
    layers.append(Layer(name="gap", width=1280, after=head, kind="gap"))
    return BackboneSpec(
        name=name, family=name, describe=describe, parameters=parameters, input_size=224,
        layers=tuple(layers), paper=paper,
    )  # fmt: skip


BACKBONES = Registry(
    "backbone",
    [
        _vgg("vgg11", (1, 1, 2, 2, 2), 132863336),
        _vgg("vgg11_bn", (1, 1, 2, 2, 2), 132868840),
        _vgg("vgg13", (2, 2, 2, 2, 2), 133047848),
        _vgg("vgg13_bn", (2, 2, 2, 2, 2), 133053736),
        _vgg("vgg16", (2, 2, 3, 3, 3), 138357544),
        _vgg("vgg16_bn", (2, 2, 3, 3, 3), 138365992),
        _vgg("vgg19", (2, 2, 4, 4, 4), 143667240),
        _vgg("vgg19_bn", (2, 2, 4, 4, 4), 143678248),
        _resnet("resnet18", 11689512),
        _resnet("resnet34", 21797672),
        _resnet("resnet50", 25557032),
        _resnet("resnet101", 44549160),
        _resnet("resnet152", 60192808),
        _resnet("resnet18_v1", 11689512),
        _resnet("resnet34_v1", 21797672),
        _resnet("resnet50_v1", 25575912),
        _resnet("resnet101_v1", 44589800),
        _resnet("resnet152_v1", 60252648),
        _resnet("resnet18_v2", 11687854),
        _resnet("resnet34_v2", 21796014),
        _resnet("resnet50_v2", 25549486),
        _resnet("resnet101_v2", 44541614),
        _resnet("resnet152_v2", 60185262),
        _inception_v3("inception_v3", include_pad=True),
        _inception_v3("inception_v3_keras", include_pad=False),
        _alexnet(),
        _caffenet(),
        _squeezenet("squeezenet1_0", (3, 7), (11, 11, 11, 17, 17, 17, 17, 29), 1248424),
        _squeezenet("squeezenet1_1", (2, 4), (7, 7, 13, 13, 25, 25, 25, 25), 1235496),
        _densenet("densenet121", 7978856),
        _densenet("densenet161", 28681000),
        _densenet("densenet169", 14149480),
        _densenet("densenet201", 20013928),
        _mobilenet_v1(),
        _inverted_residuals(
            "mobilenet_v2", architectures.mobilenet_v2, 3504960,
            groups=((1, 16), (2, 24), (3, 32), (4, 64), (3, 96), (3, 160), (1, 320)),
            first=3, head=23, paper="arXiv:1801.04381",
        ),
        _inverted_residuals(
            "efficientnet_lite0", architectures.efficientnet_lite0, 4652008,
            groups=((1, 16), (2, 24), (2, 40), (3, 80), (3, 112), (4, 192), (1, 320)),
            first=1, head=18, paper="arXiv:1905.11946",
        ),
    ],
    listing="probe backbones list",
)  # fmt: skip
