"""Metrics of multi-label predictions.

Every figure is a fraction from 0 to 1, log loss is in nats. N rows, C classes; labels are (N, C) of
0 and 1, scores or probabilities (N, C), each column on its own. A class without a positive row has
no average precision, no area and no F1: it is left out of means over classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.short_repr import short_repr
from probe.errors import DataError
from probe.evaluation.metrics import area_under_roc, calibration_gap
from probe.evaluation.statistics import LEVEL, Units, are_related, exact_interval

Probabilities = NDArray[np.floating[Any]]
Indicators = NDArray[np.integer[Any]]
Array64 = NDArray[np.float64]

HALF = 0.5
ALIKE = 1e-12  # figures that differ by less are equal
DRAWS, LEAST_DRAWS = 1000, 200
MOST_DRAWN = 50_000  # decisions: with more there are fewer draws
BLOCK = 1 << 20  # counts at a time: 4 MB


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelFigures:
    """What is measured of each class, (C,) each; NaN where it cannot be.

    Parameters
    ----------
    positives : int64
    average_precision, auc : float64
    precision, recall, f1 : float64
        At the thresholds that were given.
    """

    __repr__ = short_repr

    positives: NDArray[np.int64]
    average_precision: Array64
    auc: Array64
    precision: Array64
    recall: Array64
    f1: Array64


@dataclass(frozen=True, kw_only=True, eq=False)
class MultiLabelMetrics:
    """What `score_labels` measures on one split.

    Parameters
    ----------
    map : float or None
        Mean average precision: the mean over classes. None where no class has a positive row.
    micro_f1, macro_f1 : float or None
        Of all decisions together, and the mean over classes; a label is given from 0.5 on.
    subset_accuracy : float
        Rows all of whose labels are right, at 0.5.
    hamming_loss : float
        Decisions that are wrong, at 0.5.
    log_loss : float
        Mean binary cross-entropy of all decisions.
    calibration_error : float
        Expected calibration error of all decisions' probabilities.
    labels : LabelFigures
        At 0.5.
    """

    map: float | None
    micro_f1: float | None
    macro_f1: float | None
    subset_accuracy: float
    hamming_loss: float
    macro_auc: float | None
    log_loss: float
    calibration_error: float
    labels: LabelFigures

    def summary(self) -> dict[str, float]:
        """Return the single figures by name, without those that were not measured."""
        names = (
            "map", "micro_f1", "macro_f1", "subset_accuracy", "hamming_loss", "macro_auc",
            "log_loss", "calibration_error",
        )  # fmt: skip
        found = {name: getattr(self, name) for name in names}
        return {name: value for name, value in found.items() if value is not None}


def score_labels(
    probabilities: Probabilities, labels: Indicators, scores: Array64 | None = None
) -> MultiLabelMetrics:
    """Measure predictions on one split.

    Parameters
    ----------
    scores : float64, (n_rows, n_classes), optional
        What rows are ranked by, see `probe.evaluation.logits.ranked_odds`. Default: the
        probabilities.

    Raises
    ------
    DataError
        No rows, shapes that do not fit, labels that are not 0 or 1, or no probabilities.
    """
    check_indicators(probabilities, labels)
    given = probabilities >= HALF
    figures = label_figures(probabilities, labels, HALF, scores)
    return MultiLabelMetrics(
        map=mean_of(figures.average_precision),
        micro_f1=micro_f1(given, labels),
        macro_f1=mean_of(figures.f1),
        subset_accuracy=float((given == labels).all(axis=1).mean()),
        hamming_loss=float((given != labels).mean()),
        macro_auc=mean_of(figures.auc),
        log_loss=float(binary_losses(probabilities, labels).mean()),
        calibration_error=binary_calibration_error(probabilities, labels),
        labels=figures,
    )


def check_indicators(probabilities: Probabilities, labels: Indicators) -> None:
    """Raise DataError unless probabilities and 0/1 labels belong together."""
    if labels.ndim != 2 or not labels.size or probabilities.shape != labels.shape:
        raise DataError(f"labels of shape {labels.shape}, probabilities {probabilities.shape}")
    if not np.isin(labels, (0, 1)).all():
        raise DataError("labels of several classes are 0 or 1")
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise DataError("probabilities are numbers from 0 to 1")


def label_figures(
    probabilities: Probabilities,
    labels: Indicators,
    thresholds: float | Array64,
    scores: NDArray[Any] | None = None,
) -> LabelFigures:
    """Measure each class; `thresholds` is one for all, or (C,).

    Rows are ranked by the scores, (N, C), where those are given, else by their probabilities.
    """
    scores = probabilities if scores is None else scores
    given = probabilities >= thresholds
    hits = (given & (labels == 1)).sum(axis=0)
    positives, predicted = labels.sum(axis=0, dtype=np.int64), given.sum(axis=0)
    return LabelFigures(
        positives=positives,
        average_precision=average_precisions(scores, labels),
        auc=label_aucs(scores, labels),
        precision=_ratio(hits, predicted),
        recall=_ratio(hits, positives),
        f1=np.where(positives > 0, _ratio(2 * hits, positives + predicted), np.nan),
    )


def average_precisions(scores: Probabilities, labels: Indicators) -> Array64:
    """Return each class's average precision, (C,); NaN for a class without a positive row.

    The sum over distinct scores of precision there times the recall gained there: scikit-learn's
    definition, without interpolation.

    References
    ----------
    Manning, Raghavan, Schütze, "Introduction to Information Retrieval", 2008, 8.4. Su, Yuan, Zhu,
    "A relationship between the average precision and the area under the ROC curve", ICTIR 2015.
    """
    found = np.full(labels.shape[1], np.nan)
    for column in np.flatnonzero(labels.any(axis=0)):
        order, ends = _ranking(scores[:, column])
        hits = np.cumsum(labels[order, column], dtype=np.int64)[ends]
        gained = np.diff(hits, prepend=0) / hits[-1]
        found[column] = float((gained * hits / (ends + 1)).sum())
    return found


def label_aucs(scores: Probabilities, labels: Indicators) -> Array64:
    """Return each class's area under the ROC curve, (C,); NaN without positives or negatives."""
    columns = zip(scores.T, labels.T, strict=True)
    return np.array([area_under_roc(own, given == 1) for own, given in columns])


