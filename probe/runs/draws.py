"""Learning curves: the same head on draws of 5, 10, 20, ... images a class.

Where there are values to choose from, each draw chooses anew, by folds of its own rows. That takes
two classes with two images each; a smaller draw has the head's default, not what was chosen on
other rows, for these may be the ones that the curve is scored on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.errors import UsageError
from probe.evaluation.learning_curve import LearningCurve, Point
from probe.evaluation.many import keep
from probe.evaluation.metrics import Metrics, score
from probe.evaluation.parts import HeadData, Part
from probe.evaluation.splitting import Labels, RowNumbers, fold_split
from probe.evaluation.units import Units, beyond_single, count_units, dealt
from probe.schedulers import one_thread_each

if TYPE_CHECKING:
    from probe.heads.base import BaseHead
    from probe.heads.grid import Candidate

log = logging.getLogger(__name__)

INNER_FOLDS = 5  # inside a draw, where its parameters are chosen anew


@dataclass(frozen=True, kw_only=True, eq=False)
class CurvePlan:
    """What a learning curve is made of.

    Parameters
    ----------
    counts : sequence of int
        Images a class.
    draws : int
        Of each size. Draw d of a larger size holds draw d of the smaller ones.
    candidates : sequence of mapping
        Parameters to choose from inside each draw, by folds of its own rows; fewer than two: the
        head's own parameters everywhere.
    jobs : int
        Draws at a time, for heads that are fitted one by one.
    metric : str
        What the choice inside a draw goes by, see `probe.heads.grid`.
    """

    counts: Sequence[int]
    draws: int
    candidates: Sequence[Candidate] = ()
    seed: int = 0
    jobs: int = 1
    metric: str = "top1"


def learning_curve(
    data: HeadData,
    head: BaseHead,
    plan: CurvePlan,
    *,
    entry: str,
    dataset: str,
    name: str,
    on_point: Callable[[Point], None] | None = None,
) -> LearningCurve:
    """Fit a head on every draw; score it on all validation rows, or on test where there are none.

    Whoever counts evaluations on test rows counts one for each head: see `n_fits`.

    Parameters
    ----------
    head : BaseHead
        Its parameters are taken; it stays as it is.
    entry, dataset, name : str
        Of the features and of the head, for the record.
    on_point : callable, optional
        Called with each point when it is there.

    Raises
    ------
    UsageError
        There is nothing to score on, or no class has so many images.
    HeadError
        A head cannot be fitted.
    """
    split, scored, most = check_curve(data, plan)
    _tell_defaults(data.train, head, plan)
    work = [(count, draw) for count in plan.counts if count <= most for draw in range(plan.draws)]
    points = []
    for point in _points(data, scored, head, plan, work):
        points.append(point)
        if on_point is not None:
            on_point(point)
    _tell_ends(head, points, plan)
    return LearningCurve(
        entry=entry, dataset=dataset, head=name, split=split, n_split=len(scored),
        points=tuple(points),
    )  # fmt: skip


def n_fits(data: HeadData, plan: CurvePlan) -> int:
    """Return how many heads a curve has; draws larger than every class are left out."""
    _, _, most = check_curve(data, plan)
    return plan.draws * sum(count <= most for count in plan.counts)


def check_curve(data: HeadData, plan: CurvePlan) -> tuple[str, Part, int]:
    """Return the split to score on, its rows, and the images of the largest class.

    Raises
    ------
    UsageError
        There is nothing to score on, or no class has so many images.
    """
    split, scored = "val", data.val
    if scored is None or not len(scored):
        split, scored = "test", data.test
    if scored is None or not len(scored):
        raise UsageError("--learning-curve needs rows to score on; give --val-size above 0")
    most = int(np.bincount(data.train.y).max())
    if min(plan.counts) > most:
        raise UsageError(
            f"--learning-curve {min(plan.counts)}: no class has more than {most} images"
        )
    return split, scored, most


def draw_rows(
    labels: Labels, per_class: int, seed: int, draw: int, units: Units | None = None
) -> NDArray[np.intp]:
    """Return the rows of one draw, ascending: `per_class` of each class, or all where it has fewer.

    The same seed and draw with a larger number returns these rows and more. Where rows belong
    together, units are drawn one after another, each with all its rows, as they would be
    collected; of the last unit of a class only as many rows as are lacking.
    """
    random, own = np.random.default_rng([seed, draw]), dealt(units, len(labels))
    if own is None:
        order = random.permutation(len(labels))
    else:
        order = np.argsort(random.permutation(int(own.max()) + 1)[own], kind="stable")
    chosen = [order[labels[order] == label][:per_class] for label in np.unique(labels)]
    return np.sort(np.concatenate(chosen)).astype(np.intp)


def shared_part(labels: Labels, per_class: int) -> float:
    """Return the part of a draw's images that another draw has too, as expected; 0 to 1."""
    counts = np.unique(labels, return_counts=True)[1]
    drawn = np.minimum(counts, per_class)
    return float((drawn**2 / counts).sum() / drawn.sum())


