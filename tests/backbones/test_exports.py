"""Exports of torch, timm and Keras as backbones: their rows are those that the framework gave.

`benchmarks/goldens/torch_exports.py` and `keras_exports.py` made the files and the rows; no
framework is needed here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmarks.goldens.drawing import FOLDER, images
from probe.cache.features import FeatureSet
from probe.core.memo import Memo
from probe.weights.foreign import open_network
from tests.commands import probe_json

TOLERANCE = 1e-4  # of a row's norm
COUNT, SIZE = 2, 32
UNIT = {"name": "unit", "size": SIZE, "resize": "squash", "scale": 1 / 127.5, "mean": [1, 1, 1]}


def truth(export: str, layer: str) -> NDArray[np.float64]:
    """Return what the framework gave at one of its layers, an image a row."""
    found = json.loads((FOLDER / f"{export}.json").read_text())["layers"][layer]
    return np.array(found["values"]).reshape(found["shape"])


def off(found: NDArray[Any], known: NDArray[np.float64]) -> float:
    """Return the largest distance of two rows over the length of the known one."""
    known = known.reshape(COUNT, -1)
    distance = np.linalg.norm(found.reshape(COUNT, -1) - known, axis=1)
    return float((distance / np.linalg.norm(known, axis=1)).max())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the pictures, one of each of two classes, and the preprocessing's file."""
    for number, picture in enumerate(images(COUNT, SIZE)):
        place = tmp_path / "images" / f"class{number}" / "picture.png"
        place.parent.mkdir(parents=True)
        Image.fromarray(picture).save(place)
    (tmp_path / "unit.json").write_text(json.dumps(UNIT))
    return tmp_path


def rows(export: str, folder: Path, *options: str) -> NDArray[np.float32]:
    """Return the rows that `probe extract` gives of the pictures."""
    done = probe_json(
        "extract", "--backbone", FOLDER / f"{export}.onnx", "--preprocess", folder / "unit.json",
        "--dataset", folder / "images", "--cache-dir", folder / "cache", *options,
    )  # fmt: skip
    (entry,) = done["entries"]
    return FeatureSet.open(entry["path"])["train"].rows(slice(None))


@pytest.mark.parametrize("export", ["torch_cnn", "timm_vit", "keras_cnn"])
def test_an_export_gives_what_its_classifier_takes(export: str, folder: Path) -> None:
    assert off(rows(export, folder), truth(export, "features")) < TOLERANCE


@pytest.mark.parametrize(
    ("export", "value", "layer"),
    [
        ("torch_cnn", "logits", "logits"),
        ("torch_cnn", "hardswish_1", "map"),
        ("timm_vit", "logits", "logits"),
        ("keras_cnn", "Identity:0", "scores"),
    ],
)
def test_its_other_layers_are_the_frameworks(
    export: str, value: str, layer: str, folder: Path
) -> None:
    found = rows(export, folder, "--layer", value, "--pool", "none")
    assert off(found, truth(export, layer)) < TOLERANCE


def test_maps_of_channels_last_are_pooled_over_places(folder: Path) -> None:
    network = open_network(FOLDER / "keras_cnn.onnx", Memo(folder / "memo.sqlite"))
    pool = next(one.name for one in network.layers if "MaxPool" in one.name)
    known = truth("keras_cnn", "pool")  # (N, 4, 4, 16)
    assert off(rows("keras_cnn", folder, "--layer", pool), known.mean((1, 2))) < TOLERANCE
    found = rows("keras_cnn", folder, "--layer", pool, "--pool", "max")
    assert off(found, known.max((1, 2))) < TOLERANCE


def test_tokens_of_a_transformer_are_told_apart(folder: Path) -> None:
    """The class token and the registers come first, and are no part of the patches' mean."""
    tokens = truth("timm_vit", "tokens")  # (N, 1 + 2 + 16, D)
    network = open_network(FOLDER / "timm_vit.onnx", Memo(folder / "memo.sqlite"))
    last = [one for one in network.layers if one.kind == "tokens"][-1]
    assert last.own_tokens == 3
    for pool, known in {
        "cls": tokens[:, 0], "avg": tokens[:, 3:].mean(1), "max": tokens[:, 3:].max(1),
        "none": tokens,
    }.items():  # fmt: skip
        found = rows("timm_vit", folder, "--layer", last.name, "--pool", pool)
        assert off(found, known) < TOLERANCE, pool
