"""Controls of a fine-tuning: trainings on the same images in the same order with one change.

    zeros        the head's last layer starts from zeros, not from the probe
    fresh        the head starts from Xavier initialisation
    scratch      everything starts from random weights
    last-layer   the backbone is frozen

`last-layer` starts from the head that the run starts from: the probe's, one of zeros, or with
`--start fresh` a Xavier one. If the run starts from random weights, the others start from
pretrained weights, `last-layer` with a Xavier head, since a head on random features would be no
useful control.

Controls never see test images. Their files are in the run's `compare/NAME/`; the table and the
picture show all of them together.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.core.files import write_text
from probe.core.records import read_record, write_record
from probe.core.sheets import Sheet
from probe.core.short_repr import short_repr
from probe.core.text import capital
from probe.errors import DataError, UsageError
from probe.evaluation.task import SINGLE_LABEL, TASKS
from probe.figures.canvas import FAINT, INK, fit, new_figure, quiet_axes, save
from probe.finetune.options import BACKBONE, Options
from probe.heads.history import Epoch
from probe.runs.results import METRIC_WORDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

log = logging.getLogger(__name__)

COMPARED, TABLE, PICTURE, STATE = "compare", "comparison.csv", "comparison.png", "comparison.json"
CONTROLS = ("zeros", "fresh", "scratch", "last-layer")
OWN = "this run"
SMOOTH = 20  # largest number of batches that the running mean of the loss is over


@dataclass(frozen=True, kw_only=True, eq=False)
class Course:
    """The figures of one training, epoch by epoch and batch by batch.

    Parameters
    ----------
    metric : str
        ``top1`` or ``map``: what `score` and the epochs are.
    loss, score : float
        On validation before the first step.
    batches : float32, (n, 2)
        Loss and top-1 of each training batch; with multi-label images the share of right
        decisions.
    per_epoch : int
        Batches of an epoch; the last one may have fewer.
    """

    __repr__ = short_repr

    name: str
    metric: str
    loss: float
    score: float
    history: tuple[Epoch, ...]
    batches: NDArray[np.float32]
    per_epoch: int

    @property
    def best(self) -> Epoch:
        """The epoch whose parameters a run keeps, see `Epoch.rank`."""
        return max(self.history, key=lambda one: (*one.rank, -one.epoch))


def control_options(name: str, options: Options) -> Options:
    """Return the options of a control.

    Raises
    ------
    UsageError
        There is no such control, or it is the same training as the run.
    """
    if name not in CONTROLS:
        raise UsageError(f"--compare {name}: expected some of {', '.join(CONTROLS)}")
    if name == "last-layer":
        trained = options.start == "scratch"  # its statistics go by the batch
        made = replace(
            options, freeze=BACKBONE, unfreeze=(), bn=None if trained else options.bn,
            start="fresh" if trained else options.start,
        )  # fmt: skip
    else:
        # its BatchNorms go by the batch: stored statistics of random weights mean nothing
        bn = None if "scratch" in (name, options.start) else options.bn
        frozen = {"freeze": "none", "unfreeze": ()} if name == "scratch" else {}
        made = replace(options, start=name, bn=bn, **frozen)  # type: ignore[arg-type]
    if _resolved(made) == _resolved(options):
        raise UsageError(f"--compare {name}: this is what the run itself does")
    return made


def _resolved(options: Options) -> Options:
    """Return options with their defaults written out, so that equal trainings are equal."""
    return replace(options, bn=options.batch_norm, lr=options.rate)


def save_course(folder: Path, course: Course) -> None:
    """Write the figures of a training that is complete."""
    plain = {
        "name": course.name, "loss": course.loss, course.metric: course.score,
        "history": [asdict(one) for one in course.history], "batches": course.batches.tolist(),
        "per_epoch": course.per_epoch,
    }  # fmt: skip
    write_record(folder / STATE, plain, indent=None)


def load_course(folder: Path) -> Course | None:
    """Return a training's figures if it is complete; None if it has to be trained (again)."""
    path = folder / STATE
    if not path.exists():
        return None
    try:
        return read_record(path, "the course of a training", _course)
    except DataError as error:
        log.warning("%s; it is trained again", error)
        return None


