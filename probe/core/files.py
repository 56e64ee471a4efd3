"""Write files atomically, and remove what killed processes left."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from probe.errors import CacheError, ProbeError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

WINDOWS = os.name == "nt"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place if the block succeeds.

    The temporary file is flushed to disk before it is renamed, and removed if the block raises.
    Temporary files of `path` that killed processes left are removed first.

    Raises
    ------
    CacheError
        The disk is full or the folder cannot be written, whichever library met the error.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path.parent, path.name, ".tmp")
        temporary, descriptor = _create_locked(lambda: _new_temporary(path))
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp gives 0600, which would hide it from colleagues
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except Exception as error:
        if is_refusal(error):
            raise unwritable(path, error) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)
        _release(descriptor)


@contextmanager
def working_folder(parent: Path, name: str, ending: str) -> Iterator[Path]:
    """Yield a new hidden folder that this process locks, and remove it at the end.

    Folders of the same name that killed processes left are removed first.

    Raises
    ------
    OSError
        The folder above cannot be written.
    """
    parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(parent, name, ending)
    folder, descriptor = _create_locked(
        lambda: tempfile.mkdtemp(prefix=f".{name}.", suffix=ending, dir=parent)
    )
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _release(descriptor)


def _new_temporary(path: Path) -> str:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(descriptor)
    return name


def _create_locked(make: Callable[[], str]) -> tuple[Path, int | None]:
    """Create a temporary file or folder; return it and the descriptor that locks it.

    None where there are no locks. Another process may remove it as a leftover before it is locked;
    then another one is made.
    """
    while True:
        path = Path(make())
        try:
            descriptor = hold(path)
        except (BlockingIOError, FileNotFoundError):
            continue
        except OSError:  # a file system without locks
            return path, None
        if path.exists():
            return path, descriptor
        os.close(descriptor)


def _release(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)


def _remove_leftovers(parent: Path, name: str, ending: str) -> None:
    """Remove the temporary files and folders of a name that no living process holds."""
    for left in parent.glob(f".{glob.escape(name)}.*{ending}"):
        with contextlib.suppress(OSError):  # another user's
            discard(left)


def discard(path: Path) -> bool:
    """Remove a file or a whole folder unless a living process locks it; return whether it did.

    Raises
    ------
    OSError
        No process locks it, and it cannot be removed.
    """
    try:
        descriptor = hold(path)
    except OSError:
        return False
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)
    return True


def is_free(path: Path) -> bool:
    """Whether no living process locks a temporary file or folder."""
    try:
        os.close(hold(path))
    except OSError:
        return False
    return True


def hold(path: Path) -> int:
    """Lock a file or folder until the returned descriptor is closed or the process ends.

    Raises
    ------
    OSError
        Another process has the lock, the file cannot be opened, or there are no locks: on Windows,
        and on some file systems. `FileNotFoundError` where it was
        removed between opening and locking, even if another has its name by now.
    """
    if fcntl is None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP), str(path))
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        lock(descriptor)
        if not os.path.samestat(os.fstat(descriptor), os.stat(path)):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def lock(descriptor: int) -> None:
    """Lock an open file until it is closed or the process ends; does nothing on Windows.

    Raises
    ------
    OSError
        `BlockingIOError` where another process has the lock; another one where the file system has
        no locks.
    """
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


_REFUSALS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EFBIG,
    errno.EISDIR,
)


def is_refusal(error: Exception) -> bool:
    """Whether the disk refused a write; safetensors and h5py say so only in the error's text."""
    if isinstance(error, ProbeError):
        return False
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _REFUSALS
    return _code_in(error) in _REFUSALS


def _code_in(error: BaseException) -> int | None:
    """Return the error number that a library's own error mentions."""
    found = re.search(r"(?:os error|errno =|\[errno) (\d+)", str(error))
    return int(found[1]) if found else None


def reason_of(error: BaseException) -> str:
    """Return the reason for a refused write in a few words, where HDF5 has ten lines."""
    code = getattr(error, "errno", None) or _code_in(error)
    return os.strerror(code) if code else str(error)


def unwritable(path: Path, error: Exception) -> CacheError:
    """Return the error to raise where a file or folder cannot be written."""
    return CacheError(
        f"{path}: cannot be written ({reason_of(error)}); make room, or choose another folder"
    )


def share(path: Path) -> None:
    """Give a new file or folder the write permissions of the folder it is in, whatever the umask.

    So a cache that a group shares (``chmod g+ws``) stays shared, and a private one private.
    """
    with contextlib.suppress(OSError):  # another user's, or a file system without permissions
        writable = path.parent.stat().st_mode & (0o777 if path.is_dir() else 0o666)
        mode = stat.S_IMODE(path.stat().st_mode)
        path.chmod(mode | (writable & _granted(path.parent)))


def _granted(folder: Path) -> int:
    """Return the permission bits of group and others where they may write a folder."""
    mode = folder.stat().st_mode
    return sum(part for part in (0o070, 0o007) if mode & part & 0o022)


def make_folder(path: Path) -> None:
    """Make a folder with the permissions of its parent; missing parents follow the umask."""
    if not path.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        share(path)


def write_text(path: Path, text: str) -> None:
    """Write a small text file by rename."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sync(path: Path) -> None:
    """Flush a file, or a folder's list of names, to disk."""
    if WINDOWS and path.is_dir():  # cannot be opened there
        return
    descriptor = os.open(path, os.O_RDWR if WINDOWS else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
