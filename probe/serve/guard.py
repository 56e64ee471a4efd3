"""Middleware before every route: checks the origin and body size, adds response headers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any, TypeAlias

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect

from probe.serve.limits import HEADERS, MEGA, STOPPING, Limits, RefusedError, check_origin

SILENT_SECONDS = 10.0  # the longest wait for the next part of a body
BODY_SECONDS = 300.0  # the longest time for a body: 20 MB at half a megabit a second
TOO_SLOW = 408
Receiving: TypeAlias = "set[asyncio.Task[Any]]"
DRAINED = 4  # times the limit, read and dropped so that the client receives the refusal


class Guard:
    """ASGI middleware; see `probe.serve.limits` for what it refuses.

    Parameters
    ----------
    app : ASGI application
    bound_to : str
        The address on which the server listens.
    receiving : set of asyncio.Task
        Holds the tasks that wait for more of a body; one that is cancelled refuses its request.
    """

    def __init__(self, app: Any, limits: Limits, bound_to: str, receiving: Receiving) -> None:
        self._app, self._bound_to, self._receiving = app, bound_to, receiving
        self._most = int(limits.megabytes * MEGA)
        self._room = limits.queue * self._most  # bytes of bodies that may be in memory at once

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(receive, send, self._most, self._receiving)
        try:
            await self._answer(scope, exchange)
        except asyncio.CancelledError:  # the server stops before it could answer
            if not exchange.answered:
                await exchange.refuse(STOPPING)

    async def _answer(self, scope: Any, exchange: _Exchange) -> None:
        headers = Headers(scope=scope)
        try:
            check_origin(headers, self._bound_to)
        except RefusedError as refusal:
            await exchange.refuse(refusal)
            return
        declared = headers.get("content-length", "")
        size = int(declared) if declared.isdigit() else 0
        if "transfer-encoding" in headers:
            size = self._most  # the size is not known before
        if size > self._most:
            await exchange.refuse_body(exchange.too_large())
        elif size > self._room:
            busy = "too many images are being sent; try again"
            await exchange.refuse_body(RefusedError(503, "busy", busy, 1))
        else:
            self._room -= size
            try:
                await self._pass_on(scope, exchange)
            finally:
                self._room += size

    async def _pass_on(self, scope: Any, exchange: _Exchange) -> None:
        # the client has gone, unless `receive` pretended it because of a refusal
        with contextlib.suppress(ClientDisconnect):
            await self._app(scope, exchange.receive, exchange.send)
        if exchange.refusal is not None and not exchange.answered:
            await exchange.refuse_body(exchange.refusal)


class _Exchange:
    """One request and its reply: limits the body's size and time, adds headers to the reply."""

    def __init__(self, receive: Any, send: Any, most: int, receiving: Receiving) -> None:
        self._receive, self._send, self._most, self._receiving = receive, send, most, receiving
        self._seen, self._ended = 0, False
        self._until = asyncio.get_running_loop().time() + BODY_SECONDS
        self.refusal: RefusedError | None = None
        self.answered = False

    async def receive(self) -> Any:
        """Return the next part of the body; if it is refused, report a disconnect to the app."""
        if self._ended:  # only the disconnect can still come
            return await self._receive()
        try:
            message = await self._read()
        except TimeoutError:
            self.refusal = RefusedError(
                TOO_SLOW, "too_slow", "the rest of the body was not received in time"
            )
            self._ended = True
        if self._seen > self._most:
            self.refusal = self.too_large()
        return message if self.refusal is None else {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        """Send the app's reply, unless the body is refused."""
        if self.refusal is not None:
            return
        if message["type"] == "http.response.start":
            self.answered = True
            own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            message = {**message, "headers": [*message.get("headers", ()), *own]}
        await self._send(message)

    def too_large(self) -> RefusedError:
        """Return the refusal of a body beyond the limit."""
        return RefusedError(413, "too_large", f"the body is larger than {self._most / MEGA:g} MB")

    async def refuse_body(self, refusal: RefusedError) -> None:
        """Refuse after reading and dropping more of the body: clients send before they read."""
        try:
            while not self._ended and self._seen <= DRAINED * self._most:
                await self._read()
        except TimeoutError:
            pass
        await self.refuse(refusal)

    async def refuse(self, refusal: RefusedError) -> None:
        """Reply with a refusal."""
        self.refusal = None
        body = json.dumps(refusal.to_json()).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        if refusal.retry_after is not None:
            headers.append((b"retry-after", str(refusal.retry_after).encode()))
        # the rest of the body must not be read as the next request
        if not self._ended or refusal.status == TOO_SLOW:
            headers.append((b"connection", b"close"))
        await self.send(
            {"type": "http.response.start", "status": refusal.status, "headers": headers}
        )
        await self.send({"type": "http.response.body", "body": body})

    async def _read(self) -> Any:
        left = self._until - asyncio.get_running_loop().time()
        task = asyncio.current_task()
        assert task is not None
        self._receiving.add(task)
        try:
            message = await asyncio.wait_for(self._receive(), min(SILENT_SECONDS, max(left, 0)))
        finally:
            self._receiving.discard(task)
        self._seen += len(message.get("body", b""))
        self._ended = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message
