"""Tints planted in CIFAR-10, and columns at random: what `probe head` calls a shortcut.

    PROBE_TEST_DATA=... python benchmarks/subgroups.py [IMAGES] [RANDOM_COLUMNS]

Red, green and blue are tinted apart, each going with the parity of the class at another rate; the
features are VGG16's at 32 pixels.

Seen with 400 images: the tint that always goes with the label has the strength 0.52, the one at
50 % 0.17, both are suspected, the one at 10 % is not; of 100 columns at random the features gave
away 5 %, 9 % went with the label by chance, and none did both.
"""

from __future__ import annotations

import io
import os
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from probe.cache.joining import join
from probe.cache.store import Store
from probe.cli.app import app
from probe.runs.memory import Fitting, parts_of
from probe.runs.subgroups import shortcut

RATES = {"tint10": 0.1, "tint50": 0.5, "tint100": 1.0}
STEP = 24  # grey levels that a tint adds


def make_images(folder: Path, count: int) -> None:
    random, lines = np.random.default_rng(0), ["image,label," + ",".join(RATES)]
    with tarfile.open(Path(os.environ["PROBE_TEST_DATA"]) / "cifar10" / "train.tar") as archive:
        members = sorted((m for m in archive.getmembers() if m.isfile()), key=lambda m: m.name)
        classes = sorted({m.name.split("/")[-2] for m in members})
        for number, member in enumerate(random.permutation(len(members))[:count]):
            name = members[member].name.split("/")[-2]
            data = archive.extractfile(members[member])
            assert data is not None
            pixels = np.asarray(Image.open(io.BytesIO(data.read())).convert("RGB")).astype(int)
            parity = classes.index(name) % 2
            tints = [
                parity if random.random() < rate else int(random.integers(2))
                for rate in RATES.values()
            ]
            made = np.clip(pixels + STEP * np.array(tints), 0, 255).astype(np.uint8)
            Image.fromarray(made).save(folder / f"{number}.png")
            lines.append(f"{number}.png,{name}," + ",".join(map(str, tints)))
    (folder / "list.csv").write_text("\n".join(lines) + "\n")


def main() -> None:
    count, columns = (int(one) for one in (sys.argv[1:] + ["600", "200"][len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_images(folder, count)
        weights = Path(os.environ["PROBE_TEST_DATA"]) / "weights" / "vgg16_imagenet_notop.h5"
        cache = ("--cache-dir", str(folder / "cache"))
        backbone = ("--backbone", "vgg16", "--weights", str(weights), "--size", "32")
        app(
            ["extract", *backbone, "--dataset", str(folder / "list.csv"), *cache],
            standalone_mode=False,
        )
        app(["head", "--head", "ridge", "--alpha", "grid", *cache], standalone_mode=False)
        store = Store(folder / "cache")
        joined = join(store, store.choose(None))
        train = parts_of(joined, Fitting(solver="ridge"), max_memory=None)["train"]
        found = []
        for seed in range(columns):
            values = np.random.default_rng(10_000 + seed).integers(0, 3, len(train))
            one = shortcut(train, values.astype(str).tolist(), seed=seed)
            assert one is not None
            found.append((one.p_features <= 0.05, one.p_label <= 0.05, one.suspected))
        shares = 100 * np.mean(found, axis=0)
        print(
            f"{columns} columns at random: features {shares[0]:.1f} %, label {shares[1]:.1f} %, "
            f"suspected {shares[2]:.1f} %"
        )


if __name__ == "__main__":
    main()
