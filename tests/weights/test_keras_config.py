"""What Keras's files say of their model: another network is refused, and the layer is named."""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from probe.backbones.catalog import BACKBONES
from probe.errors import WeightsError
from probe.weights import load_parameters, open_tensors
from probe.weights.architecture import difference
from probe.weights.fit import fit_file, holds_layers
from probe.weights.keras_graph import keras_graph
from probe.weights.symbol_graph import own_graph
from probe.weights.tensors import LazyTensor, TensorFile
from tests.weights import writers
from tests.weights.published import keras_vgg

Layer = dict[str, Any]  # class_name, name, config, and `after`: the names of what it takes
VGG16 = BACKBONES["vgg16"]
RELU: Any = "relu"


def layer(kind: str, name: str, *after: str, **config: Any) -> Layer:
    return {"class_name": kind, "config": {"name": name, **config}, "name": name, "after": after}


def conv(name: str, after: str, **config: Any) -> Layer:
    usual = {
        "kernel_size": [3, 3], "strides": [1, 1], "padding": "same", "activation": RELU,
        "dilation_rate": [1, 1], "data_format": "channels_last", "groups": 1,
    }  # fmt: skip
    return layer("Conv2D", name, after, **(usual | config))


def pool(name: str, after: str, **config: Any) -> Layer:
    usual = {"pool_size": [2, 2], "strides": [2, 2], "padding": "valid"}
    return layer("MaxPooling2D", name, after, data_format="channels_last", **(usual | config))


def vgg16(*, top: bool = True) -> list[Layer]:
    """keras/src/applications/vgg16.py."""
    found = [layer("InputLayer", "input_1")]
    last = "input_1"
    for block, count in enumerate((2, 2, 3, 3, 3), start=1):
        for number in range(1, count + 1):
            found.append(conv(f"block{block}_conv{number}", last))
            last = f"block{block}_conv{number}"
        found.append(pool(f"block{block}_pool", last))
        last = f"block{block}_pool"
    if top:
        found += [
            layer("Flatten", "flatten", last, data_format="channels_last"),
            layer("Dense", "fc1", "flatten", units=4096, activation=RELU),
            layer("Dense", "fc2", "fc1", units=4096, activation=RELU),
            layer("Dense", "predictions", "fc2", units=1000, activation="softmax"),
        ]
    return found


def keras2(layers: list[Layer], kind: str = "Functional") -> str:
    listed = [
        {key: value for key, value in one.items() if key != "after"}
        | {"inbound_nodes": [[[name, 0, 0, {}] for name in one["after"]]] if one["after"] else []}
        for one in layers
    ]
    ends = {"input_layers": [[listed[0]["name"], 0, 0]], "output_layers": [[listed[-1]["name"], 0,
            0]]}  # fmt: skip
    return json.dumps({"class_name": kind, "config": {"name": "m", "layers": listed, **ends}})


def keras3(layers: list[Layer]) -> str:
    def tensor(name: str) -> Layer:
        return {"class_name": "__keras_tensor__", "config": {"keras_history": [name, 0, 0]}}

    def call(names: tuple[str, ...]) -> list[Layer]:
        given: Any = [tensor(one) for one in names]
        return [{"args": [given] if len(names) > 1 else given, "kwargs": {}}] if names else []

    listed = [
        {**one, "module": "keras.layers", "registered_name": None, "after": None,
         "inbound_nodes": call(one["after"])} for one in layers
    ]  # fmt: skip
    ends = {"input_layers": [[listed[0]["name"], 0, 0]], "output_layers": [listed[-1]["name"], 0,
            0]}  # fmt: skip
    return json.dumps({"class_name": "Functional", "config": {"layers": listed, **ends}})


def sequential(layers: list[Layer]) -> str:
    return json.dumps({"class_name": "Sequential", "config": layers[1:]})  # as Keras 1 wrote it


def inside(layers: list[Layer]) -> str:
    """A model in a model, as in fine-tuning."""
    inner = json.loads(keras2(layers))
    base = {**inner, "name": "base", "after": ("outer",)}
    head = layer("Dense", "dense", "base", units=2, activation="softmax")
    return keras2([layer("InputLayer", "outer"), base, head])


