"""What `promote` does to small sets by default, beside other recipes.

    PROBE_TEST_DATA=... python -m benchmarks.promote_defaults --out FOLDER [--recipes ...]

Six sets of 140 to 175 training images (VGG16: 105) and 45 to 75 held-out ones; the probe is
logistic regression (`path`, C from the grid). The epoch that the held-out images choose is scored
on 300 test images (digits: 400). ``old`` was the default: sgd 0.001, a warmup of half an epoch,
flips and shifts, 10 epochs. ``adamw 1e-4`` is the default now: a warmup of one epoch, a mirror, 8
epochs; ``crop`` adds shifts to the mirror, ``none`` has neither. Where a mirror costs the probe 10
points on held-out images (digits, shapes) no recipe has one.

Showed, top-1 on test in percent, one seed, `-` where it was not run:

                         probe     old  adamw 1e-4  adamw 3e-5  adamw 1e-4 crop  adamw 1e-4 none
    cat, dog              66.7    68.3        69.3        65.7             69.0                -
    digits                77.2    82.8        84.2        82.8             83.0             84.2
    turned                40.7    34.0        38.0        37.0             36.3             36.0
    inverted              35.7    33.3        40.7        38.0             39.7             38.7
    shapes                56.3    68.0        60.7        55.0             65.0             60.7
    10 classes, VGG16     35.0    35.7        31.3        33.7                -                -
    mean gain                     +1.8        +2.1        +0.1
    largest loss                  -6.7        -3.7        -3.7

No recipe wins everywhere: on the turned photographs all lose to the probe, and where things stand
at different places (shapes) shifts are worth more than the optimizer. Means this close, of one seed
and test sets on which some 3 points are chance, do not settle a ranking; what they show is that the
old default lost most where it lost. Larger sets are another matter: see `promote_cifar10.py`, where
sgd 0.001 gained 7 points on 1,400 images.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from benchmarks.common import PROBE, cifar10_folders, vgg16_weights
from probe.bench.find import default_run
from probe.finetune.checkpoint import load_best
from probe.finetune.mirror import mirror_test
from probe.finetune.options import Options
from probe.finetune.promotion import begin
from probe.finetune.source import Places, Source, open_source
from probe.heads.history import Epoch

Pixels = NDArray[np.uint8]

ADAMW: dict[str, Any] = {"optimizer": "adamw", "lr": 1e-4, "warmup": 1.0, "epochs": 8}
RECIPES: dict[str, dict[str, Any]] = {
    "old": {"optimizer": "sgd", "lr": 1e-3, "warmup": 0.5, "augment": "light", "epochs": 10},
    "adamw 1e-4": {**ADAMW, "augment": "flip"},
    "adamw 3e-5": {**ADAMW, "augment": "flip", "lr": 3e-5},
    "adamw 1e-4 crop": {**ADAMW, "augment": "light"},
    "adamw 1e-4 none": {**ADAMW, "augment": "none"},
}


@dataclass(frozen=True, kw_only=True)
class Set:
    """Images, and the network that is probed on them.

    Parameters
    ----------
    size : int
        Side in pixels.
    train, test : int
        Images a class; of the first three in ten are held out.
    kind : str
        ``photographs``; ``inverted`` ones; ``turned``, whose class is by how much; ``digits``;
        ``shapes``.
    """

    backbone: str
    size: int
    train: int
    test: int
    kind: str = "photographs"
    classes: tuple[str, ...] = ()


LITE, VGG = "efficientnet_lite0", "vgg16"
SETS = {
    "cat, dog": Set(backbone=LITE, size=64, train=100, test=150, classes=("cat", "dog")),
    "digits": Set(backbone=LITE, size=32, train=25, test=40, kind="digits"),
    "turned": Set(backbone=LITE, size=64, train=20, test=30, kind="turned"),
    "inverted": Set(backbone=LITE, size=64, train=20, test=30, kind="inverted"),
    "shapes": Set(backbone=LITE, size=64, train=40, test=60, kind="shapes"),
    "10 classes, VGG16": Set(backbone=VGG, size=32, train=15, test=30),
}


class Watcher:
    """Keeps the epochs."""

    def __init__(self) -> None:
        self.epochs: list[Epoch] = []

    def stepped(self, done: int, total: int, loss: float, top1: float, lr: float) -> None: ...
    def epoch_done(self, epoch: Epoch, best: bool) -> None:  # noqa: ARG002
        self.epochs.append(epoch)


def pictures(one: Set, folder: Path) -> Iterator[tuple[str, str, Pixels]]:
    """Yield (split, class, pixels)."""
    rng = np.random.default_rng(0)
    if one.kind == "digits":
        yield from digits(one, rng)
    elif one.kind == "shapes":
        for split, count in (("train", one.train), ("test", one.test)):
            for label in SHAPES:
                for _ in range(count):
                    yield split, label, shape(label, rng)
    else:
        yield from photographs(one, folder, rng)


def digits(one: Set, rng: np.random.Generator) -> Iterator[tuple[str, str, Pixels]]:
    """Yield scikit-learn's, 8 x 8 pixels."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    for label in range(10):
        rows = rng.permutation(np.flatnonzero(labels == label))[: one.train + one.test]
        for place, row in enumerate(rows):
            pixels = (images[row].reshape(8, 8) * 15.9375).astype(np.uint8)
            split = "train" if place < one.train else "test"
            yield split, str(label), np.repeat(pixels[..., None], 3, axis=2)


