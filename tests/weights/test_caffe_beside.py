"""Caffe's models as they lie about: converted for MXNet, with a prototxt, with a mean image."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.backbones.catalog import BACKBONES
from probe.core.memo import Memo
from probe.errors import UsageError, WeightsError
from probe.extraction.request import Prepared, Request, prepare, repeat
from probe.extraction.transformer import FrozenBackbone
from probe.preprocess.load import load_preprocess
from probe.weights import ResolvedWeights, resolve_weights, with_mean
from probe.weights.fit import fit_file
from probe.weights.gluon_file import read_gluon
from probe.weights.prototxt import prototxt_beside, read_prototxt
from probe.weights.tensors import TensorFile
from tests.weights import writers, writers_proto
from tests.weights.published import caffe_vgg

DEPLOY = """name: "cats"  # a comment
input: "data" input_dim: 10 input_dim: 3 input_dim: 227 input_dim: 227
layer { name: "conv1" type: 'Convolution' bottom: "data" top: "conv1" }
"""
SHAPED = 'layer { name: "d" type: "Input" input_param { shape: { dim: [1, 3, 227, 227] } } }'
TRAIN = """
layer { name: "data" type: "ImageData" include { phase: TRAIN }
  transform_param { mirror: true crop_size: 227 mean_value: 104 mean_value: 117 mean_value: 123
                    scale: 0.017 }
  image_data_param { source: "train.txt" new_height: 256 new_width: 256 } }
