"""Every layout of PNG and TIFF, against decoders that share no code with Pillow.

pypng and tifffile give the samples that a file holds; what those look like is reckoned here.
"""

from __future__ import annotations

import io
from itertools import product

import numpy as np
import png
import pytest
import tifffile

from probe.datasets.images.decode import decode
from probe.errors import ImageError
from tests.datasets.tiffs import tiff

RNG = np.random.default_rng(3)


def laid_over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Both (height, width, n), 0 to 255, as floats."""
    return colour * alpha / 255 + 255 - alpha


def grey_to_rgb(samples: np.ndarray) -> np.ndarray:
    return np.repeat(samples, 3, axis=2) if samples.shape[2] == 1 else samples


def png_file(  # noqa: PLR0917
    kind: str, bits: int, interlaced: bool, clear: bool, height: int, width: int
) -> bytes:
    colours = 1 if kind in ("grey", "grey alpha", "palette") else 3
    samples = RNG.integers(0, 1 << bits, (height, width, colours + kind.endswith("alpha")))
    options: dict[str, object] = {}
    if kind == "palette":
        entries = RNG.integers(0, 256, (1 << bits, 4)).tolist()
        half = len(entries) // 2 if clear else 0  # a tRNS that is shorter than the palette
        options["palette"] = [tuple(one[: 4 if n < half else 3]) for n, one in enumerate(entries)]
    elif clear:
        first = samples[0, 0].tolist()
        options["transparent"] = first[0] if kind == "grey" else tuple(first)
    writer = png.Writer(
        width, height, greyscale=kind.startswith("grey"), alpha=kind.endswith("alpha"),
        bitdepth=bits, interlace=interlaced, **options,
    )  # fmt: skip
    out = io.BytesIO()
    writer.write(out, samples.reshape(height, -1).tolist())
    return out.getvalue()


PNG_KINDS = [
    *product(("grey", "palette"), (1, 2, 4, 8)), ("grey", 16), *product(("rgb",), (8, 16)),
    *product(("grey alpha", "rgb alpha"), (8, 16)),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "bits"), PNG_KINDS, ids=str)
def test_a_png_has_the_pixels_of_another_decoder(kind: str, bits: int) -> None:
    clears = (False,) if kind.endswith("alpha") else (False, True)
    for interlaced, clear, size in product((False, True), clears, ((13, 17), (1, 1), (3, 2))):
        data = png_file(kind, bits, interlaced, clear, *size)
        width, height, rows, told = png.Reader(bytes=data).asDirect()
        samples = np.array([*rows], float).reshape(height, width, told["planes"])
        samples *= 255 / ((1 << told["bitdepth"]) - 1)
        colour = grey_to_rgb(samples[:, :, :-1] if told["alpha"] else samples)
        expected = laid_over_white(colour, samples[:, :, -1:]) if told["alpha"] else colour
        found = decode(data, "x")
        assert found.shape == expected.shape
        # of 16 bits beside a colour or an alpha the upper 8 are kept
        assert np.abs(found - expected).max() <= (2 if bits == 16 else 1), (interlaced, clear, size)


def as_seen(page: tifffile.TiffPage) -> np.ndarray:
    """What the samples of a page look like, float, (height, width, 3), 0 to 255."""
    values = page.asarray()
    if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and page.samplesperpixel > 1:
        values = np.moveaxis(values, 0, -1)
    values = values.reshape(page.imagelength, page.imagewidth, page.samplesperpixel)
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
        return (page.colormap.T[values[:, :, 0]] >> 8).astype(float)
    samples = values * (255 / ((1 << page.bitspersample) - 1))
    colours = page.samplesperpixel - len(page.extrasamples)
    colour, extra = samples[:, :, :colours], samples[:, :, colours : colours + 1]
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        colour = 255 - colour
    if page.photometric == tifffile.PHOTOMETRIC.SEPARATED:
        colour = (255 - colour[:, :, :3]) * (255 - colour[:, :, 3:]) / 255
    colour = grey_to_rgb(colour)
    kind = page.extrasamples[0] if page.extrasamples else 0
    if kind == tifffile.EXTRASAMPLE.UNASSALPHA:
        return laid_over_white(colour, extra)
    if kind == tifffile.EXTRASAMPLE.ASSOCALPHA:  # its colours were multiplied already
        return np.minimum(colour + 255 - extra, 255)
    return colour


def check_tiff(data: bytes) -> bool:
    """Compare with tifffile's samples; whether it was read."""
    try:
        found = decode(data, "x")
    except ImageError:
        return False
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        expected = as_seen(page)
        deep = page.bitspersample == 16 and page.samplesperpixel > 1
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= (3 if deep else 1)
    return True


