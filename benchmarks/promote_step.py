"""A training step against the same step in PyTorch, and what the input pipeline adds to it.

    python benchmarks/promote_step.py --torch-python PATH/TO/python

ResNet-18 and VGG16's convolution layers on 32 x 32 images, ten classes, batches of 32, sgd with
momentum and weight decay on all weights, no frozen layer, two threads each. Both sides get a uint8
batch, normalise it, go forward and back, and update. ResNet-18 is run with norms that go by the
batch on both sides. Ours also takes the gradient's norm for clipping, the peer does not. Each side
is a process of its own; rounds of a few steps alternate between them, and the best and the median
of the steps are printed. `fed` is our step with batches loaded, augmented (flip, crop) and mixed
into targets by the feed, which is what an epoch costs.

Showed, with MXNet 1.9.1 and torch 2.13, two threads each, on two cores of a Xeon with one other job
beside it (best, ratio to torch; median, ratio):

    resnet18   ours      69 ms  0.86      76 ms  0.87
               fed       68 ms  0.85      76 ms  0.88
               torch     79 ms            87 ms
    vgg16      ours     215 ms  0.71     254 ms  0.70
               fed      213 ms  0.70     260 ms  0.72
               torch    303 ms           363 ms

The input pipeline costs nothing that shows: its threads work while the engine does. On an
overloaded machine (five other jobs) ResNet-18 was at 0.96 to 1.03 with one thread each, and torch's
two threads, which spin while they wait for each other, took seconds a step.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "2")  # before either library loads

import numpy as np

BATCH, SIDE, CLASSES, LR = 32, 32, 10, 1e-3
NETWORKS = ("resnet18", "vgg16")
LAYERS = {"resnet18": "gap", "vgg16": "pool5"}


def images(count: int = BATCH) -> Any:
    return np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def our_training(name: str) -> Any:
    """Return a training on random images from random weights."""
    from pathlib import Path
    from types import SimpleNamespace

    from probe.backbones.catalog import BACKBONES
    from probe.datasets.spec import Split
    from probe.finetune.options import Options
    from probe.finetune.start import make_training
    from probe.heads.normalize import Normalizer
    from probe.preprocess.spec import TORCHVISION
    from probe.weights import random_parameters

    pixels = images(640)
    spec = BACKBONES[name]
    layer = spec.layer(LAYERS[name])
    width = layer.width
    head = SimpleNamespace(
        classes_=np.arange(CLASSES),
        n_features_in_=width,
        normalizer_=Normalizer(kind="none", mean=np.zeros(width), scale=np.ones(width)),
        layers=lambda: [(np.zeros((CLASSES, width)), np.zeros(CLASSES))],
    )
    split = Split(
        ids=[str(row) for row in range(len(pixels))],
        labels=(np.arange(len(pixels)) % CLASSES).astype(np.int32),
        images=_Images(pixels),
    )
    source = SimpleNamespace(
        head=head, train=split, val=split, backbone=spec, layer=layer,
        pool="none" if layer.kind != "map" else "avg", preprocess=TORCHVISION.with_size(SIDE),
        parameters=random_parameters(0, spec, layer).parameters, folder=Path("none"),
    )  # fmt: skip
    options = Options(
        optimizer="sgd", batch_size=BATCH, lr=LR, warmup=0.0, bn="moving", augment="light"
    )
    return make_training(source, options, Path("none"))  # type: ignore[arg-type]


class _Images:
    def __init__(self, pixels: Any) -> None:
        self._pixels = pixels

    def __len__(self) -> int:
        return len(self._pixels)

    def image(self, row: int) -> Any:
        return self._pixels[row]


def our_steps(name: str, fed: bool) -> Iterator[None]:
    training = our_training(name)
    training.enter_stage(1)

    def batches() -> Iterator[Any]:
        epoch = 1
        while True:
            yield from training.feed.epoch(epoch)
            epoch += 1

    stream = batches()
    batch = next(stream)
    while True:
        training.forward(batch, 1).asnumpy()
        training._update(1)
        training.network.state.weights.array.wait_to_read()
        if fed:
            batch = next(stream)
        yield


def torch_steps(name: str) -> Iterator[None]:
    import torch
    from torch import nn

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(0)
    model = {"resnet18": _resnet18, "vgg16": _vgg16}[name](nn).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9, weight_decay=1e-4)
    x, y = torch.from_numpy(images()), torch.arange(BATCH) % CLASSES
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    while True:
        optimizer.zero_grad()
        z = (x.permute(0, 3, 1, 2).float() / 255 - mean) / std
        loss = nn.functional.cross_entropy(model(z), y)
        loss.backward()
        optimizer.step()
        loss.item()
        yield


def _vgg16(nn: Any) -> Any:
    layers, width = [], 3
    for stage in ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3):
        for channels in stage:
            layers += [nn.Conv2d(width, channels, 3, padding=1), nn.ReLU(inplace=True)]
            width = channels
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, CLASSES))


def _resnet18(nn: Any) -> Any:
    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self, i: int, o: int, stride: int) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True),
                nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o),
            )  # fmt: skip
            self.side = nn.Identity()
            if stride != 1 or i != o:
                self.side = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))

        def forward(self, x: Any) -> Any:
            return nn.functional.relu(self.body(x) + self.side(x))

    layers: list[Any] = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)]
    layers += [nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    width = 64
    for channels, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Block(width, channels, stride), Block(channels, channels, 1)]
        width = channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, CLASSES))


def serve(side: str, name: str) -> None:
    """Run so many steps for each number on stdin, and say how long each took."""
    makers: dict[str, Callable[[], Iterator[None]]] = {
        "ours": lambda: our_steps(name, False),
        "fed": lambda: our_steps(name, True),
        "torch": lambda: torch_steps(name),
    }
    steps = makers[side]()
    for _ in range(3):
        next(steps)
    print("ready", flush=True)
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            started = time.perf_counter()
            next(steps)
            times.append(time.perf_counter() - started)
        print(" ".join(f"{one:.6f}" for one in times), flush=True)


def start(python: str, side: str, name: str) -> subprocess.Popen[str]:
    command = [python, __file__, "--side", side, "--network", name]
    made = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert made.stdout is not None
    assert made.stdout.readline().strip() == "ready"
    return made


def ask(process: subprocess.Popen[str], steps: int) -> list[float]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{steps}\n")
    process.stdin.flush()
    return [float(one) for one in process.stdout.readline().split()]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--torch-python", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--side", choices=("ours", "fed", "torch"))
    parser.add_argument("--network", choices=NETWORKS)
    given = parser.parse_args()
    if given.side:
        serve(given.side, given.network)
        return
    for name in [given.network] if given.network else NETWORKS:
        pythons = {"ours": sys.executable, "fed": sys.executable, "torch": given.torch_python}
        sides = {side: start(python, side, name) for side, python in pythons.items()}
        found: dict[str, list[float]] = {side: [] for side in sides}
        for _ in range(given.rounds):
            for side, process in sides.items():
                found[side] += ask(process, given.steps)
        for process in sides.values():
            process.kill()
        for side, times in found.items():
            best, middle = 1000 * min(times), 1000 * median(times)
            ratio = min(times) / min(found["torch"]), median(times) / median(found["torch"])
            print(
                f"{name:9} {side:6} best {best:6.0f} ms ({ratio[0]:.2f} of torch)   "
                f"median {middle:6.0f} ms ({ratio[1]:.2f})"
            )


if __name__ == "__main__":
    main()
