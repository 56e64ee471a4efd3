"""Download a file: it goes on where it stopped, and has its own name only when it is right."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from probe.core.files import is_refusal, lock, make_folder, sync, unwritable
from probe.errors import CacheError

log = logging.getLogger(__name__)

PART = ".part"  # ends the hidden name of a download that is not complete
TIMEOUT = (10.0, 30.0)  # seconds to connect, and for the next bytes to come
BLOCK = 1 << 16


class Bar(Protocol):
    """The progress bar of a download."""

    total: float | None

    def update(self, count: int) -> None:
        """Add the number of bytes that arrived."""

    def reset(self) -> None:
        """Start again at 0."""

    def close(self) -> None:
        """End the bar after the download finished or failed."""


Progress = Callable[[str], Bar]


class DownloadError(Exception):
    """No URL gave the file.

    Parameters
    ----------
    failures : sequence of str
        What was wrong with each URL.
    wrong : str, optional
        The URL of a file that came with another digest.
    """

    def __init__(self, failures: Sequence[str], wrong: str | None = None) -> None:
        super().__init__(failures, wrong)
        self.failures, self.wrong = failures, wrong

    def __str__(self) -> str:
        return ", ".join(self.failures)


def download(
    urls: Sequence[str],
    target: Path,
    *,
    digest: str,
    is_right: Callable[[Path], bool],
    progress: Progress | None = None,
) -> None:
    """Download a file from the first URL that has it.

    What arrived before a connection broke is kept as a hidden ``.part`` file beside `target`, and
    the next URL, or the next call, continues it.

    Parameters
    ----------
    urls : sequence of str
        Of the same file; tried in this order.
    digest : str
        What the file's digest should be, for messages.
    is_right : callable
        Whether a file has that digest.
    progress : callable, optional
        Called with the file's name; returns its bar.

    Raises
    ------
    DownloadError
        No URL could be read, or what came has another digest and was deleted.
    CacheError
        The folder cannot be written, and what was downloaded so far is kept; or another process is
        downloading the file.
    """
    try:
        make_folder(target.parent)
    except OSError as error:
        raise unwritable(target.parent, error) from error
    part = target.with_name(f".{target.name}{PART}")
    failures, wrong = [], None
    for url in urls:
        log.info("downloading %s", url)
        bar = progress(target.name) if progress is not None else None
        try:
            _receive(url, part, bar)
        except OSError as error:  # requests' exceptions are OSErrors
            if is_refusal(error):
                raise unwritable(part, error) from error
            log.info("%s: %s", url, error)
            failures.append(f"cannot be read from {url} ({_reason(error)})")
            continue
        finally:
            if bar is not None:
                bar.close()
        if is_right(part):
            sync(part)
            part.replace(target)
            sync(target.parent)
            return
        part.unlink()
        failures.append(f"{url} has another checksum than {digest}")
        wrong = url
    if part.is_file() and not part.stat().st_size:
        part.unlink()
    raise DownloadError(failures, wrong)


def _receive(url: str, part: Path, bar: Bar | None) -> None:
    """Append the missing bytes to `part`; raise OSError where the download is incomplete."""
    import requests

    with part.open("ab") as file:
        _lock(file, part)
        have = file.tell()
        asked = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, headers=asked, stream=True, timeout=TIMEOUT) as answer:
            if answer.status_code == requests.codes.requested_range_not_satisfiable:
                return  # the file is complete; the caller checks its digest
            answer.raise_for_status()
            if answer.status_code != requests.codes.partial_content:
                file.truncate(0)  # the server sends the whole file again
                have = 0
            expected = int(answer.headers.get("Content-Length", 0))
            if bar is not None:
                bar.total = have + expected or None
                bar.reset()
                bar.update(have)
            received = 0
            for block in answer.iter_content(BLOCK):
                received += file.write(block)
                if bar is not None:
                    bar.update(len(block))
            if received < expected:
                raise ConnectionError(f"{received} of {expected} bytes received")


def _lock(file: IO[Any], part: Path) -> None:
    try:
        lock(file.fileno())
    except BlockingIOError:
        raise CacheError(
            f"{part}: another process is downloading this file; wait until it has finished"
        ) from None


def _reason(error: OSError) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return f"HTTP {status}" if status else type(error).__name__
