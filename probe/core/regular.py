"""Open regular files only: no pipe is waited for, and no device is read without end.

Every file whose place a user, a list or a folder from elsewhere names is opened here, or looked at
here before a library opens it.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import time
from collections.abc import Callable
from typing import TypeVar, cast

T = TypeVar("T")

MOST_TEXT = 1 << 28  # bytes of a list, a table or a record that is read as a whole
PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds before the next attempt, where an error may pass

# what shared folders answer while their server is away or busy; Windows lacks some
PASSING = frozenset(
    getattr(errno, name)
    for name in (
        "EIO", "ESTALE", "ETIMEDOUT", "EAGAIN", "EBUSY", "EREMOTEIO", "ENOTCONN", "ECONNRESET",
        "ECONNABORTED", "ECONNREFUSED", "EHOSTDOWN", "EHOSTUNREACH", "ENETUNREACH", "ENETDOWN",
    )
    if hasattr(errno, name)
)  # fmt: skip

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (lambda _: True, "a device"),
)


def open_regular(
    path: str | os.PathLike[str], most: int | None = None, *, buffering: int = -1
) -> io.BufferedReader:
    """Open a regular file for reading, links followed.

    Parameters
    ----------
    most : int, optional
        Bytes that it may have.

    Raises
    ------
    OSError
        It cannot be opened, is no regular file, or is larger; `strerror` says which.
    """
    try:
        refuse(path, os.stat(path), most)  # opening a device may do something already
        file = open(path, "rb", buffering, opener=_opener)  # noqa: SIM115
    except ValueError as error:  # a NUL in the name
        raise OSError(errno.EINVAL, str(error), os.fspath(path)) from None
    try:
        refuse(path, os.fstat(file.fileno()), most)  # another may have the name by now
    except OSError:
        file.close()
        raise
    return cast("io.BufferedReader", file)  # unbuffered an io.FileIO, which has the same methods


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def refuse(path: str | os.PathLike[str], found: os.stat_result, most: int | None = None) -> None:
    """Raise OSError if what was found at a path is no regular file, or a larger one."""
    if not stat.S_ISREG(found.st_mode):
        kind = next(name for test, name in _KINDS if test(found.st_mode))
        raise _RefusedError(errno.EINVAL, f"is not a regular file but {kind}", os.fspath(path))
    if most is not None and found.st_size > most:
        text = f"is too large ({found.st_size:,} bytes; at most {most:,} are read)"
        raise _RefusedError(errno.EINVAL, text, os.fspath(path))


class _RefusedError(OSError):
    """A file that is not read; its text is the reason alone."""

    def __str__(self) -> str:
        return self.strerror or ""


def read_regular(path: str | os.PathLike[str], most: int = MOST_TEXT) -> bytes:
    """Return the bytes of a regular file, as many as its size says.

    Raises
    ------
    OSError
        As `open_regular`.
    """
    with open_regular(path, most, buffering=0) as file:
        left = os.fstat(file.fileno()).st_size  # 0 in /proc, where reading may not end
        data = file.read(left) or b""
        while (left := left - len(data)) > 0 and (more := file.read(left)):
            data += more  # a system may give a large file in parts
        return data


def patiently(read: Callable[[], T]) -> T:
    """Read a file of a shared folder, again after a pause where its server fails for a moment.

    Parameters
    ----------
    read : callable
        Opens, reads or looks at a file from the start each time.

    Raises
    ------
    OSError
        What it raised, where that does not pass, or did not within the eight seconds of `PAUSES`.
    """
    for pause in PAUSES:
        try:
            return read()
        except OSError as error:
            if error.errno not in PASSING:
                raise
            time.sleep(pause)
    return read()


def append_regular(path: str | os.PathLike[str], data: bytes, *, sync: bool = False) -> int:
    """Append a few bytes to a regular file in one write; the file is made if it is not there.

    Two processes that append at once get a place each.

    Parameters
    ----------
    sync : bool
        Whether to wait until they are on disk.

    Returns
    -------
    int
        Where in the file they end.

    Raises
    ------
    OSError
        They cannot be written, all of them, or it is no regular file.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags, 0o666)
    try:
        refuse(path, os.fstat(descriptor))
        if os.write(descriptor, data) != len(data):  # so a disk that fills says it
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        if sync:
            os.fsync(descriptor)
        return os.lseek(descriptor, 0, os.SEEK_CUR)
    finally:
        os.close(descriptor)
