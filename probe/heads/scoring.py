"""How good many heads are, all at once, on rows that they were not fitted on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.heads.base import BaseHead
from probe.heads.knn import KNNHead, vote_of_many
from probe.heads.linear import LinearHead
from probe.heads.normalize import Features, blocks
from probe.logits import from_scores
from probe.metrics import UNSEEN_LOSS
from probe.multilabel import average_precisions, binary_losses, mean_of
from probe.parts import Part
from probe.streaming import StreamedRows

BLOCK_SCORES = 1 << 22  # numbers at a time: 16 MB
RANKED_SCORES = 1 << 24  # likewise where all rows are ranked: 64 MB

Array64 = NDArray[np.float64]


def score_heads(heads: Sequence[BaseHead], part: Part) -> tuple[Array64, Array64]:
    """Return top-1 and log loss of heads that were fitted on the same rows, (n_heads,) each.

    Probabilities are averaged over an image's views. A class that training lacks is always wrong.
    Where an image may have several labels: mean average precision, and mean binary log loss.
    """
    if heads[0].multilabel_:
        return _score_several(heads, part)
    n_classes, labels = len(heads[0].classes_), heads[0].encode(part.y, len(part))
    right, loss = np.zeros(len(heads)), np.zeros(len(heads))
    for start, p in _probabilities(heads, part, n_classes):
        own = labels[start : start + len(p)]
        right += (p.argmax(axis=2) == own[:, None]).sum(axis=0)
        likely = np.take_along_axis(p, own.clip(0)[:, None, None], axis=2)[..., 0]
        losses = -np.log(np.maximum(likely, np.finfo(np.float64).eps))
        loss += np.where(own[:, None] < 0, UNSEEN_LOSS, losses).sum(axis=0)
    return right / len(labels), loss / len(labels)


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
        p = _of_rows(heads, _some(part, start, min(start + step, len(part))))
        yield start, p.reshape(-1, part.views, len(heads), n_classes).mean(axis=1)


def _some(part: Part, start: int, stop: int) -> Features:
    """Return some images' rows: a view of an array, or rows that are still unread."""
    if isinstance(part.X, StreamedRows):
        return part.X.take(np.arange(start, stop, dtype=np.intp))
    return part.X[start * part.views : stop * part.views]


def _of_rows(heads: Sequence[BaseHead], X: Features) -> NDArray[Any]:
    """Return probabilities, (rows, heads, classes)."""
    if all(isinstance(head, LinearHead) and len(head.layers()) == 1 for head in heads):
        return _of_linear(heads, X)
    if all(isinstance(head, KNNHead) for head in heads):
        return vote_of_many(heads, X)
    return np.stack([head.predict_proba(X) for head in heads], axis=1)


def _of_linear(heads: Sequence[LinearHead], X: Features) -> NDArray[Any]:
    """One product scores them all: heads that were fitted on the same rows share a normaliser."""
    weights = np.concatenate([head.coef_ for head in heads]).T.astype(np.float32)
    biases = np.concatenate([head.intercept_ for head in heads]).astype(np.float32)
    scores = np.empty((len(X), weights.shape[1]), np.float32)
    for start, block in blocks(X):
        rows = heads[0].normalizer_.apply(block).astype(np.float32)
        scores[start : start + len(block)] = rows @ weights + biases
    shaped = scores.reshape(len(X), len(heads), -1)
    return from_scores(shaped, heads[0].multilabel_)
