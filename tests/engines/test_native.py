"""The network through MXNet's C interface: the same numbers, without its Python package."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from probe.backbones.catalog import BACKBONES
from probe.backbones.spec import Layer, Pool
from probe.engines.mxnet.gluon import GluonEngine
from probe.engines.mxnet.graph import FrozenGraph
from probe.engines.mxnet.native import NativeEngine, runs_here
from probe.engines.mxnet.network import freeze
from probe.errors import EngineError, WeightsError
from probe.preprocess.spec import CAFFE_BGR, TORCHVISION, PreprocessSpec
from tests.parameters import draw_parameters

RNG = np.random.default_rng(0)


def images(count: int, side: int = 32) -> np.ndarray:
    return RNG.integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def both(
    name: str, cuts: list[tuple[Layer, Pool]], preprocess: PreprocessSpec
) -> tuple[NativeEngine, GluonEngine]:
    spec = BACKBONES[name]
    parameters = draw_parameters(spec, max((layer for layer, _ in cuts), key=lambda one: one.after))
    text = freeze(spec, cuts, preprocess).to_json().encode()
    native = NativeEngine(FrozenGraph.from_json(text), parameters, preprocess, batch_size=3)
    return native, GluonEngine(spec, parameters, cuts, preprocess, batch_size=3, device="cpu")


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet18", "gap"), ("resnet18_v2", "gap"), ("vgg11_bn", "pool5"), ("alexnet", "pool5"),
        ("inception_v3", "mixed_5b"), ("densenet121", "gap"), ("squeezenet1_1", "fire3"),
        ("mobilenet_v2", "gap"), ("efficientnet_lite0", "gap"), ("caffenet", "pool5"),
    ],
)  # fmt: skip
def test_it_gives_the_numbers_of_gluons_network(name: str, layer: str) -> None:
    cut = BACKBONES[name].layer(layer)
    pool: Pool = "avg" if cut.kind == "map" else "none"
    native, gluon = both(name, [(cut, pool)], TORCHVISION.with_size(max(64, cut.min_size)))
    batch = images(3, max(64, cut.min_size))
    (found,), (expected,) = (one.collect(one.submit(batch)) for one in (native, gluon))
    assert found.dtype == np.float32
    norms = np.linalg.norm(expected, axis=1)
    assert (norms > 0).all()
    assert (np.linalg.norm(found - expected, axis=1) / norms).max() < 1e-5


def test_several_cuts_come_from_one_pass_and_batches_stay_apart() -> None:
    spec = BACKBONES["resnet18"]
    cuts: list[tuple[Layer, Pool]] = [(spec.layer("stage2"), "max"), (spec.layer("gap"), "none")]
    native, gluon = both("resnet18", cuts, CAFFE_BGR.with_size(32))
    batches = [images(3) for _ in range(3)]
    tickets = [native.submit(batch) for batch in batches]
    for batch, ticket in zip(batches, tickets, strict=True):
        for found, expected in zip(
            native.collect(ticket), gluon.collect(gluon.submit(batch)), strict=True
        ):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_the_same_network_is_written_in_the_same_words() -> None:
    spec = BACKBONES["resnet18"]
    cut = [(spec.layer("stage1"), "avg")]
    first, second = (freeze(spec, cut, TORCHVISION.with_size(32)).to_json() for _ in range(2))
    assert first == second
    assert "0x" not in first
    back = FrozenGraph.from_json(first.encode())
    assert back.to_json() == first
    assert all(spec.uses(cut[0][0], name) for name in back.parameters)
    assert set(back.arguments) - set(back.parameters) == {"gain", "shift"}


def test_what_is_no_network_of_ours_is_refused() -> None:
    spec = BACKBONES["resnet18"]
    text = freeze(spec, [(spec.layer("stage1"), "avg")], TORCHVISION.with_size(32)).to_json()
    for damaged, message in [
        (text.replace('"Pooling"', '"Custom"', 1), "operator of no backbone: Custom"),
        (text.replace('"outputs":1', '"outputs":2'), "contradicts itself"),
        (text.replace('"schema":1', '"schema":2'), "another version"),
        (text[:-20], "cannot be read"),
        ("[]", "cannot be read"),
        ('{"symbol": {"nodes": [1], "heads": []}}', "cannot be read"),
    ]:
        with pytest.raises(WeightsError, match=message):
            FrozenGraph.from_json(damaged.encode())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (('"num_group":"1"', '"num_group":"0"'), "Convolution with num_group 0, as in no backbone"),
        (('"num_group":"1"', '"num_group":"1e9"'), "num_group 1e9"),
        (('"stride":"(2, 2)"', '"stride":"(-2, 2)"'), r"stride \(-2, 2\)"),
        (('"kernel":"(7, 7)"', '"kernel":"(7000, 7)"'), "kernel"),
        (('"eps":"1e-05"', '"eps":"nan"'), "BatchNorm with eps nan"),
        (('"pool_type":"max"', '"pool_type":0'), "pool_type 0"),
        (('"dtype":"float32"', '"dtype":"float32","__ctx_group__":"x"'), "Cast with __ctx_group__"),
        (('"heads":[[', '"heads":[[9'), "the end takes what no earlier node gives"),
        (('"inputs":[[0,0,0]]', '"inputs":[[0,-1,0]]'), "Cast takes what no earlier node gives"),
        (('"inputs":[[0,0,0]]', '"inputs":[]'), "Cast has too many inputs or too few"),
        (('"inputs":[[0,0,0]]', '"inputs":[[0,0,0]],"subgraphs":[{}]'), "has parts that no node"),
        (('"__shape__":"(64, 3, 7, 7)"', '"__shape__":"(64, 3, 7, 9)"'), "another shape"),
        (('"arg_nodes":[0', '"arg_nodes":[-5'), "list of variables"),
        (('"gain":[1,3,1,1]', '"gain":[1,3,1,1],"more":[1]'), "variables are not those"),
    ],
)  # fmt: skip
def test_native_code_is_told_only_what_the_backbones_tell_it(
    changed: tuple[str, str], message: str
) -> None:
    """Some of these end the process: a number of groups of 0, an output that is not there."""
    spec = BACKBONES["resnet18"]
    text = freeze(spec, [(spec.layer("stage1"), "avg")], TORCHVISION.with_size(32)).to_json()
    assert changed[0] in text
    with pytest.raises(WeightsError, match=message):
        FrozenGraph.from_json(text.replace(*changed, 1).encode())


def test_a_graph_that_doubles_its_channels_again_and_again_is_refused() -> None:
    spec = BACKBONES["resnet18"]
    data = json.loads(
        freeze(spec, [(spec.layer("stage1"), "avg")], TORCHVISION.with_size(32)).to_json()
    )
    nodes = data["symbol"]["nodes"]
    for number in range(20):
        last = [len(nodes) - 1, 0, 0]
        two = {"dim": "1", "num_args": "2"}
        nodes.append({"op": "Concat", "name": f"c{number}", "attrs": two, "inputs": [last, last]})
    with pytest.raises(WeightsError, match="Concat gives too many channels"):
        FrozenGraph.from_json(json.dumps(data).encode())


def test_parameters_that_do_not_fit_end_in_one_line() -> None:
    spec = BACKBONES["resnet18"]
    stage, preprocess = spec.layer("stage1"), TORCHVISION.with_size(32)
    graph = freeze(spec, [(stage, "avg")], preprocess)
    parameters = draw_parameters(spec, stage)
    with pytest.raises(EngineError, match=r"^MXNet stopped: .*see `probe doctor`$"):
        NativeEngine(
            graph, {**parameters, "features.0.weight": np.ones((2, 2), np.float32)}, preprocess,
            batch_size=1,
        )  # fmt: skip
    broken = dataclasses.replace(graph, symbol="{}")
    with pytest.raises(EngineError, match=r"^MXNet stopped: "):
        NativeEngine(broken, parameters, preprocess, batch_size=1)


def test_it_knows_where_it_runs() -> None:
    assert runs_here("cpu")
    assert not runs_here("gpu")
    assert not runs_here("tpu")
