"""Download the missing files of a dataset, or unpack them from an archive that is there already.

A file appears under its own name only when it is whole and its checksum is right; what is there
already is never replaced.
"""

from __future__ import annotations

import logging
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from probe.core.files import sync, working_folder
from probe.datasets.catalog import DatasetSpec, Layout, Source
from probe.errors import DataError, MissingFilesError, UnsafeFileError

log = logging.getLogger(__name__)

UNFINISHED = ".unfinished"  # ends the name of a folder that a download or an archive goes into
TIMEOUT = (10.0, 30.0)  # seconds to connect, and for the next bytes to come


class Bar(Protocol):
    """A progress bar of a download, as pooch uses it."""

    total: float | None

    def update(self, count: int) -> None:
        """Add the number of bytes that arrived."""

    def reset(self) -> None:
        """Start again at 0."""

    def close(self) -> None:
        """End the bar after the download finished or failed."""


Progress = Callable[[str], Bar]


def fetch(
    spec: DatasetSpec,
    layout: Layout,
    folder: Path,
    missing: Sequence[str],
    *,
    root: Path,
    download: bool = True,
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
    download : bool, default=True
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
            if not download:
                raise OSError("downloading is switched off")
            with working_folder(folder, "download", UNFINISHED) as temporary:
                file = _download(source, temporary, progress)
                if archived:
                    _fill(file, folder, missing)
                else:
                    _move(file, folder / source.file)
        except OSError as error:
            place = folder if not archived else root
            what = f"put {source.file} from {source.urls[0]} into {place}"
            raise MissingFilesError(
                f"{spec.name}: {', '.join(missing)} missing in {folder}: {_one_line(error)}; {what}"
            ) from error


def _download(source: Source, into: Path, progress: Progress | None) -> Path:
    """Download a file from the first URL that works; OSError has the failure of each."""
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    failures = []
    for url in source.urls:
        log.info("downloading %s", url)
        bar = progress(source.file) if progress is not None else None
        downloader = pooch.HTTPDownloader(
            progressbar=bar or False, chunk_size=1 << 16, timeout=TIMEOUT
        )
        try:
            path = pooch.retrieve(
                url, known_hash=source.checksum, fname=source.file, path=into, downloader=downloader
            )
            return Path(path)
        except requests.RequestException as error:
            failures.append(f"{url} cannot be read ({_reason(error)})")
        except ValueError:  # pooch's way to say that the checksum differs
            failures.append(f"{url} has another checksum than {source.checksum}")
        finally:
            if bar is not None:
                bar.close()
    raise OSError("; ".join(failures))


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
    import pooch

    algorithm, expected = source.checksum.split(":")
    found = pooch.file_hash(str(path), alg=algorithm)
    if found != expected:
        raise DataError(
            f"{path}: is not the official file ({algorithm} {found}, expected {expected}); "
            f"remove it, or get it again from {source.urls[0]}"
        )


def _reason(error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return f"HTTP {status}" if status else type(error).__name__


def _one_line(error: OSError) -> str:
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
