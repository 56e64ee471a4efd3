"""Find damage in JPEG, PNG and WebP files that their decoders do not report.

libjpeg fills what it cannot decode with grey and only warns, which Pillow does not pass on, and
WebP has no checksum. These checks need no second decoding:

- A JPEG of one scan (baseline or extended, Huffman) must use all of its compressed data and no
  more. The decoder gets padding in place of the end marker: it reads the padding where data is
  missing, and stops before the last bytes where there is too much.
- Restart markers are in sequence, and as many as the size requires.
- A JPEG of several scans must bring each coefficient to full precision, and each scan must end
  before the padding that follows it.
- A long run of zero bytes, as a lost sector or a broken download leaves, appears in a JPEG only
  where a code of zeros stands for flat areas. A WebP with such a run is decoded once more without
  its last bytes.
- The compressed data of a PNG must match its checksum, which Pillow does not verify.

Not found: a changed bit of a JPEG or WebP that leaves the amount of data the same, and a truncated
refinement scan of a progressive JPEG.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

SPARE = 16  # bytes of padding that an encoder may write after a scan
ZEROS = bytes(64)
ONES = b"\xff\x00"  # eight bits of one; a bare 0xFF would begin a marker
PADDING = ONES * 8  # decodes to a few blocks at most

_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # what ends a scan
_RESTART = re.compile(rb"\xff([\xd0-\xd7])")
_CYCLE = bytes(range(0xD0, 0xD8))
_START, _SCAN, _TABLES, _INTERVAL, _END = 0xD8, 0xDA, 0xC4, 0xDD, 0xD9
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE = frozenset((0x01, *range(0xD0, 0xD9)))  # markers without a segment
_FILL = frozenset((0x00, 0xFF))
MISSING = "is damaged or cut short: some of its pixels are missing"
HOLE = "is damaged: part of its compressed data is zeros"
_SEQUENTIAL, _PROGRESSIVE = frozenset((0xC0, 0xC1)), 0xC2


class Guard(io.BytesIO):
    """A JPEG file for Pillow that records whether the decoder used exactly its data."""

    damage: str | None = None  # what is wrong, after decoding


class OneScan(Guard):
    """Serves its last bytes separately, and records whether the decoder read them."""

    damage: str | None = "is damaged: its compressed data holds more than its pixels"

    def __init__(self, data: bytes, held_from: int) -> None:
        super().__init__(data)
        self._held_from = held_from

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as a file does, but stop once before the last bytes."""
        here = self.tell()
        if here >= self._held_from:
            self.damage = None
            return super().read(size)
        most = self._held_from - here
        return super().read(most if size is None or size < 0 else min(size, most))


