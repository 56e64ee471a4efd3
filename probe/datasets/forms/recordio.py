"""Read and write MXNet's RecordIO: many images with their labels in one file.

A record is the magic number, a word whose lower 29 bits are the length of the data and whose upper
3 bits are a flag, the data, and zeros up to a multiple of 4 bytes. Data in which the magic number
stands at a multiple of 4 is divided there into parts, and the number itself is left out: the flag
is 1 for the first part, 2 for those in between and 3 for the last; 0 is a record in one part.

The data of an image record begins with 24 bytes: a flag, a label, and the two halves of an id. A
flag above 0 is the number of float32 labels that follow, and take the place of the one label. The
rest is an image file. All numbers are little-endian.

An index beside the records names a key and an offset a line. Records are read without it; it shows
whether some are missing at the end.

References
----------
dmlc-core, include/dmlc/recordio.h and src/recordio.cc; MXNet 1.9.1, src/io/image_recordio.h and
python/mxnet/recordio.py.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from probe.core.records import check_regular
from probe.core.regular import open_regular
from probe.datasets.images.packed import ByteFile
from probe.errors import DataError

RECORDS, INDEX = ".rec", ".idx"
MAGIC = struct.pack("<I", 0xCED7230A)
LENGTH_BITS = 29
LONGEST = (1 << LENGTH_BITS) - 1  # bytes of a record's data
WHOLE, FIRST, BETWEEN, LAST = range(4)  # flags of parts
HEADER = 24  # bytes before an image's labels
MOST_LABELS = 2**20  # of one image

_PART = struct.Struct("<4sI")
_IMAGE = struct.Struct("<IfQQ")
_WHOLE = struct.Struct("<4sII20x")  # a part, and the flag of an image in it
_LABEL = struct.Struct("<f")
_AHEAD = 64  # bytes that are read of each record to find the next one, with a few labels
_LONGEST_LINE = 100  # of an index


class Record(NamedTuple):
    """What a file says of one image, and where it is.

    Parameters
    ----------
    offset, stop : int
        Where the record begins, and where the next one would.
    size : int
        Bytes of the image file.
    id : int
        Both halves, 0 to 2**128 - 1.
    labels : bytes
        One or more float32.
    """

    offset: int
    stop: int
    size: int
    id: int
    labels: bytes


def read_records(path: Path) -> Iterator[Record]:
    """Yield every record of a file, in its order; of the images themselves nothing is read.

    Raises
    ------
    DataError
        It cannot be opened, or is damaged; the message has the offset.
    """
    yield from _Scan(path).records()


def image_of(record: bytes) -> bytes:
    """Return the image file in the bytes of a record, from its offset to its stop.

    Raises
    ------
    ValueError
        They are not those of one record.
    """
    if len(record) < _WHOLE.size:
        raise ValueError("it ends within its header")
    magic, word, count = _WHOLE.unpack_from(record)
    if magic == MAGIC and word >> LENGTH_BITS == WHOLE:
        return record[_PART.size + HEADER + 4 * count : _PART.size + word]  # the flag is 0
    data = _joined(record, len(record))
    if len(data) < HEADER:
        raise ValueError("its header is missing")
    return data[HEADER + 4 * _IMAGE.unpack_from(data)[0] :]


class _Scan:
    """A record file whose records are looked for."""

    def __init__(self, path: Path) -> None:
        self._end = check_regular(path)
        self._path, self._file = path, ByteFile(path)

    def records(self) -> Iterator[Record]:
        at, end = 0, self._end
        while at < end:
            ahead = self._file.read(at, _AHEAD)
            flag, size = self._part(ahead, at, at)
            stop = _after(at, size)
            if flag == WHOLE:
                start = ahead[_PART.size : _PART.size + size]
            else:
                stop, size = self._parts(at, flag, size)
                start = b""
            if stop > end:
                raise self._damaged(at, f"goes on beyond the end of the file, {end:,} bytes")
            yield self._record(at, stop, size, start)
            at = stop

    def _parts(self, at: int, flag: int, length: int) -> tuple[int, int]:
        """Return where a divided record ends, and the length of its data."""
        if flag != FIRST:
            raise self._damaged(at, "has no first part")
        stop, size = _after(at, length), length
        while flag != LAST:
            flag, length = self._part(self._file.read(stop, _PART.size), stop, at)
            if flag not in (BETWEEN, LAST):
                raise self._damaged(at, "has no last part")
            stop, size = _after(stop, length), size + len(MAGIC) + length
        return stop, size

    def _record(self, at: int, stop: int, size: int, start: bytes) -> Record:
        """Return a record; `start` are the first bytes of its data, as far as they were read."""
        if size < HEADER:
            raise self._damaged(
                at, f"has {size} bytes, fewer than the {HEADER} before the labels of an image"
            )
        if len(start) < HEADER:
            start = self._data(at, stop, HEADER)
        count, _label, low, high = _IMAGE.unpack_from(start)
        skipped = HEADER + 4 * count
        if skipped > size or count > MOST_LABELS:
            raise self._damaged(at, f"says that it has {count:,} labels, in {size:,} bytes")
        if len(start) < skipped:
            start = self._data(at, stop, skipped)
        labels = start[HEADER:skipped] if count else start[4:8]
        return Record(at, stop, size - skipped, low | high << 64, labels)

    def _data(self, offset: int, stop: int, most: int) -> bytes:
        """Return the first bytes of a record's data."""
        # a part has 8 bytes beside its data, and stands for 4 more where it is not the first
        raw = self._file.read(offset, min(stop - offset, 3 * most + 4 * _PART.size))
        try:
            data = _joined(raw, most)
        except ValueError:
            data = b""
        if len(data) < most:
            raise self._damaged(offset, "was changed while it was read")
        return data

    def _part(self, data: bytes, at: int, begun: int) -> tuple[int, int]:
        """Return flag and length of the part at an offset, of a record that begins at another."""
        if len(data) < _PART.size:
            raise self._damaged(begun, "goes on beyond the end of the file")
        magic, word = _PART.unpack_from(data)
        if magic != MAGIC:
            raise self._damaged(at, f"begins with {magic.hex()} and not with {MAGIC.hex()}")
        return word >> LENGTH_BITS, word & LONGEST

    def _damaged(self, at: int, what: str) -> DataError:
        if at == 0 and what.startswith("begins"):
            return DataError(f"{self._path}: {what}: this is no RecordIO file of MXNet's")
        return DataError(
            f"{self._path}: the record at byte {at:,} {what}; the file is damaged or cut short: "
            "get it or pack it again"
        )