def photographs(
    one: Set, folder: Path, rng: np.random.Generator
) -> Iterator[tuple[str, str, Pixels]]:
    """Yield CIFAR-10's, as they are or changed."""
    where = cifar10_folders(folder / "photographs", train=one.train, test=one.test)
    for path in sorted(where.glob("*/*/*")):
        split, label = path.parts[-3:-1]
        if one.classes and label not in one.classes:
            continue
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        if one.kind == "turned":  # a photograph of each turn is another photograph
            turn = int(rng.integers(4))
            label, pixels = f"by {90 * turn}", np.rot90(pixels, turn)
        elif one.kind == "inverted":
            pixels = 255 - pixels
        yield split, label, pixels


SHAPES = ("disc", "ring", "square", "cross", "triangle")


def shape(label: str, rng: np.random.Generator) -> Pixels:
    """Draw one on noise, at a random place and size, in random colours of little contrast."""
    side = 48
    ground = rng.integers(60, 196, 3)
    colour = tuple((ground + rng.choice([-1, 1], 3) * rng.integers(15, 45, 3)).tolist())
    image = Image.new("RGB", (side, side), tuple(ground.tolist()))
    draw, r = ImageDraw.Draw(image), float(rng.uniform(6, 14))
    x, y = rng.uniform(r, side - r, 2).tolist()
    box = (x - r, y - r, x + r, y + r)
    if label == "disc":
        draw.ellipse(box, fill=colour)
    elif label == "ring":
        draw.ellipse(box, outline=colour, width=3)
    elif label == "square":
        draw.rectangle(box, fill=colour)
    elif label == "cross":
        draw.line((x - r, y, x + r, y), fill=colour, width=4)
        draw.line((x, y - r, x, y + r), fill=colour, width=4)
    else:
        draw.polygon([(x - r, y + r), (x + r, y + r), (x, y - r)], fill=colour)
    noisy = np.asarray(image) + rng.normal(0, 20, (side, side, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def probed(one: Set, folder: Path) -> Source:
    """Extract and fit the head as a user does."""
    cache, images = folder / "cache", folder / "images"
    if not images.exists():
        for number, (split, label, pixels) in enumerate(pictures(one, folder)):
            target = images / split / label / f"{number:05}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(target)
    if not cache.exists():
        weights = str(vgg16_weights()) if one.backbone == VGG else "auto"
        extract = ["extract", "--backbone", one.backbone, "--weights", weights, "--size",
                   str(one.size), "--dataset", str(images)]  # fmt: skip
        environment = {**os.environ, "PROBE_CACHE": str(cache)}
        for command in (extract, ["head", "--head", "path", "--C", "grid"]):
            subprocess.run([*PROBE, *command], check=True, env=environment, capture_output=True)
    return open_source(default_run(cache)[0], Places(cache_dir=cache))


def tuned(source: Source, recipe: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train, and score the kept epoch on validation and test."""
    with tempfile.TemporaryDirectory() as place:
        begun = begin(source, Options(**recipe, seed=seed), Path(place))
        mirror = mirror_test(source, begun.training)
        if mirror.harmful and begun.training.options.policy().flip:
            kept = {"flip": "none", "light": "crop"}[recipe["augment"]]
            begun = begin(source, Options(**{**recipe, "augment": kept}, seed=seed), Path(place))
        training, watcher = begun.training, Watcher()
        started = time.perf_counter()
        training.run(watcher)
        seconds = time.perf_counter() - started
        training.network.state.put(load_best(Path(place), training.progress.best_epoch))
        assert source.test is not None
        task = training.feed.task
        targets = task.encode(source.test.labels, source.head.classes_)
        return {
            "augment": training.options.augment,
            "mirror": [mirror.plain, mirror.mirrored],
            "start": begun.score,
            "loss": begun.loss,
            "epochs": [one.val_score for one in watcher.epochs],
            "losses": [one.val_loss for one in watcher.epochs],
            "train_losses": [one.train_loss for one in watcher.epochs],
            "best": training.progress.best_epoch,
            "seconds": seconds,
            "probe_test": source.result.metrics["test"]["top1"],
            "test": task.loss_and_figure(training.predict(source.test)[1], targets)[1],
        }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES))
    parser.add_argument("--seed", type=int, default=42)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for recipe in given.recipes:
        for name in given.sets:
            source = probed(SETS[name], given.out / name)
            found = tuned(source, RECIPES[recipe], given.seed)
            about = {"set": name, "recipe": recipe, "train": len(source.train), "seed": given.seed}
            with (given.out / "results.jsonl").open("a") as file:
                file.write(json.dumps(about | found) + "\n")
            epochs = " ".join(f"{100 * value:.1f}" for value in found["epochs"])
            print(
                f"{name:16} {recipe:16} {len(source.train)}+{len(source.val)} {found['augment']:6}"
                f" val {100 * found['start']:.1f} | {epochs} | test {100 * found['probe_test']:.1f}"
                f" -> {100 * found['test']:.1f}  {found['seconds']:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
