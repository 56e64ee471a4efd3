"""Image files to RGB, as a person sees them in a viewer.

Grey, palette, CMYK and YCCK become RGB; transparent parts are laid over white; 16 bits are
scaled to 8, not clipped; EXIF's rotation is applied; the first frame of an animation counts.
Colour profiles are ignored, as they were when the weights were trained. Integer pixels of 32
bits and floating-point pixels have no agreed range and are refused.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from probe.datasets.image_files import format_of
from probe.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

PLUGINS = ("Jpeg", "Mpo", "Png", "Bmp", "WebP", "Gif", "Tiff")
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF")
RARE = {"PPM": "Ppm", "JPEG2000": "Jpeg2K", "AVIF": "Avif", "TGA": "Tga"}  # loaded when met
MAX_PIXELS = 178_956_970  # where Pillow refuses by default: 0.5 GB as RGB
BITS_PER_SAMPLE, PHOTOMETRIC, ORIENTATION = 258, 262, 274  # TIFF and EXIF tags
WHITE_IS_ZERO = 0

_PILLOW = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


def decode_file(path: str) -> NDArray[np.uint8]:
    """Read an image file as RGB, uint8, (height, width, 3). See `decode`."""
    return decode(read_file(path), path)


def read_file(path: str) -> bytes:
    """Return a file's bytes; ImageError where it cannot be opened."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:  # the latter for a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise ImageError(path, f"cannot be opened: {reason}") from error


def decode(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode the bytes of an image file. Safe to call from threads.

    JPEG, PNG, BMP, WebP, GIF, TIFF and PNM; JPEG 2000 and AVIF where the installed Pillow has
    them; TGA, which has no mark of its own, where the name ends in ``.tga``.

    Parameters
    ----------
    data : bytes
    name : str
        What messages call it, usually its path.

    Returns
    -------
    uint8, (height, width, 3)
        RGB, upright, 0 to 255.

    Raises
    ------
    ImageError
        It is empty, cut short, no image, too large, or has pixels without an agreed range.
    """
    if not data:
        raise ImageError(name, "is empty (0 bytes)")
    with _failures(name), _pillow().open(io.BytesIO(data), formats=_formats(data, name)) as image:
        return _pixels(image, name)


def is_pillow(item: object) -> TypeGuard[PillowImage]:
    """Whether something is an image of Pillow's, opened or made."""
    return isinstance(item, _pillow().Image)


def decode_pillow(image: PillowImage, name: str) -> NDArray[np.uint8]:
    """Return the pixels of an image of Pillow's as `decode` does those of a file."""
    with _failures(name):
        return _pixels(image, name)


@contextmanager
def within_memory(name: str) -> Iterator[None]:
    """Make running out of memory over one image an ImageError, which the others outlive."""
    try:
        yield
    except MemoryError as error:
        raise ImageError(name, "takes more memory than there is") from error


def _pixels(image: PillowImage, name: str) -> NDArray[np.uint8]:
    sides = f"{image.width} x {image.height}"
    if not image.width * image.height:
        raise ImageError(name, f"is empty ({sides} pixels)")
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(name, f"has {sides} pixels, too many to read")
    image.load()
    return np.ascontiguousarray(_upright(_rgb(image, name), _orientation(image)))


@contextmanager
def _failures(name: str) -> Iterator[None]:
    image_module = _pillow()
    try:
        with within_memory(name):
            yield
    except ImageError:
        raise
    except image_module.DecompressionBombError as error:
        raise ImageError(name, "has too many pixels to read") from error
    except image_module.UnidentifiedImageError as error:
        reason = (
            "is not a JPEG, PNG, BMP, WebP, GIF, TIFF, PNM, JPEG 2000 or AVIF image, or its header "
            "is damaged"
        )
        raise ImageError(name, reason) from error
    except Exception as error:  # damaged files make Pillow raise almost anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ImageError(name, f"cannot be decoded: {reason}") from error


def _pillow() -> Any:
    """Return PIL.Image, its plugins loaded and its warnings silenced.

    Pillow warns about metadata that does not matter here. `warnings.catch_warnings` is not safe
    in threads, so there is one filter for its modules, set once and never taken back.
    """
    if _PILLOW not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\.")
    return _import_pillow()


@cache
def _import_pillow() -> Any:
    from PIL import Image

    # One by one: Image.init() imports forty formats, and is not safe in threads.
    for plugin in PLUGINS:
        import_module(f"PIL.{plugin}ImagePlugin")
    return Image


def _formats(data: bytes, name: str) -> tuple[str, ...]:
    """Return the formats that a file may be of, a rare one among them only where it is that."""
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
    """Load Pillow's reader of a format; whether it can read it."""
    image_module = _pillow()
    try:
        import_module(f"PIL.{RARE[rare]}ImagePlugin")
    except ImportError:
        return False
    return rare in image_module.OPEN


def _rgb(image: PillowImage, name: str) -> NDArray[np.uint8]:
    mode = image.mode
    if mode.startswith("I;16") or (mode == "I" and image.format in ("PNG", "PPM")):
        return _from_16_bit(image)
    if mode in ("I", "F"):
        kind = "32-bit integer" if mode == "I" else "floating-point"
        raise ImageError(
            name, f"has {kind} pixels, whose range is not known; save it with 8 or 16 bits"
        )
    if mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        return _over_white(np.asarray(image.convert("RGBA")))
    return np.array(image if mode == "RGB" else image.convert("RGB"))


def _from_16_bit(image: PillowImage) -> NDArray[np.uint8]:
    values = np.asarray(image).astype(np.uint32)  # (height, width)
    tags = getattr(image, "tag_v2", {})
    white = 2 ** tags.get(BITS_PER_SAMPLE, (16,))[0] - 1  # TIFF also has 12 bits
    grey = ((np.minimum(values, white) * 255 + white // 2) // white).astype(np.uint8)
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        grey = 255 - grey  # Pillow does this for 8 bits only
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return np.repeat(grey[:, :, None], 3, axis=2)


def _over_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    alpha = rgba[:, :, 3:].astype(np.uint32)
    mixed = rgba[:, :, :3] * alpha + 255 * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)


def _orientation(image: PillowImage) -> int:
    """Return EXIF's orientation, 1 to 8; 1 where it is missing or nonsense."""
    try:  # after load(): Pillow has turned a TIFF by then, and says so here
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged metadata is no reason to lose the image
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo how the camera was held (EXIF 2.3, tag 274)."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
