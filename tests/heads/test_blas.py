"""Products: right in every layout, and other threads run meanwhile."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from probe.heads.products import matmul


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "m", "k"), [(5, 7, 3), (1, 7, 1), (5, 1, 4), (1, 1, 1), (3, 0, 2)])
def test_every_layout_gives_the_product(dtype: type, n: int, m: int, k: int) -> None:
    rng = np.random.default_rng(0)
    for A in (rng.random((n, m)), rng.random((m, n)).T, rng.random((2 * n, 3 * m))[::2, ::3]):
        for B in (rng.random((m, k)), rng.random((k, m)).T, rng.random((2 * m, k))[::2]):
            found = matmul(_as(A, dtype), _as(B, dtype))
            assert found.dtype == dtype
            assert found.flags.c_contiguous
            np.testing.assert_allclose(found, A @ B, rtol=1e-5)


def _as(M: np.ndarray, dtype: type) -> np.ndarray:
    return M.astype(dtype, order="K", copy=False)


def test_matrices_that_do_not_go_together_are_refused() -> None:
    A = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(2, 3\)"):
        matmul(A, A)
    with pytest.raises(ValueError, match="float32 and float64"):
        matmul(A, np.ones((3, 2)))
    with pytest.raises(ValueError, match="int64"):
        matmul(np.ones((2, 2), int), np.ones((2, 2), int))


def test_a_product_lets_other_threads_of_python_run() -> None:
    ticks: list[float] = []
    done = threading.Event()

    def tick() -> None:
        while not done.wait(0.001):
            ticks.append(time.perf_counter())

    A = np.ones((2000, 2000))
    thread = threading.Thread(target=tick)
    thread.start()
    try:
        started = time.perf_counter()
        matmul(A, A)
        ended = time.perf_counter()
    finally:
        done.set()
        thread.join()
    part = (ended - started) / 10  # at the edges the call itself has the lock
    assert any(started + part < one < ended - part for one in ticks)
