"""Golden features of Gluon's model zoo and of GluonCV's ResNets, run by plain MXNet.

    python -m venv gluon && gluon/bin/pip install mxnet==1.9.1 numpy==1.23.5 gluoncv==0.10.5.post0
    gluon/bin/python -m benchmarks.goldens.gluon_goldens        # in the repository's root

writes tests/weights/goldens/gluon.json and gluoncv.json. Made with MXNet 1.9.1 and GluonCV
0.10.5.post0 on Python 3.11 and two cores of an x86-64, in two minutes. Nothing of `probe`
runs here.
"""

from __future__ import annotations

import sys
from typing import Any

import gluoncv
import mxnet as mx
import numpy as np

from benchmarks.goldens.drawing import digest, draw, image, names_digest, write

DEPTHS = (18, 34, 50, 101, 152)
# ours -> the zoo's name, the size, and what `features` gives
ZOO: dict[str, tuple[str, int, str]] = {
    **{f"vgg{d}{bn}": (f"vgg{d}{bn}", 224, "fc7") for d in (11, 13, 16, 19) for bn in ("", "_bn")},
    **{f"resnet{d}_{v}": (f"resnet{d}_{v}", 64, "gap") for v in ("v1", "v2") for d in DEPTHS},
    "inception_v3": ("inceptionv3", 299, "gap"),
    "alexnet": ("alexnet", 224, "fc7"),
    "squeezenet1_0": ("squeezenet1.0", 224, "fire9"),
    "squeezenet1_1": ("squeezenet1.1", 224, "fire9"),
    **{f"densenet{d}": (f"densenet{d}", 224, "gap") for d in (121, 161, 169, 201)},
    "mobilenet_v1": ("mobilenet1.0", 64, "gap"),
    "mobilenet_v2": ("mobilenetv2_1.0", 64, "gap"),
}  # fmt: skip


def fill(net: Any, x: Any) -> str:
    """Draw every parameter by its structural name; return the digest of names and shapes."""
    net.initialize()
    net(x)  # which settles the shapes
    shapes = {}
    for name, parameter in net._collect_params_with_prefix().items():
        shapes[name] = parameter.shape
        parameter.set_data(mx.nd.array(draw(name, parameter.shape)))
    return names_digest(shapes)


def zoo(name: str) -> dict[str, Any]:
    """Return the golden of a network of Gluon's zoo."""
    theirs, size, features = ZOO[name]
    net = mx.gluon.model_zoo.vision.get_model(theirs)
    x = picture(size)
    names = fill(net, x)
    seen = {features: net.features(x), "logits": net(x)}
    layers = {layer: digest(out.asnumpy()) for layer, out in seen.items()}
    return {"size": size, "names": names, "layers": layers}


def v1b(depth: int) -> dict[str, Any]:
    """Return the golden of one of GluonCV's ResNets v1b."""
    net = gluoncv.model_zoo.get_model(f"resnet{depth}_v1b", pretrained=False)
    x = picture(64)
    names = fill(net, x)
    logits = net(x)
    x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
    layers = {}
    for stage in range(1, 5):
        x = getattr(net, f"layer{stage}")(x)
        layers[f"stage{stage}"] = digest(x.asnumpy())
    layers |= {"gap": digest(net.avgpool(x).asnumpy()), "logits": digest(logits.asnumpy())}
    return {"size": 64, "names": names, "layers": layers}


def picture(size: int) -> Any:
    return mx.nd.array(image(size).transpose(0, 3, 1, 2) / np.float32(127.5) - 1)


def main() -> None:
    versions = {"python": sys.version.split()[0], "mxnet": mx.__version__, "numpy": np.__version__}
    models = {}
    for name in ZOO:
        models[name] = zoo(name)
        print(name, {one: round(v[0], 3) for one, v in models[name]["layers"].items()}, flush=True)
    write("gluon", versions, models)
    write("gluoncv", versions | {"gluoncv": gluoncv.__version__}, {
        f"resnet{depth}": v1b(depth) for depth in DEPTHS
    })  # fmt: skip


if __name__ == "__main__":
    main()
