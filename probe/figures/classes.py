"""The picture of a run's classes: what is confused with what, or how well each label is found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from probe.evaluation.metrics import Metrics
from probe.evaluation.multilabel import MultiLabelMetrics
from probe.figures.confusion import draw_confusion
from probe.figures.label_bars import draw_label_bars

CONFUSION = "confusion.png"
LABEL_BARS = "average_precision.png"  # where an image may have several labels


def draw_classes(
    folder: Path,
    metrics: Metrics | MultiLabelMetrics,
    labels: Mapping[str, Any] | None,
    classes: Sequence[str],
    *,
    n_rows: int,
    title: str,
) -> None:
    """Draw the confusion matrix, or of several labels an image the average precision of each.

    Parameters
    ----------
    folder : Path
        Of the run.
    labels : mapping or None
        `RunResult.multilabel`.
    n_rows : int
        Images that were measured.
    """
    if isinstance(metrics, Metrics):
        draw_confusion(metrics.pairs, tuple(classes), folder / CONFUSION, title=title)
    elif labels is not None and metrics.map is not None:
        draw_label_bars(labels["classes"], n_rows, folder / LABEL_BARS, title=title)
