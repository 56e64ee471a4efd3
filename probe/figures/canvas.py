"""Colours, text measurement and file output of all pictures."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from probe.core.files import replacing
from probe.figures.glyphs import family_for, lacking, mend

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1f2933"
FAINT = "#6b7280"  # 4.8:1 on white: still readable as text
RULE = "#d5d9de"
BLUE = "#0072b2"  # of Okabe and Ito: differs from grey in every kind of colour vision
DPI = 160
WIDEST = 1.5  # times the font size: no letter is wider, with the space beside it


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches that is drawn in memory only."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG."""
    mend(figure)
    with replacing(path) as temporary, _glyphs_may_be_missing():
        figure.savefig(temporary, format="png", dpi=DPI)


@lru_cache(maxsize=4096)
def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Return how wide a line of text is, in inches, for a font size in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    if not text.strip():
        return 0.0  # TextPath fails on text without outlines
    font = FontProperties(family=list(family_for(lacking(text))), size=size, weight=weight)
    with _glyphs_may_be_missing():
        path = TextPath((0, 0), text.replace("$", r"\$"), prop=font)  # $ would start a formula
    return float(path.get_extents().width) / 72 if len(path.vertices) else 0.0


def shorten(text: str, length: int) -> str:
    """Return one printable line of at most `length` characters, cut in the middle."""
    line = "".join(c if c.isprintable() else " " for c in text)
    if len(line) <= length:
        return line
    tail = length // 3
    return f"{line[: length - tail - 1].rstrip()}…{line[-tail:].lstrip()}"


def fit(text: str, width: float, size: float, weight: str = "normal") -> str:
    """Return the text, cut in the middle until it is at most that many inches wide."""
    length, widest = len(text), WIDEST * size / 72
    line = shorten(text, length)
    while (excess := text_width(line, size, weight) - width) > 0 and length > 8:
        length = max(8, length - max(1, int(excess / widest)))  # measuring a long line is slow
        line = shorten(text, length)
    return line


def quiet_axes(axes: Axes) -> None:
    """Remove the parts of the frame that carry no information."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    axes.tick_params(colors=FAINT, labelsize=9, length=0, pad=5)
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)


@contextmanager
def _glyphs_may_be_missing() -> Iterator[None]:
    """Suppress matplotlib's warning about letters that the font lacks; it draws boxes for them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield
