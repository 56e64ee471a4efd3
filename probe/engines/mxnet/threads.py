"""Let MXNet's operators use fewer threads for a while.

`MXSetNumOMPThreads` sets OpenMP's count for the thread that calls it, which is not the engine's
worker that runs the operators, so it changes nothing (measured). Here the count is set by a
function that the engine itself runs on its worker.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from probe.engines.mxnet.mx import mx, threads

SYNC_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
OPENMP = "libgomp.so.1"  # what MXNet's Linux wheel links to


class _Context(ctypes.Structure):
    _fields_ = (("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32))


CPU = _Context(1, 0)


@contextmanager
def limit_threads(count: int) -> Iterator[None]:
    """Run MXNet's operators on at most `count` threads; all are done when the block ends.

    Where OpenMP cannot be reached the operators keep their threads: slower, not wrong.
    """
    if count >= threads():
        yield
        return
    try:
        openmp = ctypes.CDLL(OPENMP)
    except OSError:  # not Linux
        yield
        return
    _run_on_worker(lambda: openmp.omp_set_num_threads(count))
    try:
        yield
    finally:
        _run_on_worker(lambda: openmp.omp_set_num_threads(threads()))


def _run_on_worker(function: Callable[[], object]) -> None:
    """Run a function on the CPU worker between what was pushed so far and what comes next."""
    mx.nd.waitall()
    callback = SYNC_FUNCTION(lambda _context, _parameter: function())
    token = mx.nd.zeros(1)
    mx.base.check_call(
        mx.base._LIB.MXEnginePushSyncND(
            callback, None, None, ctypes.byref(CPU),
            None, 0, ctypes.byref(token.handle), 1, None, 0, b"set_threads",
        )
    )  # fmt: skip
    mx.nd.waitall()  # the callback must outlive its call
