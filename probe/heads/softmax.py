"""One Gluon Dense layer under a cross-entropy, trained by mini-batches on rows in memory.

A step of this size is some 5 MFLOP: dispatch, not arithmetic, is what takes the time. So the
Gluon block is traced once, with the gathering of the batch inside, and bound to the block's own
parameter arrays: a step is then one call forward, one back, and the optimizer's two. Measured
against Gluon's usual record / backward / Trainer.step in benchmarks/dense_head.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from probe.core.machine import environment_variable
from probe.engines import load_mxnet
from probe.errors import HeadError
from probe.evaluation.metrics import UNSEEN_LOSS
from probe.evaluation.task import task_of

NAME = "the dense head"  # the others need no MXNet
LARGEST = 2**31 - 1  # elements of an array, and so the offset of a row, in MXNet's standard build
SMALL_STEP = 4_000_000  # multiply-adds: below, a second thread costs more to wake than it does
EVALUATE_ELEMENTS = 1 << 22  # scores at a time: 16 MB

OptimizerName = Literal["adam", "sgd"]


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """How parameters move: MXNet's `Adam` or `SGD`; wd is the classic L2, added to the gradient."""

    name: OptimizerName
    lr: float
    wd: float
    momentum: float  # of sgd

    def create(self, mx: Any) -> Any:
        """Return MXNet's optimizer; who uses it takes the decay off the biases."""
        options = {"learning_rate": self.lr, "wd": self.wd}
        if self.name == "sgd":
            options["momentum"] = self.momentum
        return mx.optimizer.create(self.name, **options)


