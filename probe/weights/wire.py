"""Parse protobuf's wire format without reading the large fields.

A weight file is a few names and shapes around blobs of hundreds of megabytes. The protobuf library
would parse all of it into memory, and again into arrays; this records the position of each field,
so that blobs are read in place, one at a time, as in every other format here.

References
----------
Protocol Buffers documentation, Encoding: tags, varints, length-delimited fields.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from probe.errors import UnsafeFileError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_FIELDS = 1_000_000  # in all messages of a file; the largest networks have some thousands
MAX_TEXT = 4096


@dataclass(frozen=True)
class Field:
    """One field of a message.

    Parameters
    ----------
    kind : int
        The wire type.
    value : int
        The value of a varint; else 0.
    start, end : int
        Range of its bytes in the file.
    """

    number: int
    kind: int
    value: int
    start: int
    end: int

    @property
    def length(self) -> int:
        """Size in bytes."""
        return self.end - self.start


class Wire:
    """A protobuf file that is open; counts the fields seen, so that no nesting goes on for ever.

    Parameters
    ----------
    path : Path
        For messages.
    file : binary file
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self._file = path, file
        self.size = file.seek(0, 2)
        self._left = MAX_FIELDS

    def whole(self) -> Field:
        """Return the whole file as one message."""
        return Field(0, BYTES, 0, 0, self.size)

    def fields(self, message: Field) -> Iterator[Field]:
        """Yield the fields of a message in order, without reading length-delimited data.

        Raises
        ------
        UnsafeFileError
            A field is longer than its message, or is not valid.
        """
        if message.kind != BYTES:
            raise self.damaged("has a number where a message belongs")
        at = message.start
        while at < message.end:
            self._left -= 1
            if self._left < 0:
                raise self.damaged(f"has more than {MAX_FIELDS} fields")
            field = self._field(at, message.end)
            yield field
            at = field.end

    def _field(self, at: int, end: int) -> Field:
        self._file.seek(at)
        head = self._file.read(min(20, end - at))  # a tag and a varint have 10 bytes at most each
        tag, used = self._varint(head, 0)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, used = self._varint(head, used)
            return Field(number, kind, value, at + used, at + used)
        if kind == BYTES:
            length, used = self._varint(head, used)
        elif kind in (FIXED32, FIXED64):
            length = 4 if kind == FIXED32 else 8
        else:
            raise self.damaged(f"has a field of the unknown wire type {kind}")
        start = at + used
        if number == 0 or length > end - start:
            raise self.damaged(f"claims a field of {length} bytes where there are {end - start}")
        return Field(number, kind, 0, start, start + length)

    def _varint(self, data: bytes, at: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if at >= len(data):
                break
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & (2**64 - 1), at
        raise self.damaged("has a varint without an end")

    def text(self, field: Field) -> str:
        """Return the short text that a field holds."""
        return self.data(field, MAX_TEXT).decode("utf-8", errors="backslashreplace")

    def data(self, field: Field, limit: int) -> bytes:
        """Return the bytes of a field; raise UnsafeFileError for more than `limit`."""
        if field.kind == VARINT or field.length > limit:
            raise self.damaged(f"has a field of {field.length} bytes; at most {limit} are expected")
        self._file.seek(field.start)
        return self._file.read(field.length)

    def numbers(self, field: Field, limit: int) -> list[int]:
        """Return the signed 64-bit numbers of a repeated field, packed or not."""
        if field.kind == VARINT:
            return [_signed(field.value)]
        data = self.data(field, limit)
        found, at = [], 0
        while at < len(data):
            value, at = self._varint(data, at)
            found.append(_signed(value))
        return found

    def real(self, field: Field) -> float:
        """Return the float that a 32-bit field holds."""
        (value,) = struct.unpack("<f", self.data(field, 4).ljust(4, b"\0"))
        return float(value)

    def damaged(self, what: str) -> UnsafeFileError:
        """Return the error that says what is wrong with the file."""
        return UnsafeFileError(f"{self.path}: {what}; the file is damaged")


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value
