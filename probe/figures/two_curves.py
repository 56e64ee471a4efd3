"""Draw ROC and precision-recall curves of two classes, with the chosen threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probe.evaluation.ranking_curves import TwoCurves, words_of_interval
from probe.figures.canvas import BLUE, FAINT, INK, RULE, fit, new_figure, save
from probe.figures.glyphs import readable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 8.6, 5.3  # inches
LEFT, GAP, SIDE, BOTTOM = 0.62, 0.85, 3.35, 0.62  # inches; panels are square
NAME = 24  # letters of a class name
MOST_POINTS = 4000


def draw_two_curves(
    found: TwoCurves,
    intervals: Mapping[str, Any],
    path: Path,
    *,
    classes: Sequence[str],
    title: str,
) -> None:
    """Draw both curves as a PNG.

    On the left is the ROC curve, recall against the false positive rate, with the diagonal of
    chance. On the right is precision against recall in steps, with the share of positive rows as
    chance. The chosen threshold is a filled point in both, and predicting the more probable class
    is a ring. Without a chosen threshold the latter is the filled point.

    Parameters
    ----------
    found : TwoCurves
        Curves of several repeats are drawn over each other.
    intervals : mapping
        The split's intervals in `RunResult.two_classes`.
    path : Path
        The file to write.
    classes : sequence of str
        The names of both classes.
    """
    curves, points = found.curves, found.points
    name = fit(readable(classes)[found.positive], 1.8, 10)
    figure = new_figure(WIDTH, HEIGHT)
    boxes = [
        (x / WIDTH, BOTTOM / HEIGHT, SIDE / WIDTH, SIDE / HEIGHT) for x in (LEFT, LEFT + SIDE + GAP)
    ]
    roc, pr = (figure.add_axes(box) for box in boxes)
    whole = [curve.thinned(MOST_POINTS) for curve in curves]
    alpha = 1.0 if len(whole) == 1 else max(0.25, 1 / len(whole))
    for curve in whole:
        style: dict[str, Any] = {
            "color": BLUE, "linewidth": 1.9, "alpha": alpha, "clip_on": False, "zorder": 3,
            "solid_capstyle": "round", "solid_joinstyle": "round",
        }  # fmt: skip
        roc.plot(100 * curve.false_positives, 100 * curve.recall, **style)
        pr.step(*(100 * values for values in curve.steps()), where="pre", **style)
    share = 100 * float(curves[0].precision[-1])
    _chance(roc, [0, 100], [0, 100])
    _chance(pr, [0, 100], [share, share])
    auc = f"area {100 * found.auc:.1f} %{words_of_interval(intervals.get('auc'))}"
    precision = f"average precision {100 * found.average_precision:.1f} %"
    _panel(roc, "ROC", auc, "false positives, % of the others", f"recall of {name}, %")
    _panel(pr, "Precision and recall", precision, f"recall of {name}, %", "precision, %")
    places = list(points.values())
    _mark(roc, [(100 * one.false_positives, 100 * one.recall) for one in places])
    _mark(pr, [
        None if one.precision is None else (100 * one.recall, 100 * one.precision)
        for one in places
    ])  # fmt: skip
    about = f"{share:.1f} % of the images are {name}"
    _write(figure, title, list(points), about)
    save(figure, path)


def _chance(axes: Axes, x: list[float], y: list[float]) -> None:
    axes.plot(x, y, color=FAINT, linewidth=1.0, linestyle=(0, (1, 3)), zorder=2)


def _panel(axes: Axes, heading: str, figure: str, x: str, y: str) -> None:
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    axes.set_title(heading, loc="left", color=INK, fontsize=10.5, pad=9)
    axes.set_title(figure, loc="right", color=BLUE, fontsize=9.5, pad=9)
    axes.set_xlabel(x, color=FAINT, fontsize=9.5, labelpad=4, parse_math=False)
    axes.set_ylabel(y, color=FAINT, fontsize=9.5, labelpad=4, parse_math=False)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    axes.tick_params(colors=FAINT, labelsize=9, length=0, pad=5)
    axes.grid(color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)


def _mark(axes: Axes, places: Sequence[tuple[float, float] | None]) -> None:
    """Mark points: the last one filled, the others as rings."""
    for number, place in enumerate(places):
        if place is None:
            continue
        last = number == len(places) - 1
        axes.plot(
            [place[0]], [place[1]], marker="o", linestyle="none", clip_on=False, zorder=5 + number,
            markersize=8 if last else 7, color=INK if last else "white",
            markeredgecolor="white" if last else INK, markeredgewidth=1.5,
        )  # fmt: skip


def _write(figure: Any, title: str, names: Sequence[str], about: str) -> None:
    left = LEFT / WIDTH

    def line(inches: float, text: str, **style: Any) -> None:
        figure.text(left, 1 - inches / HEIGHT, text, parse_math=False, **style)

    room = WIDTH - LEFT - 0.2
    line(0.34, fit(title, room, 13, "bold"), color=INK, fontsize=13, weight="bold")
    line(0.59, fit(f"{about}; dotted: by chance", room, 10), color=FAINT, fontsize=10)
    signs = ["●"] if len(names) == 1 else ["○", "●"]
    key = "    ".join(f"{sign} {name}" for sign, name in zip(signs, names, strict=True))
    line(0.84, fit(key, room, 9.5), color=INK, fontsize=9.5)
