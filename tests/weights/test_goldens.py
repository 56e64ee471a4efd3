"""Golden features: parameters in a framework's own file give the features that it gave itself.

`benchmarks/goldens` has the scripts that made `goldens/*.json`; no framework is needed here.
Of each family the smallest network is run; the deeper ones, whose files are named by the same
rules, in `make test-thorough`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.goldens.drawing import FOLDER, digest, draw, image, names_digest
from probe.backbones.catalog import BACKBONES
from probe.backbones.spec import LOGITS, last_of
from probe.engines import forward
from probe.preprocess.spec import PreprocessSpec
from probe.weights import load_parameters
from probe.weights.fit import shapes_of
from tests.thorough import THOROUGH
from tests.weights import published, writers, writers_proto
from tests.zoo import zoo_network

TOLERANCE = 1e-4  # of the norm
PREPROCESS = PreprocessSpec(
    name="unit", size=224, resize="squash", scale=1 / 127.5, mean=(1.0, 1.0, 1.0)
)


DEEPER = r"vgg(13|19).*|vgg16_bn|resnet(34|101|152).*|densenet(161|169|201)"


def goldens(framework: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{framework}.json").read_text())["models"]


def some(names: Iterable[str]) -> list[str]:
    """Return those to run: all, or without the deeper networks of a family."""
    names = list(names)
    if THOROUGH:
        return names
    deeper = f"{DEEPER}|vgg16" if "vgg11" in names else DEEPER  # Keras and Caffe start with 16
    return [name for name in names if not re.fullmatch(deeper, name)]


TORCH, TIMM, TRANSFORMERS = goldens("torchvision"), goldens("timm"), goldens("transformers")
GLUON, GLUONCV, KERAS, CAFFE = (goldens(one) for one in ("gluon", "gluoncv", "keras", "caffe"))
LITE = goldens("lite")


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
        off = distance(digest(output), expected)
        assert off < TOLERANCE, f"{layer} is off by {off:.2g} of its norm"


def drawn(names: published.Names, golden: dict[str, Any]) -> dict[str, NDArray[np.float32]]:
    """Draw the parameters of a network, whose names and shapes are the framework's own."""
    kept = without_counters(names)
    assert names_digest(kept) == golden["names"]
    return {one: draw(one, shape) for one, shape in kept.items()}


def write_turn(turn: int, path: Path, arrays: dict[str, NDArray[np.float32]]) -> None:
    """Zip, stream or safetensors, bare or nested, by turns: what is in them is the same."""
    if turn % 3 == 0:
        writers.write_torch_zip(path, arrays, under="state_dict")
    elif turn % 3 == 1:
        writers.write_torch_stream(path, arrays)
    else:
        writers.write_safetensors(path, arrays)


def distance(found: list[float], expected: list[float]) -> float:
    """How far two digests are apart, as a share of the expected one's length."""
    return float(np.linalg.norm(np.subtract(found, expected)) / np.linalg.norm(expected))


def without_counters(names: published.Names) -> published.Names:
    return {one: shape for one, shape in names.items() if not one.endswith("num_batches_tracked")}


