"""Draw the confusion matrix with the most frequent confusions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.errors import UsageError
from probe.evaluation.metrics import Confusion
from probe.figures.canvas import FAINT, INK, RULE, fit, new_figure, save, shorten, text_width
from probe.figures.glyphs import readable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TextStyle = dict[str, Any]  # keywords of matplotlib's Text

NAME_LENGTH = 24  # characters of a class name along the axes
HEADING = "Most confused, true → predicted"
CELL_COUNTS, CELL_SIZES = (2, 10, 20, 37, 100), (1.1, 0.52, 0.36, 0.22, 0.108)  # inches
MOST_SIDE = 11.0
LIST_STEP = 0.26
NUMBERS_UP_TO = 20  # classes; with more, a percentage does not fit its cell
NAMES_UP_TO = 120  # classes; with more, names would be too small to read
GAMMA = 0.5  # of the colours, so that 2 % is visible next to a diagonal of 80 %
DRAWN_UP_TO = 400  # classes; with more, a cell is less than three pixels wide
DARK_FROM = 30  # percent from which figures are white
COLOUR_TICKS = (0, 1, 5, 10, 25, 50, 100)
TITLE: TextStyle = {"fontsize": 13, "color": INK, "weight": "bold"}
SUBTITLE: TextStyle = {"fontsize": 10, "color": FAINT}
LIST_HEADING: TextStyle = {"fontsize": 10, "color": INK, "weight": "bold"}
LIST_RATE: TextStyle = {"fontsize": 9.5, "color": FAINT, "ha": "right"}
LIST_ITEM: TextStyle = {"fontsize": 9.5, "color": INK}
EMPTY = "#f3f4f6"  # a class without rows


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Sizes in inches, fonts in points, derived from the number and the length of the names."""

    side: float
    left: float
    bottom: float
    list_width: float
    name_size: float
    number_size: float
    rotation: int
    top: float = 0.95
    gap: float = 0.25
    bar: float = 0.14
    bar_room: float = 0.75

    @property
    def width(self) -> float:
        """Return the picture's size in inches."""
        return self.left + self.side + self.gap + self.bar + self.bar_room + self.list_width

    @property
    def height(self) -> float:
        """Return the picture's size in inches."""
        return self.bottom + self.side + self.top


def draw_confusion(
    confusion: NDArray[np.int64] | Confusion, classes: Sequence[str], path: Path, *, title: str
) -> None:
    """Draw a confusion matrix as a PNG, with a list of the most frequent confusions beside it.

    Each row, a true class, is in percent of that class's rows. With more than `DRAWN_UP_TO` classes
    only the list is drawn.

    Parameters
    ----------
    confusion : int64, (n_classes, n_classes), or Confusion
        Counts; rows are true classes, columns predicted ones.
    path : Path
        The file to write.

    Raises
    ------
    UsageError
        The matrix and the classes have different numbers.
    """
    pairs = as_pairs(confusion)
    if pairs.n_classes != len(classes) or len(classes) < 2:
        raise UsageError(
            f"a matrix of {pairs.n_classes} x {pairs.n_classes} for {len(classes)} classes"
        )
    if len(classes) > DRAWN_UP_TO:
        _draw_words(pairs, classes, path, title)
        return
    confusion = pairs.dense()
    totals = confusion.sum(axis=1, keepdims=True)
    percent = np.full(confusion.shape, np.nan)
    np.divide(100.0 * confusion, totals, out=percent, where=totals > 0)
    names = [shorten(name, NAME_LENGTH) for name in readable(classes)]
    lines = worst_confusions(pairs, names)
    layout = _layout(names, lines)
    figure = new_figure(layout.width, layout.height)
    axes = figure.add_axes(_box(layout, layout.left, layout.bottom, layout.side, layout.side))
    _draw_matrix(figure, axes, percent, layout)
    _draw_names(axes, names, layout)
    _write_text(figure, layout, pairs, lines, title)
    save(figure, path)


def as_pairs(confusion: NDArray[np.int64] | Confusion) -> Confusion:
    """Return the cells of a matrix that are not 0.

    Raises
    ------
    UsageError
        The matrix is not square.
    """
    if isinstance(confusion, Confusion):
        return confusion
    if confusion.ndim != 2 or confusion.shape[0] != confusion.shape[1]:
        raise UsageError(f"a confusion matrix is square, not of shape {confusion.shape}")
    true, predicted = np.nonzero(confusion)
    count = confusion[true, predicted].astype(np.int64)
    return Confusion(n_classes=len(confusion), true=true, predicted=predicted, count=count)


def worst_confusions(
    confusion: NDArray[np.int64] | Confusion, names: Sequence[str]
) -> list[tuple[str, str]]:
    """Return the most frequent confusions as texts (percent of the true class, classes)."""
    pairs = as_pairs(confusion)
    rates = pairs.count / pairs.of_true[pairs.true]
    rates[pairs.true == pairs.predicted] = 0
    listed = 10 if len(names) <= NUMBERS_UP_TO else 25  # a larger picture has the room
    found = []
    for place in np.argsort(-rates, kind="stable")[:listed]:
        if rates[place] > 0:
            what = f"{names[pairs.true[place]]} → {names[pairs.predicted[place]]}"
            found.append((f"{100 * rates[place]:.0f} %", what))
    return found