TIFF_TYPES = ("u1", "u2", "u4", "i1", "i2", "f2", "f4")
TIFF_KINDS = {
    "minisblack": (1, ()), "miniswhite": (1, ()), "palette": (1, ()), "rgb": (3, ()),
    "rgb alpha": (3, (2,)), "rgb premultiplied": (3, (1,)), "rgb spare": (3, (0,)),
    "minisblack alpha": (1, (2,)), "separated": (4, ()), "rgb two spare": (3, (0, 0)),
}  # fmt: skip
LAYOUTS = [*product("<>", (False, True), (None, "zlib"), (False, True), (None, 16))]


@pytest.mark.parametrize("sample", TIFF_TYPES)
@pytest.mark.parametrize("kind", TIFF_KINDS)
def test_a_tiff_has_the_pixels_of_another_decoder_or_is_refused(kind: str, sample: str) -> None:
    colours, extra = TIFF_KINDS[kind]
    dtype, count, read = np.dtype(sample), colours + len(extra), []
    if kind == "palette" and sample != "u1":
        return
    for order, planar, compression, predictor, tile in LAYOUTS[
        :: 1 if sample in ("u1", "u2") else 5
    ]:
        big = sample == "u1" and bool(tile) and order == "<"
        if (planar and count == 1) or (predictor and (compression is None or dtype.kind == "f")):
            continue
        raw = RNG.integers(0, 256, (19, 21, count * dtype.itemsize), np.uint8)
        values = RNG.random((19, 21, count)) if dtype.kind == "f" else raw.view(dtype)
        if "premultiplied" in kind and dtype.kind == "u":
            values = np.minimum(values, values[:, :, 3:])  # no colour is more than its alpha
        values = np.moveaxis(values, -1, 0) if planar else values
        options: dict[str, object] = {"tile": (16, 16)} if tile else {"rowsperstrip": 7}
        if count > 1:
            options["planarconfig"] = "separate" if planar else "contig"
        if kind == "palette":
            options["colormap"] = RNG.integers(0, 65_536, (3, 256)).astype("u2")
        if predictor:
            options["predictor"] = True
        if extra:
            options["extrasamples"] = extra
        out = io.BytesIO()
        tifffile.imwrite(
            out, np.ascontiguousarray(values[..., 0] if count == 1 else values, dtype),
            photometric=kind.partition(" ")[0], byteorder=order, bigtiff=big,
            compression=compression, metadata=None, **options,
        )  # fmt: skip
        read.append(check_tiff(out.getvalue()))
    if sample == "u1" and kind in ("minisblack", "rgb", "rgb alpha", "separated"):
        assert all(read)
    if sample in ("u4", "i1", "i2", "f2", "f4"):
        assert not any(read)


@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("bits", [1, 16])  # tifffile alone reads no others
def test_a_tiff_of_grey_bits_has_the_pixels_of_another_decoder(photometric: int, bits: int) -> None:
    read = []
    for order, deflate, rows in product("<>", (False, True), (None, 5)):
        samples = RNG.integers(0, 1 << bits, (13, 11, 1))
        data = tiff(
            samples, bits=bits, photometric=photometric, order=order, deflate=deflate, rows=rows
        )
        read.append(check_tiff(data))
    assert any(read)
    if (photometric, bits) != (0, 16):  # of those the big-endian ones are refused
        assert all(read)