@pytest.mark.parametrize("name", some(TORCH))
def test_torch_weights_give_torchs_features(name: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    arrays = drawn(published.torchvision(name), TORCH[name])
    write_turn(list(TORCH).index(name), path, arrays)
    agree(name, path, TORCH[name])


@pytest.mark.parametrize("name", some(TIMM))
def test_timms_weights_give_timms_features(name: str, tmp_path: Path) -> None:
    golden, names = TIMM[name], published.timm(name)
    maps_only = name.startswith("vgg") and "logits" not in golden["layers"]
    if name in TORCH and (maps_only or golden["names"] == TORCH[name]["names"]):
        # parameters of the same names, so the test above has read and run them
        assert names_digest(without_counters(names)) == golden["names"]
        for layer, numbers in golden["layers"].items():
            assert distance(TORCH[name]["layers"][layer], numbers) < TOLERANCE
        return
    path = tmp_path / ("tf_efficientnet_lite0.pth" if "lite0" in name else "w.pth")
    write_turn(list(TIMM).index(name), path, drawn(names, golden))
    agree(name, path, golden)


@pytest.mark.parametrize("name", LITE)
def test_the_packages_lite0_gives_its_features(name: str, tmp_path: Path) -> None:
    path = writers.write_torch_stream(
        tmp_path / "w.pth", drawn(published.efficientnet_lite0(), LITE[name])
    )
    agree(name, path, LITE[name])


@pytest.mark.parametrize("name", some(TRANSFORMERS))
def test_transformers_weights_give_its_features(name: str, tmp_path: Path) -> None:
    names = published.transformers_resnet(int(name.removeprefix("resnet")))
    path = tmp_path / "model.safetensors"
    writers.write_safetensors(path, drawn(names, TRANSFORMERS[name]), {"format": "pt"})
    agree(name, path, TRANSFORMERS[name])


@pytest.mark.parametrize("name", some(GLUON))
def test_gluons_weights_give_the_zoos_features(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Structural names or prefixed ones, by turns; every backbone's names: see test_naming."""
    arrays = drawn(dict(shapes_of(name)), GLUON[name])
    if list(GLUON).index(name) % 2:
        named = zoo_network(request.getfixturevalue("mx"), name)._collect_params_with_prefix()
        arrays = {named[one].name: array for one, array in arrays.items()}
    path = writers.write_gluon(tmp_path / "w.params", arrays)
    agree(name, path, GLUON[name])


@pytest.mark.parametrize("name", some(GLUONCV))
def test_gluoncvs_weights_give_its_features(name: str, tmp_path: Path) -> None:
    names = published.gluoncv_resnet(int(name.removeprefix("resnet")))
    path = writers.write_gluon(tmp_path / "w.params", drawn(names, GLUONCV[name]))
    agree(name, path, GLUONCV[name])


def keras_names(name: str) -> published.Names:
    if name == "inception_v3_keras":
        return published.keras_inception_v3()
    if name.startswith("vgg"):
        return published.keras_vgg(name)
    return published.keras_resnet(int(name.removeprefix("resnet").removesuffix("_v1")))


@pytest.mark.parametrize("name", some(KERAS))
def test_keras_weights_give_keras_features(name: str, tmp_path: Path) -> None:
    arrays = {
        one: draw(one, shape, math.prod(shape[:-1])) for one, shape in keras_names(name).items()
    }
    path = tmp_path / "w.h5"
    if list(KERAS).index(name) % 2:
        writers.write_keras3(path, arrays)
    else:
        writers.write_keras(path, arrays)
    agree(name, path, KERAS[name])


@pytest.mark.parametrize("name", some(["vgg19", "resnet50_v1", "inception_v3_keras"]))
def test_keras_files_that_count_layers_hold_the_same_parameters(name: str, tmp_path: Path) -> None:
    """The order is Keras's own: `model.layers`, as the script that makes the goldens saw it."""
    backbone = BACKBONES[name]
    arrays = {
        one: np.full(shape, number, np.float32)
        for number, (one, shape) in enumerate(keras_names(name).items())
    }
    writers.write_keras3(tmp_path / "named.h5", arrays)
    writers.write_keras3(tmp_path / "counted.h5", arrays, listed=KERAS[name]["listed"])
    named, counted = (
        load_parameters(tmp_path / f"{one}.h5", backbone, backbone.logits)
        for one in ("named", "counted")
    )
    assert named.digest == counted.digest


@pytest.mark.parametrize("name", some(CAFFE))
def test_caffe_weights_give_caffes_features(name: str, tmp_path: Path) -> None:
    names = published.caffenet() if name == "caffenet" else published.caffe_vgg(name)
    arrays = {one: draw(one, shape) for one, shape in names.items()}
    path = writers_proto.write_caffe(tmp_path / "w.caffemodel", arrays, old=name != "vgg16")
    agree(name, path, CAFFE[name])


def test_goldens_say_what_they_were_made_with() -> None:
    for path in FOLDER.glob("*.json"):
        versions = json.loads(path.read_text())["versions"]
        assert versions["python"]
        assert path.stat().st_size < 64_000
