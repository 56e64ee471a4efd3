"""RecordIO: the bytes that MXNet writes, read without it; and what we write, read by MXNet."""

from __future__ import annotations

import contextlib
import io
import os
import random
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from probe.datasets.forms.recordio import (
    MAGIC,
    MOST_LABELS,
    RecordWriter,
    framed,
    image_data,
    image_of,
    read_index,
    read_records,
)
from probe.errors import DataError

MAGIC_ID = 0xCED7230A  # an id that divides the record within its header

# What MXNet 1.9.1 wrote: pack(IRHeader(0, 3.0, 7, 0), b"cat"), then
# pack(IRHeader(0, [1, 0, 1], MAGIC_ID, 5), b"abcd" + MAGIC + b"ef").
GOLDEN = bytes.fromhex(
    "0a23d7ce1b000000000000000000404007000000000000000000000000000000"
    "63617400"
    "0a23d7ce080000200300000000000000"
    "0a23d7ce1c0000400000000005000000000000000000803f000000000000803f61626364"
    "0a23d7ce020000606566" + "0000"
)  # fmt: skip


def labels(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def write(path: Path, records: list[tuple[int, bytes, bytes]]) -> Path:
    """Write a file of (key, labels, image), and its index."""
    with path.open("wb") as file, path.with_suffix(".idx").open("wb") as index:
        writer = RecordWriter(file, index)
        for record in records:
            writer.write(*record)
    return path


def read(path: Path) -> list[tuple[int, bytes, bytes]]:
    data = path.read_bytes()
    return [
        (one.id, one.labels, image_of(data[one.offset : one.stop])) for one in read_records(path)
    ]


def tricky_payloads() -> list[bytes]:
    """Images that contain the magic number: aligned or not, at both ends, several in a row."""
    draw = random.Random(0)
    fixed = [b"", b"abc", MAGIC, MAGIC * 3, b"x" + MAGIC * 2, b"abcd" + MAGIC + b"xy"]
    pieces = [MAGIC, MAGIC[:3], b"q", b"wxyz"]
    mixed = [b"".join(draw.choices(pieces, k=draw.randrange(20))) for _ in range(200)]
    return [*fixed, *mixed]


def test_the_bytes_that_mxnet_wrote(tmp_path: Path) -> None:
    path = tmp_path / "golden.rec"
    path.write_bytes(GOLDEN)
    assert read(path) == [
        (7, labels(3), b"cat"),
        (MAGIC_ID | 5 << 64, labels(1, 0, 1), b"abcd" + MAGIC + b"ef"),
    ]
    assert [one.offset for one in read_records(path)] == [0, 36]
    file, index = io.BytesIO(), io.BytesIO()
    RecordWriter(file, index).write(7, labels(3), b"cat")
    assert file.getvalue() == GOLDEN[:36]


def test_mxnet_reads_what_we_write(mx: Any, tmp_path: Path) -> None:
    images = tricky_payloads()
    rows = [(key, labels(key % 7), image) for key, image in enumerate(images)]
    rows += [(len(rows) + key, labels(*range(key + 2)), image) for key, image in enumerate(images)]
    path = write(tmp_path / "own.rec", rows)
    reader = mx.recordio.MXIndexedRecordIO(str(path.with_suffix(".idx")), str(path), "r")
    for key, label, image in reversed(rows):
        header, found = mx.recordio.unpack(reader.read_idx(key))
        assert (header.id, found) == (key, image)
        assert header.flag == (0 if len(label) == 4 else len(label) // 4)
        values = [header.label] if header.flag == 0 else header.label.tolist()
        assert struct.pack(f"<{len(values)}f", *values) == label


def test_the_golden_bytes_are_those_of_mxnet(mx: Any, tmp_path: Path) -> None:
    path, pack, header = tmp_path / "a.rec", mx.recordio.pack, mx.recordio.IRHeader
    writer = mx.recordio.MXRecordIO(str(path), "w")
    writer.write(pack(header(0, 3.0, 7, 0), b"cat"))
    writer.write(pack(header(0, [1, 0, 1], MAGIC_ID, 5), b"abcd" + MAGIC + b"ef"))
    writer.close()
    assert path.read_bytes() == GOLDEN


def test_we_read_what_mxnet_writes(mx: Any, tmp_path: Path) -> None:
    path, recordio = tmp_path / "theirs.rec", mx.recordio
    writer = recordio.MXIndexedRecordIO(str(path.with_suffix(".idx")), str(path), "w")
    wanted = []
    for key, image in enumerate(tricky_payloads()):
        label = float(key) if key % 3 else [1.0, 0.0, float(key)]
        one = key if key % 5 else MAGIC_ID
        writer.write_idx(key, recordio.pack(recordio.IRHeader(0, label, one, 0), image))
        wanted.append((one, labels(*(label if isinstance(label, list) else [label])), image))
    writer.close()
    assert read(path) == wanted
    offsets = [one.offset for one in read_records(path)]
    assert list(read_index(path.with_suffix(".idx"))) == [
        (str(key), offset) for key, offset in enumerate(offsets)
    ]
    assert write(tmp_path / "own.rec", wanted).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"PK\3\4" * 10, "begins with 504b0304 and not with 0a23d7ce: this is no RecordIO file"),
        (GOLDEN[:-4], "record at byte 36 goes on beyond the end of the file, 96 bytes"),
        (GOLDEN[:40], "record at byte 36 goes on beyond the end of the file"),
        (GOLDEN[:36] + b"\0" * 8, "record at byte 36 begins with 00000000 and not with 0a23d7ce"),
        (GOLDEN[52:], "record at byte 0 has no first part"),
        (GOLDEN[36:52] + GOLDEN[:36], "record at byte 0 has no last part"),
        (framed(b"short"), "record at byte 0 has 5 bytes, fewer than the 24 before the labels"),
        (framed(struct.pack("<IfQQ", 9, 0, 0, 0)), "says that it has 9 labels, in 24 bytes"),
        (framed(struct.pack("<IfQQ", 2**32 - 1, 0, 0, 0)), "says that it has 4,294,967,295 labels"),
    ],
    ids=range(9),
)
def test_damage_is_told_with_its_offset(data: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.rec"
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        read(path)
    assert told in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


def test_more_labels_than_an_image_can_have(tmp_path: Path) -> None:
    path = tmp_path / "many.rec"
    path.write_bytes(framed(image_data(0, bytes(4 * (MOST_LABELS + 1)), b"cat")))
    with pytest.raises(DataError, match="says that it has 1,048,577 labels"):
        read(path)


def test_a_file_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    path, length = tmp_path / "sparse.rec", 2**29 - 4
    with path.open("wb") as file:  # of which nothing but the beginnings of parts is on the disk
        for number, flag in enumerate((1, 2, 3)):
            file.seek(number * (length + 8))
            file.write(MAGIC + struct.pack("<I", flag << 29 | length))
        file.truncate(3 * (length + 8))
    tracemalloc.start()
    (record,) = read_records(path)
    assert record.size == 3 * length + 8 - 24
    os.truncate(path, 2 * (length + 8))
    with pytest.raises(DataError, match="record at byte 0 goes on beyond the end of the file"):
        list(read_records(path))
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@given(
    records=st.lists(
        st.tuples(
            st.sampled_from([0, 1, MAGIC_ID, 2**64 - 1]),
            st.lists(st.sampled_from([0.0, 1.0, -8.5]), min_size=1, max_size=12),
            st.lists(st.sampled_from([MAGIC, b"\n", b"abcd", b"#\xd7\xce"]), max_size=9),
        ),
        max_size=5,
    )
)
def test_round_trip(
    records: list[tuple[int, list[float], list[bytes]]], tmp_path_factory: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "round trip.rec"
    rows = [(key, labels(*values), b"".join(pieces)) for key, values, pieces in records]
    assert read(write(path, rows)) == rows


@given(
    at=st.integers(0, len(GOLDEN) - 1),
    value=st.integers(0, 255),
    length=st.integers(0, len(GOLDEN)),
)
@example(at=39, value=0xFF, length=len(GOLDEN))
def test_damaged_bytes_are_read_or_told(
    at: int, value: int, length: int, tmp_path_factory: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.rec"
    data = bytearray(GOLDEN)
    data[at] = value
    path.write_bytes(bytes(data[:length]))
    found = []
    with contextlib.suppress(DataError):
        found = read(path)
    assert sum(len(label) + len(image) for _, label, image in found) <= length


def test_what_is_no_index_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.idx"
    for text in (b"1 0\n", b"0\t0\n1\t-4\n", b"\t0\n", b"x" * 1000):
        path.write_bytes(text)
        with pytest.raises(DataError, match=r"line [12] is no key and offset"):
            list(read_index(path))


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "pipe.rec"
    os.mkfifo(path)
    with pytest.raises(DataError, match="is not a regular file"):
        list(read_records(path))
