"""Correct TIFF, PNG and BMP files whose layout Pillow misreads, before their pixels are loaded.

Each function takes an opened image whose pixels are not loaded. A layout that cannot be corrected
is refused, since wrong pixels are worse than none.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING, Any

from probe.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

# TIFF tags
BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, SAMPLES = 258, 259, 262, 266, 277
OFFSETS, TILE_OFFSETS, TILE_BYTE_COUNTS, JPEG_TABLES = 273, 324, 325, 347
JPEG, DEFLATE = 7, (8, 32946)
BYTE_COUNTS, PLANES, COLOUR_MAP, SAMPLE_FORMAT, SUBSAMPLING = 279, 284, 320, 339, 530
UNCOMPRESSED, WHITE_IS_ZERO, BLACK_IS_ZERO, YCBCR, SIGNED, FLOAT, SEPARATE = 1, 0, 1, 6, 2, 3, 2

_AT_ONCE = 2**20  # bytes
COLOURS = ("RGB", "RGBA", "CMYK", "YCbCr")


def prepare(image: PillowImage, data: bytes, name: str) -> None:
    """Correct what Pillow made of a file's header.

    Raises
    ------
    ImageError
        Pillow would make other pixels of it than are stored.
    """
    if image.format == "TIFF":
        _prepare_tiff(image, name)
    elif image.format == "PNG":
        _prepare_png(image)
    elif image.format == "BMP":
        _check_bmp(image, data, name)


def _prepare_tiff(image: Any, name: str) -> None:
    tags = image.tag_v2
    bits = tags.get(BITS, (1,))
    if SIGNED in tags.get(SAMPLE_FORMAT, ()) and max(bits) <= 16:
        raise ImageError(
            name, f"has signed {max(bits)}-bit samples, whose range is not known; save it unsigned"
        )
    if tags.get(PLANES, 1) == SEPARATE and tags.get(SAMPLES, 1) > 1 and image.mode not in COLOURS:
        raise ImageError(
            name, "has grey, palette or CIELab samples in planes, which are not read; save it with "
            "interleaved samples",
        )  # fmt: skip
    if tags.get(COMPRESSION, UNCOMPRESSED) != UNCOMPRESSED:
        return  # libtiff reads those
    if tags.get(PHOTOMETRIC) == YCBCR and _is_subsampled(image):
        raise ImageError(
            name, "has uncompressed, subsampled YCbCr samples, which are not read; save it as RGB"
        )
    if tags.get(PHOTOMETRIC) == YCBCR and image.mode == "RGB":  # Pillow 11 took them for RGBX
        raise ImageError(
            name, "has uncompressed YCbCr samples, which the installed Pillow does not read; "
            "install a newer one, or save it as RGB",
        )  # fmt: skip
    if tags.get(PLANES, 1) == SEPARATE:
        _prepare_planes(image, name)


def parts_of_tiff(image: Any, data: bytes) -> Iterator[bytes]:
    """Yield the compressed strips or tiles of a TIFF; in JPEG compression each is a JPEG file."""
    tags = image.tag_v2
    offsets = tags.get(OFFSETS) or tags.get(TILE_OFFSETS) or ()
    counts = tags.get(BYTE_COUNTS) or tags.get(TILE_BYTE_COUNTS) or ()
    tables = tags.get(JPEG_TABLES) or b"" if tags.get(COMPRESSION) == JPEG else b""
    left = 8 * len(data)  # parts may overlap
    for offset, count in zip(offsets, counts, strict=False):
        part = data[offset : offset + count]
        left -= len(part) + len(tables)
        if left < 0:
            return
        # the tables have their own start and end markers
        yield tables[:-2] + part[2:] if tables else part


def deflate_damage(part: bytes, most: int) -> bool:
    """Whether a strip or tile does not match its checksum, which libtiff does not verify.

    Parameters
    ----------
    most : int
        Largest number of bytes to decompress.
    """
    stream = zlib.decompressobj()
    try:
        while part and most > 0 and not stream.eof:
            most -= len(stream.decompress(part, _AT_ONCE))
            part = stream.unconsumed_tail
    except zlib.error:
        return True
    return False


def describe_tiff(data: bytes) -> str | None:
    """Describe a TIFF that Pillow does not read; None where its header does not say."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    if data.startswith(b"MM\0+"):
        return "a big-endian BigTIFF"
    file = BytesIO(data)
    try:
        tags = ImageFileDirectory_v2(data[: 16 if b"+" in data[2:4] else 8])
        file.seek(tags.next)
        tags.load(file)
        bits, samples = tags.get(BITS, (1,)), tags.get(SAMPLES, 1)
        kind = {SIGNED: "signed ", FLOAT: "floating-point "}.get(
            tags.get(SAMPLE_FORMAT, (1,))[0], ""
        )
    except Exception:  # damaged directories make Pillow raise almost anything
        return None
    if PHOTOMETRIC not in tags:
        return None
    return (
        f"a TIFF with {samples} {kind}{'sample' if samples == 1 else 'samples'} a pixel of "
        f"{'/'.join(map(str, sorted({*bits})))} bits (photometric {tags.get(PHOTOMETRIC)}, "
        f"compression {tags.get(COMPRESSION, UNCOMPRESSED)})"
    )


