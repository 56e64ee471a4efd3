from __future__ import annotations

import contextlib
import io
import struct
import sys
import threading
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from probe.datasets.images.decode import decode, decode_file
from probe.errors import ImageError

RAMP = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


def encoded(image: Image.Image, fmt: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def flat(mode: str, colour: object) -> Image.Image:
    return Image.new(mode, (8, 8), colour)  # type: ignore[arg-type]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, bits: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = (
        chunk(b"IHDR", header),
        *extra,
        chunk(b"IDAT", zlib.compress(rows)),
        chunk(b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("fmt", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("PPM", {}),
        ("JPEG2000", {}),
        ("TGA", {}),
    ],
)
def test_lossless_formats_give_the_very_pixels(fmt: str, options: dict[str, object]) -> None:
    pixels = decode(encoded(Image.fromarray(RAMP), fmt, **options), "x.tga")
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    np.testing.assert_array_equal(pixels, RAMP)


def test_jpeg() -> None:
    pixels = decode(encoded(flat("RGB", (200, 30, 90)), "JPEG", quality=95), "x")
    assert np.abs(pixels.astype(int) - (200, 30, 90)).max() <= 3


SHOWN = {  # what is stored -> what a person sees
    "grey": (lambda: encoded(flat("L", 77), "PNG"), (77, 77, 77)),
    "1-bit": (lambda: encoded(flat("1", 1), "PNG"), (255, 255, 255)),
    "1-bit TIFF, black": (lambda: encoded(flat("1", 0), "TIFF"), (0, 0, 0)),
    "palette": (lambda: encoded(flat("RGB", (9, 8, 7)).quantize(4), "PNG"), (9, 8, 7)),
    "opaque": (lambda: encoded(flat("RGBA", (9, 8, 7, 255)), "PNG"), (9, 8, 7)),
    "clear": (lambda: encoded(flat("RGBA", (9, 8, 7, 0)), "PNG"), (255, 255, 255)),
    "half clear": (lambda: encoded(flat("RGBA", (0, 100, 200, 127)), "PNG"), (128, 178, 228)),
    "WebP alpha": (
        lambda: encoded(flat("RGBA", (9, 8, 7, 0)), "WEBP", lossless=True),
        (255, 255, 255),
    ),
    "grey and alpha": (lambda: encoded(flat("LA", (10, 127)), "PNG"), (133, 133, 133)),
    "clear palette entry": (
        lambda: encoded(flat("P", 0), "PNG", transparency=b"\x00\xff"),
        (255, 255, 255),
    ),
    "clear palette index": (lambda: encoded(flat("P", 0), "GIF", transparency=0), (255, 255, 255)),
    "clear RGB colour": (
        lambda: encoded(flat("RGB", (1, 2, 3)), "PNG", transparency=(1, 2, 3)),
        (255, 255, 255),
    ),
    "clear grey": (lambda: encoded(flat("L", 5), "PNG", transparency=5), (255, 255, 255)),
    "CMYK TIFF": (lambda: encoded(flat("CMYK", (255, 0, 0, 0)), "TIFF"), (0, 255, 255)),
    "CMYK key": (lambda: encoded(flat("CMYK", (0, 0, 0, 255)), "TIFF"), (0, 0, 0)),
    "16-bit white": (lambda: encoded(flat("I;16", 65535), "PNG"), (255, 255, 255)),
    "16-bit dark": (lambda: encoded(flat("I;16", 257 * 3), "PNG"), (3, 3, 3)),
    "16-bit TIFF": (lambda: encoded(flat("I;16", 257 * 200), "TIFF"), (200, 200, 200)),
    "16-bit RGB": (
        lambda: png(1, 1, 16, 2, b"\0" + struct.pack(">HHH", 257 * 9, 257 * 100, 65535)),
        (9, 100, 255),
    ),
    "16-bit grey and alpha": (
        lambda: png(1, 1, 16, 4, b"\0" + struct.pack(">HH", 0, 0)),
        (255, 255, 255),
    ),
    "16-bit clear grey": (
        lambda: png(
            1, 1, 16, 0, b"\0" + struct.pack(">H", 700), chunk(b"tRNS", struct.pack(">H", 700))
        ),
        (255, 255, 255),
    ),
    "2-bit": (lambda: png(1, 1, 2, 0, b"\0\x40"), (85, 85, 85)),
}


@pytest.mark.parametrize("name", SHOWN)
def test_what_a_person_sees(name: str) -> None:
    make, colour = SHOWN[name]
    pixels = decode(make(), name)
    assert pixels.shape[2] == 3
    assert (pixels == colour).all(), pixels[0, 0]


def test_cmyk_jpeg_is_inverted_as_adobe_writes_it() -> None:
    data = encoded(flat("CMYK", (255, 0, 0, 0)), "JPEG", quality=100)
    assert b"Adobe" in data
    assert np.abs(decode(data, "x").astype(int) - (0, 255, 255)).max() <= 3


def test_ycck_jpeg() -> None:
    """Libjpeg turns YCCK into CMYK; only the Adobe marker's last byte tells them apart."""
    data = bytearray(encoded(flat("CMYK", (0, 0, 0, 128)), "JPEG", quality=100))
    data[data.index(b"Adobe") + 11] = 2
    # As YCC the stored (255, 255, 255) is C, M, Y = (0, 134, 0), and inverted (255, 121, 255);
    # with a key of 128 that is a dark green.
    assert np.abs(decode(bytes(data), "x").astype(int) - (0, 67, 0)).max() <= 3


def test_16_bits_that_are_white_at_zero() -> None:
    black_is_zero = struct.pack("<HHIH", 262, 3, 1, 1)  # the tag, its type, count and value
    data = encoded(flat("I;16", 257 * 5), "TIFF")
    assert black_is_zero in data
    data = data.replace(black_is_zero, struct.pack("<HHIH", 262, 3, 1, 0))
    assert (decode(data, "x") == 250).all()


UPRIGHT = np.zeros((16, 24, 3), np.uint8)
UPRIGHT[:8, :8] = 255  # a white corner, top left
AS_HELD: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_rotation_is_undone(fmt: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    stored = Image.fromarray(np.ascontiguousarray(AS_HELD[orientation](UPRIGHT)))
    pixels = decode(encoded(stored, fmt, exif=exif), "x")
    assert pixels.shape == UPRIGHT.shape
    assert np.abs(pixels.astype(int) - UPRIGHT).max() < 100


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"MM\0*\0\0\0\x08\xff\xff"]
)
def test_damaged_metadata_does_not_cost_the_image(exif: bytes) -> None:
    pixels = decode(encoded(Image.fromarray(RAMP), "JPEG", exif=exif), "x")
    assert pixels.shape == RAMP.shape