WAYS = {"keras 2": keras2, "keras 3": keras3, "sequential": sequential, "inside": inside}


def shapes() -> dict[str, tuple[int, ...]]:
    return dict(keras_vgg("vgg16"))


def verdict(text: str) -> str | None:
    tensors = {
        one: LazyTensor(shape, "float32", lambda _, __: np.empty(0))
        for one, shape in shapes().items()
    }
    fit = fit_file(TensorFile(Path("w.h5"), "keras", tensors), VGG16)
    assert fit is not None
    graph = keras_graph(text, shapes())
    assert graph is not None
    canonical = {source.names[0]: name for name, source in fit.naming.sources.items()}
    return difference(
        graph, backbone="vgg16", own=own_graph("vgg16"), size=224, canonical=canonical,
        absent=frozenset(),
    )  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_vgg16s_own_configurations_are_its_own(way: str) -> None:
    assert verdict(WAYS[way](vgg16())) is None
    changed = edit("block3_conv2", strides=[2, 2])(vgg16())
    told = verdict(WAYS[way](changed))
    assert told is not None
    assert "block3_conv2 (convolution" in told
    assert "stride 2 where vgg16 has 1" in told


Change = Callable[[list[Layer]], list[Layer]]


def edit(name: str, kind: str = "", **config: Any) -> Change:
    def change(layers: list[Layer]) -> list[Layer]:
        assert name in [one["name"] for one in layers]
        return [
            {**one, "class_name": kind or one["class_name"], "config": one["config"] | config}
            if one["name"] == name
            else one
            for one in layers
        ]

    return change


def before(name: str, new: Layer) -> Change:
    def change(layers: list[Layer]) -> list[Layer]:
        at = [one["name"] for one in layers].index(name)
        return [*layers[:at], new, {**layers[at], "after": (new["name"],)}, *layers[at + 1 :]]

    return change


def all_first(layers: list[Layer], flatten: str | None = "channels_first") -> list[Layer]:
    """The same model for channels before sides; `flatten` is what its Flatten says."""
    found = []
    for one in layers:
        config = dict(one["config"])
        if "data_format" in config:
            config["data_format"] = "channels_first"
        if one["class_name"] == "Flatten":
            config["data_format"] = flatten
        found.append({**one, "config": config})
    return found