def _is_subsampled(image: Any) -> bool:
    tags = image.tag_v2
    if SUBSAMPLING in tags:
        return tuple(tags[SUBSAMPLING]) != (1, 1)
    stored = sum(tags.get(BYTE_COUNTS, (0,)))  # by default both sides are halved
    return bool(stored < 3 * image.width * image.height)


def _prepare_planes(image: Any, name: str) -> None:
    """Tell the raw decoder the layout of a single plane.

    Pillow uses the first letter of the layout of all samples, which ignores 16 bits, white at zero
    and several pixels in a byte.
    """
    tags, mode = image.tag_v2, image.mode
    bits, samples = set(tags.get(BITS, (1,))), tags.get(SAMPLES, 1)
    plain = tags.get(FILL_ORDER, 1) == 1
    if plain and samples == 1 and mode in ("I;16", "I;16B") and bits == {16}:
        image.tile = [_with_layout(tile, mode) for tile in image.tile]
    elif plain and samples > 1 and mode in ("RGB", "RGBA") and bits == {16}:
        end = ";16L" if tags.prefix == b"II" else ";16B"
        image.tile = [_with_layout(tile, tile[3][0] + end) for tile in image.tile]
    elif not (
        plain
        and (bits == {8} or (bits == {1} and mode == "1"))
        and (samples > 1 or tags.get(PHOTOMETRIC) != WHITE_IS_ZERO)
    ):
        raise ImageError(
            name,
            f"has {max(bits)}-bit samples in uncompressed planes, which are not read; save it with "
            "interleaved samples",
        )


def _with_layout(tile: Any, layout: str) -> Any:
    return tile._replace(args=(layout, *tile.args[1:]))


def _prepare_png(image: Any) -> None:
    """Scale the transparent grey level or colour to the range of the loaded pixels."""
    value = image.info.get("transparency")
    layout = png_layout(image)
    if isinstance(value, int) and image.mode == "L":
        bits = {"L;2": 2, "L;4": 4}.get(layout, 8)
        top = (1 << bits) - 1  # higher bits have no meaning (PNG specification, tRNS)
        image.info["transparency"] = (value & top) * (255 // top)
    elif isinstance(value, tuple) and layout == "RGB":
        image.info["transparency"] = tuple(sample & 255 for sample in value)


def png_layout(image: Any) -> str:
    """Return Pillow's name of a PNG's sample layout; empty once the pixels are loaded."""
    if not image.tile:
        return ""
    args = image.tile[0][3]
    return str(args if isinstance(args, str) else args[0])


def _check_bmp(image: Any, data: bytes, name: str) -> None:
    at = 24 if int.from_bytes(data[14:18], "little") == 12 else 28
    bits = int.from_bytes(data[at : at + 2], "little")
    # with a palette of black and white, or of all greys, Pillow ignores the bits a pixel
    layout = image.tile[0][3][0] if image.tile[0][0] == "raw" else ""
    if layout in ("1", "L") and bits != {"1": 1, "L": 8}[layout]:
        raise ImageError(
            name, f"has {bits} bits a pixel and a grey palette, which is not read; save it as PNG"
        )
