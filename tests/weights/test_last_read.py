"""A weight file is read once for its digest, its check and its pass, and not kept after that."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import probe
from probe.backbones.catalog import BACKBONES
from probe.datasets import given_dataset
from probe.errors import WeightsError
from probe.extraction.request import Request, prepare
from probe.weights import resolve
from probe.weights.load import Loaded
from tests.parameters import draw_parameters

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
LABELS = np.arange(6) % 2
SPEC = BACKBONES["resnet18"]
OPTIONS: dict[str, Any] = {"size": 32, "preprocess": "torchvision"}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    save_file(draw_parameters(SPEC, SPEC.layer("gap")), path)
    return path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Loaded]]:
    seen: list[weakref.ref[Loaded]] = []
    real = resolve.load_parameters

    def counted(*arguments: Any) -> Loaded:
        loaded = real(*arguments)
        seen.append(weakref.ref(loaded))
        return loaded

    monkeypatch.setattr(resolve, "load_parameters", counted)
    return seen


def request(weights: Path) -> Request:
    images = given_dataset((IMAGES, LABELS), cache_dir=weights.parent, name=None)
    assert not isinstance(images, str)
    return Request.of(
        dataset=images.name, images=images, backbone="resnet18", weights=str(weights),
        cache_dir=weights.parent, **OPTIONS,
    )  # fmt: skip


def test_a_first_pass_reads_its_weights_once_and_lets_them_go(
    weights: Path, reads: list[weakref.ref[Loaded]], tmp_path: Path
) -> None:
    features = probe.extract(
        (IMAGES, LABELS), "resnet18", weights=weights, cache_dir=tmp_path, quiet=True, **OPTIONS
    )
    assert features["train"].features.shape == (6, 512)
    gc.collect()
    assert [one() for one in reads] == [None]


def test_only_a_pass_that_follows_keeps_what_was_read(
    weights: Path, reads: list[weakref.ref[Loaded]]
) -> None:
    prepared = prepare(request(weights))
    gc.collect()
    assert [one() for one in reads] == [None]
    cuts = [(cut.layer, cut.pool) for cut in prepared.job.cuts]
    assert prepared.load(cuts).digest == prepared.job.cuts[0].key.parameters
    assert len(reads) == 2


def test_weights_that_changed_after_they_were_read_are_not_taken_for_the_old_ones(
    weights: Path, reads: list[weakref.ref[Loaded]]
) -> None:
    prepared = prepare(request(weights), keep=True)
    parameters = draw_parameters(SPEC, SPEC.layer("gap"))
    save_file({name: value[::-1].copy() for name, value in parameters.items()}, weights)
    cuts = [(cut.layer, cut.pool) for cut in prepared.job.cuts]
    with pytest.raises(WeightsError, match="was changed since this command looked at it"):
        prepared.load(cuts)
    assert len(reads) == 2


def test_weights_of_a_failed_request_are_let_go(
    weights: Path, reads: list[weakref.ref[Loaded]]
) -> None:
    parameters = draw_parameters(SPEC, SPEC.layer("gap"))
    parameters["features.0.weight"] *= np.float32(1e38)  # finite, and their products are not
    save_file(parameters, weights)
    with pytest.raises(WeightsError, match="gives NaN or infinity"):
        prepare(request(weights), keep=True)
    gc.collect()
    assert [one() for one in reads] == [None]
