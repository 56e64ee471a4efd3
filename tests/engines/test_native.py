"""The network through MXNet's C interface: the same numbers, without its Python package."""

from __future__ import annotations

import numpy as np
import pytest

from probe.backbones.catalog import BACKBONES
from probe.backbones.cut import cut_network
from probe.backbones.spec import Layer, Pool
from probe.engines.mxnet.engine import MxnetEngine
from probe.engines.mxnet.native import NativeEngine, runs_here
from probe.errors import EngineError
from probe.preprocess.spec import CAFFE_BGR, TORCHVISION, PreprocessSpec
from tests.parameters import draw_parameters

RNG = np.random.default_rng(0)


def images(count: int, side: int = 32) -> np.ndarray:
    return RNG.integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def both(
    name: str, cuts: list[tuple[Layer, Pool]], preprocess: PreprocessSpec
) -> tuple[NativeEngine, MxnetEngine]:
    spec = BACKBONES[name]
    parameters = draw_parameters(spec, max((layer for layer, _ in cuts), key=lambda one: one.after))
    network = cut_network(spec, cuts, preprocess)
    native = NativeEngine(network, parameters, preprocess, batch_size=3)
    return native, MxnetEngine(network, parameters, preprocess, batch_size=3, device="cpu")


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet18", "gap"), ("resnet18_v2", "gap"), ("vgg11_bn", "pool5"), ("alexnet", "pool5"),
        ("inception_v3", "mixed_5b"), ("densenet121", "gap"), ("squeezenet1_1", "fire3"),
        ("mobilenet_v2", "gap"), ("efficientnet_lite0", "gap"), ("caffenet", "pool5"),
    ],
)  # fmt: skip
def test_it_gives_the_numbers_of_mxnets_python_package(name: str, layer: str) -> None:
    cut = BACKBONES[name].layer(layer)
    pool: Pool = "avg" if cut.kind == "map" else "none"
    native, package = both(name, [(cut, pool)], TORCHVISION.with_size(max(64, cut.min_size)))
    batch = images(3, max(64, cut.min_size))
    (found,), (expected,) = (one.collect(one.submit(batch)) for one in (native, package))
    assert found.dtype == np.float32
    norms = np.linalg.norm(expected, axis=1)
    assert (norms > 0).all()
    assert (np.linalg.norm(found - expected, axis=1) / norms).max() < 1e-5


def test_several_cuts_come_from_one_pass_and_batches_stay_apart() -> None:
    spec = BACKBONES["resnet18"]
    cuts: list[tuple[Layer, Pool]] = [(spec.layer("stage2"), "max"), (spec.layer("gap"), "none")]
    native, package = both("resnet18", cuts, CAFFE_BGR.with_size(32))
    batches = [images(3) for _ in range(3)]
    tickets = [native.submit(batch) for batch in batches]
    for batch, ticket in zip(batches, tickets, strict=True):
        for found, expected in zip(
            native.collect(ticket), package.collect(package.submit(batch)), strict=True
        ):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_parameters_that_do_not_fit_end_in_one_line() -> None:
    spec = BACKBONES["resnet18"]
    stage, preprocess = spec.layer("stage1"), TORCHVISION.with_size(32)
    network = cut_network(spec, [(stage, "avg")], preprocess)
    parameters = draw_parameters(spec, stage)
    with pytest.raises(EngineError, match=r"^MXNet stopped: .*see `probe doctor`$"):
        NativeEngine(
            network, {**parameters, "features.0.weight": np.ones((2, 2), np.float32)}, preprocess,
            batch_size=1,
        )  # fmt: skip


def test_it_knows_where_it_runs() -> None:
    assert runs_here("cpu")
    assert not runs_here("gpu")
    assert not runs_here("tpu")