class SeveralScans(Guard):
    """Serves two bytes of padding after each scan, and records whether they were used.

    After a scan libjpeg skips to the next marker and leaves no bytes. Within a scan it takes ones
    for a code of the full 16 bits, and leaves a single byte until it has another.
    """

    def __init__(self, data: bytes, stops: Sequence[int]) -> None:
        padding = PADDING + ONES * 2
        pieces = [data[a:b] for a, b in pairwise((0, *stops, len(data)))]
        super().__init__(padding.join(pieces))
        self._places: list[int] = []  # offsets of the two bytes, and of what follows them
        for number, stop in enumerate(stops):
            at = stop + number * len(padding) + len(PADDING)
            self._places += (at, at + len(ONES), at + 2 * len(ONES))
        self._next = 0  # of the places

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as a file does, but stop before and after each byte of the padding."""
        here, within_padding = self.tell(), False
        if self._next < len(self._places) and here == self._places[self._next]:
            self._next, within_padding = self._next + 1, True
        if self._next < len(self._places):
            most = self._places[self._next] - here
            size = most if size is None or size < 0 else min(size, most)
        data = super().read(size)
        return _Appended(data, self) if within_padding else data


class _Appended(bytes):
    """Bytes that Pillow appends to those that the decoder left."""

    _guard: Guard

    def __new__(cls, data: bytes, guard: Guard) -> _Appended:
        self = super().__new__(cls, data)
        self._guard = guard
        return self

    def __radd__(self, left: bytes) -> bytes:
        if left:
            self._guard.damage = MISSING
        return left + bytes(self)


class Scan(NamedTuple):
    """Entropy-coded data of a scan, and the fields of its header."""

    start: int
    stop: int
    components: bytes
    tables: bytes
    first: int
    last: int
    high: int
    low: int


class Jpeg(NamedTuple):
    """The segments of a JPEG file up to its end marker; `frame` is the body of SOF0 to SOF15."""

    kind: int
    frame: bytes
    interval: int
    tables: list[bytes]
    scans: list[Scan]

    @property
    def single(self) -> bool:
        """Whether one sequential scan has all components."""
        return (
            self.kind in _SEQUENTIAL
            and len(self.scans) == 1
            and len(self.scans[0].components) == self.frame[5]
        )


def read_jpeg(data: bytes) -> Jpeg | None:
    """Read a JPEG file's segments; None where they are invalid, which Pillow reports."""
    of, frame, interval, at = 0, b"", 0, 2
    tables: list[bytes] = []
    scans: list[Scan] = []
    try:
        while True:
            while data[at] != 0xFF or data[at + 1] in _FILL:
                at += 1  # fill bytes, or bytes between segments that libjpeg skips
            kind, at = data[at + 1], at + 2
            if kind == _END or (kind == _START and scans):
                break
            if kind in _BARE:
                continue
            body = at + 2
            at += data[at] << 8 | data[at + 1]
            if kind == _SCAN:
                at = _scan(scans, data, at, data[body:at])
            elif kind == _TABLES:
                tables.append(data[body:at])
            elif kind == _INTERVAL:
                interval = data[body] << 8 | data[body + 1]
            elif kind in _FRAMES:
                of, frame = kind, data[body:at]
    except (IndexError, ValueError):  # truncated
        pass
    whole = len(frame) > 5 and len(frame) >= 6 + 3 * frame[5] > 6
    return Jpeg(of, frame, interval, tables, scans) if scans and whole else None


def _scan(scans: list[Scan], data: bytes, at: int, body: bytes) -> int:
    """Append a scan, whose data begins at `at`; return the offset of the next marker."""
    marker = _MARKER.search(data, at)
    stop = after = marker.start() if marker else len(data)
    while stop > at and data[stop - 1] == 0xFF:  # fill bytes before the marker
        stop -= 1
    parameters = 1 + 2 * body[0]
    first, last, precision = body[parameters : parameters + 3]
    components, tables = body[1:parameters:2], body[2:parameters:2]
    scans.append(Scan(at, stop, components, tables, first, last, precision >> 4, precision & 15))
    return after


def guarded(data: bytes, jpeg: Jpeg) -> Guard | None:
    """Return a file that records whether the decoder uses all of the data; None if impossible."""
    if jpeg.single:
        first, stop = jpeg.scans[0].start, jpeg.scans[0].stop
        return OneScan(data[:stop] + PADDING, max(stop - SPARE, first))
    if jpeg.kind in _SEQUENTIAL or jpeg.kind == _PROGRESSIVE:
        return SeveralScans(data, [scan.stop for scan in jpeg.scans])
    return None  # arithmetic coding


def jpeg_damage(data: bytes, jpeg: Jpeg) -> str | None:
    """Return what is wrong with the structure of a JPEG's compressed data, or None."""
    if jpeg.interval and jpeg.single and (reason := _restarts(data, jpeg)):
        return reason
    if jpeg.kind == _PROGRESSIVE and not _complete(jpeg):
        return "is cut short: scans are missing"
    for scan in jpeg.scans:
        if scan.high or scan.last == 0 or data.find(ZEROS, scan.start, scan.stop) < 0:
            continue  # refinements and averages of blocks may be zeros
        flat = _zeros_end_a_block(jpeg.tables)
        if jpeg.kind not in _SEQUENTIAL or not all(flat.get(one & 15) for one in scan.tables):
            return HOLE
    return None


