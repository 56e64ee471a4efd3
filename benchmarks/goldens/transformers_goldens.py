"""Golden features of transformers' ResNets.

    python -m venv hf && hf/bin/pip install torch==2.14.1 transformers==5.23.0
    hf/bin/python -m benchmarks.goldens.transformers_goldens    # in the repository's root

writes tests/weights/goldens/transformers.json. Made with torch 2.14.1 and transformers 5.23.0 on
two cores of an x86-64, in about ten seconds.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
import transformers

from benchmarks.goldens.drawing import write
from benchmarks.goldens.torch_features import golden

DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3),
          152: (3, 8, 36, 3)}  # fmt: skip
LAYERS = {f"stage{i}": f"resnet.encoder.stages.{i - 1}" for i in range(1, 5)} | {
    "gap": "resnet.pooler", "logits": "classifier",
}  # fmt: skip


def build(depth: int) -> Any:
    """Return the network of microsoft/resnet-DEPTH, untrained."""
    basic = depth < 50
    config = transformers.ResNetConfig(
        depths=list(DEPTHS[depth]),
        hidden_sizes=[64, 128, 256, 512] if basic else [256, 512, 1024, 2048],
        layer_type="basic" if basic else "bottleneck",
        num_labels=1000,
    )
    return transformers.ResNetForImageClassification(config)


def main() -> None:
    models = {}
    for depth in DEPTHS:
        name = f"resnet{depth}"
        models[name] = golden(build(depth), 64, LAYERS)
        print(name, {one: round(v[0], 3) for one, v in models[name]["layers"].items()}, flush=True)
    versions = {
        "python": sys.version.split()[0], "torch": torch.__version__,
        "transformers": transformers.__version__,
    }  # fmt: skip
    write("transformers", versions, models)


if __name__ == "__main__":
    main()
