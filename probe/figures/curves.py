"""Draw the training curve: loss and top-1 on training and validation rows after each epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from probe.errors import UsageError
from probe.figures.canvas import BLUE, FAINT, INK, fit, new_figure, quiet_axes, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from probe.heads.history import Epoch

WIDTH, HEIGHT = 7.8, 6.6  # inches
ONE_PANEL = 3.9
LEFT, RIGHT = 0.085, 0.80  # the labels of the lines are right of the panels
LABEL_GAP = 0.085  # of a panel's height: labels that are closer are moved apart
TRAIN, VALIDATION = "train", "validation"
COLOURS = {TRAIN: FAINT, VALIDATION: BLUE}


def draw_curves(history: Sequence[Epoch], path: Path, *, title: str) -> None:
    """Draw a head's history as a PNG.

    Two panels share the epoch axis: cross-entropy in nats above, and top-1 or mean average
    precision in percent below, if there is one. The name and the last value of each line are at its
    end; the best epoch on validation is marked.

    Parameters
    ----------
    history : sequence of Epoch
        At least one. Heads without epochs have no curve.
    path : Path
        The file to write.

    Raises
    ------
    UsageError
        The history is empty.
    """
    if not history:
        raise UsageError("there is no training curve: this head was not fitted epoch by epoch")
    below, heading = _second_panel(history)
    height = HEIGHT if below else ONE_PANEL
    figure = new_figure(WIDTH, height)

    def panel(bottom: float, tall: float) -> Axes:  # inches of a picture of two panels
        room = HEIGHT - height
        box = (LEFT, (bottom * HEIGHT - room) / height, RIGHT - LEFT, tall * HEIGHT / height)
        return figure.add_axes(box)

    lowest = upper = panel(0.515, 0.315)
    epochs = [epoch.epoch for epoch in history]
    losses = _lines([e.train_loss for e in history], [e.val_loss for e in history])
    _panel(upper, epochs, losses, heading="Cross-entropy, nats", form="{:.3f}")
    _at_least(upper, 0.2, top=None)
    _name_lines(upper, losses, "{:.3f}")
    if below:
        lowest = panel(0.085, 0.335)
        lowest.sharex(upper)
        _draw_percent(lowest, epochs, below, heading, best=_kept(history))
        upper.tick_params(labelbottom=False)
    lowest.set_xlabel("epoch", color=FAINT, fontsize=9.5, labelpad=4)
    _epoch_axis(lowest, epochs)
    line = fit(title, WIDTH * (0.97 - LEFT), 13, "bold")
    top = 1 - 0.055 * HEIGHT / height
    figure.text(LEFT, top, line, color=INK, fontsize=13, weight="bold", parse_math=False)
    under = 1 - 0.095 * HEIGHT / height
    figure.text(LEFT, under, _subtitle(history), color=FAINT, fontsize=10)
    save(figure, path)


def _second_panel(history: Sequence[Epoch]) -> tuple[dict[str, list[float]], str]:
    """Return the lines of the second panel, if there are any, and its heading."""
    train = [one.train_top1 for one in history if one.train_top1 is not None]
    if train:
        return _lines(train, [one.val_top1 for one in history]), "Top-1 accuracy, %"
    maps = [one.val_map for one in history if one.val_map is not None]
    complete = maps and len(maps) == len(history)
    return ({VALIDATION: maps} if complete else {}), "Mean average precision, %"


def _kept(history: Sequence[Epoch]) -> int:
    """Return the index of the best epoch, which fine-tuning keeps; see `Epoch.rank`."""
    return max(range(len(history)), key=lambda place: (*history[place].rank, -place))


def _draw_percent(
    axes: Axes, epochs: list[int], lines: dict[str, list[float]], heading: str, *, best: int
) -> None:
    percent = {name: [100 * value for value in values] for name, values in lines.items()}
    _panel(axes, epochs, percent, heading=heading, form="{:.1f} %", best=best)
    _at_least(axes, 5.0, top=100.0)
    _name_lines(axes, percent, "{:.1f} %")


def _lines(train: Sequence[float], validation: Sequence[float | None]) -> dict[str, list[float]]:
    """Return the lines that were measured, by name."""
    measured = [value for value in validation if value is not None]
    lines = {TRAIN: list(train)}
    return lines | {VALIDATION: measured} if len(measured) == len(train) else lines


def _panel(
    axes: Axes,
    epochs: list[int],
    lines: dict[str, list[float]],
    *,
    heading: str,
    form: str,
    best: int | None = None,
) -> None:
    """Draw lines over epochs; mark the epoch `best` on validation, by default the lowest value."""
    quiet_axes(axes)
    axes.set_title(heading, loc="left", color=INK, fontsize=10.5, pad=9)
    single = "o" if len(epochs) == 1 else ""  # a line through one point cannot be seen
    for name, values in lines.items():
        axes.plot(
            epochs, values, color=COLOURS[name], linewidth=1.9, marker=single, clip_on=False,
            solid_capstyle="round", solid_joinstyle="round",
        )  # fmt: skip
    axes.margins(y=0.12)
    if VALIDATION in lines and len(epochs) > 1:
        _mark_best(axes, epochs, lines[VALIDATION], form=form, best=best)


def _mark_best(
    axes: Axes, epochs: list[int], values: list[float], *, form: str, best: int | None
) -> None:
    index = values.index(min(values)) if best is None else best
    epoch, value = epochs[index], values[index]
    axes.axvline(epoch, color=BLUE, linewidth=0.8, linestyle=(0, (1, 3)), zorder=1)
    axes.plot(
        [epoch], [value], marker="o", markersize=7, color=BLUE, markeredgecolor="white",
        markeredgewidth=1.5, clip_on=False, zorder=4,
    )  # fmt: skip
    axes.set_title(
        f"{'lowest' if best is None else 'best'} on validation: {form.format(value)} "
        f"at epoch {epoch}",
        loc="right", color=BLUE, fontsize=9.5, pad=9,
    )  # fmt: skip


def _at_least(axes: Axes, span: float, top: float | None) -> None:
    """Set an axis of at least `span` that does not exceed the possible range."""
    low, high = axes.get_ylim()
    missing = max(0.0, span - (high - low)) / 2
    low, high = max(0.0, low - missing), high + missing
    axes.set_ylim(low, high if top is None else min(high, top + 0.01 * (high - low)))


def _name_lines(axes: Axes, lines: dict[str, list[float]], form: str) -> None:
    """Write each line's name and last value at its end, moved apart if they would touch."""
    low, high = axes.get_ylim()
    heights = {name: (values[-1] - low) / (high - low) for name, values in lines.items()}
    if len(heights) == 2:
        lower, upper = sorted(heights, key=lambda name: heights[name])
        overlap = LABEL_GAP - (heights[upper] - heights[lower])
        if overlap > 0:
            heights[upper] += overlap / 2
            heights[lower] -= overlap / 2
    for name, height in heights.items():
        axes.annotate(
            f"{name} {form.format(lines[name][-1])}",
            (1.0, height), xycoords="axes fraction", xytext=(8, 0), textcoords="offset points",
            color=COLOURS[name], fontsize=10, va="center", annotation_clip=False,
        )  # fmt: skip


