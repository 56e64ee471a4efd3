"""A Gluon network of fully connected layers, trained by mini-batches that are fetched one by one.

The general case beside `softmax.SoftmaxLayer`, which is the fast one: hidden layers, dropout,
weighted rows, and rows that stay in their file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.engines import load_mxnet
from probe.evaluation.streaming import rows_at_once
from probe.evaluation.task import task_of
from probe.heads.normalize import Rows32
from probe.heads.softmax import (
    NAME,
    Optimizer,
    limit_threads,
    loss_and_correct,
    loss_and_top1,
    smoothed,
    threads_for,
)

EVALUATE_NUMBERS = 1 << 22  # features or activations at a time: 16 MB

Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The layers of a network.

    Parameters
    ----------
    hidden : tuple of int
        Units of each ReLU layer.
    dropout : float
        Chance that a unit is left out of a step: of hidden layers, or where there are none of the
        features.
    """

    hidden: tuple[int, ...]
    dropout: float


class Network:
    """Fully connected layers under a cross-entropy, and what is needed to train them.

    Parameters
    ----------
    X : float32, (n_rows, n_features)
        An array, or rows that are read when their batch comes.
    y : int, (n_rows,)
        0 to n_classes - 1. Or (n_rows, n_classes) of 0 and 1: a sigmoid a class.
    shape : Shape
    batch_size : int
        The last batch of an epoch may be smaller.
    smoothing : float
        That part of each target is spread over all classes, or over yes and no.
    weights : float64, (n_classes,)
        How much a row of each class counts; with sigmoids, how much its yes counts.
    start : float, (n_classes,), optional
        The first biases of the last layer, else 0.
    random : RandomState
        Of the hidden layers' first weights and of dropout.

    References
    ----------
    He et al., "Delving deep into rectifiers", arXiv:1502.01852: the first weights. Srivastava et
    al., "Dropout", JMLR 15, 2014. Szegedy et al., arXiv:1512.00567, 7: label smoothing.
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
        mx = load_mxnet(NAME).mx
        self._mx, self._X, self._y, self._batch_size = mx, X, y, batch_size
        self._dropout, self._random = shape.dropout, random
        self._targets = targets_of(n_classes, smoothing, weights)
        self._smoothing, self._weights = smoothing, weights.astype(np.float32)
        self._layers = _layers(mx, first_weights((X.shape[1], *shape.hidden, n_classes), random))
        parameters = [p for layer in self._layers for p in (layer.weight, layer.bias)]
        for layer in self._layers:
            layer.bias.wd_mult = 0.0
        if start is not None:
            self._layers[-1].bias.set_data(mx.nd.array(start))
        self._trainer = mx.gluon.Trainer(parameters, optimizer.create(mx))
        self._work = sum(layer.weight.data().size for layer in self._layers)  # a row

    def train_epoch(self, order: NDArray[np.intp], rates: Sequence[float]) -> None:
        """Take one step a batch over the rows in this order, each at its learning rate."""
        mx, size = self._mx, self._batch_size
        with limit_threads(threads_for(min(size, len(order)) * self._work)):
            for number, rate in enumerate(rates):
                batch = order[number * size : (number + 1) * size]
                X = mx.nd.array(self._X[batch])
                loss_of = self._loss if task_of(self._y).exclusive else self._binary_loss
                with mx.autograd.record():
                    loss = loss_of(self._forward(X, train=True), self._y[batch])
                loss.backward()
                self._trainer.set_learning_rate(rate)
                self._trainer.step(len(batch))

    def _loss(self, scores: Any, y: NDArray[np.intp]) -> Any:
        targets = self._mx.nd.array(self._targets[y])
        return -(self._mx.nd.log_softmax(scores) * targets).sum()

    def _binary_loss(self, scores: Any, y: NDArray[np.intp]) -> Any:
        """Return the sum of all classes' losses: each is a problem of its own."""
        nd = self._mx.nd
        targets = nd.array(smoothed(y, self._smoothing))
        losses = nd.Activation(scores, act_type="softrelu") - scores * targets  # log(1 + e^s) - ts
        return (losses * nd.array(np.where(y == 1, self._weights, np.float32(1)))).sum()

    def _forward(self, h: Any, *, train: bool) -> Any:
        """Return the scores of rows, (n, n_classes); dropout is NumPy's, so that a seed decides."""
        *hidden, last = self._layers
        for layer in hidden:
            h = self._mx.nd.relu(layer(h))
            if train:
                h = self._drop(h)
        return last(self._drop(h) if train and not hidden else h)

    def _drop(self, h: Any) -> Any:
        if not self._dropout:
            return h
        kept = self._random.random_sample(h.shape) >= self._dropout
        return h * self._mx.nd.array(kept / (1 - self._dropout))

    def evaluate(self, X: Rows32, y: NDArray[np.intp]) -> tuple[float, float | None]:
        """Return mean cross-entropy in nats and top-1; -1 is a class that training lacks.

        No top-1 where rows may have several labels.
        """
        widest = max(X.shape[1], *(len(layer.bias.data()) for layer in self._layers))
        step = rows_at_once(X, max(1, EVALUATE_NUMBERS // widest))
        totals = []
        for start in range(0, len(y), step):
            block = self._mx.nd.array(X[start : start + step])
            with limit_threads(threads_for(len(block) * self._work)):
                logits = self._forward(block, train=False).asnumpy()
            totals.append(loss_and_correct(logits, y[start : start + step]))
        return loss_and_top1(totals, len(y))

    def evaluate_training(self, y: NDArray[np.intp]) -> tuple[float, float | None]:
        """Return mean cross-entropy and top-1 on the training rows, without dropout."""
        return self.evaluate(self._X, y)

    def share(self, X: Rows32) -> Rows32:
        """Return rows as `evaluate` takes them."""
        return X

    def parameters(self) -> list[tuple[Array, Array]]:
        """Return copies of each layer's weight, (units, width), and bias, (units,)."""
        return [(a.weight.data().asnumpy(), a.bias.data().asnumpy()) for a in self._layers]


def targets_of(
    n_classes: int, smoothing: float, weights: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return what the scores of a row of each class should become, times its weight, (K, K)."""
    targets = (1 - smoothing) * np.eye(n_classes) + smoothing / n_classes
    return (targets * weights[:, None]).astype(np.float32)


def first_weights(
    widths: Sequence[int], random: np.random.RandomState
) -> list[NDArray[np.float64]]:
    """Return each layer's first weight, (units, width): hidden ones at random, the last zero."""
    *hidden, (last_width, n_classes) = pairwise(widths)
    weights = [
        random.normal(scale=np.sqrt(2 / width), size=(units, width)) for width, units in hidden
    ]
    return [*weights, np.zeros((n_classes, last_width))]


def _layers(mx: Any, weights: Sequence[NDArray[np.float64]]) -> list[Any]:
    """Return Dense layers that start at these weights and at no bias."""
    layers = []
    for weight in weights:
        units, width = weight.shape
        layer = mx.gluon.nn.Dense(units, in_units=width, weight_initializer="zeros")
        layer.initialize(ctx=mx.cpu())
        layer.weight.set_data(mx.nd.array(weight))
        layers.append(layer)
    return layers
