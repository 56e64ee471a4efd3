"""Read datasets by their places, whole and damaged."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np

from probe.core.reading import ReadOptions
from probe.datasets import Dataset, load_dataset
from probe.errors import ProbeError

PATHS = (
    "train/cat/1.png",
    "train/cat/2.png",
    "train/dog/1.png",
    "test/dog/7.png",
    "test/cat/8.png",
)


def load(place: Path, **options: object) -> Dataset:
    reading = ReadOptions(**options)  # type: ignore[arg-type]
    return load_dataset(str(place), cache_dir=place.parent / "cache", reading=reading)


def read_damaged(file: Path, *, seed: int) -> None:
    """Damage a file at random, 60 times, half of them cut; raise what is no error of ours."""
    whole, random = file.read_bytes(), np.random.default_rng(seed)
    for number in range(60):
        data = bytearray(whole)
        for at in random.integers(0, len(data), 3):
            data[at] = random.integers(0, 256)
        file.write_bytes(data[: random.integers(0, len(data))] if number % 2 else data)
        with contextlib.suppress(ProbeError):
            split = load(file).splits["train"]
            split.images.content()
            split.images.image(0)
