from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from probe.backbones.catalog import BACKBONES
from probe.backbones.cut import feature_shapes, parameter_shapes
from probe.backbones.spec import resolve_pool
from probe.engines import make_engine
from probe.errors import UnknownNameError, UsageError
from probe.preprocess.spec import TORCHVISION
from tests.parameters import draw_parameters

ALL = list(BACKBONES)
ONE_A_FAMILY = [
    "vgg11_bn", "resnet18", "resnet50", "resnet50_v1", "resnet18_v2", "inception_v3", "alexnet",
    "squeezenet1_0", "squeezenet1_1", "densenet121", "mobilenet_v1", "mobilenet_v2",
    "efficientnet_lite0", "caffenet",
]  # fmt: skip


@pytest.mark.parametrize("name", ALL)
def test_the_catalog_states_the_network_that_is_built(name: str) -> None:
    spec = BACKBONES[name]
    shapes = parameter_shapes(spec)
    assert (
        sum(math.prod(s) for key, s in shapes.items() if "running_" not in key) == spec.parameters
    )
    found = feature_shapes(
        spec, [(layer, "none") for layer in spec.layers], replace(TORCHVISION, size=spec.input_size)
    )
    assert [shape[0] for shape in found] == [layer.width for layer in spec.layers]
    assert [len(shape) == 3 for shape in found] == [layer.kind == "map" for layer in spec.layers]


@pytest.mark.parametrize("name", ONE_A_FAMILY)
def test_each_layer_works_at_its_smallest_size_and_not_below(name: str) -> None:
    spec = BACKBONES[name]
    for layer in spec.layers:
        if layer.kind != "vector":
            (shape,) = feature_shapes(
                spec, [(layer, "none")], TORCHVISION.with_size(layer.min_size)
            )
            assert min(shape) >= 1
            if layer.min_size > 1:
                with pytest.raises(Exception, match=r"(?i)shape|kernel|pool|size"):
                    feature_shapes(
                        spec, [(layer, "none")], TORCHVISION.with_size(layer.min_size - 1)
                    )
        spec.check_size(layer, layer.min_size)
        if layer.min_size > 1:
            with pytest.raises(UsageError, match=f"smallest that works is {layer.min_size}"):
                spec.check_size(layer, layer.min_size - 1)


@pytest.mark.parametrize("name", ["vgg16", "alexnet", "caffenet"])
def test_fully_connected_layers_keep_their_width_over_the_stated_sizes(name: str) -> None:
    spec = BACKBONES[name]
    last_map = [layer for layer in spec.layers if layer.kind == "map"][-1]
    for layer in (one for one in spec.layers if one.kind == "vector"):
        assert layer.max_size is not None
        at = [
            feature_shapes(spec, [(last_map, "none")], TORCHVISION.with_size(s))[0]
            for s in (layer.min_size, layer.max_size)
        ]
        beyond = [
            feature_shapes(spec, [(last_map, "none")], TORCHVISION.with_size(s))[0]
            for s in (layer.min_size - 1, layer.max_size + 1)
        ]
        assert at[0] == at[1]
        assert beyond[0] != at[0] != beyond[1]
        with pytest.raises(UsageError, match="takes any larger size"):
            spec.check_size(layer, layer.max_size + 1)


@pytest.mark.parametrize("name", ONE_A_FAMILY)
def test_pools_agree_with_the_map_they_reduce(name: str) -> None:
    spec = BACKBONES[name]
    last = [layer for layer in spec.layers if layer.kind == "map"][-1]
    final = spec.layers[-1] if spec.layers[-1].kind == "gap" else last
    size = max(64, last.min_size)
    cuts = [(last, "none"), (last, "avg"), (last, "max"), (last, "flatten"), (final, "avg")]
    engine = make_engine(
        spec,
        draw_parameters(spec, last),
        cuts,
        TORCHVISION.with_size(size),
        batch_size=2,
        device="cpu",
    )
    images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    maps, mean, top, flat, gap = engine.collect(engine.submit(images))
    scale = np.linalg.norm(maps)
    assert np.isfinite(scale)
    assert scale > 0
    np.testing.assert_allclose(mean, maps.mean((2, 3)), atol=1e-5 * scale)
    np.testing.assert_array_equal(top, maps.max((2, 3)))
    np.testing.assert_array_equal(flat, maps.reshape(2, -1))
    np.testing.assert_array_equal(gap, mean)


def test_resnet_v1b_strides_in_the_3x3_and_v1_in_the_first_1x1() -> None:
    strides = {}
    for name in ("resnet50", "resnet50_v1"):
        nodes = {node.name: node for node in BACKBONES[name].network().nodes}
        steps = [nodes[f"features.5.0.body.{number}"] for number in (0, 3)]
        strides[name] = [step.settings["stride"] for step in steps]
    assert strides == {"resnet50": [(1, 1), (2, 2)], "resnet50_v1": [(2, 2), (1, 1)]}


def test_unknown_names_say_what_was_meant() -> None:
    with pytest.raises(UnknownNameError, match="did you mean vgg16"):
        BACKBONES["VGG-16"]
    with pytest.raises(
        UnknownNameError, match=r"resnet18 has no layer 'pool5'; it has stage1, .*gap"
    ):
        BACKBONES["resnet18"].layer("pool5")


def test_a_vector_is_not_pooled() -> None:
    spec = BACKBONES["vgg16"]
    assert resolve_pool(spec.layer("fc7"), None) == "none"
    assert resolve_pool(spec.layer("pool5"), None) == "avg"
    with pytest.raises(UsageError, match="vector already"):
        resolve_pool(spec.layer("fc7"), "avg")


def test_a_size_below_the_smallest_names_a_layer_that_works() -> None:
    spec = BACKBONES["vgg16"]
    with pytest.raises(
        UsageError, match=r"--size 32 is too small for vgg16 at fc7; .* 224, or take --layer pool5"
    ):
        spec.check_size(spec.layer("fc7"), 32)