class SoftmaxLayer:
    """A Dense layer and what is needed to train it.

    Parameters
    ----------
    X : float32, (n_rows, n_features), C order
        Shared with MXNet, not copied.
    y : int, (n_rows,)
        0 to n_classes - 1. Or (n_rows, n_classes) of 0 and 1: a sigmoid a class, see `sigmoid`.
    batch_size : int
        The last batch of an epoch may be smaller.
    smoothing : float
        That part of each target is spread over all classes, or over yes and no.
    start : float, (n_classes,), optional
        The first biases, else 0.
    """

    def __init__(
        self,
        X: NDArray[np.float32],
        y: NDArray[np.intp],
        *,
        n_classes: int,
        batch_size: int,
        optimizer: Optimizer,
        smoothing: float = 0.0,
        start: NDArray[np.float64] | None = None,
    ) -> None:
        mx = load_mxnet(NAME).mx
        if X.size > LARGEST:
            raise HeadError(
                f"{X.shape[0]} x {X.shape[1]} features are more than MXNet can index; take fewer"
            )
        self._mx = mx
        # MXNet spreads its constant over the other classes, Szegedy et al. theirs over all
        self._smoothing = smoothing * (n_classes - 1) / n_classes
        self._task = task_of(y)
        targets = y if self._task.exclusive else smoothed(y, smoothing)
        self._X, self._y = share(mx, X), mx.nd.array(targets, dtype="float32")
        # The problem is convex, so it starts at zero: the seed moves nothing but the rows' order.
        self._layer = mx.gluon.nn.Dense(n_classes, in_units=X.shape[1], weight_initializer="zeros")
        self._layer.initialize(ctx=mx.cpu())
        parameters = (self._layer.weight, self._layer.bias)
        self._weight, self._bias = (parameter.data() for parameter in parameters)
        if start is not None:
            self._bias[:] = mx.nd.array(start)
        self._optimizer = optimizer.create(mx)
        self._optimizer.set_wd_mult({1: 0.0})  # the bias, by its index below
        self._updates = [
            (index, p.data(), p.grad(), self._optimizer.create_state(index, p.data()))
            for index, p in enumerate(parameters)
        ]
        self._order = mx.nd.zeros(len(X), dtype="int32")
        starts = range(0, len(X), batch_size)
        self._batches = [
            (self._order[i : i + batch_size], min(batch_size, len(X) - i)) for i in starts
        ]
        self._steps = {size: self._bind(size) for size in {size for _, size in self._batches}}

    def _bind(self, size: int) -> tuple[Any, Any]:
        """Return (row numbers to fill in, executor) for batches of `size` rows."""
        mx = self._mx
        X, y, rows = (mx.sym.var(name) for name in ("X", "y", "rows"))
        # Forward it is the softmax, backward the gradient of its cross-entropy summed over rows.
        scores, targets = self._layer(mx.sym.take(X, rows)), mx.sym.take(y, rows)
        if self._task.exclusive:
            graph = mx.sym.SoftmaxOutput(scores, targets, smooth_alpha=self._smoothing)
        else:  # likewise of the sigmoids, which MXNet averages over the classes
            classes = self._y.shape[1]
            graph = mx.sym.LogisticRegressionOutput(scores, targets, grad_scale=classes)
        arrays = {"X": self._X, "y": self._y, "rows": mx.nd.zeros(size, dtype="int32")}
        parameters = (self._layer.weight, self._layer.bias)
        gradients = {p.name: p.grad() for p in parameters}
        with environment_variable("MXNET_SUBGRAPH_VERBOSE", "0"):  # or it chats on stderr
            executor = graph.bind(
                mx.cpu(),
                arrays | {p.name: p.data() for p in parameters},
                args_grad=gradients,
                grad_req=dict.fromkeys(arrays, "null") | dict.fromkeys(gradients, "write"),
            )
        return arrays["rows"], executor

    def train_epoch(self, order: NDArray[np.integer[Any]], rates: Sequence[float]) -> None:
        """Take one step a batch over the rows in this order, each at its learning rate."""
        with limit_threads(threads_for(self._batches[0][1] * self._weight.size)):
            self._train_batches(order, rates)

    def _train_batches(self, order: NDArray[np.integer[Any]], rates: Sequence[float]) -> None:
        self._order[:] = order.astype(np.int32)
        for (batch, size), rate in zip(self._batches, rates, strict=True):
            self._optimizer.lr = rate
            rows, executor = self._steps[size]
            batch.copyto(rows)
            executor.forward(is_train=True)
            executor.backward()
            self._optimizer.rescale_grad = 1.0 / size  # the mean over a short batch's own rows
            for update in self._updates:
                self._optimizer.update(*update)

    def evaluate(self, X: Any, y: NDArray[np.intp]) -> tuple[float, float | None]:
        """Return mean cross-entropy in nats and top-1 on rows given by `share`; -1 is no class.

        None where rows may have several labels.
        """
        n_classes = len(self._bias)
        step = max(1, EVALUATE_ELEMENTS // n_classes)
        totals = []
        for start in range(0, len(y), step):
            with limit_threads(threads_for(min(step, len(y)) * self._weight.size)):
                logits = self._mx.nd.FullyConnected(
                    X[start : start + step], self._weight, self._bias, num_hidden=n_classes
                ).asnumpy()
            totals.append(loss_and_correct(logits, y[start : start + step]))
        return loss_and_top1(totals, len(y))

    def evaluate_training(self, y: NDArray[np.intp]) -> tuple[float, float | None]:
        """Return mean cross-entropy and top-1 on the training rows."""
        return self.evaluate(self._X, y)

    def share(self, X: NDArray[np.float32]) -> Any:
        """Return rows as `evaluate` takes them."""
        return share(self._mx, X)

    def parameters(self) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Return copies of the weight, (n_classes, n_features), and the bias, (n_classes,)."""
        return [(self._weight.asnumpy(), self._bias.asnumpy())]


def share(mx: Any, X: NDArray[np.float32]) -> Any:
    """Return an MXNet array on the same memory."""
    return mx.nd.from_numpy(X.view(np.ndarray))  # a view: from_numpy makes what it gets read-only


def threads_for(multiply_adds: int) -> int:
    """Return 1 for work so small that threads get in each other's way, else all there are.

    On a busy machine it matters more still: OpenMP's threads wait for each other by spinning.
    """
    return 1 if multiply_adds < SMALL_STEP else load_mxnet(NAME).threads()


def limit_threads(count: int) -> AbstractContextManager[None]:
    """Run MXNet's operators on at most `count` threads for a while."""
    limited: AbstractContextManager[None] = load_mxnet(NAME).limit_threads(count)
    return limited


def smoothed(y: NDArray[np.intp], smoothing: float) -> NDArray[np.float32]:
    """Return targets of 0 and 1 with that part of each spread over yes and no."""
    targets: NDArray[np.float32] = y.astype(np.float32) * np.float32(1 - smoothing)
    return targets + np.float32(smoothing / 2)


def loss_and_top1(
    totals: Sequence[tuple[float, int | None]], n_rows: int
) -> tuple[float, float | None]:
    """Return the means of what `loss_and_correct` gave for blocks of rows."""
    loss = sum(loss for loss, _ in totals) / n_rows
    right = [one for _, one in totals if one is not None]
    return loss, sum(right) / n_rows if right else None


def loss_and_correct(logits: NDArray[np.float32], y: NDArray[np.intp]) -> tuple[float, int | None]:
    """Return the summed cross-entropy and how many rows are right; (n_rows, n_classes).

    With a matrix of 0 and 1 for `y` the loss of a row is the mean over its classes, and there is no
    one label that could be right.
    """
    if not task_of(y).exclusive:
        with np.errstate(over="ignore", invalid="ignore"):
            losses = np.logaddexp(0, logits) - y * logits
        return float(losses.sum(dtype=np.float64)) / y.shape[1], None
    scores = np.ascontiguousarray(logits.T)  # few long rows: four times as fast as many short ones
    correct = int(np.count_nonzero(scores.argmax(axis=0) == y))
    own = logits[np.arange(len(y)), y]  # for -1 some other class's, replaced below
    top = scores.max(axis=0)
    with np.errstate(over="ignore", invalid="ignore"):  # of a fit that diverged: the caller checks
        np.exp(scores - top, out=scores)
        losses = np.log(scores.sum(axis=0)) + (top - own)
    losses[y < 0] = UNSEEN_LOSS
    return float(losses.sum(dtype=np.float64)), correct
