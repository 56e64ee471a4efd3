"""Which rows a head learns from, which it is watched on, and which it meets once, at the end.

Functions that fit or choose take training and validation rows only; the test rows come in where
the finished head is scored.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probe.core.plain import plain_params
from probe.core.short_repr import short_repr
from probe.evaluation.learning_curve import LearningCurve
from probe.evaluation.metrics import Metrics
from probe.evaluation.mistakes import choose_by_cost
from probe.evaluation.multilabel import MultiLabelMetrics
from probe.evaluation.parts import HeadData, Part
from probe.evaluation.predictions import Predictions
from probe.evaluation.ranking_curves import TwoCurves, curves_of_two
from probe.evaluation.scored import (
    Scored,
    describe_labels,
    figures_of,
    groups_of,
    intervals_of,
    measure_blocks,
    measure_logits,
    per_class_of,
    temperature_of,
    thresholds_of,
)
from probe.evaluation.two_classes import baseline_of, choose_threshold, describe_two, positive_class
from probe.runs.results import FeatureSource, RunResult, now, versions

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from probe.heads.base import BaseHead
    from probe.heads.ensemble import How
    from probe.heads.grid import Choice, FoldRows, Search


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadRun:
    """A fitted head, its result, and the metrics of each split with their confusion matrices.

    `train_head` is the one fitted on training rows alone; where nothing is fitted after it, it is
    `head`. `predictions` has the rows of val and test, and with folds the training rows as ``oof``.
    `two` has the curves of two classes, on the split of `RunResult.per_class`.
    """

    __repr__ = short_repr

    head: BaseHead
    train_head: BaseHead
    choice: Choice | None
    result: RunResult
    metrics: Mapping[str, Metrics | MultiLabelMetrics]
    predictions: Mapping[str, Predictions]
    curve: LearningCurve | None = None
    two: TwoCurves | None = None


def run_head(
    data: HeadData,
    head: BaseHead,
    *,
    name: str,
    source: FeatureSource,
    command: str,
    seed: int,
    on_epoch: Callable[[Any], None] | None = None,
    search: Search | None = None,
    refit: bool = False,
    ensemble: How | None = None,
    before_test: Callable[[], int] | None = None,
    positive: str | None = None,
    recall: float | None = None,
    cost: tuple[float, float] | None = None,
) -> HeadRun:
    """Fit a head, then score it on every split there is.

    What fits and chooses is given training and validation rows only. Test rows are looked at once,
    after it. With a refit the figures of train and val are those of the head that was fitted on
    training rows alone, and those of test are the final head's. With folds, ``oof`` has the figures
    of the fold heads, each on the training rows that it did not see; an ensemble of them has not
    seen the rows of val either, and is what is scored there.

    Temperature and thresholds are chosen on val, or else on oof. A vote has none: its shares of
    votes are no probabilities that could be calibrated.

    Parameters
    ----------
    head : BaseHead
        Not fitted yet; it is fitted here.
    name : str
        The head's name in the catalog.
    command : str
        What the user typed.
    seed : int
        Of the split and of the head, as recorded in the result.
    on_epoch : callable, optional
        Called with an Epoch after each one, by heads that have epochs.
    search : Search, optional
        Choose parameters first, or measure by folds.
    refit : bool
        Fit once more on training and validation rows, with what was chosen.
    ensemble : {"average", "vote"}, optional
        The final head is that of all folds together; there is no refit.
    before_test : callable, optional
        Called when all is fitted and the test rows, if there are any, are about to be scored;
        returns how many evaluations that makes, those before included.
    positive : str, optional
        The positive one of two classes. Default: the second.
    recall : float, optional
        Choose a threshold that finds so many positive rows, see `choose_threshold`.
    cost : (float, float), optional
        Choose the threshold that costs least, see `choose_by_cost`.

    Raises
    ------
    HeadError
        The head cannot be fitted on these rows.
    UsageError
        A search without folds needs validation rows.
    """
    started = time.perf_counter()
    train_head, choice = fit_and_choose(data.train, data.val, head, search, on_epoch)
    for parameter in choice.at_edge if choice is not None else ():
        log.warning(
            "%s=%g was chosen, at the edge of the %d values that were tried: a better one may lie "
            "beyond; give `probe head --%s` your own list to look there",
            parameter, choice.chosen[parameter] if choice else 0,
            len({one[parameter] for one in choice.candidates}) if choice else 0, parameter,
        )  # fmt: skip
    for line in train_head.after_fit():
        log.warning("%s", line)
    refit = refit and ensemble is None and data.val is not None and len(data.val) > 0
    final = _final(data, train_head, choice, refit=refit, ensemble=ensemble)
    seconds = time.perf_counter() - started
    looks = before_test() if before_test is not None and data.test is not None else None
    splits = _score_all(data, train_head, final, refit=refit)
    folds = search.folds if search is not None else None
    if choice is not None and folds is not None:
        splits["oof"] = out_of_fold(data.train, choice.heads, folds, len(data.classes))
    temperature = thresholds = None
    if ensemble != "vote":
        temperature, thresholds = temperature_of(splits), thresholds_of(splits, data.classes)
    two, threshold = positive_class(data.classes, positive, data.train.y), None
    where = "val" if "val" in splits else "oof"
    if two is not None and recall is not None:
        threshold = choose_threshold(splits[where], data.classes, two, recall, where)
    if two is not None and cost is not None:
        threshold = choose_by_cost(splits[where], data.classes, two, cost, where, seed=seed)
        if threshold.always is not None:
            log.warning(
                "--cost: no threshold costs less on %s than always answering %s, an end of the "
                "scores; a false positive costs %g and a false negative %g",
                where, threshold.always, *cost,
            )  # fmt: skip
    labels = {name: one.labels for name, one in splits.items()}
    params = plain_params(train_head.get_params(deep=False))
    result = RunResult(
        command=command,
        **asdict(source),
        head=name,
        params=params | ({"ensemble": ensemble} if ensemble else {}),
        seed=seed,
        n_train=len(data.train),
        n_val=len(data.val) if data.val is not None else 0,
        n_test=len(data.test) if data.test is not None else 0,
        metrics=figures_of(splits, temperature, thresholds),
        per_class=per_class_of(splits, data.classes, thresholds),
        seconds=seconds,
        versions=versions(),
        created=now(),
        selection=_describe(choice, search, refit=refit) if choice and search else None,
        intervals=intervals_of(splits),
        temperature=temperature,
        test_looks=looks,
        spread=_spread(choice, search) if choice and search else None,
        multilabel=describe_labels(splits, data.classes, thresholds),
        groups=groups_of(splits, data.grouped_by),
        baseline=baseline_of(data.train.y, labels, data.classes),
        two_classes=describe_two(splits, data.classes, two, threshold),
    )
    return HeadRun(
        two=curves_of_two(splits[result.per_class.split], two, threshold),
        head=final,
        train_head=train_head,
        choice=choice,
        result=result,
        metrics={name: one.metrics for name, one in splits.items()},
        predictions=_predictions(data, splits, temperature),
    )


def fit_and_choose(
    train: Part,
    val: Part | None,
    head: BaseHead,
    search: Search | None,
    on_epoch: Callable[[Any], None] | None = None,
) -> tuple[BaseHead, Choice | None]:
    """Return the head fitted on training rows, its parameters chosen where there is a search.

    Raises
    ------
    HeadError
        The head cannot be fitted on these rows.
    UsageError
        A search without folds needs validation rows.
    """
    X, y = train.xy()
    validation = val.xy() if val is not None else None
    choice = None
    if search is not None:
        from probe.heads.grid import choose

        choice = choose(head, train, val, search)
        chosen = choice.heads[0]
        head.set_params(**choice.chosen)
        watched = bool(chosen.history_) or not chosen.by_epochs
        if search.folds is None and watched:  # else once more, to have its curve
            return chosen, choice
    head.fit(X, y, validation=validation, on_epoch=on_epoch, **train.fit_options())
    return head, choice


def out_of_fold(train: Part, heads: Sequence[BaseHead], folds: FoldRows, n_classes: int) -> Scored:
    """Score each training row by the heads that did not see it, each repeat for itself.

    With repeats each row is there so often, see `measure_logits`.
    """
    repeats = sum(len(held_out) for _, held_out in folds) // len(train)
    labels = np.concatenate([train.y] * repeats)
    if train.task.are_many(len(labels), n_classes):
        blocks = partial(out_of_fold_blocks, train, heads, folds, n_classes)
        return measure_blocks(blocks, labels, n_classes, train.units, repeats)
    logits = out_of_fold_logits(train, heads, folds, n_classes)
    return measure_logits(logits, labels, train.units, repeats)


def out_of_fold_logits(
    train: Part, heads: Sequence[BaseHead], folds: FoldRows, n_classes: int
) -> NDArray[np.float64]:
    """Return those logits, (repeats * n_images, n_classes), one repeat after the other."""
    repeats = sum(len(held_out) for _, held_out in folds) // len(train)
    logits, count = np.empty((repeats, len(train), n_classes)), np.zeros(len(train), np.intp)
    for head, (_, held_out) in zip(heads, folds, strict=True):
        logits[count[held_out], held_out] = train.take(held_out).predict_logits(head, n_classes)
        count[held_out] += 1
    return logits.reshape(-1, n_classes)


def out_of_fold_blocks(
    train: Part, heads: Sequence[BaseHead], folds: FoldRows, n_classes: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
    """Yield (row numbers, logits) of what `out_of_fold_logits` returns, some rows at a time."""
    count = np.zeros(len(train), np.intp)
    for head, (_, held_out) in zip(heads, folds, strict=True):
        for images, logits in train.take(held_out).logit_blocks(head, n_classes):
            rows = held_out[images]
            yield count[rows] * len(train) + rows, logits
        count[held_out] += 1


def _final(
    data: HeadData, train_head: BaseHead, choice: Choice | None, *, refit: bool, ensemble: Any
) -> BaseHead:
    """Return the head that meets the test rows."""
    if ensemble is not None and choice is not None:
        from probe.heads.ensemble import EnsembleHead

        return EnsembleHead.of(choice.heads, how=ensemble)
    if not refit:
        return train_head
    whole = data.train.joined(data.val)
    return train_head.for_refit().fit(*whole.xy(), **whole.fit_options())


def _score_all(
    data: HeadData, train_head: BaseHead, final: BaseHead, *, refit: bool
) -> dict[str, Scored]:
    """Score each split there is; the only place that sees test rows."""
    parts = {"train": data.train, "val": data.val, "test": data.test}
    splits = {}
    for name, part in parts.items():
        if part is None or not len(part) or (name == "train" and _recites(train_head, data)):
            continue
        unseen = name == "test" or (name == "val" and not refit)
        head = final if unseen else train_head
        splits[name] = _score(part, head, len(data.classes))
    return splits


def _score(part: Part, head: BaseHead, n_classes: int) -> Scored:
    if part.task.are_many(len(part), n_classes):
        blocks = partial(part.logit_blocks, head, n_classes)
        return measure_blocks(blocks, part.y, n_classes, part.units)
    return measure_logits(part.predict_logits(head, n_classes), part.y, part.units)


def _recites(head: BaseHead, data: HeadData) -> bool:
    """Return whether training rows would only be looked up again, and others can be scored."""
    return head.keeps_rows and any(part is not None and len(part) for part in (data.val, data.test))


def _predictions(
    data: HeadData, splits: Mapping[str, Scored], temperature: float | None
) -> dict[str, Predictions]:
    parts = {"val": data.val, "test": data.test, "oof": data.train}
    found = {}
    for name, part in parts.items():
        if part is None or name not in splits:
            continue
        one = splits[name]
        said = Predictions.of([*part.ids] * one.repeats, one.labels, one.logits, one.units,
                              one.repeats)  # fmt: skip
        if one.kept is not None:
            scaled = None if temperature is None else one.kept.confidence_at(temperature)
            said = replace(said, classes=one.kept.classes, n_classes=one.kept.n_classes,
                           scaled=scaled)  # fmt: skip
        found[name] = said
    return found


def _spread(choice: Choice, search: Search) -> dict[str, Any] | None:
    """Return how much the figure varies over folds or seeds; None where something was chosen."""
    if choice.chosen:
        return None
    count = len(search.folds) if search.folds is not None else len(search.seeds)
    over, deviation = "seeds", choice.seed_deviation
    if search.folds is not None and choice.error is not None:
        over, deviation = "folds", choice.error * np.sqrt(count)
    if deviation is None:
        return None
    return {
        "over": over, "count": count, "metric": choice.metric, "mean": float(choice.score[0]),
        "deviation": float(deviation[0]),
    }  # fmt: skip


def _describe(choice: Choice, search: Search, *, refit: bool) -> dict[str, Any] | None:
    """Return what was tried, for the result; None where nothing was chosen."""
    if not choice.chosen:
        return None
    first, *others = choice.chosen
    found: dict[str, Any] = {
        "by": "folds" if search.folds is not None else "validation",
        "fits": len(search.folds) if search.folds is not None else 1,
        "penalty": first,
        "values": [one[first] for one in choice.candidates],
        choice.metric: choice.score.tolist(),
        "log_loss": choice.log_loss.tolist(),
        "chosen": choice.chosen[first],
        "refit": refit,
    }
    if choice.metric not in {"top1", "map"}:
        found["metric"] = choice.metric
    if choice.at_edge:
        found["at_end"] = list(choice.at_edge)
    if choice.error is not None:
        found[f"{choice.metric}_error"] = choice.error.tolist()
    if others:  # the second parameter, value by value beside the first
        found["also"] = {name: [one[name] for one in choice.candidates] for name in others}
        found["also_chosen"] = {name: choice.chosen[name] for name in others}
    if choice.seed_deviation is not None:
        found["seeds"] = len(search.seeds)
        found[f"{choice.metric}_seed_deviation"] = choice.seed_deviation.tolist()
    if choice.failed:
        found["overflowed"] = [dict(one) for one in choice.failed]
    return found
