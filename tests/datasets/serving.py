"""A server on loopback that gives files well or badly, in the place of the official hosts."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import pytest

from probe.core import download
from probe.datasets.named.catalog import DatasetSpec, Source

Files = dict[str, bytes]


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `files`; some of them badly."""

    files: ClassVar[Files] = {}
    asked: ClassVar[list[str]] = []
    ranges: ClassVar[list[str | None]] = []
    stop: ClassVar[threading.Event] = threading.Event()

    def do_GET(self) -> None:
        name = self.path.rsplit("/", 1)[-1]
        self.asked.append(name)
        self.ranges.append(self.headers.get("Range"))
        kind = self.path.split("/")[1]
        if name not in self.files or kind == "gone":
            self.send_error(404)
            return
        data = self.files[name]
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        data = data[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if kind == "good":
            self.wfile.write(data)
        elif kind == "wrong":
            self.wfile.write(data[:-1] + b"x")
        else:  # half of it, and then silence, or a closed connection
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            if kind == "stalled":
                self.stop.wait(30)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download, "TIMEOUT", (5.0, 0.2))
    monkeypatch.setattr(Handler, "files", {})
    monkeypatch.setattr(Handler, "asked", [])
    monkeypatch.setattr(Handler, "ranges", [])
    monkeypatch.setattr(Handler, "stop", threading.Event())
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        Handler.stop.set()
        running.shutdown()
        thread.join()


def served(spec: DatasetSpec, files: Files, *hosts: str) -> DatasetSpec:
    """Return a spec whose sources lie on these hosts, with checksums of these bytes."""
    layouts = []
    for layout in spec.layouts:
        sources = tuple(
            Source(
                urls=tuple(f"{host}/{source.file}" for host in hosts),
                checksum=f"md5:{hashlib.md5(files[source.file]).hexdigest()}",
                gives=source.gives,
            )
            for source in layout.sources
            if source.file in files
        )
        layouts += [replace(layout, sources=sources)] if sources else []
    return replace(spec, layouts=tuple(layouts))