def best_thresholds(probabilities: Probabilities, labels: Indicators) -> Array64:
    """Return for each class the threshold with the best F1 on these rows, (C,).

    It lies halfway between two probabilities that occur, and of equals it is the highest; 0.5 for a
    class without a positive row. Choose on held-out rows, never on test rows.

    References
    ----------
    Lipton, Elkan, Naryanaswamy, "Optimal thresholding of classifiers to maximize F1 measure",
    arXiv:1402.1892.
    """
    found = np.full(labels.shape[1], HALF)
    for column in np.flatnonzero(labels.any(axis=0)):
        order, ends = _ranking(probabilities[:, column])
        ranked = probabilities[order, column].astype(np.float64)
        hits = np.cumsum(labels[order, column], dtype=np.int64)
        best = ends[np.argmax(2 * hits[ends] / (ends + 1 + hits[-1]))]
        below = ranked[best + 1] if best + 1 < len(ranked) else 0.0
        half = (ranked[best] + below) / 2
        found[column] = half if half > below else ranked[best]  # not where they are neighbours
    return found


def bootstrap_map(
    scores: Probabilities,
    labels: Indicators,
    *,
    units: Units = None,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Return an interval of the mean average precision; None without positives.

    Its standard error is that of the bootstrap, and its ends are symmetrical in log odds, since the
    figure cannot pass 1. Where the draws are all alike, as where every ranking is perfect, though
    other rows may be ranked wrong, it is the exact interval of such a share of the rows that have a
    label. With few positive rows average precision is too high on average, which no interval mends:
    see `benchmarks/intervals.py`.

    Parameters
    ----------
    scores, labels : (n_rows, n_classes)
    units : int, (n_rows,), optional
        Rows of one number are related and drawn together. Default: none are.

    References
    ----------
    Boyd, Eng, Page, "Area under the precision-recall curve: point estimates and confidence
    intervals", ECML PKDD 2013: the logit interval. Efron, "Bootstrap methods", Ann. Statist. 7,
    1979.
    """
    from scipy.special import expit, logit, ndtri

    value, positive = mean_of(average_precisions(scores, labels)), labels.any(axis=1)
    if value is None:
        return None
    error = float(np.nanstd(drawn_maps(scores, labels, units=units, seed=seed)))
    if error < ALIKE or value > 1 - ALIKE:
        rows = np.arange(len(labels)) if units is None else units
        exact = exact_interval(value, len(np.unique(rows[positive])))
        return exact.low, exact.high
    width = float(ndtri((1 + LEVEL) / 2)) * error / (value * (1 - value))
    return float(expit(logit(value) - width)), float(expit(logit(value) + width))


def drawn_maps(
    scores: Probabilities, labels: Indicators, *, units: Units = None, seed: int = 0
) -> Array64:
    """Return the mean average precision on redrawn rows, (n_draws,); NaN without positives.

    The draws depend on the seed, the shape and the units alone, so those of two heads can be
    paired. 1,000 draws; from 50,000 rows times classes on fewer, at least 200. A class that a draw
    has no positive row of is left out of that draw's mean.
    """
    random, n_rows = np.random.default_rng(seed), len(labels)
    numbers = None if not are_related(units) else np.unique(units, return_inverse=True)[1]
    count = n_rows if numbers is None else int(numbers.max()) + 1

    def draw_rows(draws: int) -> NDArray[np.int32]:
        counts = np.zeros((count, draws), np.int32)
        for draw in range(draws):
            drawn = random.integers(0, count, count)
            counts[:, draw] = np.bincount(drawn, minlength=count)
        return counts if numbers is None else counts[numbers]

    return _over_draws(scores, labels, draw_rows)


def flipped_maps(
    a: Probabilities, b: Probabilities, labels: Indicators, *, units: Units = None, seed: int = 0
) -> Array64:
    """Return the difference in mean average precision where rows' heads change places by chance.

    If two heads are alike, which one a row's scores come from is a toss-up. So that heads whose
    scores have other scales can change places, each class's scores are replaced by their ranks.

    Parameters
    ----------
    a, b : float, (n_rows, n_classes)
        Scores of the two heads.
    units : int, (n_rows,), optional
        Rows of one number are related and change places together. Default: none are.

    Returns
    -------
    float64, (n_draws,)
        As many draws as `drawn_maps` has.

    References
    ----------
    Bandos, Rockette, Gur, "A permutation test sensitive to differences in areas for comparing ROC
    curves from a paired design", Stat. Med. 24, 2005.
    """
    from scipy.stats import rankdata

    random, n_rows = np.random.default_rng(seed), len(labels)
    numbers = np.arange(n_rows) if units is None else np.unique(units, return_inverse=True)[1]
    both = np.concatenate([rankdata(a, axis=0), rankdata(b, axis=0)])
    twice = np.concatenate([labels, labels])

    def draw_rows(draws: int) -> NDArray[np.int32]:
        stays = random.integers(0, 2, (int(numbers.max()) + 1, draws), dtype=np.int32)[numbers]
        return np.concatenate([stays, 1 - stays])

    first = _over_draws(both, twice, draw_rows, size=labels.size)
    random = np.random.default_rng(seed)  # the same draws, for the other head
    return first - _over_draws(both, twice, lambda n: 1 - draw_rows(n), size=labels.size)


def _over_draws(
    scores: Probabilities,
    labels: Indicators,
    draw_rows: Callable[[int], NDArray[np.int32]],
    size: int | None = None,
) -> Array64:
    """Return the mean average precision of each draw; `draw_rows` says how often each row is in."""
    draws = int(np.clip(DRAWS * MOST_DRAWN // (size or labels.size), LEAST_DRAWS, DRAWS))
    step = max(1, BLOCK // len(labels))
    steps = (min(step, draws - start) for start in range(0, draws, step))
    return np.concatenate([_drawn_maps(scores, labels, draw_rows(size)) for size in steps])


def _drawn_maps(scores: Probabilities, labels: Indicators, counts: NDArray[np.int32]) -> Array64:
    """Return the mean average precision of draws; counts (N, draws) say how often a row is in.

    Only rows that are positive add to it: each the precision down to its score.
    """
    total, classes = np.zeros(counts.shape[1]), np.zeros(counts.shape[1])
    for column in np.flatnonzero(labels.any(axis=0)):
        order, ends = _ranking(scores[:, column])
        positive = np.flatnonzero(labels[order, column])
        down_to = ends[np.searchsorted(ends, positive)]  # the last row with the same score
        rows = np.cumsum(counts[order], axis=0, dtype=np.int32)[down_to]
        weights = counts[order[positive]]
        same = np.searchsorted(down_to, down_to, side="right") - 1
        hits = np.cumsum(weights, axis=0, dtype=np.int32)[same]
        there = hits[-1] > 0
        sums = (weights * hits / np.maximum(rows, 1)).sum(axis=0)
        total += np.where(there, sums / np.maximum(hits[-1], 1), 0)
        classes += there
    return np.divide(total, classes, out=np.full(len(total), np.nan), where=classes > 0)


def micro_f1(given: NDArray[np.bool_], labels: Indicators) -> float | None:
    """Return the F1 of all decisions together; None where no label is right and none is given."""
    both = int(given.sum()) + int(labels.sum())
    return 2 * int((given & (labels == 1)).sum()) / both if both else None


def binary_losses(probabilities: Probabilities, labels: Indicators) -> Array64:
    """Return each decision's cross-entropy in nats, (N, C), clipped as in scikit-learn."""
    p = probabilities.astype(np.float64)
    right = np.where(labels == 1, p, 1 - p)
    losses: Array64 = -np.log(np.maximum(right, np.finfo(probabilities.dtype).eps))
    return losses


def binary_calibration_error(probabilities: Probabilities, labels: Indicators) -> float:
    """Return the expected calibration error of all decisions' probabilities.

    They are put into fifteen bins of equal width; the gaps between a bin's mean probability and its
    part of positives are averaged, weighed by its decisions.

    References
    ----------
    Naeini et al., AAAI 2015; Niculescu-Mizil, Caruana, ICML 2005: of a probability, not of the
    predicted class's confidence.
    """
    return calibration_gap(probabilities.reshape(-1), labels.reshape(-1))


def reached(probabilities: NDArray[Any], thresholds: NDArray[Any]) -> NDArray[np.intp]:
    """Return the labels whose thresholds one row reaches, the most probable first; maybe none.

    Parameters
    ----------
    probabilities, thresholds : float, (n_classes,)
    """
    order = np.argsort(-probabilities, kind="stable")
    return order[probabilities[order] >= thresholds[order]]


def mean_of(values: Array64) -> float | None:
    """Return the mean of what was measured; None where nothing was."""
    measured = values[~np.isnan(values)]
    return float(measured.mean()) if len(measured) else None


def _ranking(scores: Probabilities) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return rows by falling score, and the place of the last row of each distinct score."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.flatnonzero(ranked[1:] != ranked[:-1])  # infinite ones have no difference
    return order, np.append(ends, len(order) - 1)


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> Array64:
    found = np.full(len(whole), np.nan)
    np.divide(part, whole, out=found, where=whole > 0)
    return found
