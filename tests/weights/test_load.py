"""From files to the parameters of a cut network: all or nothing, the same from every format."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from probe.backbones.catalog import BACKBONES
from probe.backbones.spec import BackboneSpec, Layer
from probe.core.memo import Memo
from probe.errors import UsageError, WeightsError
from probe.weights import (
    default_layer,
    held_layers,
    load_parameters,
    open_tensors,
    parameter_digest,
    random_parameters,
    weights_digest,
)
from probe.weights.fit import shapes_of
from probe.weights.load import random_digest
from tests.weights import published, writers
from tests.weights.helpers import draw

SQUEEZE = BACKBONES["squeezenet1_1"]  # the smallest there is


def squeezenet(**changes: NDArray[Any]) -> dict[str, NDArray[Any]]:
    return draw(published.squeezenet("squeezenet1_1")) | changes


def at(backbone: BackboneSpec, name: str) -> tuple[BackboneSpec, Layer]:
    return backbone, backbone.layer(name)


def test_the_cut_network_gets_exactly_what_it_uses(tmp_path: Path) -> None:
    path = writers.write_torch_zip(tmp_path / "s.pth", squeezenet())
    loaded = load_parameters(path, *at(SQUEEZE, "fire3"))
    shapes = shapes_of(SQUEEZE.name)
    used = sorted(name for name in shapes if SQUEEZE.uses(SQUEEZE.layer("fire3"), name))
    assert list(loaded.parameters) == used
    for name, array in loaded.parameters.items():
        assert (array.shape, array.dtype, array.flags.c_contiguous) == (
            shapes[name],
            np.float32,
            True,
        )
    assert loaded.digest == parameter_digest(loaded.parameters)


def test_the_same_weights_have_one_digest_in_every_format(tmp_path: Path) -> None:
    arrays = squeezenet()
    zipped = writers.write_torch_zip(tmp_path / "1", arrays)
    target = at(SQUEEZE, "gap")
    loaded = load_parameters(zipped, *target)
    nested = {f"module.{name}": array for name, array in arrays.items()}
    paths = [
        writers.write_torch_stream(tmp_path / "2", nested, under="state_dict"),
        writers.write_safetensors(tmp_path / "3", arrays),
        writers.write_gluon(tmp_path / "4", loaded.parameters),
        writers.write_safetensors(tmp_path / "5", loaded.parameters),
    ]
    assert {load_parameters(path, *target).digest for path in paths} == {loaded.digest}


def test_prefixed_gluon_names_and_exported_pairs_load(tmp_path: Path, mx: Any) -> None:
    """MXNet counts the networks built, so the prefix is never the same twice."""
    from tests.zoo import zoo_network

    backbone = BACKBONES["resnet18_v1"]
    net = zoo_network(mx, backbone.name)
    net.initialize()
    net(mx.nd.zeros((1, 3, 32, 32)))
    structural = tmp_path / "structural.params"
    net.save_parameters(str(structural))
    net.collect_params().save(str(tmp_path / "prefixed.params"))
    net.hybridize()
    net(mx.nd.zeros((1, 3, 32, 32)))
    net.export(str(tmp_path / "pair"))
    files = [structural, tmp_path / "prefixed.params", tmp_path / "pair-0000.params"]
    loaded = [load_parameters(path, *at(backbone, "gap")) for path in files]
    assert len({one.digest for one in loaded}) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features.3.squeeze.weight": None}, r"1 missing \(features.3.squeeze.weight\)"),
        ({"features.99.weight": np.ones(3, np.float32)}, r"1 left over \(features.99.weight\)"),
        ({"features.0.weight": np.ones((64, 3, 5, 5), np.float32)}, "64x3x5x5, expected 64x3x3x3"),
        ({"features.0.bias": np.ones(64, np.int64)}, "int64, expected floating point"),
        ({"features.0.bias": np.full(64, np.nan, np.float32)}, "features.0.bias holds NaN"),
        ({"features.0.bias": np.full(64, -np.inf, np.float32)}, "features.0.bias holds NaN"),
    ],
)
def test_what_does_not_fit_is_listed_and_refused(
    change: dict[str, NDArray[Any] | None], message: str, tmp_path: Path
) -> None:
    arrays = {k: v for k, v in (squeezenet() | change).items() if v is not None}
    path = writers.write_torch_zip(tmp_path / "s.pth", arrays)
    with pytest.raises(WeightsError, match=message) as raised:
        load_parameters(path, *at(SQUEEZE, "gap"))
    assert str(path) in str(raised.value)


def test_parameters_beyond_the_cut_may_be_missing(tmp_path: Path) -> None:
    arrays = {name: array for name, array in squeezenet().items() if name.startswith("features.0.")}
    path = writers.write_torch_zip(
        tmp_path / "s.pth", arrays | {"features.3.squeeze.bias": np.ones(16, np.float32)}
    )
    with pytest.raises(WeightsError, match="5 missing"):
        load_parameters(path, *at(SQUEEZE, "fire2"))


def test_a_classifier_of_another_task_does_not_matter(tmp_path: Path) -> None:
    tuned = squeezenet(**{"classifier.1.weight": np.ones((7, 512, 1, 1), np.float32)})
    path = writers.write_torch_zip(tmp_path / "s.pth", tuned)
    plain = writers.write_torch_zip(tmp_path / "p.pth", squeezenet())
    told = load_parameters(path, *at(SQUEEZE, "gap")).omitted
    assert "a classifier of another shape left out" in told
    assert (
        load_parameters(path, *at(SQUEEZE, "gap")).digest
        == load_parameters(plain, *at(SQUEEZE, "gap")).digest
    )


def test_the_backbone_that_fits_is_named(tmp_path: Path) -> None:
    path = writers.write_torch_zip(tmp_path / "s.pth", squeezenet())
    with pytest.raises(
        WeightsError, match=r"not weights of squeezenet1_0.*fits --backbone squeezenet1_1"
    ):
        load_parameters(path, *at(BACKBONES["squeezenet1_0"], "gap"))


def test_torchvisions_resnet50_is_refused_by_the_zoos_v1(tmp_path: Path) -> None:
    names = {k: v for k, v in published.resnet(50).items() if not k.endswith("batches_tracked")}
    path = writers.write_safetensors(tmp_path / "r.safetensors", draw(names))
    with pytest.raises(WeightsError, match=r"strides in the 3x3 .* it is the backbone resnet50;"):
        load_parameters(path, *at(BACKBONES["resnet50_v1"], "gap"))
    assert load_parameters(path, *at(BACKBONES["resnet50"], "stage1")).omitted == ()


def test_keras_resnet_biases_and_epsilon_are_folded_exactly(tmp_path: Path) -> None:
    """gamma * (x + b - m) / sqrt(v + e) + beta must be what the folded parameters give."""
    arrays = draw(
        {
            name: shape
            for name, shape in published.keras_resnet(50).items()
            if name[:5] in ("conv1", "conv2")
        }
    )
    path = writers.write_keras(tmp_path / "k.h5", arrays)
    got = load_parameters(path, *at(BACKBONES["resnet50_v1"], "stage1")).parameters
    want = {k: v.astype(np.float64) for k, v in arrays.items()}
    np.testing.assert_allclose(
        got["features.1.running_mean"],
        want["conv1_bn/moving_mean"] - want["conv1_conv/bias"],
        rtol=1e-6,
        atol=1e-7,
    )
    np.testing.assert_allclose(
        got["features.1.running_var"].astype(np.float64) + 1e-5,
        want["conv1_bn/moving_variance"] + 1.001e-5,
        rtol=1e-7,
    )
    body = "features.4.0.body"
    np.testing.assert_array_equal(got[f"{body}.0.bias"], arrays["conv2_block1_1_conv/bias"])
    np.testing.assert_array_equal(
        got[f"{body}.1.running_mean"], arrays["conv2_block1_1_bn/moving_mean"]
    )
    np.testing.assert_array_equal(
        got[f"{body}.3.weight"], arrays["conv2_block1_2_conv/kernel"].transpose(3, 2, 0, 1)
    )


def test_keras_dense_layers_behind_a_map_are_reordered(tmp_path: Path) -> None:
    """The flattened map is (7, 7, 512) there and (512, 7, 7) here."""
    from probe.weights.naming import dense_after_map

    kernel = np.random.default_rng(0).random((3 * 3 * 500, 6), dtype=np.float32)
    path = writers.write_keras(tmp_path / "k.h5", {"fc1/kernel": kernel})
    got = dense_after_map("fc1/kernel", (6, 4500), (9, 500)).convert(
        [open_tensors(path).tensors["fc1/kernel"]]
    )
    np.testing.assert_array_equal(
        got, kernel.reshape(3, 3, 500, 6).transpose(3, 2, 0, 1).reshape(6, -1)
    )


def test_mobilenets_first_expansion_is_the_identity(tmp_path: Path, mx: Any) -> None:
    names = {k: v for k, v in published.mobilenet_v2().items() if not k.endswith("batches_tracked")}
    path = writers.write_torch_zip(tmp_path / "m.pth", draw(names))
    backbone = BACKBONES["mobilenet_v2"]
    loaded = load_parameters(path, *at(backbone, "block1"))
    assert loaded.omitted == ("the classifier left out, since Gluon's has no bias",)
    with pytest.raises(WeightsError, match=r"1 missing .output.0.weight, which they do not have"):
        load_parameters(path, backbone, backbone.logits)
    from tests.zoo import zoo_network

    block = zoo_network(mx, backbone.name).features[3]
    block.initialize()
    for name, parameter in block._collect_params_with_prefix().items():
        parameter.set_data(mx.nd.array(loaded.parameters[f"features.3.{name}"]))
    x = mx.nd.random.uniform(0, 6, (1, 32, 4, 4))
    np.testing.assert_allclose(
        block.out[2](block.out[1](block.out[0](x))).asnumpy(), x.asnumpy(), rtol=1e-6
    )


def test_default_layers_respect_the_size() -> None:
    vgg = BACKBONES["vgg16"]
    every = tuple(layer.name for layer in vgg.layers)
    assert default_layer(vgg, every, 224).name == "fc7"
    assert default_layer(vgg, every, 64).name == "pool5"
    assert default_layer(vgg, every, 16).name == "conv5_3"
    with pytest.raises(UsageError, match="smallest that works is 27"):
        default_layer(BACKBONES["inception_v3"], ("mixed_5b", "gap"), 20)
    with pytest.raises(WeightsError, match="hold no layer"):
        default_layer(vgg, (), 224)


def test_random_parameters_depend_on_seed_and_name_only() -> None:
    small = random_parameters(0, *at(SQUEEZE, "fire2"))
    large = random_parameters(0, *at(SQUEEZE, "gap"))
    for name, array in small.parameters.items():
        np.testing.assert_array_equal(array, large.parameters[name])
    assert random_parameters(1, *at(SQUEEZE, "fire2")).digest != small.digest
    weight = large.parameters["features.12.1.1.0.weight"]
    assert weight.std() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)


HIT = """
import sys
from pathlib import Path
from probe.backbones.catalog import BACKBONES
from probe.core.memo import Memo
from probe.weights import held_layers, load, random_digest, weights_digest

