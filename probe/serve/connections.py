"""How uvicorn is run: silent connections are closed, and a stop refuses what waits.

uvicorn waits for ever for a request's first line and headers, and counts such connections as it
counts those that it answers, so that a few hundred silent ones would be all that it serves.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

SILENT_SECONDS = 10.0  # without the headers of a request
MOST_CONNECTIONS = 256


class PatientProtocol(AutoHTTPProtocol):  # type: ignore[misc,valid-type]  # chosen when installed
    """HTTP/1.1 with a limit of time for a request's headers.

    Beyond `MOST_CONNECTIONS` the one that has been silent for longest makes room.
    """

    since = 0.0  # when it was begun to wait for a request, in the loop's seconds
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        self.since = self.loop.time()
        self._watch()
        there = [one for one in self.connections if not one.transport.is_closing()]
        if len(there) > MOST_CONNECTIONS:
            silent = [one for one in there if one.is_silent]  # this one at least
            min(silent, key=lambda one: one.since).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        self.since = self.loop.time()
        super().on_response_complete()

    @property
    def is_silent(self) -> bool:
        """Whether a request is waited for; one whose body is still to come is there."""
        return self.cycle is None or self.cycle.response_complete

    def _watch(self) -> None:
        if self.is_silent and self.loop.time() - self.since >= SILENT_SECONDS:
            self.transport.abort()
        elif not self.transport.is_closing():
            self._timer = self.loop.call_later(SILENT_SECONDS / 10, self._watch)


def server_of(app: Any, proxies: Sequence[str] = ()) -> uvicorn.Server:
    """Return what serves an app of `create_app`.

    Parameters
    ----------
    proxies : sequence of str
        Addresses whose X-Forwarded-For is believed.
    """
    config = uvicorn.Config(
        app, http=PatientProtocol, ws="none", log_level="warning", access_log=False,
        server_header=False, timeout_keep_alive=5, timeout_graceful_shutdown=5,
        proxy_headers=bool(proxies), forwarded_allow_ips=list(proxies),
    )  # fmt: skip
    return _Server(config)


class _Server(uvicorn.Server):
    """A stop refuses the images that wait, so that all is answered in time."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop serving."""
        self.config.app.state.stop()  # type: ignore[union-attr]  # what `create_app` made
        await super().shutdown(sockets)
