"""Remove entries by total size, age or last use, and what killed commands left."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from probe.cache.store import Entry, Store, removing
from probe.cache.unfinished import discard_unfinished, list_unfinished
from probe.core.files import discard, is_free
from probe.core.run_folders import NAMED, RESULT

FEATURES, DATASETS, REMOTE = "features", "datasets", "remote"
UNFINISHED = ".unfinished"  # ending of unfinished folders of bundles and downloads
SECONDS_A_DAY = 86400.0


@dataclass(frozen=True, kw_only=True)
class Removal:
    """A file to remove, and why.

    Parameters
    ----------
    size : int
        Bytes.
    unfinished : bool
        An unfinished entry, with the journal beside it.
    temporary : bool
        A file or folder of a killed command that cannot be resumed.
    """

    path: Path
    why: str
    size: int
    unfinished: bool = False
    temporary: bool = False


def plan_prune(
    store: Store,
    *,
    max_size: int | None = None,
    older_than: float | None = None,
    unused: float | None = None,
    partial: bool = False,
    keep: Collection[str] = (),
    now: float | None = None,
) -> list[Removal]:
    """Decide what to remove, and remove nothing.

    Temporary files and folders of killed commands are always removed, since they cannot be resumed:
    those of `pack`, of downloads, and those in the folders of runs, benches and bundles. Downloads
    of weights, which can be resumed, and runs without a result are treated as unfinished entries.

    Parameters
    ----------
    max_size : int, optional
        Bytes that complete entries may take together; the least recently used go first.
    older_than, unused : float, optional
        Days since an entry was made, or last used. Unfinished ones that no process works on are
        removed at the same age.
    partial : bool, default=False
        Remove all unfinished ones that no process works on, whatever their age.
    keep : collection of str
        Names of entries to keep, whatever the limits.
    now : float, optional
        Seconds since 1970.
    """
    at = time.time() if now is None else now
    every = sorted(store.entries(), key=lambda entry: (entry.used, entry.name))
    entries = [entry for entry in every if entry.name not in keep]
    going: dict[Path, Removal] = {}
    for entry in entries:
        for limit, since, words in (
            (older_than, entry.modified, "made"),
            (unused, entry.used, "last used"),
        ):
            days = (at - since) / SECONDS_A_DAY
            if limit is not None and days > limit:
                going.setdefault(entry.path, _removal(entry, f"{words} {days:.0f} days ago"))
    left = sum(entry.size for entry in every if entry.path not in going)
    for entry in entries:
        if max_size is not None and left > max_size and entry.path not in going:
            going[entry.path] = _removal(entry, "the longest unused while the cache is too large")
            left -= entry.size
    ages = [limit for limit in (older_than, unused) if limit is not None]
    before = math.inf if partial else at - min(ages, default=math.inf) * SECONDS_A_DAY
    state = store.folder.parent
    return [
        *going.values(), *_abandoned(store, before), *_left_behind(state),
        *_broken_off(state, before),
    ]  # fmt: skip


def prune(store: Store, removals: list[Removal]) -> list[Removal]:
    """Remove what `plan_prune` returned; return what was removed.

    What a process has begun to work on since is kept. Open entries can still be read.
    """
    gone = []
    for removal in removals:
        if removal.unfinished and not discard_unfinished(store, removal.path):
            continue
        if removal.temporary:
            with removing(removal.path):
                if not discard(removal.path):
                    continue
        elif not removal.unfinished:
            store.discard(removal.path)
        gone.append(removal)
    return gone


def _removal(entry: Entry, why: str) -> Removal:
    return Removal(path=entry.path, why=why, size=entry.size)


def _left_behind(folder: Path) -> list[Removal]:
    """Return the temporary files and folders in a state folder that no living process holds."""
    found = []
    for place in _inside(folder, 1):
        depth = {FEATURES: 0, DATASETS: 2, REMOTE: 0}.get(place.name, 3)  # images may be millions
        for one in _inside(Path(place), depth) if place.is_dir(follow_symlinks=False) else ():
            if not one.name.startswith("."):
                continue
            file = one.is_file(follow_symlinks=False) and place.name != DATASETS
            if (file and one.name.endswith(".tmp")) or (
                one.name.endswith(UNFINISHED) and one.is_dir(follow_symlinks=False)
            ):
                found.append(Path(one))
    return [_left(path, "left by a killed command") for path in sorted(found) if is_free(path)]


def _broken_off(folder: Path, before: float) -> list[Removal]:
    """Return unfinished downloads and runs of killed commands, last written before a time.

    Folders of fine-tuning runs are not included, since those can be resumed.
    """
    found = [
        Path(one)
        for one in (*_inside(folder / "weights", 1), *_inside(folder / DATASETS, 2),
                    *_inside(folder / REMOTE / ".parts", 1))
        if one.name.startswith(".") and one.name.endswith(".part")
        and one.is_file(follow_symlinks=False)
    ]  # fmt: skip
    for place, first, marks in (
        ("runs", "head.safetensors", (RESULT, "promote.json")),
        ("benches", "results.csv", ("bench.json",)),
    ):
        for one in _inside(folder / place, 1):
            names = {inner.name for inner in _inside(Path(one), 1)}
            if NAMED.fullmatch(one.name) and first in names and not names & set(marks):
                found.append(Path(one))
    return [
        _left(path, "left unfinished")
        for path in sorted(found)
        if is_free(path) and _numbers(path)[1] <= before
    ]


def _inside(folder: Path, depth: int) -> Iterator[os.DirEntry[str]]:
    """Yield the contents of a folder down to a depth, without following links."""
    if depth < 1 or folder.is_symlink():
        return
    try:
        with os.scandir(folder) as found:
            entries = list(found)
    except OSError:  # no folder, another user's, or gone since
        return
    for one in entries:
        yield one
        if one.is_dir(follow_symlinks=False):
            yield from _inside(Path(one), depth - 1)


def _left(path: Path, why: str) -> Removal:
    files = [one for one in path.rglob("*") if one.is_file()] if path.is_dir() else [path]
    size = sum(_numbers(one)[0] for one in files)
    return Removal(path=path, why=why, size=size, temporary=True)


def _numbers(path: Path) -> tuple[int, float]:
    """Return the size and mtime of a file; 0 and now for one that was just removed."""
    try:
        found = path.lstat()
    except OSError:
        return 0, time.time()
    return found.st_size, found.st_mtime


def _abandoned(store: Store, before: float) -> list[Removal]:
    """Return unfinished entries last written before a time that no process is writing.

    Temporary files of `pack` are included whatever their age, since they cannot be resumed.
    """
    useless = set(store.temporaries())
    return [
        Removal(path=one.path, why="left unfinished", size=one.size, unfinished=True)
        for one in list_unfinished(store)
        if (one.modified <= before or one.path in useless) and not one.writing
    ]
