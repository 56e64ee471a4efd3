"""The scheduler that a text means, as ``loky:4`` or ``dask://host:8786``."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from probe.errors import UsageError
from probe.schedulers.base import Scheduler

SCHEDULERS = ("loky", "dask", "ray")
EXPECTED = (
    "loky or loky:4 (processes of this machine), dask://HOST:PORT or dask (a cluster, or the one "
    "that Dask's own settings name), ray://HOST:PORT or ray"
)
_GRAMMAR = re.compile(r"(?P<kind>[a-z]+)(?::(?P<count>[0-9]+)|://(?P<place>[^\s/]+))?")


def check_scheduler(name: str | None) -> None:
    """Raise UsageError unless a text names a scheduler; None names none."""
    if name is not None:
        _parsed(name)


def _parsed(name: str) -> tuple[str, int | None, str | None]:
    """Return kind, number of processes and address."""
    found = _GRAMMAR.fullmatch(name)
    if found is None or found["kind"] not in SCHEDULERS:
        raise UsageError(f"--scheduler {name}: expected {EXPECTED}")
    kind, count, place = found["kind"], found["count"], found["place"]
    if kind == "loky" and place is not None:
        raise UsageError(f"--scheduler {name}: loky's processes are on this machine; as loky:4")
    if kind != "loky" and count is not None:
        raise UsageError(f"--scheduler {name}: a cluster has the workers it has; as {kind}://host")
    if count is not None and int(count) < 1:
        raise UsageError(f"--scheduler {name}: a process at least, as loky:1")
    return kind, None if count is None else int(count), place


class Workers:
    """The scheduler that a text means, opened when work comes and closed at the end of a block.

        with Workers("loky:4") as workers:
            workers.scheduler  # processes start here

    Parameters
    ----------
    name : str
        ``loky``, ``loky:4``, ``dask``, ``dask://HOST:PORT``, ``ray`` or ``ray://HOST:PORT``.

    Raises
    ------
    UsageError
        The text means none.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._kind, self._count, self._place = _parsed(name)
        self._opened: Scheduler | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    @property
    def scheduler(self) -> Scheduler:
        """The scheduler, opened if it is not yet.

        Raises
        ------
        EngineError
            A package is missing, or nobody answers; says what to do.
        """
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def _open(self) -> Scheduler:
        if self._kind == "loky":
            from probe.schedulers.loky import LokyScheduler

            return LokyScheduler(self.name, self._count)
        if self._kind == "dask":
            from probe.schedulers.dask import DaskScheduler

            return DaskScheduler(self.name, self._place)
        from probe.schedulers.ray import RayScheduler

        return RayScheduler(self.name, self._place)


def workers_called(name: str | None) -> AbstractContextManager[Workers | None]:
    """Return the context with the workers of a name; with None where there is none."""
    return contextlib.nullcontext() if name is None else Workers(name)


def one_thread_each() -> AbstractContextManager[Any]:
    """Return the context for loops of joblib: processes of one thread each.

    Where a backend was chosen outside, by `Scheduler.fits` or by joblib's own `parallel_config`,
    that is left.
    """
    from joblib import parallel_config
    from joblib.parallel import get_active_backend

    backend, _ = get_active_backend()
    if type(backend).__name__ != "LokyBackend":
        return contextlib.nullcontext()
    context: AbstractContextManager[Any] = parallel_config("loky", inner_max_num_threads=1)
    return context


@contextmanager
def fitting_on(workers: Workers | None) -> Iterator[int | None]:
    """Run joblib's loops on workers; yield how many fits they do at a time, None where none."""
    if workers is None:
        yield None
        return
    with workers.scheduler.fits():
        yield workers.scheduler.workers