def opened(path):
    raise AssertionError("the file was opened")

load.open_tensors = opened
path, memo = Path(sys.argv[1]), Memo(Path(sys.argv[2]))
backbone = BACKBONES["squeezenet1_1"]
layer = backbone.layer("gap")
print(weights_digest(path, backbone, layer, memo), random_digest(3, backbone, layer, memo))
print(held_layers(path, backbone, memo)[-1])
assert not {"mxnet", "h5py", "sklearn", "matplotlib"} & set(sys.modules)
"""


def test_a_remembered_digest_needs_neither_the_file_nor_mxnet(tmp_path: Path) -> None:
    import os

    path = writers.write_torch_zip(tmp_path / "s.pth", squeezenet())
    os.utime(path, (1, 1))
    memo = Memo(tmp_path / "memo.sqlite")
    layer = SQUEEZE.layer("gap")
    digest = weights_digest(path, SQUEEZE, layer, memo)
    random = random_digest(3, SQUEEZE, layer, memo)
    held = held_layers(path, SQUEEZE, memo)
    done = subprocess.run(
        [sys.executable, "-c", HIT, str(path), str(tmp_path / "memo.sqlite")],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.split() == [digest, random, held[-1]]


def test_reading_peaks_below_one_and_a_half_times_the_file(tmp_path: Path) -> None:
    """VGG's first dense layer is most of the file; it is the one that has to be transposed."""
    import tracemalloc

    from probe.weights.naming import dense_after_map

    kernel = np.ones((49 * 512, 512), np.float32)
    path = writers.write_keras(tmp_path / "k.h5", {"fc1/kernel": kernel})
    tensor = open_tensors(path).tensors["fc1/kernel"]
    del kernel
    source = dense_after_map("fc1/kernel", (512, 49 * 512), (49, 512))
    tracemalloc.start()
    source.convert([tensor])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.2 * path.stat().st_size
