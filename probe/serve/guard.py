"""What stands before every route: who may ask, how much may be sent, which headers go back."""

from __future__ import annotations

import json
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect

from probe.serve.limits import HEADERS, MEGA, Limits, RefusedError, check_origin

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
        if declared.isdigit() and int(declared) > self._most:
            await exchange.refuse_body()
            return
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            if not exchange.too_large:
                return  # nobody is there to be answered
        if exchange.too_large and not exchange.answered:
            await exchange.refuse_body()


class _Exchange:
    """One request and its answer: the body counted, the headers added."""

    def __init__(self, receive: Any, send: Any, most: int) -> None:
        self._receive, self._send, self._most = receive, send, most
        self._seen, self._ended = 0, False
        self.too_large = self.answered = False

    async def receive(self) -> Any:
        """Return the next part of the body; beyond the limit the sender seems to be gone."""
        message = await self._read()
        if self._seen > self._most:
            self.too_large = True
            return {"type": "http.disconnect"}
        return message

    async def send(self, message: Any) -> None:
        """Pass the answer on, unless the body turned out to be too large."""
        if self.too_large:
            return
        if message["type"] == "http.response.start":
            self.answered = True
            own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            message = {**message, "headers": [*message.get("headers", ()), *own]}
        await self._send(message)

    async def refuse_body(self) -> None:
        """Say that the body is too large, after reading on for a while: who sends does not read."""
        while not self._ended and self._seen <= DRAINED * self._most:
            await self._read()
        text = f"the body is larger than {self._most / MEGA:g} MB"
        await self.refuse(RefusedError(413, "too_large", text))

    async def refuse(self, refusal: RefusedError) -> None:
        """Answer with a refusal."""
        self.too_large = False
        body = json.dumps(refusal.to_json()).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        await self.send(
            {"type": "http.response.start", "status": refusal.status, "headers": headers}
        )
        await self.send({"type": "http.response.body", "body": body})

    async def _read(self) -> Any:
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        self._ended = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message
