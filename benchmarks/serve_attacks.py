"""`probe serve` under attack: what its limits let through, what it takes, how it stops.

    python -m benchmarks.serve_attacks [--bundle FILE]

Each attack meets a server of its own, on loopback, with the default limits unless said otherwise.
What it must show is in the brackets; the command ends with 1 where something is missed.

    rate      300 requests a second under as many made-up addresses [180 refused, 120 answered]
    silent    1,000 connections that say nothing [a person is answered, within a second]
    trickle   256 bodies that come by a byte a second [the same]
    unread    40 connections that ask a thousand times and read nothing [answered within 5 s; all
              are closed in the end]
    bodies    100 bodies of 19 MB at once [at most 16 of them in memory, of 304 MB: 550 MB more]
    pictures  20 files of a few hundred bytes that claim 36 to 40 megapixels [all refused, 100 MB]
    stop      SIGINT, SIGTERM and SIGINT twice with 30 images under way [each is answered or
              refused in words, so is one whose body never ends, and nothing is printed]

Seen on two busy cores: none gets through. A person is answered within 0.63, 0.20 and 0.50 s; bodies
take 443 MB more, in forms 360 MB. Before replies had a time limit, connections of `unread` stayed
open for ever; bodies took 632 MB; and a second Ctrl-C printed a traceback.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from PIL import Image

from benchmarks.common import PROBE
from benchmarks.predict_latency import make_bundle

HEAD = "POST /api/predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/png\r\n"


class Served:
    """A server that runs as a process of its own."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.port = process, port

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """Return status and body of one request, 0 where the connection was cut."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request("GET" if body is None else "POST", path, body, named)
            reply = connection.getresponse()
            return reply.status, reply.read()
        except OSError as error:
            return 0, str(error).encode()
        finally:
            connection.close()

    def connect(self, text: str = "") -> socket.socket:
        """Return a connection that has said something."""
        there = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        there.sendall(text.encode())
        return there

    def megabytes(self, what: str) -> float:
        """Return the process's memory: VmHWM is the highest so far, VmRSS that of now."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(rf"{what}:\s+(\d+) kB", text)
        assert found
        return int(found[1]) / 1000

    def descriptors(self) -> int:
        """Return how many files and connections are open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def person(self) -> tuple[int, float]:
        """Ask as a person does who comes by; return status and seconds."""
        started = time.perf_counter()
        status, _ = self.ask("/api/predict", png(), content_type="image/png")
        return status, time.perf_counter() - started


@contextmanager
def served(bundle: Path, *options: str) -> Iterator[Served]:
    """Run `probe serve` until the block ends."""
    process = subprocess.Popen(
        [*PROBE, "serve", str(bundle), "--port", "0", *options], stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    assert process.stderr
    line = process.stderr.readline()
    found = re.search(r"127\.0\.0\.1:(\d+)/", line)
    assert found, line + process.stderr.read()
    made = Served(process, int(found[1]))
    made.ask("/healthz")
    try:
        yield made
    finally:
        process.kill()
        process.wait()


def png(size: tuple[int, int] = (64, 48)) -> bytes:
    """Return a small picture."""
    stream = io.BytesIO()
    Image.effect_noise(size, 80).convert("RGB").save(stream, "PNG")
    return stream.getvalue()


def claiming(width: int, height: int, padding: int) -> bytes:
    """Return a PNG of one bit a pixel whose header claims a large picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(padding))), chunk(b"IEND", b""))
    )


def at_once(count: int, there: Served, body: bytes, kind: str) -> list[tuple[int, bytes]]:
    """Ask in as many threads; the list has what was answered once all of them have ended."""
    found: list[tuple[int, bytes]] = []

    def ask() -> None:
        found.append(there.ask("/api/predict", body, content_type=kind))

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return found


def rate(bundle: Path) -> bool:
    """Ask 300 times under as many names."""
    with served(bundle) as there:
        found = Counter(
            there.ask("/api/predict", b"x", content_type="image/png",
                      x_forwarded_for=f"9.9.{n}.1", x_real_ip=f"9.9.{n}.1",
                      forwarded=f"for=9.9.{n}.1")[0]
            for n in range(300)
        )  # fmt: skip
    print(f"rate: {dict(found)}")
    return found == {422: 120, 429: 180}


def besieged(there: Served, name: str, sockets: list[socket.socket], most: float = 1) -> bool:
    """Ask as a person a few times while connections are open, and print what came of it."""
    asked = []
    for _ in range(5):
        asked.append(there.person())
        time.sleep(0.5)
    files = there.descriptors()
    statuses, slowest = Counter(status for status, _ in asked), max(took for _, took in asked)
    deadline = time.monotonic() + 40
    while there.descriptors() > 20 and time.monotonic() < deadline:
        time.sleep(0.5)
    left = there.descriptors()
    print(
        f"{name}: {len(sockets)} connections; a person gets {dict(statuses)}, in at most "
        f"{slowest:.2f} s; open files {files}, in the end {left}"
    )
    for one in sockets:
        one.close()
    return statuses == {200: 5} and slowest < most and left <= 20


