"""A web server on loopback that is as good or as bad as a test asks for."""

from __future__ import annotations

import hashlib
import html
import http.server
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import quote, unquote


@dataclass
class Web:
    """Files of a server, how it behaves, and what it was asked.

    Parameters
    ----------
    files : dict of str to bytes
        By their paths, without a slash before.
    etags, ranges, listings, lengths, heads : bool
        Whether it has them.
    charset : str
        What it says of the encoding of its listings, which are UTF-8.
    time : str
        ``Last-Modified`` of all files, or nothing.
    faults : dict of path to list of str
        What happens to the next requests for a file: ``500``, ``429``, ``short`` (half of the
        bytes, and the end), ``half`` (half, with the length of all), ``stall``, ``403``.
    pause : float
        Seconds before each block of 64 KiB.
    password : str
        What ``user:password`` it wants.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    etags: bool = True
    heads: bool = True
    time: str = ""
    ranges: bool = True
    listings: bool = True
    charset: str = "utf-8"
    lengths: bool = True
    faults: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    pause: float = 0.0
    login: str = ""
    of_query: dict[str, bytes] = field(default_factory=dict)  # appended to what is sent
    asked: list[tuple[str, int, str | None]] = field(default_factory=list)  # path, status, range
    sent: Counter[str] = field(default_factory=Counter)  # bytes of bodies
    methods: list[str] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    url: str = ""
    stop: threading.Event = field(default_factory=threading.Event)

    def statuses(self) -> Counter[int]:
        """Return how often each status was answered."""
        return Counter(status for _, status, _ in self.asked)

    def forget(self) -> None:
        """Forget what was asked."""
        self.asked.clear()
        self.methods.clear()
        self.sent.clear()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each small answer takes 40 ms
    web: Web

    def do_GET(self) -> None:  # noqa: PLR0911 - one answer each
        web = self.web
        path, _, query = self.path.partition("?")
        path = unquote(path.lstrip("/"))
        web.queries.append(query)
        web.methods.append(self.command)
        if web.login:
            import base64

            wanted = "Basic " + base64.b64encode(web.login.encode()).decode()
            if self.headers.get("Authorization") != wanted:
                return self._answer(path, 401, b"")
        fault = web.faults[path].pop(0) if web.faults.get(path) else ""
        if fault.isdigit():
            return self._answer(path, int(fault), b"no")
        if path not in web.files:
            listing = self._listing(path) if web.listings else None
            if listing is None:
                return self._answer(path, 404, b"no")
            return self._answer(
                path, 200, listing, {"Content-Type": f"text/html; charset={web.charset}"}
            )
        data = web.files[path] + web.of_query.get(query, b"")
        headers = {"Content-Type": "application/octet-stream"}
        etag = f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
        if web.etags:
            headers["ETag"] = etag
            if self.headers.get("If-None-Match") == etag:
                return self._answer(path, 304, b"", headers)
        if web.time:
            headers["Last-Modified"] = web.time
        status, asked = 200, self.headers.get("Range")
        if asked and web.ranges:
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            if start >= len(data):
                return self._answer(path, 416, b"")
            status = 206
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            data = data[start:]
        return self._answer(path, status, data, headers, fault)

    def do_HEAD(self) -> None:
        if self.web.heads:
            self.do_GET()
        else:
            self.send_error(501)

    def _answer(
        self, path: str, status: int, data: bytes, headers: dict[str, str] | None = None,
        fault: str = "",
    ) -> None:  # fmt: skip
        web = self.web
        web.asked.append((path, status, self.headers.get("Range")))
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        body = data[: len(data) // 2] if fault in ("short", "half", "stall") else data
        if not web.lengths:
            self.send_header("Connection", "close")
            self.close_connection = True
        elif status != 304:
            self.send_header("Content-Length", str(len(body if fault == "short" else data)))
        self.end_headers()
        for start in range(0, len(body) if self.command == "GET" else 0, 1 << 16):
            if web.pause:
                time.sleep(web.pause)
            try:
                self.wfile.write(body[start : start + (1 << 16)])
            except OSError:
                return
            web.sent[path] += len(body[start : start + (1 << 16)])
        if fault == "stall":
            web.stop.wait(20)
        if fault in ("half", "stall"):
            self.close_connection = True

    def _listing(self, path: str) -> bytes | None:
        inside = path.rstrip("/") + "/" if path else ""
        below = {name[len(inside) :] for name in self.web.files if name.startswith(inside)}
        if not below or (path and not path.endswith("/")):
            return None
        names = sorted({one.partition("/")[0] + ("/" if "/" in one else "") for one in below})
        links = "".join(f'<a href="{quote(one)}">{html.escape(one)}</a>\n' for one in names)
        sort = '<a href="?C=N;O=D">Name</a><a href="../">Parent</a><a href="/">Top</a>'
        return f"<html><body>{sort}<a href='https://elsewhere.example/'>x</a>{links}".encode()

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def serving(web: Web) -> Iterator[Web]:
    """Run a server until the block ends."""
    handler = type("Handler", (_Handler,), {"web": web})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        running.daemon_threads = True
        running.handle_error = lambda *_: None  # type: ignore[method-assign] # clients that left
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        web.url = f"http://127.0.0.1:{running.server_port}"
        try:
            yield web
        finally:
            web.stop.set()
            running.shutdown()
            thread.join()
