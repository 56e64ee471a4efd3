"""Golden features of timm's networks.

    python -m venv tv && tv/bin/pip install torch==2.14.1 torchvision==0.29.1 timm==1.0.31
    tv/bin/python -m benchmarks.goldens.timm_goldens            # in the repository's root

writes tests/weights/goldens/timm.json. Made with torch 2.14.1 and timm 1.0.31 on two cores of an
x86-64, in about a minute.
"""

from __future__ import annotations

import sys

import timm
import torch

from benchmarks.goldens.drawing import write
from benchmarks.goldens.torch_features import golden, pools_of
from benchmarks.goldens.torchvision_goldens import INCEPTION, VGG

VGG_TOPS = {"fc6": "pre_logits.act1", "fc7": "pre_logits.act2", "logits": "head.fc"}
RESNET = {f"stage{i}": f"layer{i}" for i in range(1, 5)} | {"gap": "global_pool", "logits": "fc"}
DENSENET = {f"block{i}": f"features.denseblock{i}" for i in range(1, 4)} | {
    "block4": "features.norm5", "logits": "classifier",  # timm's norms have their ReLU in them
}  # fmt: skip
TABLE: dict[str, tuple[str, int, dict[str, str]]] = {
    # maps of all eight, which are torchvision's; tops of two, since they take seconds to compare
    **{name: (name, 224, VGG_TOPS if name in ("vgg11", "vgg16_bn") else {}) for name in VGG},
    **{f"resnet{depth}": (f"resnet{depth}", 64, RESNET) for depth in (18, 34, 50, 101, 152)},
    "inception_v3": ("inception_v3", 299, INCEPTION | {"gap": "global_pool", "logits": "fc"}),
    **{f"densenet{depth}": (f"densenet{depth}", 224, DENSENET) for depth in (121, 161, 169, 201)},
    "mobilenet_v2": ("mobilenetv2_100", 64, {
        "block1": "blocks.0.0", "block2": "blocks.1.0", "block17": "blocks.6.0", "head": "bn2",
    }),
    "efficientnet_lite0": ("tf_efficientnet_lite0", 224, {
        "block1": "blocks.0.0", "block2": "blocks.1.0", "block16": "blocks.6.0", "head": "bn2",
        "logits": "classifier",
    }),
}  # fmt: skip


def main() -> None:
    models = {}
    for name, (theirs, size, layers) in TABLE.items():
        net = timm.create_model(theirs)
        pools = pools_of(net.features) if name in VGG else {}
        models[name] = golden(net, size, pools | layers)
        print(name, {one: round(v[0], 3) for one, v in models[name]["layers"].items()}, flush=True)
    versions = {
        "python": sys.version.split()[0], "torch": torch.__version__, "timm": timm.__version__,
    }  # fmt: skip
    write("timm", versions, models)


if __name__ == "__main__":
    main()
