"""Figures and thresholds of two classes, a positive and a negative one.

Of two classes that is the second by number unless another is named. An answer is positive where its
probability is at least a half, or where a threshold was chosen, at least that: for a stated recall,
or for the stated costs of mistakes (`probe.evaluation.mistakes`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.errors import UsageError
from probe.evaluation.logits import ranked_against_rest
from probe.evaluation.metrics import area_under_roc
from probe.evaluation.multilabel import average_precisions
from probe.evaluation.scored import Scored
from probe.evaluation.splitting import Labels
from probe.evaluation.statistics import (
    Interval,
    auc_interval,
    effective_rows,
    share_interval,
)
from probe.evaluation.task import task_of
from probe.evaluation.units import Units

RISK = 0.05  # that a threshold finds fewer positive rows than it was chosen for
SHARES = ("precision", "recall", "specificity", "f1", "auc", "average_precision")

Array64 = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """From where on an answer is positive: for a stated recall, or for the cost of mistakes.

    Parameters
    ----------
    positive : str
        The class.
    log_odds : float
        The least log odds, against the other class, of a positive answer.
    split : str
        Held-out rows that it was chosen on.
    positives : int
        How many of them are positive; where rows belong together, groups with such rows.
    recall : float, in (0, 1), optional
        The share of positive rows that was asked for.
    bound : float, optional
        The share that is found at least, at a confidence of 95 %; beside `recall`.
    false_positive, false_negative : float, optional
        What a negative row that is answered positive costs, and a positive one that is answered
        negative. The fields below stand beside them.
    expected, low, high : float, optional
        The cost an image of thresholds that were chosen likewise on other parts of these rows, and
        its 95 % interval.
    always : str, optional
        The class that is always answered, where no threshold costs less on these rows.
    """

    positive: str
    log_odds: float
    split: str
    positives: int
    recall: float | None = None
    bound: float | None = None
    false_positive: float | None = None
    false_negative: float | None = None
    expected: float | None = None
    low: float | None = None
    high: float | None = None
    always: str | None = None

    @property
    def probability(self) -> float:
        """The least probability of a positive answer."""
        return float(1 / (1 + np.exp(-np.clip(self.log_odds, -700, 700))))

    def cooled(self, temperature: float | None) -> Threshold:
        """Return the same for probabilities after a temperature; the answers stay."""
        return replace(self, log_odds=self.log_odds / (temperature or 1.0))

    @property
    def costs(self) -> tuple[float, float] | None:
        """What a false positive and a false negative cost; None where that was not stated."""
        if self.false_positive is None or self.false_negative is None:
            return None
        return self.false_positive, self.false_negative

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, without those that are absent."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def words(self) -> str:
        """Say what it is."""
        text = f"{self.positive} from a probability of {self.probability:.3g} on, "
        if self.bound is not None:
            return text + (
                f"which finds at least {100 * self.bound:.1f} % of them (95 % confidence, from "
                f"{self.positives:,} in {self.split})"
            )
        text += (
            f"the cheapest on {self.split} where a false positive costs {self.false_positive:g} "
            f"and a false negative {self.false_negative:g}"
        )
        if self.expected is not None and self.low is not None and self.high is not None:
            text += (
                f"; expected cost an image {self.expected:.3g} ({self.low:.3g} to {self.high:.3g}, "
                f"95 %, by thresholds chosen on other parts of {self.split})"
            )
        if self.always is not None:
            text += f"; no threshold costs less there than always answering {self.always}"
        return text


def positive_class(classes: Sequence[str], named: str | None, labels: Labels) -> int | None:
    """Return the number of the positive class; None where there are not two, or labels of both.

    Raises
    ------
    UsageError
        One was named, and there is no such class, or there are not two.
    """
    task = task_of(labels)
    if not task.is_binary(len(classes)):
        if named is not None:
            raise UsageError(
                f"--positive {named}: that is about two classes of which an image has one, and "
                f"there are {len(classes)}{task.together}"
            )
        return None
    if named is None:
        return 1
    if named not in classes:
        raise UsageError(f"--positive {named}: the classes are {classes[0]} and {classes[1]}")
    return list(classes).index(named)


def baseline_of(
    train: Labels, splits: Mapping[str, Labels], classes: Sequence[str]
) -> dict[str, Any] | None:
    """Return what always answering the largest class of the training rows would reach.

    None where an image may have several labels.

    Returns
    -------
    dict
        ``class``, its name, and ``figures``, by split ``top1`` and ``mean_recall``: over the
        classes that have rows there.
    """
    if not task_of(train).exclusive:
        return None
    largest = int(np.bincount(train, minlength=len(classes)).argmax())
    figures = {}
    for name, labels in splits.items():
        right = labels == largest
        recall = 1 / len(np.unique(labels)) if right.any() else 0.0
        figures[name] = {"top1": float(right.mean()), "mean_recall": recall}
    return {"class": classes[largest], "figures": figures}


def describe_two(
    splits: Mapping[str, Scored],
    classes: Sequence[str],
    positive: int | None,
    threshold: Threshold | None = None,
) -> dict[str, Any] | None:
    """Return the figures of two classes by split, as `RunResult.two_classes` has them.

    None where there is no positive class. Figures that cannot be measured, as the precision where
    nothing was answered positive, are absent.
    """
    if positive is None:
        return None
    found: dict[str, Any] = {"positive": classes[positive], "number": positive}
    found |= _by_split(splits, positive, None)
    if threshold is not None:
        found["threshold"] = threshold.to_dict()
        found["at_threshold"] = _by_split(splits, positive, threshold)
    return found


def _by_split(
    splits: Mapping[str, Scored], positive: int, threshold: Threshold | None
) -> dict[str, Any]:
    figures = {name: figures_of_two(one, positive, threshold) for name, one in splits.items()}
    unseen = {name: one for name, one in splits.items() if name != "train"}
    if threshold is not None:  # elsewhere the rows it was chosen on say more than they know
        unseen = {name: one for name, one in unseen.items() if name != threshold.split}
    bounds = {name: intervals_of_two(one, positive, threshold) for name, one in unseen.items()}
    return {"figures": figures, "intervals": bounds}


def figures_of_two(
    one: Scored, positive: int, threshold: Threshold | None = None
) -> dict[str, float]:
    """Return how well positive rows are told from negative ones on a split.

    Parameters
    ----------
    one : Scored
        Of two classes. With repeats the figures of each are averaged.
    positive : int
        The number of the positive class.
    threshold : Threshold, optional
        Default: what is more probable.

    Returns
    -------
    dict
        ``positives``, how many rows are; ``top1``, ``precision``, ``recall``, ``specificity``,
        ``f1``; and without a threshold ``auc``, the area under the ROC curve, and
        ``average_precision``. With a threshold that was chosen for costs also ``cost``, that an
        image comes to, and what other answers cost: ``cost_as_probable`` the more probable class,
        ``cost_always_positive`` and ``cost_always_negative`` always the same one. Those that cannot
        be measured are absent.

    References
    ----------
    Fawcett, "An introduction to ROC analysis", Pattern Recognit. Lett. 27, 2006. Davis, Goadrich,
    "The relationship between precision-recall and ROC curves", ICML 2006.
    """
    own, said = one.labels == positive, answered(one, positive, threshold)
    ranks = ranked_against_rest(one.logits)[:, positive]
    rows = len(own) // one.repeats
    every = []
    for start in range(0, len(own), rows):
        part = slice(start, start + rows)
        figures = _counts(own[part], said[part])
        if threshold is None:
            figures |= _ranks(ranks[part], own[part])
        elif threshold.costs is not None:
            probable = answered(one, positive, None)
            figures |= {
                "cost": cost_of(own[part], said[part], threshold.costs),
                "cost_as_probable": cost_of(own[part], probable[part], threshold.costs),
                "cost_always_positive": cost_of(own[part], np.ones(rows, bool), threshold.costs),
                "cost_always_negative": cost_of(own[part], np.zeros(rows, bool), threshold.costs),
            }
        every.append(figures)
    names = [name for name in every[0] if all(name in figures for figures in every)]
    found = {name: float(np.mean([figures[name] for figures in every])) for name in names}
    return {"positives": int(own[:rows].sum()), **found}


def cost_of(own: Bools, said: Bools, costs: tuple[float, float]) -> float:
    """Return what answers cost an image.

    Parameters
    ----------
    own, said : bool, (n_rows,)
        Which rows are positive, and which are answered so.
    costs : (float, float)
        Of a false positive, and of a false negative.
    """
    return float(costs[0] * (~own & said).mean() + costs[1] * (own & ~said).mean())


def cost_interval(
    own: Bools, said: Bools, costs: tuple[float, float], units: Units | None = None
) -> Interval:
    """Return the 95 % interval of that cost, from the exact ones of both kinds of mistakes.

    Their distances from the shares found are added as those of independent shares are; as no row is
    both, the true spread is rather smaller. It has a width where no row is wrong, too.

    References
    ----------
    Zou, Donner, "Construction of confidence limits about effect measures: a general approach",
    Stat. Med. 27, 2008.
    """
    below = above = 0.0
    for cost, wrong in zip(costs, (~own & said, own & ~said), strict=True):
        share, interval = float(wrong.mean()), share_interval(wrong, units=units)
        below += (cost * (share - interval.low)) ** 2
        above += (cost * (interval.high - share)) ** 2
    found = cost_of(own, said, costs)
    return Interval(
        low=max(0.0, found - math.sqrt(below)), high=min(max(costs), found + math.sqrt(above))
    )


def _counts(own: Bools, said: Bools) -> dict[str, float]:
    """Return what follows from how often which answer was given."""
    hits = int((own & said).sum())
    pairs = {
        "precision": (hits, int(said.sum())),
        "recall": (hits, int(own.sum())),
        "specificity": (int((~own & ~said).sum()), int((~own).sum())),
        "f1": (2 * hits, int(own.sum()) + int(said.sum())),
    }
    shares = {name: part / whole for name, (part, whole) in pairs.items() if whole}
    return {"top1": float((own == said).mean()), **shares}


def _ranks(scores: Array64, own: Bools) -> dict[str, float]:
    """Return what follows from the order of the rows."""
    precision = average_precisions(scores[:, None], own[:, None].astype(np.uint8))
    found = {"auc": area_under_roc(scores, own), "average_precision": float(precision[0])}
    return {name: value for name, value in found.items() if not math.isnan(value)}


def intervals_of_two(
    one: Scored, positive: int, threshold: Threshold | None = None
) -> dict[str, tuple[float, float]]:
    """Return 95 % intervals, (low, high), of precision, recall, specificity, area and cost.

    Shares have exact ones (`share_interval`), the area one that is no single point at 1
    (`auc_interval`). Where rows belong together they count as so many independent ones.
    """
    own, said = one.labels == positive, answered(one, positive, threshold)
    shares = {
        "top1": (own == said, np.ones(len(own), bool)), "precision": (own, said),
        "recall": (said, own), "specificity": (~said, ~own),
    }  # fmt: skip
    found = {
        name: share_interval(right[of], units=_some(one.units, of))
        for name, (right, of) in shares.items()
        if of.any()
    }
    if threshold is None and own.any() and not own.all():
        found["auc"] = _interval_of_area(one, positive, own)
    if threshold is not None and threshold.costs is not None and len(own):
        found["cost"] = cost_interval(own, said, threshold.costs, one.units)
    return {name: (interval.low, interval.high) for name, interval in found.items()}


def _interval_of_area(one: Scored, positive: int, own: Bools) -> Interval:
    scores = ranked_against_rest(one.logits)[:, positive]
    n_own, n_rest = float(own.sum()), float((~own).sum())
    if one.units is not None:
        n_own = effective_rows(_placements(scores[own], scores[~own]), _some(one.units, own))
        n_rest = effective_rows(_placements(scores[~own], scores[own]), _some(one.units, ~own))
    return auc_interval(area_under_roc(scores, own), n_own, n_rest)


def _placements(scores: Array64, others: Array64) -> Array64:
    """Return the share of the others that lies below each score, equals counting half."""
    ranked = np.sort(others)
    below = np.searchsorted(ranked, scores, "left") + np.searchsorted(ranked, scores, "right")
    found: Array64 = below / (2 * len(others))
    return found


def _some(units: Units | None, rows: Bools) -> Units | None:
    return None if units is None else units[rows]


def odds_of(one: Scored, positive: int) -> Array64:
    """Return each row's log odds of the positive class against the other, (n_rows,)."""
    with np.errstate(invalid="ignore"):
        odds: Array64 = one.logits[:, positive] - one.logits[:, 1 - positive]
    return odds


