"""What HDF5 is shown of a file: no heap in it that was not checked."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest

from probe.core.hdf5 import SIGNATURE, Part, check_heaps
from probe.errors import UnsafeFileError

ENDLESS = SIGNATURE + struct.pack("<Q", 64) + struct.pack("<HH4xQ", 1, 1, 2**40) + bytes(32)
SOUND = SIGNATURE + struct.pack("<Q", 64) + struct.pack("<HH4xQ", 0, 0, 48) + bytes(32)


def part(data: bytes, *hidden: tuple[int, int]) -> Part:
    made = Part(io.BytesIO(b"base" + data), 4, len(data))
    for start, length in hidden:
        made.hide(start, length)
    return made


def test_what_is_hidden_reads_as_zeros_and_the_rest_as_it_is() -> None:
    data = bytes(range(1, 101))
    file = part(data, (10, 20), (50, 1), (95, 50))
    shown = bytes(0 if 10 <= i < 30 or i == 50 or i >= 95 else data[i] for i in range(100))
    assert file.read() == shown
    for start in range(100):
        file.seek(start)
        assert file.read(7) == shown[start : start + 7]
    assert list(file.visible()) == [(0, 10), (30, 50), (51, 95)]


@pytest.mark.parametrize("before", [0, 1, 999])
def test_a_damaged_heap_is_found_wherever_it_lies(before: int) -> None:
    check_heaps(Path("w.h5"), part(bytes(before) + SOUND + bytes(99)))
    with pytest.raises(UnsafeFileError, match="heap"):
        check_heaps(Path("w.h5"), part(bytes(before) + ENDLESS + bytes(99)))


def test_a_heap_in_a_tensor_is_never_shown_and_one_that_begins_before_it_is_checked() -> None:
    data = bytes(100) + ENDLESS + bytes(100)
    file = part(data, (100, len(ENDLESS)))
    check_heaps(Path("w.h5"), file)
    file.seek(0)
    assert SIGNATURE not in (file.read() or b"")
    for shown in range(1, len(SIGNATURE)):  # the zeros of what is hidden end the signature
        file = part(data, (100 + shown, 100))
        file.seek(0)
        if SIGNATURE in (file.read() or b""):
            with pytest.raises(UnsafeFileError, match="heap"):
                check_heaps(Path("w.h5"), file)
