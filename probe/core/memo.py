"""Remember hashes of files by size and times, as git's index does, so that none is read twice.

A digest is kept under (path, what was computed) and used while the file's size, mtime, inode and
ctime are unchanged. A file changed within the last seconds is not remembered, since a second change
could leave the same time. A write through a memory map on tmpfs changes none of the four and is not
noticed (``--strict`` hashes again).

SQLite does not check the data that it returns, so each value has a checksum of itself and its key;
a value that does not match is ignored. Nothing depends on the memo: where it cannot be written (a
read-only cache folder) or another process locks it for long, digests are computed again; a damaged
memo is set aside, and `rm memo.sqlite` is always safe.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import xxhash

from probe.core.files import share
from probe.errors import CacheError

log = logging.getLogger(__name__)

RACY_SECONDS = 2.0  # coarser than the time stamp of any file system in use

MANY = 500

# errors of a file that is not damaged: it is locked, or the disk refuses
_NOT_DAMAGE = {
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOLFS,
}  # fmt: skip
_BESIDE = ("-journal", "-wal", "-shm")  # SQLite's files beside a database

_TABLE = (
    "CREATE TABLE IF NOT EXISTS checked (kind TEXT, path TEXT, size INTEGER, mtime INTEGER,"
    " inode INTEGER, ctime INTEGER, value BLOB, checksum BLOB, PRIMARY KEY (kind, path))"
    " WITHOUT ROWID"
)

# a damaged schema can have names that are not UTF-8
_ERRORS = (sqlite3.Error, UnicodeDecodeError)

Stamp = tuple[int, int, int, int]


def stamp_of(path: Path | str) -> Stamp:
    """Return (size in bytes, mtime in ns, inode, ctime in ns) of a file.

    Nobody can set the ctime back: it shows that a file was overwritten in place.
    """
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns


class Memo:
    """Byte strings computed from files, valid while the files' stamps are.

    Parameters
    ----------
    path : Path
        The SQLite file; made on the first write. Any number of processes may share it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._busy = False  # another process locked it for so long that nobody waits again

    def get_many(self, kind: str, stamps: dict[str, Stamp]) -> dict[str, bytes]:
        """Return the remembered values of the paths whose stamp and checksum still match.

        `kind` names what was computed and the version of the code.
        """
        if not stamps or self._busy or not self._path.exists():
            return {}
        query = "SELECT path, value, checksum FROM checked WHERE kind = ?"
        names = {_name(path): path for path in stamps}
        try:
            with self._connect() as db:
                if len(stamps) > MANY:  # one scan beats that many look-ups
                    between = query + " AND path BETWEEN ? AND ?"
                    rows = list(db.execute(between, (kind, min(names), max(names))))
                else:
                    rows = [
                        r for name in names
                        for r in db.execute(query + " AND path = ?", (kind, name))
                    ]  # fmt: skip
        except _ERRORS as error:
            self._failed(error)
            return {}
        found = {}
        for name, value, checksum in rows:
            path = names.get(name.decode(errors="replace")) if isinstance(name, bytes) else None
            if path is None or not isinstance(value, bytes):
                continue
            if checksum == _checksum(kind, path, stamps[path], value):
                found[path] = value
        return found

    def put_many(self, kind: str, values: Iterable[tuple[str, Stamp, bytes]]) -> None:
        """Remember values; those of files changed in the last seconds are left out."""
        newest = time.time_ns() - int(RACY_SECONDS * 1e9)
        rows = [
            (kind, _name(path), *stamp, value, _checksum(kind, path, stamp, value))
            for path, stamp, value in values
            if stamp[1] < newest
        ]
        if not rows or self._busy:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._connect() as db:
                if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'checked'").fetchone():
                    db.execute(
                        "DROP TABLE IF EXISTS stamps"
                    )  # of an older version, without checksums
                    db.execute(_TABLE)
                share(self._path)
                db.executemany(
                    "INSERT OR REPLACE INTO checked VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows
                )
        except (*_ERRORS, OSError, OverflowError) as error:  # an inode beyond 63 bits
            self._failed(error)

    def forget(self, path: Path) -> None:
        """Forget what is known of a file, or of all files below a folder.

        Raises
        ------
        CacheError
            The memo cannot be written, so that outdated hashes would still be used.
        """
        if not self._path.exists():
            return
        place = _name(os.path.abspath(path))
        try:
            with self._connect() as db:
                db.execute(_TABLE)
                db.execute(
                    "DELETE FROM checked WHERE path = ? OR substr(path, 1, ?) = ?",
                    (place, len(place) + 1, place + "/"),
                )
        except _ERRORS as error:
            if self._failed(error):
                return
            raise CacheError(
                f"{self._path}: cannot be written ({error}), and hashes it remembers would be "
                "taken for new ones; remove it"
            ) from error

    def forget_if_possible(self, path: Path | str) -> None:
        """Forget a file if the memo can be written; otherwise do nothing."""
        with contextlib.suppress(CacheError):
            self.forget(Path(path))

    def _failed(self, error: Exception) -> bool:
        """Log an error of the memo; set a damaged one aside, and return whether it was damaged."""
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF  # without its refinement
        self._busy = self._busy or code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
        missing = "no such table" in str(error)  # of an older version, or empty
        if not isinstance(error, _ERRORS) or code in _NOT_DAMAGE or missing:
            log.debug("memo %s: %s", self._path, error)
            return False
        aside = self._path.with_name(self._path.name + ".broken")
        try:
            self._path.replace(aside)
            for ending in _BESIDE:
                self._path.with_name(self._path.name + ending).unlink(missing_ok=True)
        except OSError:
            log.debug("memo %s: %s", self._path, error)
            return False
        log.warning(
            "%s: damaged (%s); set aside as %s and made anew, so images and weights are hashed "
            "again", self._path, error, aside.name,
        )  # fmt: skip
        return True

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(self._path, timeout=10)
        try:
            db.text_factory = bytes  # a damaged text need not be UTF-8
            db.execute("PRAGMA cell_size_check = ON")  # sqlite.org/security.html, of damaged files
            with db:  # commits, or rolls back on an error
                yield db
        finally:
            db.close()


def _name(path: str) -> str:
    """Return a path as SQLite takes it; names that are not UTF-8 have lone surrogates."""
    return path.encode("utf-8", "backslashreplace").decode()


def _checksum(kind: str, path: str, stamp: Stamp, value: bytes) -> bytes:
    """Return the xxh3-128 of a value and its key."""
    place = "\0".join((kind, path, *map(str, stamp), ""))
    return xxhash.xxh3_128_digest(place.encode("utf-8", "surrogatepass") + value)