@pytest.mark.parametrize(("mode", "kind"), [("F", "floating-point"), ("I", "32-bit integer")])
def test_pixels_without_a_range_are_refused(mode: str, kind: str) -> None:
    with pytest.raises(ImageError, match=f"x.tif: has {kind} pixels"):
        decode(encoded(flat(mode, 1), "TIFF"), "x.tif")


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF"])
def test_half_a_file_is_an_error_with_its_path(fmt: str, tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8))
    data = encoded(noise, fmt)
    path = tmp_path / "half.img"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match=r"half\.img: ") as caught:
        decode_file(str(path))
    assert "\n" not in str(caught.value)


def test_empty_and_foreign_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "b.jpg").write_text("<html>404</html>")
    with pytest.raises(ImageError, match=r"a\.jpg: is empty"):
        decode_file(str(tmp_path / "a.jpg"))
    with pytest.raises(ImageError, match=r"b\.jpg: is a web page, which"):
        decode_file(str(tmp_path / "b.jpg"))
    with pytest.raises(ImageError, match=r"c\.jpg: cannot be opened"):
        decode_file(str(tmp_path / "c.jpg"))


@pytest.mark.parametrize("side", [14_000, 60_000])
def test_a_decompression_bomb_is_refused(side: int) -> None:
    with pytest.raises(ImageError, match=r"bomb: has .*pixels"):
        decode(png(side, side, 8, 2, b""), "bomb")


def test_a_large_image_below_the_limit_does_not_warn() -> None:
    width, height = 10_000, 9_500  # Pillow would warn about a decompression bomb
    rows = (b"\0" + bytes(width // 8)) * height
    assert decode(png(width, height, 1, 0, rows), "x").shape == (height, width, 3)


def test_threads_agree_and_leave_the_warnings_alone() -> None:
    data = encoded(flat("P", 0), "PNG", transparency=b"\x00\xff")
    decode(data, "x")
    before, wrong = list(warnings.filters), []

    def work() -> None:
        wrong.extend(1 for _ in range(50) if not (decode(data, "x") == 255).all())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert list(warnings.filters) == before


@given(st.sampled_from(["JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF"]), st.data())
@settings(deadline=None, max_examples=200)
def test_damaged_bytes_give_an_image_or_an_image_error(fmt: str, data: st.DataObject) -> None:
    whole = bytearray(encoded(Image.fromarray(RAMP), fmt))
    for _ in range(data.draw(st.integers(1, 5))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ImageError):
        assert decode(bytes(whole), "x").ndim == 3


def test_avif_is_read() -> None:
    pixels = decode(encoded(flat("RGB", (200, 30, 60)), "AVIF", quality=100), "x")
    assert np.abs(pixels.astype(int) - (200, 30, 60)).max() <= 3  # its colours are rounded twice


def test_portable_maps_of_any_depth() -> None:
    values = np.array([[0, 1000, 2000], [40000, 65534, 65535]])
    for most, bits in ((65535, values), (4095, values % 4096)):
        data = f"P5 3 2 {most}\n".encode() + bits.astype(">u2").tobytes()
        right = np.round(bits * 255 / most)
        np.testing.assert_array_equal(decode(data, "x")[:, :, 1], right)
    assert decode(b"P2 2 2 15\n0 5 10 15\n", "x")[:, :, 0].tolist() == [[0, 85], [170, 255]]
    assert decode(b"P1 2 1\n0 1\n", "x")[:, :, 0].tolist() == [[255, 0]]  # 1 is black


def test_targa_is_read_by_its_name_only() -> None:
    """It has no mark: any bytes may look like it."""
    with pytest.raises(ImageError, match="is not a JPEG"):
        decode(encoded(Image.fromarray(RAMP), "TGA"), "x.jpg")


def test_a_format_that_the_installed_pillow_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["probe.datasets.images.decode"], "_load_rare", lambda _: False)
    with pytest.raises(ImageError, match="is a JPEG2000 image, which the installed Pillow cannot"):
        decode(encoded(Image.fromarray(RAMP), "JPEG2000"), "x")
