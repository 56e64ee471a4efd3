"""Decode image files to RGB, as an image viewer shows them.

Grey, palette, CMYK and YCCK become RGB; transparent parts are laid over white; 16 bits are
scaled to 8, not clipped; EXIF's rotation is applied; only the first frame of an animation is read.
Colour profiles and gamma are ignored, as they were when the weights were trained. Integer pixels
of 32 bits, signed ones and floating-point pixels have no agreed range and are refused.
`docs/decoding.md` says where that departs from ``Image.open(path).convert("RGB")``.

Decoding and resizing takes about ten bytes a pixel. Each thread may hold a small image; the large
ones of a process share `TOGETHER` pixels, and a larger one waits until it is alone.
"""

from __future__ import annotations

import io
import logging
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ctypes import CDLL
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import IO, TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from probe.core.regular import open_regular, patiently, read_regular
from probe.datasets.images.containers import (
    BITS,
    COLOUR_MAP,
    COMPRESSION,
    DEFLATE,
    JPEG,
    PHOTOMETRIC,
    WHITE_IS_ZERO,
    deflate_damage,
    describe_tiff,
    parts_of_tiff,
    png_layout,
    prepare,
)
from probe.datasets.images.image_files import foreign, format_of
from probe.datasets.images.notes import Notes, Reading
from probe.datasets.images.streams import (
    MISSING,
    guarded,
    jpeg_damage,
    png_damage,
    read_jpeg,
    webp_damage,
)
from probe.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

PLUGINS = ("Jpeg", "Mpo", "Png", "Bmp", "WebP", "Gif", "Tiff")
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF")
RARE = {
    "PPM": "Ppm",
    "JPEG2000": "Jpeg2K",
    "AVIF": "Avif",
    "TGA": "Tga",
}  # plugins that are loaded when first needed
MAX_PIXELS = 178_956_970  # where Pillow refuses by default: 0.5 GB as RGB
MAX_BYTES = 2**30  # larger than all but the widest TIFFs
BLOCK = 2**26  # bytes of Pillow's memory blocks
PART = 2**22  # pixels that are converted at once
ORIENTATION = 274  # EXIF tag
SIDES = (256, 257)  # TIFF tags of width and height
BEGINNING = 4096  # bytes that show a file's format

_PILLOW = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


def decode_file(path: str) -> NDArray[np.uint8]:
    """Read an image file as RGB, uint8, (height, width, 3). See `decode`."""
    return decode(read_file(path), path)


def read_file(path: str) -> bytes:
    """Return a file's bytes; raise ImageError where it cannot be read or is too large."""
    try:
        return patiently(lambda: read_regular(path, MAX_BYTES))
    except MemoryError as error:
        raise ImageError(path, "takes more memory than there is") from error
    except OSError as error:
        raise ImageError(path, f"cannot be opened: {error.strerror or error}") from error


