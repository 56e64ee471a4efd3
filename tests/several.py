"""Small pictures that may have several labels, and the list of them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

LABELS = ("blue", "green", "red", "white")
TINTS = ((0, 0, 70), (0, 70, 0), (70, 0, 0), (40, 40, 40))
PARTS = (0.5, 0.35, 0.35, 0.2)  # of the pictures that have each label


def make_list(folder: Path, *, train: int = 96, test: int = 48) -> Path:
    """Write pictures whose quarters are tinted by the labels they have, and the list of them.

    Some have no label at all.
    """
    random, rows = np.random.default_rng(0), [("image", "labels", "split")]
    (folder / "images").mkdir(parents=True)
    for split, count in (("train", train), ("test", test)):
        for number in range(count):
            has = np.flatnonzero(random.random(4) < PARTS).tolist()
            pixels = random.integers(0, 80, (2, 2, 3), dtype=np.uint8)  # a quarter's own tint
            pixels = pixels.repeat(16, axis=0).repeat(16, axis=1)
            pixels += random.integers(0, 60, (32, 32, 3), dtype=np.uint8)
            for label in has:
                top, left = divmod(label, 2)
                quarter = pixels[16 * top : 16 * top + 16, 16 * left : 16 * left + 16]
                quarter += np.array(TINTS[label], np.uint8)
            name = f"images/{split}-{number:03d}.png"
            Image.fromarray(pixels).save(folder / name)
            rows.append((name, "|".join(LABELS[label] for label in has), split))
    path = folder / "quarters.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path
