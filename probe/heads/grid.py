"""Choose the values of a head's parameters on validation rows or by folds, never on test rows.

1. The best top-1 leads (mean average precision where images may have several labels). Candidates
   within one standard error of it are tied; the error is that of the difference on the same rows.
2. Among the tied the lowest log loss decides, each candidate's at its own best temperature, since
   probabilities are calibrated with it afterwards; then the log loss without a temperature. Losses
   that round to the same ten-thousandth of a nat are equal.
3. Among equals the most regularised one is taken.

Mean average precision, or another metric in place of top-1 (`Search.metric`), has a standard error
over folds only: on one validation split only equals are tied. With log loss as the metric nothing
is tied with the lowest.

References
----------
Breiman, Friedman, Olshen, Stone, "Classification and regression trees", 1984, 3.4.3; Hastie,
Tibshirani, Friedman, "The Elements of Statistical Learning", 7.10: the one-standard-error rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from probe.core.short_repr import short_repr
from probe.errors import HeadError, NoTemperatureError, UsageError
from probe.evaluation.many import keep
from probe.evaluation.metrics import UNSEEN_LOSS, score
from probe.evaluation.parts import Part
from probe.evaluation.streaming import StreamedRows
from probe.evaluation.units import count_units
from probe.heads.base import BaseHead
from probe.heads.normalize import Features
from probe.schedulers import one_thread_each

BLOCK_SCORES = 1 << 22  # numbers at a time: 16 MB
CALIBRATED_SCORES = 1 << 20  # of a candidate are enough for its temperature: every so many rows
RANKED_SCORES = 1 << 24  # likewise where all rows are ranked: 64 MB

TOP1, LOG_LOSS = "top1", "log_loss"
# of one label an image: what may decide, and what `Metrics` calls it
CHOICE_METRICS = {
    TOP1: TOP1, "balanced_accuracy": "mean_recall", "macro_f1": "macro_f1", "auc": "macro_auc",
    LOG_LOSS: LOG_LOSS,
}  # fmt: skip
ALIKE = 1e-4  # nats: log losses that differ by less are alike

Array64 = NDArray[np.float64]
FoldRows = Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]]
Candidate = Mapping[str, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Search:
    """What is to be chosen, and from which rows.

    Parameters
    ----------
    candidates : sequence of mapping
        Parameters of the head; one empty mapping where nothing is chosen and the folds only
        measure.
    folds : sequence of (train_rows, held_out_rows), optional
        Default: validation rows.
    seeds : sequence of int
        Every candidate is fitted with each, and its figures are their means. Empty: with the
        head's own.
    jobs : int
        Fits at a time, for heads that are fitted one by one.
    metric : str
        What decides: one of `CHOICE_METRICS`. Where an image may have several labels it is mean
        average precision.
    """

    candidates: Sequence[Candidate]
    folds: FoldRows | None = None
    seeds: Sequence[int] = ()
    jobs: int = 1
    metric: str = TOP1


@dataclass(frozen=True, kw_only=True, eq=False)
class Choice:
    """What was tried and what was chosen.

    Parameters
    ----------
    metric : str
        What `score` is: one of `CHOICE_METRICS`, or where an image may have several labels ``map``,
        mean average precision.
    candidates : tuple of mapping
        Those that could be fitted.
    failed : tuple of mapping
        Those whose fit diverged, in any fold.
    score, log_loss : float64, (n_candidates,)
        Means over the folds and seeds, or on the validation rows.
    error : float64, (n_candidates,), optional
        Standard error of `score`: over folds their spread, else binomial, which only top-1 has;
        rows that belong together count as one there.
    seed_deviation : float64, (n_candidates,), optional
        Standard deviation of `score` over the seeds.
    best : int
        Index of the chosen candidate.
    heads : tuple of BaseHead
        Of the chosen candidate: the one fitted on the training rows, or one a fold.
    """

    __repr__ = short_repr

    metric: str
    candidates: tuple[Candidate, ...]
    failed: tuple[Candidate, ...]
    score: Array64
    log_loss: Array64
    error: Array64 | None
    seed_deviation: Array64 | None
    best: int
    heads: tuple[BaseHead, ...]

    @property
    def chosen(self) -> Candidate:
        """The parameters that were chosen."""
        return self.candidates[self.best]

    @property
    def at_edge(self) -> tuple[str, ...]:
        """The chosen parameters that lie at an end of the values tried; see `HeadSpec.at_ends`."""
        return self.heads[0].at_ends(self.chosen, self.candidates)


def choose(head: BaseHead, train: Part, val: Part | None, search: Search) -> Choice:
    """Fit every candidate and take the best.

    Parameters
    ----------
    head : BaseHead
        Its other parameters are kept; it stays unfitted.
    train, val : Part
        `val` is asked where there are no folds; with folds, early stopping goes by it, for the
        rows that a fold holds out only score.

    Raises
    ------
    HeadError
        A candidate cannot be fitted for another reason than divergence, or all diverge.
    UsageError
        There are neither folds nor validation rows.
    """
    if search.folds is None:
        if val is None or not len(val):
            raise UsageError(
                "nothing is held out to choose on; give --val-size above 0, or --folds"
            )
        fits = [fit_and_score(head, train, val, search, val)]
    else:
        fits = _over_folds(head, train, val, search)
    return _best_of(fits, search, train, val)


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """All candidates fitted on some rows and scored on others.

    Parameters
    ----------
    heads : list of BaseHead or None
        None for a candidate that diverged; the first seed's where there are several.
    score, log_loss : float64, (n_candidates, n_seeds)
        See Choice.
    right : float, (n_candidates, n_images), optional
        What was right, over the seeds on average; where an image has one label and top-1 decides.
    """

    __repr__ = short_repr

    heads: list[BaseHead | None]
    score: Array64
    log_loss: Array64
    right: NDArray[np.floating[Any]] | None = None


def fit_and_score(
    head: BaseHead, train: Part, held_out: Part, search: Search, watched: Part | None
) -> Fit:
    """Fit every candidate, with every seed, on the training rows, and score it on the others.

    `watched` has the rows that early stopping goes by.
    """
    seeds: list[dict[str, Any]] = [{"random_state": seed} for seed in search.seeds] or [{}]
    asked = [{**candidate, **seed} for candidate in search.candidates for seed in seeds]
    validation = watched.xy() if watched is not None and len(watched) else None
    fitted = head.fit_candidates(
        *train.xy(), asked, validation=validation, jobs=search.jobs, **train.fit_options()
    )
    return score_fit(fitted, held_out, len(seeds), search.metric)


def score_fit(
    fitted: Sequence[BaseHead | None], held_out: Part, n_seeds: int = 1, metric: str = TOP1
) -> Fit:
    """Score candidates that are fitted already; diverged ones count as never right.

    `score` is such that more is better: log losses have a minus.
    """
    whole = [one for one in fitted if one is not None]
    figures, right = np.zeros((2, len(fitted))), None
    if whole:
        there = np.array([one is not None for one in fitted])
        *found, rows = score_rows(whole, held_out)
        figures[:, there] = found
        if metric != TOP1:
            figures[0, there], rows = _decisive(whole, held_out, metric, found[1]), None
        if rows is not None:
            every = np.zeros((len(fitted), len(held_out)), bool)
            every[there] = rows
            right = every if n_seeds == 1 else _means(every, n_seeds)
    score, loss = figures.reshape(2, -1, n_seeds)
    failed = np.array([one is None for one in fitted]).reshape(-1, n_seeds).any(axis=1)
    heads = [None if bad else one for bad, one in zip(failed, fitted[::n_seeds], strict=True)]
    return Fit(heads=heads, score=score, log_loss=loss, right=right)


def _decisive(heads: Sequence[BaseHead], held_out: Part, metric: str, losses: Array64) -> Array64:
    """Return what decides between heads, (n_heads,), more being better."""
    if metric == LOG_LOSS:
        return -losses
    n_classes = 1 + max(int(held_out.y.max()), *(int(head.classes_.max()) for head in heads))
    values, many = [], held_out.task.are_many(len(held_out), n_classes)
    for head in heads:
        if many:
            blocks = partial(held_out.logit_blocks, head, n_classes)
            found = keep(blocks, held_out.y, n_classes).metrics(held_out.y, slice(None))
        else:
            logits = held_out.predict_logits(head, n_classes)
            found = score(np.exp(logits), held_out.y, n_classes, logits)
        value = getattr(found, CHOICE_METRICS[metric])
        if value is None and many:
            raise UsageError(
                f"--metric {metric}: it ranks all rows by all classes, and {len(held_out):,} rows "
                f"of {n_classes:,} classes are too many for that; choose by top1 or macro_f1"
            )
        if value is None:
            raise UsageError(
                f"--metric {metric}: {len(held_out):,} rows to choose on are all of one class; "
                "hold out more, or choose by top1"
            )
        values.append(value)
    return np.array(values)


def _means(right: NDArray[np.bool_], n_seeds: int) -> NDArray[np.floating[Any]]:
    shares: NDArray[np.floating[Any]] = right.reshape(-1, n_seeds, right.shape[1]).mean(
        axis=1, dtype=np.float32
    )
    return shares


def _over_folds(head: BaseHead, train: Part, val: Part | None, search: Search) -> list[Fit]:
    from joblib import Parallel, delayed
    from sklearn.base import clone

    assert search.folds is not None
    at_once = clone(head).fit_folds(train, search.folds, search.candidates)
    if at_once is not None:
        return [
            score_fit(fitted, train.take(held_out), metric=search.metric)
            for fitted, (_, held_out) in zip(at_once, search.folds, strict=True)
        ]
    if search.jobs > 1 and len(search.candidates) < search.jobs and head.one_by_one:
        alone = replace(search, jobs=1)
        with one_thread_each():
            fits: list[Fit] = Parallel(search.jobs)(
                delayed(fit_and_score)(head, train.take(rows), train.take(held_out), alone, val)
                for rows, held_out in search.folds
            )
        return fits
    return [
        fit_and_score(head, train.take(rows), train.take(held_out), search, val)
        for rows, held_out in search.folds
    ]


def _best_of(fits: Sequence[Fit], search: Search, train: Part, val: Part | None) -> Choice:
    """Average the fits and pick; they are scored on the folds of `train`, or on `val`."""
    whole = train if search.folds is not None or val is None else val
    good = [i for i in range(len(search.candidates)) if all(fit.heads[i] for fit in fits)]
    candidates = [search.candidates[i] for i in good]
    failed = [one for i, one in enumerate(search.candidates) if i not in good]
    if not good:
        names = dict.fromkeys(_say(one) for one in (failed[0], failed[-1]) if one)
        raise HeadError("every fit diverged" + (": " + " to ".join(names) if names else ""))
    figures = np.stack([fit.score[good] for fit in fits])  # (folds, candidates, seeds)
    mean, over_seeds = figures.mean(axis=(0, 2)), figures.mean(axis=0)
    first = cast("BaseHead", fits[0].heads[good[0]])
    task = first.task_
    error = None
    if search.folds is not None:
        error = figures.mean(axis=2).std(axis=0, ddof=1) / np.sqrt(len(fits))
    elif task.exclusive and search.metric == TOP1:
        error = np.sqrt(mean * (1 - mean) / count_units(whole.units, len(whole)))
    tied = np.flatnonzero(_shortfall(fits, good, search, whole) <= 0)
    losses = np.zeros(len(good))
    if len(tied) > 1:
        asked = [[cast("BaseHead", fit.heads[good[i]]) for i in tied] for fit in fits]
        step = max(1, -(-len(whole) * len(asked[0][0].classes_) // CALIBRATED_SCORES))
        folds = search.folds or [(np.arange(0), np.arange(len(whole)))]
        held_out = [whole.take(rows[::step]) for _, rows in folds]
        losses[tied] = calibrated_losses(list(zip(asked, held_out, strict=True)))
    raw = np.mean([fit.log_loss[good].mean(axis=1) for fit in fits], axis=0)
    calibrated, raw_steps = (np.rint(one / ALIKE) for one in (losses, raw))
    restraint = {one.name: one.restraint for one in first.options}
    best = min(
        tied.tolist(),
        key=lambda i: (
            calibrated[i],
            raw_steps[i],
            *(-restraint.get(name, 0) * value for name, value in candidates[i].items()),
        ),
    )
    return Choice(
        metric=task.ranked_by(search.metric),
        candidates=tuple(candidates),
        failed=tuple(failed),
        score=raw if search.metric == LOG_LOSS else mean,
        log_loss=raw,
        error=error,
        seed_deviation=over_seeds.std(axis=1, ddof=1) if len(search.seeds) > 1 else None,
        best=best,
        heads=tuple(cast("BaseHead", fit.heads[good[best]]) for fit in fits),
    )


def _shortfall(fits: Sequence[Fit], good: Sequence[int], search: Search, whole: Part) -> Array64:
    """Return how far candidates are below the best, less one standard error of that, (n_good,)."""
    mean = np.stack([fit.score[good] for fit in fits]).mean(axis=(0, 2))
    behind: Array64 = mean.max() - mean
    best = int(np.argmax(mean))
    if search.metric == LOG_LOSS:  # the lowest, and nothing but it
        return behind
    if any(fit.right is None for fit in fits):  # several labels an image, or another metric
        each = np.stack([fit.score[good].mean(axis=1) for fit in fits])
        error = np.zeros(len(good))
        if len(fits) > 1:
            error = (each[:, [best]] - each).std(axis=0, ddof=1) / np.sqrt(len(fits))
        behind -= error
        return behind
    rows = np.stack([_lost(fits, i, good[best], search) for i in good])
    behind -= 1e-12  # rounding
    n = rows.shape[1]
    units = np.arange(n) if whole.units is None else np.unique(whole.units, return_inverse=True)[1]
    count = int(units.max()) + 1
    if count > 1:  # rows that belong together are one observation
        off = rows - rows.mean(axis=1, keepdims=True)
        sums = np.stack([np.bincount(units, weights=one, minlength=count) for one in off])
        behind -= np.sqrt(count / (count - 1) * (sums**2).sum(axis=1)) / n
    return behind


def _lost(fits: Sequence[Fit], index: int, best: int, search: Search) -> Array64:
    """Return by how much the best was more often right on each image than a candidate, (n,).

    Repeats of one image are averaged: they are no independent images.
    """
    each: list[Array64] = []
    for fit in fits:
        assert fit.right is not None
        each.append(fit.right[best].astype(np.float64) - fit.right[index])
    if search.folds is None:
        return each[0]
    rows = np.concatenate([held_out for _, held_out in search.folds])
    lost = np.bincount(rows, weights=np.concatenate(each))
    counts = np.bincount(rows)
    found: Array64 = lost[counts > 0] / counts[counts > 0]
    return found


def _say(candidate: Candidate) -> str:
    return ", ".join(f"{name}={value:g}" for name, value in candidate.items())


def score_rows(
    heads: Sequence[BaseHead], part: Part
) -> tuple[Array64, Array64, NDArray[np.bool_] | None]:
    """Return top-1 and log loss of heads, (n_heads,), and what was right, (n_heads, n_images).

    Probabilities are averaged over an image's views. A class that training lacks is always wrong.
    Where an image may have several labels: mean average precision, mean binary log loss, and None.
    """
    if not heads[0].task_.exclusive:
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
            precision[first + number] = part.task.figure(own, labels) or 0.0
            loss[first + number] = part.task.log_loss(own, labels)
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
    task = fits[0][0].task_
    n_classes = max(int(head.classes_.max()) for head, _ in fits) + 1
    logits, labels = [], []
    for head, part in fits:
        known = head.encode(part.y, len(part))
        found = part.predict_logits(head, n_classes)
        keep = known >= 0 if task.exclusive else slice(None)
        logits.append(found[keep])
        labels.append(part.y[keep])
    scores, truth = np.concatenate(logits), np.concatenate(labels)
    if not len(truth):
        return UNSEEN_LOSS
    try:
        temperature = task.fit_temperature(scores, truth)
    except NoTemperatureError:
        temperature = 1.0
    return task.log_loss(task.apply_temperature(scores, temperature), truth)
