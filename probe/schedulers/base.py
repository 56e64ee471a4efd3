"""The interface of a scheduler, and how one connects to a cluster that comes late."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any, Protocol

from probe.errors import EngineError

log = logging.getLogger(__name__)

RETURN = 300.0  # seconds in which a cluster that went away may come back


class Scheduler(Protocol):
    """Processes that compute, wherever they are.

    Attributes
    ----------
    name : str
        What a person typed.
    workers : int
        How many blocks are computed at a time.
    """

    name: str

    @property
    def workers(self) -> int: ...

    def share(self, payload: bytes) -> Any:
        """Send bytes to the workers, once each, and return what stands for them in `submit`."""
        ...

    def submit(
        self, work: Callable[..., Any], payload: Any, *arguments: Any, avoid: Any = None
    ) -> Future[Any]:
        """Have a worker call ``work(payload, threads, *arguments)``.

        Parameters
        ----------
        payload
            What `share` returned; the worker gets the bytes, or the path of a file with them.
        avoid : Future, optional
            One that takes too long: another worker should do this.
        """
        ...

    def is_alive(self) -> bool:
        """Whether what was submitted can still come back."""
        ...

    def restart(self) -> None:
        """Start again, or connect again, after `is_alive` was False; what was shared is gone.

        Raises
        ------
        EngineError
            Nobody answers; says who was asked.
        """
        ...

    def fits(self) -> AbstractContextManager[Any]:
        """Within it joblib's parallel loops, as those of heads, run on these workers."""
        ...

    def close(self) -> None:
        """Let the workers go; those of a cluster that was there before stay."""
        ...


def connect_again(connect: Callable[[], None], seconds: float = RETURN) -> None:
    """Connect to a cluster that starts, or went away and may need minutes to come back.

    Parameters
    ----------
    connect : callable
        Raises EngineError where nobody answers, because of an OSError; what it raises last is
        raised.
    seconds : float
        After so many no attempt is started.
    """
    until, told = time.monotonic() + seconds, False
    while True:
        try:
            return connect()
        except EngineError as error:
            left = until - time.monotonic()
            if left <= 0 or not isinstance(error.__cause__, OSError):
                raise
            log.log(logging.INFO if told else logging.WARNING, "asked again for %.0f s: %s", left,
                    error)  # fmt: skip
            told = True
            time.sleep(1)
