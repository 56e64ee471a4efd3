"""Download the missing files of a dataset, or unpack them from an archive that is there already.

A file appears under its own name only when it is whole and its checksum is right; what is there
already is never replaced.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from probe.core.download import DownloadError, Progress, download
from probe.core.files import sync, working_folder
from probe.datasets.catalog import DatasetSpec, Layout, Source
from probe.errors import DataError, MissingFilesError, UnsafeFileError

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
                is_right=partial(_is_official, source),
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


def _is_official(source: Source, path: Path) -> bool:
    return _digest(path, source) == source.checksum


def _digest(path: Path, source: Source) -> str:
    """Return a file's digest by the algorithm of its source, ``md5:...``."""
    algorithm = source.checksum.partition(":")[0]
    with path.open("rb") as file:
        found = hashlib.file_digest(file, partial(hashlib.new, algorithm, usedforsecurity=False))
    return f"{algorithm}:{found.hexdigest()}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def unpack(archive: Path, into: Path) -> None:
    """Unpack a tar archive below a folder. Links and devices are refused.

    All names are checked before the first file is written.

    Parameters
    ----------
    archive : Path
        A tar file, compressed or not.
    into : Path
        An empty folder.

    Raises
    ------
    UnsafeFileError
        A member has an absolute path or one with ``..``, or is neither a file nor a folder.
    DataError
        The archive is damaged.
    """
    try:
        with tarfile.open(archive) as tar:
            members = tar.getmembers()
            for member in members:
                _check_member(archive, member)
            for member in members:
                _write_member(tar, member, into)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{archive}: cannot be unpacked ({error}); get it again") from error


def _check_member(archive: Path, member: tarfile.TarInfo) -> None:
    path = PurePosixPath(member.name)
    outside = path.is_absolute() or ".." in path.parts or "\\" in member.name or "\0" in member.name
    if outside or not (member.isfile() or member.isdir()):
        raise UnsafeFileError(
            f"{archive}: the member {member.name!r} is a link, a device or outside of its folder; "
            "nothing was written, do not trust it"
        )


def _write_member(tar: tarfile.TarFile, member: tarfile.TarInfo, into: Path) -> None:
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
        raise EOFError(f"{member.name} is truncated")
