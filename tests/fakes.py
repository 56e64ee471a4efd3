"""A dataset in memory and an engine without a network, for tests of what lies between them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.backbones.catalog import BACKBONES
from probe.backbones.spec import Layer, Pool
from probe.datasets.spec import Dataset, Split
from probe.extraction.job import Job, decide
from probe.preprocess.spec import TORCHVISION

SIZE = 8


@dataclass
class MemoryImages:
    """Images in an array; `reads` counts how often each row was asked for."""

    pixels: NDArray[np.uint8]
    reads: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.pixels)

    def content(self) -> NDArray[np.uint8]:
        digests = [hashlib.blake2b(one.tobytes(), digest_size=16).digest() for one in self.pixels]
        return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16)

    def image(self, row: int) -> NDArray[np.uint8]:
        self.reads.append(row)
        return self.pixels[row]

    def take(self, rows: NDArray[np.intp]) -> MemoryImages:
        return MemoryImages(self.pixels[rows])


def make_split(name: str, count: int, *, seed: int, classes: int = 3) -> Split:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)
    return Split(
        ids=[f"{name}/{i:05d}" for i in range(count)],
        labels=(np.arange(count) % classes).astype(np.int32),
        images=MemoryImages(pixels),
    )


def make_dataset(name: str = "toy", *, train: int = 700, test: int = 130) -> Dataset:
    splits = {"train": make_split("train", train, seed=1), "test": make_split("test", test, seed=2)}
    return Dataset(name=name, classes=("ant", "bee", "cat"), splits=splits, root=None)


def make_job(
    dataset: Dataset, *, dtype: str = "float32", parameters: str = "p" * 32, views: str = "none"
) -> Job:
    backbone = BACKBONES["resnet18"]
    layer = backbone.layer("gap")
    return decide(
        dataset,
        backbone,
        TORCHVISION.with_size(SIZE),
        [(layer, "none", parameters)],
        dtype=dtype,
        views=views,
        provenance={"dataset": dataset.name},
    )


class FakeEngine:
    """Projects pixels to 512 features with fixed random numbers."""

    device, devices = "fake", 1

    def __init__(self, cuts: Sequence[tuple[Layer, Pool]], batch_size: int = 32) -> None:
        self.batch_size = batch_size
        self.widths = [layer.width for layer, _ in cuts]
        self.forwarded = 0

    def submit(self, batch: NDArray[np.uint8]) -> Any:
        assert 0 < len(batch) <= self.batch_size
        assert batch.shape[1:] == (SIZE, SIZE, 3)
        self.forwarded += len(batch)
        return batch

    def collect(self, ticket: Any) -> list[NDArray[np.float32]]:
        flat = ticket.reshape(len(ticket), -1).astype(np.float64) / 255
        outputs = []
        for width in self.widths:
            matrix = _projection(flat.shape[1], width)
            # einsum without BLAS: each row's sum has one order, whatever the batch
            outputs.append(np.einsum("nd,dw->nw", flat, matrix, optimize=False).astype(np.float32))
        return outputs


@cache
def _projection(numbers: int, width: int) -> NDArray[np.float64]:
    return np.random.default_rng(width).standard_normal((numbers, width))


class Silent:
    """An observer that only counts."""

    def __init__(self) -> None:
        self.forwarded = self.taken = self.waits = 0

    def copied(self, rows: int, left: int) -> None:
        self.taken += rows

    def estimated(self, rows: int, seconds: float, device: str) -> None: ...

    def advanced(self, rows: int) -> None:
        self.forwarded += rows

    def spread(self, rates: object) -> None: ...

    def waiting(self, holder: object, done: int, rows: int) -> None:
        self.waits += 1


class _Rows(SimpleNamespace):
    """One split as `probe head` reads it from an entry."""

    def __len__(self) -> int:
        return len(self.labels)


def joined(rows: Mapping[str, tuple[NDArray[Any], NDArray[Any]]], classes: Sequence[str]) -> Any:
    """Return what `probe.cache.joining.join` gives, of features and labels that a test made."""
    splits = {}
    for seed, (name, (X, y)) in enumerate(rows.items()):
        content = np.random.default_rng(seed).integers(0, 256, (len(X), 16), dtype=np.uint8)
        ids = [f"{name}/{row:05d}" for row in range(len(X))]
        splits[name] = _Rows(features=X, labels=y, ids=ids, content=content, columns={})
    key = SimpleNamespace(
        backbone="vgg16", layer="pool5", pool="avg", views="none", dtype="float32"
    )
    entry = SimpleNamespace(
        name="e", dataset="d", key=key, provenance={}, classes=classes, row_shape=(12,)
    )
    return SimpleNamespace(entry=entry, splits=splits)
