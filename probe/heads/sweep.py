"""Many dense heads at once: every learning rate and weight decay in one matrix product a step.

Heads that share the row order share each batch, so their scores are one product with all their
weights side by side. A step of one head is mostly dispatch and memory; fifty cost some ten times
one, not fifty times.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg.blas import sgemm
from sklearn.base import clone
from sklearn.utils import check_random_state

from probe.errors import HeadError
from probe.heads.dense import DenseHead
from probe.heads.normalize import fit_normalizer
from probe.heads.products import one_thread_a_product
from probe.heads.softmax import Optimizer
from probe.machine import usable_cores

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # of Adam, as MXNet has them

Array = NDArray[np.float32]


def fit_dense_sweep(
    head: DenseHead, X: ArrayLike, y: ArrayLike, *, lr: Sequence[float], wd: Sequence[float]
) -> list[DenseHead]:
    """Train a dense head for each learning rate and weight decay, all in one pass over the rows.

    Each gets the weights that ``DenseHead(lr=..., wd=...).fit(X, y)`` would give it, up to
    rounding; losses along the way are not measured, so `history_` is empty.

    Parameters
    ----------
    head : DenseHead
        Epochs, batch size, optimizer, seed (a whole number) and normalisation; it stays unfitted.
    X : float, (n_rows, n_features); y : labels, (n_rows,)
    lr, wd : sequences of float
        Every pair is a head.

    Returns
    -------
    list of DenseHead
        ``lr[0]`` with every `wd` first, then ``lr[1]``, and so on.

    Raises
    ------
    HeadError
        As `DenseHead.fit`; a head whose weights overflow is named.
    """
    heads = [clone(head).set_params(lr=float(a), wd=float(b)) for a, b in product(lr, wd)]
    if not heads:
        raise HeadError("lr and wd must each hold at least one number")
    rules = [one._checked_parameters() for one in heads]
    rows, labels = heads[0]._training_rows(X, y)
    normalizer = fit_normalizer(head.normalize, rows)
    groups = np.array_split(np.arange(len(heads)), min(usable_cores(), len(heads)))
    shape = len(heads[0].classes_), rows.shape[1]
    shares = [_ManyHeads([rules[i] for i in group], *shape) for group in groups]
    _train_all(shares, normalizer.transform(rows), labels, head)
    weight = np.concatenate([many.weight for many in shares], axis=1)
    bias = np.concatenate([many.bias for many in shares], axis=1)
    for number, one in enumerate(heads):
        one.__dict__.update(
            {
                "classes_": heads[0].classes_,
                "n_features_in_": heads[0].n_features_in_,
                "normalizer_": normalizer,
                "coef_": np.ascontiguousarray(weight[:, number]),
                "intercept_": np.ascontiguousarray(bias[:, number]),
                "history_": [],
            }
        )
        if not np.isfinite(one.coef_).all():
            raise HeadError(f"the weights overflow with lr={one.lr:g}, wd={one.wd:g}; lower lr")
    return heads


def _train_all(shares: list[_ManyHeads], X: Array, y: NDArray[np.intp], head: DenseHead) -> None:
    """Train each share of the heads on a core of its own: they never wait for each other."""
    seed = head.random_state
    if not isinstance(seed, int | np.integer):  # every share has to draw the same orders
        seed = int(check_random_state(seed).randint(2**31 - 1))
    with one_thread_a_product(), ThreadPoolExecutor(len(shares)) as pool:
        list(pool.map(lambda many: _train(many, X, y, head, seed), shares))


def _train(many: _ManyHeads, X: Array, y: NDArray[np.intp], head: DenseHead, seed: int) -> None:
    """Take every step of every epoch, in the row order that `head` alone would take."""
    random = check_random_state(seed)
    with np.errstate(over="ignore", invalid="ignore"):  # of a fit that diverged: the caller checks
        for _ in range(head.epochs):
            order = random.permutation(len(X))
            for start in range(0, len(X), head.batch_size):
                batch = order[start : start + head.batch_size]
                many.step(X[batch], y[batch])


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
        self._steps = 0

    @property
    def weight(self) -> Array:
        """The weights, (K, H, D)."""
        return self._weight.value

    @property
    def bias(self) -> Array:
        """The biases, (K, H)."""
        return self._bias.value

    def step(self, X: Array, y: NDArray[np.intp]) -> None:
        """Move all heads by one batch: X float32, (m, D), C order; y int, (m,)."""
        self._steps += 1
        n_classes, n_heads, n_features = self.weight.shape
        flat = self.weight.reshape(-1, n_features)  # (K H, D)
        p = sgemm(1.0, flat.T, X.T, trans_a=1).T.reshape(len(X), n_classes, n_heads)
        p += self.bias
        p -= p.max(axis=1, keepdims=True)
        np.exp(p, out=p)
        p /= p.sum(axis=1, keepdims=True)
        p[np.arange(len(y)), y] -= 1
        p /= len(X)
        gradient = sgemm(1.0, X.T, p.reshape(len(X), -1).T, trans_b=1).T  # (K H, D)
        self._update(self._weight, gradient.reshape(self.weight.shape), self._wd[:, None])
        self._update(self._bias, p.sum(axis=0), None)

    def _update(self, state: _State, gradient: Array, wd: Array | None) -> None:
        """Move one parameter in place, as MXNet's `adam_update` or `sgd_mom_update` do."""
        scratch = state.scratch
        if wd is not None and wd.any():
            np.multiply(state.value, wd, out=scratch)
            gradient += scratch
        if self._kind == "sgd":
            lr = self._across(self._lr, gradient)
            state.first *= self._momentum
            state.first -= np.multiply(gradient, lr, out=scratch)
            state.value += state.first
            return
        rate = self._lr * np.sqrt(1 - BETA2**self._steps) / (1 - BETA1**self._steps)
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
