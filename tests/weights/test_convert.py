"""Converted copies: the same numbers bit for bit, the preprocessing inside, whole or not there."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.backbones.catalog import BACKBONES
from probe.core.memo import Memo
from probe.errors import UnsafeFileError, UsageError, WeightsError
from probe.preprocess.spec import CAFFE_BGR, TORCHVISION, PreprocessSpec
from probe.weights import (
    ResolvedWeights,
    backbone_for,
    convert_weights,
    load_parameters,
    open_tensors,
    resolve_weights,
    with_mean,
)
from probe.weights.fit import shapes_of
from tests.weights import published, writers, writers_proto
from tests.weights.helpers import draw, lite0_file, shared

SQUEEZE = BACKBONES["squeezenet1_1"]


def resolve(
    path: Path, backbone: str = "squeezenet1_1", preprocess: PreprocessSpec | None = None
) -> ResolvedWeights:
    return resolve_weights(
        BACKBONES[backbone], str(path), cache_dir=path.parent,
        memo=Memo(path.parent / "memo.sqlite"), preprocess=preprocess,
    )  # fmt: skip


@pytest.fixture
def torch_file(tmp_path: Path) -> Path:
    return writers.write_torch_zip(tmp_path / "s.pth", draw(published.squeezenet("squeezenet1_1")))


def test_back_and_forth_is_bit_for_bit(torch_file: Path, tmp_path: Path) -> None:
    source = resolve(torch_file, preprocess=TORCHVISION)
    params = convert_weights(source, SQUEEZE, tmp_path / "1.params")
    safe = convert_weights(resolve(params.path), SQUEEZE, tmp_path / "2.safetensors")
    again = convert_weights(resolve(safe.path), SQUEEZE, tmp_path / "3.params")
    once_more = convert_weights(resolve(again.path), SQUEEZE, tmp_path / "4.safetensors")
    assert params.path.read_bytes() == again.path.read_bytes()
    assert safe.path.read_bytes() == once_more.path.read_bytes()
    assert len({one.digest for one in (params, safe, again, once_more)}) == 1
    whole = load_parameters(torch_file, SQUEEZE, SQUEEZE.logits)
    assert whole.digest == params.digest
    copied = load_parameters(again.path, SQUEEZE, SQUEEZE.logits).parameters
    for name, array in whole.parameters.items():
        np.testing.assert_array_equal(copied[name], array)


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v2"])
@pytest.mark.parametrize("ending", [".params", ".safetensors"])
def test_every_layer_has_the_same_parameters_before_and_after(
    name: str, ending: str, tmp_path: Path
) -> None:
    """So that a fine-tuned network's file can be cut and cached like any other."""
    backbone, memo = BACKBONES[name], Memo(tmp_path / "memo")
    rng = np.random.default_rng(0)
    arrays = {
        one: rng.uniform(0.5, 1.5, shape).astype(np.float32)
        for one, shape in shapes_of(name).items()
        if name != "mobilenet_v2" or not one.startswith("output")  # a network without its top
    }
    first = writers.write_safetensors(tmp_path / "first.safetensors", arrays)
    weights = resolve_weights(
        backbone, str(first), cache_dir=tmp_path, memo=memo, preprocess=TORCHVISION
    )
    done = convert_weights(weights, backbone, tmp_path / f"copy{ending}")
    copy = resolve_weights(backbone, str(done.path), cache_dir=tmp_path, memo=memo, preprocess=None)
    assert copy.preprocess == TORCHVISION
    assert copy.held(backbone, memo) == weights.held(backbone, memo)
    for layer in copy.held(backbone, memo):
        cut = backbone.layer(layer)
        assert copy.digest(backbone, cut, memo) == weights.digest(backbone, cut, memo)


@pytest.mark.parametrize(
    ("backbone", "material"), [("vgg16", "vgg16_imagenet_notop.h5"), ("efficientnet_lite0", "")]
)
def test_real_weights_survive(backbone: str, material: str, tmp_path: Path) -> None:
    path = shared("weights", material) if material else lite0_file()
    spec = BACKBONES[backbone]
    weights = resolve_weights(
        spec, str(path), cache_dir=tmp_path, memo=Memo(tmp_path / "memo.sqlite"), preprocess=None
    )
    layer = spec.layer("pool5" if backbone == "vgg16" else "gap")
    for suffix in (".params", ".safetensors"):
        done = convert_weights(weights, spec, tmp_path / f"copy{suffix}")
        assert done.layer == layer.name
        copy = resolve(done.path, backbone)
        assert (copy.preprocess, copy.decided_by) == (weights.preprocess, "inside the file")
        assert (
            load_parameters(done.path, spec, layer).digest
            == load_parameters(path, spec, layer).digest
        )


def test_half_precision_is_widened_exactly(tmp_path: Path) -> None:
    arrays = {
        k: v.astype(np.float16) for k, v in draw(published.squeezenet("squeezenet1_1")).items()
    }
    path = writers.write_torch_zip(tmp_path / "half.pth", arrays)
    done = convert_weights(resolve(path, preprocess=TORCHVISION), SQUEEZE, tmp_path / "w.params")
    got = load_parameters(done.path, SQUEEZE, SQUEEZE.layer("fire2")).parameters
    np.testing.assert_array_equal(
        got["features.0.weight"], arrays["features.0.weight"].astype(np.float32)
    )


