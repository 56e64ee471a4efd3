"""A run: a head fitted on an entry, and the folder with all that it leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from probe.cache.joining import Joined
from probe.core.plain import plain_params
from probe.core.run_folders import held_alone, new_run_folder, note_outside_run, release
from probe.errors import UsageError
from probe.evaluation.learning_curve import PICTURE as LEARNING_CURVE
from probe.evaluation.learning_curve import Point, save_learning_curve
from probe.evaluation.mistakes import check_both_sides
from probe.evaluation.parts import HeadData, Part, Rows, SplitPlan, plan_splits
from probe.evaluation.predictions import save_predictions
from probe.evaluation.splitting import VAL_SIZE
from probe.evaluation.two_classes import check_recall, count_positives, positive_class
from probe.evaluation.units import Groups, Related, relate
from probe.figures.classes import CONFUSION, draw_classes
from probe.figures.curves import draw_curves
from probe.figures.learning import draw_learning_curve
from probe.figures.two_curves import draw_two_curves
from probe.heads import save_head
from probe.heads.history import save_history
from probe.runs.columns import columns_of, ids_of
from probe.runs.draws import check_curve, learning_curve, n_fits
from probe.runs.grouping import read_weights
from probe.runs.head_request import HeadRequest, require_two_classes
from probe.runs.ledger import record_test_evaluation
from probe.runs.listeners import RunStart, tags_of
from probe.runs.memory import parts_of
from probe.runs.results import FeatureSource, write_run
from probe.runs.selection import HeadRun, run_head
from probe.runs.subgroups import columns_to_tell, describe

if TYPE_CHECKING:
    from probe.cache.features import FeatureSplit
    from probe.core.columns import Column
    from probe.evaluation.splitting import Labels
    from probe.heads import Epoch
    from probe.heads.grid import FoldRows

HEAD, CURVES = "head.safetensors", "curves.png"
TWO_CURVES = "roc_pr.png"  # of two classes
TRAIN_HEAD, FOLD_HEAD = "head-train.safetensors", "head-fold{:02d}.safetensors"

__all__ = [
    "CONFUSION",
    "CURVES",
    "FOLD_HEAD",
    "HEAD",
    "TRAIN_HEAD",
    "HeadRequest",
    "fit_head",
    "keep_run",
    "plan_head",
    "related_rows",
    "run_folder",
    "told_of",
]


def plan_head(joined: Joined, request: HeadRequest) -> SplitPlan:
    """Decide which rows a head is trained, watched and tested on; see `plan_splits`.

    Raises
    ------
    UsageError, HeadError
        The request makes no sense, see `HeadRequest.check`, or the rows cannot be had.
    """
    request.check()
    labels = {name: split.labels for name, split in joined.splits.items()}
    default = 0.0 if request.folds else VAL_SIZE  # the folds hold rows out in turn
    size = default if request.val_size is None else request.val_size
    related = related_rows(joined.splits, request.groups)
    plan = plan_splits(labels, val_size=size, seed=request.seed, related=related)
    if plan.val is None and plan.test is not None and request.per_class:
        plan = replace(plan, why=f"{plan.why}, and then by each head of the learning curve")
    if "val" in labels and request.val_size is not None:
        return replace(plan, why=f"{plan.why}; --val-size is not used")
    return plan


def related_rows(splits: Mapping[str, FeatureSplit], groups: Sequence[Groups] = ()) -> Related:
    """Return which rows of some splits belong together: those of one picture, and of one group."""
    return relate({name: split.content for name, split in splits.items()}, groups)


def fit_head(
    joined: Joined,
    request: HeadRequest,
    plan: SplitPlan,
    *,
    on_epoch: Callable[[Epoch], None] | None = None,
    on_point: Callable[[Point], None] | None = None,
    on_folds: Callable[[Labels, FoldRows], None] | None = None,
    ledger: Path | None = None,
) -> HeadRun:
    """Fit and score a head on the features of an entry; maps are flattened to rows.

    Where an image has several views, a head is fitted on all of them, and its probabilities are
    averaged over them where it is scored.

    Parameters
    ----------
    on_epoch, on_point : callable, optional
        Called with each Epoch, and with each Point of a learning curve.
    on_folds : callable, optional
        Called with the training rows' labels and the folds, where there are some, before a fit.
    ledger : Path, optional
        The folder where evaluations on test rows are written down first: one a head scored on
        them, those of a learning curve included.

    Raises
    ------
    HeadError
        A parameter makes no sense, or the head cannot be fitted on these rows.
    CorruptEntryError
        Rows of the entry do not match their checksum.
    """
    entry, columns = joined.entry, columns_of(joined)
    parts = parts_of(joined, request.fitting(), max_memory=request.max_memory)
    if request.sample_weight is not None:
        ids = {name: part.ids for name, part in parts.items() if name != "test"}
        weights = read_weights(request.sample_weight, ids, columns)
        parts = {name: replace(part, weights=weights.get(name)) for name, part in parts.items()}
    data = plan.apply(parts, entry.classes)
    _check(request, data)
    search, wanted = request.search(data.train, data.classes), request.curve_plan()
    if on_folds is not None and search is not None and search.folds is not None:
        on_folds(data.train.y, search.folds)
    on_test = wanted is not None and not (data.val and len(data.val))
    count = 1 + (n_fits(data, wanted) if wanted is not None and on_test else 0)

    def record() -> int:
        content = joined.splits["test"].content
        assert ledger is not None
        return record_test_evaluation(
            ledger, content, command=request.command, entry=entry.name, count=count
        )

    run = run_head(
        data,
        request.estimator(),
        search=search,
        refit=request.refits(data.train),
        ensemble=request.ensemble,
        before_test=record if ledger is not None and "test" in joined.splits else None,
        name=request.solver,
        source=_source_of(joined),
        command=request.command,
        seed=request.seed,
        on_epoch=on_epoch,
        positive=request.positive,
        recall=request.recall,
        cost=request.cost,
    )
    if request.sample_weight is not None:
        params = {**run.result.params, "sample_weight": request.sample_weight}
        run = replace(run, result=replace(run.result, params=params))
    if any(columns.values()):
        run = _with_columns(run, plan, data.train, ids_of(joined), columns)
    if wanted is None:
        return run
    curve = learning_curve(
        data, run.train_head, wanted, entry=entry.name, dataset=entry.dataset,
        name=request.solver, on_point=on_point,
    )  # fmt: skip
    return replace(run, curve=curve)


def _source_of(joined: Joined) -> FeatureSource:
    entry, key = joined.entry, joined.entry.key
    return FeatureSource(
        entry=entry.name,
        dataset=entry.dataset,
        backbone=key.backbone,
        weights=str(entry.provenance.get("weights", "")),
        layer=key.layer,
        pool=key.pool,
    )


def told_of(joined: Joined, request: HeadRequest, folder: Path) -> RunStart:
    """Return what listeners are told of a head that is about to be fitted."""
    searched = request.searched()
    params = plain_params(request.estimator().get_params())
    return RunStart(
        kind="head",
        name=folder.name,
        folder=folder,
        params={name: value for name, value in params.items() if name not in searched},
        tags=tags_of(_source_of(joined), request.solver, request.command),
    )


def _with_columns(
    run: HeadRun, plan: SplitPlan, train: Part, ids: Mapping[str, Sequence[str]],
    columns: Mapping[str, Mapping[str, Column]],
) -> HeadRun:  # fmt: skip
    """Return a run whose predictions have the columns of their images, with figures by them."""
    places = {"val": plan.val, "test": plan.test, "oof": plan.train}

    def taken(
        every: Mapping[str, Mapping[str, Column]], rows: Rows | None, repeats: int = 1
    ) -> dict[str, Column]:
        if rows is None:
            return {}
        numbers = np.arange(len(ids[rows.split])) if rows.rows is None else rows.rows
        numbers = np.tile(numbers, repeats)
        return {name: one.take(numbers) for name, one in every[rows.split].items()}

    said = {
        split: replace(one, columns=taken(columns, places[split], one.repeats))
        for split, one in run.predictions.items()
    }
    split, result = run.result.per_class.split, run.result
    if split in said:
        told = columns_to_tell(columns, ids)
        own = taken(told, places[split], said[split].repeats)
        learnt = taken(told, plan.train)
        found = describe(said[split], split, own, train, learnt, seed=result.seed)
        result = replace(result, subgroups=found)
    return replace(run, predictions=said, result=result)


def _check(request: HeadRequest, data: HeadData) -> None:
    """Refuse what cannot be done before anything is fitted, or test rows are looked at."""
    task = data.train.task
    if request.metric != "top1":
        task.require_one_label(
            f"--metric {request.metric} is for images of one label each",
            "mean average precision decides there; leave it out",
        )
    if request.per_class:
        task.require_one_label("--learning-curve counts images of one label each")
    require_two_classes(data.train, data.classes)
    _check_two(request, data)
    if data.val is None and (option := request.estimator().watches):
        raise UsageError(
            f"{option} goes by validation rows, and none are held out: give --val-size above 0, "
            "or leave it out with --folds"
        )
    wanted = request.curve_plan()
    if wanted is not None:
        check_curve(data, wanted)


def _check_two(request: HeadRequest, data: HeadData) -> None:
    """Refuse what is about two classes where there are others, or held-out rows cannot tell."""
    positive = positive_class(data.classes, request.positive, data.train.y)
    option = request.threshold_option
    if option is None:
        return
    if positive is None:
        raise UsageError(
            f"{option} is about a positive class and a negative one, and there are "
            f"{len(data.classes)}{data.train.task.together}"
        )
    where, held_out = "val", data.val
    if held_out is None or not len(held_out):
        where, held_out = "oof", data.train if request.folds else None
    if held_out is None:
        raise UsageError(
            f"{option} goes by rows that are held out: give --val-size above 0, or --folds"
        )
    if request.recall is None:
        check_both_sides(held_out.y, data.classes, where)
        return
    count = count_positives(held_out.y, positive, held_out.units)
    check_recall(request.recall, count, data.classes[positive], where)


@contextmanager
def run_folder(wanted: Path | None, runs: Path) -> Iterator[Path]:
    """Yield an empty folder: the one asked for, which the runs note, or a new one among them.

    If the run fails before it left anything there, a folder that was made here goes.

    Raises
    ------
    UsageError
        The folder asked for holds something, or cannot be made. Nothing is overwritten.
    """
    there = wanted is not None and wanted.is_dir()
    with _claimed(wanted, runs) as folder:
        if wanted is not None:
            note_outside_run(wanted, runs)
        try:
            yield folder
        except BaseException:
            if not there and not any(folder.iterdir()):
                folder.rmdir()
            raise


@contextmanager
def _claimed(wanted: Path | None, runs: Path) -> Iterator[Path]:
    """Yield the folder, which no other process may claim meanwhile."""
    with ExitStack() as held:
        try:
            if wanted is None:
                folder = new_run_folder(runs)
                held.callback(release, folder)
            else:
                folder = wanted
                folder.mkdir(parents=True, exist_ok=True)
                refusal = f"--out {folder}: another process is writing there; name another folder"
                held.enter_context(held_alone(folder, refusal))
                if any(folder.iterdir()):
                    raise UsageError(f"--out {wanted}: the folder is not empty; name another one")
        except OSError as error:
            place = runs if wanted is None else wanted
            raise UsageError(
                f"{place}: cannot be written ({error.strerror}); name another folder with --out"
            ) from error
        yield folder


def keep_run(folder: Path, run: HeadRun, classes: tuple[str, ...]) -> None:
    """Write everything a run leaves behind; `result.json` comes last and marks it complete."""
    save_head(run.head, folder / HEAD)
    if run.train_head is not run.head:
        save_head(run.train_head, folder / TRAIN_HEAD)
    for number, head in enumerate(run.choice.heads if run.choice else (), start=1):
        if run.choice and len(run.choice.heads) > 1 and not head.keeps_rows:
            save_head(head, folder / FOLD_HEAD.format(number))
    save_predictions(folder, run.predictions)
    result, split = run.result, run.result.per_class.split
    about = f"{result.backbone} {result.layer} on {result.dataset}, {result.head} head"
    n_rows = len(run.predictions[split]) if split in run.predictions else result.n_train
    draw_classes(
        folder, run.metrics[split], result.multilabel, classes,
        n_rows=n_rows, title=f"{about}: {split}",
    )  # fmt: skip
    if run.two is not None and result.two_classes is not None:
        draw_two_curves(
            run.two, result.two_classes["intervals"].get(split, {}), folder / TWO_CURVES,
            classes=classes, title=f"{about}: {split}",
        )  # fmt: skip
    history = run.train_head.history_  # the one that was watched
    if history:  # a solver without epochs has no curve to show
        save_history(folder, history)
        draw_curves(history, folder / CURVES, title=about)
    if run.curve is not None:
        save_learning_curve(folder, run.curve)
        draw_learning_curve(run.curve, folder / LEARNING_CURVE, title=about)
    write_run(folder, result)
