"""The dense head's layers in NumPy: what trains them where MXNet is not installed.

Same first weights, batches, dropout masks and arithmetic of the optimizer as the Gluon layers of
`network` and `softmax`, whose place `NumpyNetwork` takes: weights agree to 1e-4 of the largest
after epochs (a test). `Parameter` also moves the many heads that `dense` trains at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.evaluation.streaming import rows_at_once
from probe.evaluation.task import task_of
from probe.heads.network import EVALUATE_NUMBERS, Array, Shape, first_weights, targets_of
from probe.heads.normalize import Rows32
from probe.heads.products import matmul, one_thread_a_product
from probe.heads.softmax import (
    SMALL_STEP,
    Optimizer,
    OptimizerName,
    loss_and_correct,
    loss_and_top1,
    smoothed,
)

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # of Adam, as MXNet has them
ONE = np.float32(1)
REST1, REST2 = ONE - np.float32(BETA1), ONE - np.float32(BETA2)  # which it takes from float32


@dataclass(eq=False)
class Parameter:
    """A float32 array that is trained, and what its optimizer remembers."""

    value: Array
    first: Array
    second: Array
    scratch: Array

    @classmethod
    def of(cls, value: Array) -> Parameter:
        """Return a parameter that starts at a value, which it takes over."""
        return cls(value, *(np.zeros(value.shape, np.float32) for _ in range(3)))

    def move(
        self,
        kind: OptimizerName,
        gradient: Array,
        rate: Array | np.float32,
        *,
        momentum: np.float32,
        decay: Array | np.float32 | None = None,
    ) -> None:
        """Move it in place, as MXNet's `adam_update` or `sgd_mom_update` do.

        Parameters
        ----------
        gradient : float32, of the parameter's shape
            Overwritten.
        rate : float32
            The learning rate, for Adam as `adam_rate` corrects it.
        momentum : float32
            Of sgd.
        decay : float32, optional
            The L2 penalty.
        """
        scratch = self.scratch
        if decay is not None and np.any(decay):
            gradient += np.multiply(self.value, decay, out=scratch)
        if kind == "sgd":
            self.first *= momentum
            self.first -= np.multiply(gradient, rate, out=scratch)
            self.value += self.first
            return
        self.first *= np.float32(BETA1)
        self.first += np.multiply(gradient, REST1, out=scratch)
        np.multiply(gradient, gradient, out=scratch)
        scratch *= REST2
        self.second *= np.float32(BETA2)
        self.second += scratch
        np.sqrt(self.second, out=scratch)
        scratch += np.float32(EPSILON)
        np.divide(self.first, scratch, out=scratch)
        scratch *= rate
        self.value -= scratch


def adam_rate(lr: NDArray[np.float64] | float, step: int) -> NDArray[np.float64]:
    """Return the learning rate of a step, counted from 1, with Adam's bias correction."""
    return np.asarray(lr * np.sqrt(1 - BETA2**step) / (1 - BETA1**step))