def silent(bundle: Path) -> bool:
    """Connect and say nothing."""
    with served(bundle) as there:
        return besieged(there, "silent", [there.connect() for _ in range(1000)])


def trickle(bundle: Path) -> bool:
    """Send bodies byte by byte."""
    with served(bundle, "--rate", "100000/minute") as there:
        sockets = [there.connect(HEAD + "content-length: 500\r\n\r\nx") for _ in range(300)]
        ends = threading.Event()

        def feed() -> None:
            for _ in range(10):
                for one in sockets:
                    with suppress(OSError):  # it was closed
                        one.sendall(b"x")
                if ends.wait(1):
                    return

        feeding = threading.Thread(target=feed)
        feeding.start()
        good = besieged(there, "trickle", sockets)
        ends.set()
        feeding.join()
        return good


def unread(bundle: Path) -> bool:
    """Ask for replies and never read them."""
    request = "GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n"
    with served(bundle) as there:
        sockets = []
        for _ in range(40):
            one = socket.socket()
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.connect(("127.0.0.1", there.port))
            one.setblocking(False)
            with suppress(OSError):  # no more is taken
                one.sendall(request.encode() * 1000)
            sockets.append(one)
        return besieged(there, "unread", sockets, 5)


def bodies(bundle: Path) -> bool:
    """Send 100 large bodies at once, each way in which a body may come."""
    good = True
    large = bytes(19_000_000)
    edge = b'--b\r\ncontent-disposition: form-data; name="image"; filename="i"\r\n\r\n'
    for name, body, kind in (
        ("plain", large, "image/png"),
        ("forms", edge + large + b"\r\n--b--\r\n", "multipart/form-data; boundary=b"),
    ):
        with served(bundle, "--rate", "100000/minute") as there:
            there.person()
            before = there.megabytes("VmHWM")
            found = Counter(status for status, _ in at_once(100, there, body, kind))
            more = there.megabytes("VmHWM") - before
            print(f"bodies, {name}: {before:.0f} MB before, {more:.0f} MB more; {dict(found)}")
            good &= more < 550 and there.person()[0] == 200
    return good


def pictures(bundle: Path) -> bool:
    """Send small files that claim to be large."""
    with served(bundle) as there:
        there.person()
        before, started = there.megabytes("VmHWM"), time.perf_counter()
        found = Counter(
            there.ask("/api/predict", claiming(8000, 4500 + 25 * n, 10 * n))[0] for n in range(20)
        )
        more, took = there.megabytes("VmHWM") - before, time.perf_counter() - started
        print(
            f"pictures: {len(claiming(8000, 5000, 0))} bytes; {dict(found)}, {more:.0f} MB more, "
            f"{took:.1f} s"
        )
        return found == {413: 20} and more < 100


def stop(bundle: Path) -> bool:
    """Stop with images under way."""
    ways = {"SIGINT": [signal.SIGINT], "SIGTERM": [signal.SIGTERM],
            "SIGINT twice": [signal.SIGINT] * 2}  # fmt: skip
    return sum(_stopped(bundle, name, signals) for name, signals in ways.items()) == len(ways)


def _stopped(bundle: Path, name: str, signals: list[signal.Signals]) -> bool:
    with served(bundle, "--queue", "64", "--rate", "100000/minute") as there:
        picture = png((1500, 1000))
        half = there.connect(HEAD + "content-length: 50\r\n\r\nx")
        ends: list[float] = []

        def end() -> None:
            time.sleep(1.0)
            for one in signals:
                there.process.send_signal(one)
                time.sleep(0.2)
            there.process.wait(30)
            ends.append(time.perf_counter())

        ending, started = threading.Thread(target=end), time.perf_counter()
        ending.start()
        answers = at_once(30, there, picture, "image/png")
        half_said = half.recv(9999)
        ending.join()
        assert there.process.stderr
        said = there.process.stderr.read().strip()
    found = Counter(status for status, _ in answers)
    words = {json.loads(text)["error"]["message"] for status, text in answers if status == 503}
    print(
        f"stop, {name}: {dict(found)} {words or ''}; half a body: {half_said[:12].decode()!r}; "
        f"exit {there.process.returncode} after {ends[0] - started - 1:.1f} s; said {said[:400]!r}"
    )
    return set(found) <= {200, 503} and said == "" and half_said.startswith(b"HTTP/1.1 503")


ATTACKS = (rate, silent, trickle, unread, bodies, pictures, stop)


def main() -> None:
    """Run the attacks and print what came of them; exit 1 where one got through."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--only", choices=[one.__name__ for one in ATTACKS])
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a job of the background
    with tempfile.TemporaryDirectory() as folder:
        bundle = arguments.bundle or make_bundle("efficientnet_lite0", Path(folder))
        missed = [
            one.__name__ for one in ATTACKS
            if arguments.only in (None, one.__name__) and not one(bundle)
        ]  # fmt: skip
    print(f"got through: {', '.join(missed) or 'none'}")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
