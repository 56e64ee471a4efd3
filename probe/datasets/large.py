"""Memory for large images, shared by all threads that decode.

Decoding and resizing takes about ten bytes a pixel. Of small images each thread may have one; the
large ones of a process have `TOGETHER` pixels together, or one of them has all it needs alone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

SMALL = 2**24  # pixels that never wait: 4,096 x 4,096
TOGETHER = 2**26  # pixels of large images at a time

_changed = threading.Condition()
_used = 0
_mine = threading.local()  # depth of `one_image` in this thread, and the pixels it holds


@contextmanager
def one_image() -> Iterator[None]:
    """Keep what `large_image` takes in this thread until the work on the image ends."""
    _mine.depth = getattr(_mine, "depth", 0) + 1
    try:
        yield
    finally:
        _mine.depth -= 1
        if not _mine.depth:
            _give_back()


@contextmanager
def large_image(pixels: int) -> Iterator[None]:
    """Wait until there is memory for an image; within `one_image`, keep it until that ends."""
    with one_image():
        if pixels > SMALL:
            _take(pixels)
        yield


def _take(pixels: int) -> None:
    global _used  # noqa: PLW0603 - one budget a process
    held = getattr(_mine, "held", 0)
    with _changed:
        # who holds some already must not wait for others, who may wait for that
        _changed.wait_for(lambda: held or not _used or _used + pixels <= TOGETHER)
        _used += pixels
    _mine.held = held + pixels


def _give_back() -> None:
    global _used  # noqa: PLW0603
    held = getattr(_mine, "held", 0)
    if held:
        _mine.held = 0
        with _changed:
            _used -= held
            _changed.notify_all()
