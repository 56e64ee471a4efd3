"""Golden features of torchvision's networks.

    python -m venv tv && tv/bin/pip install torch==2.14.1 torchvision==0.29.1
    tv/bin/python -m benchmarks.goldens.torchvision_goldens     # in the repository's root

writes tests/weights/goldens/torchvision.json. Made with torch 2.14.1 and torchvision 0.29.1 on two
cores of an x86-64, in about a minute.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
import torchvision

from benchmarks.goldens.drawing import write
from benchmarks.goldens.torch_features import golden, pools_of

VGG = [f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")]
VGG_TOPS = {"fc6": "classifier.1", "fc7": "classifier.4", "logits": "classifier.6"}
RESNET = {f"stage{i}": f"layer{i}" for i in range(1, 5)} | {"gap": "avgpool", "logits": "fc"}
DENSENET = {f"block{i}": f"features.denseblock{i}" for i in range(1, 4)} | {
    "block4": "last", "logits": "classifier",
}  # fmt: skip
INCEPTION = {f"mixed_{one}": f"Mixed_{one}" for one in ("5b", "5d", "6a", "6e", "7a", "7c")}
TABLE: dict[str, tuple[int, dict[str, str]]] = {
    **dict.fromkeys(VGG, (224, VGG_TOPS)),
    **{f"resnet{depth}": (64, RESNET) for depth in (18, 34, 50, 101, 152)},
    "inception_v3": (299, INCEPTION | {"gap": "avgpool", "logits": "fc"}),
    "alexnet": (224, {
        "pool1": "features.2", "pool5": "features.12", "fc6": "classifier.2",
        "fc7": "classifier.5", "logits": "classifier.6",
    }),
    "squeezenet1_0": (224, {"fire2": "features.3", "fire9": "features.12", "logits": "classifier"}),
    "squeezenet1_1": (224, {"fire2": "features.3", "fire9": "features.12", "logits": "classifier"}),
    **{f"densenet{depth}": (224, DENSENET) for depth in (121, 161, 169, 201)},
    "mobilenet_v2": (64, {
        "block1": "features.1", "block2": "features.2", "block17": "features.17",
        "head": "features.18",  # Gluon's classifier has no bias, so torchvision's has no place
    }),
}  # fmt: skip


class LastReLU(torch.nn.Module):
    """DenseNet's last ReLU is a function in torchvision: here it is a module that can be seen."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.features, self.last, self.classifier = net.features, torch.nn.ReLU(), net.classifier

    def forward(self, x: Any) -> Any:
        x = self.last(self.features(x))
        return self.classifier(torch.flatten(torch.nn.functional.adaptive_avg_pool2d(x, 1), 1))


def build(name: str) -> Any:
    """Return the network, untrained."""
    kwargs: dict[str, Any] = {"weights": None}
    if name == "inception_v3":
        kwargs |= {"transform_input": False, "init_weights": False}
    net = torchvision.models.get_model(name, **kwargs)
    return LastReLU(net) if name.startswith("densenet") else net


def main() -> None:
    models = {}
    for name, (size, layers) in TABLE.items():
        net = build(name)
        pools = pools_of(net.features) if name in VGG else {}
        models[name] = golden(net, size, pools | layers)
        print(name, {one: round(v[0], 3) for one, v in models[name]["layers"].items()}, flush=True)
    versions = {
        "python": sys.version.split()[0], "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }  # fmt: skip
    write("torchvision", versions, models)


if __name__ == "__main__":
    main()
