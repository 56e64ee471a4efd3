"""The folder of entries: finding, writing, removing. It copies rows and forwards none."""

from __future__ import annotations

import glob
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from numpy.typing import NDArray

from probe.cache.features import FeatureSet, FeatureSplit
from probe.cache.file import SplitTable, Writer, create, publish, read_header, read_table
from probe.cache.key import SPLIT_ORDER, FeatureKey
from probe.errors import CacheError, UnknownNameError

log = logging.getLogger(__name__)

ENDING = ".h5"
DIGEST_CHARACTERS = 12


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A complete entry as a listing shows it, without reading its rows."""

    path: Path
    key: FeatureKey
    dataset: str
    provenance: Mapping[str, Any]
    counts: Mapping[str, int]
    row_shape: tuple[int, ...]
    size: int
    modified: float

    @property
    def name(self) -> str:
        return self.path.stem


class Store:
    """The entries under one cache folder.

    Parameters
    ----------
    cache_dir : Path
        Entries lie in its ``features/``; nothing is created before the first write.
    """

    def __init__(self, cache_dir: Path) -> None:
        self.folder = cache_dir / "features"

    def path_of(self, key: FeatureKey, dataset: str) -> Path:
        """Return where an entry lies; the words in the name are for people, the digest decides."""
        words = [
            re.sub(r"[^A-Za-z0-9_.]+", "_", word)[:40]
            for word in (dataset, key.backbone, key.layer, key.pool)
        ]
        if words[-1] == "none":
            words.pop()
        found = sorted(self.folder.glob(f"*-{key.digest[:DIGEST_CHARACTERS]}{ENDING}"))
        return (
            found[0]
            if found
            else self.folder / f"{'-'.join([*words, key.digest[:DIGEST_CHARACTERS]])}{ENDING}"
        )

    def find(self, key: FeatureKey, dataset: str) -> FeatureSet | None:
        """Return the complete entry of a key.

        Raises
        ------
        CacheError
            A file stands in its place that is damaged or records another key.
        """
        path = self.path_of(key, dataset)
        if not path.exists():
            return None
        entry = FeatureSet.open(path)
        if entry.key != key:
            raise CacheError(
                f"{path}: records another key than its name says; "
                f"run `probe cache rm {path.stem}` and extract again"
            )
        return entry

    def entries(self) -> list[Entry]:
        """Return all complete entries, the newest first; files that are none are logged."""
        found = []
        for path in self.folder.glob(f"*{ENDING}"):
            try:
                header, status = read_header(path), path.stat()
            except (CacheError, FileNotFoundError) as error:
                log.warning("%s", error)
                continue
            found.append(
                Entry(
                    path=path,
                    key=header.key,
                    dataset=str(header.provenance.get("dataset", "")),
                    provenance=header.provenance,
                    counts={split: region.shape[0] for split, region in header.features.items()},
                    row_shape=next(iter(header.features.values())).shape[1:],
                    size=status.st_size,
                    modified=status.st_mtime,
                )
            )
        return sorted(found, key=lambda entry: (entry.modified, entry.name), reverse=True)

    def choose(self, name: str | None) -> Entry:
        """Return the entry of that name, of that unique beginning or digest, or else the newest.

        Raises
        ------
        CacheError
            There is no entry at all.
        UnknownNameError
            None is called so, or more than one.
        """
        entries = self.entries()
        if not entries:
            raise CacheError(f"{self.folder}: no entries yet; `probe extract` makes one")
        if name is None:
            return entries[0]
        stem = Path(name).name.removesuffix(ENDING)
        exact = [entry for entry in entries if entry.name == stem]
        close = exact or [
            e for e in entries if e.name.startswith(stem) or e.key.digest.startswith(stem)
        ]
        if len(close) == 1:
            return close[0]
        names = ", ".join(entry.name for entry in (close or entries)[:5])
        raise UnknownNameError(
            f"{'more than one' if close else 'no'} entry is called {name!r}; there are {names}"
        )

    def donors(self, key: FeatureKey) -> list[FeatureSet]:
        """Return the entries whose rows may stand in this one: same recipe, whatever the rows."""
        found = []
        for entry in self.entries():
            if entry.key.recipe != key.recipe:
                continue
            try:
                found.append(FeatureSet.open(entry.path))
            except CacheError as error:
                log.warning("not reused: %s", error)
        return found

    @contextmanager
    def lock(self, key: FeatureKey, *, on_wait: Any = None) -> Iterator[None]:
        """Hold the right to write the entry of `key`; a dead process's lock is free.

        `on_wait()` is called once if another process holds it.

        Raises
        ------
        CacheError
            The folder cannot be written.
        """
        folder = self.folder / ".locks"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(folder / f"{key.digest}.lock", mode=0o666)
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                if on_wait is not None:
                    on_wait()
                lock.acquire()
        except OSError as error:
            raise CacheError(
                f"{self.folder}: cannot be written ({error.strerror or error}); "
                "name another folder with --cache-dir or PROBE_CACHE"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def remove(self, name: str) -> Path:
        """Delete an entry, damaged ones included; a process that reads it keeps what it mapped.

        Raises
        ------
        UnknownNameError
            No file is called so, or more than one.
        """
        stem = Path(name).name.removesuffix(ENDING)
        exact = self.folder / f"{stem}{ENDING}"
        found = (
            [exact]
            if exact.is_file()
            else sorted(self.folder.glob(f"{glob.escape(stem)}*{ENDING}"))
        )
        if len(found) != 1:
            names = ", ".join(
                path.stem for path in found[:5] or sorted(self.folder.glob(f"*{ENDING}"))[:5]
            )
            raise UnknownNameError(
                f"{'more than one' if found else 'no'} entry is called {name!r}; "
                f"there are {names or 'none'}"
            )
        found[0].unlink()
        return found[0]

    def partials(self) -> list[Path]:
        """Return the unfinished files of interrupted or running extractions."""
        return sorted(self.folder.glob(".*.partial"))


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What a new entry consists of before its rows."""

    key: FeatureKey
    dataset: str
    tables: Mapping[str, SplitTable]
    row_shape: tuple[int, ...]
    classes: tuple[str, ...]
    provenance: Mapping[str, Any]


