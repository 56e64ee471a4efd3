"""Write the run of a finished training: its network, its figures, and the gain over the probe.

backbone.safetensors  the best epoch's backbone, which `probe extract --weights` takes
head.safetensors      and the head on its features
history.csv steps.csv predictions.npz curves.png, confusion.png or average_precision.png
promotion.json        the gain over the probe, the options and the time
result.json           written last: the run is complete
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.core.columns import Column
from probe.core.files import replacing
from probe.core.indexing import rows_of_ids
from probe.core.records import write_record
from probe.core.run_folders import FOLDS
from probe.datasets import Split
from probe.errors import DataError, PromoteError
from probe.evaluation.many import BLOCK
from probe.evaluation.paired import MCNEMAR
from probe.evaluation.pairs import compare_all, evidence
from probe.evaluation.parts import Part
from probe.evaluation.predictions import Predictions, save_predictions
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
from probe.figures.classes import draw_classes
from probe.figures.curves import draw_curves
from probe.finetune.checkpoint import load_best
from probe.finetune.promotion import Begun
from probe.finetune.request import SCHEMA, PromoteRequest
from probe.finetune.source import PROMOTED, Source, describe
from probe.finetune.start import head_of, scratch_seed
from probe.finetune.train import save_steps
from probe.heads import BaseHead, save_head
from probe.heads.history import save_history
from probe.runs.fit import CURVES, HEAD
from probe.runs.ledger import record_test_evaluation
from probe.runs.listeners import RunStart, Value, tags_of
from probe.runs.results import RunResult, now, versions, write_run
from probe.weights.resolve import BACKBONE_KEY, SOURCE_KEY, is_random
from probe.weights.safetensors_file import write_safetensors
from probe.weights.tensors import PREPROCESS_KEY

GAINED, BACKBONE = "promotion.json", "backbone.safetensors"
AGREEMENT = 1e-4  # largest difference of a probability: saved head on features, whole network


@dataclass(frozen=True, kw_only=True, eq=False)
class Promoted:
    """A finished fine-tuning.

    Parameters
    ----------
    gains : tuple of Gain
        On the images that the best epoch was chosen on (``val``; with folds ``oof``), and on
        others if any.
    seconds : float
        Seconds of training.
    """

    folder: Path
    result: RunResult
    gains: tuple[Gain, ...]
    seconds: float

    @property
    def better(self) -> bool:
        """Whether it is better than the probe on the images that chose its best epoch."""
        return self.gains[0].after > self.gains[0].before

    def to_dict(self) -> dict[str, Any]:
        """Return plain containers, as `--json` prints them."""
        gains = {one.split: one.to_json() for one in self.gains}
        about = {"folder": str(self.folder), "better_than_probe": self.better, "gain": gains}
        return {**self.result.to_dict(), **about}


def finish(begun: Begun, request: PromoteRequest, *, ledger: Path, spent: float = 0.0) -> Promoted:
    """Score the best epoch, on test images too, and write the files of the run.

    Parameters
    ----------
    spent : float
        Seconds of further trainings, of which this one was chosen.

    Raises
    ------
    PromoteError
        The saved head would not give the predictions of the network.
    """
    source, training = begun.source, begun.training
    folder, best = training.folder, training.progress.best_epoch
    values = load_best(folder, best)
    training.network.state.put(values)
    arch, fixed = training.network.arch, training.network.state.fixed
    head = head_of(source, arch, values, fixed)
    looks, splits = None, {"val": source.val}
    if source.test is not None and source.test_content is not None:
        looks = record_test_evaluation(
            ledger, source.test_content, command=request.command, entry=source.result.entry
        )
        splits["test"] = source.test
    predictions: dict[str, Predictions] = {}
    scored: dict[str, Scored] = {}
    for name, split in splits.items():
        features, p = training.predict(split)
        part = Part(X=features, y=split.labels, ids=split.ids)
        units = units_of(source.predictions[name], split)
        if not _agree(part, head, p):
            raise PromoteError(f"{folder}: the head does not give the network's predictions")
        del p
        n_classes = len(source.classes)
        if part.task.are_many(len(split), n_classes):
            blocks = partial(part.logit_blocks, head, n_classes)
            scored[name] = measure_blocks(blocks, split.labels, n_classes, units)
        else:
            logits = np.full((len(split), n_classes), -np.inf)
            logits[:, np.asarray(head.classes_)] = head.predict_logits(features)
            scored[name] = measure_logits(logits, split.labels, units)
        predictions[name] = predictions_of(split, scored[name], units)
    gains = gains_of(source.predictions, predictions)
    seconds = training.progress.seconds + spent
    result = _result(begun, request, scored, looks, seconds)
    _write_network(source, request, values, folder)
    save_head(head, folder / HEAD)
    for name, one in scored.items():
        if one.kept is not None and result.temperature is not None:  # it needs all classes
            confidence = one.kept.confidence_at(result.temperature)
            predictions[name] = replace(predictions[name], scaled=confidence)
    save_predictions(folder, predictions)
    save_history(folder, training.progress.history)
    save_steps(folder, training.log, training.progress.ends, training.feed.task)
    _draw(begun, scored, result)
    _write_gains(begun, request, gains, seconds)
    write_run(folder, result)
    return Promoted(folder=folder, result=result, gains=gains, seconds=seconds)


def _agree(part: Part, head: BaseHead, p: NDArray[np.float32]) -> bool:
    """Whether the head on the features gives the network's probabilities, (n, K)."""
    step = max(1, BLOCK // p.shape[1])
    return all(
        np.abs(head.predict_proba(part.X[start : start + step]) - p[start : start + step]).max()
        <= AGREEMENT
        for start in range(0, len(p), step)
    )


def predictions_of(split: Split, scored: Scored, units: NDArray[np.intp] | None) -> Predictions:
    columns = {name: Column.of(cells) for name, cells in split.columns.items()}
    found = Predictions.of(split.ids, split.labels, scored.logits, units=units)
    found = replace(found, columns=columns)
    if scored.kept is None:
        return found
    return replace(found, classes=scored.kept.classes, n_classes=scored.kept.n_classes)


def units_of(before: Predictions, split: Split) -> NDArray[np.intp] | None:
    """Return the unit of each image, as in the probe's run; None without units."""
    if before.units is None:
        return None
    unit = dict(zip(before.ids.tolist(), before.units.tolist(), strict=True))
    return np.array([unit[one] for one in split.ids], np.intp)


def _result(
    begun: Begun,
    request: PromoteRequest,
    scored: Mapping[str, Scored],
    looks: int | None,
    seconds: float,
) -> RunResult:
    source, training = begun.source, begun.training
    temperature, thresholds = temperature_of(scored), thresholds_of(scored, source.classes)
    params = {**params_of(source, request), "best_epoch": training.progress.best_epoch}
    old = source.result
    return RunResult(
        command=request.command, entry=old.entry, dataset=old.dataset, backbone=old.backbone,
        weights=origin_of(source, request), layer=old.layer, pool=old.pool, head=PROMOTED,
        params=params,
        seed=request.options.seed, n_train=len(source.train), n_val=len(source.val),
        n_test=len(source.test) if source.test is not None else 0,
        metrics=figures_of(scored, temperature, thresholds),
        per_class=per_class_of(scored, source.classes, thresholds),
        multilabel=describe_labels(scored, source.classes, thresholds),
        seconds=seconds, versions=versions(), created=now(),
        intervals=intervals_of(scored), temperature=temperature, test_looks=looks,
        groups=groups_of(scored, (old.groups or {}).get("by", "")),
    )  # fmt: skip


def params_of(source: Source, request: PromoteRequest) -> dict[str, Value]:
    """Return what is known before the first step of the parameters that the result has."""
    plain: dict[str, Value] = {
        name: value if isinstance(value, str | int | float | bool) or value is None else str(value)
        for name, value in request.options.to_json().items()
    }
    options = request.options
    if options.steps is not None:
        del plain["epochs"]
    if request.rates:
        plain["rates"] = ", ".join(f"{one:g}" for one in request.rates)
    if request.folds:
        plain[FOLDS] = request.folds
    if request.planned:
        planned = (f"{one.length} to step {one.steps}" for one in request.planned)
        plain["planned"] = ", ".join(planned)
    return {**plain, "lr": options.rate, "bn": options.batch_norm, "from_run": source.name}


def told_of(begun: Begun, request: PromoteRequest, folder: Path) -> RunStart:
    """Return what listeners are told of a fine-tuning that begins in a folder."""
    source = begun.source
    about = replace(source.result, weights=origin_of(source, request))
    params = params_of(source, request)
    if request.rates:
        del params["lr"]  # it is not chosen yet
    return RunStart(
        kind="promote", name=folder.name, folder=folder, params=params,
        tags=tags_of(about, PROMOTED, request.command),
    )  # fmt: skip


def origin_of(source: Source, request: PromoteRequest) -> str:
    """Return the weights that the network started from."""
    if request.options.start == "scratch":
        return f"random:{scratch_seed(request.options.seed)}"
    return source.result.weights


def _write_network(
    source: Source, request: PromoteRequest, values: Mapping[str, NDArray[np.float32]], folder: Path
) -> None:
    origin = origin_of(source, request)
    how = "trained" if is_random(origin) else "fine-tuned"
    backbone = {name: values[name] for name in source.parameters}
    metadata = {
        PREPROCESS_KEY: json.dumps(source.preprocess.to_json()),
        BACKBONE_KEY: source.backbone.name,
        SOURCE_KEY: f"{origin}, {how} on {source.result.dataset}",
    }
    with replacing(folder / BACKBONE) as temporary:
        write_safetensors(temporary, backbone, {n: a.shape for n, a in backbone.items()}, metadata)


def _draw(begun: Begun, scored: Mapping[str, Scored], result: RunResult) -> None:
    folder, split = begun.training.folder, result.per_class.split
    how = "trained from random weights" if is_random(result.weights) else "fine-tuned"
    about = f"{result.backbone} to {result.layer} on {result.dataset}, {how}"
    draw_curves(begun.training.progress.history, folder / CURVES, title=about)
    draw_classes(
        folder, scored[split].metrics, result.multilabel, begun.source.classes,
        n_rows=len(scored[split].labels), title=f"{about}: {split}",
    )  # fmt: skip


def _write_gains(
    begun: Begun, request: PromoteRequest, gains: tuple[Gain, ...], seconds: float
) -> None:
    progress, metric = begun.training.progress, begun.source.result.metric
    start = {"difference": begun.difference, "val_loss": begun.loss, f"val_{metric}": begun.score}
    plain = {
        "schema": SCHEMA,
        "from": describe(begun.source),
        "options": request.options.to_json(),
        "rates": list(request.rates),
        "planned": [asdict(one) for one in request.planned],
        "start": start,
        "epochs": len(progress.history),
        "best_epoch": progress.best_epoch,
        "seconds": seconds,
        "gain": {one.split: one.to_json() for one in gains},
    }
    write_record(begun.training.folder / GAINED, plain)


@dataclass(frozen=True, kw_only=True)
class Gain:
    """Comparison of the probe and the fine-tuned network on the same images.

    Parameters
    ----------
    before, after : float
        Top-1, or with multi-label images mAP.
    low, high : float
        95 % interval of ``after - before`` over images, see `probe.evaluation.pairs.compare_all`.
    repaired, broken : int or None
        Images that only the fine-tuned network, and only the probe, gets right; None with
        multi-label images.
    p : float
        Two-sided p-value of no difference.
    test : str
        Name of the test.
    """

    split: str
    before: float
    after: float
    low: float
    high: float
    p: float
    test: str = MCNEMAR
    repaired: int | None = None
    broken: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def gains_of(
    before: Mapping[str, Predictions], after: Mapping[str, Predictions]
) -> tuple[Gain, ...]:
    """Compare predictions of the same images on each split that has a figure."""
    return tuple(
        gain_of(name, before[name], one)
        for name, one in after.items()
        if one.task.figure(one.probabilities, one.label_columns)
        is not None  # test images may have no label at all
    )


def gain_of(split: str, before: Predictions, after: Predictions) -> Gain:
    """Compare predictions of the same images; see `probe.evaluation.pairs`.

    Raises
    ------
    DataError
        They are of other images.
    """
    if set(before.ids.tolist()) != set(after.ids.tolist()) or not len(after):
        raise DataError(f"{split}: the two runs did not predict the same images")
    rows, _ = rows_of_ids(after.ids.tolist(), before.ids.tolist())
    units = None if before.units is None else before.units[rows]
    old = evidence(before.compared[rows], before.label_columns[rows], units=units)
    new = evidence(after.compared, after.label_columns, units=units)
    (pair,) = compare_all({"new": new, "old": old})
    return Gain(
        split=split, before=old.value, after=new.value, low=pair.low, high=pair.high, p=pair.p,
        test=pair.test or MCNEMAR, repaired=pair.only_a, broken=pair.only_b,
    )  # fmt: skip
