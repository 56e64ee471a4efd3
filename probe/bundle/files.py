"""A bundle's files, in a folder or in one uncompressed zip archive, read by name only.

Nothing is extracted, no name in an archive becomes a path, and each file is read once, so that the
bytes that are used are those whose digest was checked.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.bundle.about import ABOUT, About
from probe.core.files import is_refusal, reason_of, replacing, sync, working_folder
from probe.core.regular import open_regular
from probe.errors import BundleError, ProbeError, WeightsError
from probe.weights.zip_members import Member, stored_members

ENDING = ".probe"
CARD = "README.md"
MOST_BYTES = 8 << 30
LARGE = 1 << 30  # bytes; a larger file is hashed before it is read into memory
MOST_ABOUT = 64 << 20  # bytes of bundle.json, enough for the names of a million classes
UNFINISHED = ".unfinished"  # suffix of the folder that a bundle is written in
EPOCH = (1980, 1, 1, 0, 0, 0)  # a fixed date, so that equal bundles are equal bytes


class BundleFiles:
    """Reads the files of a bundle.

    Parameters
    ----------
    path : Path
        A folder, or a file.

    Raises
    ------
    BundleError
        The path does not exist or is no bundle.
    UnsafeFileError
        The archive is compressed, overlaps itself or ends beyond the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._members: dict[str, Member] | None = None
        if path.is_file():
            self._members = _members(path)
        elif not path.is_dir():
            raise BundleError(f"{path}: no such bundle; `probe bundle` makes one of a run")

    def about(self) -> About:
        """Read `bundle.json`; see `About.from_json`."""
        if not self.has(ABOUT):
            raise BundleError(
                f"{self.path}: not a bundle, {ABOUT} is missing; `probe bundle` makes one of a run"
            )
        about = About.from_json(self._read(ABOUT, MOST_ABOUT), str(self.path))
        expected = about.expected_files
        if set(about.files) not in (expected, expected | about.graph_files):
            raise BundleError(f"{self.path}: {ABOUT} names other files than a bundle has")
        return about

    def has(self, name: str) -> bool:
        """Whether a file of that name is there."""
        if self._members is not None:
            return name in self._members
        return (self.path / name).is_file()

    def checked(self, name: str, about: About) -> bytes:
        """Return a file's bytes if they are those that `about` has the digest of.

        Raises
        ------
        BundleError
        """
        if not self.has(name):
            raise BundleError(f"{self.path}: {name} is missing; copy the whole bundle again")
        other = BundleError(
            f"{self.path}: {name} is not what was written, by its SHA256; copy the bundle again"
        )
        file = self.path / name
        large = self._members is None and LARGE < file.stat().st_size <= MOST_BYTES
        if large and _sha256(file) != about.files[name]:
            raise other  # before it takes the memory
        data = self._read(name, MOST_BYTES)
        if hashlib.sha256(data).hexdigest() != about.files[name]:
            raise other
        return data

    def _read(self, name: str, limit: int) -> bytes:
        try:
            if self._members is not None:
                return self._members[name].read(self.path, limit)
            with open_regular(self.path / name) as file:
                size = os.fstat(file.fileno()).st_size
                if size > limit:
                    raise BundleError(
                        f"{self.path}: {name} has {size:,} bytes, more than any bundle's; copy the "
                        "bundle again"
                    )
                return file.read(size)
        except OSError as error:
            raise BundleError(f"{self.path}: {name} cannot be read ({error.strerror})") from error


def _members(path: Path) -> dict[str, Member]:
    try:
        return stored_members(path)
    except WeightsError as error:
        raise BundleError(
            f"{path}: not a bundle, or not all of one; name a folder or a {ENDING} file that "
            "`probe bundle` made, or copy it again"
        ) from error
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from error


def read_arrays(data: bytes, where: str) -> dict[str, NDArray[Any]]:
    """Return the arrays of a safetensors file."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return dict(load(data))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{where}: not arrays that can be read ({error})") from error


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a safetensors file."""
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)


def write_about(about: About, folder: Path) -> None:
    """Write `bundle.json` with the digests of the files beside it."""
    digests = {name: _sha256(folder / name) for name in sorted(about.expected_files)}
    (folder / ABOUT).write_text(replace(about, files=digests).to_json(), encoding="utf-8")


@contextmanager
def writing(out: Path) -> Iterator[Path]:
    """Yield an empty hidden folder beside `out`, which becomes `out` if the block succeeds.

    By the ending of its name `out` is a folder or one file. Leftovers of killed processes are
    removed. If several processes write the same bundle, one succeeds and the others are refused.

    Raises
    ------
    BundleError
        `out` exists, or it or a file of the block cannot be written.
    """
    require_free(out)
    try:
        with working_folder(out.parent, out.name, UNFINISHED) as folder:
            yield folder
            require_free(out)  # again: another process may have made it
            _publish(folder, out)
    except Exception as error:
        if isinstance(error, ProbeError) or not (isinstance(error, OSError) or is_refusal(error)):
            raise
        raise BundleError(
            f"{out}: cannot be written ({reason_of(error)}); make room, or name another place with "
            "--out"
        ) from error


def require_free(out: Path) -> None:
    """Raise BundleError if the path of a new bundle exists."""
    if os.path.lexists(out):  # also a broken link
        raise _taken(out)


def _taken(out: Path) -> BundleError:
    return BundleError(f"{out}: is there already; name another place with --out")


def _publish(folder: Path, out: Path) -> None:
    if out.name.endswith(ENDING):
        _archive(folder, out)
        return
    mask = os.umask(0)
    os.umask(mask)
    for path in folder.iterdir():
        path.chmod(0o666 & ~mask)  # safetensors writes what only its owner can read
        sync(path)
    folder.chmod(0o777 & ~mask)
    try:
        folder.rename(out)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):  # somebody was faster
            raise _taken(out) from error
        raise
    sync(out.parent)


def _archive(folder: Path, out: Path) -> None:
    paths = sorted(folder.iterdir(), key=lambda path: (path.name != ABOUT, path.name))
    whole = folder / ENDING
    with replacing(whole) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for path in paths:
            info = zipfile.ZipInfo(path.name, EPOCH)  # stored, not compressed
            info.external_attr = 0o644 << 16
            with path.open("rb") as source, archive.open(info, "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target, 1 << 20)
    try:
        os.link(whole, out)  # a rename would take the place of what another process has just made
    except FileExistsError as error:
        raise _taken(out) from error
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP):
            raise
        whole.replace(out)  # a file system without links
    sync(out.parent)


def bundle_size(path: Path) -> int:
    """Return the bytes that a bundle takes on disk."""
    return sum(one.stat().st_size for one in ([path] if path.is_file() else path.iterdir()))


def _sha256(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
