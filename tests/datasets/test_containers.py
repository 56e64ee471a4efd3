"""Layouts of TIFF, PNG, BMP and GIF, against pixels that are known or reckoned here.

The files come from small writers of our own, so that no decoder decides what is right.
"""

from __future__ import annotations

import io
import logging
import struct
import zlib
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from PIL import Image

from probe.datasets.images.decode import decode, decode_pillow
from probe.errors import ImageError
from tests.datasets.test_decode import chunk, encoded, png
from tests.datasets.tiffs import tiff

RNG = np.random.default_rng(0)
LAYOUTS = list(product("<>", (False, True), (False, True), (None, 5), (None, 16)))


def close(found: np.ndarray, expected: np.ndarray, within: int = 1) -> bool:
    return found.shape == expected.shape and np.abs(found - expected.astype(int)).max() <= within


def triple(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey.reshape(*grey.shape[:2], 1), 3, axis=2)


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha.astype(float) / 255
    return np.round(colour * share + 255 * (1 - share))


def grey_as_shown(samples: np.ndarray, bits: int, photometric: int) -> np.ndarray:
    shown = np.round(samples * 255.0 / ((1 << bits) - 1))
    return triple(255 - shown if photometric == 0 else shown)


def from_lab(samples: np.ndarray) -> np.ndarray:
    """CIE 1976 L*a*b* (8 bits, a and b signed) under D50 to sRGB."""
    light = samples[:, :, 0] * 100 / 255
    a, b = (samples[:, :, i].astype(np.uint8).view(np.int8).astype(float) for i in (1, 2))
    y = (light + 16) / 116
    f = np.stack([y + a / 500, y, y - b / 200], axis=2)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * (0.96422, 1, 0.82521)
    matrix = np.array(
        [
            [3.1338561, -1.6168667, -0.4906146],
            [-0.9787684, 1.9161415, 0.0334540],
            [0.0719453, -0.2289914, 1.4052427],
        ]
    )
    linear = np.clip(xyz @ matrix.T, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def from_ycbcr(samples: np.ndarray) -> np.ndarray:
    y, cb, cr = (samples[:, :, i].astype(float) for i in range(3))
    cb, cr = cb - 128, cr - 128
    rgb = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=2)
    return np.clip(np.round(rgb), 0, 255)


