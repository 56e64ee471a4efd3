"""What runs in a worker: a task, opened once, does one block after another.

A task travels as bytes and is opened when its first block comes: weights are read into a network
once a process. Threads of one worker share it.
"""

from __future__ import annotations

import os
import pickle
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from probe.core.machine import environment_variable
from probe.core.version import __version__
from probe.errors import ProbeError

KEPT = 2  # tasks that stay open: those of a pass, and of one before it

Opened = tuple[dict[str, str], Callable[[Any], Any]]  # versions, and the function of a block

_opened: OrderedDict[str, Future[Opened]] = OrderedDict()
_lock = threading.Lock()


class Task(Protocol):
    """Work that comes in blocks; it travels pickled."""

    def versions(self) -> dict[str, str]:
        """Return the versions in this process that must be the same in all."""
        ...

    def open(self) -> Callable[[Any], Any]:
        """Return the function of a block, which threads may call at once."""
        ...


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a worker returns of a block.

    Parameters
    ----------
    value
        What the task's function returned; None where it raised.
    error : ProbeError, optional
    worker : str
        ``host:pid``.
    seconds : float
        How long the block took, without the opening of the task.
    versions : dict
        See `Task.versions`; with that of probe.
    """

    value: Any
    error: ProbeError | None
    worker: str
    seconds: float
    versions: dict[str, str]


def do_block(payload: bytes | str, threads: int, key: str, block: bytes) -> Result:
    """Do one block of a task.

    Parameters
    ----------
    payload : bytes or str
        The pickled task, or the path of a file with it.
    threads : int
        On which the task may compute.
    key : str
        Tells tasks apart.
    block : bytes
        The pickled block.

    Raises
    ------
    ProbeError
        The task cannot be opened here. What the block raises is part of the result.
    """
    versions, run = _open(payload, threads, key)
    started = time.perf_counter()
    value, raised = None, None
    try:
        value = run(pickle.loads(block))  # noqa: S301 - of this command's own making
    except ProbeError as error:
        raised = error
    return Result(
        value=value,
        error=raised,
        worker=f"{socket.gethostname()}:{os.getpid()}",
        seconds=time.perf_counter() - started,
        versions=versions,
    )


def _open(payload: bytes | str, threads: int, key: str) -> Opened:
    """Return the task's function, opened by the first thread that asks."""
    with _lock:
        found, mine = _opened.get(key), False
        if found is None:
            found, mine = Future(), True
            _opened[key] = found
            while len(_opened) > KEPT:
                _opened.popitem(last=False)
        _opened.move_to_end(key)
    if mine:
        try:
            found.set_result(_unpacked(payload, threads))
        except BaseException as error:
            with _lock:
                _opened.pop(key, None)  # the next block tries again
            found.set_exception(error)
    return found.result()


def _unpacked(payload: bytes | str, threads: int) -> Opened:
    data = Path(payload).read_bytes() if isinstance(payload, str) else payload
    task: Task = pickle.loads(data)  # noqa: S301 - as above
    with environment_variable("OMP_NUM_THREADS", str(threads)):
        return all_versions(task), task.open()


def all_versions(task: Task) -> dict[str, str]:
    """Return the versions, here, of probe and of what a task computes with."""
    return {"probe": __version__, **task.versions()}
