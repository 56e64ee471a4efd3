"""Files that are either whole or not there."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from probe.errors import CacheError, ProbeError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place if the block succeeds.

    The temporary file is flushed to disk before it is renamed, and removed if the block raises.

    Raises
    ------
    CacheError
        The disk is full or the folder cannot be written, whichever library met that.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp gives 0600, which would hide it from colleagues
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except Exception as error:
        if _is_refusal(error):
            raise _unwritable(path, error) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


_REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)


def _is_refusal(error: Exception) -> bool:
    """Whether the disk refused; safetensors and h5py tell only in the text of errors."""
    if isinstance(error, ProbeError):
        return False
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _REFUSALS
    return any(f"os error {code})" in str(error) for code in _REFUSALS)


def _unwritable(path: Path, error: Exception) -> CacheError:
    reason = getattr(error, "strerror", None) or str(error)
    return CacheError(f"{path}: cannot be written ({reason}); make room, or name another place")


def write_text(path: Path, text: str) -> None:
    """Write a small text file by rename."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sync(path: Path) -> None:
    """Flush a file, or a folder's list of names, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
