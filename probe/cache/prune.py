"""Which entries may go: those beyond a size, too old, or not used for long."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from probe.cache.file import read_header
from probe.cache.store import Entry, Store
from probe.errors import CacheError

SECONDS_A_DAY = 86400.0


@dataclass(frozen=True, kw_only=True)
class Removal:
    """A file that may go, and why.

    Parameters
    ----------
    size : int
        Bytes.
    """

    path: Path
    why: str
    size: int


def plan_prune(
    store: Store,
    *,
    max_size: int | None = None,
    older_than: float | None = None,
    unused: float | None = None,
    now: float | None = None,
) -> list[Removal]:
    """Decide what goes, and remove nothing.

    Parameters
    ----------
    max_size : int, optional
        Bytes that complete entries may take together; those used longest ago go first.
    older_than, unused : float, optional
        Days since an entry was made, or last found or fitted on. Unfinished files that no process
        works on go by the same age.
    now : float, optional
        Seconds since 1970.
    """
    at = time.time() if now is None else now
    entries = sorted(store.entries(), key=lambda entry: (entry.used, entry.name))
    going: dict[Path, Removal] = {}
    for entry in entries:
        for limit, since, words in (
            (older_than, entry.modified, "made"),
            (unused, entry.used, "last used"),
        ):
            days = (at - since) / SECONDS_A_DAY
            if limit is not None and days > limit:
                going.setdefault(entry.path, _removal(entry, f"{words} {days:.0f} days ago"))
    left = sum(entry.size for entry in entries if entry.path not in going)
    for entry in entries:
        if max_size is not None and left > max_size and entry.path not in going:
            going[entry.path] = _removal(entry, "the longest unused while the cache is too large")
            left -= entry.size
    ages = [limit for limit in (older_than, unused) if limit is not None]
    return [*going.values(), *(_abandoned(store, at - min(ages) * SECONDS_A_DAY) if ages else [])]


def prune(store: Store, removals: list[Removal]) -> None:
    """Remove what was decided. Processes that read an entry keep what they opened."""
    for removal in removals:
        store.discard(removal.path)


def _removal(entry: Entry, why: str) -> Removal:
    return Removal(path=entry.path, why=why, size=entry.size)


def _abandoned(store: Store, before: float) -> list[Removal]:
    """Return the unfinished files, last written before a time, that nobody is writing now."""
    found = []
    for path in [*store.partials(), *sorted(store.folder.glob(".*.journal"))]:
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        if status.st_mtime < before and not _being_written(store, path.with_suffix(".partial")):
            found.append(Removal(path=path, why="left unfinished", size=status.st_size))
    return found


def _being_written(store: Store, partial: Path) -> bool:
    try:
        key = read_header(partial).key
    except CacheError:
        return False
    return store.is_locked(key)