def made(kind: str, bits: int) -> tuple[np.ndarray, int, dict[int, tuple[int, ...]], np.ndarray]:
    """Return samples, photometric interpretation, further tags and what should be seen."""
    count = {"grey": 1, "white": 1, "palette": 1, "LA": 2}.get(kind, 4 if kind[-1] in "AXK" else 3)
    samples = RNG.integers(0, 1 << min(bits, 8), (13, 11, count))
    if bits == 16:
        samples = samples * 257
    if kind in ("grey", "white"):
        samples = RNG.integers(0, 1 << bits, (13, 11, 1))
        white = int(kind == "grey")
        return samples, white, {}, grey_as_shown(samples, bits, white)
    if kind == "palette":
        table = RNG.integers(0, 256, (3, 1 << bits))
        tags = {320: tuple((table * 257).reshape(-1).tolist())}
        return samples, 3, tags, table.T[samples[:, :, 0]]
    high = samples >> 8 if bits == 16 else samples
    colour, alpha = high[:, :, :-1], high[:, :, -1:]
    match kind:
        case "RGB":
            found = samples, 2, {}, high
        case "RGBX":
            found = samples, 2, {338: (0,)}, colour
        case "RGBA":
            found = samples, 2, {338: (2,)}, over_white(colour, alpha)
        case "LA":
            found = samples, 1, {338: (2,)}, triple(over_white(colour, alpha))
        case "CMYK":
            found = samples, 5, {}, np.round((255 - colour) * (255 - alpha) / 255)
        case "YCbCr":
            found = samples, 6, {530: (1, 1)}, from_ycbcr(samples)
        case "Lab":  # colours that a screen has
            samples[:, :, 0] = 100 + samples[:, :, 0] // 4
            samples[:, :, 1:] = (samples[:, :, 1:] // 8 - 16) & 255
            found = samples, 8, {}, from_lab(samples)
    return found


KINDS = [
    *product(("grey", "white"), (1, 2, 4, 8, 12, 16)),
    *product(("palette",), (1, 2, 4, 8)),
    *product(("RGB", "RGBA", "RGBX", "CMYK"), (8, 16)),
    *product(("LA", "YCbCr", "Lab"), (8,)),
]
READ = {  # layouts, of 24, that are read; the others are refused
    "grey1": 24, "grey2": 18, "grey4": 18, "grey8": 24, "grey12": 9, "grey16": 24,
    "white1": 18, "white2": 18, "white4": 18, "white8": 18, "white12": 0, "white16": 12,
}  # fmt: skip


@pytest.mark.parametrize(("kind", "bits"), KINDS, ids=str)
def test_a_tiff_is_read_right_or_refused(kind: str, bits: int) -> None:
    read = 0
    for order, planar, deflate, rows, tile in LAYOUTS:
        if rows and tile:
            continue
        for lsb_first in (False, True):
            samples, photometric, more, expected = made(kind, bits)
            layout = {
                "order": order, "planar": planar, "deflate": deflate, "rows": rows, "tile": tile
            }  # fmt: skip
            data = tiff(
                samples, bits=bits, photometric=photometric, more=more, lsb_first=lsb_first,
                **layout,
            )  # fmt: skip
            try:
                found = decode(data, "x")
            except ImageError:
                continue
            assert close(found, expected, 2 if kind in ("YCbCr", "Lab") else 1), layout
            read += not lsb_first
    assert read == READ.get(kind + str(bits), read)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("layout", [{}, {"rows": 5}, {"tile": 16}], ids=str)
@pytest.mark.parametrize("count", [3, 4])
def test_16_bit_planes_are_decoded(order: str, layout: dict[str, int], count: int) -> None:
    samples = RNG.integers(0, 65_536, (40, 33, count))
    more = {338: (2,)} if count == 4 else {}
    found = decode(
        tiff(samples, bits=16, photometric=2, order=order, planar=True, more=more, **layout), "x"
    )
    high = samples >> 8
    assert close(found, high if count == 3 else over_white(high[:, :, :3], high[:, :, 3:]))


@pytest.mark.parametrize("bits", [8, 16])
def test_a_predictor_is_undone(bits: int) -> None:
    samples = RNG.integers(0, 256, (9, 14, 3)) * (257 if bits == 16 else 1)
    data = tiff(samples, bits=bits, photometric=2, deflate=True, predictor=True)
    assert close(decode(data, "x"), samples >> bits - 8, 0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tiff(np.ones((4, 4, 1), int), bits=16, more={339: (2,)}), "signed 16-bit samples"),
        (tiff(np.ones((4, 4, 1), int), bits=8, more={339: (2,)}), "signed 8-bit samples"),
        (
            tiff(np.ones((4, 4, 3), int), photometric=2, more={339: (2, 2, 2)}),
            "3 signed samples a pixel of",
        ),
        (tiff(np.ones((4, 4, 5), int), photometric=5, bits=16), "5 samples a pixel of 16 bits"),
        (b"MM\0+\0\x08\0\0" + bytes(60), "a big-endian BigTIFF"),
        (tiff(np.ones((4, 4, 1), int), bits=32, more={339: (3,)}), "floating-point"),
        (tiff(np.ones((4, 4, 3), int), photometric=6, more={530: (2, 2)}), "subsampled YCbCr"),
        (tiff(np.ones((4, 4, 1), int), bits=4, planar=True), "4-bit samples in .* planes"),
    ],
)
def test_what_has_no_agreed_meaning_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        decode(data, "x")


def test_pillow_logs_nothing_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ImageError, match="a TIFF with 40 samples a pixel of 8 bits"):
        decode(tiff(np.ones((2, 2, 40), int), photometric=2), "x")
    assert not logging.getLogger("PIL.TiffImagePlugin").isEnabledFor(logging.ERROR)
    assert capfd.readouterr().err == ""


def test_a_palette_of_8_bits_an_entry_is_not_black() -> None:
    """Old writers left the upper halves of the 16-bit entries empty, as libtiff knows."""
    table = RNG.integers(0, 256, (3, 256))
    samples = RNG.integers(0, 256, (6, 7, 1))
    data = tiff(samples, photometric=3, more={320: tuple(table.reshape(-1).tolist())})
    assert close(decode(data, "x"), table.T[samples[:, :, 0]], 0)