class PendingEntry:
    """An entry that is being written, under a name that no listing shows.

    Call under `Store.lock`. An earlier run's unfinished file is taken up where it matches.
    """

    def __init__(self, store: Store, draft: Draft) -> None:
        self.final = store.path_of(draft.key, draft.dataset)
        self._partial = self.final.with_name(f".{self.final.stem}.partial")
        self._journal = self.final.with_name(f".{self.final.stem}.journal")
        if not self._resumable(draft):
            self._journal.unlink(missing_ok=True)  # first, for it speaks of the file that goes
            self._partial.unlink(missing_ok=True)
            create(
                self._partial, draft.key, draft.tables,
                row_shape=draft.row_shape, classes=draft.classes, provenance=draft.provenance,
            )  # fmt: skip
        self.writer = Writer(read_header(self._partial), self._journal)

    def _resumable(self, draft: Draft) -> bool:
        if not (self._partial.exists() and self._journal.exists()):
            return False
        try:
            header = read_header(self._partial)
            same = header.key == draft.key and header.classes == draft.classes
            region = next(iter(header.features.values()))
            whole = self._partial.stat().st_size >= max(
                r.offset + r.shape[0] * r.row_bytes for r in header.features.values()
            )
            return (
                same and whole and region.shape[1:] == draft.row_shape and self._tables_match(draft)
            )
        except CacheError as error:
            log.info("an interrupted run cannot be taken up: %s", error)
            return False

    def _tables_match(self, draft: Draft) -> bool:
        for split, table in draft.tables.items():
            found = read_table(self._partial, split)
            if not (
                np.array_equal(found.labels, table.labels) and np.array_equal(found.ids, table.ids)
            ):
                return False
        return True

    def publish(self, *, seconds: float, forwarded: int) -> FeatureSet:
        """Seal the file and give it its name."""
        self.writer.seal(seconds=seconds, forwarded=forwarded)
        self.writer.close()
        publish(self._partial, self.final)
        self._journal.unlink(missing_ok=True)
        return FeatureSet.open(self.final)

    def close(self) -> None:
        """Stop here; what is finished stays for the next run."""
        self.writer.close()


def relabelled(
    entry: FeatureSet, tables: Mapping[str, SplitTable], classes: tuple[str, ...]
) -> bool:
    """Whether an entry of the right rows has other labels, ids or class names than the dataset."""
    return entry.classes != classes or any(
        not (
            np.array_equal(entry[split].labels, table.labels)
            and np.array_equal(entry[split]._ids, table.ids)
        )
        for split, table in tables.items()
    )


def locate(
    donors: list[FeatureSet], content: NDArray[np.uint8]
) -> tuple[NDArray[np.intp], list[tuple[FeatureSet, str]]]:
    """Find rows with the given content hashes in donor entries.

    Returns
    -------
    where : intp, (n, 2)
        Number of the source, or -1, and row in it.
    sources : list of (FeatureSet, split)
    """
    sources = [(donor, split) for donor in donors for split in donor.splits]
    known: dict[bytes, tuple[int, int]] = {}
    for number, (donor, split) in enumerate(sources):
        for row, one in enumerate(_as_bytes(donor[split].content)):
            known.setdefault(one, (number, row))
    where = np.array([known.get(one, (-1, -1)) for one in _as_bytes(content)], np.intp).reshape(
        -1, 2
    )
    return where, sources


def _as_bytes(content: NDArray[np.uint8]) -> list[bytes]:
    data = np.ascontiguousarray(content).tobytes()
    width = content.shape[1]
    return [data[i : i + width] for i in range(0, len(data), width)]


def default_cache_dir() -> Path:
    """Return ``PROBE_CACHE``, or ``./cache``."""
    return Path(os.environ.get("PROBE_CACHE") or "cache")


@dataclass(frozen=True, kw_only=True)
class Joined:
    """The splits of an entry and of those that were extracted apart from it.

    Attributes
    ----------
    entry : FeatureSet
        The one that was asked for.
    splits : mapping of split name to FeatureSplit
    sources : mapping of split name to entry name
    """

    entry: FeatureSet
    splits: Mapping[str, FeatureSplit]
    sources: Mapping[str, str]


def join(store: Store, entry: Entry) -> Joined:
    """Open an entry, and take splits that it lacks from others of its recipe and dataset.

    The newest other entry that has a split gives it. Another dataset never does, whatever its
    recipe: name and class names have to agree.
    """
    opened = FeatureSet.open(entry.path)
    splits, sources = dict(opened.splits), dict.fromkeys(opened.splits, opened.name)
    for other in store.entries():
        lacking = set(other.counts) - set(splits)
        if not lacking or other.key.recipe != entry.key.recipe or other.dataset != entry.dataset:
            continue
        candidate = FeatureSet.open(other.path)
        if candidate.classes == opened.classes:
            for name in lacking:
                splits[name], sources[name] = candidate[name], candidate.name
    ordered = [name for name in SPLIT_ORDER if name in splits]
    return Joined(
        entry=opened,
        splits={n: splits[n] for n in ordered},
        sources={n: sources[n] for n in ordered},
    )
