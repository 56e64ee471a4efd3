"""Draw the figures of the page as PNG files for a paper."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from probe.bench.record import Row
from probe.datasets.classes import has_labels
from probe.errors import UsageError
from probe.evaluation.task import task_of
from probe.figures.canvas import (
    BLUE,
    FAINT,
    INK,
    RULE,
    fit,
    new_figure,
    quiet_axes,
    save,
    shorten,
    text_width,
)
from probe.figures.confusion import draw_confusion
from probe.figures.curves import draw_curves
from probe.figures.glyphs import readable
from probe.figures.label_bars import draw_label_bars
from probe.report.analysis import SplitView
from probe.report.feature_map import FeatureMap
from probe.report.label_views import LabelView
from probe.report.leaderboard import SPLIT_NAMES
from probe.report.material import Material
from probe.report.pictures import Pictures, Views
from probe.report.reliability import Reliability
from probe.runs.results import LOSSES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 7.2  # inches
ROW = 0.3
MOST_ROWS = 40
NAME_LENGTH = 46
MARKS = "osD^vP*X"
# the page's palette for a light background
COLOURS = (
    "#114780", "#ac2c14", "#00a861", "#ad83a8", "#d57c00", "#6f74ff", "#250902", "#580da9",
)  # fmt: skip
LEGEND_UP_TO = 20  # the most classes in a legend


def write_pictures(
    folder: Path, material: Material, views: Views, pictures: Pictures
) -> list[Path]:
    """Draw all figures for which there are data as PNG files, and return the paths.

    Raises
    ------
    UsageError
        The folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--png {folder}: cannot be created ({error.strerror})") from error
    made = []
    for name, draw in _plans(material, views, pictures):
        draw(path=folder / f"{name}.png")
        made.append(folder / f"{name}.png")
    return made


def _plans(
    material: Material, views: Views, pictures: Pictures
) -> Iterator[tuple[str, Callable[..., None]]]:
    """Yield the name of each picture and the function that draws it to a path."""
    ranked = [row for row in material.rows if row.rank is not None]
    leader, about = material.leader, f"on {material.dataset}"
    if ranked:
        yield "leaderboard", partial(draw_leaderboard, material, ranked)
    if any(row.cost.total_seconds for row in ranked):
        yield "cost", partial(draw_cost, material, ranked)
    if material.curves:
        yield "learning-curves", partial(draw_learning, material)
    for split, view in (views.get(leader.id, {}) if leader else {}).items():
        title = f"{material.labels[leader.id] if leader else ''} {about}: {SPLIT_NAMES[split]}"
        if isinstance(view, LabelView):
            if figures := _figures_of(view, pictures.classes):
                yield f"labels-{split}", partial(draw_label_bars, figures, len(view), title=title)
        else:
            pairs, names = view.confusion(len(pictures.classes)), pictures.classes
            yield f"confusion-{split}", partial(draw_confusion, pairs, names, title=title)
        yield f"calibration-{split}", partial(draw_calibration, view, title=title)
    for row in ranked:
        history = material.runs[row.id].history if row.id in material.runs else []
        if history:
            title = f"{material.labels[row.id]} {about}"
            yield f"training-{row.run}", partial(draw_curves, history, title=title)
    for one in pictures.maps if material.task.exclusive else ():  # a point has one colour
        yield f"map-{one.method}-{one.entry}", partial(draw_points, one, pictures)


def _figures_of(view: LabelView, classes: Sequence[str]) -> dict[str, dict[str, float]]:
    figures = zip(classes, view.figures.positives, view.figures.average_precision, strict=True)
    return {
        name: {"positives": int(positives), "average_precision": float(precision)}
        for name, positives, precision in figures
        if positives
    }


def _unit(material: Material) -> tuple[float, str]:
    """Return the factor of figures, and their unit."""
    return (1.0, "nats") if material.metric in LOSSES else (100.0, "%")


