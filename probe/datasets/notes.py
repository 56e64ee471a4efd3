"""What is unusual of images that can be read, counted over a pass: one line each at its end."""

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
    """Counts by kind, with the first image of each. Safe to use from threads.

    An image counts once however often it is read.
    """

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)
    _seen: set[int] = field(default_factory=set, repr=False)  # hashes: names may be a million
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

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
        """Take over what others counted."""
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

    def sentences(self) -> tuple[str, ...]:
        """Return what to say where they are of a single image."""
        kinds = (WORDS[kind] for kind in WORDS if kind in self.counts)
        return tuple(f"the image is {what}: {advice}" for what, advice in kinds)


def warn_of_unusual(images: Iterable[object]) -> None:
    """Log once what was unusual of images that were read since this was last called.

    Parameters
    ----------
    images : iterable of Images
        Those that count nothing, such as images in arrays, have nothing to tell.
    """
    notes = Notes()
    for one in images:
        here = getattr(one, "notes", None)
        if isinstance(here, Notes):
            notes.absorb(here)
    for line in notes.lines():
        log.warning("%s", line)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """An image that is being read: what it is called, and who is told of it."""

    name: str
    notes: Notes

    def note(self, kind: str) -> None:
        """Count it under a kind of `WORDS`."""
        self.notes.add(kind, self.name)