def decode(data: bytes, name: str, notes: Notes | None = None) -> NDArray[np.uint8]:
    """Decode the bytes of an image file. Safe to call from threads.

    JPEG, PNG, BMP, WebP, GIF, TIFF and PNM; JPEG 2000 and AVIF where the installed Pillow has
    them; TGA, which has no signature, where the name ends in ``.tga``.

    Parameters
    ----------
    data : bytes
    name : str
        For messages, usually the path.
    notes : Notes, optional
        Records what is unusual about the image.

    Returns
    -------
    uint8, (height, width, 3)
        RGB, upright, 0 to 255.

    Raises
    ------
    ImageError
        It is empty, truncated, damaged, not an image, too large, or of pixels without a defined
        range.
    """
    if not data:
        raise ImageError(name, "is empty (0 bytes)")
    seen = Reading(name=name, notes=notes or Notes())
    with (
        _failures(name, data),
        _pillow().open(io.BytesIO(data), formats=_formats(data, name)) as image,
    ):
        _check_size(image, name)
        prepare(image, data, name)
        with LargeImage(image.width * image.height):
            pixels = _pixels(image, data, seen)
        image.close()  # frees its memory now: it may be part of a reference cycle
        return pixels


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of an image file says.

    Parameters
    ----------
    format, mode : str
        Pillow's names; the mode of colours of 16 bits a sample ends in ``;16``.
    width, height : int
        Pixels, upright.
    frames : bool
        Whether there are several frames or pages.
    """

    format: str
    mode: str
    width: int
    height: int
    frames: bool


def read_header(source: str | bytes, name: str) -> Header:
    """Read the header of an image file; its pixels are not decoded.

    Parameters
    ----------
    source : str or bytes
        The file's path, of which only the beginning is read where its format allows, or its bytes.
    name : str
        For messages, usually the path.

    Raises
    ------
    ImageError
        As of `decode`; damage beyond the header is not noticed.
    """
    if isinstance(source, bytes):
        return _header(io.BytesIO(source), source, name)
    try:
        with open_regular(source, MAX_BYTES) as file:
            return _header(file, file.read(BEGINNING), name)
    except (ImageError, OSError):
        data = read_file(source)
        return _header(io.BytesIO(data), data, name)  # the whole file says better what is wrong


def _header(file: IO[bytes], data: bytes, name: str) -> Header:
    if not data:
        raise ImageError(name, "is empty (0 bytes)")
    file.seek(0)
    with _failures(name, data), _pillow().open(file, formats=_formats(data, name)) as image:
        _check_size(image, name)
        prepare(image, data, name)
        _check_mode(image, name)
        deep = image.mode in ("RGB", "RGBA") and _is_deep(image)
        width, height = _upright_size(image)
        mode = f"{image.mode};16" if deep else image.mode
        return Header(image.format, mode, width, height, _has_more(image))


def _upright_size(image: Any) -> tuple[int, int]:
    """Return (width, height), upright, of an image that is not loaded."""
    tags = getattr(image, "tag_v2", {})  # of a TIFF some versions of Pillow tell the upright size
    width, height = (int(tags.get(tag, side)) for tag, side in zip(SIDES, image.size, strict=True))
    if image.format == "PNG" and "exif" not in image.info:
        return width, height  # getexif would decode the pixels to look behind them
    return (height, width) if _orientation(image) >= 5 else (width, height)


def is_pillow(item: object) -> TypeGuard[PillowImage]:
    """Whether an object is a Pillow image."""
    return isinstance(item, _pillow().Image)


def decode_pillow(image: PillowImage, name: str) -> NDArray[np.uint8]:
    """Return the pixels of a Pillow image as `decode` returns those of a file."""
    with _failures(name):
        _check_size(image, name)
        if (data := _file_behind(image)) is not None:
            return decode(data, name)
        _check_transparency(image, name)
        with LargeImage(image.width * image.height):
            return _pixels(image, None, Reading(name=name, notes=Notes()))


def _file_behind(image: Any) -> bytes | None:
    """Return the file contents of an opened image that was not changed since, or None."""
    file = getattr(image, "fp", None)
    if file is None or image.format not in (*FORMATS, "MPO"):
        return None
    if not getattr(image, "tile", None) or image.tell():
        return None
    try:
        here = file.tell()
        file.seek(0)
        data: bytes = file.read(MAX_BYTES + 1)
        file.seek(here)
    except (OSError, ValueError, AttributeError):  # a file that cannot seek
        return None
    with _pillow().open(io.BytesIO(data), formats=FORMATS) as again:
        same = (again.size, again.mode, again.info) == (image.size, image.mode, image.info)
    return data if same and len(data) <= MAX_BYTES else None


def _check_transparency(image: PillowImage, name: str) -> None:
    """Refuse a loaded PNG whose transparent value is ambiguous once Pillow has loaded it."""
    value = image.info.get("transparency")
    if image.format != "PNG":
        return
    if isinstance(value, int) and image.mode == "L" and 0 < value < 16:
        pixels = np.asarray(image)
        few = not (pixels % 17).any() and {value * 17, value * 85} & set(np.unique(pixels).tolist())
    else:
        few = isinstance(value, tuple) and max(value) > 255
    if few:
        raise ImageError(
            name, "is a PNG whose transparent value lost its meaning when Pillow loaded it; give "
            "the file itself",
        )  # fmt: skip


def _check_size(image: PillowImage, name: str) -> None:
    width, height = image.size
    if not width * height:
        raise ImageError(name, f"is empty ({width} x {height} pixels)")
    if width * height > MAX_PIXELS:
        raise ImageError(name, f"has {width} x {height} pixels, too many to read")


def _pixels(image: PillowImage, data: bytes | None, seen: Reading) -> NDArray[np.uint8]:
    """Load an image and return its RGB pixels; `data` is its file, if it has one."""
    frame = _frame(image)
    low = _low_bytes(image, data)
    deep = _is_deep(image)
    _load(image, data, seen.name)
    pixels = _rgb(image, low, seen)
    if deep and image.mode in ("RGB", "RGBA"):
        colours = np.asarray(image)[:, :, :3]
        if 0 < colours.max() <= 255 // 15:
            seen.note("dark")
    if frame is not None:  # the first frame is smaller than the animation: white around it
        left, top, right, bottom = frame
        pixels[:top] = pixels[bottom:] = 255
        pixels[:, :left] = pixels[:, right:] = 255
    if _has_more(image):
        seen.note("frames")
    return np.ascontiguousarray(_upright(pixels, _orientation(image)))


def _is_deep(image: Any) -> bool:
    """Whether an image that is not loaded has 16 bits a sample."""
    return any(";16" in str(tile[3]) for tile in getattr(image, "tile", ())[:1])


def _check_mode(image: PillowImage, name: str) -> None:
    """Refuse pixels without a defined range."""
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        kind = "floating-point" if image.mode == "F" else "32-bit integer"
        raise ImageError(
            name, f"has {kind} pixels, whose range is not known; save it with 8 or 16 bits"
        )


def _load(image: Any, data: bytes | None, name: str) -> None:
    """Load the pixels, and refuse damage that Pillow's decoders do not report."""
    if data is not None and image.format in ("JPEG", "MPO"):
        _load_jpeg(image, data, name)
        return
    reason = None
    if data is not None and image.format == "PNG":
        reason = png_damage(data)
    elif data is not None and image.format == "WEBP":
        reason = webp_damage(data, _is_whole)
    if reason:
        raise ImageError(name, reason)
    if data is not None and image.format == "TIFF":
        _check_parts(image, data, name)
    image.load()