def _joined(raw: bytes, most: int) -> bytes:
    """Return the first `most` bytes of a record's data, its parts joined."""
    found, at = bytearray(), 0
    while True:
        if raw[at : at + len(MAGIC)] != MAGIC or len(raw) < at + _PART.size:
            raise ValueError("a part of it is missing")
        word = _PART.unpack_from(raw, at)[1]
        flag, length = word >> LENGTH_BITS, word & LONGEST
        part = raw[at + _PART.size : at + _PART.size + length]
        if flag == WHOLE:
            return part[:most]
        found += part
        if flag == LAST or len(found) >= most:
            return bytes(found[:most])
        found += MAGIC
        at = _after(at, length)


def read_index(path: Path) -> Iterator[tuple[str, int]]:
    """Yield key and offset of each line of an index.

    Raises
    ------
    DataError
        A line is something else; the message has its number.
    """
    try:
        with open_regular(path) as file:
            number = 0
            while line := file.readline(_LONGEST_LINE):
                number += 1
                key, _tab, offset = line.rstrip(b"\r\n").partition(b"\t")
                if not (key and offset.isdigit()):
                    raise DataError(
                        f"{path}: line {number} is no key and offset with a tab between; remove "
                        "the index, which is not needed for reading"
                    )
                yield key.decode("utf-8", "backslashreplace"), int(offset)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


class RecordWriter:
    """Write image records to one open file and their index to another.

    Parameters
    ----------
    records, index : binary files
        Open for writing, at their beginning.
    """

    def __init__(self, records: BinaryIO, index: BinaryIO) -> None:
        self._records, self._index, self._offset = records, index, 0

    def write(self, key: int, labels: bytes, image: bytes) -> None:
        """Append an image.

        Parameters
        ----------
        key : int
            The record's id and key in the index, 0 to 2**64 - 1.
        labels : bytes
            One float32 or more; one goes into the header, several behind it.

        Raises
        ------
        DataError
            It is longer than a record can be, 512 MiB.
        """
        data = image_data(key, labels, image)
        if len(data) > LONGEST:
            raise DataError(f"{len(data):,} bytes are more than the {LONGEST:,} of a record")
        record = framed(data)
        self._index.write(b"%d\t%d\n" % (key, self._offset))
        self._records.write(record)
        self._offset += len(record)


def image_data(key: int, labels: bytes, image: bytes) -> bytes:
    """Return the data of an image record."""
    count = len(labels) // 4
    if count == 1:
        return _IMAGE.pack(0, *_LABEL.unpack(labels), key, 0) + image
    return _IMAGE.pack(count, 0, key, 0) + labels + image


def framed(data: bytes) -> bytes:
    """Return a record of some data, divided where the data contains the magic number."""
    parts, start, at = [], 0, data.find(MAGIC)
    while at >= 0:
        if at % 4 == 0:
            parts.append(data[start:at])
            start = at + len(MAGIC)
        at = data.find(MAGIC, at + 1 if at % 4 else start)
    parts.append(data[start:])
    record = bytearray()
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        flag = (WHOLE if last else FIRST) if number == 0 else LAST if last else BETWEEN
        record += _PART.pack(MAGIC, flag << LENGTH_BITS | len(part)) + part
        record += bytes(-len(part) % 4)
    return bytes(record)


def _after(at: int, length: int) -> int:
    """Return where the part behind one of so many bytes begins."""
    return at + _PART.size + length + -length % 4
