"""A training batch as the network sees it: the pictures after augmentation, with their labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.core.files import replacing
from probe.finetune.batches import Batch, Feed

LEAST = 96  # pixels that a picture is shown at, at the least
LEAST_SHARE = 0.25  # of a label that is named; smoothing gives less, mixing up to a half
GAP, LINE = 6, 14  # pixels between pictures, and of the text below each


def first_batch(feed: Feed) -> Batch:
    """Return the first batch of the first epoch."""
    batches = feed.epoch(1)
    try:
        return next(batches)
    finally:
        batches.close()


def draw_batch(batch: Batch, names: Sequence[str], path: Path, *, several: bool = False) -> None:
    """Write a sheet of a batch's images as a PNG, by rename.

    Small images are enlarged by whole pixels, so that what is seen is what the network gets.

    Parameters
    ----------
    names : sequence of str
        Of the classes, in the order of the targets.
    several : bool
        An image may have several labels.
    """
    from PIL import Image, ImageDraw

    count, side = len(batch.images), batch.images.shape[1]
    scale = max(1, -(-LEAST // side))
    columns = min(8, count)
    rows = -(-count // columns)
    step_x, step_y = side * scale + GAP, side * scale + GAP + LINE
    sheet = Image.new("RGB", (columns * step_x + GAP, rows * step_y + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (image, target) in enumerate(zip(batch.images, batch.targets, strict=True)):
        left = GAP + number % columns * step_x
        top = GAP + number // columns * step_y
        large = np.repeat(np.repeat(image, scale, axis=0), scale, axis=1)
        sheet.paste(Image.fromarray(large), (left, top))
        caption = _caption(target, names, step_x, several=several)
        draw.text((left, top + side * scale), caption, fill="black")
    with replacing(path) as temporary:
        sheet.save(temporary, format="PNG")


def _caption(
    target: NDArray[np.float32], names: Sequence[str], width: int, *, several: bool
) -> str:
    if several:
        have = [names[int(one)] for one in np.flatnonzero(target >= LEAST_SHARE)]
        return (", ".join(have) or "no label")[: width // 6]
    best = np.argsort(-target, kind="stable")[:2]
    shares = [(names[int(one)], float(target[one])) for one in best]
    if shares[1][1] < 0.05:
        text = shares[0][0]
    else:  # mixed with another class
        text = " + ".join(f"{name} {share:.1f}" for name, share in shares)
    return text[: width // 6]  # Pillow's own font is 6 pixels wide