def _zeros_end_a_block(segments: list[bytes]) -> dict[int, bool]:
    """Return for each AC table whether its code of zeros ends a block, as in flat areas."""
    found = {}
    for tables in segments:
        place = 0
        while place + 17 < len(tables):
            if tables[place] >> 4:
                found[tables[place] & 15] = tables[place + 17] == 0
            place += 17 + sum(tables[place + 1 : place + 17])
    return found


def _restarts(data: bytes, jpeg: Jpeg) -> str | None:
    frame, scan = jpeg.frame, jpeg.scans[0]
    height, width = frame[1] << 8 | frame[2], frame[3] << 8 | frame[4]
    sides = frame[7 : 6 + 3 * frame[5] : 3]
    across, down = 8 * max(side >> 4 for side in sides), 8 * max(side & 15 for side in sides)
    if len(sides) == 1:
        across = down = 8
    blocks = -(-width // max(across, 8)) * -(-height // max(down, 8))
    marks = b"".join(_RESTART.findall(data, scan.start, scan.stop))
    expected = -(-blocks // jpeg.interval) - 1
    if len(marks) != expected or marks != (_CYCLE * (expected // 8 + 1))[:expected]:
        return "is damaged: its restart markers are not those of its size"
    return None


def _complete(jpeg: Jpeg) -> bool:
    """Whether scans bring each coefficient of each component to its last bit."""
    components = jpeg.frame[6 : 6 + 3 * jpeg.frame[5] : 3]
    missing = {component: set(range(64)) for component in components}
    for scan in jpeg.scans:
        for component in scan.components:
            if scan.low == 0 and component in missing:
                missing[component] -= set(range(scan.first, scan.last + 1))
    return not any(missing.values())


def png_damage(data: bytes) -> str | None:
    """Return what is wrong with the checksums of a PNG's first image, or None."""
    at, seen, view = 8, False, memoryview(data)
    while at + 12 <= len(data):
        stop, kind = at + 8 + int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        if kind == b"IDAT":
            seen = True
            found = data[stop : stop + 4]
            if len(found) == 4 and zlib.crc32(view[at + 4 : stop]) != int.from_bytes(found):
                return "is damaged: its compressed data has another checksum"
        elif seen:
            break
        at = stop + 4
    return None


def webp_damage(data: bytes, decodes: Callable[[bytes], bool]) -> str | None:
    """Return what is wrong with a WebP whose compressed data has a run of zeros, or None.

    Zeros are natural where much of an image is flat. So the first image is decoded once more
    without its last bytes, which an undamaged one needs.

    Parameters
    ----------
    decodes : callable
        Whether the bytes of a WebP file can be decoded.
    """
    for start, stop in _bitstreams(data, 12, len(data)):
        if data.find(ZEROS, start, stop) < 0 or stop - start <= 2 * SPARE:
            return None
        kind, size = data[start - 8 : start - 4], (stop - start - SPARE) & ~1
        lengths = [(size + add).to_bytes(4, "little") for add in (12, 0)]
        shorter = b"RIFF%bWEBP%b%b" % (lengths[0], kind, lengths[1])
        return HOLE if decodes(shorter + data[start : start + size]) else None
    return None


def _bitstreams(data: bytes, at: int, stop: int) -> Iterator[tuple[int, int]]:
    while at + 8 <= stop:
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8
        if kind in (b"VP8 ", b"VP8L"):
            yield at, min(at + size, stop)
        elif kind == b"ANMF":
            yield from _bitstreams(data, at + 16, min(at + size, stop))
        at += size + size % 2
