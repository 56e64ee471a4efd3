"""Unpack a tar archive so that nothing is written outside of its folder."""

from __future__ import annotations

import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from probe.errors import DataError, UnsafeFileError


def unpack(archive: Path, into: Path) -> None:
    """Write the files of an archive below a folder. Links and devices are refused.

    All names are checked before the first file is written.

    Parameters
    ----------
    archive : Path
        A tar file, compressed or not.
    into : Path
        An empty folder; with links in it that others made, all bets are off.

    Raises
    ------
    UnsafeFileError
        A member has an absolute path, one with ``..``, or is no plain file or folder.
    DataError
        The archive is damaged.
    """
    try:
        with tarfile.open(archive) as tar:
            members = tar.getmembers()
            for member in members:
                _check(archive, member)
            for member in members:
                _write(tar, member, into)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{archive}: cannot be unpacked ({error}); get it again") from error


def _check(archive: Path, member: tarfile.TarInfo) -> None:
    path = PurePosixPath(member.name)
    outside = path.is_absolute() or ".." in path.parts or "\\" in member.name or "\0" in member.name
    if outside or not (member.isfile() or member.isdir()):
        raise UnsafeFileError(
            f"{archive}: the member {member.name!r} is a link, a device or outside of its folder; "
            "nothing was written, do not trust it"
        )


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, into: Path) -> None:
    target = into / member.name
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    source = tar.extractfile(member)
    assert source is not None  # a plain file
    with source, target.open("xb") as file:
        shutil.copyfileobj(source, file)
    if target.stat().st_size != member.size:
        raise EOFError(f"{member.name} is cut short")
