"""Locks between processes, held by the kernel: the lock of a dead process is free at once.

Beside each lock lies a note of its holder, for the message of a process that waits.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import filelock

from probe.core.files import make_folder
from probe.core.plain import from_plain
from probe.core.records import read_record
from probe.errors import CacheError, DataError

log = logging.getLogger(__name__)

EVERYONE = 0o666  # everyone who may write the folder may take the lock
WAIT_SECONDS = 5.0  # between two attempts to take a lock


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The process that holds a lock.

    Parameters
    ----------
    since : float
        Seconds since 1970.
    """

    pid: int
    user: str
    host: str
    since: float


@contextmanager
def hold(place: Path, on_wait: Callable[[Holder | None], None] | None) -> Iterator[None]:
    """Hold the lock of a file.

    While another process has it `on_wait(holder)` is called, at once and every few seconds; the
    holder is None where it left no note. Without `on_wait` a line is logged.

    The file stays: removing it would let two processes hold two files of one name.

    Raises
    ------
    CacheError
        The folder cannot be written.
    """
    try:
        make_folder(place.parent.parent)
        make_folder(place.parent)
        lock = filelock.FileLock(place, mode=EVERYONE)
        _acquire(lock, place, on_wait)
        _leave_note(place)
    except OSError as error:
        raise CacheError(
            f"{place.parent.parent}: cannot be written ({error.strerror or error}); "
            "name another folder with --cache-dir or PROBE_CACHE"
        ) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            _note(place).unlink(missing_ok=True)
        lock.release()


def _acquire(
    lock: filelock.BaseFileLock, place: Path, on_wait: Callable[[Holder | None], None] | None
) -> None:
    timeout = 0.0
    while True:
        try:
            lock.acquire(timeout=timeout)
        except filelock.Timeout:
            holder = _read_note(place)
            if on_wait is not None:
                on_wait(holder)
            elif timeout == 0:
                who = f"process {holder.pid} of {holder.user}" if holder else "another process"
                log.warning("%s is writing this entry; waiting for it", who)
            timeout = WAIT_SECONDS
        else:
            return


def _note(place: Path) -> Path:
    return place.with_suffix(
        ".holder"
    )  # not the lock's own file, which every attempt to lock truncates


def _leave_note(place: Path) -> None:
    with contextlib.suppress(OSError):  # another user's note of a process that was killed
        _note(place).unlink(missing_ok=True)
        _note(place).write_text(json.dumps(asdict(_myself())), encoding="utf-8")


def _myself() -> Holder:
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # in a container a user id may have no name
        user = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    return Holder(pid=os.getpid(), user=user, host=socket.gethostname(), since=time.time())


def _read_note(place: Path) -> Holder | None:
    try:
        return read_record(_note(place), "a note of who holds a lock", partial(from_plain, Holder))
    except DataError:
        return None


@contextmanager
def hold_if_free(place: Path) -> Iterator[bool]:
    """Hold the lock of a file during the block, if nobody has it; yield whether it is held."""
    lock = filelock.FileLock(place, timeout=0, mode=EVERYONE)
    try:
        lock.acquire()
    except filelock.Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def is_held(place: Path) -> bool:
    """Whether a living process has the lock of a file."""
    if not place.exists():
        return False
    try:
        with hold_if_free(place) as free:
            return not free
    except OSError:  # another user's, in a folder that is read-only for this one
        return False