def _epoch_axis(axes: Axes, epochs: list[int]) -> None:
    from matplotlib.ticker import MaxNLocator

    first, last = epochs[0], epochs[-1]
    room = 0.5 if first == last else 0.0
    axes.set_xlim(first - room, last + room)
    ticks = [
        t
        for t in MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]).tick_values(first, last)
        if first < t < last
    ]
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1
    inner = [t for t in ticks if t - first > step / 2 and last - t > step / 2]
    axes.set_xticks(sorted({first, *inner, last}))


def _subtitle(history: Sequence[Epoch]) -> str:
    last, seconds = history[-1], sum(epoch.seconds for epoch in history)
    count = f"{len(history)} epoch{'' if len(history) == 1 else 's'}"
    if last.train_top1 is None:
        figures = f"cross-entropy {last.train_loss:.3f} on train"
        if last.val_loss is not None and last.val_map is None:  # there is room for only one of them
            figures += f", {last.val_loss:.3f} on validation"
    else:
        figures = f"top-1 {100 * last.train_top1:.1f} % on train"
    if last.val_top1 is not None:
        figures += f", {100 * last.val_top1:.1f} % on validation"
    if last.val_map is not None:
        figures += f", mAP {100 * last.val_map:.1f} % on validation"
    timing = f" in {seconds:.1f} s" if seconds > 0 else ""
    return f"{count}{timing}; at the end {figures}"
