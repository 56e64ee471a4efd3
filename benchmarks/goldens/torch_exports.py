"""Golden exports: small networks of torch and timm as ONNX files, with the rows that torch gave.

    python -m venv tv
    tv/bin/pip install torch==2.14.1 torchvision==0.29.1 timm==1.0.31 onnxscript==0.7.2
    tv/bin/python -m benchmarks.goldens.torch_exports           # in the repository's root

writes tests/weights/goldens/torch_cnn.onnx, timm_vit.onnx and their rows, a JSON file each. Made
with torch 2.14.1, timm 1.0.31 and onnxscript 0.7.2 on two cores of an x86-64, in some seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import onnx
import onnxscript
import timm
import torch
from timm.models.vision_transformer import VisionTransformer

from benchmarks.goldens.drawing import FOLDER, draw, images, write_rows

SIZE, COUNT = 32, 2


class Residual(torch.nn.Module):
    """Two convolutions beside a shorter way."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(width, out, 3, stride=2, padding=1, bias=False)
        self.norm1 = torch.nn.BatchNorm2d(out)
        self.second = torch.nn.Conv2d(out, out, 3, padding=1, groups=out)
        self.norm2 = torch.nn.BatchNorm2d(out)
        self.short = torch.nn.Conv2d(width, out, 1, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm2(self.second(torch.relu(self.norm1(self.first(x)))))
        return torch.nn.functional.hardswish(y + self.short(x))


def convolutions() -> torch.nn.Sequential:
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 5, stride=2, padding=2),
        torch.nn.ReLU6(),
        Residual(8, 12),
        Residual(12, 16),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Dropout(0.2),
        torch.nn.Linear(16, 5),
    )


def transformer() -> VisionTransformer:
    return VisionTransformer(
        img_size=SIZE, patch_size=8, embed_dim=12, depth=2, num_heads=2, num_classes=5, reg_tokens=2
    )


def export(name: str, net: Any, layers: Mapping[str, str]) -> None:
    """Write a network and, for each layer of ours, what its module of that path gave."""
    state = net.state_dict()
    drawn = {
        key: torch.from_numpy(draw(key, value.shape).reshape(tuple(value.shape)))
        for key, value in state.items()
        if not key.endswith("num_batches_tracked")
    }
    net.eval().load_state_dict(drawn, strict=False)
    seen: dict[str, Any] = {}
    for layer, path in layers.items():
        net.get_submodule(path).register_forward_hook(
            lambda _, __, out, layer=layer: seen.__setitem__(layer, out.clone())
        )
    batch = torch.from_numpy(images(COUNT, SIZE)).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        seen["logits"] = net(batch)
    rows = {layer: value.numpy() for layer, value in seen.items()}  # exporting runs it again
    program = torch.onnx.export(
        net, (batch,), input_names=["pixel_values"], output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},), dynamo=True,
    )  # fmt: skip
    model = program.model_proto
    for node in model.graph.node:  # what line of Python it came from: most of the file
        del node.metadata_props[:]
    for value in model.graph.value_info:
        del value.metadata_props[:]
    onnx.save(model, FOLDER / f"{name}.onnx")
    versions = {
        "python": sys.version.split()[0], "torch": torch.__version__, "timm": timm.__version__,
        "onnxscript": onnxscript.__version__,
    }  # fmt: skip
    write_rows(name, versions, rows)


def main() -> None:
    export("torch_cnn", convolutions(), {"map": "3", "features": "5"})
    export("timm_vit", transformer(), {"tokens": "norm", "features": "fc_norm"})


if __name__ == "__main__":
    main()