def _load_jpeg(image: Any, data: bytes, name: str) -> None:
    jpeg = read_jpeg(data)
    if jpeg and (reason := jpeg_damage(data, jpeg)):
        raise ImageError(name, reason)
    guard = guarded(data, jpeg) if jpeg else None
    if guard is None:
        image.load()
        return
    image.fp = guard
    try:
        image.load()
    except OSError as error:
        raise ImageError(name, MISSING) from error
    if guard.damage:
        raise ImageError(name, guard.damage)


def _check_parts(image: Any, data: bytes, name: str) -> None:
    """Check each strip or tile of a TIFF whose damage libtiff does not report."""
    kind, most = image.tag_v2.get(COMPRESSION), max(image.width * image.height, PART)
    for part in parts_of_tiff(image, data) if kind in (JPEG, *DEFLATE) else ():
        if kind != JPEG:
            if deflate_damage(part, 8 * most):
                raise ImageError(name, "is damaged: its compressed data has another checksum")
            continue
        try:
            one = _pillow().open(io.BytesIO(part), formats=("JPEG",))
        except OSError:  # only libtiff reads it, or libtiff reports the damage
            continue
        with one:
            if one.width * one.height <= most:
                _load_jpeg(one, part, name)


def _is_whole(data: bytes) -> bool:
    try:
        with _pillow().open(io.BytesIO(data), formats=("WEBP",)) as image:
            image.load()
    except Exception:  # damaged files make Pillow raise almost anything
        return False
    return True


def _frame(image: Any) -> tuple[int, int, int, int] | None:
    """Return the box of a GIF's first frame where it does not fill the animation."""
    if image.format != "GIF" or not image.tile:
        return None
    left, top, right, bottom = image.tile[0][1]
    return None if (left, top, right, bottom) == (0, 0, *image.size) else (left, top, right, bottom)


def _low_bytes(image: Any, data: bytes | None) -> NDArray[np.uint8] | None:
    """Return the low bytes of a 16-bit colour PNG's samples, if a colour is transparent.

    Pillow keeps only the high bytes, which thousands of colours share.
    """
    if data is None or not isinstance(image.info.get("transparency"), tuple):
        return None
    if image.format != "PNG" or png_layout(image) != "RGB;16B":
        return None
    with _pillow().open(io.BytesIO(data), formats=("PNG",)) as again:
        again.tile = [tile._replace(args="RGB;16L") for tile in again.tile]
        again.load()
        return np.array(again)


def _has_more(image: Any) -> bool:
    """Whether there are more frames or pages; the further photos of an MPO do not count."""
    if image.format == "MPO":
        return False
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # damaged further on
        return False