def answered(one: Scored, positive: int, threshold: Threshold | None) -> Bools:
    """Return which rows are answered positive, (n_rows,)."""
    if threshold is None:
        found: Bools = one.probabilities.argmax(axis=1) == positive
        return found
    reached: Bools = odds_of(one, positive) >= threshold.log_odds
    return reached


def answers_of(
    probabilities: Array64, classes: Sequence[str], threshold: Threshold | None
) -> NDArray[np.intp]:
    """Return the class number of each row's answer, (n_rows,): the most probable one.

    With a threshold the positive class where that is reached, else the other.
    """
    if threshold is None:
        winners: NDArray[np.intp] = probabilities.argmax(axis=1)
        return winners
    positive = list(classes).index(threshold.positive)
    with np.errstate(divide="ignore"):
        logs = np.log(probabilities)
    reached = logs[:, positive] - logs[:, 1 - positive] >= threshold.log_odds
    return np.where(reached, positive, 1 - positive)


def rows_needed(recall: float) -> int:
    """Return how many positive rows have to be held out before any threshold is sure to do."""
    return math.ceil(math.log(RISK) / math.log(recall))


def check_recall(recall: float, n_positives: int, name: str, where: str) -> None:
    """Refuse a recall that so many positive rows, or groups of them, cannot tell.

    Raises
    ------
    UsageError
    """
    if not 0 < recall < 1:
        raise UsageError(f"--recall {recall:g}: it is a share between 0 and 1, as 0.95")
    needed = rows_needed(recall)
    if n_positives < needed:
        told = f"even their lowest score tells {100 * RISK ** (1 / n_positives):.1f} % at most"
        raise UsageError(
            f"--recall {recall:g} takes at least {needed:,} held-out images of {name}, or groups "
            f"of such images, and {where} has {n_positives:,}: "
            + (told if n_positives else "nothing tells what is found")
            + "; hold out more, or ask for less"
        )


