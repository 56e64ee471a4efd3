"""Find and load MXNet's shared library without its Python package.

It reads its thread count from the environment while it loads, so that is settled first.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from probe.core.machine import usable_cores
from probe.errors import EngineError

NAMES = ("libmxnet.so", "libmxnet.dylib")


def settle_threads() -> None:
    """Set the environment variables of MXNet's threads and of its log before it loads.

    Raises
    ------
    EngineError
        OMP_NUM_THREADS is no number: MXNet would abort the process.
    """
    os.environ["OMP_NUM_THREADS"] = _threads()
    for name in ("MXNET_STORAGE_FALLBACK_LOG_VERBOSE", "MXNET_SUBGRAPH_VERBOSE"):
        os.environ.setdefault(name, "0")


def _threads() -> str:
    given = os.environ.get("OMP_NUM_THREADS", "").strip()
    if not given:
        return str(usable_cores())  # unset, x86 builds use half
    outermost = given.partition(",")[0].strip()  # OpenMP has one number a level of nesting
    if not outermost.isdecimal() or not 0 < int(outermost) < 10_000:
        raise EngineError(f"OMP_NUM_THREADS is {given!r}; set it to a number of threads, as 2")
    return outermost


@cache
def load_library() -> ctypes.CDLL:
    """Return MXNet's shared library; the Python package, if it is imported later, has the same.

    Raises
    ------
    EngineError
        There is none, or it cannot be loaded.
    """
    settle_threads()
    spec = find_spec("mxnet")
    places = [Path(one) for one in spec.submodule_search_locations or ()] if spec else []
    found = [path for place in places for name in NAMES if (path := place / name).is_file()]
    if not found:
        raise EngineError("MXNet is not installed; `pip install mxnet==1.9.1`")
    try:
        library = ctypes.CDLL(str(found[0]), mode=ctypes.RTLD_LOCAL)
    except OSError as error:
        raise EngineError(
            f"MXNet's library does not load: {error}; it needs the system libraries libgomp1 and "
            "libquadmath0"
        ) from error
    library.MXGetLastError.restype = ctypes.c_char_p
    return library