@contextmanager
def _failures(name: str, data: bytes = b"") -> Iterator[None]:
    image_module = _pillow()
    try:
        with WithinMemory(name):
            yield
    except ImageError:
        raise
    except image_module.DecompressionBombError as error:
        raise ImageError(name, "has too many pixels to read") from error
    except image_module.UnidentifiedImageError as error:
        if (other := foreign(data)) is not None:
            reason = f"is {other}, which is not read"
        elif (kind := format_of(data[:32])) is None:
            reason = (
                "is not a JPEG, PNG, BMP, WebP, GIF, TIFF, PNM, JPEG 2000 or AVIF image, or its "
                "header is damaged"
            )
        elif kind == "TIFF" and (what := describe_tiff(data)) is not None:
            reason = f"is {what}, which is not read, or is damaged"
        else:
            reason = f"is a {kind} file of a kind that is not read, or its header is damaged"
        raise ImageError(name, reason) from error
    except Exception as error:  # damaged files make Pillow raise almost anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if reason.startswith(("decoder error", "-")):  # a number of libtiff's
            raise ImageError(name, "is damaged: its compressed data cannot be decoded") from error
        raise ImageError(name, f"cannot be decoded: {reason}") from error


def _pillow() -> Any:
    """Return PIL.Image, its plugins loaded and its warnings silenced.

    Pillow warns about metadata that does not matter here. `warnings.catch_warnings` is not safe
    in threads, so one filter for its modules is set and never removed.
    """
    if _PILLOW not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\.")
    return _import_pillow()


@cache
def _import_pillow() -> Any:
    from PIL import Image

    # glibc returns freed blocks above 32 MiB to the system; of smaller blocks each thread would
    # keep as many as its largest image took
    getattr(Image, "core").set_block_size(BLOCK)  # noqa: B009 - not exported to type checkers
    # what Pillow logs about a damaged file is also in the error that it raises
    logging.getLogger("PIL.TiffImagePlugin").setLevel(logging.CRITICAL)
    _silence_libtiff(getattr(Image, "core"))  # noqa: B009
    # One by one: Image.init() imports forty formats, and is not safe in threads.
    for plugin in PLUGINS:
        import_module(f"PIL.{plugin}ImagePlugin")
    return Image


def _silence_libtiff(core: Any) -> None:
    """Keep libtiff from writing to stderr; failures still raise."""
    with suppress(AttributeError, OSError):  # a Pillow without libtiff, or without access to it
        CDLL(core.__file__).TIFFSetErrorHandler(None)


def _formats(data: bytes, name: str) -> tuple[str, ...]:
    """Return the formats to try, with a rare one where the file's signature or name shows it."""
    rare = format_of(data[:32])
    if rare is None and name.lower().endswith(".tga"):
        rare = "TGA"
    if rare not in RARE:
        return FORMATS
    if not _load_rare(rare):
        raise ImageError(name, f"is a {rare} image, which the installed Pillow cannot read")
    return (*FORMATS, rare)


@cache
def _load_rare(rare: str) -> bool:
    """Load Pillow's plugin of a format; return whether it can read it."""
    image_module = _pillow()
    try:
        import_module(f"PIL.{RARE[rare]}ImagePlugin")
    except ImportError:
        return False
    return rare in image_module.OPEN


def _rgb(image: PillowImage, low: NDArray[np.uint8] | None, seen: Reading) -> NDArray[np.uint8]:
    mode = image.mode
    if mode.startswith("I;16") or (mode == "I" and image.format in ("PNG", "PPM")):
        return _from_16_bit(image, seen)
    _check_mode(image, seen.name)
    if low is not None:
        pixels, key = np.array(image), image.info["transparency"]
        there = [(pixels[:, :, c] == k >> 8) & (low[:, :, c] == k & 255) for c, k in enumerate(key)]
        return _without(pixels, np.logical_and.reduce(there), seen)
    if mode == "P" and (old := _old_colours(image)) is not None:
        return old
    if mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        straight = image.convert("LA") if mode == "La" else image
        return _over_white(
            np.asarray(straight.convert("RGBA")), image.format in ("BMP", "TGA"), seen
        )
    return _copied(image if mode == "RGB" else image.convert("RGB"))


def _copied(image: PillowImage) -> NDArray[np.uint8]:
    """Return an RGB image's pixels, converted in parts, since Pillow copies what it converts."""
    width, height = image.size
    step = max(PART // width, 1)
    if step >= height:
        return np.array(image)
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, step):
        bottom = min(top + step, height)
        pixels[top:bottom] = np.asarray(image.crop((0, top, width, bottom)))
    return pixels


