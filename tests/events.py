"""TensorBoard's event files, read without what wrote them: framing, checksums and scalars."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest


def crc32c(data: bytes) -> int:
    """Return the Castagnoli checksum, bit by bit, masked as TensorFlow's records have it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def records(data: bytes) -> list[bytes]:
    """Return the records of a file, each as its two checksums say it is."""
    found = []
    while data:
        size = struct.unpack("<Q", data[:8])[0]
        assert struct.unpack("<I", data[8:12])[0] == crc32c(data[:8])
        record, data = data[12 : 12 + size], data[12 + size :]
        assert struct.unpack("<I", data[:4])[0] == crc32c(record)
        found.append(record)
        data = data[4:]
    return found


def events(folder: Path) -> list[Any]:
    """Return the events of all files of a folder, in the order of the files."""
    message = pytest.importorskip("tensorboardX.proto.event_pb2").Event
    files = sorted(folder.glob("*tfevents*"))
    assert files
    return [message.FromString(one) for path in files for one in records(path.read_bytes())]


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return (step, value) of each scalar of a folder, by its tag; TensorBoard reads it so, too."""
    found: dict[str, list[tuple[int, float]]] = {}
    for event in events(folder):
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError:
        return found
    theirs = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    assert found == {
        tag: [(one.step, one.value) for one in theirs.Scalars(tag)]
        for tag in theirs.Tags()["scalars"]
    }
    return found