"""


def caffe_vgg11(folder: Path) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {name: shape for name, shape in caffe_vgg("vgg11").items() if "fc" not in name}
    return {name: rng.normal(size=shape).astype("f4") for name, shape in shapes.items()}


def resolved(path: Path, tmp_path: Path, preprocess: str | None = None) -> ResolvedWeights:
    given = load_preprocess(preprocess) if preprocess else None
    return resolve_weights(
        BACKBONES["vgg11"], str(path), cache_dir=tmp_path, memo=Memo(tmp_path / "memo.sqlite"),
        preprocess=given,
    )  # fmt: skip


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return writers_proto.write_caffe(tmp_path / "cats.caffemodel", caffe_vgg11(tmp_path))


def test_mxnets_caffe_converter_turned_the_first_convolution(tmp_path: Path) -> None:
    arrays = caffe_vgg11(tmp_path)
    # tools/caffe_converter/convert_model.py: wmat[:, [0, 2]] = wmat[:, [2, 0]] of the first one
    converted = {
        f"arg:{name.replace('/0', '_weight').replace('/1', '_bias')}": array
        for name, array in arrays.items()
    }
    converted["arg:conv1_1_weight"] = converted["arg:conv1_1_weight"][:, [2, 1, 0]]
    path = writers.write_gluon(tmp_path / "vgg11-0001.params", converted)
    fit = fit_file(read_gluon(path), BACKBONES["vgg11"])
    original = fit_file(writers_proto_file(tmp_path, arrays), BACKBONES["vgg11"])
    assert fit is not None
    assert original is not None
    assert not fit.problems(BACKBONES["vgg11"], BACKBONES["vgg11"].layer("pool5"))
    assert any("RGB" in note for note in fit.omitted)
    for canonical, source in original.naming.sources.items():
        if canonical in original.missing:
            continue
        other = fit.naming.sources[canonical]
        np.testing.assert_array_equal(
            other.convert([fit.tensors[one] for one in other.names]),
            source.convert([original.tensors[one] for one in source.names]),
        )
    with pytest.raises(UsageError, match="--preprocess caffe_bgr, which is"):
        resolved(path, tmp_path)


def writers_proto_file(folder: Path, arrays: dict[str, np.ndarray]) -> TensorFile:
    from probe.weights.caffe_file import read_caffe

    return read_caffe(writers_proto.write_caffe(folder / "original.caffemodel", arrays))


@pytest.mark.parametrize("text", [DEPLOY, SHAPED])
def test_a_deploy_prototxt_tells_the_size(text: str, model: Path, tmp_path: Path) -> None:
    (tmp_path / "deploy.prototxt").write_text(text)
    with pytest.raises(UsageError, match=r"deploy\.prototxt beside it says .* 227 pixels"):
        resolved(model, tmp_path)


def test_a_prototxt_with_a_mean_is_the_preprocessing(model: Path, tmp_path: Path) -> None:
    (tmp_path / "deploy.prototxt").write_text(DEPLOY)
    (tmp_path / "train_val.prototxt").write_text(TRAIN)
    found = resolved(model, tmp_path)
    spec = found.preprocess
    assert found.decided_by == "a prototxt beside the file"
    assert (spec.size, spec.short_side, spec.resize, spec.channels) == (227, 256, "squash", "BGR")
    gain, shift = spec.arithmetic()  # Caffe: (pixel - mean) * scale
    pixel = np.array([10, 20, 30], "f4").reshape(1, 3, 1, 1)
    expected = (np.array([10, 20, 30]) - np.array([104, 117, 123])) * 0.017
    np.testing.assert_allclose((pixel * gain - shift).ravel(), expected, rtol=1e-5)


def test_its_mean_image_is_read_where_it_lies_beside(model: Path, tmp_path: Path) -> None:
    mean = np.zeros((3, 4, 4), "f4") + np.array([104, 117, 123], "f4")[:, None, None]
    mean[:, 0] += 4
    writers_proto.write_mean(tmp_path / "mean.binaryproto", mean)
    (tmp_path / "train.prototxt").write_text(
        'layer { transform_param { crop_size: 227 mean_file: "/data/ilsvrc12/mean.binaryproto" } }'
    )
    assert resolved(model, tmp_path).preprocess.mean == (105, 118, 124)


def test_what_was_asked_for_and_contradicts_it_is_said(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "deploy.prototxt").write_text(DEPLOY)
    with caplog.at_level(logging.WARNING):
        resolved(model, tmp_path, "caffenet")
        assert not caplog.records
        resolved(model, tmp_path, "caffe_bgr")
    assert "227 pixels; using 224" in caplog.text


@pytest.mark.parametrize(
    "text", ["\x00", "}{", "layer {", 40 * "a {", "input_dim: 99999999", "\"", "mean_value"]
)  # fmt: skip
def test_a_prototxt_that_says_nothing_is_passed_over(
    text: str, model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "deploy.prototxt"
    path.write_text(text)
    assert prototxt_beside(model) is None
    path.write_bytes(b"#" * (5 << 20))
    with pytest.raises(WeightsError, match="too large"):
        read_prototxt(path)


def test_a_mean_image_becomes_its_channels_means_and_that_is_said(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mean = np.random.default_rng(1).uniform(90, 130, (3, 8, 8)).astype("f4")
    path = writers_proto.write_mean(tmp_path / "mean.binaryproto", mean)
    with caplog.at_level(logging.WARNING):
        found = with_mean(resolved(model, tmp_path, "caffe_bgr"), path)
    np.testing.assert_allclose(found.preprocess.mean, mean.mean(axis=(1, 2)), rtol=1e-6)
    assert (
        found.preprocess.identity() != resolved(model, tmp_path, "caffe_bgr").preprocess.identity()
    )
    assert "the means of the image's channels are subtracted" in caplog.text
    with pytest.raises(WeightsError, match="are not of pixels"):
        with_mean(found, writers_proto.write_mean(tmp_path / "bad.binaryproto", mean - 200))


def test_extract_takes_a_mean_image_and_its_key_has_it(tmp_path: Path) -> None:
    mean = np.full((3, 6, 6), 50, "f4")
    path = writers_proto.write_mean(tmp_path / "mean.binaryproto", mean)

    def prepared(mean: str | None) -> Prepared:
        return prepare(
            Request(
                backbone="resnet18", dataset="digits", cache_dir=tmp_path, weights="random:0",
                preprocess="caffe_bgr", layers=("stage1",), size=32, per_class=2, mean=mean,
            )
        )  # fmt: skip

    with_it = prepared(str(path))
    key = with_it.job.cuts[0].key
    assert key.to_json()["preprocess"]["mean"] == [50, 50, 50]
    assert key.digest != prepared(None).job.cuts[0].key.digest
    again = repeat(key, with_it.job.provenance, cache_dir=tmp_path)
    assert prepare(again).job.cuts[0].key.digest == key.digest
    in_python = FrozenBackbone(
        "resnet18", "random:0", preprocess="caffe_bgr", mean=path, layer="stage1", size=32,
        cache_dir=tmp_path,
    ).fit()  # fmt: skip
    assert in_python.preprocess_ == with_it.preprocess


def vgg11_symbol(mx: Any, *, stride: int = 2, pools_up: bool = True) -> str:
    """VGG11 as MXNet's Caffe converter writes it: Caffe's names, pools that round up."""
    data = mx.sym.var("data")
    convention = "full" if pools_up else "valid"
    for block, width in enumerate((64, 128, 256, 512, 512), start=1):
        for conv in range(1, 2 if block < 3 else 3):
            name = f"conv{block}_{conv}"
            data = mx.sym.Convolution(data, num_filter=width, kernel=(3, 3), pad=(1, 1), name=name)
            data = mx.sym.Activation(data, act_type="relu", name=f"relu{block}_{conv}")
        steps = (stride, stride) if block == 1 else (2, 2)
        data = mx.sym.Pooling(
            data, pool_type="max", kernel=(2, 2), stride=steps, pooling_convention=convention,
            name=f"pool{block}",
        )  # fmt: skip
    return str(data.tojson())


@pytest.mark.parametrize("stride", [2, 3])
def test_a_symbol_beside_is_compared(stride: int, tmp_path: Path, mx: Any) -> None:
    arrays = {
        f"arg:{name.replace('/0', '_weight').replace('/1', '_bias')}": array
        for name, array in caffe_vgg11(tmp_path).items()
    }
    path = writers.write_gluon(tmp_path / "cats-0012.params", arrays)
    (tmp_path / "cats-symbol.json").write_text(vgg11_symbol(mx, stride=stride))
    vgg = BACKBONES["vgg11"]
    fit = fit_file(read_gluon(path), vgg)
    assert fit is not None
    problems = fit.problems(vgg, vgg.layer("pool5"))
    assert bool(problems) == (stride != 2)
    assert all("pool1" in one for one in problems)


def test_a_damaged_symbol_is_said_and_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = writers.write_gluon(tmp_path / "cats-0001.params", {"arg:a_weight": np.ones(3, "f4")})
    for text in ("{", "[]", '{"nodes": [1]}', 9999 * "[", '{"nodes": [{"op": "null"}]}'):
        (tmp_path / "cats-symbol.json").write_text(text)
        with caplog.at_level(logging.WARNING):
            caplog.clear()
            assert read_gluon(path).graph is None
        assert "not a symbol of MXNet" in caplog.text