def test_gluon_loads_what_was_written_without_being_asked_twice(
    torch_file: Path, tmp_path: Path, mx: Any
) -> None:
    """The preprocessing lies behind the list, where MXNet does not look."""
    from tests.zoo import zoo_network

    done = convert_weights(
        resolve(torch_file, preprocess=TORCHVISION), SQUEEZE, tmp_path / "w.params"
    )
    net = zoo_network(mx, SQUEEZE.name)
    net.load_parameters(str(done.path))
    expected = load_parameters(torch_file, SQUEEZE, SQUEEZE.logits).parameters
    for name, parameter in net._collect_params_with_prefix().items():
        np.testing.assert_array_equal(parameter.data().asnumpy(), expected[name])


def test_safetensors_library_loads_what_was_written(torch_file: Path, tmp_path: Path) -> None:
    from safetensors import safe_open

    done = convert_weights(
        resolve(torch_file, preprocess=CAFFE_BGR), SQUEEZE, tmp_path / "w.safetensors"
    )
    with safe_open(done.path, framework="numpy") as file:
        assert json.loads(file.metadata()["probe.preprocess"]) == CAFFE_BGR.to_json()
        assert file.get_tensor("features.0.weight").shape == (64, 3, 3, 3)


def test_the_copy_says_what_it_is_for(torch_file: Path, tmp_path: Path) -> None:
    done = convert_weights(
        resolve(torch_file, preprocess=replace(TORCHVISION, name="mine", size=96)),
        SQUEEZE,
        tmp_path / "w.params",
    )
    assert open_tensors(done.path).metadata["probe.backbone"] == "squeezenet1_1"
    assert open_tensors(done.path).metadata["probe.source"] == "s.pth"
    assert backbone_for(str(done.path), Memo(tmp_path / "memo.sqlite")) is SQUEEZE
    assert resolve(done.path).preprocess.size == 96
    with pytest.raises(WeightsError, match="says that it holds weights of squeezenet1_1"):
        resolve(done.path, "squeezenet1_0")


def test_nothing_is_overwritten_unasked_and_failures_leave_nothing(
    torch_file: Path, tmp_path: Path
) -> None:
    weights = resolve(torch_file, preprocess=TORCHVISION)
    target = tmp_path / "out" / "w.params"
    convert_weights(weights, SQUEEZE, target)
    before = target.stat().st_mtime_ns
    with pytest.raises(UsageError, match="exists already; --overwrite replaces it"):
        convert_weights(weights, SQUEEZE, target)
    assert target.stat().st_mtime_ns == before
    convert_weights(weights, SQUEEZE, target, overwrite=True)
    assert target.stat().st_mtime_ns != before
    with pytest.raises(UsageError, match=r"has to end in .params or .safetensors"):
        convert_weights(weights, SQUEEZE, tmp_path / "w.npz")
    bad = draw(published.squeezenet("squeezenet1_1"))
    bad["classifier.1.weight"][0] = np.nan
    writers.write_torch_zip(torch_file, bad)
    with pytest.raises(WeightsError, match=r"output.0.weight holds NaN"):
        convert_weights(
            resolve(torch_file, preprocess=TORCHVISION), SQUEEZE, target.with_name("b.params")
        )
    assert os.listdir(target.parent) == ["w.params"]


def test_a_file_without_a_known_preprocessing_is_not_converted(torch_file: Path) -> None:
    with pytest.raises(UsageError, match="--preprocess torchvision, which is"):
        resolve(torch_file)


def test_backbones_are_told_from_files(torch_file: Path, tmp_path: Path) -> None:
    memo = Memo(tmp_path / "memo.sqlite")
    assert backbone_for(str(torch_file), memo) is SQUEEZE
    assert backbone_for("vgg19.keras", memo).name == "vgg19"
    other = writers.write_torch_zip(tmp_path / "o.pth", {"a": np.ones(3, np.float32)})
    with pytest.raises(WeightsError, match="fits no backbone"):
        backbone_for(str(other), memo)
    with pytest.raises(WeightsError, match="neither a file nor a name"):
        backbone_for("nowhere.pth", memo)


@pytest.mark.parametrize(
    "tail", [b"\xff" * 8, b"\x05" + b"\0" * 7 + b"[1, 2", b"\x02" + b"\0" * 7 + b"[]"]
)
def test_damaged_metadata_behind_the_names_are_refused(tail: bytes, tmp_path: Path) -> None:
    path = writers.write_gluon(tmp_path / "w.params", {"a": np.ones(3, np.float32)})
    path.write_bytes(path.read_bytes() + b"probe.metadata\0\0" + tail)
    with pytest.raises(UnsafeFileError, match=r"metadata|claims"):
        open_tensors(path)
    whole = writers.write_gluon(tmp_path / "v.params", {"a": np.ones(3, np.float32)})
    whole.write_bytes(whole.read_bytes() + b"something else that follows")
    assert open_tensors(whole).metadata == {}


def test_caffes_mean_image_becomes_the_channel_means(torch_file: Path, tmp_path: Path) -> None:
    mean = np.arange(3, dtype=np.float32).reshape(3, 1, 1) + np.zeros((3, 4, 5), np.float32)
    path = writers_proto.write_mean(tmp_path / "mean.binaryproto", mean)
    found = with_mean(resolve(torch_file, preprocess=CAFFE_BGR), path)
    assert found.preprocess.mean == (0.0, 1.0, 2.0)
    with pytest.raises(UsageError, match="unlike torchvision"):
        with_mean(resolve(torch_file, preprocess=TORCHVISION), path)