def packed(values: np.ndarray, bits: int) -> bytes:
    if bits == 16:
        return b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    each = (values[:, :, None] >> np.arange(bits - 1, -1, -1)) & 1
    rows = np.packbits(each.reshape(len(values), -1).astype(np.uint8), axis=1)
    return b"".join(b"\0" + row.tobytes() for row in rows)


@pytest.mark.parametrize(
    ("bits", "clear"), [(1, 0), (1, 1), (2, 1), (2, 3), (4, 5), (8, 85), (16, 770)]
)
@pytest.mark.parametrize("stray", [0, 1 << 13])
def test_a_clear_grey_level_of_a_png(bits: int, clear: int, stray: int) -> None:
    values = RNG.integers(0, 1 << bits, (12, 10))
    values[3, 4] = clear
    trns = clear if bits in (1, 16) else clear | stray  # only the low bits have a meaning
    data = png(10, 12, bits, 0, packed(values, bits), chunk(b"tRNS", struct.pack(">H", trns)))
    shown = triple(np.round(values * 255.0 / ((1 << bits) - 1)))
    shown[values == clear] = 255
    found = decode(data, "x")
    assert close(found, shown)
    np.testing.assert_array_equal(decode_pillow(Image.open(io.BytesIO(data)), "x"), found)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_clear_colour_of_a_png(bits: int) -> None:
    values = RNG.integers(0, 1 << bits, (12, 10, 3))
    key = values[3, 4].copy()
    values[5, 6] = key
    values[7, 8] = key ^ (1, 0, 0)  # differs in the lowest bit: not clear
    data = png(
        10, 12, bits, 2, b"".join(b"\0" + row.astype(f">u{bits // 8}").tobytes() for row in values),
        chunk(b"tRNS", key.astype(">u2").tobytes()),
    )  # fmt: skip
    shown = values >> bits - 8
    shown[(values == key).all(axis=2)] = 255
    found = decode(data, "x")
    np.testing.assert_array_equal(found, shown)
    assert (found[7, 8] != 255).any()
    np.testing.assert_array_equal(decode_pillow(Image.open(io.BytesIO(data)), "x"), found)


ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
         (0, 1, 1, 2))  # fmt: skip


@pytest.mark.parametrize(("bits", "clear"), [(2, None), (8, None), (16, 500), (4, 7)])
def test_an_interlaced_png(bits: int, clear: int | None) -> None:
    values = RNG.integers(0, 1 << bits, (11, 9))
    if clear is not None:
        values[2, 2] = clear
    rows = b"".join(
        packed(values[y::down, x::across], bits)
        for x, y, across, down in ADAM7
        if values[y::down, x::across].size
    )
    header = struct.pack(">IIBBBBB", 9, 11, bits, 0, 0, 0, 1)
    trns = b"" if clear is None else chunk(b"tRNS", struct.pack(">H", clear))
    data = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + trns
        + chunk(b"gAMA", struct.pack(">I", 100_000))  # ignored
        + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )  # fmt: skip
    shown = triple(np.round(values * 255.0 / ((1 << bits) - 1)))
    shown[values == clear] = 255
    assert close(decode(data, "x"), shown)


def bmp(pixels: np.ndarray, bits: int, palette: bytes = b"", masks: bytes = b"") -> bytes:
    """Rows of bytes, the bottom one first in the file."""
    size = 40 + (68 if masks else 0)
    body = b"".join(
        row.tobytes().ljust(-(-len(row.tobytes()) // 4) * 4, b"\0") for row in pixels[::-1]
    )
    width = pixels.shape[1] * 8 // bits if pixels.ndim == 2 else pixels.shape[1]
    head = struct.pack(
        "<IiiHHIIiiII", size, width, len(pixels), 1, bits, 3 if masks else 0, len(body), 0, 0,
        len(palette) // 4, 0,
    )  # fmt: skip
    head += masks.ljust(68, b"\0") if masks else b""
    at = 14 + len(head) + len(palette)
    return b"BM" + struct.pack("<IHHI", at + len(body), 0, 0, at) + head + palette + body


def test_an_unused_alpha_of_a_bmp_is_not_transparency() -> None:
    bgra = RNG.integers(0, 256, (6, 5, 4), np.uint8)
    bgra[:, :, 3] = 0  # as screenshots are saved
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    rgb = bgra[:, :, 2::-1]
    np.testing.assert_array_equal(decode(bmp(bgra, 32, masks=masks), "x"), rgb)
    np.testing.assert_array_equal(decode(bmp(bgra, 32), "x"), rgb)
    bgra[0, 0, 3] = 255
    used = decode(bmp(bgra, 32, masks=masks), "x")
    assert (used[0, 0] == rgb[0, 0]).all()
    assert (used[1:] == 255).all()


def test_a_bmp_that_uses_two_greys_of_many_is_not_read_as_bits() -> None:
    values = RNG.integers(0, 2, (4, 8), np.uint8)
    black_and_white = b"\0\0\0\0\xff\xff\xff\0"
    with pytest.raises(ImageError, match="8 bits a pixel and a grey palette"):
        decode(bmp(values, 8, black_and_white), "x")
    bits = np.packbits(values, axis=1)
    assert close(decode(bmp(bits, 1, black_and_white), "x"), triple(values * 255), 0)


def test_around_a_gifs_first_frame_is_nothing() -> None:
    small = Image.new("P", (8, 8), 1)
    small.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255] + [0] * 759)
    data = bytearray(encoded(small, "GIF"))
    data[6:10] = struct.pack("<HH", 16, 12)  # the canvas
    found = decode(bytes(data), "x")
    assert found.shape == (12, 16, 3)
    assert (found[:8, :8] == (0, 255, 0)).all()
    assert (found[8:] == 255).all()
    assert (found[:, 8:] == 255).all()


