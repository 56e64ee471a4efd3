"""A bundle holds the network of an ONNX file, so it answers when that file is gone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import probe
from tests.backbones.foreign_graphs import SIZE, convolutions, saved, transformer

RNG = np.random.default_rng(5)
IMAGES = RNG.integers(0, 256, (48, SIZE, SIZE, 3), dtype=np.uint8)
LABELS = np.arange(48) % 3
for label, channel in enumerate((0, 1, 2)):
    IMAGES[label == LABELS, :, :, channel] //= 4
NETWORKS: dict[str, Any] = {
    "tokens": lambda place: saved(transformer(registers=2)[0], place),
    "channels last": lambda place: saved(convolutions(channels_last=True)[0], place),
    "batch of 3": lambda place: saved(convolutions(batch=3)[0], place),
    "half": lambda place: saved(convolutions(dtype=np.float16)[0], place),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_bundle_answers_as_the_run_without_the_file(network: str, tmp_path: Path) -> None:
    place = NETWORKS[network](tmp_path / "net" / "model.onnx")
    features = probe.extract(
        (IMAGES, LABELS), str(place), preprocess="torchvision", cache_dir=tmp_path / "cache",
        quiet=True,
    )  # fmt: skip
    run = probe.fit(features, head="path", cache_dir=tmp_path / "cache", quiet=True)
    run.bundle(tmp_path / "b.probe")
    shutil.rmtree(tmp_path / "net")
    bundle = probe.open_bundle(tmp_path / "b.probe")
    held_out = run.predictions["val"]
    places = np.array([int(one.removeprefix("train/")) for one in held_out.ids])
    known = held_out.probabilities ** (1 / (bundle.about.temperature or 1))
    given = bundle.predict_proba(list(IMAGES[places]))
    np.testing.assert_allclose(given, known / known.sum(1, keepdims=True), atol=1e-4)
