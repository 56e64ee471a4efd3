"""What docs/decoding.md says of `Image.open(path).convert("RGB")` and of us, seen on files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from probe.datasets.images.decode import MAX_BYTES, MAX_PIXELS, decode
from tests.datasets.test_containers import turned
from tests.datasets.test_decode import chunk, encoded, flat, png
from tests.datasets.tiffs import tiff

PAGE = (Path(__file__).parents[2] / "docs" / "decoding.md").read_text(encoding="utf-8")


def plain(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


ROWS = {  # what the page names -> a file, the first pixel of convert("RGB"), ours
    "transparency": (encoded(flat("RGBA", (9, 8, 7, 0)), "PNG"), 9, 255),
    "16 bits, grey": (encoded(flat("I;16", 257 * 200), "PNG"), 255, 200),
    "16 bits, colour": (tiff(np.full((2, 2, 3), 0x1234), bits=16, photometric=2), 0x12, 0x12),
    "12 bits in a TIFF": (tiff(np.full((2, 2, 1), 2048), bits=12), 255, 128),
    "white at zero": (tiff(np.full((2, 2, 1), 255), bits=16, photometric=0), 255, 254),
    "gamma": (png(1, 1, 8, 0, b"\0\x40", chunk(b"gAMA", bytes((0, 1, 0x86, 0xA0)))), 64, 64),
    "2- or 4-bit PNG": (png(1, 1, 2, 0, b"\0\x40", chunk(b"tRNS", b"\0\1")), 85, 255),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_of_the_page(name: str) -> None:
    data, theirs, ours = ROWS[name]
    assert name in PAGE
    assert plain(data)[0, 0, 0] == theirs
    assert decode(data, "x")[0, 0, 0] == ours


def test_turned_images() -> None:
    data = encoded(Image.new("RGB", (4, 2)), "PNG", exif=turned())
    assert plain(data).shape == (2, 4, 3)
    assert decode(data, "x").shape == (4, 2, 3)


def test_the_page_has_our_limits() -> None:
    assert f"{MAX_PIXELS:,} pixels" in PAGE
    assert f"{MAX_BYTES // 2**30} GiB" in PAGE
