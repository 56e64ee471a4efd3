"""Download the missing files of a dataset, or unpack them from an archive that is there already.

A file appears under its own name only when it is whole and its checksum is right; what is there
already is never replaced.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Protocol

from probe.core.download import DownloadError, Progress, download
from probe.core.files import sync, working_folder
from probe.core.regular import open_regular
from probe.datasets.named.catalog import DatasetSpec, Layout, Source
from probe.errors import DataError, MissingFilesError, ProbeError, UnsafeFileError

MOST_BYTES, MOST_MEMBERS = 8 * 2**30, 500_000  # of an archive, unpacked
_BLOCK = 2**20
UNFINISHED = ".unfinished"  # ends the name of a folder that an archive goes into


def fetch(
    spec: DatasetSpec,
    layout: Layout,
    folder: Path,
    missing: Sequence[str],
    *,
    root: Path,
    network: bool = True,
    progress: Progress | None = None,
) -> None:
    """Put the missing files of a layout into a folder.

    Parameters
    ----------
    folder : Path
        Where the files belong; made if need be.
    missing : sequence of str
        Their names.
    root : Path
        Searched for an archive that was downloaded by hand.
    network : bool, default=True
        False: use only such an archive, never the network.
    progress : callable, optional
        Called with a file's name; returns the progress bar of its download.

    Raises
    ------
    MissingFilesError
        They cannot be downloaded; the message says which file to put where.
    """
    for source in layout.sources:
        archived = layout.format != "idx"
        if not archived and source.file.removesuffix(".gz") not in missing:
            continue
        by_hand = root / source.file
        try:
            if archived and by_hand.is_file():
                _check(by_hand, source)
                _fill(by_hand, folder, missing)
                continue
            if not network:
                raise OSError("downloading is switched off")
            target = by_hand if archived else folder / source.file
            download(
                source.urls, target, digest=source.checksum, progress=progress,
                is_right=partial(is_official, source=source),
            )  # fmt: skip
            if archived:
                try:
                    _fill(target, folder, missing)
                finally:
                    target.unlink()
        except (OSError, DownloadError) as error:
            place = folder if not archived else root
            what = f"put {source.file} from {source.urls[0]} into {place}"
            raise MissingFilesError(
                f"{spec.name}: {', '.join(missing)} missing in {folder}: {_one_line(error)}; {what}"
            ) from error


def fetch_set(
    spec: DatasetSpec,
    layout: Layout,
    folder: Path,
    *,
    network: bool = True,
    progress: Progress | None = None,
) -> None:
    """Put what is missing of an image set into a folder; see `fetch`.

    A folder of images appears under its name when all of its archive is unpacked. An archive that
    was downloaded by hand into the folder is used and kept.

    Raises
    ------
    MissingFilesError
        A file cannot be downloaded; the message says which to put where.
    """
    for source in layout.sources:
        if (folder / source.target).exists():
            continue
        archive, by_hand = folder / source.file, (folder / source.file).is_file()
        try:
            if by_hand:
                _check(archive, source)
            elif network:
                download(
                    source.urls, archive, digest=source.checksum, progress=progress,
                    is_right=partial(is_official, source=source),
                )  # fmt: skip
            else:
                raise OSError("downloading is switched off")
            if source.gives:
                try:
                    _place(archive, folder, source)
                finally:
                    if not by_hand:
                        archive.unlink()
        except (OSError, DownloadError) as error:
            raise MissingFilesError(
                f"{spec.name}: {source.target} missing in {folder}: {_one_line(error)}; put "
                f"{source.file} from {source.urls[0]} into {folder}"
            ) from error


def _place(archive: Path, folder: Path, source: Source) -> None:
    """Unpack an archive, and give the folder that it holds its name once all is on disk."""
    with working_folder(folder, "unpack", UNFINISHED) as temporary:
        unpack(archive, temporary)
        if not (temporary / source.gives).is_dir():
            raise DataError(f"{archive}: does not contain {source.gives}; get it again")
        if hasattr(os, "sync"):  # not on Windows
            os.sync()  # one by one, tens of thousands of images would take minutes
        try:
            os.replace(temporary / source.gives, folder / source.gives)
        except OSError:
            if not (folder / source.gives).is_dir():  # another process was faster
                raise
        sync(folder)


def _fill(archive: Path, folder: Path, missing: Sequence[str]) -> None:
    """Move an archive's files into a folder, whichever folder they have in the archive."""
    with working_folder(folder, "unpack", UNFINISHED) as temporary:
        unpack(archive, temporary)
        files = {path.name: path for path in temporary.rglob("*") if path.is_file()}
        lacking = [name for name in missing if name not in files]
        if lacking:
            raise DataError(f"{archive}: does not contain {', '.join(lacking)}; get it again")
        for name, path in sorted(files.items()):  # also the class names and the readme
            _move(path, folder / name)


