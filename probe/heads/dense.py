"""The dense head: fully connected layers and cross-entropy, by mini-batches.

Gluon trains it where MXNet is installed, and the same steps in NumPy where it is not.

Many of them are fitted at once where learning rates and weight decays are tried: heads that share
the row order share each batch, so their scores are one product with all their weights side by
side. A step of one head is mostly dispatch and memory; fifty cost some ten times one, not fifty
times. Heads of other seeds have other batches: each seed is a product of its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from numbers import Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.utils import check_random_state

from probe.core.machine import usable_cores
from probe.engines import engine_is_installed
from probe.errors import HeadError, OverflowHeadError
from probe.evaluation.task import task_of
from probe.heads.base import LinearHead, OnEpoch, RowsLike, Validation
from probe.heads.catalog import Dense
from probe.heads.checks import above_zero, one_of, part, require, whole
from probe.heads.history import Epoch
from probe.heads.network import Network, Shape
from probe.heads.normalize import Normalization, NormalizedRows, Rows32
from probe.heads.numpy_network import NumpyNetwork, Parameter, adam_rate
from probe.heads.products import matmul, one_thread_a_product, parts
from probe.heads.schedule import (
    SAMPLINGS,
    SCHEDULES,
    ClassWeight,
    Sampling,
    Schedule,
    class_weights,
    epoch_order,
    prior_scores,
    step_sizes,
    yes_weights,
)
from probe.heads.softmax import Optimizer, OptimizerName, SoftmaxLayer, smoothed

log = logging.getLogger(__name__)

Layers = SoftmaxLayer | Network | NumpyNetwork


class DenseHead(Dense, LinearHead):
    """Fully connected layers under a softmax, trained by mini-batches.

    Where a row may have several labels, under a sigmoid a class; the loss is then the sum of the
    classes' cross-entropies, so that another class changes nothing for a linear head's others.

    MXNet trains it where that is installed, NumPy elsewhere, with the same steps: weights agree to
    1e-4. The same `random_state` gives the same bits on the same machine and thread count.

    Parameters
    ----------
    epochs : int, default=50
    batch_size : int, default=256
        The last batch of an epoch holds what is left.
    optimizer : {"adam", "sgd"}, default="adam"
    lr : float, optional
        Step size at the start; 0.001 for adam and 0.01 for sgd unless given.
    wd : float, default=0.0
        L2 penalty: ``wd * coef`` is added to the gradient of the mean loss. Never on biases.
    momentum : float, optional
        Of sgd, 0.9 unless given; adam has none.
    schedule : {"constant", "cosine", "step"}, default="constant"
        How the step size falls; see `step_sizes`.
    hidden : text like "256,128", or sequence of int, default=""
        Units of ReLU layers before the last one; none: a linear head.
    dropout : float, default=0.0
        Chance that a unit is left out of a step: of hidden layers, or else of the features.
    label_smoothing : float, default=0.0
        That part of each target is spread over all classes, or over yes and no.
    class_weight : {"balanced"}, mapping of class to float, or None, default=None
        What a row of a class counts; ``balanced``: so much that all classes count alike. Where a
        row may have several: what a class's yes counts; ``balanced``: as much as all its noes.
    sampling : {"all", "balanced"}, default="all"
        Each epoch has every row once, or as many rows drawn so that classes are equally frequent,
        which needs one label a row. Not together with `class_weight`: either corrects for rare
        classes, both would do so twice.
    patience : int, optional
        Stop after so many epochs without a lower loss on the validation rows, and keep the best
        epoch's weights.
    normalize : {"standard", "l2", "none"}, default="standard"
        What is done to the features first; learnt from the training rows alone.
    random_state : int, RandomState or None, default=None
        The order of rows, hidden layers' first weights and dropout. The last layer starts at zero,
        see also `first_biases`.

    Attributes
    ----------
    classes_, coef_, intercept_, hidden_, normalizer_, history_ :
        See LinearHead; weights are float32.
    best_epoch_ : int
        Whose weights these are: the last, or with `patience` the best.

    References
    ----------
    Kingma, Ba, "Adam", arXiv:1412.6980. Prechelt, "Early stopping, but when?", 1998.
    """

    best_epoch_: int

    def __init__(
        self,
        *,
        epochs: int = 50,
        batch_size: int = 256,
        optimizer: OptimizerName = "adam",
        lr: float | None = None,
        wd: float = 0.0,
        momentum: float | None = None,
        schedule: Schedule = "constant",
        hidden: Sequence[int] | str = "",
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        class_weight: ClassWeight = None,
        sampling: Sampling = "all",
        patience: int | None = None,
        normalize: Normalization = "standard",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.lr = lr
        self.wd = wd
        self.momentum = momentum
        self.schedule = schedule
        self.hidden = hidden
        self.dropout = dropout
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
        self.sampling = sampling
        self.patience = patience
        self.normalize = normalize
        self.random_state = random_state

    def fit(
        self,
        X: RowsLike,
        y: ArrayLike,
        *,
        validation: Validation | None = None,
        on_epoch: OnEpoch | None = None,
    ) -> Self:
        """Train for all epochs, or until `patience` ends it; see `BaseHead.fit` for the arguments.

        Raises
        ------
        OverflowHeadError
            The loss is no longer finite: the learning rate is too large.
        HeadError
            Also where `patience` has no validation rows to go by.
        EngineError
            MXNet is installed and cannot be imported.
        """
        optimizer = checked_optimizer(self)
        if self.patience is not None and validation is None:
            raise HeadError("patience goes by validation rows, and there are none")
        rows, labels, _ = self._prepare(X, y)
        self.check_sampling()
        random = check_random_state(self.random_state)
        layers = self._layers(self.normalizer_.transform(rows), labels, optimizer, random)
        held_out = self._held_out(layers, validation) if validation is not None else None
        steps = -(-len(rows) // int(self.batch_size))
        rates = optimizer.lr * step_sizes(self.schedule, steps * self.epochs).reshape(-1, steps)
        best = np.inf
        for number, of_epoch in enumerate(rates.tolist(), start=1):
            order = epoch_order(random, labels, self.sampling)
            epoch = run_epoch(
                number, layers, order=order, rates=of_epoch, labels=labels, held_out=held_out
            )
            self.history_.append(epoch)
            if on_epoch is not None:
                on_epoch(epoch)
            watched = self.patience is not None and epoch.val_loss is not None
            if not watched or epoch.val_loss < best:  # type: ignore[operator]
                best, self.best_epoch_ = epoch.val_loss or 0.0, number
                if watched or number == self.epochs:
                    self._keep(layers)
            elif number - self.best_epoch_ >= int(self.patience or 0):
                break
        loss = self.history_[self.best_epoch_ - 1].train_loss
        self.diverged_ = loss > divergence(self)
        if self.diverged_:
            log.warning(
                "dense: the fit diverged, training loss %.3g is worse than guessing; lower lr=%g",
                loss, optimizer.lr,
            )  # fmt: skip
        return self

    @property
    def watches(self) -> str:
        """The option by which a fit depends on its validation rows; empty where it does not."""
        return "" if self.patience is None else "--patience"

    def after_fit(self) -> list[str]:
        """Return that more epochs may be better, where the best epoch was the last."""
        if self.patience is None or self.best_epoch_ != self.epochs:
            return []
        line = f"the validation loss was lowest at epoch {self.epochs}, the last: more may lower it"
        return [f"{line}; raise --epochs"]

    def for_draw(self, seed: int) -> Self:
        """Return an unfitted copy for rows that are drawn anew, without early stopping."""
        fresh = super().for_draw(seed)
        fresh.patience = None
        return fresh

    def for_refit(self) -> Self:
        """Return an unfitted copy: after early stopping, for as many epochs as were best."""
        fresh = super().for_refit()
        if self.patience is not None:
            fresh.set_params(patience=None, epochs=self.best_epoch_)
        return fresh

    def fit_grid(
        self,
        X: RowsLike,
        y: ArrayLike,
        lr: Sequence[float],
        *,
        sample_weight: ArrayLike | None = None,
    ) -> list[DenseHead]:
        """Return a fitted head for each learning rate; this head stays unfitted."""
        self.refuse_weights(sample_weight)
        fitted = self.fit_candidates(X, y, [{"lr": float(one)} for one in lr])
        for one, head in zip(lr, fitted, strict=True):
            if head is None:
                raise OverflowHeadError(f"the fit diverges with lr={one:g}; lower it")
        return [head for head in fitted if head is not None]

    def fit_candidates(
        self,
        X: RowsLike,
        y: ArrayLike,
        candidates: Sequence[Mapping[str, Any]],
        *,
        validation: Validation | None = None,
        jobs: int = 1,
        sample_weight: ArrayLike | None = None,
    ) -> list[DenseHead | None]:
        """Return a fitted head for each candidate, None where it diverged; see `BaseHead`.

        Linear heads of any learning rates, weight decays and seeds are trained at once.
        """
        self.refuse_weights(sample_weight)
        swept = all(set(one) <= {"lr", "wd", "random_state"} for one in candidates)
        if swept and self._is_plain() and self.patience is None:
            return fit_swept(self, X, y, candidates)
        del jobs  # MXNet's threads are the parallel part
        return super().fit_candidates(X, y, candidates, validation=validation)

    def _is_plain(self) -> bool:
        """Whether it is one layer on rows that count alike."""
        return not self.units() and not self.dropout and self.class_weight is None

    def _layers(
        self,
        X: Rows32,
        labels: NDArray[np.intp],
        optimizer: Optimizer,
        random: np.random.RandomState,
    ) -> Layers:
        n_classes, size = len(self.classes_), int(self.batch_size)
        gluon = engine_is_installed("mxnet")
        if gluon and self._is_plain() and not isinstance(X, NormalizedRows):
            return SoftmaxLayer(
                X, labels, n_classes=n_classes, batch_size=size, optimizer=optimizer,
                smoothing=self.label_smoothing, start=self.first_biases(labels),
            )  # fmt: skip
        return (Network if gluon else NumpyNetwork)(
            X, labels, n_classes=n_classes, batch_size=size, optimizer=optimizer,
            shape=Shape(hidden=self.units(), dropout=self.dropout), random=random,
            smoothing=self.label_smoothing, start=self.first_biases(labels),
            weights=(class_weights if self.task_.exclusive else yes_weights)(
                self.class_weight, self.classes_, labels
            ),
        )  # fmt: skip

    def _held_out(self, layers: Any, validation: Validation) -> tuple[Any, NDArray[np.intp]]:
        rows, labels = self._validation_rows(validation)
        return layers.share(self.normalizer_.transform(rows)), labels

    def _keep(self, layers: Layers) -> None:
        *self.hidden_, (self.coef_, self.intercept_) = layers.parameters()

    def first_biases(self, labels: NDArray[np.intp]) -> NDArray[np.float64] | None:
        """Return the biases that training starts at, (n_classes,); None for zeros."""
        if self.task_.exclusive:
            return None
        return prior_scores(labels, yes_weights(self.class_weight, self.classes_, labels))

    def check_sampling(self) -> None:
        """Raise HeadError where rows of several labels should be drawn by their label."""
        if not self.task_.exclusive and self.sampling == "balanced":
            raise HeadError(
                "sampling='balanced' draws rows by their label, and these may have several; "
                "class_weight='balanced' lets rare ones count more"
            )

    def units(self) -> tuple[int, ...]:
        """Return the units of the hidden layers; see `hidden_units`."""
        return hidden_units(self.hidden)

    def check_params(self) -> None:
        super().check_params()
        checked_optimizer(self)
        if self.sampling == "balanced" and self.class_weight is not None:
            raise HeadError(
                "sampling='balanced' and class_weight each correct for rare classes, and both "
                "would do so twice; leave one of them out"
            )


LEARNING_RATES: dict[OptimizerName, float] = {"adam": 1e-3, "sgd": 1e-2}
MOMENTUM = 0.9
MARGIN = 1.01  # of rounding, above what guessing costs


def checked_optimizer(head: DenseHead) -> Optimizer:
    """Check a head's parameters and return the optimizer that they describe.

    Raises
    ------
    HeadError
        One of them makes no sense, or two contradict each other.
    """
    one_of("optimizer", head.optimizer, tuple(LEARNING_RATES))
    one_of("schedule", head.schedule, SCHEDULES)
    one_of("sampling", head.sampling, SAMPLINGS)
    whole("epochs", head.epochs)
    whole("batch_size", head.batch_size)
    if head.patience is not None:
        whole("patience", head.patience)
    lr = LEARNING_RATES[head.optimizer] if head.lr is None else head.lr
    momentum = MOMENTUM if head.momentum is None else head.momentum
    above_zero("lr", lr)
    require(isinstance(head.wd, Real) and 0 <= head.wd < np.inf, "wd", head.wd, "a number from 0")
    part("momentum", momentum)
    part("dropout", head.dropout)
    part("label_smoothing", head.label_smoothing)
    if head.optimizer == "adam" and head.momentum is not None:
        raise HeadError("momentum is of sgd; adam has none: leave it out, or optimizer='sgd'")
    hidden_units(head.hidden)
    return Optimizer(name=head.optimizer, lr=float(lr), wd=float(head.wd), momentum=float(momentum))


def hidden_units(hidden: Sequence[int] | str) -> tuple[int, ...]:
    """Return the units of the hidden layers.

    Raises
    ------
    HeadError
        They are not whole numbers from 1.
    """
    asked = hidden.split(",") if isinstance(hidden, str) else hidden
    try:
        units = tuple(int(one) for one in asked if one != "")
    except (TypeError, ValueError):
        units = (0,)
    wanted = "whole numbers from 1, as in 256 or 256,128"
    require(all(one >= 1 for one in units), "hidden", hidden, wanted)
    return units


def divergence(head: DenseHead) -> float:
    """Return the mean loss on training rows, in nats, above which a fit has diverged.

    Training starts at the loss of guessing, log K, or log 2 a class where a row may have several,
    and only steps that are too long end above it. Where classes count alike whatever their size,
    the weighted loss stays below that, so no class's own mean above K log K, nor above 2 log 2.
    """
    chances = round(1 / head.task_.chance(len(head.classes_)))  # that a guess chooses among
    guessing = float(np.log(chances)) * MARGIN
    if head.class_weight is None and head.sampling == "all":
        return guessing
    if head.class_weight in (None, "balanced"):
        return guessing * chances
    return np.inf  # weights of one's own: any mean may be the least weighted one


MEASURED = 1 << 20  # scores, or features, at a time: 4 MB

Array = NDArray[np.float32]


def fit_swept(
    head: DenseHead, X: RowsLike, y: ArrayLike, candidates: Sequence[Mapping[str, Any]]
) -> list[DenseHead | None]:
    """Train a linear dense head for each candidate; those of one seed share every batch.

    Parameters
    ----------
    candidates : sequence of mapping
        Of ``lr``, ``wd`` and ``random_state``.

    Returns
    -------
    list of DenseHead
        None where the loss ended above that of guessing, or overflowed.

    Raises
    ------
    HeadError
        As `DenseHead.fit`.
    """
    heads: list[DenseHead] = [clone(head).set_params(**one) for one in candidates]
    rules = [checked_optimizer(one) for one in heads]
    rows, labels, _ = heads[0]._prepare(X, y)
    heads[0].check_sampling()
    seeds, start = _seeds(heads), heads[0].first_biases(labels)
    shares = []
    for seed in sorted(set(seeds)):
        numbers = np.flatnonzero(np.array(seeds) == seed)
        for group in np.array_split(numbers, min(usable_cores(), len(numbers))):
            many = _ManyHeads([rules[i] for i in group], len(heads[0].classes_), rows.shape[1])
            if start is not None:
                many.bias[:] = start[:, None]
            shares.append((seed, group, many))
    normalized = heads[0].normalizer_.transform(rows)
    with one_thread_a_product(), ThreadPoolExecutor(usable_cores()) as pool:
        work = [
            pool.submit(_train, many, normalized, labels, head, seed) for seed, _, many in shares
        ]
        losses = [one.result() for one in work]
    fitted: list[DenseHead | None] = [None] * len(heads)
    for (_, group, many), loss in zip(shares, losses, strict=True):
        for place, number in enumerate(group):
            own = {
                "coef_": np.ascontiguousarray(many.weight[:, place]),
                "intercept_": np.ascontiguousarray(many.bias[:, place]),
                "hidden_": [],
                "best_epoch_": head.epochs,
            }
            shared = {n: v for n, v in vars(heads[0]).items() if n.endswith("_")}
            heads[number].__dict__.update({**shared, **own})
            if loss[place] <= divergence(heads[number]):  # False for NaN
                fitted[number] = heads[number]
    return fitted


def _seeds(heads: Sequence[DenseHead]) -> list[int]:
    """Return a whole number for each head; those without one share a fresh one."""
    states = [head.random_state for head in heads]
    fresh = int(check_random_state(states[0]).randint(2**31 - 1))
    return [int(s) if isinstance(s, int | np.integer) else fresh for s in states]


def _train(
    many: _ManyHeads, X: Rows32, y: NDArray[np.intp], head: DenseHead, seed: int
) -> NDArray[np.float64]:
    """Take every step of every epoch, in the row order that a head alone would take.

    Return the mean losses at the end, (H,).
    """
    random, smoothing = check_random_state(seed), np.float32(head.label_smoothing)
    size = int(head.batch_size)
    steps = -(-len(X) // size)
    rates = step_sizes(head.schedule, steps * head.epochs).reshape(-1, steps)
    with np.errstate(over="ignore", invalid="ignore"):  # of a fit that diverged: the caller checks
        for of_epoch in rates:
            order = epoch_order(random, y, head.sampling)
            for number, rate in enumerate(of_epoch):
                batch = order[number * size : (number + 1) * size]
                many.step(X[batch], y[batch], float(rate), smoothing)
        return many.losses(X, y)


class _ManyHeads:
    """H heads of K classes on D features, under one kind of optimizer.

    Weights are (K, H, D): the softmax then reduces over an outer axis, with the heads side by side
    in memory.
    """

    def __init__(self, rules: Sequence[Optimizer], n_classes: int, n_features: int) -> None:
        self._kind, self._momentum = rules[0].name, np.float32(rules[0].momentum)
        self._lr = np.array([rule.lr for rule in rules])
        self._wd = np.array([rule.wd for rule in rules], np.float32)
        self._weight = Parameter.of(np.zeros((n_classes, len(rules), n_features), np.float32))
        self._bias = Parameter.of(np.zeros((n_classes, len(rules)), np.float32))
        self._steps = 0

    @property
    def weight(self) -> Array:
        """The weights, (K, H, D)."""
        return self._weight.value

    @property
    def bias(self) -> Array:
        """The biases, (K, H)."""
        return self._bias.value

    def step(self, X: Array, y: NDArray[np.intp], part: float, smoothing: np.float32) -> None:
        """Move all heads by one batch: X float32, (m, D), C order; y int, (m,) or (m, K).

        `part` is what the schedule leaves of the learning rates.
        """
        self._steps += 1
        n_classes = len(self.weight)
        p = self._scores(X)
        if not task_of(y).exclusive:
            p *= np.float32(-1)  # a sigmoid each; a large score overflows to 1 / inf, which is 0
            np.exp(p, out=p)
            p += np.float32(1)
            np.reciprocal(p, out=p)
            p -= smoothed(y, float(smoothing))[:, :, None]
        else:
            p -= p.max(axis=1, keepdims=True)
            np.exp(p, out=p)
            p /= p.sum(axis=1, keepdims=True)
            p[np.arange(len(y)), y] -= 1 - smoothing
            if smoothing:
                p -= smoothing / n_classes
        p /= len(X)
        gradient = matmul(p.reshape(len(X), -1).T, X)  # (K H, D)
        lr = self._lr * part
        rate = (adam_rate(lr, self._steps) if self._kind == "adam" else lr).astype(np.float32)
        self._weight.move(
            self._kind, gradient.reshape(self.weight.shape), rate[:, None],
            momentum=self._momentum, decay=self._wd[:, None],
        )  # fmt: skip
        self._bias.move(self._kind, p.sum(axis=0), rate, momentum=self._momentum)

    def losses(self, X: Rows32, y: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return each head's mean cross-entropy, (H,), in nats; of several labels a class's."""
        n_classes, n_heads, n_features = self.weight.shape
        total = np.zeros(n_heads)
        step = max(1, MEASURED // max(n_classes * n_heads, n_features))
        for rows in parts(X, step):
            scores, own = self._scores(X[rows]), y[rows]  # (m, K, H)
            if not task_of(own).exclusive:
                losses = (np.logaddexp(0, scores) - own[:, :, None] * scores).mean(axis=1)
            else:
                top = scores.max(axis=1)
                right = scores[np.arange(len(own)), own]
                losses = np.log(np.exp(scores - top[:, None]).sum(axis=1)) + (top - right)
            total += losses.sum(axis=0, dtype=np.float64)
        return total / len(X)

    def _scores(self, X: Array) -> Array:
        """Return what the heads say of rows, (m, K, H); X float32, (m, D), C order."""
        n_classes, n_heads, n_features = self.weight.shape
        flat = self.weight.reshape(-1, n_features)  # (K H, D)
        scores: Array = matmul(X, flat.T).reshape(len(X), n_classes, n_heads)
        scores += self.bias
        return scores


def run_epoch(
    number: int,
    layers: Layers,
    *,
    order: NDArray[np.intp],
    rates: Sequence[float],
    labels: NDArray[np.intp],
    held_out: tuple[Any, NDArray[np.intp]] | None,
) -> Epoch:
    """Train for one epoch and measure it.

    Parameters
    ----------
    order : intp, (n_rows,)
        Row numbers, as they come.
    rates : sequence of float
        A learning rate a step.
    labels : intp, (n_rows,)
    held_out : pair of rows as `layers.share` gives them and their labels, optional

    Raises
    ------
    OverflowHeadError
        The loss is no longer finite.
    """
    started = time.perf_counter()
    layers.train_epoch(order, rates)
    loss, top1 = layers.evaluate_training(labels)
    if not np.isfinite(loss):
        raise OverflowHeadError(f"the loss is {loss} in epoch {number}; lower lr={rates[0]:g}")
    val_loss, val_top1 = layers.evaluate(*held_out) if held_out else (None, None)
    return Epoch(
        epoch=number,
        train_loss=loss,
        train_top1=top1,
        val_loss=val_loss,
        val_top1=val_top1,
        lr=rates[0],
        seconds=time.perf_counter() - started,
    )
