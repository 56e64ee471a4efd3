"""Small tasks, and a scheduler of threads whose workers can be lost, hung and replaced."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probe.errors import DataError, EngineError

BLOCKS = 12


def numbered(count: int = BLOCKS) -> Iterator[tuple[int, int]]:
    """Yield blocks that are numbers, of five rows each."""
    return ((number, 5) for number in range(count))


@dataclass(frozen=True)
class Doubling:
    """Doubles numbers; block 3 meets what `harm` says, as often as `times` says.

    How often it did is counted by files of a folder, since each process may do a block.
    """

    folder: Path
    harm: str = ""
    times: int = 1
    version: str = "1"

    def versions(self) -> dict[str, str]:
        return {"doubling": self.version}

    def open(self) -> Callable[[int], int]:
        if self.harm == "closed" and self._first():
            raise EngineError("cuda:0 does not start")
        return self._double

    def _double(self, block: int) -> int:
        if block == 3 and self.harm and self._first():
            if self.harm == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.harm == "hung":
                os.kill(os.getpid(), signal.SIGSTOP)
            if self.harm == "slow":
                time.sleep(1.5)
            if self.harm == "lost":
                raise MemoryError("of this worker")
            if self.harm == "unread":
                raise DataError("3.jpg: cannot be read")
            if self.harm == "absent":
                import a_package_that_nobody_has  # noqa: F401
        return 2 * block

    def _first(self) -> bool:
        """Whether this is one of the first times, in whatever process."""
        for number in range(self.times):
            try:
                (self.folder / str(number)).touch(exist_ok=False)
            except FileExistsError:
                continue
            return True
        return False


class Threads:
    """A scheduler of two threads.

    `breaks` says how often it is gone after a few blocks, `unshared` how often while it is given
    the task.
    """

    name, workers = "threads:2", 2

    def __init__(self, breaks: int = 0, unshared: int = 0) -> None:
        self.breaks, self.shared, self.restarts, self._left = breaks, 0, 0, 5
        self._unshared = unshared
        self._lock = threading.Lock()
        self._alive = True
        self._pool = ThreadPoolExecutor(4)

    def share(self, payload: bytes) -> bytes:
        self.shared += 1
        if self.shared <= self._unshared:
            raise RuntimeError("the session has already been cleaned up")
        return payload

    def submit(
        self, work: Callable[..., Any], payload: Any, *arguments: Any, avoid: Any = None
    ) -> Future[Any]:
        with self._lock:
            self._left -= 1
            if self.breaks > 0 and self._left <= 0:
                self._alive = False
        if not self._alive:
            gone: Future[Any] = Future()
            gone.set_exception(BrokenExecutor("gone"))
            return gone
        return self._pool.submit(work, payload, 1, *arguments)

    def is_alive(self) -> bool:
        return self._alive

    def restart(self) -> None:
        self.restarts += 1
        self.breaks, self._left, self._alive = self.breaks - 1, 5, True

    def fits(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def close(self) -> None:
        self._pool.shutdown(wait=False)
