"""Golden features of torchvision's networks and of timm's tf_efficientnet_lite0.

    python -m venv tv && tv/bin/pip install torch==2.14.1 torchvision==0.29.1 timm==1.0.31
    tv/bin/python -m benchmarks.goldens.torchvision_goldens     # in the repository's root

writes tests/weights/goldens/torchvision.json. Made with torch 2.14.1, torchvision 0.29.1 and timm
1.0.31 on two cores of an x86-64, in about a minute.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
import torchvision

from benchmarks.goldens.drawing import digest, draw, image, write

VGG = [f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")]
RESNET = {f"stage{i}": f"layer{i}" for i in range(1, 5)} | {"gap": "avgpool", "logits": "fc"}
DENSENET = {f"block{i}": f"features.denseblock{i}" for i in range(1, 4)}
INCEPTION = {f"mixed_{one}": f"Mixed_{one}" for one in ("5b", "5d", "6a", "6e", "7a", "7c")}
TABLE: dict[str, tuple[int, dict[str, str]]] = {
    **{name: (64, {}) for name in VGG},
    **{f"resnet{depth}": (64, RESNET) for depth in (18, 34, 50, 101, 152)},
    "inception_v3": (299, INCEPTION | {"gap": "avgpool", "logits": "fc"}),
    "alexnet": (224, {
        "pool1": "features.2", "pool5": "features.12", "fc6": "classifier.2",
        "fc7": "classifier.5", "logits": "classifier.6",
    }),
    "squeezenet1_0": (224, {"fire2": "features.3", "fire9": "features.12", "logits": "classifier"}),
    "squeezenet1_1": (224, {"fire2": "features.3", "fire9": "features.12", "logits": "classifier"}),
    "densenet121": (224, DENSENET | {"block4": "features.norm5", "logits": "classifier"}),
    "densenet161": (64, DENSENET | {"block4": "features.norm5"}),
    "densenet169": (64, DENSENET | {"block4": "features.norm5"}),
    "densenet201": (64, DENSENET | {"block4": "features.norm5"}),
    "mobilenet_v2": (64, {
        "block1": "features.1", "block2": "features.2", "block17": "features.17",
        "head": "features.18",
    }),
    "efficientnet_lite0": (224, {
        "block1": "blocks.0.0", "block2": "blocks.1.0", "block16": "blocks.6.0", "head": "bn2",
        "logits": "classifier",
    }),
}  # fmt: skip


def build(name: str) -> Any:
    """Return the network, untrained, in inference mode."""
    if name == "efficientnet_lite0":
        import timm

        return timm.create_model("tf_efficientnet_lite0").eval()
    kwargs: dict[str, Any] = {"weights": None}
    if name == "inception_v3":
        kwargs |= {"transform_input": False, "init_weights": False}
    return torchvision.models.get_model(name, **kwargs).eval()


def layers(name: str, net: Any) -> dict[str, str]:
    """Return layer -> module whose output it is."""
    if name in VGG:
        pools = [i for i, m in enumerate(net.features) if isinstance(m, torch.nn.MaxPool2d)]
        return {f"pool{i}": f"features.{at}" for i, at in enumerate(pools, start=1)}
    return TABLE[name][1]


def golden(name: str) -> dict[str, Any]:
    """Return one model's size and the digest of each of its layers."""
    net, size = build(name), TABLE[name][0]
    only = "features." if name in VGG else ""  # their classifiers are 120 million numbers each
    drawn = {
        key: torch.from_numpy(draw(key, tuple(value.shape)))
        for key, value in net.state_dict().items()
        if key.startswith(only) and not key.endswith("num_batches_tracked")
    }
    net.load_state_dict(drawn, strict=False)
    seen: dict[str, Any] = {}
    for layer, path in layers(name, net).items():
        module = net.get_submodule(path)
        # cloned: the next module may work in place
        module.register_forward_hook(
            lambda _, __, out, layer=layer: seen.__setitem__(layer, out.clone())
        )
    with torch.no_grad():
        net(torch.from_numpy(image(size)).permute(0, 3, 1, 2).float() / 127.5 - 1)
    if name.startswith("densenet"):
        seen["block4"] = torch.relu(seen["block4"])  # a function there, no module
    return {
        "size": size,
        "only": only,
        "layers": {layer: digest(out.numpy()) for layer, out in seen.items()},
    }


def main() -> None:
    import timm

    models = {}
    for name in TABLE:
        models[name] = golden(name)
        print(name, {one: round(v[0], 3) for one, v in models[name]["layers"].items()}, flush=True)
    versions = {
        "python": sys.version.split()[0], "torch": torch.__version__,
        "torchvision": torchvision.__version__, "timm": timm.__version__,
    }  # fmt: skip
    write("torchvision", versions, models)


if __name__ == "__main__":
    main()
