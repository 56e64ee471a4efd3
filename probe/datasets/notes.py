"""What is unusual of images that can be read, counted over a pass: one line each at its end."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

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
    """Counts by kind, with the first image of each. Safe to use from threads."""

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, kind: str, name: str) -> None:
        """Count an image."""
        with self._lock:
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


@dataclass(frozen=True, kw_only=True)
class Reading:
    """An image that is being read: what it is called, and who is told of it."""

    name: str
    notes: Notes

    def note(self, kind: str) -> None:
        """Count it under a kind of `WORDS`."""
        self.notes.add(kind, self.name)