class NumpyNetwork:
    """Fully connected layers under a cross-entropy, and what is needed to train them.

    Parameters are those of `probe.heads.network.Network`.
    """

    def __init__(
        self,
        X: Rows32,
        y: NDArray[np.intp],
        *,
        n_classes: int,
        shape: Shape,
        batch_size: int,
        optimizer: Optimizer,
        smoothing: float,
        weights: NDArray[np.float64],
        random: np.random.RandomState,
        start: NDArray[np.float64] | None = None,
    ) -> None:
        self._X, self._y, self._batch_size = X, y, batch_size
        self._dropout, self._random, self._optimizer = shape.dropout, random, optimizer
        self._targets = targets_of(n_classes, smoothing, weights)
        self._smoothing, self._weights = smoothing, weights.astype(np.float32)
        widths = (X.shape[1], *shape.hidden, n_classes)
        first = [weight.astype(np.float32) for weight in first_weights(widths, random)]
        biases = [np.zeros(len(weight), np.float32) for weight in first]
        if start is not None:
            biases[-1][:] = start
        self._layers = [
            (Parameter.of(weight), Parameter.of(bias))
            for weight, bias in zip(first, biases, strict=True)
        ]
        self._steps = 0

    def train_epoch(self, order: NDArray[np.intp], rates: Sequence[float]) -> None:
        """Take one step a batch over the rows in this order, each at its learning rate."""
        size = self._batch_size
        # of a fit that diverged the caller finds the loss
        with self._threads(size), np.errstate(over="ignore", invalid="ignore"):
            for number, rate in enumerate(rates):
                batch = order[number * size : (number + 1) * size]
                self._step(self._X[batch], self._y[batch], rate)

    def _step(self, X: Array, y: NDArray[np.intp], lr: float) -> None:
        inputs = self._forward(X, train=True)
        gradient = self._slope(inputs.pop(), y)  # (n, units) of what a layer gives
        gradient /= np.float32(len(X))
        self._steps += 1
        rule, passed = self._optimizer, np.float32(1 / (1 - self._dropout))
        rate = np.float32(adam_rate(lr, self._steps) if rule.name == "adam" else lr)
        momentum, decay = np.float32(rule.momentum), np.float32(rule.wd)
        for (weight, bias), below in zip(reversed(self._layers), reversed(inputs), strict=True):
            of_weight, of_bias = matmul(gradient.T, below), gradient.sum(axis=0)
            if below is not inputs[0]:  # through dropout and ReLU: both are 0 where the input is
                gradient = matmul(gradient, weight.value)
                gradient *= (below > 0) * passed
            weight.move(rule.name, of_weight, rate, momentum=momentum, decay=decay)
            bias.move(rule.name, of_bias, rate, momentum=momentum)

    def _slope(self, scores: Array, y: NDArray[np.intp]) -> Array:
        """Return the gradient of the summed loss by the scores, (n, n_classes), in their place."""
        if task_of(y).exclusive:
            targets = self._targets[y]
            scores -= scores.max(axis=1, keepdims=True)
            np.exp(scores, out=scores)
            scores *= targets.sum(axis=1, keepdims=True) / scores.sum(axis=1, keepdims=True)
            scores -= targets
            return scores
        np.exp(np.negative(scores, out=scores), out=scores)
        scores += ONE
        np.reciprocal(scores, out=scores)  # a large score overflowed to 1 / inf, which is 0
        scores -= smoothed(y, self._smoothing)
        scores *= np.where(y == 1, self._weights, ONE)
        return scores

    def _forward(self, h: Array, *, train: bool) -> list[Array]:
        """Return what each layer takes, and the scores, (n, n_classes)."""
        passed = []
        for number, (weight, bias) in enumerate(self._layers):
            if number:
                h = np.maximum(h, np.float32(0), out=h)
            if train and self._dropout and (number or len(self._layers) == 1):
                kept = self._random.random_sample(h.shape) >= self._dropout
                h *= (kept / (1 - self._dropout)).astype(np.float32)
            passed.append(h)
            h = matmul(h, weight.value.T)
            h += bias.value
        return [*passed, h]

    def evaluate(self, X: Rows32, y: NDArray[np.intp]) -> tuple[float, float | None]:
        """Return mean cross-entropy in nats and top-1; -1 is a class that training lacks.

        No top-1 where rows may have several labels.
        """
        widest = max(X.shape[1], *(len(bias.value) for _, bias in self._layers))
        step = rows_at_once(X, max(1, EVALUATE_NUMBERS // widest))
        totals = []
        with self._threads(step), np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, len(y), step):
                *_, scores = self._forward(X[start : start + step], train=False)
                totals.append(loss_and_correct(scores, y[start : start + step]))
        return loss_and_top1(totals, len(y))

    def evaluate_training(self, y: NDArray[np.intp]) -> tuple[float, float | None]:
        """Return mean cross-entropy and top-1 on the training rows, without dropout."""
        return self.evaluate(self._X, y)

    def share(self, X: Rows32) -> Rows32:
        """Return rows as `evaluate` takes them."""
        return X

    def parameters(self) -> list[tuple[Array, Array]]:
        """Return copies of each layer's weight, (units, width), and bias, (units,)."""
        return [(weight.value.copy(), bias.value.copy()) for weight, bias in self._layers]

    def _threads(self, n_rows: int) -> AbstractContextManager[None]:
        """Keep products of so many rows to one thread where a second costs more than it does."""
        work = n_rows * sum(weight.value.size for weight, _ in self._layers)
        return one_thread_a_product() if work < SMALL_STEP else nullcontext()