def count_positives(labels: Labels, positive: int, units: Units | None) -> int:
    """Return how many rows are positive; where rows belong together, groups with such rows."""
    own = labels == positive
    return int(own.sum()) if units is None else len(np.unique(units[own]))


def choose_threshold(
    one: Scored, classes: Sequence[str], positive: int, recall: float, split: str
) -> Threshold:
    """Return the highest threshold that finds the stated share of positive rows, at 95 %.

    Under the k-th lowest score of n positive rows a new one falls with a probability that is
    distributed as Beta(k, n - k + 1), whatever the scores' own distribution. The threshold is the
    k-th lowest, for the largest k at which that is at most 1 - recall in 95 of 100 draws of rows:
    the exact lower bound of a binomial share. So it finds more than was asked for on most rows. It
    is moved half way down to the next score of any row, which changes no held-out answer.

    Where rows belong together the lowest positive score of each group counts. The bound holds for
    the head that scored these rows; a refit head's scores differ a little, and where the same rows
    chose a penalty it is that much too sure.

    Parameters
    ----------
    one : Scored
        Of held-out rows and two classes.
    recall : float, in (0, 1)
    split : str
        What the rows are called.

    Raises
    ------
    UsageError
        The rows are too few to tell, or the head says of as many that they cannot be positive.

    References
    ----------
    Wilks, "Determination of sample sizes for setting tolerance limits", Ann. Math. Stat. 12, 1941.
    Clopper, Pearson, Biometrika 26, 1934.
    """
    from scipy.special import betaincinv

    odds, own = odds_of(one, positive), one.labels == positive
    scores = _lowest(odds[own], _some(one.units, own))
    n = len(scores)
    check_recall(recall, n, classes[positive], split)
    ranks = np.arange(1, n + 1)
    bounds = betaincinv(n - ranks + 1, ranks, RISK)
    rank = int(ranks[bounds >= recall].max())
    chosen = float(np.sort(scores)[rank - 1])
    if not chosen > -np.inf:
        raise UsageError(
            f"--recall {recall:g}: this head gives {classes[positive]} a probability of 0 for "
            f"{int(np.isneginf(scores).sum()):,} of {n:,} of its images in {split}, which no "
            "threshold finds; use another solver, or ask for less"
        )
    below = odds[odds < chosen]
    under = max(float(below.max()), chosen - 2) if len(below) else chosen - 2
    chosen = min(chosen, 700.0)
    return Threshold(
        positive=classes[positive], log_odds=(chosen + min(under, chosen)) / 2, recall=recall,
        bound=float(bounds[rank - 1]), split=split, positives=n,
    )  # fmt: skip


def _lowest(scores: Array64, units: Units | None) -> Array64:
    """Return the lowest score of each unit."""
    if units is None:
        return scores
    numbers = np.unique(units, return_inverse=True)[1]
    found = np.full(int(numbers.max(initial=-1)) + 1, np.inf)
    np.minimum.at(found, numbers, scores)
    return found
