"""Coordinates in which the Hessian of a logistic regression is near the identity.

With p the probabilities at the start, S the covariance of the features and A the mean over rows of
``diag(p) - p p.T``, the Hessian of the mean cross-entropy is close to the Kronecker product of A
and S: exactly it where p is alike in all rows. One eigendecomposition of S serves every penalty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from probe.evaluation.many import MANY
from probe.heads.blas import matmul
from probe.heads.normalize import Rows32
from probe.heads.products import (
    Array64,
    Matrix,
    Rows,
    covariance,
    parts,
    squares,
)

LEAST = 0.1  # of the mean variance of a class's probability: a class that is never doubted
WIDEST = 8192  # features: beyond, the eigenvectors are too large, and variances have to do


class Whitened:
    """Coordinates V of heads W: ``W = U (scale * V) Q.T``, where the Hessian is near I.

    U diagonalises A, a head's own, and Q the covariance; scale is ``(a s + penalty)^-1/2``. Of many
    classes U is the identity and a the diagonal of A, for A itself has classes times classes.

    Parameters
    ----------
    rows : Rows
    basis : float32, (D, D); spectrum : float64, (D,)
        Eigenvectors of the covariance, or nothing for features as they are, and its eigenvalues.
    starts : float64, (P, K, D + 1)
        Heads at whose probabilities A is taken, biases in the last place.
    penalty : float64, (P,)
    """

    def __init__(
        self, rows: Rows, basis: Matrix, spectrum: Array64, starts: Array64, penalty: Array64
    ) -> None:
        self._rows, self._penalty, self._basis = rows, penalty, basis
        self._axes: Array64 | None = None
        if rows.n_classes > MANY:
            classes = class_variances(rows, starts)
            classes = np.maximum(classes, LEAST * classes.mean(axis=1, keepdims=True))
        else:
            classes, self._axes = np.linalg.eigh(class_curvature(rows, starts))
            # Adding the same head to every class moves nothing: the first eigenvalue is rounding.
            classes = np.maximum(classes, 0.5 * classes[:, 1:2])
        self._scale = np.empty(starts.shape)
        self._scale[..., :-1] = classes[:, :, None] * spectrum + penalty[:, None, None]
        self._scale[..., -1] = classes
        np.divide(1, np.sqrt(self._scale), out=self._scale)

    def enter(self, heads: Array64) -> Array64:
        """Return the coordinates of heads, (P, K, D + 1)."""
        turned = self._turn(heads, self._basis)
        if self._axes is not None:
            turned = np.swapaxes(self._axes, 1, 2) @ turned
        entered: Array64 = turned / self._scale
        return entered

    def leave(self, points: Array64, which: Sequence[int]) -> Array64:
        """Return the heads, (P, K, D + 1), at flat coordinates of some of the problems."""
        scale = self._scale[which]
        scaled: Array64 = points.reshape(scale.shape) * scale
        if self._axes is not None:
            scaled = self._axes[which] @ scaled
        return self._turn(scaled, self._basis.T)

    def evaluate(self, points: Array64, which: list[int]) -> tuple[Array64, Array64]:
        """Return objective, (P,), and gradient, (P, n), at flat coordinates."""
        heads = self.leave(points, which)
        penalty, scale = self._penalty[which], self._scale[which]
        loss, gradient = self._rows.loss_and_gradient(heads[..., :-1], heads[..., -1])
        loss += 0.5 * penalty * np.einsum("pkd,pkd->p", heads[..., :-1], heads[..., :-1])
        gradient[..., :-1] += penalty[:, None, None] * heads[..., :-1]
        turned = self._turn(gradient, self._basis)
        if self._axes is not None:
            turned = np.swapaxes(self._axes[which], 1, 2) @ turned
        turned *= scale
        return loss, turned.reshape(len(which), -1)

    @staticmethod
    def _turn(heads: Array64, basis: Matrix) -> Array64:
        """Multiply the coefficients, not the bias, by a rotation, in float32."""
        turned = heads.copy()
        if basis.size:
            flat = heads[..., :-1].astype(np.float32).reshape(-1, len(basis))
            turned[..., :-1] = matmul(flat, basis).reshape(heads[..., :-1].shape)
        return turned


def principal_axes(X: Rows32) -> tuple[Matrix, Array64]:
    """Return eigenvectors, (D, D), and eigenvalues, (D,), of the covariance of centred rows."""
    if X.shape[1] > WIDEST:
        return variances(X)
    from scipy.linalg import eigh

    spectrum, basis = eigh(covariance(X), driver="evd", overwrite_a=True, check_finite=False)
    floor = 1e-7 * max(float(spectrum[-1]), 1e-30)  # what float32 still tells from zero
    return np.ascontiguousarray(basis, np.float32), np.maximum(spectrum, floor)


def variances(X: Rows32) -> tuple[Matrix, Array64]:
    """Return no turn, and each feature's own variance: for rows along their principal axes."""
    return np.empty((0, 0), np.float32), squares(X) / len(X)


def row_space(X: Matrix) -> tuple[Matrix, Array64]:
    """Return N rows in the space that they span, (N, R), and its axes, (R, D); R at most N < D.

    A head's part across that space moves no score and is penalised, so the minimum has none: the
    problem with R features is the same one. The axes are the principal ones.
    """
    from scipy.linalg import eigh

    wide = X.astype(np.float64)
    spectrum, left = eigh(wide @ wide.T, driver="evd", overwrite_a=True, check_finite=False)
    kept = spectrum > 1e-12 * max(float(spectrum[-1]), 1e-300)
    if not kept.any():  # constant features span nothing: one axis on which all rows are 0
        return np.zeros((len(X), 1), np.float32), np.zeros((1, X.shape[1]))
    left, lengths = left[:, kept], np.sqrt(spectrum[kept])
    axes: Array64 = (left.T @ wide) / lengths[:, None]
    return np.ascontiguousarray(left * lengths, np.float32), axes


def class_curvature(rows: Rows, heads: Array64) -> Array64:
    """Return the mean over rows of ``diag(p) - p p.T`` for each head, float64, (P, K, K)."""
    n_heads, n_classes = heads.shape[:2]
    total, mean = np.zeros((n_heads, n_classes, n_classes)), np.zeros((n_heads, n_classes))
    for p in _probabilities(rows, heads):
        by_head = np.ascontiguousarray(np.swapaxes(p, 0, 1), np.float64)  # (P, K, rows)
        mean += by_head.sum(axis=2)
        total += by_head @ np.swapaxes(by_head, 1, 2)
    mean, total = mean / len(rows), total / len(rows)
    return np.eye(n_classes) * mean[:, :, None] - total


def class_variances(rows: Rows, heads: Array64) -> Array64:
    """Return the diagonal of `class_curvature`, float64, (P, K)."""
    total = np.zeros(heads.shape[:2])
    for p in _probabilities(rows, heads):
        total += (p * (1 - p)).sum(axis=2, dtype=np.float64).T
    return total / len(rows)


def _probabilities(rows: Rows, heads: Array64) -> Iterator[Matrix]:
    """Yield the probabilities of some rows after the other, float32, (K, P, rows)."""
    narrow = heads.astype(np.float32)
    for part in parts(rows.X, rows.most(len(heads))):
        p = rows.scores(narrow[..., :-1], narrow[..., -1], rows.X[part])
        p -= p.max(axis=0)
        np.exp(p, out=p)
        p /= p.sum(axis=0)
        yield p
