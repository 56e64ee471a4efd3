"""Golden features: parameters in a framework's own file give the features that it gave itself.

`benchmarks/goldens` has the scripts that made `goldens/*.json`; no framework is needed here.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.goldens.drawing import FOLDER, digest, draw, image
from probe.backbones.catalog import BACKBONES
from probe.backbones.network import forward, last_of
from probe.backbones.spec import LOGITS
from probe.preprocess import PreprocessSpec
from probe.weights import load_parameters
from tests.weights import published, published_more, writers, writers_proto

TOLERANCE = 1e-4  # of the norm
PREPROCESS = PreprocessSpec(
    name="unit", size=224, resize="squash", scale=1 / 127.5, mean=(1.0, 1.0, 1.0)
)


def goldens(framework: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{framework}.json").read_text())["models"]


TORCH, KERAS, CAFFE = goldens("torchvision"), goldens("keras"), goldens("caffe")


def agree(name: str, path: Path, golden: dict[str, Any]) -> None:
    """Import the file through the product's own code and compare every layer."""
    backbone = BACKBONES[name]
    cuts = [
        (backbone.logits if layer == LOGITS else backbone.layer(layer), "none")
        for layer in golden["layers"]
    ]
    loaded = load_parameters(path, backbone, last_of(cuts))  # type: ignore[arg-type]
    size = golden["size"]
    outputs = forward(
        backbone,
        loaded.parameters,
        cuts,
        PREPROCESS.with_size(size),
        image(size),  # type: ignore[arg-type]
    )
    for (layer, expected), output in zip(golden["layers"].items(), outputs, strict=True):
        found = np.array(digest(output))
        off = np.linalg.norm(found - expected) / np.linalg.norm(expected)
        assert off < TOLERANCE, f"{layer} is off by {off:.2g} of its norm"


@pytest.mark.parametrize("name", TORCH)
def test_torch_weights_give_torchs_features(name: str, tmp_path: Path) -> None:
    """Zip or stream, bare or nested, by turns: what is in them is the same."""
    names = published_more.timm_lite0() if "lite0" in name else published.torchvision(name)
    arrays = {
        one: draw(one, shape)
        for one, shape in names.items()
        if one.startswith(TORCH[name]["only"]) and not one.endswith("num_batches_tracked")
    }
    turn = list(TORCH).index(name)
    path = tmp_path / ("tf_efficientnet_lite0.pth" if "lite0" in name else "w.pth")
    if turn % 3 == 0:
        writers.write_torch_zip(path, arrays, under="state_dict")
    elif turn % 3 == 1:
        writers.write_torch_stream(path, arrays)
    else:
        writers.write_safetensors(path, arrays)
    agree(name, path, TORCH[name])


def keras_names(name: str) -> published.Names:
    if name == "inception_v3_keras":
        return published_more.keras_inception_v3()
    if name.startswith("vgg"):
        return published.keras_vgg(name)
    return published.keras_resnet(int(name.removeprefix("resnet").removesuffix("_v1")))


@pytest.mark.parametrize("name", KERAS)
def test_keras_weights_give_keras_features(name: str, tmp_path: Path) -> None:
    tops = ("fc1", "fc2", "predictions")
    arrays = {
        one: draw(one, shape, math.prod(shape[:-1]))
        for one, shape in keras_names(name).items()
        if KERAS[name]["top"] or not one.startswith(tops)
    }
    path = tmp_path / "w.h5"
    if list(KERAS).index(name) % 2:
        writers.write_keras3(path, arrays)
    else:
        writers.write_keras(path, arrays)
    agree(name, path, KERAS[name])


@pytest.mark.parametrize("name", ["vgg19", "resnet50_v1", "inception_v3_keras"])
def test_keras_files_that_count_layers_hold_the_same_parameters(name: str, tmp_path: Path) -> None:
    """The order is Keras's own: `model.layers`, as the script that makes the goldens saw it."""
    backbone, top = BACKBONES[name], KERAS[name]["top"]
    arrays = {
        one: np.full(shape, number, np.float32)
        for number, (one, shape) in enumerate(keras_names(name).items())
        if top or not one.startswith(("fc1", "fc2", "predictions"))
    }
    writers.write_keras3(tmp_path / "named.h5", arrays)
    writers.write_keras3(tmp_path / "counted.h5", arrays, listed=KERAS[name]["listed"])
    last = backbone.logits if top else backbone.layer("pool5")
    named, counted = (
        load_parameters(tmp_path / f"{one}.h5", backbone, last) for one in ("named", "counted")
    )
    assert named.digest == counted.digest


@pytest.mark.parametrize("name", CAFFE)
def test_caffe_weights_give_caffes_features(name: str, tmp_path: Path) -> None:
    names = published_more.caffenet() if name == "caffenet" else published_more.caffe_vgg(name)
    arrays = {
        one: draw(one, shape) for one, shape in names.items() if one.startswith(CAFFE[name]["only"])
    }
    path = writers_proto.write_caffe(tmp_path / "w.caffemodel", arrays, old=name != "vgg16")
    agree(name, path, CAFFE[name])


def test_goldens_say_what_they_were_made_with() -> None:
    for path in FOLDER.glob("*.json"):
        versions = json.loads(path.read_text())["versions"]
        assert versions["python"]
        assert path.stat().st_size < 64_000
