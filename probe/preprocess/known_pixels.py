"""Check whether Pillow's resize and JPEG decoder give the usual pixels on this machine.

Releases of Pillow and of the JPEG library differ by grey levels, and version numbers do not tell
which do: most releases agree, and a distribution may build Pillow with another JPEG library. So a
cache key holds no version but a digest of what they make of a small input, and only where it is not
that of the pinned Pillow. Other decoders (PNG, BMP, GIF, TIFF) have one right answer, and WebP's
decoding is exact by its specification (RFC 6386); those versions are provenance alone.
"""

from __future__ import annotations

import base64
import hashlib
import io
from functools import cache

import numpy as np
from PIL import Image

from probe.preprocess.resize import resize_image
from probe.preprocess.spec import PreprocessSpec

RESIZED = "5d911bb8917920c3"  # by Pillow 11, 12 and 13, one pass at a time
DECODED = "3ddccfef727e4434"  # by libjpeg-turbo 3.1 and 3.2

# two photographs of 20 x 20 pixels, with chroma subsampling 4:2:2 and 4:2:0
HALF_WIDTH = (
    "/9j/2wBDAAgGBgcGBQgHBwcJCQgKDBQNDAsLDBkSEw8UHRofHh0aHBwgJC4nICIsIxwcKDcpLDAxNDQ0Hyc5PTgyPC"
    "4zNDL/2wBDAQkJCQwLDBgNDRgyIRwhMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIy"
    "MjIyMjL/wAARCAAUABQDASEAAhEBAxEB/8QAGgAAAgIDAAAAAAAAAAAAAAAAAAUBBwIEBv/EACUQAAIBBAIBAwUAAA"
    "AAAAAAAAECAwAEBREGITETQWESFFGCof/EABgBAAMBAQAAAAAAAAAAAAAAAAMFBgIH/8QAIREAAgMAAQMFAAAAAAAA"
    "AAAAAQIAAxEEEhMUITFBUWH/2gAMAwEAAhEDEQA/AI5Jc3glQRGUQnvYHe6zmk+64ffx3rEI1u299e3X91U3WMdSPf"
    "ZV8kL4hH5KkjmmhjCK2gPaiqwWkDNnPDXWTpE7zFcxjyPprJZSyTkd+gAd/rWxyVczf4d1hx89tbIfqmL9swA35/Hi"
    "kacdEuBJ+ZSXc2y3jmtRuCVw7Ro5Uk7HxRTboAk8EcjYmsspfY2YTWV3LBINgNG2jTF+Y8jkRkfM3jKwIKtISCD5oT"
    "Vox0iN1dlGA+kVNeXDMSZnJPzRW9gu2n1P/9k="
)
HALF_BOTH = (
    "/9j/2wBDAAgGBgcGBQgHBwcJCQgKDBQNDAsLDBkSEw8UHRofHh0aHBwgJC4nICIsIxwcKDcpLDAxNDQ0Hyc5PTgyPC"
    "4zNDL/2wBDAQkJCQwLDBgNDRgyIRwhMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIy"
    "MjIyMjL/wAARCAAUABQDASIAAhEBAxEB/8QAGQABAQEAAwAAAAAAAAAAAAAAAAUCAQQH/8QAJRAAAgEEAgEDBQAAAA"
    "AAAAAAAQIDAAQFEQYhMRNBYRIUUYKh/8QAFwEAAwEAAAAAAAAAAAAAAAAAAgUGA//EAB4RAAEEAwADAAAAAAAAAAAA"
    "AAEAAhEhAwQSBVGh/9oADAMBAAIRAxEAPwDjklzeCVBEZRCe9gd7rc0n3XD7+O9YhGt23vr26/uqgYrmMeR9NZLKWS"
    "cjv0ADv9a7HJVzN/h3WHHz21sh+qYv2zADfn8eKR49Z4yAGrTzY8jidrFrRJhedxzTQxhFbQHtSsO0aOVJOx8Uqh7e"
    "KUbzN8/FGsspfY2YTWV3LBINgNG2jVF+Y8jkRkfM3jKwIKtISCD5pSsC1pshNwSBAUpry4ZiTM5J+aUpRIOW+l//2Q"
    "=="
)


def foreign_pixels(spec: PreprocessSpec) -> dict[str, str]:
    """Return digests of a known input for a cache key, where this machine's pixels are unusual.

    Returns
    -------
    dict
        Empty, or ``resampler`` and ``jpeg``: the digests that differ from the usual ones.
    """
    found = {"jpeg": decoding()} if decoding() != DECODED else {}
    if spec.antialias and resampling() != RESIZED:  # without antialias Pillow is not used
        found["resampler"] = resampling()
    return found


@cache
def resampling() -> str:
    """Return a digest of small images resized here: both kernels, smaller and larger."""
    steps = np.arange(41 * 29 * 3, dtype=np.int64)
    image = (steps * steps * 40_503 % 65_521 % 256).astype(np.uint8).reshape(41, 29, 3)
    found = hashlib.blake2b(digest_size=8)
    for interpolation in ("bilinear", "bicubic"):
        for size in (13, 37, 64):
            spec = PreprocessSpec(
                name="known", size=size, resize="squash", interpolation=interpolation
            )
            found.update(resize_image(image, spec).tobytes())
            found.update(resize_image(image.transpose(1, 0, 2), spec).tobytes())
    return found.hexdigest()


@cache
def decoding() -> str:
    """Return a digest of small JPEGs decoded here."""
    found = hashlib.blake2b(digest_size=8)
    for text in (HALF_WIDTH, HALF_BOTH):
        with Image.open(io.BytesIO(base64.b64decode(text)), formats=("JPEG",)) as image:
            found.update(np.asarray(image.convert("RGB")).tobytes())
    return found.hexdigest()
