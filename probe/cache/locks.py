"""Locks between processes: the kernel's, so that those of dead processes are free at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from probe.errors import CacheError

EVERYONE = 0o666  # whoever may write the folder may take the lock


@contextmanager
def hold(place: Path, on_wait: Callable[[], None] | None) -> Iterator[None]:
    """Hold the lock of a file; `on_wait()` is called once if another process has it.

    The file stays: removing it would let two processes hold two files of one name.

    Raises
    ------
    CacheError
        The folder cannot be written.
    """
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(place, mode=EVERYONE)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            if on_wait is not None:
                on_wait()
            lock.acquire()
    except OSError as error:
        raise CacheError(
            f"{place.parent.parent}: cannot be written ({error.strerror or error}); "
            "name another folder with --cache-dir or PROBE_CACHE"
        ) from error
    try:
        yield
    finally:
        lock.release()


def is_held(place: Path) -> bool:
    """Whether a living process has the lock of a file."""
    if not place.exists():
        return False
    try:
        with filelock.FileLock(place, timeout=0, mode=EVERYONE):
            return False
    except filelock.Timeout:
        return True
    except OSError:  # another user's, in a folder that is read-only for this one
        return False
