"""ONNX files as backbones: their rows are what arithmetic gives, whatever an exporter wrote."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import probe
from probe.backbones.cut import network_cost
from probe.core.memo import Memo
from probe.errors import UsageError
from probe.preprocess.resize import resize_image
from probe.preprocess.spec import PRESETS, PreprocessSpec
from probe.weights import resolve_weights
from probe.weights.foreign import network_name, open_network
from tests.backbones.foreign_graphs import SIZE, Graph, convolutions, saved, transformer

IMAGES = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)
LABELS = np.arange(5) % 2
PREPROCESS = "torchvision"


def fed(preprocess: PreprocessSpec, *, channels_last: bool = False) -> NDArray[np.float64]:
    """Return the images as the network is fed them."""
    spec = replace(preprocess, size=SIZE)  # whose crop is the network's own
    pixels = np.stack([resize_image(one, spec) for one in IMAGES]).astype(np.float64)
    pixels = (pixels * spec.scale - spec.mean) / spec.std
    return pixels if channels_last else pixels.transpose(0, 3, 1, 2)


def rows(place: Path, folder: Path, **cut: Any) -> NDArray[np.float64]:
    """Return features of the images, in their order."""
    found = probe.extract(
        (IMAGES, LABELS), str(place), preprocess=PREPROCESS, cache_dir=folder, quiet=True, **cut
    )
    return found["train"].as_xy()[0].astype(np.float64)


def off(found: NDArray[Any], known: NDArray[Any]) -> float:
    """Return the largest distance of two rows over the length of the known one."""
    known = known.reshape(len(known), -1)
    distance = np.linalg.norm(found.reshape(len(found), -1) - known, axis=1)
    return float((distance / np.linalg.norm(known, axis=1)).max())


@pytest.mark.parametrize("registers", [0, 4])
def test_tokens_are_pooled_as_arithmetic_says(registers: int, tmp_path: Path) -> None:
    model, truth = transformer(registers=registers)
    place = saved(model, tmp_path / "net.onnx")
    known = truth(fed(PRESETS[PREPROCESS]))
    tokens = known["last_hidden_state"]
    patches = tokens[:, 1 + registers :]
    cut = {"layer": "last_hidden_state"}
    assert off(rows(place, tmp_path, **cut, pool="cls"), tokens[:, 0]) < 1e-5
    assert off(rows(place, tmp_path, **cut, pool="avg"), patches.mean(1)) < 1e-5
    assert off(rows(place, tmp_path, **cut, pool="max"), patches.max(1)) < 1e-5
    assert off(rows(place, tmp_path, **cut, pool="none"), tokens) < 1e-5
    assert off(rows(place, tmp_path, layer="logits"), known["logits"]) < 1e-5


SPELLINGS: dict[str, dict[str, Any]] = {
    "batch of any size": {},
    "batch of 1": {"batch": 1},
    "batch of 4, the last of which is filled": {"batch": 4},
    "channels last": {"channels_last": True},
    "without a bias": {"classifier": ("MatMul", "Softmax")},
    "bias by itself": {"classifier": ("MatMul", "Add", "Softmax")},
    "casts between": {"classifier": ("MatMul", "Cast", "Add", "Cast", "Softmax")},
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_default_is_what_the_classifier_takes(spelling: str, tmp_path: Path) -> None:
    options = SPELLINGS[spelling]
    model, truth = convolutions(**options)
    place = saved(model, tmp_path / "net.onnx")
    last = options.get("channels_last", False)
    known = truth(fed(PRESETS[PREPROCESS], channels_last=last))
    assert off(rows(place, tmp_path), known["features"]) < 1e-5
    assert off(rows(place, tmp_path, layer="map", pool="max"), known["map"].max((2, 3))) < 1e-5
    assert off(rows(place, tmp_path, layer="scores"), known["scores"]) < 1e-5


def test_default_of_weights_in_constant_nodes(tmp_path: Path) -> None:
    from onnx import helper

    model, truth = convolutions(classifier=("MatMul", "Add", "Softmax"))
    for tensor in list(model.graph.initializer):  # as PaddlePaddle writes them
        model.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
    del model.graph.initializer[:]
    place = saved(model, tmp_path / "net.onnx")
    known = truth(fed(PRESETS[PREPROCESS]))
    assert off(rows(place, tmp_path), known["features"]) < 1e-5


def test_default_of_a_classifier_in_whole_numbers(tmp_path: Path) -> None:
    from onnx import helper, numpy_helper

    model, truth = convolutions(classifier=("MatMul", "Add"))
    product = next(one for one in model.graph.node if one.op_type == "MatMul")
    tensor = next(one for one in model.graph.initializer if one.name == "weight")
    weight = numpy_helper.to_array(tensor)
    step = float(np.abs(weight).max()) / 127
    stored = {
        "weight": np.rint(weight / step).astype(np.int8), "weight_zero": np.zeros((), np.int8),
        "weight_step": np.float32(step).reshape(()),
    }  # fmt: skip
    model.graph.initializer.remove(tensor)
    model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in stored.items())
    rounded = ["rounded", "step", "zero"]
    nodes = [  # as ONNX Runtime's quantize_dynamic writes them
        helper.make_node("DynamicQuantizeLinear", ["features"], rounded),
        helper.make_node("Mul", ["step", "weight_step"], ["steps"]),
        helper.make_node("MatMulInteger", ["rounded", "weight", "zero", "weight_zero"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["sums_float"], to=1),
        helper.make_node("Mul", ["sums_float", "steps"], [product.output[0]]),
    ]
    place = list(model.graph.node).index(product)
    model.graph.node.remove(product)
    for number, one in enumerate(nodes):
        model.graph.node.insert(place + number, one)
    file = saved(model, tmp_path / "net.onnx")
    known = truth(fed(PRESETS[PREPROCESS]))
    assert off(rows(file, tmp_path), known["features"]) < 1e-5
    assert off(rows(file, tmp_path, layer="scores"), known["scores"]) < 0.05


def test_side_may_be_any(tmp_path: Path) -> None:
    model, truth = convolutions(side="side")
    found = rows(saved(model, tmp_path / "net.onnx"), tmp_path, size=SIZE)
    assert off(found, truth(fed(PRESETS[PREPROCESS].with_size(SIZE)))["features"]) < 1e-5


def test_half_precision_is_kept(tmp_path: Path) -> None:
    model, truth = convolutions(dtype=np.float16)
    found = rows(saved(model, tmp_path / "net.onnx"), tmp_path)
    assert off(found, truth(fed(PRESETS[PREPROCESS]))["features"]) < 5e-3


def external(model: Any, place: Path, arrays: str) -> Path:
    """Write a model, and its first array to another file."""
    from onnx import TensorProto

    tensor = model.graph.initializer[0]
    data = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": arrays, "offset": "0", "length": str(len(data))}.items():
        tensor.external_data.add(key=key, value=value)
    place.parent.mkdir(parents=True, exist_ok=True)
    (place.parent / arrays).write_bytes(data)
    return saved(model, place)


def test_arrays_behind_links_are_read(tmp_path: Path) -> None:
    model, truth = convolutions()
    blobs, shown = tmp_path / "blobs", tmp_path / "snapshots" / "onnx"
    external(model, blobs / "one", "two")  # as Hugging Face's download cache keeps files
    model.graph.initializer[0].external_data[0].value = "model.onnx_data"
    saved(model, blobs / "one")
    shown.mkdir(parents=True)
    (shown / "model.onnx").symlink_to(blobs / "one")
    (shown / "model.onnx_data").symlink_to(blobs / "two")
    found = rows(shown / "model.onnx", tmp_path)
    assert off(found, truth(fed(PRESETS[PREPROCESS]))["features"]) < 1e-5


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("resnet.onnx", "resnet"),
        ("birds/model.onnx", "birds"),
        ("birds/onnx/model_fp16.onnx", "birds_fp16"),
        ("clip/onnx/vision_model.onnx", "clip-vision"),
        ("models--org--net/snapshots/1f2e/onnx/model.onnx", "net"),
        ("my nets/model.onnx", "my-nets"),
    ],
)
def test_name_is_the_folders_where_the_file_says_model(file: str, name: str) -> None:
    assert network_name(f"/somewhere/{file}") == f"{name}.onnx"


def test_name_is_the_links_own_in_a_download_cache(tmp_path: Path) -> None:
    shown = tmp_path / "models--org--net" / "snapshots" / "1f2e" / "onnx" / "model.onnx"
    shown.parent.mkdir(parents=True)
    shown.symlink_to(saved(convolutions()[0], tmp_path / "models--org--net" / "blobs" / "0a1b"))
    assert network_name(str(shown.parent.parent)) == "net.onnx"


def test_a_layer_is_found_without_the_slash_that_begins_its_name(tmp_path: Path) -> None:
    model, _ = convolutions()
    for node in model.graph.node:
        for values in (node.input, node.output):
            values[:] = ["/block/map" if one == "map" else one for one in values]
    network = open_network(saved(model, tmp_path / "net.onnx"), Memo(tmp_path / "memo.sqlite"))
    assert network.layer("block/map") == network.layer("/block/map")


def test_a_value_whose_rows_are_places_is_no_layer_and_counts_as_all_of_them(
    tmp_path: Path,
) -> None:
    net = Graph(0)
    net.parameter("kernel", 5, 3, 8, 8, scale=0.1)
    net.parameter("weight", 5, 6)
    net.add("Conv", ["image", "kernel"], "map", kernel_shape=[8, 8], strides=[8, 8])
    net.add("Transpose", ["map"], "last", perm=[0, 2, 3, 1])
    net.add("Reshape", ["last", net.constant("places", np.array([-1, 5]))], "flat")
    net.add("MatMul", ["flat", "weight"], "dense")  # (N * 16, 6)
    net.add("Reshape", ["dense", net.constant("tokens", np.array([-1, 16, 6]))], "out")
    model = net.model("image", ["N", 3, SIZE, SIZE], ["out"])
    network = open_network(saved(model, tmp_path / "net.onnx"), Memo(tmp_path / "memo.sqlite"))
    assert [layer.name for layer in network.layers] == ["map", "last", "out"]
    with pytest.raises(UsageError, match=r"--layer dense: .* first axis is not the images'"):
        network.layer("dense")
    cost = network_cost(network, ())
    assert cost is not None
    assert cost.multiply_adds == 16 * 5 * 3 * 64 + 16 * 6 * 5


def test_products_of_two_values_as_attention_has_them_count(tmp_path: Path) -> None:
    net = Graph(0)
    net.parameter("kernel", 5, 3, 8, 8, scale=0.1)
    net.add("Conv", ["image", "kernel"], "map", kernel_shape=[8, 8], strides=[8, 8])
    net.add("Reshape", ["map", net.constant("flat", np.array([0, 5, -1]))], "keys")  # (N, 5, 16)
    net.add("Transpose", ["keys"], "queries", perm=[0, 2, 1])  # (N, 16, 5)
    net.add("MatMul", ["queries", "keys"], "scores")  # (N, 16, 16)
    net.add("Softmax", ["scores"], "shares", axis=-1)
    net.add("MatMul", ["shares", "queries"], "out")  # (N, 16, 5)
    model = net.model("image", ["N", 3, SIZE, SIZE], ["out"])
    network = open_network(saved(model, tmp_path / "net.onnx"), Memo(tmp_path / "memo.sqlite"))
    cost = network_cost(network, ())
    assert cost is not None
    assert cost.multiply_adds == 16 * 5 * 3 * 64 + 16 * 16 * 5 + 16 * 5 * 16
    early = network_cost(network, ((network.layer("scores"), "none"),))
    assert early is not None
    assert early.multiply_adds == 16 * 5 * 3 * 64 + 16 * 16 * 5


@pytest.mark.parametrize("file", ["model.onnx", "onnx/model.onnx"])
def test_weights_of_a_published_folder_are_called_like_it(file: str, tmp_path: Path) -> None:
    model, _ = convolutions()
    place = tmp_path / "a-network" / file
    place.parent.mkdir(parents=True)
    saved(model, place)
    weights = resolve_weights(
        open_network(tmp_path / "a-network", Memo(tmp_path / "memo.sqlite")), "auto",
        cache_dir=tmp_path, memo=Memo(tmp_path / "memo.sqlite"), preprocess=PRESETS[PREPROCESS],
    )  # fmt: skip
    assert weights.name == "a-network.onnx"
    assert weights.path == place
