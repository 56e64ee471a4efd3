"""Products of matrices over blocks of rows: on all cores, and of rows that stay in their file.

SciPy's BLAS is called and not NumPy's, since NumPy 1.26 carries OpenBLAS 0.3.23, which takes a
processor that is newer than itself for one of 2004 (`Prescott`) and runs a fifth as fast on it. And
not by `scipy.linalg.blas`, which holds the interpreter's lock through a product: two threads of
products took 1.2 times as long as one after the other. SciPy publishes the same functions for
Cython; `ctypes` lets go of the lock while it calls them.

The softmax cross-entropy of many heads and its gradient are two products. One with ten columns
reads all of X for ten multiply-adds a number: memory decides. With 360 columns, 36 heads of ten
classes at once, it takes some three times as long, not 36 times. So many penalties share each pass
over the rows.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cython_blas
from scipy.linalg.blas import ssyrk
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from probe.core.machine import usable_cores
from probe.core.nearest import Closest
from probe.core.short_repr import short_repr
from probe.evaluation.many import MANY
from probe.evaluation.streaming import rows_at_once
from probe.heads.normalize import NormalizedRows, Rows32

_INT, _TEXT = ctypes.POINTER(ctypes.c_int), ctypes.c_char_p

_PYTHON, _OBJECT = ctypes.pythonapi, ctypes.py_object
_name = ctypes.PYFUNCTYPE(_TEXT, _OBJECT)(("PyCapsule_GetName", _PYTHON))
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, _OBJECT, _TEXT)(("PyCapsule_GetPointer", _PYTHON))


def _function(name: str, real: Any) -> Any:
    """Return a BLAS product, ``(transa, transb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)``."""
    capsule = cython_blas.__pyx_capi__[name]
    one, array = ctypes.POINTER(real), ctypes.c_void_p
    signature = ctypes.CFUNCTYPE(
        None, _TEXT, _TEXT, _INT, _INT, _INT, one, array, _INT, array, _INT, one, array, _INT
    )
    return signature(_pointer(capsule, _name(capsule)))


_GEMM = {
    np.dtype(np.float32): (_function("sgemm", ctypes.c_float), ctypes.c_float),
    np.dtype(np.float64): (_function("dgemm", ctypes.c_double), ctypes.c_double),
}


def matmul(A: NDArray[Any], B: NDArray[Any]) -> NDArray[Any]:
    """Return ``A @ B``, C-ordered; other threads of Python run meanwhile.

    Parameters
    ----------
    A : (n, m); B : (m, k)
        Both float32 or both float64, each C-ordered or the transpose of a C-ordered array: other
        layouts are copied first.

    Raises
    ------
    ValueError
        Their shapes or dtypes do not go together.
    """
    if A.ndim != 2 or B.ndim != 2 or A.shape[1] != B.shape[0]:
        raise ValueError(f"shapes {A.shape} and {B.shape} have no product")
    if A.dtype != B.dtype or A.dtype not in _GEMM:
        raise ValueError(f"{A.dtype} and {B.dtype}: expected float32 or float64 for both")
    (n, m), k = A.shape, B.shape[1]
    if not n * m * k:
        return np.zeros((n, k), A.dtype)
    product = np.empty((n, k), A.dtype)
    gemm, real = _GEMM[A.dtype]
    # BLAS counts columns first and so sees each array's transpose: it is asked for B.T @ A.T
    (A, flip_a, lda), (B, flip_b, ldb) = _laid_out(A), _laid_out(B)
    gemm(
        flip_b, flip_a, ctypes.c_int(k), ctypes.c_int(n), ctypes.c_int(m), real(1),
        B.ctypes.data, ctypes.c_int(ldb), A.ctypes.data, ctypes.c_int(lda), real(0),
        product.ctypes.data, ctypes.c_int(k),
    )  # fmt: skip
    return product


def _laid_out(M: NDArray[Any]) -> tuple[NDArray[Any], bytes, int]:
    """Return a matrix, whether BLAS has to transpose what it sees in it, and how long its rows are.

    A C-ordered one BLAS sees transposed already.
    """
    if M.flags.c_contiguous:
        return M, b"N", M.shape[1]
    if M.flags.f_contiguous:
        return M, b"T", M.shape[0]
    return np.ascontiguousarray(M), b"N", M.shape[1]


ROWS = 2048  # a block: its scores stay in cache, its products are still well shaped
SCORES = 1 << 22  # of a block of many classes: 17 MB a copy

T = TypeVar("T")

Matrix = NDArray[np.float32]
Array64 = NDArray[np.float64]


@contextmanager
def one_thread_a_product() -> Iterator[None]:
    """Keep BLAS to one thread a product: the cores share the rows instead, see `each_share`.

    BLAS's own threads meet after each thin product; on cores that others use too, waiting for each
    other takes them longer than the product.
    """
    with threadpool_limits(1, user_api="blas"):
        yield


def each_share(function: Callable[[list[slice]], T], blocks: list[slice]) -> list[T]:
    """Call a function on blocks of rows, each core a share of them, in order."""
    cores = max(1, min(usable_cores(), len(blocks)))
    edges = [len(blocks) * core // cores for core in range(cores + 1)]
    shares = [blocks[low:high] for low, high in pairwise(edges)]
    if cores == 1:
        return [function(shares[0])]
    with ThreadPoolExecutor(cores) as pool:  # NumPy and `blas` let go of the interpreter
        return list(pool.map(function, shares))


def parts(X: Rows32, most: int | None = None) -> list[slice]:
    """Return slices that cover all rows, each of a block."""
    step = rows_at_once(X, most or ROWS)
    return [slice(start, start + step) for start in range(0, len(X), step)]


def column_means(X: Rows32) -> Array64:
    """Return the mean row, float64, (D,)."""
    if not isinstance(X, NormalizedRows):
        mean: Array64 = X.mean(axis=0, dtype=np.float64)
        return mean
    total: Array64 = np.zeros(X.shape[1])
    for part in parts(X):
        total += X[part].sum(axis=0, dtype=np.float64)
    return total / len(X)


def minus(X: Rows32, mean: Array64) -> Rows32:
    """Return the rows less a row, float32; those that stay in their file when they are read."""
    row = mean.astype(np.float32)
    return replace(X, shift=row) if isinstance(X, NormalizedRows) else X - row


def squares(X: Rows32) -> Array64:
    """Return the sum of squares of each column, float64, (D,)."""
    total = np.zeros(X.shape[1])
    for part in parts(X):
        block = X[part]
        total += np.einsum("nd,nd->d", block, block, dtype=np.float64)
    return total


def covariance(X: Rows32) -> Array64:
    """Return ``X.T @ X / n``, float64, (D, D), of centred rows; float32 blocks, float64 sums."""
    total = np.zeros((X.shape[1], X.shape[1]))
    for part in parts(X, 4 * ROWS):
        total += ssyrk(1.0, X[part].T)  # the upper triangle
    total /= len(X)
    total += np.triu(total, 1).T
    return total


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Training rows as the solver takes them.

    Parameters
    ----------
    X : float32, (n_rows, n_features), C order
        An array, or rows that are read a block at a time.
    y : int, (n_rows,)
        0 to n_classes - 1.
    n_classes : int
    weights : float32, (n_rows,), optional
        What each row's cross-entropy counts; the mean is still over the number of rows.
    """

    __repr__ = short_repr

    X: Rows32
    y: NDArray[np.intp]
    n_classes: int
    weights: Matrix | None = None

    def __len__(self) -> int:
        return len(self.y)

    def most(self, n_heads: int) -> int:
        """Return how many rows are taken at a time: of many classes fewer, as scores are wide."""
        if self.n_classes <= MANY:
            return ROWS
        return max(1, min(ROWS, SCORES // (self.n_classes * n_heads)))

    @staticmethod
    def scores(weights: Matrix, biases: Matrix, X: Matrix) -> Matrix:
        """Return the logits of P heads for some rows X, float32, (K, P, rows).

        weights is (P, K, D), biases (P, K). Long rows of scores: a maximum or a sum over the
        classes then runs along memory, four times as fast as over ten neighbours.
        """
        n_heads, n_classes, n_features = weights.shape
        columns = np.swapaxes(weights, 0, 1).reshape(-1, n_features)  # (K P, D)
        scores = matmul(columns, X.T)  # (K P, rows)
        shaped: Matrix = scores.reshape(n_classes, n_heads, -1)
        shaped += biases.T[:, :, None]
        return shaped

    def loss_and_gradient(self, weights: Array64, biases: Array64) -> tuple[Array64, Array64]:
        """Return each head's mean cross-entropy and gradient, the bias's in the last place.

        Parameters
        ----------
        weights : float64, (P, K, D)
        biases : float64, (P, K)

        Returns
        -------
        loss : float64, (P,)
        gradient : float64, (P, K, D + 1)

        References
        ----------
        Hastie, Tibshirani, Friedman, "The Elements of Statistical Learning", 4.4: the gradient of
        the cross-entropy is X.T @ (P - Y).
        """
        narrow, narrow_biases = weights.astype(np.float32), biases.astype(np.float32)
        blocks = parts(self.X, self.most(len(weights)))
        shares = each_share(lambda own: self._share(narrow, narrow_biases, own), blocks)
        loss = np.sum([share[0] for share in shares], axis=0) / len(self)
        gradient = np.sum([share[1] for share in shares], axis=0) / len(self)
        return loss, np.ascontiguousarray(np.swapaxes(gradient, 0, 1))

    def _share(
        self, weights: Matrix, biases: Matrix, blocks: list[slice]
    ) -> tuple[Array64, Array64]:
        """Return loss, (P,), and gradient, (K, P, D + 1), summed over some blocks of rows."""
        n_heads, n_classes, n_features = weights.shape
        loss = np.zeros(n_heads)
        gradient = np.zeros((n_classes, n_heads, n_features + 1))
        for part in blocks:
            X = self.X[part]
            scores = self.scores(weights, biases, X)
            own = None if self.weights is None else self.weights[part]
            loss += _cross_entropy_in_place(scores, self.y[part], own)
            flat = scores.reshape(n_classes * n_heads, -1)
            product = matmul(flat, X)  # (K P, D)
            gradient[..., :-1] += product.reshape(n_classes, n_heads, n_features)
            gradient[..., -1] += scores.sum(axis=2, dtype=np.float64)
        return loss, gradient


def _cross_entropy_in_place(
    scores: Matrix, y: NDArray[np.intp], weights: Matrix | None = None
) -> Array64:
    """Return each head's summed cross-entropy, (P,); scores, (K, P, rows), become p - onehot.

    Both times what the rows count, (rows,).
    """
    rows = np.arange(len(y))
    scores -= scores.max(axis=0)
    own = scores[y, :, rows].T  # (P, rows)
    np.exp(scores, out=scores)
    sums = scores.sum(axis=0)
    scores /= sums
    scores[y, :, rows] -= 1
    if weights is not None:
        scores *= weights
        losses: Array64 = ((np.log(sums) - own) * weights).sum(axis=1, dtype=np.float64)
        return losses
    return (np.log(sums) - own).sum(axis=1, dtype=np.float64)  # type: ignore[no-any-return]


QUERY_BYTES = 64 << 20  # of rows that ask, for one pass over the others
REFERENCE_ROWS = 4096  # that are compared with them, at a time
QUERY_ROWS = 512  # a core compares at a time: its cosines are 8 MB

Array32 = NDArray[np.float32]
Visit = Callable[[int, int, Array32], None]


def each_tile(queries: Rows32, reference: Rows32, visit: Visit, *, upper: bool = False) -> None:
    """Call a function on the products of every query with every reference row.

    Both sides may be rows that stay in their file: the reference is read once for QUERY_BYTES of
    queries.

    Parameters
    ----------
    queries, reference : float32, (m, d) and (n, d)
        Rows of length 1, for cosines.
    visit : callable
        Takes the tile's first query, its first reference row, and the cosines, float32, (queries,
        reference rows). Called from several threads, for one query from one at a time.
    upper : bool
        Leave out tiles where no reference row comes after a query: both are the same rows.
    """
    most = max(1, QUERY_BYTES // (4 * max(1, queries.shape[1])))
    step = rows_at_once(reference, REFERENCE_ROWS)

    def compare(at: int, asked: Array32, start: int, block: Array32) -> None:
        visit(at, start, matmul(asked, block.T))

    with one_thread_a_product(), ThreadPoolExecutor(usable_cores()) as pool:
        for first in range(0, len(queries), most):
            asking = queries[first : first + most]
            for start in range(first // step * step if upper else 0, len(reference), step):
                block = reference[start : start + step]
                waiting = [
                    pool.submit(compare, first + i, asking[i : i + QUERY_ROWS], start, block)
                    for i in range(0, len(asking), QUERY_ROWS)
                    if not upper or start + len(block) > first + i + 1
                ]
                for one in waiting:
                    one.result()


def closest_rows(reference: Rows32, queries: Rows32, k: int) -> tuple[Array32, NDArray[np.intp]]:
    """Return cosine and row number of the `k` reference rows closest to each query.

    Both sides go through memory a block at a time, whatever their number.

    Parameters
    ----------
    reference, queries : float32, (n, d) and (m, d)
        Rows of length 1.
    k : int
        At most n.

    Returns
    -------
    cosines : float32, (m, k); numbers : intp, (m, k)
        The closest first.
    """
    best = Closest(len(queries), k)
    each_tile(queries, reference, best.take)
    return best.cosines, best.numbers
