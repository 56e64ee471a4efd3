"""Draw the learning curve: accuracy against images a class, with a band for the draws."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from probe.figures.canvas import BLUE, FAINT, INK, fit, new_figure, quiet_axes, save

if TYPE_CHECKING:
    from probe.evaluation.learning_curve import LearningCurve

WIDTH, HEIGHT = 7.8, 4.6  # inches
LEFT, RIGHT, BOTTOM, TOP = 0.085, 0.955, 0.125, 0.79


def draw_learning_curve(curve: LearningCurve, path: Path, *, title: str) -> None:
    """Draw a learning curve as a PNG: mean and one standard deviation over the draws.

    Parameters
    ----------
    path : Path
        The file to write.
    """
    bands = curve.bands()
    counts = list(bands)
    mean = np.array([100 * one.mean for one in bands.values()])
    deviation = np.array([100 * one.deviation for one in bands.values()])  # NaN: there is no band
    figure = new_figure(WIDTH, HEIGHT)
    axes = figure.add_axes((LEFT, BOTTOM, RIGHT - LEFT, TOP - BOTTOM))
    quiet_axes(axes)
    axes.fill_between(
        counts, mean - deviation, mean + deviation, color=BLUE, alpha=0.15, linewidth=0
    )
    for point in curve.points:
        axes.plot(
            [point.per_class], [100 * point.top1], "o", markersize=3, color=BLUE, alpha=0.35,
            markeredgewidth=0,
        )  # fmt: skip
    axes.plot(counts, mean, color=BLUE, linewidth=1.9, marker="o", markersize=5, clip_on=False)
    for count, value, spread in zip(counts, mean, np.nan_to_num(deviation), strict=True):
        axes.annotate(
            f"{value:.1f}", (count, value + spread), xytext=(0, 7), textcoords="offset points",
            ha="center", color=INK, fontsize=9.5,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.minorticks_off()
    axes.margins(x=0.06, y=0.16)
    axes.set_xlabel("images a class", color=FAINT, fontsize=9.5, labelpad=4)
    axes.set_title(f"Top-1 on {curve.split}, %", loc="left", color=INK, fontsize=10.5, pad=9)
    line = fit(title, WIDTH * (RIGHT - LEFT), 13, "bold")
    figure.text(LEFT, 0.925, line, color=INK, fontsize=13, weight="bold", parse_math=False)
    draws = max(one.count for one in bands.values())
    shown = f"mean and standard deviation of {draws} draws" if draws > 1 else "one draw"
    about = f"{shown}; {curve.n_split:,} {curve.split} images"
    figure.text(LEFT, 0.87, about, color=FAINT, fontsize=10)
    save(figure, path)
