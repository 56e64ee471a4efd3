"""The folder of entries: find, choose, lock and remove them."""

from __future__ import annotations

import contextlib
import glob
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probe.cache import locks
from probe.cache.features import DIGEST_CHARACTERS, ENDING, FeatureSet, entry_name
from probe.cache.file import read_header
from probe.cache.key import FeatureKey
from probe.core.files import make_folder
from probe.core.short_repr import short_repr
from probe.errors import CacheError, UnknownNameError

log = logging.getLogger(__name__)

SAMPLE_OF = "sample_of"  # in the provenance of a race's sample: the dataset that it is of


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A complete entry as a listing shows it, without reading its rows.

    Parameters
    ----------
    size : int
        Bytes of the file.
    modified, used : float
        When it was made and when it was last used, in seconds since 1970.
    """

    __repr__ = short_repr

    path: Path
    key: FeatureKey
    dataset: str
    provenance: Mapping[str, Any]
    counts: Mapping[str, int]
    row_shape: tuple[int, ...]
    size: int
    packed: bool
    modified: float
    used: float

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def untrained(self) -> bool:
        """Whether its network has random weights, as a control of a comparison."""
        return str(self.provenance.get("weights", "")).startswith("random:")

    @property
    def sample(self) -> bool:
        """Whether it holds what a race of `probe bench` forwarded of features that it dropped."""
        return SAMPLE_OF in self.provenance


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
        """Return the path of a dataset's entry.

        The dataset's name is part of the file's, so that datasets of the same images with other
        labels, such as CIFAR-100's fine and coarse ones, do not replace each other.
        """
        return self.folder / f"{entry_name(key, dataset)}{ENDING}"

    def find(self, key: FeatureKey, dataset: str) -> FeatureSet | None:
        """Return the complete entry of a key, preferably of that dataset's name, or None.

        Raises
        ------
        CacheError
            The file of its name is damaged or records another key.
        """
        path = self.path_of(key, dataset)
        if not path.exists():
            others = sorted(self.folder.glob(f"*-{key.digest[:DIGEST_CHARACTERS]}{ENDING}"))
            path = others[0] if others else path
        try:
            entry = FeatureSet.open(path)
        except CacheError:
            if path.exists():
                raise
            return None  # not there, or removed a moment ago
        self.note_use(path)
        if entry.key != key:
            raise CacheError(
                f"{path}: records another key than its name says; "
                f"run `probe cache rm {path.stem}` and extract again"
            )
        return entry

    def files(self) -> list[Path]:
        """Return the files of entries, including damaged ones."""
        return sorted(self.folder.glob(f"*{ENDING}"))

    def entries(self) -> list[Entry]:
        """Return all complete entries, the newest first; warn of other files."""
        found = []
        for path in self.files():
            try:
                header, status = read_header(path), path.stat()
            except (CacheError, FileNotFoundError) as error:
                if path.exists():  # else it was removed a moment ago
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
                    packed=header.packed,
                    modified=status.st_mtime,
                    used=max(status.st_mtime, self._last_use(path)),
                )
            )
        return sorted(found, key=lambda entry: (entry.modified, entry.name), reverse=True)

    def choose(self, name: str | None) -> Entry:
        """Return the entry of a name, dataset, unique beginning or digest.

        For None it is the newest of a network with trained weights: controls with random ones, and
        samples of a race, are meant only by name, or where there is nothing else.

        Raises
        ------
        CacheError
            There is no entry at all.
        UnknownNameError
            No entry matches, or more than one.
        """
        entries = self.entries()
        if not entries:
            raise CacheError(f"{self.folder}: no entries yet; `probe extract` makes one")
        if name is None:
            usual = (one for one in entries if not (one.untrained or one.sample))
            return next(usual, entries[0])
        close = _called(name, self._stem(name), entries)
        if len(close) == 1:
            return close[0]
        names = ", ".join(entry.name for entry in (close or entries)[:5])
        raise UnknownNameError(
            f"{'more than one' if close else 'no'} entry is called {name!r}; there are {names}"
        )

    def close(self, name: str) -> list[Entry]:
        """Return the entries that a name may mean; see `choose`."""
        try:
            stem = self._stem(name)
        except UnknownNameError:
            return []
        return _called(name, stem, self.entries())

    def engines(self, keys: Iterable[FeatureKey]) -> set[str]:
        """Return the engines that made entries of some recipes, unfinished entries included."""
        recipes, headers = {key.recipe for key in keys}, []
        for path in (*self.files(), *self.partials()):
            with contextlib.suppress(CacheError):
                headers.append(read_header(path))
        return {header.engine for header in headers if header.key.recipe in recipes}

    def donors(self, key: FeatureKey) -> list[FeatureSet]:
        """Return the entries of the same recipe, whose rows may be copied."""
        found = []
        for entry in self.entries():
            if entry.key.recipe != key.recipe:
                continue
            try:
                found.append(FeatureSet.open(entry.path))
            except CacheError as error:
                log.warning("%s", error)
        return found

    def lock(
        self, key: FeatureKey, *, on_wait: Callable[[locks.Holder | None], None] | None = None
    ) -> AbstractContextManager[None]:
        """Lock the entry of `key` for writing; see `probe.cache.locks.hold`."""
        return locks.hold(self._lock_file(key), on_wait)

    def locks_of(self, path: Path) -> list[Path]:
        """Return the lock files of an entry by the digest in a file's name."""
        digest = re.search(rf"-([0-9a-f]{{{DIGEST_CHARACTERS}}})\.", path.name)
        return sorted(self._lock_folder.glob(f"{digest[1]}*.lock")) if digest else []

    def _lock_file(self, key: FeatureKey) -> Path:
        return self._lock_folder / f"{key.digest}.lock"

    @property
    def _lock_folder(self) -> Path:
        return self.folder / ".locks"

    def _stem(self, name: str) -> str:
        path = Path(name)
        elsewhere = path.parent != Path() and path.parent.resolve() != self.folder.resolve()
        if elsewhere or not path.name:
            raise UnknownNameError(
                f"{name!r} is no entry of {self.folder}; `probe cache list` shows those, and "
                "--cache-dir names another folder"
            )
        return path.name.removesuffix(ENDING)

    def named(self, name: str) -> Path:
        """Return the file of a name or unique beginning, even if it is damaged.

        Raises
        ------
        UnknownNameError
            No file matches, or more than one.
        """
        stem = self._stem(name)
        if self.is_exact(name):
            return self.folder / f"{stem}{ENDING}"
        found = sorted(self.folder.glob(f"{glob.escape(stem)}*{ENDING}"))
        if len(found) != 1:
            names = ", ".join(path.stem for path in found[:5] or self.files()[:5])
            raise UnknownNameError(
                f"{'more than one' if found else 'no'} entry is called {name!r}; "
                f"there are {names or 'none'}"
            )
        return found[0]

    def is_exact(self, name: str) -> bool:
        """Whether an entry's file has exactly this name."""
        return (self.folder / f"{self._stem(name)}{ENDING}").is_file()

    def discard(self, path: Path) -> None:
        """Remove the file of an entry, if it still exists.

        Raises
        ------
        CacheError
            The folder cannot be written.
        """
        with removing(path):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._use_mark(path).unlink(missing_ok=True)

    def note_use(self, path: Path) -> None:
        """Record the time of use in a file beside the entry, since entries never change.

        Nothing is recorded where the folder is read-only for this user.
        """
        mark = self._use_mark(path)
        with contextlib.suppress(OSError):
            make_folder(mark.parent)
            mark.touch()
            mark.chmod(0o666)  # so that other users of the folder can move its time too

    def _use_mark(self, path: Path) -> Path:
        return self.folder / ".used" / path.stem

    def _last_use(self, path: Path) -> float:
        try:
            return self._use_mark(path).stat().st_mtime
        except OSError:
            return 0.0

    def partials(self) -> list[Path]:
        """Return the unfinished files of interrupted or running extractions."""
        return sorted(self.folder.glob(".*.partial"))

    def temporaries(self) -> list[Path]:
        """Return the temporary files of running or killed `pack` commands."""
        return sorted(self.folder.glob(f".*{ENDING}.*.tmp"))


def _called(name: str, stem: str, entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries that match by name, or else by dataset, or else by beginning or digest."""
    exact = [entry for entry in entries if entry.name == stem]
    close = exact or [entry for entry in entries if entry.dataset == name]
    return close or [e for e in entries if e.name.startswith(stem) or e.key.digest.startswith(stem)]


@contextlib.contextmanager
def removing(path: Path) -> Iterator[None]:
    """Raise a CacheError where a file cannot be removed."""
    try:
        yield
    except OSError as error:
        raise CacheError(f"{path}: cannot be removed ({error.strerror or error})") from error
