"""Weights in a folder as transformers and timm publish it, with their preprocessing beside them."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from probe.backbones.catalog import BACKBONES
from probe.core.memo import Memo
from probe.errors import UsageError, WeightsError
from probe.preprocess.published import PROCESSOR_FILE, decode_published
from probe.preprocess.spec import TORCHVISION, PreprocessSpec
from probe.weights import ResolvedWeights, fitting_backbones, held_layers, resolve_weights
from probe.weights.foreign import backbone_called
from tests.commands import probe
from tests.preprocess.test_published import FILES
from tests.weights import published, writers
from tests.weights.helpers import draw, pretend

RESNET, VIT = FILES["resnet"]["file"], FILES["vit"]["file"]
TIMM = FILES["resnet50.a1_in1k"]["file"]
ARRAYS = {"conv": np.ones((2, 3), np.float32)}


def spec_of(file: object) -> PreprocessSpec:
    spec = decode_published(file, Path("x"))
    assert spec is not None
    return spec


def resolve(path: Path, asked: PreprocessSpec | None = None) -> ResolvedWeights:
    return resolve_weights(
        BACKBONES["resnet50"], str(path), cache_dir=path.parent / "cache",
        memo=Memo(path.parent / "memo.sqlite"), preprocess=asked,
    )  # fmt: skip


def weights(folder: Path, name: str = "model.safetensors") -> Path:
    folder.mkdir(exist_ok=True)
    return writers.write_safetensors(folder / name, ARRAYS)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("preprocessor_config.json", RESNET),
        ("processor_config.json", {"image_processor": RESNET}),
        ("open_clip_config.json", FILES["ViT-B-32"]["file"]),
        ("config.json", TIMM),
    ],
)
def test_what_a_file_beside_the_weights_states_is_used_and_said(
    name: str, file: object, tmp_path: Path
) -> None:
    path = weights(tmp_path)
    (tmp_path / name).write_text(json.dumps(file))
    found = resolve(path)
    article = "an" if name.startswith("o") else "a"
    stated_by = f"{article} {name} beside the file"
    assert (found.preprocess, found.decided_by) == (spec_of(file), stated_by)


def test_of_an_exported_network_the_folder_above_states_it(tmp_path: Path) -> None:
    path = weights(tmp_path / "onnx", "model.onnx")
    (tmp_path / PROCESSOR_FILE).write_text(json.dumps(RESNET))
    assert resolve(path).preprocess == spec_of(RESNET)


def test_what_is_asked_for_wins_and_a_difference_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = weights(tmp_path)
    (tmp_path / PROCESSOR_FILE).write_text(json.dumps(RESNET))
    with caplog.at_level(logging.WARNING):
        assert resolve(path, spec_of(RESNET)).decided_by == "asked for"
        assert not caplog.records
        assert resolve(path, TORCHVISION).preprocess == TORCHVISION
    assert "model.safetensors, by preprocessor_config.json beside it, has" in caplog.text


def test_what_probe_cannot_say_is_refused_until_one_is_asked_for(tmp_path: Path) -> None:
    path = weights(tmp_path)
    (tmp_path / PROCESSOR_FILE).write_text(json.dumps(RESNET | {"resample": 1}))
    with pytest.raises(UsageError, match=r"preprocessor_config\.json: field resample is 1"):
        resolve(path)
    assert resolve(path, TORCHVISION).preprocess == TORCHVISION


def test_what_the_file_says_itself_comes_first(tmp_path: Path) -> None:
    (tmp_path / PROCESSOR_FILE).write_text(json.dumps(RESNET))
    own = replace(TORCHVISION, name="mine", size=96)
    note = {"probe.preprocess": json.dumps(own.to_json())}
    path = writers.write_safetensors(tmp_path / "model.safetensors", ARRAYS, note)
    assert (resolve(path).preprocess, resolve(path).decided_by) == (own, "inside the file")


def test_of_several_networks_it_is_that_of_the_one_with_a_usual_name(tmp_path: Path) -> None:
    (tmp_path / PROCESSOR_FILE).write_text(json.dumps(RESNET))
    mine = weights(tmp_path, "mine.safetensors")
    assert resolve(mine).preprocess == spec_of(RESNET)  # the only one
    usual = weights(tmp_path)
    assert resolve(usual).preprocess == spec_of(RESNET)
    with pytest.raises(UsageError, match="trained with is unknown"):
        resolve(mine)


def test_an_exported_network_whose_preprocessing_is_refused_runs_with_another(
    tmp_path: Path,
) -> None:
    kernel = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype("f4")
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["pixel_values", "kernel"], ["maps"]),
            helper.make_node("GlobalAveragePool", ["maps"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["row"]),
        ],
        "network",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["N", 3, 16, 16])],
        [helper.make_tensor_value_info("row", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]),
              tmp_path / "model.onnx")  # fmt: skip
    memo, right = Memo(tmp_path / "memo.sqlite"), VIT | {"size": {"height": 16, "width": 16}}
    (tmp_path / PROCESSOR_FILE).write_text(json.dumps(right))
    network = backbone_called(str(tmp_path), memo)
    found = resolve_weights(network, "auto", cache_dir=tmp_path, memo=memo, preprocess=None)
    assert found.preprocess == spec_of(right)
    assert found.decided_by == "a preprocessor_config.json beside the file"
    (tmp_path / PROCESSOR_FILE).write_text(json.dumps(right | {"resample": 1}))
    network = backbone_called(str(tmp_path), memo)
    with pytest.raises(UsageError, match=r"_config\.json: field resample is 1, lanczos"):
        resolve_weights(network, "auto", cache_dir=tmp_path, memo=memo, preprocess=None)
    other = spec_of(right)
    found = resolve_weights(network, "auto", cache_dir=tmp_path, memo=memo, preprocess=other)
    assert (found.preprocess, found.decided_by) == (other, "asked for")


@pytest.mark.parametrize(
    ("architecture", "backbone", "names"),
    [
        ("resnet50", "resnet50", published.resnet(50)),
        ("resnetblur50", "resnet50", published.resnet(50)),
        ("resnetaa50", "resnet50", published.resnet(50)),
        ("resnetblur18", "resnet18_v1", published.resnet(18)),
        ("tf_efficientnet_lite0", "efficientnet_lite0", published.timm_lite0()),
        ("efficientnet_lite0", "efficientnet_lite0", published.timm_lite0()),
    ],
)
@pytest.mark.parametrize("told_by", ["config.json", "the file's name"])
def test_timms_look_alikes_are_told_by_its_config_and_by_name(
    told_by: str, architecture: str, backbone: str, names: published.Names, tmp_path: Path
) -> None:
    name = "model" if told_by == "config.json" else f"{architecture}-0a1b2c3d"
    file = replace(pretend(names, "safetensors"), path=tmp_path / f"{name}.safetensors")
    if told_by == "config.json":
        (tmp_path / "config.json").write_text(json.dumps(TIMM | {"architecture": architecture}))
    right = architecture in ("resnet50", "tf_efficientnet_lite0")
    assert (backbone in fitting_backbones(file)) == right


@pytest.mark.parametrize("layers", [18, 50])
@pytest.mark.parametrize(
    ("config", "right"),
    [
        ({}, True),
        ({"downsample_in_bottleneck": False, "hidden_act": "relu"}, True),
        ({"downsample_in_bottleneck": True}, False),
        ({"downsample_in_first_stage": True}, False),
        ({"hidden_act": "gelu"}, False),
        ({"hidden_act": "gelu", "model_type": "another program's"}, True),
    ],
)
def test_another_resnet_of_transformers_is_told_by_its_config(
    layers: int, config: dict[str, object], right: bool, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "resnet"} | config))
    names = published.transformers_resnet(layers)
    file = replace(pretend(names, "safetensors"), path=tmp_path / "model.safetensors")
    assert (f"resnet{layers}" in fitting_backbones(file)) == right
    elsewhere = replace(file, path=tmp_path / "other" / "model.safetensors")
    assert f"resnet{layers}" in fitting_backbones(elsewhere)


def test_a_resnet_of_transformers_that_strides_first_is_v1_without_biases(tmp_path: Path) -> None:
    names = published.transformers_resnet(50)
    file = replace(pretend(names, "safetensors"), path=tmp_path / "model.safetensors")
    assert fitting_backbones(file) == ("resnet50",)
    config = {"model_type": "resnet", "downsample_in_bottleneck": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert fitting_backbones(file) == ("resnet50_v1",)
    (tmp_path / "config.json").write_text(json.dumps(config | {"hidden_act": "gelu"}))
    assert fitting_backbones(file) == ()


@pytest.mark.parametrize("folder", ["weights", "onnx"])  # of the latter the one above is meant
def test_a_config_that_comes_later_is_seen(folder: str, tmp_path: Path) -> None:
    arrays = draw(published.resnet(18))
    (tmp_path / folder).mkdir()
    path = writers.write_safetensors(tmp_path / folder / "model.safetensors", arrays)
    memo = Memo(tmp_path / "memo.sqlite")
    assert held_layers(path, BACKBONES["resnet18"], memo)
    config = (tmp_path if folder == "onnx" else path.parent) / "config.json"
    config.write_text(json.dumps(TIMM | {"architecture": "resnetblur18"}))
    with pytest.raises(WeightsError, match="timm's network that blurs"):
        held_layers(path, BACKBONES["resnet18"], memo)


def test_show_says_it(tmp_path: Path) -> None:
    path = weights(tmp_path)
    assert "not known; give it with --preprocess" in probe("weights", "show", path)
    (tmp_path / PROCESSOR_FILE).write_text(json.dumps(RESNET))
    shown = " ".join(probe("weights", "show", path).split())
    assert "by preprocessor_config.json beside it: ConvNextImageProcessor" in shown
