"""The path solver with one of its parts taken away, and how much it computes: for logistic_path."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg.blas import sgemm

from probe.heads import path, products
from probe.heads import path as whitened

Undo = Callable[[], None]


@dataclass
class Count:
    """Passes over the rows for gradients, and gradients of a head in them."""

    passes: int = 0
    gradients: int = 0

    def __str__(self) -> str:
        return f"{self.passes:5} passes, {self.gradients:5} gradients"


@contextmanager
def counted() -> Iterator[Count]:
    """Count what the solver computes meanwhile."""
    count, evaluate = Count(), products.Rows.loss_and_gradient

    def counting(self: Any, weights: Any, biases: Any) -> Any:
        count.passes += 1
        count.gradients += len(weights)
        return evaluate(self, weights, biases)

    products.Rows.loss_and_gradient = counting  # type: ignore[method-assign]
    try:
        yield count
    finally:
        products.Rows.loss_and_gradient = evaluate  # type: ignore[method-assign]


def _locked(A: Any, B: Any) -> Any:
    """SciPy's product as its users know it: it holds the interpreter's lock."""
    first, flip_first = (B.T, 0) if B.flags.c_contiguous else (B, 1)
    second, flip_second = (A.T, 0) if A.flags.c_contiguous else (A, 1)
    return sgemm(1.0, first, second, trans_a=flip_first, trans_b=flip_second).T


def _double(A: Any, B: Any) -> Any:
    return products.matmul(A.astype(np.float64), B.astype(np.float64, copy=False))


def _rows_first(self: Any, weights: Any, biases: Any, blocks: list[slice]) -> Any:
    """Take a share as `Rows._share` does, a row's scores side by side, as X @ W.T gives them."""
    n_heads, n_classes, n_features = weights.shape
    flat = weights.reshape(-1, n_features)
    loss, gradient = np.zeros(n_heads), np.zeros((n_heads, n_classes, n_features + 1))
    for part in blocks:
        X, y = self.X[part], self.y[part]
        p = products.matmul(X, flat.T).reshape(len(X), n_heads, n_classes) + biases
        p -= p.max(axis=2, keepdims=True)
        own = p[np.arange(len(y)), :, y]
        np.exp(p, out=p)
        sums = p.sum(axis=2)
        p /= sums[:, :, None]
        p[np.arange(len(y)), :, y] -= 1
        loss += (np.log(sums) - own).sum(axis=0, dtype=np.float64)
        product = products.matmul(np.ascontiguousarray(p.reshape(len(X), -1).T), X)
        gradient[..., :-1] += product.reshape(n_heads, n_classes, n_features)
        gradient[..., -1] += p.sum(axis=0, dtype=np.float64)
    return loss, np.swapaxes(gradient, 0, 1)


def _even_classes(rows: Any, heads: Any) -> Any:
    return np.stack([np.eye(rows.n_classes) / rows.n_classes] * len(heads))


# Each part: what stands in its place, as (owner, name, stand-in).
STAND_INS: dict[str, tuple[tuple[Any, str, Any], ...]] = {
    "warm starts": ((path._Path, "_start", lambda self, _: np.zeros_like(self.heads[0])),),
    "the covariance": (
        (path, "principal_axes", lambda X: (np.empty((0, 0), np.float32), np.ones(X.shape[1]))),
    ),
    "the classes' curvature": ((whitened, "class_curvature", _even_classes),),
    "sharing passes among values of C": (
        (path, "waves", lambda C, _most, own=path.waves: [[i] for wave in own(C) for i in wave]),
    ),
    "the looser stop at large C": ((path, "LOOSEST", 1),),
    "float32": (
        (path, "minus", lambda X, mean: X.astype(np.float64) - mean),
        (products, "matmul", _double),
    ),
    "scores as (classes, heads, rows)": ((products.Rows, "_share", _rows_first),),
    "cores sharing rows": (
        (products, "usable_cores", lambda: 1),
        (path, "one_thread_a_product", nullcontext),
    ),
    "letting go of the interpreter's lock": ((products, "matmul", _locked),),
    "SciPy's BLAS": ((products, "matmul", np.matmul),),
}
PARTS = tuple(STAND_INS)


@contextmanager
def without(part: str) -> Iterator[None]:
    """Take a part of the solver away for a while."""
    kept = [(owner, name, getattr(owner, name)) for owner, name, _ in STAND_INS[part]]
    for owner, name, stand_in in STAND_INS[part]:
        setattr(owner, name, stand_in)
    try:
        yield
    finally:
        for owner, name, own in kept:
            setattr(owner, name, own)