def _move(source: Path, target: Path) -> None:
    if not target.exists():
        sync(source)
        os.replace(source, target)


def _check(path: Path, source: Source) -> None:
    found = _digest(path, source)
    if found != source.checksum:
        raise DataError(
            f"{path}: is not the official file ({found.replace(':', ' ')}, expected "
            f"{source.checksum.partition(':')[2]}); remove it, or get it again from "
            f"{source.urls[0]}"
        )


def is_official(path: Path, source: Source) -> bool:
    """Whether a file has the checksum of its source."""
    return _digest(path, source) == source.checksum


def _digest(path: Path, source: Source) -> str:
    """Return a file's digest by the algorithm of its source, ``md5:...``."""
    algorithm = source.checksum.partition(":")[0]
    make = partial(hashlib.new, algorithm, usedforsecurity=False)
    try:
        with open_regular(path) as file:
            found = hashlib.file_digest(file, make)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    return f"{algorithm}:{found.hexdigest()}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def unpack(archive: Path, into: Path) -> None:
    """Unpack a tar or zip archive below a folder. Links and devices are refused.

    All names and sizes are checked before the first file is written.

    Parameters
    ----------
    archive : Path
        A tar file, compressed or not, or a zip file.
    into : Path
        An empty folder.

    Raises
    ------
    UnsafeFileError
        A member has an absolute path or one with ``..``, or is neither a file nor a folder; or
        there are more than `MOST_BYTES` or `MOST_MEMBERS` in it.
    DataError
        The archive is damaged.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as packed:
                _write_all(archive, [_ZipMember(packed, one) for one in packed.infolist()], into)
        else:
            with tarfile.open(archive) as tar:
                _write_all(archive, _tar_members(archive, tar), into)
    except (
        tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError,
        NotImplementedError, RuntimeError, ValueError, OverflowError,
    ) as error:  # fmt: skip
        if isinstance(error, ProbeError):
            raise
        raise DataError(
            f"{archive}: cannot be unpacked ({_one_line(error)}); get it again"
        ) from error


class _Member(Protocol):
    """A file, a folder or something else in an archive."""

    name: str
    size: int
    is_folder: bool
    is_file: bool

    def open(self) -> IO[bytes]: ...


class _TarMember:
    def __init__(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        self._tar, self._member = tar, member
        self.name, self.size = member.name, member.size
        self.is_folder, self.is_file = member.isdir(), member.isfile()

    def open(self) -> IO[bytes]:
        source = self._tar.extractfile(self._member)
        assert source is not None  # a plain file
        return source


class _ZipMember:
    def __init__(self, packed: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
        self._packed, self._member = packed, member
        self.name, self.size = member.filename, member.file_size
        kind = stat.S_IFMT(member.external_attr >> 16)
        self.is_folder = member.is_dir() and kind in (0, stat.S_IFDIR)
        self.is_file = not member.is_dir() and kind in (0, stat.S_IFREG)

    def open(self) -> IO[bytes]:
        return self._packed.open(self._member)


def _tar_members(archive: Path, tar: tarfile.TarFile) -> list[_TarMember]:
    found = []
    for member in tar:
        found.append(_TarMember(tar, member))
        if len(found) > MOST_MEMBERS:
            raise _too_large(archive)
    return found


def _too_large(archive: Path) -> UnsafeFileError:
    return UnsafeFileError(
        f"{archive}: unpacks to more than {MOST_BYTES // 2**30} GiB or {MOST_MEMBERS:,} files; "
        "nothing was written, do not trust it"
    )


def _write_all(archive: Path, members: Sequence[_Member], into: Path) -> None:
    for member in members:
        _check_member(archive, member)
    total = sum(member.size for member in members)
    if total > MOST_BYTES or len(members) > MOST_MEMBERS:
        raise _too_large(archive)
    for member in members:
        _write_member(member, into)


def _check_member(archive: Path, member: _Member) -> None:
    name = member.name
    path = PurePosixPath(name)
    outside = path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name
    if outside or PureWindowsPath(name).drive or not (member.is_file or member.is_folder):
        raise UnsafeFileError(
            f"{archive}: the member {name!r} is a link, a device or outside of its folder; "
            "nothing was written, do not trust it"
        )


def _write_member(member: _Member, into: Path) -> None:
    target = into / member.name
    if member.is_folder:
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    left = member.size
    with member.open() as source, target.open("xb") as file:
        while left > 0 and (block := source.read(min(left, _BLOCK))):
            left -= file.write(block)
        if left or source.read(1):
            raise EOFError(f"{member.name} has another size than the archive says")
