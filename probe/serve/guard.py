"""What stands before every route: who may ask, how much may be sent, which headers go back."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect

from probe.serve.limits import HEADERS, MEGA, STOPPING, Limits, RefusedError, check_origin

SILENT_SECONDS = 10.0  # without another part of a body
BODY_SECONDS = 300.0  # for all of it: 20 MB at half a megabit a second
TOO_SLOW = 408
DRAINED = 4  # times the limit: what is read and dropped, so that the sender hears why


class Guard:
    """ASGI middleware; see `probe.serve.limits` for what it refuses.

    Parameters
    ----------
    app : ASGI application
    limits : Limits
    bound_to : str
        The address that the server listens on.
    """

    def __init__(self, app: Any, limits: Limits, bound_to: str) -> None:
        self._app, self._bound_to = app, bound_to
        self._most = int(limits.megabytes * MEGA)
        self._room = limits.queue * self._most  # bytes of bodies that may be held at once

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(receive, send, self._most)
        headers = Headers(scope=scope)
        try:
            check_origin(headers, self._bound_to)
        except RefusedError as refusal:
            await exchange.refuse(refusal)
            return
        declared = headers.get("content-length", "")
        size = int(declared) if declared.isdigit() else 0
        if "transfer-encoding" in headers:
            size = self._most  # it may become as much
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
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            pass  # nobody is there to be answered, unless it only seems so
        except asyncio.CancelledError:  # the server stops and did not get to it
            if not exchange.answered:
                await exchange.refuse(STOPPING)
            return
        if exchange.refusal is not None and not exchange.answered:
            await exchange.refuse_body(exchange.refusal)


class _Exchange:
    """One request and its answer: the body counted and waited for, the headers added."""

    def __init__(self, receive: Any, send: Any, most: int) -> None:
        self._receive, self._send, self._most = receive, send, most
        self._seen, self._ended = 0, False
        self._until = asyncio.get_running_loop().time() + BODY_SECONDS
        self.refusal: RefusedError | None = None
        self.answered = False

    async def receive(self) -> Any:
        """Return the next part of the body; where it is refused the sender seems to be gone."""
        if self._ended:  # by now it is only waited for the sender to go
            return await self._receive()
        try:
            message = await self._read()
        except TimeoutError:
            self.refusal = RefusedError(TOO_SLOW, "too_slow", "the rest of the body did not come")
            self._ended = True
        if self._seen > self._most:
            self.refusal = self.too_large()
        return message if self.refusal is None else {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        """Pass the answer on, unless the body turned out to be refused."""
        if self.refusal is not None:
            return
        if message["type"] == "http.response.start":
            self.answered = True
            own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            message = {**message, "headers": [*message.get("headers", ()), *own]}
        await self._send(message)

    def too_large(self) -> RefusedError:
        """What is said of a body beyond the limit."""
        return RefusedError(413, "too_large", f"the body is larger than {self._most / MEGA:g} MB")

    async def refuse_body(self, refusal: RefusedError) -> None:
        """Refuse after reading on for a while, and keeping nothing: who sends does not read."""
        try:
            while not self._ended and self._seen <= DRAINED * self._most:
                await self._read()
        except TimeoutError:
            pass
        await self.refuse(refusal)

    async def refuse(self, refusal: RefusedError) -> None:
        """Answer with a refusal."""
        self.refusal = None
        body = json.dumps(refusal.to_json()).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        if refusal.retry_after is not None:
            headers.append((b"retry-after", str(refusal.retry_after).encode()))
        if (
            not self._ended or refusal.status == TOO_SLOW
        ):  # what is still to come of the body is no next request
            headers.append((b"connection", b"close"))
        await self.send(
            {"type": "http.response.start", "status": refusal.status, "headers": headers}
        )
        await self.send({"type": "http.response.body", "body": body})

    async def _read(self) -> Any:
        left = self._until - asyncio.get_running_loop().time()
        message = await asyncio.wait_for(self._receive(), min(SILENT_SECONDS, max(left, 0)))
        self._seen += len(message.get("body", b""))
        self._ended = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message
