"""How good many heads are, all at once, on rows that they were not fitted on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.errors import NoTemperatureError
from probe.evaluation.metrics import UNSEEN_LOSS, log_loss
from probe.evaluation.multilabel import average_precisions, binary_losses, mean_of
from probe.evaluation.parts import Part
from probe.evaluation.statistics import (
    apply_binary_temperature,
    apply_temperature,
    fit_binary_temperature,
    fit_temperature,
)
from probe.evaluation.streaming import StreamedRows
from probe.heads.base import BaseHead
from probe.heads.normalize import Features

BLOCK_SCORES = 1 << 22  # numbers at a time: 16 MB
CALIBRATED_SCORES = 1 << 20  # of a candidate are enough for its temperature: every so many rows
RANKED_SCORES = 1 << 24  # likewise where all rows are ranked: 64 MB

Array64 = NDArray[np.float64]


def score_heads(heads: Sequence[BaseHead], part: Part) -> tuple[Array64, Array64]:
    """Return top-1 and log loss of heads that were fitted on the same rows, (n_heads,) each.

    See `score_rows`.
    """
    score, loss, _ = score_rows(heads, part)
    return score, loss


def score_rows(
    heads: Sequence[BaseHead], part: Part
) -> tuple[Array64, Array64, NDArray[np.bool_] | None]:
    """Return top-1 and log loss of heads, (n_heads,), and what was right, (n_heads, n_images).

    Probabilities are averaged over an image's views. A class that training lacks is always wrong.
    Where an image may have several labels: mean average precision, mean binary log loss, and None.
    """
    if heads[0].multilabel_:
        return *_score_several(heads, part), None
    n_classes, labels = len(heads[0].classes_), heads[0].encode(part.y, len(part))
    right, loss = np.zeros((len(heads), len(part)), bool), np.zeros(len(heads))
    for start, p in _probabilities(heads, part, n_classes):
        own = labels[start : start + len(p)]
        right[:, start : start + len(p)] = (p.argmax(axis=2) == own[:, None]).T
        likely = np.take_along_axis(p, own.clip(0)[:, None, None], axis=2)[..., 0]
        losses = -np.log(np.maximum(likely, np.finfo(np.float64).eps))
        loss += np.where(own[:, None] < 0, UNSEEN_LOSS, losses).sum(axis=0)
    return np.count_nonzero(right, axis=1) / len(labels), loss / len(labels), right


def _score_several(heads: Sequence[BaseHead], part: Part) -> tuple[Array64, Array64]:
    """Score heads that give several labels; a ranking needs all rows, so a few heads at a time."""
    n_classes, labels = len(heads[0].classes_), heads[0].encode(part.y, len(part))
    precision, loss = np.zeros(len(heads)), np.zeros(len(heads))
    step = max(1, RANKED_SCORES // labels.size)
    for first in range(0, len(heads), step):
        some = heads[first : first + step]
        p = np.concatenate([block for _, block in _probabilities(some, part, n_classes)])
        for number in range(len(some)):
            own = p[:, number]
            precision[first + number] = mean_of(average_precisions(own, labels)) or 0.0
            loss[first + number] = binary_losses(own, labels).mean()
    return precision, loss


def _probabilities(
    heads: Sequence[BaseHead], part: Part, n_classes: int
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield (first image, probabilities (images, heads, classes)), averaged over views."""
    step = max(1, BLOCK_SCORES // (len(heads) * n_classes * part.views))
    for start in range(0, len(part), step):
        X = _some(part, start, min(start + step, len(part)))
        p = type(heads[0]).predict_many(heads, X)
        yield start, p.reshape(-1, part.views, len(heads), n_classes).mean(axis=1)


def _some(part: Part, start: int, stop: int) -> Features:
    """Return some images' rows: a view of an array, or rows that are still unread."""
    if isinstance(part.X, StreamedRows):
        return part.X.take(np.arange(start, stop, dtype=np.intp))
    return part.X[start * part.views : stop * part.views]


def calibrated_losses(fits: Sequence[tuple[Sequence[BaseHead], Part]]) -> Array64:
    """Return the log loss of heads at the temperature that suits each best, (n_heads,), in nats.

    Without one, where no temperature is best, as they are. Labels that a head does not know do not
    count.

    Parameters
    ----------
    fits : sequence of (heads, part)
        A fold each: the heads to compare, and the rows that none of them saw.
    """
    count = len(fits[0][0])
    return np.array([_calibrated([(heads[i], part) for heads, part in fits]) for i in range(count)])


def _calibrated(fits: Sequence[tuple[BaseHead, Part]]) -> float:
    """Return that loss of one head, or of a fold's head each on the fold's rows."""
    several = fits[0][0].multilabel_
    n_classes = max(int(head.classes_.max()) for head, _ in fits) + 1
    logits, labels = [], []
    for head, part in fits:
        known = part.y if several else head.encode(part.y, len(part))
        found = part.predict_logits(head, n_classes)
        keep = slice(None) if several else known >= 0
        logits.append(found[keep])
        labels.append(part.y[keep])
    scores, truth = np.concatenate(logits), np.concatenate(labels)
    if not len(truth):
        return UNSEEN_LOSS
    try:
        fit = fit_binary_temperature if several else fit_temperature
        temperature = fit(scores, truth)
    except NoTemperatureError:
        temperature = 1.0
    if several:
        return float(binary_losses(apply_binary_temperature(scores, temperature), truth).mean())
    return log_loss(apply_temperature(scores, temperature), truth)
