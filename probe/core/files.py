"""Files that are either whole or not there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
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


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place if the block succeeds.

    The temporary file is flushed to disk before it is renamed, and removed if the block raises.
    What a killed process left beside `path` on its way there goes first.

    Raises
    ------
    CacheError
        The disk is full or the folder cannot be written, whichever library met that.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path.parent, path.name, ".tmp")
        temporary, descriptor = _made_and_held(lambda: _made(path))
    except OSError as error:
        raise _unwritable(path, error) from error
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
            raise _unwritable(path, error) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)
        os.close(descriptor)


@contextmanager
def working_folder(parent: Path, name: str, ending: str) -> Iterator[Path]:
    """Yield a new hidden folder that this process holds, and remove it if it is still there.

    What killed processes left of the same name goes first.

    Raises
    ------
    OSError
        The folder above cannot be written.
    """
    parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(parent, name, ending)
    folder, descriptor = _made_and_held(
        lambda: tempfile.mkdtemp(prefix=f".{name}.", suffix=ending, dir=parent)
    )
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _made(path: Path) -> str:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(descriptor)
    return name


def _made_and_held(make: Callable[[], str]) -> tuple[Path, int]:
    """Return a new temporary file or folder and what holds it.

    Another process may take it for a leftover before it is held; then there is a next one.
    """
    while True:
        path = Path(make())
        try:
            descriptor = hold(path)
        except (BlockingIOError, FileNotFoundError):
            continue
        except OSError:  # a file system without locks; nobody can hold a leftover there
            return path, os.open(path, os.O_RDONLY)
        if path.exists():
            return path, descriptor
        os.close(descriptor)


def _remove_leftovers(parent: Path, name: str, ending: str) -> None:
    """Remove the temporary files and folders of a name that no living process holds."""
    for left in parent.glob(f".{glob.escape(name)}.*{ending}"):
        with contextlib.suppress(OSError):  # another user's
            discard(left)


def discard(path: Path) -> bool:
    """Remove a file, or a folder with all that is in it, unless a living process holds it.

    Returns
    -------
    bool
        Whether it went.

    Raises
    ------
    OSError
        Nobody holds it, and it cannot be removed.
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
    """Whether a temporary file or folder was left by a process that is no more."""
    try:
        os.close(hold(path))
    except OSError:
        return False
    return True


def hold(path: Path) -> int:
    """Hold a file or a folder until the descriptor is closed, which the kernel does at a death.

    Raises
    ------
    OSError
        Another process holds it, or it cannot be opened. `FileNotFoundError` where it was removed
        between the two, even if there is another of its name by now.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(descriptor), os.stat(path)):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


_REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)


def is_refusal(error: Exception) -> bool:
    """Whether the disk refused; safetensors and h5py tell only in the text of errors."""
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
    """Return in a few words why a file cannot be written; HDF5 would say it in ten lines."""
    code = getattr(error, "errno", None) or _code_in(error)
    return os.strerror(code) if code else str(error)


def _unwritable(path: Path, error: Exception) -> CacheError:
    return CacheError(
        f"{path}: cannot be written ({reason_of(error)}); make room, or name another place"
    )


def share(path: Path) -> None:
    """Let whoever may write a folder write a new file or folder in it too, whatever the umask.

    A cache that a group shares (``chmod g+ws``) stays one, and one that is private does too.
    """
    with contextlib.suppress(OSError):  # another user's, or a file system without permissions
        writable = path.parent.stat().st_mode & (0o777 if path.is_dir() else 0o666)
        mode = stat.S_IMODE(path.stat().st_mode)
        path.chmod(mode | (writable & _granted(path.parent)))


def _granted(folder: Path) -> int:
    """Return the permissions of those of group and others who may write a folder."""
    mode = folder.stat().st_mode
    return sum(part for part in (0o070, 0o007) if mode & part & 0o022)


def make_folder(path: Path) -> None:
    """Make a folder that is shared as the one it is in; those above it as the umask says."""
    if not path.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        share(path)


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
