"""Golden features of Caffe's networks, run by OpenCV's dnn module, which reads its files.

    python -m venv caffe && caffe/bin/pip install 'opencv-python-headless<5'
    caffe/bin/python -m benchmarks.goldens.caffe_goldens       # in the repository's root

writes tests/weights/goldens/caffe.json. Made with OpenCV 4.14.0 on two cores of an x86-64, in about
twenty seconds. OpenCV 5 no longer reads Caffe's files.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.goldens.drawing import digest, draw, image, write
from tests.weights.published import caffe_vgg, caffenet
from tests.weights.writers_proto import write_caffe

BLOCKS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)
TOPS = (("fc", "fc6", "4096"), ("fc", "fc7", "4096"), ("fc", "fc8", "1000"))
CAFFENET = (  # kind, name, settings
    ("conv", "conv1", "num_output: 96 kernel_size: 11 stride: 4"), ("pool", "pool1", ""),
    ("norm", "norm1", ""),
    ("conv", "conv2", "num_output: 256 pad: 2 kernel_size: 5 group: 2"), ("pool", "pool2", ""),
    ("norm", "norm2", ""),
    ("conv", "conv3", "num_output: 384 pad: 1 kernel_size: 3"),
    ("conv", "conv4", "num_output: 384 pad: 1 kernel_size: 3 group: 2"),
    ("conv", "conv5", "num_output: 256 pad: 1 kernel_size: 3 group: 2"), ("pool", "pool5", ""),
    *TOPS,
)  # fmt: skip


def layer(kind: str, name: str, bottom: str, settings: str = "") -> str:
    """Return one layer of a prototxt, with the ReLU behind it."""
    kinds = {
        "conv": ("Convolution", f"convolution_param {{ {settings} }}"),
        "fc": ("InnerProduct", f"inner_product_param {{ num_output: {settings} }}"),
        "pool": ("Pooling", "pooling_param { pool: MAX kernel_size: 3 stride: 2 }"),
        "pool2": ("Pooling", "pooling_param { pool: MAX kernel_size: 2 stride: 2 }"),
        "norm": ("LRN", "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }"),
    }
    word, param = kinds[kind]
    text = f'layer {{ name: "{name}" type: "{word}" bottom: "{bottom}" top: "{name}" {param} }}\n'
    if kind in ("conv", "fc") and name != "fc8":
        text += f'layer {{ name: "relu_{name}" type: "ReLU" bottom: "{name}" top: "r_{name}" }}\n'
    return text


def prototxt(name: str, size: int) -> str:
    """Return the deploy prototxt."""
    text = f'name: "{name}"\ninput: "data"\ninput_dim: 1\ninput_dim: 3\n'
    text += f"input_dim: {size}\ninput_dim: {size}\n"
    rows: list[tuple[str, str, str]] = list(CAFFENET)
    if name != "caffenet":
        rows = []
        for block, (count, width) in enumerate(zip(BLOCKS[name], WIDTHS, strict=True), start=1):
            settings = f"num_output: {width} pad: 1 kernel_size: 3"
            rows += [("conv", f"conv{block}_{i}", settings) for i in range(1, count + 1)]
            rows.append(("pool2", f"pool{block}", ""))
        rows += TOPS
    bottom = "data"
    for kind, one, settings in rows:
        text += layer(kind, one, bottom, settings)
        bottom = f"r_{one}" if kind in ("conv", "fc") else one
    return text


def golden(name: str, folder: Path) -> dict[str, Any]:
    """Return one model's size and the digest of each of its layers."""
    size = 227 if name == "caffenet" else 224
    names = caffenet() if name == "caffenet" else caffe_vgg(name)
    arrays = {one: draw(one, shape) for one, shape in names.items()}
    model = write_caffe(folder / f"{name}.caffemodel", arrays, old=name != "vgg19")
    (folder / "net.prototxt").write_text(prototxt(name, size))
    net = cv2.dnn.readNetFromCaffe(str(folder / "net.prototxt"), str(model))
    net.enableFusion(False)
    net.setInput((image(size).transpose(0, 3, 1, 2) / np.float32(127.5) - 1).astype(np.float32))
    maps = ("conv1", "norm1", "norm2", "pool5")
    if name != "caffenet":
        maps = tuple(f"pool{i}" for i in range(1, 6))
    layers = {one: one for one in (*maps, "fc6", "fc7")} | {"logits": "fc8"}
    wanted = [f"relu_{one}" if one in ("conv1", "fc6", "fc7") else one for one in layers.values()]
    outputs = net.forward(wanted)
    digests = {ours: digest(out) for ours, out in zip(layers, outputs, strict=True)}
    return {"size": size, "layers": digests}


def main() -> None:
    models = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("vgg16", "vgg19", "caffenet"):
            models[name] = golden(name, Path(folder))
            print(name, {k: round(v[0], 3) for k, v in models[name]["layers"].items()}, flush=True)
    write("caffe", {"python": sys.version.split()[0], "opencv": cv2.__version__}, models)


if __name__ == "__main__":
    main()
