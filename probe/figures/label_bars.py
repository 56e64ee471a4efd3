"""Draw the average precision of each label of a multi-label dataset."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probe.core.text import counted
from probe.errors import UsageError
from probe.figures.canvas import BLUE, FAINT, INK, RULE, fit, new_figure, save, shorten, text_width
from probe.figures.glyphs import readable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 7.8  # inches
TOP, BOTTOM, STEP = 0.95, 0.55, 0.27
MOST = 40  # bars; with more labels the lowest are shown
NAME_LENGTH = 28
NAME_SIZE = 9.5
VALUES = 1.6  # room for values right of the bars


def draw_label_bars(
    figures: Mapping[str, Mapping[str, Any]], n_rows: int, path: Path, *, title: str
) -> None:
    """Draw the average precision of each label as a PNG, the highest on top.

    A mark on each bar shows chance: the share of images that have the label.

    Parameters
    ----------
    figures : mapping of class name to its figures
        As in `RunResult.multilabel`; labels without an average precision are left out.
    n_rows : int
        Number of images on which they were measured.
    path : Path
        The file to write.

    Raises
    ------
    UsageError
        No label has an average precision.
    """
    measured = {name: one for name, one in figures.items() if "average_precision" in one}
    if not measured:
        raise UsageError("no label has an image, so there is no average precision to draw")
    ranked = sorted(measured, key=lambda name: -measured[name]["average_precision"])[-MOST:]
    names = [shorten(name, NAME_LENGTH) for name in readable(ranked)]
    left = 0.35 + max(text_width(name, NAME_SIZE) for name in names)
    height = TOP + BOTTOM + STEP * len(ranked)
    figure = new_figure(WIDTH, height)
    box = (
        left / WIDTH,
        BOTTOM / height,
        (WIDTH - left - VALUES) / WIDTH,
        STEP * len(ranked) / height,
    )
    axes = figure.add_axes(box)
    _draw(axes, [measured[name] for name in ranked], names, n_rows)
    line = fit(title, WIDTH - 0.4, 13, "bold")
    at = 1 - 0.38 / height
    figure.text(0.2 / WIDTH, at, line, color=INK, fontsize=13, weight="bold", parse_math=False)
    whole = measured.values()
    mean = sum(float(one["average_precision"]) for one in whole) / len(measured)
    few = f", the lowest {MOST} of {len(measured)} labels" if len(measured) > MOST else ""
    about = f"Average precision, %{few}; mean {100 * mean:.1f} %. Marks: by chance"
    figure.text(0.2 / WIDTH, 1 - 0.66 / height, about, color=FAINT, fontsize=10)
    save(figure, path)


def _draw(axes: Axes, figures: list[Mapping[str, Any]], names: list[str], n_rows: int) -> None:
    places = list(range(len(names)))[::-1]
    values = [100 * float(one["average_precision"]) for one in figures]
    chance = [100 * int(one["positives"]) / n_rows for one in figures]
    axes.barh(places, values, height=0.62, color=BLUE)
    for place, value, one, guess in zip(places, values, figures, chance, strict=True):
        axes.plot([guess, guess], [place - 0.42, place + 0.42], color=INK, linewidth=1.6)
        for x, text, colour in (
            (8, f"{value:.1f}", INK),
            (104, counted(int(one["positives"]), "image"), FAINT),
        ):
            axes.annotate(
                text, (1.0, place), xycoords=("axes fraction", "data"), xytext=(x, 0),
                textcoords="offset points", color=colour, fontsize=NAME_SIZE, va="center",
                ha="left" if x == 8 else "right", annotation_clip=False,
            )  # fmt: skip
    axes.set_xlim(0, 100)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_yticks(places, names, color=INK, fontsize=NAME_SIZE, parse_math=False)
    axes.tick_params(length=0, colors=FAINT, labelsize=9)
    for label in axes.get_yticklabels():
        label.set_color(INK)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
