"""What a pass looks like on the terminal."""

from __future__ import annotations

import datetime
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from probe.cache.locks import Holder


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn Ctrl-C during a pass into a message and exit code 130; finished rows are kept."""
    from probe.cli import console

    try:
        yield
    except KeyboardInterrupt:
        console.stderr().print(
            "interrupted; the finished rows are kept, the same command goes on from there"
        )
        raise typer.Exit(130) from None


class Screen:
    """Draws a pass on stderr: estimate, bar, rate, time left. A
    `probe.extraction.extract.Observer`.

    A second bar follows the process that this one waits for.

    Parameters
    ----------
    remark : callable, optional
        What to add to the estimate; asked for when there is one.
    """

    def __init__(self, remark: Callable[[], str] = str) -> None:
        from probe.cli import console

        self._remark = remark
        self._console = console
        self._bar = console.progress("extract", "images")
        self._other = console.progress("waiting", "images")
        self._task: Any = None
        self._other_task: Any = None
        self._waits_for: list[Holder | None] = []
        self.forwarded = 0

    def __enter__(self) -> Screen:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._other.stop()
        self._bar.stop()

    def _say(self, text: str) -> None:
        self._console.stderr().print(text)

    def waiting(self, holder: Holder | None, done: int, rows: int) -> None:
        if self._waits_for != [holder]:
            self._waits_for = [holder]
            so_far = f" ({done:,} of {rows:,} images so far)" if rows else ""
            self._say(
                f"{_whoever(holder)} is writing this entry{so_far}; waiting for it, and going on "
                "from where it stops if it does not finish"
            )
        if rows:
            self._other.start()
            if self._other_task is None:
                self._other_task = self._other.add_task("waiting")
            self._other.update(self._other_task, completed=done, total=rows)

    def copied(self, rows: int, left: int) -> None:
        self._other.stop()
        if rows:
            self._say(f"{rows:,} rows are at hand already; {left:,} are to be forwarded")
        if left:  # before the first batch too, which may take long
            self._bar.start()
            self._task = self._bar.add_task("extract", total=left)

    def estimated(self, rows: int, seconds: float, device: str) -> None:
        if not rows:  # it was over before there was anything to tell
            return
        self._say(
            f"{rows:,} images to go: about {self._console.duration(seconds)} "
            f"({self._console.rate(rows / seconds)} images/s on {device}){self._remark()}"
        )

    def advanced(self, rows: int) -> None:
        self.forwarded += rows
        if self._task is not None:
            self._bar.update(self._task, completed=self.forwarded)


def _whoever(holder: Holder | None) -> str:
    """Return who holds a lock, and since when, in words."""
    if holder is None:
        return "another process"
    since = datetime.datetime.fromtimestamp(holder.since)
    today = since.date() == datetime.datetime.now().date()
    where = "" if holder.host == socket.gethostname() else f" on {holder.host}"
    return (
        f"process {holder.pid} of {holder.user}{where}, started at "
        f"{since:{'%H:%M:%S' if today else '%Y-%m-%d %H:%M'}},"
    )
