"""CPU cores, environment variables and folders of this process."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from probe.errors import EngineError

AnyPath = str | os.PathLike[str]


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def computing_threads() -> int:
    """Return how many threads a network computes on: one a core, or what OMP_NUM_THREADS says.

    Raises
    ------
    EngineError
        OMP_NUM_THREADS is no number: MXNet would abort the process.
    """
    given = os.environ.get("OMP_NUM_THREADS", "").strip()
    if not given:
        return usable_cores()  # unset, x86 builds of MXNet use half
    outermost = given.partition(",")[0].strip()  # OpenMP has one number a level of nesting
    if not outermost.isdecimal() or not 0 < int(outermost) < 10_000:
        raise EngineError(f"OMP_NUM_THREADS is {given!r}; set it to a number of threads, as 2")
    return int(outermost)


def cpu_name() -> str:
    """Return what the processor is called."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            word, _, name = line.partition(":")
            if word.strip() == "model name":
                return name.strip()
    return platform.processor() or platform.machine()


def give_back_memory() -> None:
    """Return freed memory to the system, which the allocator would keep for this process."""
    with contextlib.suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def state_folder(given: AnyPath | None = None) -> Path:
    """Return the state folder.

    That is the given one, else what ``PROBE_CACHE`` says, else ``./cache`` where there is such a
    folder, else the user's: ``~/.cache/probe`` on Linux, what is usual on other systems.
    """
    named = given if given is not None else os.environ.get("PROBE_CACHE")
    if named:
        return Path(named)
    here = Path("cache")
    if here.is_dir():
        return here
    from platformdirs import user_cache_path

    return user_cache_path("probe", appauthor=False)


@contextmanager
def environment_variable(name: str, value: str) -> Iterator[None]:
    """Set an environment variable within a block; MXNet reads some of them at each bind."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
