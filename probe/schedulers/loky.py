"""Processes of this machine, which joblib's loky starts."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from probe.core.machine import computing_threads


class LokyScheduler:
    """So many processes, which share this machine's cores; see `probe.schedulers.base.Scheduler`.

    Parameters
    ----------
    count : int or None
        Processes; None for one a core.
    """

    def __init__(self, name: str, count: int | None) -> None:
        cores = computing_threads()
        self.name, self.workers = name, count or cores
        self._threads = max(cores // self.workers, 1)
        self._folder = tempfile.TemporaryDirectory(prefix="probe-")
        self._pool: Any = None
        self.restart()

    def share(self, payload: bytes) -> str:
        """Write the bytes to a file, which each process reads once."""
        place = Path(self._folder.name) / "task"
        beside = place.with_suffix(".new")
        beside.write_bytes(payload)
        beside.replace(place)
        return str(place)

    def submit(
        self, work: Callable[..., Any], payload: str, *arguments: Any, avoid: Any = None
    ) -> Future[Any]:
        """Have a process call the function; see `Scheduler.submit`."""
        del avoid  # a process that hangs takes nothing else
        future: Future[Any]
        try:
            future = self._pool.submit(work, payload, self._threads, *arguments)
        except (BrokenExecutor, RuntimeError) as error:  # a process was killed, or all are ended
            future = Future()
            future.set_exception(error)
        future.add_done_callback(self._look)
        return future

    def _look(self, future: Future[Any]) -> None:
        """A process that is killed takes the pool with it."""
        if not future.cancelled() and isinstance(future.exception(), BrokenExecutor):
            self._broken = True

    def is_alive(self) -> bool:
        """Whether no process was killed."""
        return not self._broken

    def restart(self) -> None:
        """Start new processes in place of the old ones."""
        from joblib.externals.loky import ProcessPoolExecutor

        self._stop()
        self._broken = False
        self._pool = ProcessPoolExecutor(
            self.workers, env={"OMP_NUM_THREADS": str(self._threads)},
            initializer=_end_with, initargs=(os.getpid(), self._folder.name),
        )  # fmt: skip

    def fits(self) -> AbstractContextManager[Any]:
        """Run joblib's loops in as many processes, of as many threads each."""
        from joblib import parallel_config

        context: AbstractContextManager[Any] = parallel_config(
            "loky", n_jobs=self.workers, inner_max_num_threads=self._threads
        )
        return context

    def close(self) -> None:
        """End the processes, whatever they do."""
        self._stop()
        with contextlib.suppress(OSError):
            self._folder.cleanup()

    def _stop(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, kill_workers=True)
            self._pool = None


def _end_with(parent: int, folder: str) -> None:
    """End this process when its parent was killed, and remove what that could not."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
