"""Run uvicorn so that silent connections are closed and a stop refuses waiting images.

uvicorn waits without limit for a request's first line and headers and for replies to be read, and
counts such connections like all others, so a few hundred silent ones could block the server.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from typing import Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from probe.errors import UsageError

SILENT_SECONDS = 10.0  # without the headers of a request, or without taking more of a reply
MOST_CONNECTIONS = 256


class PatientProtocol(AutoHTTPProtocol):  # type: ignore[misc,valid-type]  # chosen when installed
    """HTTP/1.1 with time limits for a request's headers and for reading its reply.

    Beyond `MOST_CONNECTIONS` the connection is closed that has sent nothing for longest, of those
    whose client has to act: it has asked nothing, not sent its body, or not read its reply.
    """

    since = 0.0  # start of waiting for a request, in the event loop's seconds
    heard = 0.0  # the last time that something came
    _unread = 0  # bytes of replies that the client has not taken
    _taken = 0.0  # the last time that it took some, or that there were none
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start waiting for a request."""
        super().connection_made(transport)
        self.since = self.heard = self._taken = self.loop.time()
        self._watch()
        there = [one for one in self.connections if not one.transport.is_closing()]
        if len(there) > MOST_CONNECTIONS:
            waiting = [one for one in there if one.waits_for_client]  # this one at least
            min(waiting, key=lambda one: one.heard).transport.abort()

    def data_received(self, data: bytes) -> None:
        """Note when something came."""
        self.heard = self.loop.time()
        super().data_received(data)

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

    @property
    def waits_for_client(self) -> bool:
        """Return whether the server can do nothing until the client sends or reads."""
        return self.is_silent or self.cycle.more_body or self.flow.write_paused

    def _watch(self) -> None:
        now, unread = self.loop.time(), self.transport.get_write_buffer_size()
        if not unread or unread < self._unread:
            self._taken = now
        self._unread = unread
        # one that is closing, but not closed, still has something to read
        if now - self._taken >= SILENT_SECONDS or (
            self.is_silent and not unread and now - self.since >= SILENT_SECONDS
        ):
            self.transport.abort()
        self._timer = self.loop.call_later(SILENT_SECONDS / 10, self._watch)


def server_of(app: Any, proxies: Sequence[str] = ()) -> uvicorn.Server:
    """Return a server for an app of `create_app`.

    Parameters
    ----------
    proxies : sequence of str
        Addresses, or networks such as ``10.0.0.0/8``, whose X-Forwarded-For header is trusted.

    Raises
    ------
    UsageError
        One is neither; uvicorn would take it as the name of something else and trust nobody, or
        everybody for ``*``.
    """
    for one in proxies:
        try:
            ipaddress.ip_network(one)
        except ValueError as error:
            raise UsageError(
                f"--proxy {one}: expected an address or a network like 10.0.0.0/8 ({error})"
            ) from None
    config = uvicorn.Config(
        app, http=PatientProtocol, ws="none", log_level="warning", access_log=False,
        server_header=False, timeout_keep_alive=5, timeout_graceful_shutdown=5,
        proxy_headers=bool(proxies), forwarded_allow_ips=list(proxies),
        lifespan="off",  # a second Ctrl-C would cancel it, and Starlette tell so with a traceback
    )  # fmt: skip
    return _Server(config)


class _Server(uvicorn.Server):
    """A server that refuses what waits when it stops, so that every client gets a reply.

    The image under way is answered if that takes less than `timeout_graceful_shutdown`.
    """

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop serving."""
        state = self.config.app.state  # type: ignore[union-attr]  # what `create_app` made
        state.stop()
        for task in state.receiving:  # it refuses; the rest of a body may never come
            task.cancel()
        await super().shutdown(sockets)
        if late := set(self.server_state.tasks):  # cancelled: each still says so to its client
            await asyncio.wait(late, timeout=1)
        if not self.force_exit:
            await asyncio.to_thread(state.close)
