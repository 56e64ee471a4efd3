"""Remember what a file's bytes hashed to, as git's index does, so that a hit needs no reading.

A digest is kept under (path, what was computed) and is believed while the file's size, mtime,
inode and ctime stay as they were. A file changed within the last seconds is not remembered, for a
second change could leave the same time behind. The memo is a convenience: where it cannot be
written (a read-only cache folder) digests are computed again, one that is damaged is set aside, and
`rm memo.sqlite` is always safe.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from probe.errors import CacheError
from probe.files import share

log = logging.getLogger(__name__)

RACY_SECONDS = 2.0  # coarser than the time stamp of any file system in use

MANY = 500

Stamp = tuple[int, int, int, int]


def stamp_of(path: Path | str) -> Stamp:
    """Return (size in bytes, mtime in ns, inode, ctime in ns) of a file.

    The ctime is what nobody can set back: it tells a file that was overwritten in place.
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

    def get_many(self, kind: str, stamps: dict[str, Stamp]) -> dict[str, bytes]:
        """Return the remembered values of those paths whose stamp still holds.

        `kind` says what was computed, and with which version of the code.
        """
        if not stamps or not self._path.exists():
            return {}
        query = "SELECT path, size, mtime, inode, ctime, value FROM stamps WHERE kind = ?"
        try:
            with self._connect() as db:
                if len(stamps) > MANY:  # one scan beats that many look-ups
                    rows = list(db.execute(query, (kind,)))
                else:
                    rows = [
                        r
                        for path in stamps
                        for r in db.execute(query + " AND path = ?", (kind, path))
                    ]
        except sqlite3.Error as error:
            self._failed(error)
            return {}
        return {path: value for path, *stamp, value in rows if stamps.get(path) == tuple(stamp)}

    def put_many(self, kind: str, values: Iterable[tuple[str, Stamp, bytes]]) -> None:
        """Remember values; those of files changed in the last seconds are left out."""
        newest = time.time_ns() - int(RACY_SECONDS * 1e9)
        rows = [(kind, path, *stamp, value) for path, stamp, value in values if stamp[1] < newest]
        if not rows:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._connect() as db:
                db.execute(
                    "CREATE TABLE IF NOT EXISTS stamps (kind TEXT, path TEXT, size INTEGER,"
                    " mtime INTEGER, inode INTEGER, ctime INTEGER, value BLOB,"
                    " PRIMARY KEY (kind, path)) WITHOUT ROWID"
                )
                share(self._path)
                db.executemany("INSERT OR REPLACE INTO stamps VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        except (sqlite3.Error, OSError) as error:
            self._failed(error)

    def forget(self, path: Path) -> None:
        """Forget what is known of a file, or of all files below a folder.

        Raises
        ------
        CacheError
            The memo cannot be written, so that what it says would be believed on.
        """
        if not self._path.exists():
            return
        place = os.path.abspath(path)
        try:
            with self._connect() as db:
                db.execute(
                    "DELETE FROM stamps WHERE path = ? OR substr(path, 1, ?) = ?",
                    (place, len(place) + 1, place + "/"),
                )
        except sqlite3.Error as error:
            if self._failed(error):
                return
            raise CacheError(
                f"{self._path}: cannot be written ({error}), and hashes it remembers would be "
                "taken for new ones; remove it"
            ) from error

    def _failed(self, error: Exception) -> bool:
        """Log why the memo is of no use now; set a damaged one aside, and say whether it was."""
        code = getattr(error, "sqlite_errorcode", None)
        old = "no such column" in str(error) or "has no column" in str(error)
        if code not in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT) and not old:
            log.debug("memo %s: %s", self._path, error)
            return False
        aside = self._path.with_name(self._path.name + ".broken")
        try:
            self._path.replace(aside)
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
            with db:  # commits, or rolls back on an error
                yield db
        finally:
            db.close()