def draw_leaderboard(material: Material, rows: Sequence[Row], path: Path) -> None:
    """Draw each row's figure on held-out rows with its interval, best on top."""
    shown = rows[:MOST_ROWS]
    names = [shorten(material.labels[row.id], NAME_LENGTH) for row in shown]
    left = max(text_width(name, 9) for name in names) + 0.4
    right = max(text_width(row.letters, 8.5) for row in shown) + 0.3  # inches
    width, height = left + 4.1 + right, ROW * len(shown) + 1.1
    figure = new_figure(width, height)
    axes = figure.add_axes((left / width, 0.55 / height, 4.1 / width, ROW * len(shown) / height))
    quiet_axes(axes)
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    axes.grid(axis="y", visible=False)
    scale, unit = _unit(material)
    for place, row in enumerate(shown):
        split = material.choosing(row) or ""
        value = row.metrics[split][material.metric]
        low, high = row.intervals.get(split, {}).get(material.metric, (value, value))
        axes.plot([scale * low, scale * high], [place, place], color=BLUE, linewidth=1.6)
        axes.plot([scale * value], [place], marker="o", markersize=5, color=BLUE)
        if row.letters:
            axes.annotate(
                row.letters, (1.0, place), xycoords=("axes fraction", "data"), xytext=(6, 0),
                textcoords="offset points", color=FAINT, fontsize=8.5, va="center",
            )  # fmt: skip
    axes.set_yticks(range(len(shown)), names, parse_math=False, fontsize=9, color=INK)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    about = f"{material.word} on held-out rows, {unit}, with 95 % intervals"
    axes.set_xlabel(about, color=FAINT, fontsize=9)
    title = fit(material.dataset, width - 0.6, 12, "bold")
    figure.text(0.02, 1 - 0.3 / height, title, color=INK, fontsize=12, weight="bold",
                parse_math=False)  # fmt: skip
    save(figure, path)


def draw_cost(material: Material, rows: Sequence[Row], path: Path) -> None:
    """Draw the figure on held-out rows against the time from images to a fitted head."""
    groups = list(dict.fromkeys(row.name for row in rows if row.cost.total_seconds))
    scale, unit = _unit(material)
    axes = _panel([shorten(group, NAME_LENGTH) for group in groups])
    for number, group in enumerate(groups):
        for row in [row for row in rows if row.name == group and row.cost.total_seconds]:
            split = material.choosing(row) or ""
            value = row.metrics[split][material.metric]
            low, high = row.intervals.get(split, {}).get(material.metric, (value, value))
            axes.errorbar(
                [row.cost.total_seconds or 0.0], [scale * value],
                yerr=[[scale * max(0, value - low)], [scale * max(0, high - value)]],
                color=_colour(number), marker=_mark(number), markersize=6, capsize=3,
                linewidth=1.2, label=shorten(group, NAME_LENGTH),
            )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda *_: "")
    axes.set_xlabel("seconds to extract the dataset and fit", color=FAINT, fontsize=9)
    axes.set_ylabel(f"{material.word} on held-out rows, {unit}", color=FAINT, fontsize=9)
    _legend(axes)
    save(cast("Figure", axes.figure), path)


def draw_learning(material: Material, path: Path) -> None:
    """Draw accuracy against training images a class: mean and standard deviation over draws."""
    names = {row.entries[0]: row.name for row in material.rows if row.entries}
    labels = [
        shorten(f"{names.get(one.entry, one.entry)} {one.head}", NAME_LENGTH)
        for one in material.curves
    ]
    axes, counts = _panel(labels), set[int]()
    for number, curve in enumerate(material.curves):
        bands = curve.bands()
        counts |= set(bands)
        x, mean = list(bands), np.array([100 * band.mean for band in bands.values()])
        spread = np.array([100 * band.deviation for band in bands.values()])  # NaN: no band
        axes.fill_between(x, mean - spread, mean + spread, color=_colour(number), alpha=0.18, lw=0)
        axes.plot(
            x, mean, color=_colour(number), marker=_mark(number), markersize=5, label=labels[number]
        )
    axes.set_xscale("log")
    axes.set_xticks(sorted(counts), [f"{count:,}" for count in sorted(counts)])
    axes.minorticks_off()
    axes.set_xlabel("training images a class", color=FAINT, fontsize=9)
    axes.set_ylabel(f"top-1, {material.curves[0].split}, %", color=FAINT, fontsize=9)
    _legend(axes)
    save(cast("Figure", axes.figure), path)


