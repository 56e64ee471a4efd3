"""All engines give the same features, for every network, layer and pool."""

from __future__ import annotations

import multiprocessing
import re

import numpy as np
import pytest

from probe.backbones.catalog import BACKBONES
from probe.backbones.cut import cut_network
from probe.backbones.spec import BackboneSpec, Layer, Pool
from probe.engines import (
    ENGINES,
    default_engine,
    engine_is_installed,
    first_not_finite,
    forward,
    make_engine,
)
from probe.engines.onnx.engine import OnnxEngine
from probe.errors import EngineError, UsageError
from probe.preprocess.spec import CAFFE_BGR, TORCHVISION
from tests.needs import CPU_ENGINES
from tests.parameters import draw_parameters
from tests.thorough import THOROUGH

RNG = np.random.default_rng(0)
RESNET = BACKBONES["resnet18"]
GAP = RESNET.layer("gap")
INSTALLED = [name for name in ENGINES if engine_is_installed(name)]


def images(count: int, side: int = 32) -> np.ndarray:
    return RNG.integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def furthest(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest norm of a row's difference, as a part of the row's norm."""
    rows, others = found.reshape(len(found), -1), expected.reshape(len(expected), -1)
    return float((np.linalg.norm(rows - others, axis=1) / np.linalg.norm(others, axis=1)).max())


def layers_to_compare(spec: BackboneSpec) -> list[Layer]:
    """Return all layers; of a deeper VGG, whose dense layers are VGG11's, only the maps."""
    deeper = re.fullmatch(r"vgg1[369](_bn)?", spec.name)
    return [one for one in spec.layers if THOROUGH or not deeper or one.kind == "map"]


def every_cut(layers: list[Layer]) -> list[tuple[Layer, Pool]]:
    pools: tuple[Pool, ...] = ("avg", "max", "flatten", "none")
    return [
        (layer, pool) for layer in layers for pool in (pools if layer.kind == "map" else ("none",))
    ]


@pytest.mark.skipif(len(INSTALLED) == 1, reason="there is one engine, and nothing to compare with")
@pytest.mark.parametrize("name", list(BACKBONES))
def test_every_layer_and_pool_of_the_catalog_is_the_same_by_every_engine(name: str) -> None:
    spec = BACKBONES[name]
    preprocess = CAFFE_BGR if name in ("caffenet", "vgg11") else TORCHVISION
    layers = layers_to_compare(spec)
    preprocess = preprocess.with_size(max(64, *(layer.min_size for layer in layers)))
    cuts = every_cut(layers)
    parameters = draw_parameters(spec, max(layers, key=lambda layer: layer.after))
    batch = images(2, preprocess.size)
    rows = []
    for engine in INSTALLED:
        made = make_engine(
            spec, parameters, cuts, preprocess, batch_size=2, engine=engine, device="cpu"
        )
        rows.append(made.collect(made.submit(batch)))
    expected, *others = rows
    for cut, known, *found in zip(cuts, expected, *others, strict=True):
        for engine, one in zip(INSTALLED[1:], found, strict=True):
            assert one.shape == known.shape
            assert one.dtype == known.dtype == np.float32
            assert furthest(one, known) < 1e-4, (engine, cut)


def test_what_is_fused_agrees_with_the_network_as_it_is_written() -> None:
    preprocess = TORCHVISION.with_size(64)
    spec = BACKBONES["efficientnet_lite0"]
    cuts: list[tuple[Layer, Pool]] = [(spec.layer("gap"), "none")]
    parameters, batch = draw_parameters(spec, spec.layer("gap")), images(3, 64)
    engine = make_engine(spec, parameters, cuts, preprocess, batch_size=3, engine="onnx")
    (fused,) = engine.collect(engine.submit(batch))
    (written,) = forward(spec, parameters, cuts, preprocess, batch)
    assert furthest(fused, written) < 1e-5


@pytest.mark.parametrize("name", CPU_ENGINES)
def test_batches_in_flight_stay_apart_and_a_row_depends_on_its_image_alone(name: str) -> None:
    preprocess = TORCHVISION.with_size(32)
    parameters = draw_parameters(RESNET, GAP)
    cuts: list[tuple[Layer, Pool]] = [(GAP, "none")]
    engine = make_engine(
        RESNET, parameters, cuts, preprocess, batch_size=4, engine=name, device="cpu"
    )
    batches = [images(4) for _ in range(3)]
    apart = [engine.collect(engine.submit(batch))[0] for batch in batches]
    tickets = [engine.submit(batch) for batch in batches]
    for expected, ticket in zip(apart, tickets, strict=True):
        np.testing.assert_array_equal(engine.collect(ticket)[0], expected)
    (turned,) = engine.collect(engine.submit(batches[0][::-1]))
    np.testing.assert_allclose(turned[::-1], apart[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CPU_ENGINES)
def test_a_batch_that_threads_share_comes_back_in_order(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    preprocess, parameters = TORCHVISION.with_size(32), draw_parameters(RESNET, GAP)
    batch, rows = images(17), []
    for threads in ("1", "2"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        engine = make_engine(
            RESNET, parameters, [(GAP, "none")], preprocess, batch_size=17, engine=name,
            device="cpu",
        )  # fmt: skip
        rows.append(engine.collect(engine.submit(batch))[0])
    np.testing.assert_allclose(rows[1], rows[0], rtol=1e-5, atol=1e-6)
    (short,) = engine.collect(engine.submit(batch[:1]))
    np.testing.assert_allclose(short, rows[0][:1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CPU_ENGINES)
def test_the_arrays_that_it_was_made_from_may_go(name: str) -> None:
    preprocess = TORCHVISION.with_size(32)
    parameters = draw_parameters(RESNET, GAP)
    engine = make_engine(
        RESNET, parameters, [(GAP, "none")], preprocess, batch_size=1, engine=name, device="cpu"
    )
    batch = images(1)
    (before,) = engine.collect(engine.submit(batch))
    parameters.clear()
    filler = [np.full(2**20, np.nan, np.float32) for _ in range(50)]
    (after,) = engine.collect(engine.submit(batch))
    assert len(filler) == 50
    np.testing.assert_array_equal(after, before)


def test_the_first_operation_that_overflows_is_named() -> None:
    preprocess = TORCHVISION.with_size(32)
    parameters = draw_parameters(RESNET, GAP)
    place = next(name for name in parameters if name.startswith("features.5") and "weight" in name)
    broken = {**parameters, place: np.full_like(parameters[place], np.inf)}
    found = first_not_finite(RESNET, broken, [(GAP, "none")], preprocess, images(1))
    assert found is not None
    assert found[0] == place.removesuffix(".weight")
    assert first_not_finite(RESNET, parameters, [(GAP, "none")], preprocess, images(1)) is None


def test_parameters_that_do_not_fit_end_in_one_line() -> None:
    preprocess = TORCHVISION.with_size(32)
    network = cut_network(RESNET, [(GAP, "none")], preprocess)
    parameters = draw_parameters(RESNET, GAP) | {"features.0.weight": np.ones((2, 2), np.float32)}
    with pytest.raises(EngineError, match=r"^ONNX Runtime stopped: .*see `probe doctor`$"):
        OnnxEngine(network, parameters, preprocess, batch_size=1, device="cpu")


def test_an_engine_that_opens_ahead_runs_alike_and_tells_with_its_rows_what_is_wrong() -> None:
    preprocess = TORCHVISION.with_size(32)
    network = cut_network(RESNET, [(GAP, "none")], preprocess)
    parameters = draw_parameters(RESNET, GAP)
    whole = OnnxEngine(network, parameters, preprocess, batch_size=80)
    ahead = OnnxEngine(network, parameters, preprocess, batch_size=80, ahead=True)
    batches = [images(80), images(1), images(40)]
    tickets = [ahead.submit(batch) for batch in batches]  # at once, whether or not it is open
    for batch, ticket in zip(batches, tickets, strict=True):
        np.testing.assert_array_equal(
            ahead.collect(ticket)[0], whole.collect(whole.submit(batch))[0]
        )
    parameters["features.0.weight"] = np.ones((2, 2), np.float32)
    broken = OnnxEngine(network, parameters, preprocess, batch_size=1, ahead=True)
    for _ in range(2):
        ticket = broken.submit(images(1))
        with pytest.raises(EngineError, match=r"^ONNX Runtime stopped: .*see `probe doctor`$"):
            broken.collect(ticket)


def test_an_engine_is_named_or_the_usual_one() -> None:
    assert default_engine() == "onnx"
    with pytest.raises(UsageError, match="--engine torch: expected auto, onnx, openvino or mxnet"):
        make_engine(
            RESNET, draw_parameters(RESNET, GAP), [(GAP, "none")], TORCHVISION.with_size(32),
            batch_size=1, engine="torch",
        )  # fmt: skip


@pytest.mark.parametrize("name", CPU_ENGINES)
def test_a_forked_process_runs_what_its_parent_made_and_ran(name: str) -> None:
    preprocess = TORCHVISION.with_size(32)
    engine = make_engine(
        RESNET, draw_parameters(RESNET, GAP), [(GAP, "none")], preprocess, batch_size=2,
        engine=name,
    )  # fmt: skip
    batch = images(2)
    (expected,) = engine.collect(engine.submit(batch))
    queue: multiprocessing.Queue[np.ndarray] = multiprocessing.get_context("fork").Queue()

    def child() -> None:
        queue.put(engine.collect(engine.submit(batch))[0])

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    found = queue.get(timeout=60)
    process.join(60)
    assert process.exitcode == 0
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(engine.collect(engine.submit(batch))[0], expected)