def _points(
    data: HeadData, scored: Part, head: BaseHead, plan: CurvePlan, work: list[tuple[int, int]]
) -> Any:
    one_after_another = (_point(data.train, scored, head, plan, one) for one in work)
    if plan.jobs == 1 or not head.one_by_one:
        return one_after_another
    from joblib import Parallel, delayed

    with one_thread_each():
        return Parallel(plan.jobs)(
            delayed(_point)(data.train, scored, head, plan, one) for one in work
        )


def _point(
    train: Part, scored: Part, head: BaseHead, plan: CurvePlan, of: tuple[int, int]
) -> Point:
    count, draw = of
    drawn = train.take(draw_rows(train.y, count, plan.seed, draw, train.units))
    one = head.for_draw(plan.seed + draw)  # validation rows are those that it is scored on
    chosen = _choose_inside(one, drawn, plan)
    one.set_params(**chosen)
    n_classes = int(max(train.y.max(), scored.y.max())) + 1
    one.fit(*drawn.xy(), **drawn.fit_options())
    metrics = _figures(one, scored, n_classes)
    return Point(
        per_class=count,
        draw=draw,
        n_train=len(drawn),
        top1=metrics.top1,
        mean_recall=metrics.mean_recall,
        log_loss=metrics.log_loss,
        params=dict(chosen),
        shared=shared_part(train.y, count),
    )


def _figures(head: BaseHead, scored: Part, n_classes: int) -> Metrics:
    """Return a head's figures; of thousands of classes from some rows at a time."""
    if not scored.task.are_many(len(scored), n_classes):
        return score(scored.predict_proba(head, n_classes), scored.y, n_classes)
    kept = keep(lambda: scored.logit_blocks(head, n_classes), scored.y, n_classes)
    return kept.metrics(scored.y, slice(None))


def _choose_inside(head: BaseHead, drawn: Part, plan: CurvePlan) -> Candidate:
    """Choose by folds of the draw's own rows: what it is scored on stays out of the choice."""
    if len(plan.candidates) < 2:
        return {}
    folds = _inner_folds(drawn, plan.seed)
    if folds is None:
        return _defaults(head, plan)
    from probe.heads.grid import Search, choose

    search = Search(candidates=plan.candidates, folds=folds, metric=plan.metric)
    return choose(head, drawn, None, search).chosen


def _inner_folds(drawn: Part, seed: int) -> Sequence[tuple[RowNumbers, RowNumbers]] | None:
    """Return folds of a draw's own rows; None where they cannot be had."""
    counts = np.unique(drawn.y, return_counts=True)[1]
    if not _can_choose(counts):
        return None
    most = min(int(counts.max()), count_units(drawn.units, len(drawn)))
    try:
        return fold_split(drawn.y, min(INNER_FOLDS, most), seed, units=drawn.units)
    except UsageError:  # of rows that belong together a fold may need all
        if not beyond_single(drawn.units):
            raise
        return None


def _can_choose(counts: NDArray[np.integer[Any]]) -> bool:
    """Whether rows can be held out with two classes left to train on."""
    return int((counts > 1).sum()) >= 2


def _defaults(head: BaseHead, plan: CurvePlan) -> Candidate:
    """Return the head's default of each parameter that is searched."""
    usual = type(head)().get_params()
    return {name: usual[name] for name in plan.candidates[0]}


def _tell_defaults(train: Part, head: BaseHead, plan: CurvePlan) -> None:
    """Log which draws are too small to choose from."""
    if len(plan.candidates) < 2:
        return
    small = [one for one in plan.counts if _is_too_small(train, one, plan.seed)]
    if small:
        log.warning(
            "draws of %s a class are too small to choose from: they have the head's default %s",
            ", ".join(map(str, small)), " and ".join(_defaults(head, plan)),
        )  # fmt: skip


def _tell_ends(head: BaseHead, points: Sequence[Point], plan: CurvePlan) -> None:
    """Log how many draws chose an end of the values that were tried."""
    chose = [one for one in points if one.params]
    ends = [head.at_ends(one.params, plan.candidates) for one in chose]
    for name in dict.fromkeys(name for one in ends for name in one):
        log.warning(
            "learning curve: %d of %d draws chose %s at an end of the values that were tried: "
            "better ones may lie beyond; give `probe head --%s` your own list to look there",
            sum(name in one for one in ends), len(chose), name, name,
        )  # fmt: skip


def _is_too_small(train: Part, per_class: int, seed: int) -> bool:
    if not beyond_single(train.units):
        counts = np.unique(train.y, return_counts=True)[1]
        return not _can_choose(np.minimum(counts, per_class))
    return (
        _inner_folds(train.take(draw_rows(train.y, per_class, seed, 0, train.units)), seed) is None
    )
