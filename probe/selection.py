"""Which rows a head learns from, which it is watched on, and which it meets once, at the end.

Functions that fit or choose take training and validation rows only; the test rows come in where
the finished head is scored.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from probe.errors import UsageError
from probe.evaluation import (
    Scored,
    figures_of,
    intervals_of,
    measure,
    per_class_of,
    temperature_of,
)
from probe.metrics import Metrics
from probe.parts import HeadData, Part
from probe.predictions import Predictions
from probe.results import FeatureSource, RunResult, now, plain_params, versions

if TYPE_CHECKING:
    from probe.heads.grid import Choice, FoldRows, GridHead, Penalty


class Head(Protocol):
    """What `run_head` needs of a head; every estimator of the heads' catalog has it."""

    classes_: NDArray[Any]

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        validation: tuple[Any, Any] | None = None,
        on_epoch: Callable[[Any], None] | None = None,
    ) -> Any: ...

    def predict_proba(self, X: Any) -> NDArray[np.float64]: ...

    def get_params(self, deep: bool = True) -> dict[str, Any]: ...

    def set_params(self, **params: Any) -> Any: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Search:
    """A penalty to choose, the values to choose from, and the folds where not on validation."""

    penalty: Penalty
    grid: Sequence[float]
    folds: FoldRows | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadRun:
    """A fitted head, its result, and the metrics of each split with their confusion matrices.

    `train_head` is the one fitted on training rows alone; without a refit it is `head`.
    `predictions` has the rows of val and test.
    """

    head: Head
    train_head: Head
    choice: Choice | None
    result: RunResult
    metrics: Mapping[str, Metrics]
    predictions: Mapping[str, Predictions]


def run_head(
    data: HeadData,
    head: Head,
    *,
    name: str,
    source: FeatureSource,
    command: str,
    seed: int,
    on_epoch: Callable[[Any], None] | None = None,
    search: Search | None = None,
    refit: bool = False,
    before_test: Callable[[], int] | None = None,
) -> HeadRun:
    """Fit a head, then score it on every split there is.

    What fits and chooses is given training and validation rows only. Test rows are looked at once,
    after it. With a refit the figures of train and val are those of the head that was fitted on
    training rows alone, and those of test are the refit head's.

    Parameters
    ----------
    data : HeadData
    head : Head
        Not fitted yet; it is fitted here.
    name : str
        The head's name in the catalog.
    source : FeatureSource
    command : str
        What the user typed.
    seed : int
        Of the split and of the head, as recorded in the result.
    on_epoch : callable, optional
        Called with an Epoch after each one, by heads that have epochs.
    search : Search, optional
        Choose the penalty first.
    refit : bool
        Fit once more on training and validation rows, with what was chosen.
    before_test : callable, optional
        Called when all is fitted and the test rows, if there are any, are about to be scored;
        returns how many looks at them that makes.

    Raises
    ------
    HeadError
        The head cannot be fitted on these rows.
    UsageError
        A search without folds needs validation rows.
    """
    started = time.perf_counter()
    train_head, choice = fit_and_choose(data.train, data.val, head, search, on_epoch)
    final = _refit(data.train, data.val, train_head) if refit else train_head
    seconds = time.perf_counter() - started
    looks = before_test() if before_test is not None and data.test is not None else None
    splits = _score_all(data, train_head, final)
    temperature = temperature_of(splits)
    result = RunResult(
        command=command,
        **asdict(source),
        head=name,
        params=plain_params(final.get_params(deep=False)),
        seed=seed,
        n_train=len(data.train),
        n_val=len(data.val) if data.val is not None else 0,
        n_test=len(data.test) if data.test is not None else 0,
        metrics=figures_of(splits, temperature),
        per_class=per_class_of(splits, data.classes),
        seconds=seconds,
        versions=versions(),
        created=now(),
        selection=_describe(choice, search, final is not train_head) if choice and search else None,
        intervals=intervals_of(splits),
        temperature=temperature,
        test_looks=looks,
    )
    return HeadRun(
        head=final,
        train_head=train_head,
        choice=choice,
        result=result,
        metrics={name: one.metrics for name, one in splits.items()},
        predictions=_predictions(data, splits),
    )


def fit_and_choose(
    train: Part,
    val: Part | None,
    head: Head,
    search: Search | None,
    on_epoch: Callable[[Any], None] | None = None,
) -> tuple[Head, Choice | None]:
    """Return the head fitted on training rows, its penalty chosen where there is a search.

    Raises
    ------
    HeadError
        The head cannot be fitted on these rows.
    UsageError
        A search without folds needs validation rows.
    """
    validation = (val.X, val.y) if val is not None else None
    if search is None:
        head.fit(train.X, train.y, validation=validation, on_epoch=on_epoch)
        return head, None
    from probe.heads.grid import choose_by_folds, choose_on_validation

    grid_head = cast("GridHead", head)
    if search.folds is not None:
        choice = choose_by_folds(
            grid_head, train.X, train.y, search.folds, penalty=search.penalty, grid=search.grid
        )
        head.set_params(**{search.penalty: choice.chosen})
        head.fit(train.X, train.y, validation=validation, on_epoch=on_epoch)
        return head, choice
    if validation is None:
        raise UsageError("nothing is held out to choose on; give --val-size above 0, or --folds")
    choice = choose_on_validation(
        grid_head, train.X, train.y, validation, penalty=search.penalty, grid=search.grid
    )
    return cast("Head", choice.heads[0]), choice


def _refit(train: Part, val: Part | None, head: Head) -> Head:
    if val is None or not len(val):
        return head
    from sklearn.base import clone

    rows = train.joined(val)
    fresh: Head = clone(head)
    fresh.fit(rows.X, rows.y)
    return fresh


def _score_all(data: HeadData, train_head: Head, final: Head) -> dict[str, Scored]:
    """Score each split there is; the only place that sees test rows."""
    parts = {"train": data.train, "val": data.val, "test": data.test}
    splits = {}
    for name, part in parts.items():
        if part is not None and len(part):
            head = final if name == "test" else train_head
            p = np.zeros((len(part), len(data.classes)))  # 0 for a class without training rows
            p[:, head.classes_] = head.predict_proba(part.X)
            splits[name] = measure(p, part.y)
    return splits


def _predictions(data: HeadData, splits: Mapping[str, Scored]) -> dict[str, Predictions]:
    parts = {"val": data.val, "test": data.test}
    return {
        name: Predictions(
            ids=np.asarray(part.ids, dtype=np.str_),
            labels=np.asarray(part.y, dtype=np.int64),
            probabilities=splits[name].probabilities.astype(np.float32),
        )
        for name, part in parts.items()
        if part is not None and name in splits
    }


def _describe(choice: Choice, search: Search, refit: bool) -> dict[str, Any]:
    """Return what was tried, for the result."""
    return {
        "by": "folds" if search.folds is not None else "validation",
        "fits": len(search.folds) if search.folds is not None else 1,
        "penalty": choice.penalty,
        "values": list(choice.values),
        "top1": choice.top1.tolist(),
        "top1_error": choice.error.tolist(),
        "log_loss": choice.log_loss.tolist(),
        "chosen": choice.chosen,
        "refit": refit,
    }