MORE = layer(
    "MaxPooling2D", "more", "block2_conv2", pool_size=[3, 3], strides=[1, 1], padding="same"
)
VARIANTS: dict[str, tuple[Change, str]] = {
    "a padding": (edit("block1_conv2", padding="valid"), "block1_conv2 .* pads 0 where .* has 1"),
    "a dilation": (edit("block4_conv1", dilation_rate=[2, 2]), "block4_conv1 .* dilation 2 where"),
    "a kernel": (edit("block4_conv1", kernel_size=[5, 5]), "block4_conv1 .* kernel 5 where"),
    "groups": (edit("block4_conv1", groups=2), "block4_conv1 .* groups 2 where"),
    "no activation": (edit("block5_conv1", activation="linear"), "takes convolution .* ReLU"),
    "another": (edit("block5_conv1", activation="gelu"), r"block5_conv1 \(gelu\) stands where"),
    "no last activation": (edit("fc2", activation=None), "predictions .* where .* takes ReLU"),
    "a pool's kind": (edit("block5_pool", "AveragePooling2D"), "block5_pool .*2x2 avg pool"),
    "a pool's stride": (edit("block2_pool", strides=[1, 1]), "block2_pool .*stride 1"),
    "a pool's size": (edit("block2_pool", pool_size=[3, 3]), "block2_pool .*3x3 max pool"),
    "a pool more": (before("block2_pool", MORE), "more .*3x3 max pool"),
    "global": (edit("flatten", "GlobalAveragePooling2D"), "fc1 .*takes|flatten .*global average"),
    "a norm more": (
        before("block2_pool", layer("LayerNormalization", "ln", "block2_conv2", axis=-1)),
        r"ln \(LayerNormalization\) stands",
    ),
    "padding as a layer": (
        before("block2_pool", layer("ZeroPadding2D", "zp", "block2_conv2", padding=[[0, 1],
               [0, 1]])), "zp|block2_pool",
    ),
    "preprocessing inside": (
        before("block1_conv1", layer("Rescaling", "r", "input_1", scale=0.1, offset=0.0)),
        "r .*preprocessing inside a graph is not read",
    ),
    "a flattening of channels first": (
        lambda layers: all_first(layers, "channels_last"), "fc1|flatten",
    ),
    "an older flattening of channels first": (lambda layers: all_first(layers, None), "fc1"),
    "two formats": (
        edit("block3_conv1", data_format="channels_first"), "block3_conv1 .*with channels first",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", VARIANTS)
def test_each_variant_is_refused_and_its_layer_named(case: str) -> None:
    change, message = VARIANTS[case]
    told = verdict(keras2(change(vgg16())))
    assert told is not None
    assert re.search(message, told), told
    assert told == verdict(keras3(change(vgg16())))


def called(text: str, name: str, call: Any) -> str:
    """A configuration with one layer called otherwise."""
    model = json.loads(text)
    for one in model["config"]["layers"]:
        if one["name"] == name:
            one["inbound_nodes"] = [call]
    return json.dumps(model)


def test_an_operation_of_tensorflow_in_a_model_is_named() -> None:
    """As `preprocess_input(inputs)` inside a model leaves them; they are called in another form."""
    for kind, given in (
        ("TFOpLambda", {"y": [103.9, 116.8, 123.7], "name": None}),
        ("SlicingOpLambda", {"slice_spec": [{"start": None, "stop": None, "step": -1}]}),
    ):
        text = keras2(before("block1_conv1", layer(kind, "tf.op", "input_1"))(vgg16()))
        told = verdict(called(text, "tf.op", ["input_1", 0, 0, given]))
        assert told is not None
        assert re.search(rf"tf.op \({kind}\) .*preprocessing inside a graph is not read", told)


@pytest.mark.parametrize("training", [True, False])
def test_dropout_that_stays_on_is_named(training: bool) -> None:
    layers = before("block2_pool", layer("Dropout", "drop", "block2_conv2"))(vgg16())
    given = {"training": training}
    older = called(keras2(layers), "drop", [["block2_conv2", 0, 0, given]])
    history = {"keras_history": ["block2_conv2", 0, 0]}
    tensor = {"class_name": "__keras_tensor__", "config": history}
    newer = called(keras3(layers), "drop", {"args": [tensor], "kwargs": given})
    for text in (older, newer):
        told = verdict(text) or ""
        assert told.startswith("drop (Dropout called with training=True)" if training else "")
        assert bool(told) == training


def test_a_layer_whose_settings_cannot_be_read_is_named_not_passed_over() -> None:
    told = verdict(keras2(edit("block3_conv2", padding="causal")(vgg16())))
    assert told is not None
    assert "block3_conv2 (Conv2D with settings that are not known" in told


def test_channels_first_is_read_where_it_flattens_alike() -> None:
    """Keras's Flatten turns such a map to channels last, so that the kernel is the same."""
    assert verdict(keras2(all_first(vgg16()))) is None


@pytest.mark.parametrize(
    ("kind", "config", "expected"),
    [
        ("ReLU", {"max_value": 6.0}, [("clip", {"low": 0, "high": 6.0})]),
        ("ReLU", {"max_value": {"value": 6.0}}, [("clip", {"low": 0, "high": 6.0})]),
        ("ReLU", {"negative_slope": 0.1}, [("leaky ReLU", {"slope": 0.1, "threshold": 0})]),
        ("Activation", {"activation": "relu"}, [("clip", {"low": 0, "high": math.inf})]),
        ("Activation", {"activation": "linear"}, [("same", {})]),
        ("Activation", {"activation": {"class_name": "function", "config": "relu6"}},
         [("clip", {"low": 0, "high": 6})]),
        ("BatchNormalization", {"epsilon": 1.001e-5, "axis": [3]},
         [("norm", {"epsilon": 1.001e-5})]),
        ("BatchNormalization", {"axis": 1}, [("norm", {"epsilon": 1e-3, "axis": 1})]),
        ("ZeroPadding2D", {"padding": [3, 2]}, [("pad", {"pads": (3, 2, 3, 2)})]),
        ("ZeroPadding2D", {"padding": [[0, 1], [2, 3]]}, [("pad", {"pads": (0, 2, 1, 3)})]),
        ("Concatenate", {"axis": 3}, [("concat", {"axis": 1})]),
        ("Merge", {"mode": "concat", "concat_axis": -1}, [("concat", {"axis": 1})]),
        ("Merge", {"mode": "sum"}, [("add", {})]),
        ("Reshape", {"target_shape": [1, 1, 1024]}, [("flatten", {})]),
        ("GlobalAveragePooling2D", {}, [("mean", {"axes": (2, 3)})]),
        ("Convolution2D", {"nb_row": 3, "nb_col": 3, "subsample": [2, 2], "border_mode": "same"},
         [("conv", {"kernel": (3, 3), "stride": (2, 2), "pads": "same_upper", "dilation": (1, 1),
                    "groups": 1})]),
        ("DepthwiseConv2D", {"kernel_size": [3, 3], "strides": [1, 1], "padding": "valid"},
         [("conv", {"kernel": (3, 3), "stride": (1, 1), "pads": (0, 0, 0, 0), "dilation": (1, 1),
                    "groups": 8})]),
    ],
)  # fmt: skip
def test_layers_of_other_networks(
    kind: str, config: Mapping[str, Any], expected: list[tuple[str, Any]]
) -> None:
    one = layer(kind, "one", "input_1", **config)
    graph = keras_graph(
        keras2([layer("InputLayer", "input_1"), one]), {"one/depthwise_kernel": (3, 3, 8, 1)}
    )
    assert graph is not None
    assert [(node.op, node.settings) for node in graph.nodes] == expected


def test_files_are_held_against_their_own_configuration(tmp_path: Path) -> None:
    arrays = {
        one: np.zeros(shape, "f2") for one, shape in shapes().items() if one.startswith("block")
    }
    path = writers.write_keras(tmp_path / "w.h5", arrays, root="model_weights")
    assert open_tensors(path).graph is None  # weights alone say nothing
    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = keras2(vgg16(top=False)).encode()
    assert open_tensors(path).graph is not None
    assert holds_layers(open_tensors(path), VGG16)[-1] == "pool5"
    changed = edit("block4_pool", "AveragePooling2D")(vgg16(top=False))
    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = keras2(changed)
    with pytest.raises(WeightsError, match=r"its network differs from .*block4_pool \(2x2 avg"):
        load_parameters(path, VGG16, VGG16.layer("pool5"))
    archive = tmp_path / "w.keras"
    inner = io.BytesIO(path.read_bytes())
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("config.json", keras3(changed))
        file.writestr("model.weights.h5", inner.getvalue())
    with pytest.raises(WeightsError, match=r"its network differs from .*block4_pool \(2x2 avg"):
        load_parameters(archive, VGG16, VGG16.layer("pool5"))


@pytest.mark.parametrize(
    "text", ["[", "[]", '{"config": 3}', '{"class_name": "Model", "config": {"layers": [1]}}',
             "[" * 100_000, '{"class_name": "Functional", "config": {"layers": [{}]}}'],
)  # fmt: skip
def test_a_damaged_configuration_is_said_and_passed_over(
    text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "w.keras"
    writers.write_keras_zip(path, {"a/kernel": np.zeros((2, 2), "f4")})
    with zipfile.ZipFile(path) as file:
        inner = file.read("model.weights.h5")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", text)
        file.writestr("model.weights.h5", inner)
    assert open_tensors(path).graph is None
    (record,) = caplog.records
    assert "cannot be read" in record.message
    assert "\n" not in record.message


def test_models_inside_models_end() -> None:
    with pytest.raises(ValueError, match="too deeply"):
        keras_graph(json.dumps(nested(30)), {})


def nested(depth: int) -> dict[str, Any]:
    inner = [nested(depth - 1)] if depth else []
    return {"class_name": "Sequential", "name": "m", "config": {"name": "m", "layers": inner}}