def draw_calibration(view: SplitView | LabelView, path: Path, *, title: str) -> None:
    """Draw reliability as fitted and after temperature scaling, side by side."""
    kinds: list[tuple[str, Reliability]] = [("as fitted", view.before)]
    kinds += [("after temperature", view.after)] if view.after else []
    width = 3.6 * len(kinds)
    figure = new_figure(width, 4.1)
    for place, (name, one) in enumerate(kinds):
        box = ((place + 0.17) / len(kinds), 0.13, 0.78 / len(kinds), 0.68)
        axes = figure.add_axes(box)
        quiet_axes(axes)
        axes.plot([0, 100], [0, 100], color=FAINT, linewidth=0.8, linestyle=(0, (1, 3)))
        axes.bar(100 * one.confidence, 100 * one.count / one.count.sum(), 4, color=RULE)
        axes.plot(100 * one.confidence, 100 * one.accuracy, color=BLUE, marker="o", markersize=4)
        axes.set_title(
            f"{name}: error {100 * one.error:.2f} %", fontsize=9.5, color=INK, loc="left"
        )
        axes.set_xlim(0, 101)
        axes.set_ylim(0, 101)
        x, y = task_of(view.labels).axes
        axes.set_xlabel(x, color=FAINT, fontsize=9)
        axes.set_ylabel(y, color=FAINT, fontsize=9)
    line = fit(title, width - 0.5, 11, "bold")
    figure.text(0.03, 0.92, line, fontsize=11, weight="bold", color=INK, parse_math=False)
    save(figure, path)


def draw_points(one: FeatureMap, pictures: Pictures, path: Path) -> None:
    """Draw the feature map's first two dimensions, coloured by class where there are labels."""
    size = 5 if len(one.coordinates) > 2000 else 14
    count, names = pictures.items.n_points, readable(pictures.classes)
    short = [shorten(name, 20) for name in names]
    axes = _panel(short if len(names) <= LEGEND_UP_TO else [""], height=5.2)
    plane, labels = one.coordinates[:count], pictures.labels[:count]
    for label in range(len(names)):
        own = plane[labels == label]
        if len(own):
            axes.scatter(
                own[:, 0], own[:, 1], s=size, color=_colour(label), linewidths=0,
                marker=_mark(label // len(COLOURS)), alpha=0.8, label=short[label],
            )  # fmt: skip
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    if one.explained:
        axes.set_xlabel(f"component 1, {100 * one.explained[0]:.1f} %", color=FAINT, fontsize=9)
        axes.set_ylabel(f"component 2, {100 * one.explained[1]:.1f} %", color=FAINT, fontsize=9)
    if len(names) <= LEGEND_UP_TO and has_labels(pictures.classes):
        _legend(axes)
    save(cast("Figure", axes.figure), path)


def _panel(labels: Sequence[str], *, height: float = 4.4) -> Axes:
    """Return axes of a new figure with room for these names beside them."""
    room = max(text_width(label, 8.5) for label in labels) + 0.65
    width = 0.75 + WIDTH * 0.62 + room
    figure = new_figure(width, height)
    axes = figure.add_axes((0.75 / width, 0.14, WIDTH * 0.62 / width, 0.78))
    quiet_axes(axes)
    return axes


def _legend(axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    legend = axes.legend(
        once.values(), once.keys(), loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False,
        fontsize=8.5, markerscale=1.6 if once else 1,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _mark(number: int) -> str:
    return MARKS[number % len(MARKS)]