FRAMES = [Image.fromarray(np.full((6, 5, 3), value, np.uint8)) for value in (40, 200)]


@pytest.mark.parametrize("fmt", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_the_first_frame_counts(fmt: str) -> None:
    options = {"WEBP": {"lossless": True}, "MPO": {"quality": 100}}.get(fmt, {})
    data = encoded(FRAMES[0], fmt, save_all=True, append_images=FRAMES[1:], **options)
    assert np.abs(decode(data, "x").astype(int) - 40).max() <= 1


LOADED: dict[str, Callable[[], bytes]] = {
    "grey 16": lambda: encoded(Image.new("I;16", (4, 3), 700), "PNG"),
    "palette": lambda: encoded(FRAMES[0].quantize(4), "PNG", transparency=b"\x00\xff"),
    "JPEG": lambda: encoded(FRAMES[0], "JPEG"),
    "CMYK": lambda: encoded(FRAMES[0].convert("CMYK"), "TIFF"),
    "planes": lambda: tiff(RNG.integers(0, 65_536, (5, 6, 3)), bits=16, photometric=2, planar=True),
    "WebP": lambda: encoded(FRAMES[0].convert("RGBA"), "WEBP"),
    "GIF": lambda: encoded(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]),
    "turned": lambda: encoded(FRAMES[0], "JPEG", exif=turned()),
    "turned TIFF": lambda: encoded(FRAMES[0], "TIFF", exif=turned()),
}


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[274] = 6
    return exif


@pytest.mark.parametrize("kind", LOADED)
def test_an_opened_image_has_the_pixels_of_its_file(kind: str, tmp_path) -> None:
    data = LOADED[kind]()
    (tmp_path / "a").write_bytes(data)
    expected = decode(data, "x")
    with Image.open(tmp_path / "a") as image:
        np.testing.assert_array_equal(decode_pillow(image, "x"), expected)
    image = Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(decode_pillow(image, "x"), expected)
    if kind != "planes":  # Pillow has loaded wrong pixels by then
        image.load()
        np.testing.assert_array_equal(decode_pillow(image, "x"), expected)


def test_what_a_loaded_png_no_longer_tells_is_refused() -> None:
    data = png(4, 1, 2, 0, b"\0\x1b", chunk(b"tRNS", struct.pack(">H", 1)))
    image = Image.open(io.BytesIO(data))
    image.load()
    with pytest.raises(ImageError, match="lost its meaning"):
        decode_pillow(image, "x")


def test_an_image_changed_since_it_was_opened_is_taken_as_it_is() -> None:
    image = Image.open(io.BytesIO(encoded(FRAMES[0], "PNG")))
    image.putpixel((0, 0), (1, 2, 3))
    assert decode_pillow(image, "x")[0, 0].tolist() == [1, 2, 3]


def test_a_12_bit_jpeg_and_others_are_named() -> None:
    data = bytearray(encoded(FRAMES[0], "JPEG"))
    data[data.index(b"\xff\xc0") + 4] = 12
    with pytest.raises(ImageError, match="is a JPEG file of a kind that is not read"):
        decode(bytes(data), "x")
