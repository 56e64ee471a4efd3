from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from probe.backbones.catalog import BACKBONES
from probe.engines import forward, make_engine
from probe.engines.base import Engine
from probe.errors import EngineError, UsageError
from probe.preprocess.spec import CAFFE_BGR, TORCHVISION, PreprocessSpec
from tests.needs import needs_mxnet
from tests.parameters import draw_parameters
from tests.zoo import LACKING, zoo_network

pytestmark = needs_mxnet

SPEC = BACKBONES["resnet18"]
GAP = SPEC.layer("gap")
PARAMETERS = draw_parameters(SPEC, GAP)
RNG = np.random.default_rng(0)


def engine(preprocess: PreprocessSpec = TORCHVISION, *, batch_size: int = 4) -> Engine:
    return make_engine(
        SPEC,
        PARAMETERS,
        [(GAP, "none")],
        preprocess.with_size(32),
        batch_size=batch_size,
        engine="mxnet",
        device="cpu",
    )


def images(count: int) -> np.ndarray:
    return RNG.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("preprocess", [TORCHVISION, CAFFE_BGR], ids=lambda spec: spec.name)
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "efficientnet_lite0", "densenet121"])
def test_the_fused_network_agrees_with_the_plain_one_fed_by_hand(
    name: str, preprocess: PreprocessSpec, mx: Any
) -> None:
    spec = BACKBONES[name]
    gap, parameters = spec.layer("gap"), draw_parameters(spec, spec.layer("gap"))
    batch = images(3)
    fast = make_engine(
        spec,
        parameters,
        [(gap, "none")],
        preprocess.with_size(32),
        batch_size=3,
        engine="mxnet",
        device="cpu",
    )
    (found,) = fast.collect(fast.submit(batch))
    cuts = [(gap, "none")]
    (eager,) = forward(spec, parameters, cuts, preprocess.with_size(32), batch)
    error = np.linalg.norm(found - eager, axis=1) / np.linalg.norm(eager, axis=1)
    assert error.max() < 1e-4
    if name in LACKING:
        return
    net = zoo_network(mx, name)
    for key, parameter in net._collect_params_with_prefix().items():
        if spec.uses(gap, key):
            parameter.shape = parameters[key].shape
            parameter.initialize()
            parameter.set_data(mx.nd.array(parameters[key]))
    x = batch[..., ::-1] if preprocess.channels == "BGR" else batch
    x = (x * preprocess.scale - np.array(preprocess.mean)) / np.array(preprocess.std)
    y = mx.nd.array(x.transpose(0, 3, 1, 2))
    for block in list(net.features)[: gap.after]:
        y = block(y)
    plain = y.asnumpy().mean((2, 3))
    error = np.linalg.norm(found - plain, axis=1) / np.linalg.norm(plain, axis=1)
    assert error.max() < 1e-4  # the contract between engines


def test_a_row_depends_on_its_image_alone() -> None:
    batch = images(4)
    one = engine()
    (together,) = one.collect(one.submit(batch))
    (shuffled,) = one.collect(one.submit(batch[::-1]))
    np.testing.assert_allclose(together, shuffled[::-1], rtol=1e-5, atol=1e-6)
    single = engine(batch_size=1)
    alone = np.concatenate([single.collect(single.submit(batch[i : i + 1]))[0] for i in range(4)])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


def test_a_short_batch_gives_as_many_rows() -> None:
    one, batch = engine(), images(4)
    (whole,) = one.collect(one.submit(batch))
    (short,) = one.collect(one.submit(batch[:3]))
    np.testing.assert_allclose(short, whole[:3], rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="a batch of 5, expected 1 to 4"):
        one.submit(images(5))


def test_batches_in_flight_do_not_overwrite_each_other() -> None:
    one = engine()
    batches = [images(4) for _ in range(3)]
    apart = [one.collect(one.submit(batch))[0] for batch in batches]
    tickets = [one.submit(batch) for batch in batches]
    for expected, ticket in zip(apart, tickets, strict=True):
        np.testing.assert_array_equal(one.collect(ticket)[0], expected)


def test_several_cuts_come_from_one_pass() -> None:
    cuts = [(SPEC.layer("stage2"), "max"), (SPEC.layer("stage4"), "flatten"), (GAP, "none")]
    both = make_engine(
        SPEC,
        PARAMETERS,
        cuts,
        TORCHVISION.with_size(32),
        batch_size=2,
        engine="mxnet",
        device="cpu",
    )
    outputs = both.collect(both.submit(images(2)))
    assert [output.shape for output in outputs] == [(2, 128), (2, 512), (2, 512)]
    assert all(output.dtype == np.float32 for output in outputs)


@pytest.mark.parametrize("word", ["tpu", "cpu:1", "gpu:x", "gpu:-1", "cuda:0,", "cuda:0,1,0"])
def test_a_device_that_is_none_is_refused(word: str) -> None:
    from probe.engines.mxnet.engine import choose_devices

    with pytest.raises(UsageError, match=r"expected auto, cpu, gpu|names a device twice"):
        choose_devices(word)


def test_a_gpu_that_is_not_there_says_why(mx: Any) -> None:
    if mx.context.num_gpus():
        pytest.skip("there is a GPU")
    from probe.engines.mxnet.engine import choose_devices

    assert choose_devices("auto") == ["cpu"]
    for word in ("gpu", "gpu:0,1"):
        with pytest.raises(EngineError, match=r"CPU build|sees 0 GPU"):
            choose_devices(word)