def _draw_words(pairs: Confusion, classes: Sequence[str], path: Path, title: str) -> None:
    """Draw only the list."""
    lines = worst_confusions(pairs, [shorten(name, NAME_LENGTH) for name in readable(classes)])
    widest = max((text_width(what, 9.5) for _, what in lines), default=2.0)
    side = LIST_STEP * (len(lines) + 1)
    layout = Layout(  # the list begins where the matrix would
        side=side, left=0.3 - side, bottom=0.3, list_width=max(widest + 1, 6.0),
        name_size=8, number_size=8, rotation=0, gap=0, bar=0, bar_room=0,
    )  # fmt: skip
    figure = new_figure(layout.width, layout.height)
    _write_text(figure, layout, pairs, lines, title)
    save(figure, path)


def _layout(names: Sequence[str], lines: Sequence[tuple[str, str]]) -> Layout:
    count = len(names)
    cell = float(np.interp(count, CELL_COUNTS, CELL_SIZES))
    cell = min(cell, MOST_SIDE / count)
    named = count <= NAMES_UP_TO
    name_size = min(10.0, max(4.5, 0.74 * cell * 72)) if named else 8.0
    longest = max(text_width(name, name_size) for name in names) if named else 0.3
    rotation = 45 if cell >= 0.36 else 90
    widest = max((text_width(what, 9.5) for _, what in lines), default=2.0)
    return Layout(
        side=cell * count,
        left=longest + 0.65,
        bottom=longest * (0.78 if rotation == 45 else 1) + 0.55,
        list_width=max(widest + 0.52, text_width(HEADING, 10, "bold")) + 0.3,
        name_size=name_size,
        number_size=min(11.0, 0.27 * cell * 72),
        rotation=rotation,
    )


def _draw_matrix(figure: Figure, axes: Axes, percent: NDArray[np.float64], layout: Layout) -> None:
    import matplotlib as mpl
    from matplotlib.colors import PowerNorm

    colours = mpl.colormaps["Blues"].with_extremes(bad=EMPTY)
    norm = PowerNorm(GAMMA, vmin=0, vmax=100)
    image = axes.imshow(percent, cmap=colours, norm=norm, interpolation="nearest")
    bar_box = _box(
        layout, layout.left + layout.side + layout.gap, layout.bottom, layout.bar, layout.side
    )
    bar = figure.colorbar(image, cax=figure.add_axes(bar_box), ticks=COLOUR_TICKS)
    bar.ax.set_yticklabels([f"{tick} %" for tick in COLOUR_TICKS])
    bar.ax.tick_params(colors=FAINT, labelsize=8, length=0)
    bar.outline.set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(RULE)
    if len(percent) > NUMBERS_UP_TO:
        return
    axes.set_xticks(np.arange(len(percent) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(percent) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.2)
    axes.tick_params(which="minor", length=0)
    for (row, column), value in np.ndenumerate(percent):
        if value >= 0.5:  # smaller ones would all read 0
            axes.text(
                column, row, f"{value:.0f}", ha="center", va="center",
                color="white" if value > DARK_FROM else INK, fontsize=layout.number_size,
                weight="bold" if row == column else "normal",
            )  # fmt: skip


def _draw_names(axes: Axes, names: Sequence[str], layout: Layout) -> None:
    axes.tick_params(length=0, pad=4, colors=INK, labelsize=layout.name_size)
    axes.set_xlabel("predicted", color=FAINT, fontsize=10)
    axes.set_ylabel("true", color=FAINT, fontsize=10)
    if len(names) > NAMES_UP_TO:
        return  # matplotlib writes some class numbers
    alignment = "right" if layout.rotation == 45 else "center"
    anchor = "anchor" if layout.rotation == 45 else "default"
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_xticks(
        range(len(names)), names, rotation=layout.rotation,
        ha=alignment, rotation_mode=anchor, parse_math=False,
    )  # fmt: skip


def _write_text(
    figure: Figure,
    layout: Layout,
    pairs: Confusion,
    lines: Sequence[tuple[str, str]],
    title: str,
) -> None:
    def write(at: tuple[float, float], text: str, style: TextStyle) -> None:
        x, y = at[0] / layout.width, at[1] / layout.height
        figure.text(x, y, text, va="baseline", parse_math=False, **style)

    rows, right = int(pairs.count.sum()), int(pairs.hits.sum())
    edge, top = 0.3, layout.height
    write((edge, top - 0.42), fit(title, layout.width - 2 * edge, 13, "bold"), TITLE)
    share = f"{right:,} of {rows:,} right ({100 * right / max(rows, 1):.1f} %)"
    write((edge, top - 0.68), f"percent of each true class's rows; {share}", SUBTITLE)
    x = layout.left + layout.side + layout.gap + layout.bar + layout.bar_room
    y = layout.bottom + layout.side - 0.12
    write((x, y), HEADING if lines else "Nothing was confused", LIST_HEADING)
    for number, (rate, what) in enumerate(lines, start=1):
        below = y - LIST_STEP * number - 0.04
        write((x + 0.42, below), rate, LIST_RATE)
        write((x + 0.52, below), what, LIST_ITEM)


def _box(
    layout: Layout, x: float, y: float, width: float, height: float
) -> tuple[float, float, float, float]:
    return x / layout.width, y / layout.height, width / layout.width, height / layout.height
