"""Count unusual images (transparent, dark, animated) and warn of each kind in one line."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

log = logging.getLogger(__name__)

WORDS = {
    "clear": (
        "wholly transparent, read as white",
        "their features say nothing; look at the files",
    ),
    "dark": (
        "16-bit with values below a fifteenth of the range, read as nearly black",
        "scale them if fewer bits are in use",
    ),
    "frames": (
        "animated or of several pages",
        "the first frame or page alone is read",
    ),
}


@dataclass
class Notes:
    """Counts of unusual images by kind, with the first of each. Safe to use from threads.

    An image counts once, however often it is read.
    """

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)
    _seen: set[int] = field(default_factory=set, repr=False)  # hashes: names may be a million
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __reduce__(self) -> tuple[type[Notes], tuple[()]]:
        return Notes, ()  # a copy in another process counts for itself

    def add(self, kind: str, name: str) -> None:
        """Count an image."""
        key = hash((kind, name))
        with self._lock:
            if key in self._seen:
                return
            self._seen.add(key)
            self.counts[kind] = self.counts.get(kind, 0) + 1
            self.first.setdefault(kind, name)

    def absorb(self, others: Notes) -> None:
        """Move the counts of another object to this one."""
        with others._lock:
            counts, first = others.counts, others.first
            others.counts, others.first = {}, {}
        with self._lock:
            for kind, count in counts.items():
                self.counts[kind] = self.counts.get(kind, 0) + count
                self.first.setdefault(kind, first[kind])

    def lines(self) -> list[str]:
        """Return one line a kind."""
        lines, counts, first = [], self.counts, self.first
        for kind, (what, advice) in WORDS.items():
            if count := counts.get(kind):
                images = "image is" if count == 1 else "images are"
                lines.append(f"{count:,} {images} {what} ({first[kind]}): {advice}")
        return lines

    def warn(self) -> None:
        """Warn in one line a kind."""
        for line in self.lines():
            log.warning("%s", line)

    def sentences(self) -> tuple[str, ...]:
        """Return a sentence for each kind, where only one image was read."""
        kinds = (WORDS[kind] for kind in WORDS if kind in self.counts)
        return tuple(f"the image is {what}: {advice}" for what, advice in kinds)


def collected(images: Iterable[object]) -> Notes:
    """Return what was noted of images that were read since the last call.

    Parameters
    ----------
    images : iterable of Images
        Those without notes, such as images in arrays, are ignored.
    """
    notes = Notes()
    for one in images:
        here = getattr(one, "notes", None)
        if isinstance(here, Notes):
            notes.absorb(here)
    return notes


def warn_of_unusual(images: Iterable[object]) -> None:
    """Warn of unusual images that were read since the last call; see `collected`."""
    collected(images).warn()


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The name of an image that is being read, and the notes that record it."""

    name: str
    notes: Notes

    def note(self, kind: str) -> None:
        """Count the image under a kind of `WORDS`."""
        self.notes.add(kind, self.name)
