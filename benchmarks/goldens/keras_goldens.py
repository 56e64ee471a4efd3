"""Golden features of Keras's networks.

    python -m venv keras && keras/bin/pip install keras==3.15.1 tensorflow-cpu
    KERAS_BACKEND=tensorflow keras/bin/python -m benchmarks.goldens.keras_goldens

in the repository's root writes tests/weights/goldens/keras.json. Made with Keras 3.15.1 on two
cores of an x86-64, in about a minute; the file has TensorFlow's version.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import keras
import numpy as np

from benchmarks.goldens.drawing import digest, draw, image, write

VGG = {f"block{i}_pool": f"pool{i}" for i in range(1, 6)} | {
    "fc1": "fc6", "fc2": "fc7", "predictions": "logits",
}  # fmt: skip
INCEPTION = {"mixed0": "mixed_5b", "mixed2": "mixed_5d", "mixed3": "mixed_6a", "mixed7": "mixed_6e",
             "mixed8": "mixed_7a", "mixed10": "mixed_7c"}  # fmt: skip


def resnet(depth: int) -> dict[str, str]:
    """Return Keras's layer -> ours."""
    last = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}[depth]
    outs = {f"conv{i}_block{n}_out": f"stage{i - 1}" for i, n in enumerate(last, start=2)}
    return outs | {"avg_pool": "gap", "predictions": "logits"}


TABLE: dict[str, tuple[str, int, dict[str, str]]] = {
    "vgg16": ("VGG16", 224, VGG),
    "vgg19": ("VGG19", 224, VGG),
    "resnet50_v1": ("ResNet50", 64, resnet(50)),
    "resnet101_v1": ("ResNet101", 64, resnet(101)),
    "resnet152_v1": ("ResNet152", 64, resnet(152)),
    "inception_v3_keras": ("InceptionV3", 299, INCEPTION | {
        "avg_pool": "gap", "predictions": "logits",
    }),
}  # fmt: skip


def fill(net: Any) -> None:
    """Draw every weight by ``layer/role``."""
    for layer in net.layers:
        drawn = []
        for weight in layer.weights:
            name, shape = f"{layer.name}/{weight.name}", tuple(weight.shape)
            drawn.append(draw(name, shape, math.prod(shape[:-1])))
        layer.set_weights(drawn)


def golden(name: str) -> dict[str, Any]:
    """Return one model's size, the digest of each of its layers, and the list of all layers."""
    function, size, layers = TABLE[name]
    keras.backend.clear_session()  # layers without a name are counted
    net = getattr(keras.applications, function)(
        weights=None, input_shape=(size, size, 3), classifier_activation=None
    )
    fill(net)
    cut = keras.Model(net.input, [net.get_layer(one).output for one in layers])
    outputs = cut.predict(image(size).astype(np.float32) / np.float32(127.5) - 1, verbose=0)
    # (1, H, W, C) -> (1, C, H, W), the order here
    arrays = [np.moveaxis(one, -1, 1) if np.ndim(one) == 4 else one for one in outputs]
    digests = {ours: digest(one) for ours, one in zip(layers.values(), arrays, strict=True)}
    listed = [layer.name for layer in net.layers if layer.weights]
    return {"size": size, "layers": digests, "listed": listed}


def main() -> None:
    models = {}
    for name in TABLE:
        models[name] = golden(name)
        print(name, {one: round(v[0], 3) for one, v in models[name]["layers"].items()}, flush=True)
    versions = {"python": sys.version.split()[0], "keras": keras.__version__}
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        versions["tensorflow"] = tensorflow.__version__
    write("keras", versions, models)


if __name__ == "__main__":
    main()
