"""A golden export: a small network of Keras as an ONNX file, with the rows that Keras gave.

    python -m venv keras
    keras/bin/pip install keras==3.15.1 tensorflow-cpu==2.21.0 tf2onnx==1.17.0
    KERAS_BACKEND=tensorflow keras/bin/python -m benchmarks.goldens.keras_exports

in the repository's root writes tests/weights/goldens/keras_cnn.onnx and its rows, a JSON file. Made
with these versions on two cores of an x86-64, in some seconds. Its images have their channels last.
"""

from __future__ import annotations

import math
import sys

import keras
import numpy as np
import tensorflow
import tf2onnx
from keras import layers

from benchmarks.goldens.drawing import FOLDER, draw, images, write_rows

SIZE, COUNT = 32, 2


def network() -> keras.Model:
    """Return a network with a depthwise convolution, a gate, and its classifier."""
    pixels = keras.Input((SIZE, SIZE, 3), name="pixels")
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem")(pixels)
    x = layers.BatchNormalization(name="stem_norm")(x)
    x = keras.activations.swish(x)
    y = layers.DepthwiseConv2D(5, padding="same", name="depthwise")(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True, name="squeeze")(y)
    gate = layers.Conv2D(8, 1, activation="sigmoid", name="excite")(gate)
    x = layers.Add(name="sum")([x, layers.Multiply(name="gated")([y, gate])])
    x = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu", name="map")(x)
    x = layers.MaxPooling2D(2, name="pool")(x)
    x = layers.GlobalAveragePooling2D(name="features")(x)
    return keras.Model(pixels, layers.Dense(5, activation="softmax", name="scores")(x))


def main() -> None:
    net = network()
    for layer in net.layers:
        layer.set_weights(
            [
                draw(f"{layer.name}/{one.name}", one.shape, math.prod(one.shape[:-1]))
                for one in layer.weights
            ]
        )
    names = ["pool", "features", "scores"]
    inner = keras.Model(net.inputs, [net.get_layer(name).output for name in names])
    batch = images(COUNT, SIZE).astype(np.float32) / np.float32(127.5) - 1
    rows = dict(zip(names, (one.numpy() for one in inner(batch, training=False)), strict=True))
    net(batch)  # what was never called is not exported
    net.export(FOLDER / "keras_cnn.onnx", format="onnx", verbose=False)
    versions = {
        "python": sys.version.split()[0], "keras": keras.__version__,
        "tensorflow": tensorflow.__version__, "tf2onnx": tf2onnx.__version__,
    }  # fmt: skip
    write_rows("keras_cnn", versions, rows)


if __name__ == "__main__":
    main()
