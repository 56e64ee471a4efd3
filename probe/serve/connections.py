"""Run uvicorn so that silent connections are closed and a stop refuses waiting images.

uvicorn waits without limit for a request's first line and headers, and counts such connections like
all others, so a few hundred silent ones could block the server.
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
    """HTTP/1.1 with a time limit for a request's headers.

    Beyond `MOST_CONNECTIONS` the connection that has been silent for longest is closed.
    """

    since = 0.0  # start of waiting for a request, in the event loop's seconds
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start waiting for a request."""
        super().connection_made(transport)
        self.since = self.loop.time()
        self._watch()
        there = [one for one in self.connections if not one.transport.is_closing()]
        if len(there) > MOST_CONNECTIONS:
            silent = [one for one in there if one.is_silent]  # this one at least
            min(silent, key=lambda one: one.since).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Start waiting for the next request."""
        self.since = self.loop.time()
        super().on_response_complete()

    @property
    def is_silent(self) -> bool:
        """Return whether no request has begun; one whose body is missing has."""
        return self.cycle is None or self.cycle.response_complete

    def _watch(self) -> None:
        if self.is_silent and self.loop.time() - self.since >= SILENT_SECONDS:
            self.transport.abort()
        elif not self.transport.is_closing():
            self._timer = self.loop.call_later(SILENT_SECONDS / 10, self._watch)


def server_of(app: Any, proxies: Sequence[str] = ()) -> uvicorn.Server:
    """Return a server for an app of `create_app`.

    Parameters
    ----------
    proxies : sequence of str
        Addresses whose X-Forwarded-For header is trusted.
    """
    config = uvicorn.Config(
        app, http=PatientProtocol, ws="none", log_level="warning", access_log=False,
        server_header=False, timeout_keep_alive=5, timeout_graceful_shutdown=5,
        proxy_headers=bool(proxies), forwarded_allow_ips=list(proxies),
    )  # fmt: skip
    return _Server(config)


class _Server(uvicorn.Server):
    """A server that refuses waiting images when it stops, so that every client gets a reply."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop serving."""
        self.config.app.state.stop()  # type: ignore[union-attr]  # what `create_app` made
        await super().shutdown(sockets)
