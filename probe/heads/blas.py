"""SciPy's matrix product without the interpreter's lock, so that cores can share rows.

SciPy's BLAS and not NumPy's, since NumPy 1.26 carries OpenBLAS 0.3.23, which takes a processor that
is newer than itself for one of 2004 (`Prescott`) and runs a fifth as fast on it. And not by
`scipy.linalg.blas`, which holds the interpreter's lock through a product: two threads of products
took 1.2 times as long as one after the other. SciPy publishes the same functions for Cython;
`ctypes` lets go of the lock while it calls them.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cython_blas

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