def _from_16_bit(image: PillowImage, seen: Reading) -> NDArray[np.uint8]:
    values = np.asarray(image).astype(np.uint32)  # (height, width)
    tags = getattr(image, "tag_v2", {})
    white = 2 ** tags.get(BITS, (16,))[0] - 1  # TIFF also has 12 bits
    grey = ((np.minimum(values, white) * 255 + white // 2) // white).astype(np.uint8)
    if 0 < values.max() <= white // 15:
        seen.note("dark")
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        grey = 255 - grey  # Pillow does this for 8 bits only
    pixels = np.repeat(grey[:, :, None], 3, axis=2)
    transparent = image.info.get("transparency")
    return _without(pixels, values == transparent, seen) if isinstance(transparent, int) else pixels


def _without(
    pixels: NDArray[np.uint8], transparent: NDArray[np.bool_], seen: Reading
) -> NDArray[np.uint8]:
    pixels[transparent] = 255
    if transparent.all():
        seen.note("clear")
    return pixels


def _old_colours(image: Any) -> NDArray[np.uint8] | None:
    """Return the pixels of a TIFF whose palette has 8-bit entries, as old programs wrote it."""
    table = getattr(image, "tag_v2", {}).get(COLOUR_MAP, ())
    if not table or not 0 < max(table) < 256:
        return None
    colours = np.array(table, np.uint8).reshape(3, -1).T
    indices = np.minimum(np.asarray(image), len(colours) - 1)
    found: NDArray[np.uint8] = colours[indices]
    return found


def _over_white(rgba: NDArray[np.uint8], maybe_unused: bool, seen: Reading) -> NDArray[np.uint8]:
    """Composite an image over white; with `maybe_unused` an alpha of 0 throughout is ignored."""
    if not rgba[:, :, 3].any():
        if maybe_unused:
            return np.ascontiguousarray(rgba[:, :, :3])
        seen.note("clear")
    pixels = np.empty((*rgba.shape[:2], 3), np.uint8)
    step = max(PART // rgba.shape[1], 1)
    for top in range(0, len(rgba), step):
        part = rgba[top : top + step]
        alpha = part[:, :, 3:].astype(np.uint32)
        mixed = part[:, :, :3] * alpha + 255 * (255 - alpha)
        pixels[top : top + step] = (mixed + 127) // 255
    return pixels


def _orientation(image: PillowImage) -> int:
    """Return EXIF's orientation, 1 to 8; 1 where it is missing or invalid."""
    try:  # after load(): Pillow has rotated a TIFF by then
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged metadata is no reason to lose the image
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Apply EXIF's orientation (EXIF 2.3, tag 274)."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


SMALL = 2**24  # pixels that never wait: 4,096 x 4,096
TOGETHER = 2**26  # pixels of large images at a time

_changed = threading.Condition()
_used = 0
_mine = threading.local()  # depth of `OneImage` in this thread, and the pixels it holds


class OneImage:
    """Keep this thread's share of the memory budget until the block ends.

    A class, as it runs several times an image: a generator takes three times as long.
    """

    def __enter__(self) -> None:
        _mine.depth = getattr(_mine, "depth", 0) + 1

    def __exit__(self, *error: object) -> None:
        _mine.depth -= 1
        if not _mine.depth:
            _give_back()


class LargeImage(OneImage):
    """Wait until the memory budget has room for an image; `OneImage` keeps it until its end."""

    def __init__(self, pixels: int) -> None:
        self._pixels = pixels

    def __enter__(self) -> None:
        super().__enter__()
        if self._pixels > SMALL:
            try:
                _take(self._pixels)
            except BaseException:  # Ctrl-C while it waits
                self.__exit__()
                raise


class WithinMemory(OneImage):
    """Turn a MemoryError on one image into an ImageError, so that the others can go on.

    A large image keeps its share of the memory budget until the block ends.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __exit__(self, *error: object) -> None:
        super().__exit__()
        raised = error[1] if error else None
        if isinstance(raised, MemoryError):
            raise ImageError(self._name, "takes more memory than there is") from raised


def _take(pixels: int) -> None:
    global _used  # noqa: PLW0603 - one budget a process
    held = getattr(_mine, "held", 0)
    with _changed:
        # a thread that holds a share does not wait, which could be a deadlock
        _changed.wait_for(lambda: held or not _used or _used + pixels <= TOGETHER)
        _used += pixels
    _mine.held = held + pixels


def _give_back() -> None:
    global _used  # noqa: PLW0603
    held = getattr(_mine, "held", 0)
    if held:
        _mine.held = 0
        with _changed:
            _used -= held
            _changed.notify_all()
