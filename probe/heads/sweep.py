"""Many dense heads at once: learning rates and weight decays share one matrix product a step.

Heads that share the row order share each batch, so their scores are one product with all their
weights side by side. A step of one head is mostly dispatch and memory; fifty cost some ten times
one, not fifty times. Heads of other seeds have other batches: each seed is a product of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.utils import check_random_state

from probe.core.machine import usable_cores
from probe.errors import HeadError, OverflowHeadError
from probe.heads.base import RowsLike
from probe.heads.blas import matmul
from probe.heads.dense import DenseHead
from probe.heads.dense_rules import checked_optimizer, divergence
from probe.heads.normalize import Rows32
from probe.heads.products import one_thread_a_product, parts
from probe.heads.schedule import epoch_order, step_sizes
from probe.heads.softmax import Optimizer, smoothed

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # of Adam, as MXNet has them
MEASURED = 1 << 20  # scores, or features, at a time: 4 MB

Array = NDArray[np.float32]


def fit_dense_sweep(
    head: DenseHead, X: RowsLike, y: ArrayLike, *, lr: Sequence[float], wd: Sequence[float]
) -> list[DenseHead]:
    """Train a dense head for each learning rate and weight decay, all in one pass over the rows.

    Each gets the weights that ``DenseHead(lr=..., wd=...).fit(X, y)`` would give it, up to
    rounding; losses along the way are not measured, so `history_` is empty.

    Parameters
    ----------
    head : DenseHead
        Epochs, batch size, optimizer, seed and normalisation; it stays unfitted.
    X : float, (n_rows, n_features); y : labels, (n_rows,)
    lr, wd : sequences of float
        Every pair is a head.

    Returns
    -------
    list of DenseHead
        ``lr[0]`` with every `wd` first, then ``lr[1]``, and so on.

    Raises
    ------
    OverflowHeadError
        A head's fit diverges; it is named.
    HeadError
        As `DenseHead.fit`.
    """
    candidates = [{"lr": float(a), "wd": float(b)} for a, b in product(lr, wd)]
    if not candidates:
        raise HeadError("lr and wd must each hold at least one number")
    heads = []
    for one, fitted in zip(candidates, fit_swept(head, X, y, candidates), strict=True):
        if fitted is None:
            raise OverflowHeadError(
                f"the fit diverges with lr={one['lr']:g}, wd={one['wd']:g}; lower lr"
            )
        heads.append(fitted)
    return heads


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


@dataclass(eq=False)
class _State:
    """A parameter of all heads, (K, H, ...), and what its optimizer remembers."""

    value: Array
    first: Array
    second: Array
    scratch: Array

    @classmethod
    def zeros(cls, *shape: int) -> _State:
        return cls(*(np.zeros(shape, np.float32) for _ in range(4)))


class _ManyHeads:
    """H heads of K classes on D features, under one kind of optimizer.

    Weights are (K, H, D): the softmax then reduces over an outer axis, with the heads side by side
    in memory.
    """

    def __init__(self, rules: Sequence[Optimizer], n_classes: int, n_features: int) -> None:
        self._kind, self._momentum = rules[0].name, np.float32(rules[0].momentum)
        self._lr = np.array([rule.lr for rule in rules])
        self._wd = np.array([rule.wd for rule in rules], np.float32)
        self._weight = _State.zeros(n_classes, len(rules), n_features)
        self._bias = _State.zeros(n_classes, len(rules))
        self._steps, self._part = 0, 1.0

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
        self._part = part
        n_classes = len(self.weight)
        p = self._scores(X)
        if y.ndim == 2:
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
        self._update(self._weight, gradient.reshape(self.weight.shape), self._wd[:, None])
        self._update(self._bias, p.sum(axis=0), None)

    def losses(self, X: Rows32, y: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return each head's mean cross-entropy, (H,), in nats; of several labels a class's."""
        n_classes, n_heads, n_features = self.weight.shape
        total = np.zeros(n_heads)
        step = max(1, MEASURED // max(n_classes * n_heads, n_features))
        for part in parts(X, step):
            scores, own = self._scores(X[part]), y[part]  # (m, K, H)
            if y.ndim == 2:
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

    def _update(self, state: _State, gradient: Array, wd: Array | None) -> None:
        """Move one parameter in place, as MXNet's `adam_update` or `sgd_mom_update` do."""
        scratch = state.scratch
        if wd is not None and wd.any():
            np.multiply(state.value, wd, out=scratch)
            gradient += scratch
        if self._kind == "sgd":
            lr = self._across(self._lr * self._part, gradient)
            state.first *= self._momentum
            state.first -= np.multiply(gradient, lr, out=scratch)
            state.value += state.first
            return
        rate = self._lr * self._part * np.sqrt(1 - BETA2**self._steps) / (1 - BETA1**self._steps)
        state.first *= np.float32(BETA1)
        state.first += np.multiply(gradient, np.float32(1 - BETA1), out=scratch)
        np.multiply(gradient, gradient, out=scratch)
        scratch *= np.float32(1 - BETA2)
        state.second *= np.float32(BETA2)
        state.second += scratch
        np.sqrt(state.second, out=scratch)
        scratch += np.float32(EPSILON)
        np.divide(state.first, scratch, out=scratch)
        scratch *= self._across(rate, gradient)
        state.value -= scratch

    @staticmethod
    def _across(rate: NDArray[np.float64], gradient: Array) -> Array:
        narrow: Array = rate.astype(np.float32)
        return narrow[:, None] if gradient.ndim == 3 else narrow
