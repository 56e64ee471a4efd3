"""A small TIFF writer: samples in, bytes out, in the layouts that readers get wrong."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

SIZES = {3: 2, 4: 4}  # SHORT and LONG


def tiff(
    samples: NDArray[np.integer],
    *,
    bits: int = 8,
    photometric: int = 1,
    order: str = "<",
    planar: bool = False,
    deflate: bool = False,
    predictor: bool = False,
    rows: int | None = None,
    tile: int | None = None,
    lsb_first: bool = False,
    more: dict[int, tuple[int, ...]] | None = None,
) -> bytes:
    """Write samples of shape (height, width, n) as a TIFF.

    Parameters
    ----------
    photometric : int
        0 white is zero, 1 black is zero, 2 RGB, 3 palette, 5 CMYK, 6 YCbCr, 8 CIELab.
    planar : bool
        Each sample in a plane of its own.
    rows, tile : int, optional
        Rows of a strip, or side of a tile.
    lsb_first : bool
        Fill order 2: the first pixel in the lowest bits.
    more : dict of tag to values, optional
    """
    height, width, n = samples.shape
    planes = [samples[:, :, i : i + 1] for i in range(n)] if planar else [samples]
    blocks = [
        _encoded(block, bits, order, deflate, predictor, lsb_first)
        for plane in planes
        for block in _blocks(plane, rows or height, tile)
    ]
    tags: dict[int, tuple[int, ...]] = {
        256: (width,), 257: (height,), 258: (bits,) * n, 259: (8 if deflate else 1,),
        262: (photometric,), 277: (n,), 284: (2 if planar else 1,), 266: (2 if lsb_first else 1,),
    }  # fmt: skip
    if predictor:
        tags[317] = (2,)
    if tile:
        tags |= {322: (tile,), 323: (tile,)}
    else:
        tags[278] = (rows or height,)
    tags |= more or {}
    at, places = 8, []
    for block in blocks:
        places.append(at)
        at += len(block) + len(block) % 2
    tags |= {324 if tile else 273: tuple(places), 325 if tile else 279: tuple(map(len, blocks))}
    body = b"".join(block + b"\0" * (len(block) % 2) for block in blocks)
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, at)
    return head + body + _directory(tags, at, order)


def _directory(tags: dict[int, tuple[int, ...]], at: int, order: str) -> bytes:
    beyond = at + 2 + 12 * len(tags) + 4
    entries, values = b"", b""
    for tag, value in sorted(tags.items()):
        kind = 4 if tag in (273, 279, 324, 325) or max(value) > 65535 else 3
        data = struct.pack(f"{order}{len(value)}{'H' if kind == 3 else 'I'}", *value)
        if len(data) > 4:
            place = struct.pack(order + "I", beyond + len(values))
            values += data + b"\0" * (len(data) % 2)
        else:
            place = data.ljust(4, b"\0")
        entries += struct.pack(order + "HHI", tag, kind, len(value)) + place
    return struct.pack(order + "H", len(tags)) + entries + bytes(4) + values


def _blocks(
    plane: NDArray[np.integer], rows: int, tile: int | None
) -> Iterator[NDArray[np.integer]]:
    height, width, n = plane.shape
    for top in range(0, height, tile or rows):
        if tile is None:
            yield plane[top : top + rows]
            continue
        for left in range(0, width, tile):
            block = np.zeros((tile, tile, n), plane.dtype)
            part = plane[top : top + tile, left : left + tile]
            block[: part.shape[0], : part.shape[1]] = part
            yield block


def _encoded(  # noqa: PLR0917
    block: NDArray[np.integer],
    bits: int,
    order: str,
    deflate: bool,
    predictor: bool,
    lsb_first: bool,
) -> bytes:
    values = block.astype(np.int64)
    if predictor:
        values = np.diff(values, axis=1, prepend=0)
    values = (values & ((1 << bits) - 1)).reshape(len(block), -1)
    if bits in (8, 16, 32):
        data = values.astype(f"{order}u{bits // 8}").tobytes()
    else:
        each = (values[:, :, None] >> np.arange(bits - 1, -1, -1)) & 1
        data = np.packbits(each.reshape(len(block), -1).astype(np.uint8), axis=1).tobytes()
    data = zlib.compress(data) if deflate else data
    if not lsb_first:
        return data
    flipped = np.unpackbits(np.frombuffer(data, np.uint8))
    return np.packbits(flipped, bitorder="little").tobytes()