def _course(plain: dict[str, Any]) -> Course:
    metric = next((one.metric for one in TASKS if one.metric in plain), SINGLE_LABEL.metric)
    batches = np.array(plain["batches"], np.float32).reshape(-1, 2)
    return Course(
        name=plain["name"], metric=metric, loss=float(plain["loss"]), batches=batches,
        score=float(plain[metric]), history=tuple(Epoch(**one) for one in plain["history"]),
        per_epoch=plain.get("per_epoch") or len(batches) // len(plain["history"]),
    )  # fmt: skip


def save_comparison(folder: Path, courses: Sequence[Course], *, title: str) -> None:
    """Write the table and the picture of several trainings."""
    text = io.StringIO()
    sheet = Sheet(text)
    value = f"val_{courses[0].metric}"
    columns = ("run", "epoch", "train_loss", "train_top1", "val_loss", value, "seconds")
    sheet.row(columns)
    for course in courses:
        sheet.row((course.name, 0, "", "", course.loss, course.score, ""))
        for one in course.history:
            sheet.row((course.name, *(getattr(one, name) for name in columns[1:])))
    write_text(folder / TABLE, text.getvalue())
    draw_courses({one.name: one for one in courses}, folder / PICTURE, title=title)


COLOURS = ("#0072b2", "#d55e00", "#009e73", "#6b7280", "#cc79a7", "#e69f00")  # Okabe and Ito


def draw_courses(courses: Mapping[str, Course], path: Path, *, title: str) -> None:
    """Draw the running mean of the training loss above validation top-1 or mAP, over batches.

    Each line is labelled at its end. The mean top-1 of each epoch's training batches, where it was
    recorded, is a dashed line of the same colour.
    """
    word = METRIC_WORDS[next(iter(courses.values())).metric]
    figure = new_figure(7.8, 6.8)
    upper = figure.add_axes((0.085, 0.5, 0.68, 0.36))
    lower = figure.add_axes((0.085, 0.085, 0.68, 0.33), sharex=upper)
    ends: dict[str, list[tuple[float, str, str]]] = {"upper": [], "lower": []}
    ceiling, dashed = 0.0, ""
    single = "_" if max(len(one.history) for one in courses.values()) == 1 else ""
    for (name, course), colour in zip(courses.items(), cycle(COLOURS), strict=False):
        losses = course.batches[:, 0].astype(np.float64)
        width = max(1, min(SMOOTH, len(losses) // 5))
        smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
        upper.plot(np.arange(width, len(losses) + 1), smooth, color=colour, lw=1.4)
        ceiling = max(ceiling, float(np.quantile(smooth, 0.95)))
        done = [min(one.epoch * course.per_epoch, len(losses)) for one in course.history]
        steps = [0, *done]
        values = [100 * course.score, *(100 * one.val_score for one in course.history)]
        lower.plot(steps, values, color=colour, lw=1.6, marker="o", ms=3)
        train = [100 * one.train_top1 for one in course.history if one.train_top1 is not None]
        if len(train) == len(done):
            lower.plot(done, train, color=colour, lw=1.0, ls=(0, (3, 2)), marker=single)
            dashed = "; dashed: of training batches"
        ends["upper"].append((float(smooth[-1]), f"{name} {smooth[-1]:.2f}", colour))
        ends["lower"].append((values[-1], f"{name} {values[-1]:.1f} %", colour))
    upper.set_ylim(0, 1.1 * ceiling)
    for axes, heading, which in (
        (upper, "Loss of training batches, nats (running mean)", "upper"),
        (lower, f"{capital(word)} on validation, %{dashed}", "lower"),
    ):
        quiet_axes(axes)
        axes.set_title(heading, loc="left", fontsize=10, color=INK)
        _name_ends(axes, ends[which])
    upper.tick_params(labelbottom=False)
    lower.set_xlabel("batches", color=FAINT, fontsize=9.5)
    figure.text(0.085, 0.94, fit(title, 6.9, 13, "bold"), fontsize=13, weight="bold", color=INK)
    save(figure, path)


def _name_ends(axes: Axes, ends: list[tuple[float, str, str]]) -> None:
    """Label each line right of its end, with labels moved apart where ends are close."""
    low, high = axes.get_ylim()
    gap, last = 0.075 * (high - low), -np.inf
    for value, text, colour in sorted(ends):
        last = max(min(value, high), last + gap)
        axes.annotate(
            text, (1.015, last), xycoords=("axes fraction", "data"), color=colour, fontsize=9,
            va="center", annotation_clip=False,
        )  # fmt: skip
