"""The server as programs meet it: answers, limits, and what it refuses."""

from __future__ import annotations

import io
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

import httpx

from probe.bundle import Bundle
from probe.errors import UsageError
from probe.predict import Predictor
from probe.serve import Limits, connections, create_app, guard, is_loopback
from probe.serve.limits import Pace, RefusedError, check_pixels
from tests.serve.running import running


def png(size: tuple[int, int] = (40, 30)) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def claiming(width: int, height: int) -> bytes:
    """Return a tiny PNG whose header claims a large image."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0")), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.fixture(scope="module")
def bundle(digits_bundle: Path) -> Bundle:
    return Bundle.load(digits_bundle)


@pytest.fixture(scope="module")
def client(bundle: Bundle) -> Iterator[httpx.Client]:
    limits = Limits(megabytes=0.5, megapixels=1, rate="100000/minute")
    with running(create_app(bundle, name="digits", limits=limits)) as made:
        yield made


def failed(response: object, status: int, code: str) -> str:
    assert response.status_code == status, response.text  # type: ignore[attr-defined]
    error = response.json()["error"]  # type: ignore[attr-defined]
    assert error["code"] == code
    return str(error["message"])


def test_an_answer_is_that_of_python(client: httpx.Client, bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "i.png").write_bytes(png())
    expected = np.sort(bundle.predict_proba([tmp_path / "i.png"])[0])[::-1]
    as_body = client.post(
        "/api/predict?top_k=10&neighbours=3",
        content=png(),
        headers={"content-type": "application/octet-stream"},
    )
    as_form = client.post("/api/predict?top_k=10", files={"image": ("i.png", png())})
    for response in (as_body, as_form):
        assert response.status_code == 200
        found = [one["probability"] for one in response.json()["predictions"]]
        np.testing.assert_allclose(found, expected, atol=1e-4)
    near = as_body.json()["neighbours"]
    assert len(near) == 3
    assert set(near[0]) == {"label", "distance"}  # nothing of the user's images
    assert as_form.json()["neighbours"] == []


def test_an_answer_says_what_is_unusual_of_the_image(client: httpx.Client) -> None:
    raw = {"content-type": "application/octet-stream"}
    stream = io.BytesIO()
    Image.new("RGBA", (9, 9), (1, 2, 3, 0)).save(stream, "PNG")
    (note,) = client.post("/api/predict", content=stream.getvalue(), headers=raw).json()["notes"]
    assert note.startswith("the image is wholly transparent, read as white: ")
    assert client.post("/api/predict", content=png(), headers=raw).json()["notes"] == []


def test_what_is_no_image_is_told_so(client: httpx.Client) -> None:
    raw = {"content-type": "application/octet-stream"}
    for body in (b"", b"not an image", png()[:60]):
        failed(client.post("/api/predict", content=body, headers=raw), 422, "unreadable_image")
    failed(client.post("/api/predict", json={"image": 1}), 415, "unsupported_media_type")
    failed(client.post("/api/predict", files={"other": ("i.png", png())}), 422, "no_image")
    broken = {"content-type": "multipart/form-data"}
    failed(client.post("/api/predict", content=b"x", headers=broken), 400, "bad_request")
    many = client.post("/api/predict?top_k=0", content=png(), headers=raw)
    assert "top_k" in failed(many, 422, "invalid_parameter")
    failed(client.get("/api/predict"), 405, "method_not_allowed")
    failed(client.get("/nothing"), 404, "not_found")


def test_an_image_too_large_for_memory_is_refused_and_the_next_is_answered(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = {"content-type": "application/octet-stream"}

    def full(*_: object) -> np.ndarray:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "pack", full)
        refused = client.post("/api/predict", content=png(), headers=raw)
    assert "more memory than there is" in failed(refused, 422, "unreadable_image")
    assert client.post("/api/predict", content=png(), headers=raw).status_code == 200


def test_sizes_are_limited_before_anything_is_decoded(client: httpx.Client) -> None:
    raw = {"content-type": "application/octet-stream"}
    large = client.post("/api/predict", content=bytes(600_000), headers=raw)
    failed(large, 413, "too_large")
    chunked = client.post("/api/predict", content=iter([bytes(300_000)] * 3), headers=raw)
    failed(chunked, 413, "too_large")
    as_form = client.post("/api/predict", files={"image": ("i.png", bytes(600_000))})
    failed(as_form, 413, "too_large")
    for side in (2_000, 60_000):
        claim = client.post("/api/predict", content=claiming(side, side), headers=raw)
        told = failed(claim, 413, "too_many_pixels")
        size = (
            "2000 x 2000 pixels" if side == 2_000 else "too many pixels"
        )  # no number that is not the image's
        assert f"the image claims {size}" in told


def test_other_names_and_other_sites_are_refused(client: httpx.Client) -> None:
    failed(client.get("/", headers={"host": "evil.example"}), 421, "wrong_host")
    failed(client.get("/", headers={"host": "127.0.0.1.evil.example"}), 421, "wrong_host")
    failed(client.get("/", headers={"host": "[::1"}), 421, "wrong_host")
    for headers in ({"origin": "https://evil.example"}, {"origin": "null"},
                    {"sec-fetch-site": "cross-site"}):  # fmt: skip
        failed(client.post("/api/predict", content=png(), headers=headers), 403, "cross_origin")
    for host in ("localhost:8000", "127.0.0.1", "[::1]:8000"):
        headers = {"host": host, "origin": f"http://{host}"}
        response = client.get("/healthz", headers=headers)
        assert response.json() == {"status": "ok", "waiting": 0}
        assert "access-control-allow-origin" not in response.headers
    assert "default-src 'none'" in client.get("/").headers["content-security-policy"]


def test_a_client_that_asks_too_often_is_told_when_to_come_back(bundle: Bundle) -> None:
    app = create_app(bundle, name="digits", limits=Limits(rate="2/hour"))
    with running(app) as client:
        for _ in range(2):
            assert client.post("/api/predict", files={"image": png()}).status_code == 200
        refused = client.post("/api/predict", files={"image": png()})
        failed(refused, 429, "too_many_requests")
        assert 0 < int(refused.headers["retry-after"]) <= 3601
        assert client.get("/healthz").status_code == 200
    with pytest.raises(UsageError, match="--rate"):
        create_app(bundle, name="digits", limits=Limits(rate="often"))
    with pytest.raises(UsageError, match="max-megapixels"):
        Limits(megapixels=0)


def test_who_asks_is_the_connection_unless_a_proxy_is_named(bundle: Bundle) -> None:
    def asked(proxies: tuple[str, ...]) -> list[int]:
        app = create_app(bundle, name="digits", limits=Limits(rate="2/minute"))
        with running(app, proxies) as client:
            return [
                client.post("/api/predict", content=b"", headers={"x-forwarded-for": f"9.9.9.{i}"})
                .status_code
                for i in range(4)
            ]  # fmt: skip

    assert asked(()) == [422, 422, 429, 429]
    assert asked(("192.0.2.1",)) == [422, 422, 429, 429]
    assert asked(("127.0.0.1",)) == [422] * 4
    assert asked(("127.0.0.0/8",)) == [422] * 4
    for one in ("*", "127.0.0.1:80", "10.0.0.1/8", "localhost"):
        with pytest.raises(UsageError, match="--proxy"):
            asked((one,))


def test_all_addresses_of_an_ipv6_network_are_one_client() -> None:
    pace = Pace("2/minute")
    pace.count("2001:db8::1")
    pace.count("2001:db8::ffff:1")
    with pytest.raises(RefusedError, match="too_many_requests"):
        pace.count("2001:db8:0:0:7::")
    for other in ("2001:db8:0:1::1", "::ffff:192.0.2.1", "::ffff:192.0.2.2", "192.0.2.2"):
        pace.count(other)


def connected(client: httpx.Client, text: str = "") -> socket.socket:
    there = socket.create_connection((client.base_url.host, client.base_url.port), timeout=20)
    there.sendall(text.encode())
    return there


def is_closed(there: socket.socket) -> bool:
    try:
        return there.recv(9) == b""
    except ConnectionResetError:
        return True


HALF = (
    "POST /api/predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/png\r\n"
    "content-length: {}\r\n\r\nhalf"
)


def status_of_a_new_connection(client: httpx.Client) -> int:
    """Ask whether the server is well; a connection that the client kept may be closed by now."""
    return httpx.get(client.base_url.join("/healthz")).status_code


def test_silent_connections_make_room_and_are_closed(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 4)
    with ExitStack() as stack:
        first, *_ = (
            stack.enter_context(connected(client, "GET /hea" * (number % 2))) for number in range(9)
        )
        assert is_closed(first)
        assert status_of_a_new_connection(client) == 200
        monkeypatch.setattr(connections, "SILENT_SECONDS", 0.1)
        assert is_closed(stack.enter_context(connected(client)))
        assert status_of_a_new_connection(client) == 200


def test_connections_whose_client_has_to_act_make_room(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 4)
    with ExitStack() as stack:
        halves = [stack.enter_context(connected(client, HALF.format(99))) for _ in range(6)]
        assert status_of_a_new_connection(client) == 200
        assert is_closed(halves[0])


def test_a_reply_that_is_not_read_is_not_kept(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SILENT_SECONDS", 0.5)
    with connected(client) as there:
        there.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        asked = b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n" * 100_000
        with pytest.raises(ConnectionError):  # until then it waits
            there.sendall(asked)


def test_a_body_that_does_not_come_is_not_waited_for(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "SILENT_SECONDS", 0.1)
    with connected(client, HALF.format(1000)) as there:
        assert there.recv(4000).startswith(b"HTTP/1.1 408 ")
    monkeypatch.setattr(guard, "SILENT_SECONDS", 10.0)
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.2)
    with connected(client, HALF.format(1000)) as there:
        assert there.recv(4000).startswith(b"HTTP/1.1 408 ")


def test_bodies_that_are_being_sent_are_counted(bundle: Bundle) -> None:
    app = create_app(bundle, name="digits", limits=Limits(megabytes=0.5, queue=2))
    with running(app) as client:
        halves = [connected(client, HALF.format(size)) for size in (480_000, 490_000)]
        while (told := client.post("/api/predict", content=bytes(50_000))).status_code != 503:
            pass  # until both have come
        assert failed(told, 503, "busy") == "too many images are being sent; try again"
        assert told.headers["retry-after"] == "1"
        chunked = client.post("/api/predict", content=iter([png()]))
        failed(chunked, 503, "busy")
        small = client.post("/api/predict", content=png(), headers={"content-type": "image/png"})
        assert small.status_code == 200
        halves[0].close()
        while client.post("/api/predict", content=bytes(50_000)).status_code == 503:
            pass
        halves[1].close()


def test_a_stop_refuses_what_waits_and_answers_what_is_under_way(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, features = threading.Event(), threading.Event(), Predictor.features

    def slow(*given: Any) -> Any:
        begun.set()
        assert go_on.wait(60)
        return features(*given)

    monkeypatch.setattr(Predictor, "features", slow)
    answers: list[httpx.Response] = []
    app = create_app(bundle, name="digits")
    with running(app) as client:
        raw = {"content-type": "image/png"}

        def ask() -> None:
            answers.append(client.post("/api/predict", content=png(), headers=raw))

        asking = [threading.Thread(target=ask) for _ in range(3)]
        for one in asking:
            one.start()
        assert begun.wait(60)
        while client.get("/healthz").json()["waiting"] < 2:
            pass
        app.state.stop()
        while len(answers) < 2:
            pass
        refused = [failed(one, 503, "stopping") for one in answers]
        assert refused == ["the server is being stopped"] * 2
        failed(client.post("/api/predict", content=png(), headers=raw), 503, "stopping")
        go_on.set()
        for one in asking:
            one.join(60)
    assert answers[-1].status_code == 200


def test_a_stop_refuses_bodies_that_are_still_coming(bundle: Bundle) -> None:
    app = create_app(bundle, name="digits")
    with ExitStack() as stack:
        with running(app) as client:
            there = stack.enter_context(connected(client, HALF.format(99)))
            while not app.state.receiving:
                time.sleep(0.01)  # the server needs the interpreter
            stopped = time.monotonic()
        assert time.monotonic() - stopped < 4  # seconds; it does not wait for the rest
        reply = b"".join(iter(lambda: there.recv(4000), b""))
    assert reply.startswith(b"HTTP/1.1 503 ")
    assert b'"the server is being stopped"' in reply


def test_a_file_whose_name_is_no_text_is_served(bundle: Bundle) -> None:
    with running(create_app(bundle, name="caf\udce9\x1b[2J")) as client:
        assert client.get("/api/bundle").json()["name"] == r"caf\udce9\x1b[2J"
        assert client.get("/openapi.json").status_code == 200


def test_pixels_out_of_all_proportion_to_the_bytes_are_refused() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (2500, 2500)).save(stream, "WEBP", lossless=True)
    with pytest.raises(RefusedError, match=r"claims 2500 x 2500 pixels in \d+ bytes"):
        check_pixels(stream.getvalue(), Limits())
    for image, kind in ((Image.new("1", (2500, 2500), 1), "PNG"), (Image.new("L", (2500, 2500)),
                        "PNG"), (Image.new("RGB", (2500, 2500)), "JPEG"),
                        (Image.new("RGB", (1000, 1000)), "WEBP")):  # fmt: skip
        stream = io.BytesIO()
        image.save(stream, kind)
        check_pixels(stream.getvalue(), Limits())


def test_a_full_queue_answers_at_once(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = bundle.networks[0].engine
    go, begun, submit = threading.Event(), threading.Event(), engine.submit

    def slow(batch: np.ndarray) -> object:
        begun.set()
        go.wait(30)
        return submit(batch)

    monkeypatch.setattr(engine, "submit", slow)
    app = create_app(bundle, name="digits", limits=Limits(queue=1))
    with running(app) as client:
        statuses: list[int] = []

        def ask() -> None:
            statuses.append(client.post("/api/predict", files={"image": png()}).status_code)

        asking = [threading.Thread(target=ask)]
        asking[0].start()
        assert begun.wait(30)
        asking.append(threading.Thread(target=ask))
        asking[1].start()
        while client.get("/healthz").json()["waiting"] < 1:
            pass
        refused = client.post("/api/predict", files={"image": png()})
        failed(refused, 503, "busy")
        assert refused.headers["retry-after"] == "1"
        go.set()
        for thread in asking:
            thread.join()
        assert statuses == [200, 200]


def test_loopback_is_told_from_the_rest() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.8.8.8", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.0.7", "example.org", "")))


def test_a_fuzzer_finds_nothing_that_the_description_does_not_say(bundle: Bundle) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    limits = Limits(megabytes=0.05, rate="1000000/minute")
    with running(create_app(bundle, name="digits", limits=limits)) as client:
        assert fuzzed(schemathesis.openapi.from_url(f"{client.base_url}/openapi.json")) > 15


def fuzzed(schema: Any) -> int:
    """Ask what the description allows, and what it does not; return how often."""
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    tried = 0
    for result in schema.get_all_operations():
        operation = result.ok()

        @settings(
            max_examples=15,
            deadline=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            nonlocal tried
            tried += 1
            # that bytes have to be an image is more than the description can say
            excluded = [positive_data_acceptance] if case.method == "POST" else []
            case.call_and_validate(excluded_checks=excluded)

        ask()
    return tried
