"""One step: gradients by finite differences, what is frozen, norms, averages, hard examples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from probe.finetune.optimizers import BETA1, BETA2, EPSILON
from probe.finetune.rates import Rate
from tests.finetune.data import no_dropout, tiny_batch, tiny_network, tiny_parameters

EVERYTHING = [n for n in tiny_parameters() if "running" not in n]


def all_learn(network: Any, frozen: int = 0, names: list[str] | None = None) -> None:
    network.learn({n: Rate(factor=1.0, decayed=False) for n in names or EVERYTHING}, frozen)


def loss_of(network: Any, data: Any, targets: Any) -> float:
    return float(network.step(data, targets, no_dropout, size=8).asnumpy()[0])


@pytest.mark.parametrize("global_bn", [True, False])
def test_the_gradient_is_that_of_finite_differences(global_bn: bool) -> None:
    network = tiny_network(global_bn=global_bn)
    all_learn(network)
    data, targets = tiny_batch()
    loss_of(network, data, targets)
    state = network.state
    gradients = state.weights.values(state.gradients)
    slices = state.weights.slices()
    rng = np.random.default_rng(0)
    for name in EVERYTHING:
        place = tuple(int(rng.integers(side)) for side in gradients[name].shape)
        whole, found = slices[name].asnumpy(), []
        for step in (1e-3, -1e-3):
            moved = whole.copy()
            moved[place] += step
            slices[name][:] = moved
            found.append(loss_of(network, data, targets))
        slices[name][:] = whole
        assert (found[0] - found[1]) / 2e-3 == pytest.approx(
            gradients[name][place], rel=0.02, abs=2e-3
        )
    assert max(abs(g).max() for g in gradients.values()) > 0.01  # and is not zero everywhere


def test_what_is_frozen_keeps_its_bits_and_gives_the_same_as_the_whole() -> None:
    whole, upper = tiny_network(), tiny_network()
    all_learn(whole)
    all_learn(upper, frozen=4, names=[n for n in EVERYTHING if n > "features.3"])
    data, targets = tiny_batch()
    assert loss_of(whole, data, targets) == pytest.approx(loss_of(upper, data, targets), abs=1e-6)
    before = upper.state.weights.values() | upper.state.aux.values()
    upper.state.update(lr=0.1, wd=0.1, momentum=0.9, rescale=1.0)
    after = upper.state.weights.values() | upper.state.aux.values()
    for name, value in before.items():
        learns = name > "features.3"
        assert (value.tobytes() != after[name].tobytes()) == learns, name
    kept = upper.lower(data)
    assert loss_of(upper, kept, targets) == pytest.approx(loss_of(upper, data, targets), abs=1e-6)


@pytest.mark.parametrize("global_bn", [True, False])
def test_batch_norms_statistics_move_only_if_asked(global_bn: bool) -> None:
    network = tiny_network(global_bn=global_bn)
    all_learn(network)
    before = network.state.aux.values()
    loss_of(network, *tiny_batch())
    after = network.state.aux.values()
    for name, value in before.items():
        assert (value.tobytes() == after[name].tobytes()) == global_bn, name


def test_dropout_is_what_the_mask_says_and_prediction_has_none() -> None:
    network = tiny_network()
    all_learn(network)
    data, targets = tiny_batch()

    def closed(name: str, shape: tuple[int, ...]) -> np.ndarray:
        assert name == "mask3"
        return np.zeros(shape, np.float32)

    with_all = loss_of(network, data, targets)
    without = float(network.step(data, targets, closed, size=8).asnumpy()[0])
    assert without != pytest.approx(with_all, abs=1e-3)
    ((_, _, p),) = list(network.predict(iter([(np.arange(6), data)])))
    assert float(-(targets * np.log(p)).sum(axis=1).mean()) == pytest.approx(with_all, abs=1e-5)


def test_hard_examples_alone_are_learnt_from() -> None:
    data, targets = tiny_batch()
    hard = tiny_network(hardest=2)
    all_learn(hard)
    loss_of(hard, data, targets)
    ((_, _, p),) = list(hard.predict(iter([(np.arange(6), data)])))
    worst = np.argsort((targets * np.log(p)).sum(axis=1))[:2]
    only = tiny_network(batch=2)
    all_learn(only)
    only.step(data[worst], targets[worst], no_dropout, size=8)
    expected = only.state.gradients.asnumpy()
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(hard.state.gradients.asnumpy(), expected, atol=1e-5)


def test_accumulated_gradients_are_those_of_the_batches_together() -> None:
    data, targets = tiny_batch()
    parts, whole = tiny_network(accumulate=True, batch=3), tiny_network()
    all_learn(parts)
    all_learn(whole)
    for half in (slice(0, 3), slice(3, 6)):
        parts.step(data[half], targets[half], no_dropout, size=8)
    loss_of(whole, data, targets)
    both = parts.state.gradients.asnumpy() / 2
    np.testing.assert_allclose(both, whole.state.gradients.asnumpy(), atol=1e-5)


def test_a_batch_in_parts_is_the_same_step_dropout_included() -> None:
    data, targets = tiny_batch()
    rng = np.random.default_rng(2)
    drawn: list[tuple[int, ...]] = []

    def masks(name: str, shape: tuple[int, ...]) -> np.ndarray:
        drawn.append(shape)
        return kept[: shape[0]]

    kept = 2 * (rng.random((6, 4, 8, 8)) < 0.5).astype(np.float32)
    found = {}
    for part in (None, 3, 2, 1):
        network = tiny_network()
        network.part = part
        all_learn(network)
        for _ in range(2):  # the second time into the same arrays
            network.state.gradients[:] = 0
            told = network.step(data, targets, masks, size=8).asnumpy()
        found[part] = told, network.state.gradients.asnumpy() / network.parts
    assert set(drawn) == {(6, 4, 8, 8)}
    for part in (3, 2, 1):
        for whole, parts in zip(found[None], found[part], strict=True):
            np.testing.assert_allclose(parts, whole, atol=1e-6, rtol=1e-5)


def reference(name: str, w: Any, grads: list[Any], lr: float, wd: float) -> Any:
    """Return weights after some steps, as the papers have them, in float64."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, gradient in enumerate(grads, start=1):
        g = gradient + (0 if name == "adamw" else wd * w)
        if name == "sgd":
            m = 0.9 * m - lr * g
            w = w + m
            continue
        m, v = BETA1 * m + (1 - BETA1) * g, BETA2 * v + (1 - BETA2) * g * g
        scale = np.sqrt(1 - BETA2**t) / (1 - BETA1**t)
        decay = wd * w if name == "adamw" else 0
        w = w - lr * (scale * m / (np.sqrt(v) + EPSILON) + decay)
    return w


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_an_optimizer_is_the_one_of_the_paper(name: str) -> None:
    network = tiny_network(optimizer=name, ema=0.75)
    state, rng = network.state, np.random.default_rng(3)
    rates = {n: Rate(factor=0.5, decayed=n.endswith("weight")) for n in EVERYTHING}
    network.learn(rates, 0)
    start, average = state.weights.values(), state.weights.values()
    drawn = []
    for _ in range(3):
        drawn.append(rng.normal(0, 1, len(state.weights)).astype(np.float32))
        state.gradients[:] = drawn[-1]
        state.update(lr=0.02, wd=0.1, momentum=0.9, rescale=0.5)
        now = state.weights.values()
        average = {n: 0.75 * average[n] + 0.25 * now[n] for n in now}
    for one, (offset, shape) in state.weights.places.items():
        stop = offset + int(np.prod(shape))
        grads = [0.5 * g[offset:stop].reshape(shape).astype(np.float64) for g in drawn]
        decay = 0.1 if one.endswith("weight") else 0.0
        wanted = reference(name, start[one].astype(np.float64), grads, 0.01, decay)
        np.testing.assert_allclose(now[one], wanted, rtol=2e-5, atol=2e-6, err_msg=one)
        np.testing.assert_allclose(state.best_values()[one], average[one], rtol=1e-5, atol=1e-6)
