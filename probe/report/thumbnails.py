"""Make thumbnails of the items, many in one image, for the page."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from probe.core.reading import ReadOptions
from probe.core.short_repr import short_repr
from probe.datasets import Dataset, load_dataset
from probe.datasets.spec import Images
from probe.errors import ProbeError
from probe.report.items import Items

log = logging.getLogger(__name__)

COLUMNS = 32  # thumbnails along a side of a sheet
PER_SHEET = COLUMNS * COLUMNS
SIDES = ((2000, 64), (5000, 48))  # up to this many images: pixels of a thumbnail's side
USUAL, SMALLEST = 32, 24
QUALITIES = (75, 55, 35, 20)  # of WebP, tried until the sheets are small enough
MOST_BYTES = 6_500_000  # of all sheets; base64 adds a third
PAPER = (128, 128, 128)  # the background of a picture that is not square
CHUNK = 256


@dataclass(frozen=True, kw_only=True)
class Sheets:
    """Thumbnails of items in rows of COLUMNS, item after item.

    Parameters
    ----------
    sheets : tuple of str
        WebP in base64.
    side : int
        Pixels of a thumbnail's side.
    there : bool, (n_items,)
        Whether the item's picture was found; the place of others is empty.
    """

    __repr__ = short_repr

    sheets: tuple[str, ...]
    side: int
    there: NDArray[np.bool_]
    quality: int


def find_images(provenance: Mapping[str, Any], cache_dir: Path) -> Dataset:
    """Load the dataset that an entry was made from, undivided and without a download.

    Raises
    ------
    ProbeError
        The entry does not record its folder, or the dataset is not there.
    """
    recorded = provenance.get("request")
    if not isinstance(recorded, dict) or "dataset" not in recorded:
        raise ProbeError("the entry does not record the folder of its images")
    root = recorded.get("dataset_root")
    return load_dataset(
        recorded["dataset"],
        root=None if root is None else Path(root),
        cache_dir=cache_dir,
        coarse=bool(recorded.get("coarse")),
        skip_bad=bool(recorded.get("skip_bad")),
        reading=ReadOptions.from_record(recorded.get("reading")),
        download=False,
        stored_split=False,
    )


def make_sheets(
    dataset: Dataset,
    items: Items,
    content: NDArray[np.uint8],
    advance: Callable[[int], None],
) -> Sheets:
    """Draw the thumbnails of the items.

    An image that is missing, unreadable or changed since the extraction has none.

    Parameters
    ----------
    content : uint8, (n_items, 16)
        The images' content hashes at the extraction.
    advance : callable
        Called with the number of further items that are done.
    """
    side = _side(dataset, len(items))
    there = np.zeros(len(items), np.bool_)
    n_sheets = -(-len(items) // PER_SHEET)
    sheets = [_empty(min(PER_SHEET, len(items) - PER_SHEET * n), side) for n in range(n_sheets)]
    for split, numbers in _by_split(items).items():
        found = dataset.images_of(split)
        if found is None:
            advance(len(numbers))
            continue
        row_of = {name: row for row, name in enumerate(found.ids)}
        for start in range(0, len(numbers), CHUNK):
            chunk = numbers[start : start + CHUNK]
            known = [number for number in chunk if items.keys[number][1] in row_of]
            rows = np.array([row_of[items.keys[number][1]] for number in known], np.intp)
            for row, picture in _pictures(found.images.take(rows), content[known], side):
                place = known[row] % PER_SHEET
                corner = (place % COLUMNS * side, place // COLUMNS * side)
                sheets[known[row] // PER_SHEET].paste(picture, corner)
                there[known[row]] = True
            advance(len(chunk))
    encoded, quality = _encode(sheets)
    return Sheets(sheets=encoded, side=side, there=there, quality=quality)


def _side(dataset: Dataset, count: int) -> int:
    """Return a thumbnail's side: smaller for more items, and not larger than the images."""
    side = next((side for most, side in SIDES if count <= most), USUAL)
    for split in dataset.splits.values():
        try:
            return min(side, max(SMALLEST, *split.images.image(0).shape[:2]))
        except (ProbeError, OSError, IndexError):
            continue
    return side


def _by_split(items: Items) -> dict[str, list[int]]:
    numbers: dict[str, list[int]] = {}
    for number, (split, _) in enumerate(items.keys):
        numbers.setdefault(split, []).append(number)
    return numbers


def _empty(count: int, side: int) -> Image.Image:
    rows = -(-count // COLUMNS)
    return Image.new("RGB", (min(count, COLUMNS) * side, rows * side), PAPER)


def _pictures(
    images: Images, wanted: NDArray[np.uint8], side: int
) -> Iterator[tuple[int, Image.Image]]:
    """Yield (row, thumbnail) of the images whose content has not changed."""
    try:
        same = (images.content() == wanted).all(axis=1)
    except (ProbeError, OSError) as error:
        if len(wanted) == 1:
            log.info("no thumbnail: %s", error)
            return
        for row in range(len(wanted)):  # one image cannot be read: read them one by one
            one = images.take(np.array([row], np.intp))
            for _, picture in _pictures(one, wanted[row : row + 1], side):
                yield row, picture
        return
    for row in np.flatnonzero(same).tolist():
        try:
            yield row, thumbnail(images.image(row), side)
        except (ProbeError, OSError) as error:
            log.info("no thumbnail: %s", error)


def thumbnail(pixels: NDArray[np.uint8], side: int) -> Image.Image:
    """Return a whole image, uint8 (height, width, 3), in a square of `side` pixels."""
    image = Image.fromarray(pixels)
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = image.resize(size, Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS)
    if size == (side, side):
        return small
    square = Image.new("RGB", (side, side), PAPER)
    square.paste(small, ((side - size[0]) // 2, (side - size[1]) // 2))
    return square


def _encode(sheets: Sequence[Image.Image]) -> tuple[tuple[str, ...], int]:
    """Return the sheets in base64 at the best quality that is small enough, and the quality."""
    encoded: list[bytes] = []
    for quality in QUALITIES:
        encoded = [_webp(sheet, quality) for sheet in sheets]
        if sum(map(len, encoded)) <= MOST_BYTES:
            break
    return tuple(base64.b64encode(one).decode() for one in encoded), quality


def _webp(sheet: Image.Image, quality: int) -> bytes:
    data = io.BytesIO()
    sheet.save(data, "WEBP", quality=quality, method=4)
    return data.getvalue()
