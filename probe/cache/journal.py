"""The journal beside an unfinished entry: which blocks are whole, each with its checksum.

A record is 20 bytes, little-endian: split number (uint32), block number (uint32), xxh3-64 of the
block's rows (uint64), xxh32 of these three (uint32).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import xxhash

_RECORD = struct.Struct("<IIQI")
_BODY = struct.Struct("<IIQ")

RECORD_BYTES = _RECORD.size


def pack_record(number: int, block: int, checksum: int) -> bytes:
    """Return the record that says a block is whole."""
    return _RECORD.pack(number, block, checksum, _check(number, block, checksum))


def read_records(text: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (split number, block, checksum) of each sound record; torn and damaged ones are not."""
    whole = len(text) // RECORD_BYTES * RECORD_BYTES
    for number, block, checksum, check in _RECORD.iter_unpack(text[:whole]):
        if check == _check(number, block, checksum):
            yield number, block, checksum


def _check(number: int, block: int, checksum: int) -> int:
    return xxhash.xxh32_intdigest(_BODY.pack(number, block, checksum))
