"""Draw a sheet of thumbnails with two lines of text under each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probe.figures.canvas import FAINT, INK, fit, new_figure, save

CELL, PICTURE, GAP = 1.5, 1.1, 0.06  # inches
TOP, EDGE = 0.75, 0.2
COLUMNS = 6

Cell = tuple[Sequence[NDArray[np.uint8]], str, str]


def draw_contact_sheet(cells: Sequence[Cell], path: Path, *, title: str, about: str) -> None:
    """Draw images with two lines under each as a PNG.

    Parameters
    ----------
    cells : sequence of (images, line, fainter line)
        One or two images, uint8, (height, width, 3), side by side.
    path : Path
        The file to write.
    """
    widest = max(len(images) for images, _, _ in cells)
    width_of_cell = widest * (PICTURE + GAP) + (CELL - PICTURE)
    columns = min(len(cells), COLUMNS if widest == 1 else COLUMNS // 2)
    rows = -(-len(cells) // columns)
    width = max(5.5, 2 * EDGE + columns * width_of_cell)
    height = TOP + rows * CELL + EDGE
    figure = new_figure(width, height)
    line = fit(title, width - 2 * EDGE, 13, "bold")
    at = EDGE / width
    figure.text(
        at, 1 - 0.34 / height, line, color=INK, fontsize=13, weight="bold", parse_math=False
    )
    below = fit(about, width - 2 * EDGE, 9.5)
    figure.text(at, 1 - 0.58 / height, below, color=FAINT, fontsize=9.5, parse_math=False)
    for number, (images, first, second) in enumerate(cells):
        left = EDGE + number % columns * width_of_cell
        top = height - TOP - number // columns * CELL
        for place, image in enumerate(images):
            x = left + place * (PICTURE + GAP)
            box = (x / width, (top - PICTURE) / height, PICTURE / width, PICTURE / height)
            axes = figure.add_axes(box)
            axes.imshow(image, interpolation="nearest" if max(image.shape) < 100 else "antialiased")
            axes.set_axis_off()
        room = width_of_cell - 0.1
        for text, size, colour, down in ((first, 8.5, INK, 0.14), (second, 7.5, FAINT, 0.28)):
            figure.text(
                left / width, (top - PICTURE - down) / height, fit(text, room, size),
                fontsize=size, color=colour, parse_math=False,
            )  # fmt: skip
    save(figure, path)
