"""Limits of requests, and requests that are refused.

Any web page can make its visitor's browser send requests to loopback. It cannot read the replies,
since no other origins are allowed, but it could keep the machine busy, or reach the server under a
name of its own (DNS rebinding). So the Host header has to name this server, and requests that a
browser marks as coming from another site are refused.
"""

from __future__ import annotations

import io
import ipaddress
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from probe.datasets.images.decode import FORMATS
from probe.errors import UsageError

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
MEGA = 1_000_000
# A blank one-bit PNG has 8,000 pixels a byte and a photograph ten. A file with more is made to use
# up memory and time. Small images are always allowed.
PIXELS_A_BYTE, CHEAP_PIXELS = 10_000, 4_000_000


class RefusedError(Exception):
    """The refusal of a request: HTTP status, a code for programs and a message."""

    def __init__(self, status: int, code: str, message: str, retry_after: int | None = None):
        super().__init__(status, code, message, retry_after)
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after

    def to_json(self) -> dict[str, Any]:
        """Return the body of the answer."""
        return {"error": {"code": self.code, "message": self.message}}


STOPPING = RefusedError(503, "stopping", "the server is being stopped", 10)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The server's limits.

    Parameters
    ----------
    megabytes : float
        The largest body of a request.
    megapixels : float
        The largest image, whose size is read from its header before it is decoded.
    rate : str
        Predictions that one client may request, such as ``120/minute``.
    queue : int
        The most images that wait, and the most bodies of `megabytes` in memory; more are refused.
    """

    megabytes: float = 20.0
    megapixels: float = 40.0
    rate: str = "120/minute"
    queue: int = 16

    def __post_init__(self) -> None:
        for name in ("megabytes", "megapixels", "queue"):
            if not getattr(self, name) > 0:
                raise UsageError(f"--{name.replace('mega', 'max-mega')}: expected more than 0")


class Pace:
    """Counts each client's requests in a moving window in memory.

    Raises
    ------
    UsageError
        The rate is not valid.
    """

    def __init__(self, rate: str) -> None:
        from limits import parse
        from limits.storage import MemoryStorage
        from limits.strategies import MovingWindowRateLimiter

        try:
            self._rate = parse(rate)
        except ValueError as error:
            raise UsageError(
                f"--rate {rate}: expected a rate like 120/minute or 5/second"
            ) from error
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def count(self, client: str) -> None:
        """Count one request; raise RefusedError if it is beyond the rate."""
        client = _one_client(client)
        if not self._limiter.hit(self._rate, client):
            reset = self._limiter.get_window_stats(self._rate, client).reset_time
            wait = max(int(reset - time.time()) + 1, 1)
            raise RefusedError(
                429, "too_many_requests", f"more than {self._rate} from one client; wait", wait
            )


def _one_client(address: str) -> str:
    """Return what stands for a client: of IPv6 its network, of which it may take any address."""
    try:
        there = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(there, ipaddress.IPv4Address) or there.ipv4_mapped:
        return str(there)
    return str(ipaddress.IPv6Network((there.packed, 64), strict=False))


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server that listens on `host`."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_origin(headers: Mapping[str, str], bound_to: str) -> None:
    """Refuse requests with another Host, and requests from pages of other sites.

    Parameters
    ----------
    bound_to : str
        The address on which the server listens. Beyond loopback every Host is allowed, since the
        machine's names are not known; the origin is still checked.
    """
    host = headers.get("host", "")
    name = urlsplit(f"//{host}").hostname if _is_url(host) else None
    if is_loopback(bound_to) and (name is None or not is_loopback(name)):
        raise RefusedError(
            421, "wrong_host", "this server answers as localhost only; see --host of probe serve"
        )
    origin = headers.get("origin")
    foreign = origin is not None and (not _is_url(origin) or urlsplit(origin).netloc != host)
    if foreign or headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        raise RefusedError(403, "cross_origin", "requests from other sites' pages are not answered")


def _is_url(text: str) -> bool:
    try:
        urlsplit(text if "//" in text else f"//{text}").port  # noqa: B018 - raises if it is not valid
    except ValueError:
        return False
    return True


def check_pixels(data: bytes, limits: Limits) -> None:
    """Refuse an image whose header states too many pixels; 93 bytes can state gigapixels."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
    except Image.DecompressionBombError:  # raised before the size is known
        claimed = "too many pixels to decode"
    except Exception:  # the error is reported when it is decoded
        return
    else:
        pixels = width * height
        if pixels <= max(CHEAP_PIXELS, PIXELS_A_BYTE * len(data)):
            if pixels <= limits.megapixels * MEGA:
                return
            claimed = f"{width} x {height} pixels"
        else:
            claimed = f"{width} x {height} pixels in {len(data)} bytes"
            raise RefusedError(
                413, "too_many_pixels",
                f"the image claims {claimed}; at most {PIXELS_A_BYTE:,} a byte are accepted",
            )  # fmt: skip
    raise RefusedError(
        413,
        "too_many_pixels",
        f"the image claims {claimed}; at most {limits.megapixels:g} million are accepted",
    )
